/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From a name to addresses: the other way round. One pass over the symbol tables; nothing is kept. */
#include <ctype.h>
#include <errno.h>
#include <libiberty/demangle.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "memwatch/base/str.h"
#include "memwatch/base/vec.h"
#include "private.h"

#define CANDIDATES_MAX 256 /* of one name: a hostile or absurd table must not cost memory */
#define CANDIDATES_NAMED 3 /* in a message */

struct candidate {
	uint64_t address, vaddr;
	const struct module *module;
	const char *symbol; /* interned */
	bool copy;          /* one that the compiler made: name.constprop.0 */
	bool indirect;      /* STT_GNU_IFUNC */
};

struct search;

struct search_kind { /* what is looked for */
	void (*consider)(struct search *f, const struct module *m, uint64_t bias, uint64_t delta, const GElf_Sym *sym,
			 const char *symbol);
	bool code; /* functions: also of .gnu_debugdata, which has nothing else, and of a debug file from wherever it must come */
};

struct search {
	const struct search_kind *kind;
	struct symbols *symbols;
	const char *name, *module; /* module NULL: any */
	size_t module_len;
	char *word; /* occurs in every mangled form of name; NULL: not known */
	struct candidate *found;
	size_t count, cap;
	bool failed;
	int rank; /* data: of the best so far, see consider_data() */
	uint64_t address;
};

/* Behind a name: marks of whole copies. What ".part." and ".cold" mark is called in the midst of a call. */
static const char *const copy_marks[] = { ".constprop.", ".isra.", ".lto_priv.", ".llvm." };

/* Length of the name before a version or copy mark; *ret_copy whether there is one; 0: a fragment of a function. */
static size_t plain_length(const char *symbol, bool *ret_copy)
{
	size_t len = strcspn(symbol, "@");
	const char *first = NULL;

	*ret_copy = false;
	if (strstr(symbol, ".part.") || strstr(symbol, ".cold"))
		return 0;
	for (size_t i = 0; i < sizeof(copy_marks) / sizeof(copy_marks[0]); i++) {
		const char *mark = strstr(symbol, copy_marks[i]);

		if (mark && mark > symbol && (!first || mark < first))
			first = mark;
	}
	*ret_copy = first != NULL;
	return first && (size_t)(first - symbol) < len ? (size_t)(first - symbol) : len;
}

static bool demangled_is(const char *plain, const char *name)
{
	cleanup_free char *whole = demangle(plain);
	cleanup_free char *bare = NULL;

	if (whole && strcmp(whole, name) == 0)
		return true;
	bare = whole ? cplus_demangle(plain, DMGL_ANSI | DMGL_AUTO) : NULL; /* without parameters and return type */
	return bare && strcmp(bare, name) == 0;
}

static bool name_matches(const struct search *f, const char *symbol, bool *ret_copy)
{
	size_t len = plain_length(symbol, ret_copy);
	cleanup_free char *plain = NULL;

	if (strcmp(symbol, f->name) == 0) {
		*ret_copy = false;
		return true;
	}
	if (len == 0)
		return false;
	if (strlen(f->name) == len && memcmp(symbol, f->name, len) == 0)
		return true;
	if (!mangling_language(symbol) || (f->word && !strstr(symbol, f->word)))
		return false;
	plain = strndup(symbol, len);
	return plain && demangled_is(plain, f->name);
}

static void add(struct search *f, const struct module *m, uint64_t bias, uint64_t vaddr, const struct candidate *like)
{
	for (size_t i = 0; i < f->count; i++) {
		struct candidate *c = &f->found[i];

		if (c->address != bias + vaddr)
			continue;
		c->copy = c->copy && like->copy; /* aliases */
		return;
	}
	if (f->count == CANDIDATES_MAX)
		return;
	if (vec_reserve(&f->found, &f->cap, f->count + 1, sizeof(*f->found)) < 0) {
		f->failed = true;
		return;
	}
	f->found[f->count] = *like;
	f->found[f->count].address = bias + vaddr;
	f->found[f->count].vaddr = vaddr;
	f->found[f->count].module = m;
	f->count++;
}

static void consider_function(struct search *f, const struct module *m, uint64_t bias, uint64_t delta,
			      const GElf_Sym *sym, const char *symbol)
{
	int type = GELF_ST_TYPE(sym->st_info);
	struct candidate like = { .indirect = type == STT_GNU_IFUNC };

	if ((type != STT_FUNC && type != STT_NOTYPE && type != STT_GNU_IFUNC) || sym->st_value < delta)
		return;
	if (!name_matches(f, symbol, &like.copy) || !module_in_text(m, sym->st_value - delta))
		return;
	like.symbol = demangled_intern(f->symbols->strings, symbol);
	if (!like.symbol)
		f->failed = true;
	else
		add(f, m, bias, sym->st_value - delta, &like);
}

enum { RANK_NONE, RANK_COPY, RANK_LOCAL, RANK_GLOBAL };

/* One that other files see rather than a local one, that rather than one the linker renamed (name.lto_priv.0); of equals the first. */
static void consider_data(struct search *f, const struct module *m, uint64_t bias, uint64_t delta, const GElf_Sym *sym,
			  const char *symbol)
{
	size_t len = strlen(f->name);
	bool copy = false;
	int rank;

	if (GELF_ST_TYPE(sym->st_info) != STT_OBJECT || sym->st_shndx == SHN_ABS || sym->st_shndx == SHN_COMMON ||
	    sym->st_value < delta || strncmp(symbol, f->name, len) != 0)
		return;
	if (symbol[len] != '\0' && plain_length(symbol, &copy) != len)
		return;
	rank = copy ? RANK_COPY : GELF_ST_BIND(sym->st_info) == STB_LOCAL ? RANK_LOCAL : RANK_GLOBAL;
	if (rank <= f->rank || !module_holds(m, sym->st_value - delta, sym->st_size))
		return;
	f->rank = rank;
	f->address = bias + (sym->st_value - delta);
}

static const struct search_kind functions = { .consider = consider_function, .code = true };
static const struct search_kind data_objects = { .consider = consider_data };

static bool search_section(struct search *f, const struct module *m, uint64_t bias, uint64_t delta,
			   const struct image *image, const char *section)
{
	GElf_Shdr shdr;
	Elf_Scn *scn = image_section(image, section, &shdr);
	Elf_Data *data = scn && shdr.sh_entsize && shdr.sh_type != SHT_NOBITS ? elf_getdata(scn, NULL) : NULL;
	size_t n = data ? (size_t)(shdr.sh_size / shdr.sh_entsize) : 0;

	for (size_t i = 1; i < n; i++) {
		const char *symbol;
		GElf_Sym sym;

		if (!gelf_getsym(data, (int)i, &sym))
			break;
		symbol = sym.st_shndx != SHN_UNDEF ? elf_strptr(image->elf, shdr.sh_link, sym.st_name) : NULL;
		if (symbol && *symbol)
			f->kind->consider(f, m, bias, delta, &sym, symbol);
	}
	return n > 1;
}

/*
 * A stripped file may carry a compressed table, or have its own in a separate file. For data, which readers of runtimes ask for unasked, no server
 * is waited for.
 */
static void search_elsewhere(struct search *f, struct module *m, uint64_t bias)
{
	struct symbol_table table = { .refs = NULL };
	bool may_open = f->kind->code || !f->symbols->debuginfod || m->debug_stage != STAGE_NEW;
	const struct image *debug = may_open ? module_debug(f->symbols, m) : NULL;

	if (debug && search_section(f, m, bias, m->debug_delta, debug, ".symtab"))
		return;
	if (!f->kind->code)
		return;
	arena_init(&table.arena, 4096, 0);
	minidebug_load(&table, &m->main);
	for (size_t k = 0; k < table.source_count; k++)
		for (size_t i = 0; i < table.sources[k].own_count; i++) {
			const struct own_symbol *own = &table.sources[k].own[i];
			GElf_Sym sym = { .st_value = own->value, .st_size = own->size, .st_info = own->info };

			f->kind->consider(f, m, bias, 0, &sym, own->name);
		}
	table_destroy(&table);
}

static void search_module(struct search *f, struct module *m, uint64_t bias)
{
	if (!search_section(f, m, bias, 0, &m->main, ".symtab")) {
		search_section(f, m, bias, 0, &m->main, ".dynsym");
		if (f->rank != RANK_GLOBAL)
			search_elsewhere(f, m, bias);
	}
	module_trim(m);
}

static bool module_named(const struct module *m, const char *name, size_t len)
{
	const char *slash = strrchr(m->path, '/'), *base = slash ? slash + 1 : m->path;

	if (strlen(m->path) == len && memcmp(m->path, name, len) == 0)
		return true;
	/* "libfoo.so" means "libfoo.so.6" too */
	return strncmp(base, name, len) == 0 && (base[len] == '\0' || base[len] == '.');
}

enum which { WHICH_NAMED, WHICH_EXECUTABLE, WHICH_ALL };

static bool is_wanted(const struct search *f, const struct module *m, enum which which)
{
	struct stat st;

	if (which == WHICH_NAMED)
		return module_named(m, f->module, f->module_len);
	return which == WHICH_ALL || (fstatat(f->symbols->proc_fd, "exe", &st, 0) == 0 && st.st_ino == m->inode);
}

/* Each module once, whatever the number of its mappings. Returns how many modules were searched. */
static size_t search_modules(struct search *f, enum which which)
{
	struct symbols *s = f->symbols;
	const struct module *last = NULL;
	size_t searched = 0;

	for (size_t i = 0; i < s->span_count; i++) {
		struct span *span = span_find(s, s->spans[i].start);
		struct module *m = span ? span->module : NULL;

		if (!m || span->stage != STAGE_READY || m == last || m->vdso || !is_wanted(f, m, which))
			continue;
		last = m;
		searched++;
		search_module(f, m, span->bias);
		if (f->rank == RANK_GLOBAL)
			break;
	}
	return searched;
}

/* ---- the name ---- */

/* "MODULE:rest", but not "ns::rest". */
static void split_module(struct search *f, const char *name)
{
	const char *colon = strchr(name, ':');

	f->name = name;
	if (!colon || colon == name || colon[1] == ':' || !colon[1])
		return;
	f->module = name;
	f->module_len = (size_t)(colon - name);
	f->name = colon + 1;
}

/* The last identifier before the parameters stands in every mangled form as it is. */
static char *word_of(const char *name)
{
	size_t end = strcspn(name, "(<"), start = end;

	if (strstr(name, "operator"))
		return NULL;
	while (start > 0 && (isalnum((unsigned char)name[start - 1]) || name[start - 1] == '_'))
		start--;
	return start < end ? strndup(name + start, end - start) : NULL;
}

/* "MODULE+0x1189": the address in the file's own numbering, as in frames without a name. */
static bool split_offset(struct search *f, const char *name, uint64_t *ret)
{
	const char *plus = strrchr(name, '+');
	char *end;

	if (!plus || plus == name || strncmp(plus, "+0x", 3) != 0 || !isxdigit((unsigned char)plus[3]))
		return false;
	*ret = strtoull(plus + 3, &end, 16);
	if (*end)
		return false;
	f->module = name;
	f->module_len = (size_t)(plus - name);
	return true;
}

static int find_offset(struct search *f, uint64_t vaddr, struct function_place *ret, struct err *err)
{
	struct symbols *s = f->symbols;

	for (size_t i = 0; i < s->span_count; i++) {
		struct span *span = span_find(s, s->spans[i].start);

		if (!span || !span->module || span->stage != STAGE_READY ||
		    !module_named(span->module, f->module, f->module_len) || vaddr + span->bias < span->start ||
		    vaddr + span->bias >= span->end)
			continue;
		*ret = (struct function_place){ vaddr + span->bias, intern_str(s->strings, f->name),
						span->module->path };
		return 0;
	}
	return err_set(err, ENOENT,
		       "no code at '%.200s' in process %d; the offset is the address in the file, as 'nm' shows it",
		       f->name, (int)s->pid);
}

/* ---- the answer ---- */

static int refuse_several(const struct search *f, struct err *err)
{
	cleanup_str struct str list = STR_INIT;
	size_t named = 0, originals = 0;

	for (size_t i = 0; i < f->count; i++) {
		const struct candidate *c = &f->found[i];
		const char *slash = strrchr(c->module->path, '/');

		if (c->copy)
			continue;
		originals++;
		if (named++ < CANDIDATES_NAMED)
			str_addf(&list, "%s%.60s (%.40s+0x%llx)", named > 1 ? ", " : "", c->symbol,
				 slash ? slash + 1 : c->module->path, (unsigned long long)c->vaddr);
	}
	if (originals > CANDIDATES_NAMED)
		str_addf(&list, " and %zu more", originals - CANDIDATES_NAMED);
	return err_set(err, ENOTUNIQ,
		       "%zu functions are called '%.100s': %s; name one as it stands there, or as MODULE+0xOFFSET",
		       originals, f->name, str_text(&list));
}

static int answer(const struct search *f, struct function_place *ret, size_t cap, size_t *ret_count, struct err *err)
{
	size_t originals = 0, n = 0;

	for (size_t i = 0; i < f->count; i++)
		originals += !f->found[i].copy;
	for (size_t i = 0; i < f->count; i++)
		if (f->found[i].indirect)
			return err_set(
				err, ENOTSUP,
				"'%.200s' is an indirect function: it is called once, to choose another one; name "
				"the one that it chooses",
				f->name);
	if (originals > 1)
		return refuse_several(f, err);
	if (f->count > cap)
		return err_set(
			err, E2BIG,
			"the compiler made %zu copies of '%.200s'; name one of them as MODULE+0xOFFSET ('nm' lists "
			"them)",
			f->count, f->name);
	for (size_t i = 0; i < f->count; i++)
		ret[n++] = (struct function_place){ f->found[i].address, f->found[i].symbol, f->found[i].module->path };
	*ret_count = n;
	return 0;
}

static int find_named(struct search *f, struct err *err)
{
	if (f->module) {
		if (search_modules(f, WHICH_NAMED) == 0)
			return err_set(err, ENOENT,
				       "no module '%.*s' is mapped by process %d; /proc/%d/maps lists those that are",
				       (int)(f->module_len < 200 ? f->module_len : 200), f->module,
				       (int)f->symbols->pid, (int)f->symbols->pid);
	} else {
		search_modules(f, WHICH_EXECUTABLE);
		if (f->count == 0)
			search_modules(f, WHICH_ALL);
	}
	if (f->failed)
		return err_set(err, ENOMEM, "out of memory");
	if (f->count == 0)
		return err_set(
			err, ENOENT,
			"no function '%.200s' in process %d or its libraries; 'nm -C FILE' lists what a file has "
			"(inlined functions and those of a stripped file are not there)",
			f->name, (int)f->symbols->pid);
	return 0;
}

int symbols_find(struct symbols *s, const char *name, struct function_place *ret, size_t cap, size_t *ret_count,
		 struct err *err)
{
	struct search f = { .kind = &functions, .symbols = s, .name = name };
	uint64_t vaddr;
	int r;

	if (split_offset(&f, name, &vaddr)) {
		r = find_offset(&f, vaddr, ret, err);
		if (r == 0)
			*ret_count = 1;
		return r;
	}
	split_module(&f, name);
	f.word = word_of(f.name);
	r = find_named(&f, err);
	if (r == 0)
		r = answer(&f, ret, cap, ret_count, err);
	free(f.word);
	free(f.found);
	return r;
}

int symbols_find_data(struct symbols *s, const char *name, uint64_t *ret)
{
	struct search f = { .kind = &data_objects, .symbols = s, .name = name };

	search_modules(&f, WHICH_EXECUTABLE);
	if (f.rank == RANK_NONE)
		search_modules(&f, WHICH_ALL);
	if (f.rank == RANK_NONE)
		return -ENOENT;
	*ret = f.address;
	return 0;
}

uint64_t symbols_generation(const struct symbols *s)
{
	return s->generation;
}
