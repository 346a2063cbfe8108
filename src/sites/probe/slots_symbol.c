/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Symbols of a module, from its dynamic symbol table: definitions by hash, references by index. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/vec.h"
#include "slots_private.h"

#define CHAIN_STEP 32
#define CHAIN_MAX 4096      /* of one bucket; a few are usual */
#define SYSV_MAX (1U << 18) /* symbols of a module that has no .gnu.hash */
#define SYMBOLS_STEP 1024
#define GAP 16 /* symbols between two wanted ones that are rather read than skipped */

const char *const slot_function_names[PROBE_FUNCTION_COUNT] = {
	[PROBE_MALLOC] = "malloc",
	[PROBE_CALLOC] = "calloc",
	[PROBE_REALLOC] = "realloc",
	[PROBE_REALLOCARRAY] = "reallocarray",
	[PROBE_FREE] = "free",
	[PROBE_CFREE] = "cfree",
	[PROBE_MEMALIGN] = "memalign",
	[PROBE_ALIGNED_ALLOC] = "aligned_alloc",
	[PROBE_POSIX_MEMALIGN] = "posix_memalign",
	[PROBE_VALLOC] = "valloc",
	[PROBE_PVALLOC] = "pvalloc",
	[PROBE_NEW] = "_Znwm",
	[PROBE_NEW_ARRAY] = "_Znam",
	[PROBE_NEW_NOTHROW] = "_ZnwmRKSt9nothrow_t",
	[PROBE_NEW_ARRAY_NOTHROW] = "_ZnamRKSt9nothrow_t",
	[PROBE_NEW_ALIGNED] = "_ZnwmSt11align_val_t",
	[PROBE_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_t",
	[PROBE_NEW_ALIGNED_NOTHROW] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
	[PROBE_NEW_ARRAY_ALIGNED_NOTHROW] = "_ZnamSt11align_val_tRKSt9nothrow_t",
	[PROBE_DELETE] = "_ZdlPv",
	[PROBE_DELETE_ARRAY] = "_ZdaPv",
	[PROBE_DELETE_SIZED] = "_ZdlPvm",
	[PROBE_DELETE_ARRAY_SIZED] = "_ZdaPvm",
	[PROBE_DELETE_NOTHROW] = "_ZdlPvRKSt9nothrow_t",
	[PROBE_DELETE_ARRAY_NOTHROW] = "_ZdaPvRKSt9nothrow_t",
	[PROBE_DELETE_ALIGNED] = "_ZdlPvSt11align_val_t",
	[PROBE_DELETE_ARRAY_ALIGNED] = "_ZdaPvSt11align_val_t",
	[PROBE_DELETE_SIZED_ALIGNED] = "_ZdlPvmSt11align_val_t",
	[PROBE_DELETE_ARRAY_SIZED_ALIGNED] = "_ZdaPvmSt11align_val_t",
	[PROBE_MMAP] = "mmap",
	[PROBE_MUNMAP] = "munmap",
	[PROBE_MREMAP] = "mremap",
	[PROBE_SBRK] = "sbrk",
};

const char *slots_name(size_t name)
{
	return name < PROBE_FUNCTION_COUNT ? slot_function_names[name] : "mmap64";
}

uint32_t slots_name_function(size_t name)
{
	return name < PROBE_FUNCTION_COUNT ? (uint32_t)name : PROBE_MMAP;
}

int slots_name_find(const char *text)
{
	for (size_t i = 0; i < SLOTS_NAMES; i++)
		if (strcmp(text, slots_name(i)) == 0)
			return (int)i;
	return -1;
}

static bool is_function(const Elf64_Sym *s)
{
	unsigned int type = ELF64_ST_TYPE(s->st_info), bind = ELF64_ST_BIND(s->st_info);

	/* Functions in assembler may have no type; the run-time linker takes them all the same. */
	return (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE) &&
	       (bind == STB_GLOBAL || bind == STB_WEAK || bind == STB_GNU_UNIQUE);
}

static int add_symbol(struct slots_module *m, uint32_t index, uint32_t name, const Elf64_Sym *s)
{
	struct slots_symbol symbol = {
		.index = index,
		.name = name,
		.address = s->st_value ? m->bias + s->st_value : 0,
		.defined = s->st_shndx != SHN_UNDEF,
		.weak = ELF64_ST_BIND(s->st_info) == STB_WEAK,
		.indirect = ELF64_ST_TYPE(s->st_info) == STT_GNU_IFUNC,
	};

	if (m->symbol_count >= SLOTS_SYMBOLS_MAX || slots_symbol(m, index))
		return 0;
	if (symbol.defined && !slots_in_code(m, symbol.address))
		return 0;
	if (vec_reserve(&m->symbols, &m->symbol_cap, m->symbol_count + 1, sizeof(*m->symbols)) < 0)
		return -ENOMEM;
	m->symbols[m->symbol_count++] = symbol;
	return 0;
}

const struct slots_symbol *slots_symbol(const struct slots_module *m, uint32_t index)
{
	for (size_t i = 0; i < m->symbol_count; i++)
		if (m->symbols[i].index == index)
			return &m->symbols[i];
	return NULL;
}

/* ---- by hash ---- */

struct gnu_hash {
	uint32_t buckets, first, bloom_words, bloom_shift; /* first: index of the first symbol that is in it */
	uint64_t bloom, bucket_table, chains;              /* addresses */
};

static uint32_t hash_of(const char *name)
{
	uint32_t h = 5381;

	for (; *name; name++)
		h = h * 33 + (unsigned char)*name;
	return h;
}

static int read_hash(struct slots_look *l, const struct slots_module *m, struct gnu_hash *ret)
{
	uint32_t header[4];
	struct gnu_hash g;
	int r = slots_read(l, m->gnu_hash, header, sizeof(header));

	if (r < 0)
		return r;
	g = (struct gnu_hash){ header[0], header[1], header[2], header[3], 0, 0, 0 };
	g.bloom = m->gnu_hash + sizeof(header);
	g.bucket_table = g.bloom + 8ULL * g.bloom_words;
	g.chains = g.bucket_table + 4ULL * g.buckets;
	if (g.buckets == 0 || g.bloom_words == 0 || (g.bloom_words & (g.bloom_words - 1)) || g.bloom_shift > 31 ||
	    !slots_holds(m, m->gnu_hash, g.chains - m->gnu_hash))
		return -EFAULT;
	*ret = g;
	return 0;
}

static bool bloom_has(const struct gnu_hash *g, uint64_t word, uint32_t h)
{
	return word >> (h % 64) & word >> ((h >> g->bloom_shift) % 64) & 1;
}

/* 1: symbol `index` defines name; 0; -errno */
static int is_definition(struct slots_look *l, const struct slots_module *m, uint32_t index, const char *name,
			 Elf64_Sym *ret)
{
	uint64_t at = m->symtab + (uint64_t)index * sizeof(*ret);
	char text[SLOTS_NAME_BYTES];
	size_t len = strlen(name) + 1;
	int r;

	if (!slots_holds(m, at, sizeof(*ret)))
		return 0;
	r = slots_read(l, at, ret, sizeof(*ret));
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	if (ret->st_shndx == SHN_UNDEF || ret->st_name >= m->string_bytes || m->string_bytes - ret->st_name < len)
		return 0;
	r = slots_read(l, m->strtab + ret->st_name, text, len);
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	return memcmp(text, name, len) == 0;
}

/* Goes through the chain of the name's bucket. */
static int search_chain(struct slots_look *l, const struct slots_module *m, const struct gnu_hash *g, const char *name,
			Elf64_Sym *ret, uint32_t *ret_index)
{
	uint32_t h = hash_of(name), index, chain[CHAIN_STEP];
	int r = slots_read(l, g->bucket_table + 4ULL * (h % g->buckets), &index, sizeof(index));

	if (r < 0 || index < g->first)
		return r == -EFAULT ? 0 : r;
	for (size_t done = 0; done < CHAIN_MAX;) {
		ssize_t n = slots_read_some(l, g->chains + 4ULL * (index - g->first), chain, sizeof(chain));

		if (n < 4)
			return n < 0 ? (int)n : 0;
		for (size_t i = 0; i < (size_t)n / 4; i++, index++, done++) {
			r = (chain[i] | 1) == (h | 1) ? is_definition(l, m, index, name, ret) : 0;
			if (r == 1)
				*ret_index = index;
			if (r != 0)
				return r;
			if (chain[i] & 1)
				return 0;
		}
	}
	return 0;
}

int slots_lookup(struct slots_look *l, const struct slots_module *m, const char *name, Elf64_Sym *ret,
		 uint32_t *ret_index)
{
	struct gnu_hash g;
	int r = m->gnu_hash ? read_hash(l, m, &g) : -EFAULT;

	if (r < 0)
		return r == -EFAULT ? 0 : r;
	return search_chain(l, m, &g, name, ret, ret_index);
}

static int definitions_by_hash(struct slots_look *l, struct slots_module *m)
{
	struct mem_piece pieces[SLOTS_NAMES];
	uint64_t words[SLOTS_NAMES];
	struct gnu_hash g;
	int r = read_hash(l, m, &g);

	if (r < 0)
		return r == -EFAULT ? 0 : r;
	for (size_t i = 0; i < SLOTS_NAMES; i++)
		pieces[i] = (struct mem_piece){ g.bloom + 8ULL * (hash_of(slots_name(i)) / 64 & (g.bloom_words - 1)),
						&words[i], 8, 0 };
	r = slots_read_batch(l, pieces, SLOTS_NAMES);
	for (size_t i = 0; r == 0 && i < SLOTS_NAMES; i++) {
		Elf64_Sym symbol;
		uint32_t index;

		if (pieces[i].done < 8 || !bloom_has(&g, words[i], hash_of(slots_name(i))))
			continue;
		r = search_chain(l, m, &g, slots_name(i), &symbol, &index);
		if (r == 1)
			r = is_function(&symbol) ? add_symbol(m, index, (uint32_t)i, &symbol) : 0;
	}
	return r;
}

/* ---- by index ---- */

/* Gives those of `count` symbols, whose names are read all at once, that have our names to the module. */
static int take_named(struct slots_look *l, struct slots_module *m, const Elf64_Sym *symbols, const uint32_t *indices,
		      size_t count)
{
	cleanup_free struct mem_piece *pieces = calloc(count + 1, sizeof(*pieces));
	cleanup_free char *names = calloc(count + 1, SLOTS_NAME_BYTES);
	int r;

	if (!pieces || !names)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		uint64_t left = m->string_bytes - symbols[i].st_name;

		pieces[i] = (struct mem_piece){ m->strtab + symbols[i].st_name, names + i * SLOTS_NAME_BYTES,
						left < SLOTS_NAME_BYTES ? (size_t)left : SLOTS_NAME_BYTES, 0 };
	}
	r = slots_read_batch(l, pieces, count);
	for (size_t i = 0; r == 0 && i < count; i++) {
		char *name = pieces[i].buf;
		int found = memchr(name, '\0', pieces[i].done) ? slots_name_find(name) : -1;

		if (found >= 0)
			r = add_symbol(m, indices[i], (uint32_t)found, &symbols[i]);
	}
	return r;
}

/* A run of symbols near each other: one read, then the names of those that are wanted. definitions: these too. */
static int take_run(struct slots_look *l, struct slots_module *m, const uint32_t *indices, size_t count,
		    bool definitions)
{
	size_t run = (size_t)indices[count - 1] - indices[0] + 1, kept = 0;
	uint64_t at = m->symtab + (uint64_t)indices[0] * sizeof(Elf64_Sym);
	cleanup_free Elf64_Sym *symbols = calloc(run, sizeof(*symbols));
	cleanup_free uint32_t *numbers = calloc(count, sizeof(*numbers));
	int r;

	if (!symbols || !numbers)
		return -ENOMEM;
	if (!slots_holds(m, at, run * sizeof(*symbols)))
		return 0;
	r = slots_read(l, at, symbols, run * sizeof(*symbols));
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	for (size_t i = 0; i < count; i++) {
		const Elf64_Sym *s = &symbols[indices[i] - indices[0]];

		if (!is_function(s) || s->st_name == 0 || s->st_name >= m->string_bytes ||
		    (s->st_shndx != SHN_UNDEF && !definitions))
			continue;
		numbers[kept] = indices[i];
		symbols[kept++] = *s; /* never overtakes the reading: kept <= i <= its place */
	}
	return take_named(l, m, symbols, numbers, kept);
}

static int take_indices(struct slots_look *l, struct slots_module *m, const uint32_t *indices, size_t count,
			bool definitions)
{
	int r = 0;

	for (size_t from = 0, to; r == 0 && from < count; from = to) {
		for (to = from + 1;
		     to < count && indices[to] - indices[to - 1] <= GAP && indices[to] - indices[from] < SYMBOLS_STEP;)
			to++;
		r = take_run(l, m, indices + from, to - from, definitions);
	}
	return r;
}

int slots_read_references(struct slots_look *l, struct slots_module *m, const uint32_t *indices, size_t count)
{
	return take_indices(l, m, indices, count, false);
}

/* .hash only counts the symbols: with it, all of them are looked at. Hardly any module of our time has nothing else. */
static int definitions_by_count(struct slots_look *l, struct slots_module *m)
{
	cleanup_free uint32_t *indices = NULL;
	uint32_t header[2];
	int r = slots_read(l, m->hash, header, sizeof(header));

	if (r < 0)
		return r == -EFAULT ? 0 : r;
	if (header[1] < 2 || header[1] > SYSV_MAX)
		return 0;
	indices = calloc(header[1], sizeof(*indices));
	if (!indices)
		return -ENOMEM;
	for (uint32_t i = 1; i < header[1]; i++)
		indices[i - 1] = i;
	return take_indices(l, m, indices, header[1] - 1, true);
}

int slots_read_definitions(struct slots_look *l, struct slots_module *m)
{
	if (m->gnu_hash)
		return definitions_by_hash(l, m);
	return m->hash ? definitions_by_count(l, m) : 0;
}
