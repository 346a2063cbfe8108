/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One table of arenas: struct arena_object { address, pool_address, nfreepools, ntotalpools, freepools, nextarena, prevarena }. An entry without an
 * arena has address 0 and links to the next such entry; the last of these links to nothing. Where the table ends is not asked: behind its end no entry
 * holds, but for one of zeros, which is no arena.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"

#include "cpython.h"

#define CHUNK 64 /* entries read at once */
#define SAMPLE_ENTRIES 16
#define SAMPLE_POOLS 4
#define SAMPLE_RANGES 16
#define TORN_EACH 64 /* one torn entry among so many arenas is believed to be torn, beside the first */

enum entry_kind { ENTRY_BAD, ENTRY_ZERO, ENTRY_UNUSED, ENTRY_ARENA };

static bool is_memory(const struct cpython_view *v, uint64_t start, uint64_t end)
{
	const struct region *first = region_find(v->regions, v->region_count, start);
	const struct region *last = region_find(v->regions, v->region_count, end - 1);

	return first && last && cpython_is_plain_memory(first) && cpython_is_plain_memory(last);
}

static enum entry_kind parse_entry(const struct cpython_view *v, const struct cpython_geometry *g, const uint8_t *raw,
				   uint64_t table, struct cpython_arena *ret)
{
	uint64_t address = cpython_load64(raw), carved = cpython_load64(raw + 8), next = cpython_load64(raw + 32);
	uint32_t unused = cpython_load32(raw + 16), total = cpython_load32(raw + 20);
	uint64_t pools, end, count;

	if (address == 0) {
		if (next == 0)
			return ENTRY_ZERO;
		return next >= table && next - table < (uint64_t)CPYTHON_ARENAS * CPYTHON_ENTRY &&
				       (next - table) % CPYTHON_ENTRY == 0 ?
			       ENTRY_UNUSED :
			       ENTRY_BAD;
	}
	if (address % CPYTHON_PAGE != 0 || address >> 47)
		return ENTRY_BAD;
	pools = cpython_align_up(address, g->pool_bytes);
	end = address + g->arena_bytes;
	count = (end - pools) / g->pool_bytes;
	if (total != count || unused > total || carved % g->pool_bytes != 0 || carved < pools ||
	    carved > pools + count * g->pool_bytes || unused < count - (carved - pools) / g->pool_bytes ||
	    !is_memory(v, address, end))
		return ENTRY_BAD;
	*ret = (struct cpython_arena){ .address = address, .pools = pools, .carved = carved, .end = end };
	return ENTRY_ARENA;
}

struct reading {
	const struct cpython_view *v;
	const struct cpython_geometry *geometry;
	uint64_t table;
	struct cpython_arenas *a;
	size_t entries, arenas, zeros, torn;
};

/* False: the table ends here, or this is none. */
static bool take_entry(struct reading *r, const uint8_t *raw, bool has_next, int *ret_rc)
{
	struct cpython_arena arena = { 0 }, other = { 0 };
	enum entry_kind kind = parse_entry(r->v, r->geometry, raw, r->table, &arena);

	if (kind == ENTRY_ZERO && r->zeros++)
		return false;
	if (kind == ENTRY_BAD) {
		/* torn, where the table goes on behind it */
		enum entry_kind behind =
			has_next ? parse_entry(r->v, r->geometry, raw + CPYTHON_ENTRY, r->table, &other) : ENTRY_BAD;

		if (behind < ENTRY_UNUSED || r->torn > r->arenas / TORN_EACH)
			return false;
		r->torn++;
	}
	if (kind == ENTRY_ARENA) {
		if (vec_reserve(&r->a->items, &r->a->cap, r->a->count + 1, sizeof(*r->a->items)) < 0) {
			*ret_rc = -ENOMEM;
			return false;
		}
		arena.index = (uint32_t)r->entries;
		r->a->items[r->a->count++] = arena;
		r->arenas++;
	}
	r->entries++;
	return true;
}

static int read_entries(struct reading *r)
{
	uint8_t raw[CHUNK * CPYTHON_ENTRY];
	int rc = 0;

	while (r->entries < CPYTHON_ARENAS) {
		uint64_t at = r->table + (uint64_t)r->entries * CPYTHON_ENTRY;
		ssize_t n = mem_read(r->v->mem, at, raw, sizeof(raw));
		size_t got = n > 0 ? (size_t)n / CPYTHON_ENTRY : 0;
		/* the last one of a full chunk is read again, with what is behind it */
		size_t use = got == CHUNK ? got - 1 : got;

		if (n < 0)
			return (int)n;
		for (size_t i = 0; i < use; i++)
			if (!take_entry(r, raw + i * CPYTHON_ENTRY, i + 1 < got, &rc))
				return rc;
		if (got < CHUNK)
			return 0;
	}
	return 0;
}

struct pool_sample {
	struct mem_piece pieces[SAMPLE_ENTRIES * SAMPLE_POOLS];
	uint8_t raw[SAMPLE_ENTRIES * SAMPLE_POOLS][48];
	uint32_t owners[SAMPLE_ENTRIES * SAMPLE_POOLS];
	size_t count;
};

/* The first pools of an arena, where they are present: one that is paged out stays there. */
static void sample_arena(const struct reading *r, struct pool_sample *s, const struct cpython_arena *a)
{
	uint64_t step = r->geometry->pool_bytes, end = a->pools + SAMPLE_POOLS * step, next;
	struct mem_range ranges[SAMPLE_RANGES];
	ssize_t n;

	if (end > a->carved)
		end = a->carved;
	n = mem_present(r->v->mem, a->pools, end, ranges, SAMPLE_RANGES, &next);
	for (uint64_t at = a->pools; at < end; at += step) {
		bool present = n < 0; /* not to be told */

		for (ssize_t i = 0; i < n; i++)
			present = present || (at >= ranges[i].start && at < ranges[i].end);
		if (!present)
			continue;
		s->owners[s->count] = a->index;
		s->pieces[s->count] = (struct mem_piece){ at, s->raw[s->count], sizeof(s->raw[0]), 0 };
		s->count++;
	}
}

/* Pools of some of the arenas, which must name them. */
static int check_sample(struct reading *r, size_t from)
{
	struct pool_sample s = { .count = 0 };
	size_t step = (r->arenas + SAMPLE_ENTRIES - 1) / SAMPLE_ENTRIES, good = 0, bad = 0;
	int rc;

	for (size_t i = 0; i < r->arenas; i += step)
		sample_arena(r, &s, &r->a->items[from + i]);
	rc = mem_read_batch(r->v->mem, s.pieces, s.count);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < s.count; i++) {
		struct cpython_pool pool = { 0 };
		int kind = s.pieces[i].done == s.pieces[i].len ?
				   cpython_parse_pool(s.raw[i], s.pieces[i].address, r->geometry, &pool) :
				   -1;

		if (kind < 0 || pool.index != s.owners[i])
			bad++;
		else
			good += kind == 1;
	}
	/* one may be torn */
	return good > 0 && bad <= (s.count >= 8 ? 1 + s.count / 32 : 0);
}

static int try_geometry(struct reading *r)
{
	size_t from = r->a->count;
	int rc;

	r->entries = r->arenas = r->zeros = r->torn = 0;
	rc = read_entries(r);
	if (rc == 0 && r->entries >= CPYTHON_TABLE_MIN && r->arenas)
		rc = check_sample(r, from);
	if (rc != 1)
		r->a->count = from;
	return rc;
}

int cpython_read_table(const struct cpython_view *v, uint64_t address, struct cpython_arenas *a)
{
	size_t count = sizeof(cpython_geometries) / sizeof(cpython_geometries[0]);

	for (size_t i = 0; i < count; i++) {
		struct reading r = { .v = v, .geometry = &cpython_geometries[i], .table = address, .a = a };
		int rc;

		if (a->geometry && a->geometry != r.geometry)
			continue;
		rc = try_geometry(&r);
		if (rc < 0)
			return rc;
		if (rc == 1) {
			a->geometry = r.geometry;
			a->torn += r.torn;
			a->table_count++;
			return 1;
		}
	}
	return 0;
}
