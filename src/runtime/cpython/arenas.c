/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where the tables of arenas are. The variable `arenas` (static up to 3.11, in struct _obmalloc_state since) is looked for once, among the words of the
 * module's data: its value leads to a table that holds. usable_arenas and its like lead into the same table; they hold only while they
 * happen to be equal to `arenas`, and then the answer is the same: so every word that held is remembered, and those that hold at a look are used.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpython.h"

#define CANDIDATES_MAX 65536U
#define TABLES_MAX 256U /* candidates that are looked at closely */
#define BATCH 512
#define SEARCHES_WAIT_MAX 64

/* struct _obmalloc_state: pools used[2 * 32], then mgmt, which begins with arenas. */
#define OBMALLOC_ARENAS 512
#define INTERPRETER_MAX (1ULL << 19)
#define POINTER_WITHIN (64U << 10)

static int by_address(const void *a, const void *b)
{
	const struct cpython_arena *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

/* Sorted; of two that overlap one is a lie or torn, and none can say which. */
static void settle(struct cpython_arenas *a)
{
	size_t kept = 0;

	if (a->count)
		qsort(a->items, a->count, sizeof(*a->items), by_address);
	for (size_t i = 0; i < a->count; i++) {
		if (kept && a->items[i].address < a->items[kept - 1].end)
			a->torn++;
		else
			a->items[kept++] = a->items[i];
	}
	a->count = kept;
}

/* ---- the search ---------------------------------------------------------------------------------------------------------- */

struct candidate {
	uint64_t slot, table;
};

static bool may_be_table(const struct cpython_view *v, uint64_t address)
{
	const struct region *r;

	/* malloc aligns to 16 */
	if (address % 16 != 0 || address < CPYTHON_PAGE || address >> 47)
		return false;
	r = region_find(v->regions, v->region_count, address);
	return r && cpython_is_plain_memory(r) && r->end - address >= CPYTHON_TABLE_MIN * CPYTHON_ENTRY;
}

static size_t gather(const struct cpython_view *v, const struct cpython_data *d, struct candidate *ret)
{
	size_t count = 0;

	for (size_t i = 0; i < d->span_count; i++) {
		const struct cpython_span *s = &d->spans[i];

		for (size_t o = 0; o + 8 <= s->len && count < CANDIDATES_MAX; o += 8) {
			uint64_t value = cpython_load64(d->bytes + s->offset + o);

			if (value && may_be_table(v, value))
				ret[count++] = (struct candidate){ s->address + o, value };
		}
	}
	return count;
}

/* Could the first entry be one? Cheap; most candidates end here. */
static bool begins_well(const uint8_t *raw, uint64_t table)
{
	uint64_t address = cpython_load64(raw), next = cpython_load64(raw + 32);
	uint32_t unused = cpython_load32(raw + 16), total = cpython_load32(raw + 20);

	if (address == 0)
		return next == 0 || (next > table && (next - table) % CPYTHON_ENTRY == 0 &&
				     next - table < (uint64_t)CPYTHON_ARENAS * CPYTHON_ENTRY);
	return address % CPYTHON_PAGE == 0 && (total == 64 || total == 63) && unused <= total;
}

/* Keeps those whose first entries could be; their number or -errno. */
static ssize_t sift(const struct cpython_view *v, struct candidate *c, size_t count)
{
	struct mem_piece pieces[BATCH];
	uint8_t raw[BATCH][2 * CPYTHON_ENTRY];
	size_t kept = 0;

	for (size_t from = 0; from < count; from += BATCH) {
		size_t n = count - from < BATCH ? count - from : BATCH;
		int rc;

		for (size_t i = 0; i < n; i++)
			pieces[i] = (struct mem_piece){ c[from + i].table, raw[i], sizeof(raw[i]), 0 };
		rc = mem_read_batch(v->mem, pieces, n);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++) {
			const uint8_t *second = raw[i] + CPYTHON_ENTRY;
			uint64_t table = c[from + i].table;

			if (pieces[i].done < sizeof(raw[i]) || !begins_well(raw[i], table) ||
			    !begins_well(second, table))
				continue;
			/* zeros begin well */
			if (cpython_load64(raw[i]) == 0 && cpython_load64(second) == 0 &&
			    cpython_load64(second + 32) == 0)
				continue;
			c[kept++] = c[from + i];
		}
	}
	return (ssize_t)kept;
}

/* Where the main interpreter keeps what slot is in: its other interpreters keep theirs there, too. */
static void learn_offset(struct cpython *p, const struct cpython_view *v, uint64_t slot)
{
	uint64_t main_one, size = POINTER_WITHIN;
	uint8_t *words;
	ssize_t n;

	if (!p->layout || p->layout->obmalloc == OBMALLOC_STATIC || !v->interpreter_count || p->obmalloc)
		return;
	main_one = v->interpreters[v->interpreter_count - 1]; /* new ones are put in front */
	if (p->layout->obmalloc == OBMALLOC_INSIDE) {
		if (slot > main_one && slot - main_one < INTERPRETER_MAX)
			p->obmalloc = slot - main_one;
		return;
	}
	words = malloc(size);
	n = words ? mem_read(v->mem, main_one, words, size) : 0;
	for (size_t o = 8; n > 0 && o + 8 <= (size_t)n && !p->obmalloc; o += 8)
		if (cpython_load64(words + o) == slot - OBMALLOC_ARENAS)
			p->obmalloc = o;
	free(words);
}

static int search(struct cpython *p, const struct cpython_view *v)
{
	struct cpython_arenas a = { 0 };
	struct cpython_data data;
	struct candidate *c = calloc(CANDIDATES_MAX, sizeof(*c));
	uint64_t rejected = 0;
	ssize_t count;
	int rc;

	p->slot_count = 0;
	if (!c)
		return -ENOMEM;
	rc = cpython_data_init(&data, v, p->anchor);
	if (rc < 0) {
		free(c);
		return rc;
	}
	count = sift(v, c, gather(v, &data, c));
	cpython_data_deinit(&data);
	for (ssize_t i = 0; i < count && i < TABLES_MAX && p->slot_count < CPYTHON_SLOTS && rc >= 0; i++) {
		if (c[i].table == rejected)
			continue;
		rc = cpython_read_table(v, c[i].table, &a);
		if (rc == 0)
			rejected = c[i].table;
		if (rc != 1)
			continue;
		p->slots[p->slot_count++] = c[i].slot;
		learn_offset(p, v, c[i].slot);
	}
	cpython_arenas_deinit(&a);
	free(c);
	return count < 0 ? (int)count : rc < 0 ? rc : 0;
}

/* ---- a look ------------------------------------------------------------------------------------------------------------------ */

/* The slots of all interpreters, and those that were found by search. */
static size_t list_slots(const struct cpython *p, const struct cpython_view *v, uint64_t *ret)
{
	size_t count = 0;

	for (size_t i = 0; i < p->slot_count; i++)
		ret[count++] = p->slots[i];
	for (size_t i = 0; p->obmalloc && i < v->interpreter_count; i++) {
		uint64_t at = v->interpreters[i] + p->obmalloc;

		if (p->layout->obmalloc == OBMALLOC_BEHIND_POINTER) {
			if (mem_read_u64(v->mem, at, &at) < 0 || at % 8 != 0)
				continue;
			at += OBMALLOC_ARENAS;
		}
		ret[count++] = at;
	}
	return count;
}

static int read_slots(const struct cpython *p, const struct cpython_view *v, struct cpython_arenas *a)
{
	uint64_t slots[CPYTHON_SLOTS + CPYTHON_INTERPRETERS], tables[CPYTHON_SLOTS + CPYTHON_INTERPRETERS];
	size_t count = list_slots(p, v, slots), seen = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t table;
		size_t j = 0;
		int rc = mem_read_u64(v->mem, slots[i], &table);

		if (rc == -ESRCH)
			return rc;
		if (rc < 0 || !may_be_table(v, table))
			continue;
		while (j < seen && tables[j] != table)
			j++;
		if (j < seen)
			continue;
		tables[seen++] = table;
		rc = cpython_read_table(v, table, a);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int cpython_list_arenas(struct cpython *p, const struct cpython_view *v, struct cpython_arenas *ret)
{
	int rc;

	*ret = (struct cpython_arenas){ 0 };
	if (p->free_threaded) /* mimalloc */
		return 0;
	rc = read_slots(p, v, ret);
	if (rc == 0 && ret->table_count == 0) {
		/* a search reads all of the module's data: where there is nothing to be found it must not be done at each look */
		if (p->wait) {
			p->wait--;
		} else {
			rc = search(p, v);
			if (rc == 0 && p->slot_count)
				rc = read_slots(p, v, ret);
			p->fruitless = ret->table_count ? 0 : p->fruitless + 1;
			p->wait = p->fruitless < 3                 ? 0 :
				  p->fruitless < SEARCHES_WAIT_MAX ? p->fruitless :
								     SEARCHES_WAIT_MAX;
		}
	}
	if (rc < 0) {
		cpython_arenas_deinit(ret);
		return rc;
	}
	settle(ret);
	return 0;
}

void cpython_arenas_deinit(struct cpython_arenas *a)
{
	free(a->items);
	*a = (struct cpython_arenas){ 0 };
}
