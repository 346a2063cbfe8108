/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which function of a unit holds an address. DWARF has no index of them: a unit is walked once, and what was found is kept for the
 * next address in it, since stacks meet the same units again.
 */
#include <dwarf.h>
#include <stdlib.h>

#include "memwatch/base/vec.h"
#include "private.h"

#define DEPTH_MAX 64          /* of nested scopes: hostile DWARF may nest without end */
#define RANGES_MAX (1U << 17) /* kept per module, 3 MiB; then units are walked again */
#define NESTED_MAX 8          /* how many ranges to look back for one that covers the address */
#define PIECES_MAX 4096       /* of one function */

struct function_range {
	uint64_t start, end;
	Dwarf_Off die;
};

struct unit_functions {
	Dwarf_Off unit;
	bool types; /* of functions inside types, which are few and cost a longer walk */
	struct function_range *ranges;
	size_t count, cap;
};

struct function_index {
	struct unit_functions *units;
	size_t count, cap;
	size_t ranges; /* of all units */
};

static bool is_namespace(int tag)
{
	return tag == DW_TAG_namespace || tag == DW_TAG_module;
}

static bool is_type(int tag)
{
	return tag == DW_TAG_structure_type || tag == DW_TAG_class_type || tag == DW_TAG_union_type ||
	       tag == DW_TAG_enumeration_type;
}

static void forget(struct function_index *index)
{
	for (size_t i = 0; i < index->count; i++)
		free(index->units[i].ranges);
	index->count = 0;
	index->ranges = 0;
}

void functions_destroy(struct function_index *index)
{
	if (!index)
		return;
	forget(index);
	free(index->units);
	free(index);
}

static void add_function(struct unit_functions *u, Dwarf_Die *die)
{
	Dwarf_Addr base, start, end;
	ptrdiff_t at = 0;

	for (int i = 0; i < PIECES_MAX && (at = dwarf_ranges(die, at, &base, &start, &end)) > 0; i++) {
		if (start >= end || u->count >= RANGES_MAX ||
		    vec_reserve(&u->ranges, &u->cap, u->count + 1, sizeof(*u->ranges)) < 0)
			continue;
		u->ranges[u->count++] = (struct function_range){ start, end, dwarf_dieoffset(die) };
	}
}

/* Depth-first over what may hold functions. */
static void walk_unit(struct unit_functions *u, Dwarf_Die *scopes)
{
	Dwarf_Die stack[DEPTH_MAX];
	size_t depth = 0;

	if (dwarf_child(scopes, &stack[0]) != 0)
		return;
	for (;;) {
		Dwarf_Die *die = &stack[depth];
		int tag = dwarf_tag(die);

		if (tag == DW_TAG_subprogram)
			add_function(u, die);
		if ((is_namespace(tag) || (u->types && is_type(tag))) && depth + 1 < DEPTH_MAX &&
		    dwarf_child(die, &stack[depth + 1]) == 0) {
			depth++;
			continue;
		}
		while (dwarf_siblingof(&stack[depth], &stack[depth]) != 0) {
			if (depth-- == 0)
				return;
		}
	}
}

/* Of equal starts the first DIE is met first when looking back. */
static int compare_ranges(const void *a, const void *b)
{
	const struct function_range *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->die < y->die) - (x->die > y->die);
}

static const struct unit_functions *functions_of(struct module *m, Dwarf_Off unit, Dwarf_Die *scopes, bool types)
{
	struct function_index *index = m->functions;
	struct unit_functions found = { .unit = unit, .types = types };

	if (!index)
		index = m->functions = calloc(1, sizeof(*index));
	if (!index)
		return NULL;
	for (size_t i = index->count; i-- > 0;)
		if (index->units[i].unit == unit && index->units[i].types == types)
			return &index->units[i];
	walk_unit(&found, scopes);
	if (found.count)
		qsort(found.ranges, found.count, sizeof(*found.ranges), compare_ranges);
	if (index->ranges + found.count > RANGES_MAX)
		forget(index);
	if (vec_reserve(&index->units, &index->cap, index->count + 1, sizeof(found)) < 0) {
		free(found.ranges);
		return NULL;
	}
	index->ranges += found.count;
	index->units[index->count] = found;
	return &index->units[index->count++];
}

static bool covering(const struct unit_functions *u, uint64_t vaddr, Dwarf_Off *ret_die)
{
	size_t low = 0, high = u->count;

	while (low < high) { /* the number of ranges that start at vaddr or below */
		size_t middle = low + (high - low) / 2;

		if (u->ranges[middle].start <= vaddr)
			low = middle + 1;
		else
			high = middle;
	}
	for (size_t back = 1; back <= NESTED_MAX && back <= low; back++)
		if (vaddr < u->ranges[low - back].end) {
			*ret_die = u->ranges[low - back].die;
			return true;
		}
	return false;
}

bool functions_find(struct module *m, Dwarf_Die *unit, Dwarf_Die *scopes, uint64_t vaddr, Dwarf_Die *ret)
{
	Dwarf *dwarf = dwarf_cu_getdwarf(scopes->cu);

	for (int types = 0; types < 2; types++) {
		const struct unit_functions *u = functions_of(m, dwarf_dieoffset(unit), scopes, types);
		Dwarf_Off die;

		if (u && covering(u, vaddr, &die))
			return dwarf_offdie(dwarf, die, ret) != NULL;
	}
	return false;
}
