/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"
#include "private.h"

#define NUMBER_BITS 30
#define NUMBER_MASK ((1U << NUMBER_BITS) - 1)
#define PADDING 16       /* alignment behind a function, where a torn or tail-called pc may point */
#define UNSIZED_MAX 4096 /* how far a symbol without a size reaches */
#define NESTED_MAX 8     /* how many symbols to look back for one that covers the address */

struct builder {
	struct symbol_table *table;
	size_t cap;
	bool *exec; /* by section index */
	size_t sections;
	bool failed;
};

static bool read_exec_sections(struct builder *b, Elf *elf)
{
	Elf_Scn *scn = NULL;

	if (elf_getshdrnum(elf, &b->sections) < 0 || !b->sections)
		return false;
	b->exec = calloc(b->sections, sizeof(*b->exec));
	while (b->exec && (scn = elf_nextscn(elf, scn))) {
		GElf_Shdr shdr;

		if (gelf_getshdr(scn, &shdr) && elf_ndxscn(scn) < b->sections)
			b->exec[elf_ndxscn(scn)] = shdr.sh_flags & SHF_EXECINSTR;
	}
	return b->exec;
}

bool table_symbol(const struct symbol_table *t, uint32_t index, GElf_Sym *ret_sym, const char **ret_name)
{
	const struct symbol_source *source = &t->sources[index >> NUMBER_BITS];
	uint32_t number = index & NUMBER_MASK;
	const struct own_symbol *own;
	const char *name;

	if (!source->elf) {
		own = &source->own[number];
		*ret_sym = (GElf_Sym){ .st_value = own->value, .st_size = own->size, .st_info = own->info };
		*ret_name = own->name;
		return true;
	}
	if (!gelf_getsym(source->data, (int)number, ret_sym))
		return false;
	name = elf_strptr(source->elf, source->strings, ret_sym->st_name);
	if (!name)
		return false;
	*ret_name = name;
	return true;
}

static void add_ref(struct builder *b, uint64_t value, uint32_t index)
{
	struct symbol_table *t = b->table;

	if (value < t->base || value - t->base > UINT32_MAX)
		return;
	if (vec_reserve(&t->refs, &b->cap, t->count + 1, sizeof(*t->refs)) < 0) {
		b->failed = true;
		return;
	}
	t->refs[t->count++] = (struct symbol_ref){ (uint32_t)(value - t->base), index };
}

static bool is_code(const struct builder *b, const GElf_Sym *sym)
{
	int type = GELF_ST_TYPE(sym->st_info);

	if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE)
		return false;
	if (sym->st_shndx == SHN_UNDEF || !sym->st_name)
		return false;
	if (sym->st_shndx == SHN_XINDEX) /* only files of very many sections */
		return type != STT_NOTYPE;
	return sym->st_shndx < b->sections && b->exec[sym->st_shndx];
}

static void add_section(struct builder *b, const struct image *image, Elf_Scn *scn, const GElf_Shdr *shdr)
{
	struct symbol_table *t = b->table;
	uint32_t source = (uint32_t)t->source_count;
	Elf_Data *data = elf_getdata(scn, NULL);
	size_t n;

	if (!data || !shdr->sh_entsize || t->source_count == SYMBOL_SOURCES)
		return;
	t->sources[t->source_count++] =
		(struct symbol_source){ .elf = image->elf, .data = data, .strings = shdr->sh_link };
	n = (size_t)(shdr->sh_size / shdr->sh_entsize);
	if (n > NUMBER_MASK)
		n = NUMBER_MASK;
	for (size_t i = 1; i < n; i++) {
		GElf_Sym sym;

		if (gelf_getsym(data, (int)i, &sym) && is_code(b, &sym))
			add_ref(b, sym.st_value, (source << NUMBER_BITS) | (uint32_t)i);
	}
}

static void add_own(struct builder *b, const struct image *image)
{
	struct symbol_table *t = b->table;
	uint32_t number = (uint32_t)t->source_count;
	const struct symbol_source *source = &t->sources[number];

	if (t->source_count == SYMBOL_SOURCES)
		return;
	minidebug_load(t, image);
	if (t->source_count == number)
		return;
	for (size_t i = 0; i < source->own_count && i <= NUMBER_MASK; i++)
		add_ref(b, source->own[i].value, (number << NUMBER_BITS) | (uint32_t)i);
}

static int compare_refs(const void *a, const void *b)
{
	const struct symbol_ref *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

static int rank(const GElf_Sym *sym, const char *name)
{
	int bind = GELF_ST_BIND(sym->st_info);
	int points = 0;

	points += GELF_ST_TYPE(sym->st_info) != STT_NOTYPE ? 64 : 0;
	points += sym->st_size ? 32 : 0;
	points += bind == STB_GLOBAL ? 15 : bind == STB_WEAK ? 14 : 0;
	for (int i = 0; name[i] == '_' && i < 2; i++) /* malloc rather than __libc_malloc */
		points -= 4;
	return points;
}

/* Of several names for one address keeps the one that a reader knows. */
static void drop_aliases(struct symbol_table *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->count;) {
		size_t end = i + 1;
		struct symbol_ref best = t->refs[i];
		const char *best_name = NULL;
		int best_rank = 0;

		while (end < t->count && t->refs[end].start == best.start)
			end++;
		for (size_t k = i; end - i > 1 && k < end; k++) {
			GElf_Sym sym;
			const char *name;
			int points;

			if (!table_symbol(t, t->refs[k].index, &sym, &name))
				continue;
			points = rank(&sym, name);
			if (!best_name || points > best_rank) {
				best = t->refs[k];
				best_name = name;
				best_rank = points;
			}
		}
		t->refs[kept++] = best;
		i = end;
	}
	t->count = kept;
}

static void shrink(struct symbol_table *t)
{
	struct symbol_ref *refs = t->count ? realloc(t->refs, t->count * sizeof(*refs)) : NULL;

	if (refs)
		t->refs = refs;
}

int table_build(struct symbol_table *t, const struct image *image, uint64_t base)
{
	struct builder b = { .table = t };
	GElf_Shdr shdr;
	Elf_Scn *scn;

	t->base = base;
	if (!read_exec_sections(&b, image->elf))
		return -ENOENT;
	scn = image_section(image, ".symtab", &shdr);
	if (scn && shdr.sh_type == SHT_SYMTAB) {
		add_section(&b, image, scn, &shdr);
	} else {
		scn = image_section(image, ".dynsym", &shdr);
		if (scn && shdr.sh_type == SHT_DYNSYM)
			add_section(&b, image, scn, &shdr);
		add_own(&b, image);
	}
	free(b.exec);
	if (b.failed)
		return -ENOMEM;
	if (t->count)
		qsort(t->refs, t->count, sizeof(*t->refs), compare_refs);
	drop_aliases(t);
	shrink(t);
	return 0;
}

void table_destroy(struct symbol_table *t)
{
	free(t->refs);
	arena_deinit(&t->arena);
	*t = (struct symbol_table){ .refs = NULL };
}

/* Whether one section holds both: what has no size does not reach over a section's end. */
static bool same_section(const struct image *image, uint64_t a, uint64_t b)
{
	Elf_Scn *scn = NULL;

	while ((scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr shdr;

		if (!gelf_getshdr(scn, &shdr) || !(shdr.sh_flags & SHF_ALLOC) || a < shdr.sh_addr)
			continue;
		if (a - shdr.sh_addr < shdr.sh_size)
			return b >= shdr.sh_addr && b - shdr.sh_addr < shdr.sh_size;
	}
	return false;
}

/* A size is believed; without one, or just behind one, only the nearest symbol comes into question. */
static bool covers(const struct image *image, uint64_t start, const GElf_Sym *sym, uint64_t vaddr, bool nearest)
{
	uint64_t reach = vaddr - start;

	if (!nearest)
		return reach < sym->st_size;
	if (sym->st_size)
		return reach < sym->st_size + PADDING;
	return reach < UNSIZED_MAX && same_section(image, start, vaddr);
}

const char *table_find(const struct symbol_table *t, const struct image *image, uint64_t vaddr, uint64_t *ret_start)
{
	size_t low = 0, high = t->count;

	if (vaddr < t->base)
		return NULL;
	while (low < high) { /* the number of symbols that start at vaddr or below */
		size_t middle = low + (high - low) / 2;

		if (t->refs[middle].start <= vaddr - t->base)
			low = middle + 1;
		else
			high = middle;
	}
	/* Labels may stand inside a function: those with a size that covers go first, the nearest as it is goes last. */
	for (size_t back = 1; back <= NESTED_MAX + 1; back++) {
		bool nearest = back == NESTED_MAX + 1 || back > low;
		const struct symbol_ref *ref = low ? &t->refs[nearest ? low - 1 : low - back] : NULL;
		const char *name;
		GElf_Sym sym;

		if (ref && table_symbol(t, ref->index, &sym, &name) && *name &&
		    covers(image, t->base + ref->start, &sym, vaddr, nearest)) {
			*ret_start = t->base + ref->start;
			return name;
		}
		if (nearest)
			break;
	}
	return NULL;
}
