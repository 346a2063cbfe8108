/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Relocations of a module: which words are bound to symbols by our names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/vec.h"
#include "slots_private.h"

#define STEP 2048    /* relocations read at once */
#define WITNESSES 64 /* of the program's own relocations that are looked at */

struct reference {
	uint64_t offset;
	uint32_t symbol, index;
	enum slots_kind kind;
};

struct references {
	struct reference *items;
	size_t count, cap;
};

/* Those that name a symbol. */
static int take_entries(struct references *refs, const Elf64_Rela *entries, size_t count, size_t first)
{
	if (vec_reserve(&refs->items, &refs->cap, refs->count + count, sizeof(*refs->items)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		enum slots_kind kind = slots_arch_kind((uint32_t)ELF64_R_TYPE(entries[i].r_info));
		uint32_t symbol = (uint32_t)ELF64_R_SYM(entries[i].r_info);

		if (kind == SLOTS_OTHER || symbol == 0)
			continue;
		refs->items[refs->count++] =
			(struct reference){ entries[i].r_offset, symbol, (uint32_t)(first + i), kind };
	}
	return 0;
}

static int read_table(struct slots_look *l, uint64_t at, uint64_t bytes, struct references *refs)
{
	cleanup_free Elf64_Rela *entries = malloc(STEP * sizeof(*entries));
	size_t count = (size_t)(bytes / sizeof(*entries));

	if (!entries)
		return -ENOMEM;
	for (size_t done = 0; done < count;) {
		size_t step = count - done < STEP ? count - done : STEP;
		int r = slots_read(l, at + done * sizeof(*entries), entries, step * sizeof(*entries));

		if (r == 0)
			r = take_entries(refs, entries, step, done);
		if (r < 0)
			return r == -EFAULT ? 0 : r;
		done += step;
	}
	return 0;
}

static int compare_indices(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* The symbols that are referred to, each once: most modules have no list of those that they do not define. */
static int read_symbols(struct slots_look *l, struct slots_module *m, const struct references *refs)
{
	cleanup_free uint32_t *indices = calloc(refs->count + 1, sizeof(*indices));
	size_t kept = 0;

	if (!indices)
		return -ENOMEM;
	for (size_t i = 0; i < refs->count; i++)
		indices[i] = refs->items[i].symbol;
	qsort(indices, refs->count, sizeof(*indices), compare_indices);
	for (size_t i = 0; i < refs->count; i++)
		if (kept == 0 || indices[kept - 1] != indices[i])
			indices[kept++] = indices[i];
	return slots_read_references(l, m, indices, kept);
}

static int add_candidate(struct slots_look *l, size_t module, const struct reference *ref,
			 const struct slots_symbol *symbol)
{
	struct slots_module *m = &l->modules[module];
	struct slots_candidate c = {
		.slot = { .address = m->bias + ref->offset, .function = slots_name_function(symbol->name) },
		.module = (uint32_t)module,
		.name = symbol->name,
		.index = ref->index,
		.kind = ref->kind,
		.weak = symbol->weak,
	};

	if (c.slot.address % 8 || !slots_holds(m, c.slot.address, 8) || l->candidate_count >= SLOTS_CANDIDATES_MAX)
		return 0;
	if (c.slot.function == PROBE_MALLOC && c.kind != SLOTS_POINTER)
		m->calls_malloc = true;
	if (vec_reserve(&l->candidates, &l->candidate_cap, l->candidate_count + 1, sizeof(*l->candidates)) < 0)
		return -ENOMEM;
	l->candidates[l->candidate_count++] = c;
	return 0;
}

static int take_references(struct slots_look *l, size_t module, const struct references *refs, bool *ret_pointers)
{
	struct slots_module *m = &l->modules[module];
	int r = 0;

	for (size_t i = 0; m->symbol_count && r == 0 && i < refs->count; i++) {
		const struct reference *ref = &refs->items[i];
		const struct slots_symbol *symbol = slots_symbol(m, ref->symbol);

		if (!symbol)
			continue;
		r = add_candidate(l, module, ref, symbol);
		if (ref->kind == SLOTS_POINTER && (symbol->name == PROBE_MALLOC || symbol->name == PROBE_FREE))
			*ret_pointers = true;
	}
	return r;
}

int slots_read_relocations(struct slots_look *l, size_t module, bool *ret_pointers)
{
	struct slots_module *m = &l->modules[module];
	struct references refs = { NULL, 0, 0 };
	bool pointers = false;
	int r;

	r = read_table(l, m->rela_table, m->rela_bytes, &refs);
	if (r == 0)
		r = read_table(l, m->jump_table, m->jump_bytes, &refs);
	if (r == 0 && refs.count)
		r = read_symbols(l, m, &refs);
	if (r == 0)
		r = take_references(l, module, &refs, &pointers);
	free(refs.items);
	if (r == 0)
		*ret_pointers = pointers;
	return r;
}

/* ---- whether they have been applied ---- */

/* 1: an unbound slot leads to the run-time linker; 0: not yet, or the module is not bound lazily; -errno */
static int has_resolver(struct slots_look *l, const struct slots_module *m)
{
	uint64_t got[3] = { 0 };
	int r;

	if (!m->plt_got)
		return 0;
	/* The second word is the module's link map, the third the function to call. The file has something else there, 0 as a rule. */
	r = slots_read(l, m->plt_got, got, sizeof(got));
	if (r < 0)
		return r == -EFAULT ? 0 : r;
	return got[1] == m->link_map && got[2] != 0;
}

int slots_stub(struct slots_look *l, const struct slots_module *m, uint64_t value, uint32_t index)
{
	bool early = m->bias && !slots_in_code(m, value) && slots_in_code(m, value + m->bias);
	uint8_t code[SLOTS_STUB_BYTES];
	int r;

	if (!early && !slots_in_code(m, value))
		return SLOTS_STUB_NONE;
	r = slots_read(l, early ? value + m->bias : value, code, sizeof(code));
	if (r < 0)
		return r == -EFAULT ? SLOTS_STUB_NONE : r;
	if (!slots_arch_is_stub(code, sizeof(code), index))
		return SLOTS_STUB_NONE;
	r = early ? 0 : has_resolver(l, m);
	if (r < 0)
		return r;
	return r == 1 ? SLOTS_STUB_READY : SLOTS_STUB_EARLY;
}

/* Whether a word of the program is more than what its file says. 1, 0, -errno. What cannot be told counts as 1. */
static int is_applied(struct slots_look *l, const struct slots_module *m, const Elf64_Rela *entry, uint32_t index)
{
	uint64_t at = m->symtab + ELF64_R_SYM(entry->r_info) * sizeof(Elf64_Sym), value;
	enum slots_kind kind = slots_arch_kind((uint32_t)ELF64_R_TYPE(entry->r_info));
	Elf64_Sym symbol;
	int r;

	if (kind != SLOTS_JUMP && kind != SLOTS_DATA)
		return 1;
	if (!slots_holds(m, m->bias + entry->r_offset, sizeof(value)) || !slots_holds(m, at, sizeof(symbol)))
		return 1;
	r = slots_read(l, m->bias + entry->r_offset, &value, sizeof(value));
	if (r < 0)
		return r == -EFAULT ? 1 : r;
	if (value && kind == SLOTS_DATA)
		return 1;
	if (value) {
		r = slots_stub(l, m, value, index);
		return r < 0 ? r : r != SLOTS_STUB_EARLY;
	}
	/* Nobody need define what is referred to weakly; anything else is bound, or the program does not start. */
	r = slots_read(l, at, &symbol, sizeof(symbol));
	if (r < 0)
		return r == -EFAULT ? 1 : r;
	return ELF64_ST_BIND(symbol.st_info) == STB_WEAK;
}

int slots_is_relocated(struct slots_look *l, const struct slots_module *m)
{
	const uint64_t tables[][2] = { { m->rela_table, m->rela_bytes }, { m->jump_table, m->jump_bytes } };
	Elf64_Rela entries[WITNESSES];

	for (size_t t = 0; t < 2; t++) {
		uint64_t count = tables[t][1] / sizeof(entries[0]);
		int r;

		if (count > WITNESSES)
			count = WITNESSES;
		r = count ? slots_read(l, tables[t][0], entries, count * sizeof(entries[0])) : 0;
		for (size_t i = 0; r == 0 && i < count; i++) {
			r = is_applied(l, m, &entries[i], (uint32_t)i);
			if (r == 0)
				return 0;
			r = r < 0 ? r : 0;
		}
		if (r < 0 && r != -EFAULT)
			return r;
	}
	return 1;
}
