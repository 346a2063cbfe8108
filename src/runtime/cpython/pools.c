/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pools of all arenas: 48 bytes of each, in batches. struct pool_header { count u32, pad; freeblock; nextpool; prevpool; arenaindex u32;
 * szidx u32; nextoffset u32; maxnextoffset u32 }, blocks behind it. A pool of count 0 is free, whatever else its header says.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpython.h"

#define HEADER 48
#define ALIGNMENT 16U
#define SIZE_CLASSES 32U
#define BATCH 1024
#define RANGES 64
#define PINNED_BELOW 20 /* arenas of which less than one in so many bytes is in use */

int cpython_parse_pool(const uint8_t header[48], uint64_t address, const struct cpython_geometry *g,
		       struct cpython_pool *ret)
{
	uint32_t count = cpython_load32(header), class = cpython_load32(header + 36);
	uint32_t next = cpython_load32(header + 40), max = cpython_load32(header + 44), size, room;
	uint64_t free_block = cpython_load64(header + 8);

	if (count == 0) {
		*ret = (struct cpython_pool){ .index = cpython_load32(header + 32) };
		return 0;
	}
	if (class >= SIZE_CLASSES)
		return -1;
	size = (class + 1) * ALIGNMENT;
	room = (uint32_t)g->pool_bytes - HEADER;
	if (max != g->pool_bytes - size || next <= HEADER || next > max + size || (next - HEADER) % size != 0 ||
	    count > room / size || count > (next - HEADER) / size)
		return -1;
	if (free_block && (free_block < address + HEADER || free_block >= address + g->pool_bytes ||
			   (free_block - address - HEADER) % size != 0))
		return -1;
	*ret = (struct cpython_pool){ count, size, room / size, cpython_load32(header + 32) };
	return 1;
}

struct tally { /* of one arena */
	uint64_t in_use_bytes, pools;
	bool has_gaps; /* pools that were not read, or not understood */
};

struct pass {
	const struct cpython_view *v;
	const struct cpython_arenas *arenas;
	struct tally *tallies;
	struct mem_piece pieces[BATCH];
	uint8_t headers[BATCH][HEADER];
	size_t owners[BATCH];
	size_t queued;
	struct cpython_pools sum;
};

static int flush(struct pass *p)
{
	int rc = mem_read_batch(p->v->mem, p->pieces, p->queued);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < p->queued; i++) {
		struct tally *t = &p->tallies[p->owners[i]];
		struct cpython_pool pool = { 0 };
		int kind;

		if (p->pieces[i].done < HEADER) {
			p->sum.absent++;
			t->has_gaps = true;
			continue;
		}
		kind = cpython_parse_pool(p->headers[i], p->pieces[i].address, p->arenas->geometry, &pool);
		if (kind < 0 || (kind == 1 && pool.index != p->arenas->items[p->owners[i]].index)) {
			p->sum.torn++;
			t->has_gaps = true;
			continue;
		}
		if (kind == 0)
			continue;
		p->sum.blocks += pool.count;
		p->sum.in_use_bytes += (uint64_t)pool.count * pool.size;
		p->sum.pool_free_bytes += (uint64_t)(pool.capacity - pool.count) * pool.size;
		t->in_use_bytes += (uint64_t)pool.count * pool.size;
	}
	p->queued = 0;
	return 0;
}

/* The pools of arena i whose headers stand in [start, end). */
static int queue(struct pass *p, size_t i, uint64_t start, uint64_t end)
{
	const struct cpython_arena *a = &p->arenas->items[i];
	uint64_t step = p->arenas->geometry->pool_bytes;
	uint64_t at = start <= a->pools ? a->pools : cpython_align_up(start, step);

	for (; at < end && at < a->carved; at += step) {
		if (p->queued == BATCH) {
			int rc = flush(p);

			if (rc < 0)
				return rc;
		}
		p->pieces[p->queued] = (struct mem_piece){ at, p->headers[p->queued], HEADER, 0 };
		p->owners[p->queued++] = i;
		p->tallies[i].pools++;
	}
	return 0;
}

/* A present range: *at is the first arena that could reach into it. */
static int visit_range(struct pass *p, size_t *at, size_t last, uint64_t start, uint64_t end)
{
	while (*at < last && p->arenas->items[*at].end <= start)
		(*at)++;
	for (size_t i = *at; i < last && p->arenas->items[i].address < end; i++) {
		const struct cpython_arena *a = &p->arenas->items[i];
		int rc = queue(p, i, start > a->address ? start : a->address, end < a->end ? end : a->end);

		if (rc < 0)
			return rc;
	}
	if (p->sum.resident_bytes != UNKNOWN_U64)
		p->sum.resident_bytes += end - start;
	return 0;
}

/* Arenas [first, last), which lie side by side: asking what is present costs by questions. */
static int visit_run(struct pass *p, size_t first, size_t last)
{
	uint64_t at = p->arenas->items[first].address, end = p->arenas->items[last - 1].end;
	size_t arena = first;

	while (at < end) {
		struct mem_range ranges[RANGES];
		uint64_t next = end;
		ssize_t n = mem_present(p->v->mem, at, end, ranges, RANGES, &next);

		if (n == -ESRCH)
			return (int)n;
		if (n < 0) { /* what is resident is not to be told: only what was used before is read */
			p->sum.resident_bytes = UNKNOWN_U64;
			ranges[0] = (struct mem_range){ at, end };
			n = 1;
			next = end;
		}
		for (ssize_t r = 0; r < n; r++) {
			uint64_t from = ranges[r].start > at ? ranges[r].start : at;
			uint64_t to = ranges[r].end < end ? ranges[r].end : end;
			int rc = from < to ? visit_range(p, &arena, last, from, to) : 0;

			if (rc < 0)
				return rc;
		}
		if (next <= at)
			break;
		at = next;
	}
	return 0;
}

static int visit_all(struct pass *p)
{
	const struct cpython_arena *items = p->arenas->items;

	for (size_t i = 0, next; i < p->arenas->count; i = next) {
		int rc;

		for (next = i + 1; next < p->arenas->count && items[next].address == items[next - 1].end; next++)
			;
		rc = visit_run(p, i, next);
		if (rc < 0)
			return rc;
	}
	return flush(p);
}

/* What was there to be met. */
static void count_expected(struct pass *p)
{
	for (size_t i = 0; i < p->arenas->count; i++) {
		const struct cpython_arena *a = &p->arenas->items[i];
		uint64_t expected = (a->carved - a->pools) / p->arenas->geometry->pool_bytes;

		p->sum.mapped_bytes += a->end - a->address;
		p->sum.pools += expected;
		if (p->tallies[i].pools < expected) {
			p->sum.absent += expected - p->tallies[i].pools;
			p->tallies[i].has_gaps = true;
		}
	}
}

static void judge(struct pass *p)
{
	struct cpython_pools *s = &p->sum;

	for (size_t i = 0; i < p->arenas->count; i++) {
		const struct cpython_arena *a = &p->arenas->items[i];
		const struct tally *t = &p->tallies[i];
		uint64_t bytes = a->end - a->address;

		/* an arena that is still being cut into pools is new, not pinned */
		if (t->has_gaps || t->in_use_bytes == 0 || t->in_use_bytes >= bytes / PINNED_BELOW ||
		    a->carved + p->arenas->geometry->pool_bytes <= a->end)
			continue;
		s->pinned++;
		s->pinned_bytes += bytes - t->in_use_bytes;
	}
	/* 1 % of torn pools: the target is busy. Of those that are paged out it is not known what is in use. */
	s->valid = s->torn <= 2 + s->pools / 100 && s->absent * 200 <= s->pools &&
		   p->arenas->torn <= 1 + p->arenas->count / 100 && s->torn < s->pools;
}

int cpython_read_pools(const struct cpython_view *v, struct cpython_arenas *a, struct cpython_pools *ret)
{
	struct pass *p = calloc(1, sizeof(*p));
	struct tally *tallies = calloc(a->count + 1, sizeof(*tallies));
	int rc = p && tallies ? 0 : -ENOMEM;

	if (rc == 0) {
		p->v = v;
		p->arenas = a;
		p->tallies = tallies;
		rc = visit_all(p);
	}
	if (rc == 0) {
		count_expected(p);
		judge(p);
		*ret = p->sum;
	}
	free(tallies);
	free(p);
	return rc;
}
