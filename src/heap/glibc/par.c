/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mp_: in the data of the same file as main_arena; known by the start of the break that it remembers and by sane limits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "glibc.h"

#define SCAN_MAX (4ULL << 20)

static bool sane(const struct glibc_par_layout *l, const uint8_t *p)
{
	uint64_t mapped = glibc_load(p + l->mmapped_mem);
	uint32_t n = glibc_load32(p + l->n_mmaps), n_max = glibc_load32(p + l->n_mmaps + 4),
		 most = glibc_load32(p + l->n_mmaps + 8);

	return n <= most && most <= INT32_MAX && n_max <= INT32_MAX && mapped % GLIBC_PAGE == 0 && mapped >> 47 == 0 &&
	       mapped <= glibc_load(p + l->mmapped_mem + 8) && glibc_load32(p + l->no_dyn_threshold) <= 1 &&
	       glibc_load(p + 16) >> 47 == 0 /* mmap_threshold */ &&
	       glibc_load(p + 24) <= UINT16_MAX /* arena_test */ && glibc_load(p + l->tcache_bins) <= 128 &&
	       glibc_load(p + l->tcache_max_bytes) <= 64ULL << 20 && glibc_load(p + l->tcache_count) <= UINT16_MAX &&
	       (!l->hp_pagesize || (glibc_load(p + l->hp_pagesize) & (glibc_load(p + l->hp_pagesize) - 1)) == 0);
}

/* How much the bytes look like mp_; 0: not at all. */
static unsigned int score(const struct glibc_par_layout *l, const uint8_t *p, const struct glibc_arena *a,
			  const struct region *regions, size_t count)
{
	uint64_t base = glibc_load(p + l->sbrk_base);
	unsigned int points = 1;

	if (!sane(l, p))
		return 0;
	if (a->top && !base)
		return 0;
	if (base) {
		const struct region *r = region_find(regions, count, base);

		if (!r || !(r->flags & REGION_WRITE) || r->inode != 0)
			return 0;
		points += r->class == REGION_HEAP ? 4 : 0;
		points += a->top && base + a->system_mem == a->top + a->top_bytes ? 8 : 0;
	}
	points += glibc_load32(p + l->n_mmaps + 4) == 65536;
	points += glibc_load(p + l->tcache_bins) == 64;
	points += glibc_load(p + l->tcache_count) == 7 || glibc_load(p + l->tcache_count) == 16;
	points += glibc_load(p + 24) == 8;           /* arena_test */
	points += glibc_load(p + 8) == 128ULL << 10; /* top_pad */
	points += glibc_load(p + 16) >= 128ULL << 10 && glibc_load(p + 16) <= 32ULL << 20;
	return points;
}

/* The data around main_arena: its region and those of the same file or joined to it. */
static void neighbourhood(const struct region *regions, size_t count, uint64_t address, uint64_t *ret_start,
			  uint64_t *ret_end)
{
	const struct region *r = region_find(regions, count, address), *first, *last;

	*ret_start = *ret_end = 0;
	if (!r)
		return;
	first = last = r;
	while (first > regions && first[-1].end == first->start && (first[-1].flags & REGION_WRITE) &&
	       first[-1].class != REGION_HEAP)
		first--;
	while (last + 1 < regions + count && last[1].start == last->end && (last[1].flags & REGION_WRITE) &&
	       last[1].class != REGION_HEAP)
		last++;
	*ret_start = first->start;
	*ret_end = last->end;
	if (address - *ret_start > SCAN_MAX)
		*ret_start = address - SCAN_MAX;
	if (*ret_end - address > SCAN_MAX)
		*ret_end = address + SCAN_MAX;
}

struct best {
	unsigned int points;
	uint64_t address, distance;
	const struct glibc_par_layout *layout;
};

static void try_bytes(const uint8_t *buf, size_t len, uint64_t address, const struct glibc_arena *a,
		      const struct region *regions, size_t count, struct best *best)
{
	for (size_t i = 0; i < glibc_par_layout_count; i++) {
		const struct glibc_par_layout *l = &glibc_par_layouts[i];

		for (size_t o = 0; o + l->size <= len; o += 8) {
			uint64_t at = address + o, distance = at > a->address ? at - a->address : a->address - at;
			unsigned int points;

			/* the cheapest test first: nearly everything fails it */
			if (glibc_load(buf + o + 24) - 1 >= UINT16_MAX)
				continue;
			points = score(l, buf + o, a, regions, count);
			if (points < 4 || points < best->points ||
			    (points == best->points && distance >= best->distance))
				continue;
			*best = (struct best){ points, at, distance, l };
		}
	}
}

int glibc_find_par(struct glibc *g, struct mem *mem, const struct region *regions, size_t count,
		   const struct glibc_arena *main_arena)
{
	struct best best = { 0 };
	struct mem_range ranges[64];
	uint64_t start, end;

	neighbourhood(regions, count, main_arena->address, &start, &end);
	while (start < end) {
		uint64_t next = 0;
		ssize_t n = mem_present(mem, start, end, ranges, 64, &next);

		if (n == -ENOTSUP || n == -EPERM) {
			ranges[0] = (struct mem_range){ start, end };
			n = 1;
			next = end;
		}
		if (n < 0 || next <= start)
			return n == -ESRCH ? (int)n : 0;
		for (ssize_t i = 0; i < n; i++) {
			size_t len = (size_t)(ranges[i].end - ranges[i].start);
			uint8_t *buf = malloc(len);
			ssize_t got = buf ? mem_read(mem, ranges[i].start, buf, len) : -ENOMEM;

			if (got > 0)
				try_bytes(buf, (size_t)got, ranges[i].start, main_arena, regions, count, &best);
			free(buf);
			if (got == -ESRCH || got == -ENOMEM)
				return (int)got;
		}
		start = next;
	}
	if (best.points) {
		g->par = best.layout;
		g->par_address = best.address;
	}
	return 0;
}

void glibc_read_par(struct glibc_walk *w)
{
	const struct glibc_par_layout *l = w->g->par;
	uint8_t raw[256];

	if (!l || mem_read_exact(w->mem, w->g->par_address, raw, l->size) < 0)
		return;
	w->sbrk_base = glibc_load(raw + l->sbrk_base);
	w->tcache_count = glibc_load(raw + l->tcache_count);
	w->n_mmaps = glibc_load32(raw + l->n_mmaps);
	w->mmapped_mem = glibc_load(raw + l->mmapped_mem);
}
