/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memwatch/base/str.h"
#include "memwatch/base/vec.h"
#include "private.h"

#define BUDGET_DEFAULT (64U << 20)
#define CACHED_MAX 8192
#define FRAMES_MAX 64 /* of one address */
#define TRIM_EVERY 16 /* look-ups that had to read files */
#define GAP_NAMES 3
#define LANGUAGE_SYMBOLS 8192 /* enough to meet a mangled name */

struct cached_frames {
	struct frame *frames;
	size_t count;
};

int symbols_create(const struct symbols_options *options, struct symbols **ret)
{
	struct symbols *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->pid = options->pid;
	s->proc_fd = options->proc_fd;
	s->debuginfod = options->debuginfod;
	s->budget_bytes = options->budget_bytes ? options->budget_bytes : BUDGET_DEFAULT;
	arena_init(&s->cache_arena, 16384, 0);
	map_init(&s->cache);
	r = intern_create(&s->strings);
	if (r < 0) {
		free(s);
		return r;
	}
	elf_version(EV_CURRENT);
	*ret = s;
	return 0;
}

void symbols_leave(struct symbols *s)
{
	if (s)
		s->proc_fd = -1;
}

static void forget_cached(struct symbols *s)
{
	map_clear(&s->cache);
	s->cached_count = 0;
	arena_reset(&s->cache_arena);
}

void symbols_destroy(struct symbols *s)
{
	if (!s)
		return;
	if (s->unwind_destroy)
		s->unwind_destroy(s->unwind);
	for (size_t i = 0; i < s->module_count; i++)
		module_destroy(s, s->modules[i]);
	free(s->modules);
	free(s->spans);
	map_deinit(&s->cache);
	free(s->cached);
	arena_deinit(&s->cache_arena);
	perfmap_destroy(s->perfmap);
	intern_destroy(s->strings);
	free(s);
}

static void trim(struct symbols *s)
{
	for (size_t i = 0; i < s->module_count; i++)
		module_trim(s->modules[i]);
	s->look_ups = 0;
}

int symbols_update(struct symbols *s, struct mem *mem)
{
	bool changed = false;
	int r = spans_update(s, mem, &changed);

	if (s->look_ups)
		trim(s);
	if (!changed && r == 0)
		return 0;
	s->generation++;
	forget_cached(s);
	return r;
}

static uint64_t first_vaddr(const struct module *m)
{
	uint64_t first = UINT64_MAX;

	for (size_t i = 0; i < m->load_count; i++)
		if (m->loads[i].vaddr < first)
			first = m->loads[i].vaddr;
	return first;
}

/* Building reads the whole of a table and its names; a look-up only a few pages. */
static const struct symbol_table *main_table(struct module *m)
{
	if (m->table_stage == STAGE_NEW) {
		module_trim(m);
		m->table_stage = table_build(&m->table, &m->main, first_vaddr(m)) == 0 ? STAGE_READY : STAGE_FAILED;
		module_trim(m);
	}
	return m->table_stage == STAGE_READY ? &m->table : NULL;
}

static const struct symbol_table *debug_table(struct symbols *s, struct module *m)
{
	if (m->debug_table_stage == STAGE_NEW) {
		const struct image *image = module_debug(s, m);

		m->debug_table_stage = STAGE_FAILED;
		if (image && table_build(&m->debug_table, image, first_vaddr(m) + m->debug_delta) == 0)
			m->debug_table_stage = STAGE_READY;
		module_trim(m);
	}
	return m->debug_table_stage == STAGE_READY ? &m->debug_table : NULL;
}

const char *module_symbol(struct symbols *s, struct module *m, uint64_t vaddr, char *buf, size_t cap,
			  uint64_t *ret_start)
{
	const struct symbol_table *t;
	const char *name = NULL;

	if (m->stage != STAGE_READY)
		return NULL;
	t = main_table(m);
	if (t)
		name = table_find(t, &m->main, vaddr, ret_start);
	if (name)
		return name;
	if (plt_name(&m->main, vaddr, buf, cap)) {
		*ret_start = vaddr;
		return buf;
	}
	t = debug_table(s, m);
	if (t)
		name = table_find(t, &m->debug, vaddr + m->debug_delta, ret_start);
	if (name)
		*ret_start -= m->debug_delta;
	return name;
}

static const char *offset_name(struct symbols *s, const struct module *m, uint64_t offset)
{
	cleanup_str struct str text = STR_INIT;
	const char *slash = m ? strrchr(m->path, '/') : NULL;
	const char *base = m ? (slash && slash[1] ? slash + 1 : m->path) : "[anonymous]";
	const char *name;

	str_addf(&text, "%s+0x%llx", base, (unsigned long long)offset);
	name = str_status(&text) == 0 ? intern_str(s->strings, str_text(&text)) : NULL;
	return name ? name : "?";
}

/* DWARF names functions of C++ without external linkage by their last word; the symbol table has them whole. */
static void name_function(struct symbols *s, struct module *m, uint64_t vaddr, struct frame *f)
{
	bool plain = !f->language || strcmp(f->language, "c++") != 0;
	const char *symbol, *language;
	char buf[512];
	uint64_t start;

	if (f->function && plain)
		return;
	symbol = module_symbol(s, m, vaddr, buf, sizeof(buf), &start);
	language = symbol ? mangling_language(symbol) : NULL;
	if (!symbol || (f->function && !language))
		return;
	f->function = demangled_intern(s->strings, symbol);
	if (!f->language)
		f->language = language;
}

static void note_missing(struct symbols *s, struct module *m, const struct frame *function)
{
	GElf_Shdr shdr;

	if (m->vdso)
		return;
	if (function->note == FRAME_NO_SYMBOL && !image_section(&m->main, ".symtab", &shdr) && !module_debug(s, m))
		m->names_missing = true;
	if (!m->system && !function->file && !module_dwarf(s, m))
		m->lines_missing = true;
}

static size_t name_in_module(struct symbols *s, struct module *m, uint64_t vaddr, struct frame *frames, size_t cap)
{
	size_t n;

	if (module_signal_frame(m, vaddr)) {
		frames[0].function = "<signal handler called>";
		return 1;
	}
	n = lines_resolve(s, m, vaddr, frames, cap);
	if (!n)
		n = 1;
	name_function(s, m, vaddr, &frames[n - 1]);
	for (size_t i = 0; i < n; i++) {
		frames[i].note = frames[i].function ? FRAME_OK : FRAME_NO_SYMBOL;
		if (!frames[i].function)
			frames[i].function = offset_name(s, m, vaddr);
	}
	note_missing(s, m, &frames[n - 1]);
	return n;
}

static size_t resolve(struct symbols *s, uint64_t address, struct frame *frames, size_t cap)
{
	const struct span *span = span_find(s, address);
	struct module *m = span ? span->module : NULL;
	size_t n = 1;

	memset(frames, 0, cap * sizeof(*frames));
	if (!m) {
		frames[0].function = span ? perfmap_find(s, address) : NULL;
		frames[0].note = frames[0].function ? FRAME_OK : FRAME_NO_MODULE;
		if (!frames[0].function)
			frames[0].function = offset_name(s, NULL, address);
		frames[0].offset = address;
	} else if (span->stage != STAGE_READY) { /* the file cannot be read: its offset is all there is */
		frames[0].offset = address - span->base + span->offset;
		frames[0].function = offset_name(s, m, frames[0].offset);
		frames[0].note = FRAME_NO_SYMBOL;
		m->names_missing = true;
	} else {
		n = name_in_module(s, m, address - span->bias, frames, cap);
		for (size_t i = 0; i < n; i++)
			frames[i].offset = address - span->bias;
	}
	for (size_t i = 0; i < n; i++) {
		frames[i].address = address;
		frames[i].module = m ? m->path : NULL;
	}
	return n;
}

static const struct cached_frames *remember(struct symbols *s, uint64_t key, const struct frame *frames, size_t n)
{
	struct cached_frames *entry;

	if (s->cached_count >= CACHED_MAX)
		forget_cached(s);
	if (vec_reserve(&s->cached, &s->cached_cap, s->cached_count + 1, sizeof(*s->cached)) < 0)
		return NULL;
	entry = &s->cached[s->cached_count];
	entry->frames = arena_memdup(&s->cache_arena, frames, n * sizeof(*frames));
	entry->count = n;
	if (!entry->frames || map_put(&s->cache, key, s->cached_count) < 0)
		return NULL;
	s->cached_count++;
	return entry;
}

static size_t copy_frames(const struct frame *from, size_t n, struct frame *to, size_t cap)
{
	size_t skip = n > cap ? n - cap : 0; /* the inlined ones give way */

	memcpy(to, from + skip, (n - skip) * sizeof(*to));
	return n - skip;
}

size_t symbols_resolve(struct symbols *s, uint64_t address, bool call, struct frame *frames, size_t cap)
{
	uint64_t at = call && address ? address - 1 : address;
	uint64_t index;
	struct frame found[FRAMES_MAX];
	size_t n;

	if (!cap)
		return 0;
	if (map_get(&s->cache, at, &index))
		return copy_frames(s->cached[index].frames, s->cached[index].count, frames, cap);
	n = resolve(s, at, found, FRAMES_MAX);
	if (found[0].module) /* what a JIT makes comes, goes, and is named later */
		(void)remember(s, at, found, n);
	if (++s->look_ups >= TRIM_EVERY)
		trim(s);
	return copy_frames(found, n, frames, cap);
}

static bool is_executable(const struct symbols *s, const struct module *m)
{
	struct stat st;

	return fstatat(s->proc_fd, "exe", &st, 0) == 0 ? st.st_ino == m->inode : m == s->modules[0];
}

static const char *language_without_dwarf(struct symbols *s, struct module *m)
{
	const struct symbol_table *t = main_table(m);
	const char *found = NULL;
	GElf_Shdr shdr;

	if (image_section(&m->main, ".go.buildinfo", &shdr) || image_section(&m->main, ".note.go.buildid", &shdr))
		return "go";
	if (!t || (!t->count && !(t = debug_table(s, m))))
		return NULL;
	for (size_t i = 0; i < t->count && i < LANGUAGE_SYMBOLS; i++) {
		const char *name, *language;
		GElf_Sym sym;

		if (!table_symbol(t, t->refs[i].index, &sym, &name) || !(language = mangling_language(name)))
			continue;
		if (strcmp(language, "rust") == 0) /* which has C++'s names beside its own */
			return language;
		found = language;
	}
	return found;
}

const char *symbols_language(struct symbols *s)
{
	for (size_t i = 0; !s->executable && i < s->span_count; i++) {
		struct module *m = s->spans[i].module;

		if (m && !m->vdso && is_executable(s, m) && module_load(s, m) == 0)
			s->executable = m;
	}
	if (!s->executable)
		return NULL;
	if (!s->executable->language_known) {
		struct module *m = s->executable;

		(void)main_table(m);
		m->language = lines_main_language(s, m);
		if (!m->language || strcmp(m->language, "c") == 0) { /* Rust and Go may have a main() in C */
			const char *other = language_without_dwarf(s, m);

			m->language = other && strcmp(other, "c++") != 0 ? other : m->language ? m->language : other;
		}
		m->language_known = true;
		trim(s);
	}
	return s->executable->language;
}

static void describe_gap(const struct module *m, struct str *out)
{
	const char *slash = strrchr(m->path, '/');

	if (out->len)
		str_add(out, "; ");
	if (m->stage == STAGE_FAILED) {
		str_addf(out, "cannot open '%s': %s", m->path, strerror(-m->error));
		return;
	}
	str_addf(out, "no %s for '%s'",
		 m->over_budget   ? "room for the debug information" :
		 m->names_missing ? "debug information" :
				    "line information",
		 slash && slash[1] ? slash + 1 : m->path);
	if (m->build_id_len) {
		str_add(out, " (build-id ");
		for (size_t i = 0; i < m->build_id_len; i++)
			str_addf(out, "%02x", m->build_id[i]);
		str_addc(out, ')');
	}
}

const char *symbols_gap(struct symbols *s, struct arena *arena)
{
	cleanup_str struct str text = STR_INIT;
	size_t more = 0, named = 0;

	/* Missing names hurt more than missing lines: they come first. */
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < s->module_count; i++) {
			const struct module *m = s->modules[i];

			if (pass == 0 ? !m->names_missing : m->names_missing || !m->lines_missing)
				continue;
			if (named++ < GAP_NAMES)
				describe_gap(m, &text);
			else
				more++;
		}
	if (!named)
		return NULL;
	if (more)
		str_addf(&text, "; and %zu more", more);
	return str_status(&text) == 0 ? arena_strdup(arena, str_text(&text)) : NULL;
}
