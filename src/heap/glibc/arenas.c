/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Arenas: the ring, the heaps of each, and the main heap's stretch of the break. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"

#include "glibc.h"

#define HEAPS_MAX 65536
#define MALLOC_STATE_MAX 2200

int glibc_read_arena(struct mem *mem, const struct glibc *g, uint64_t address, struct glibc_arena *ret)
{
	const struct glibc_layout *l = g->layout;
	uint8_t raw[MALLOC_STATE_MAX];
	struct glibc_arena a = { .address = address, .is_main = address == g->main_arena };
	uint64_t size = 0;
	int rc;

	rc = mem_read_exact(mem, address, raw, l->size);
	if (rc < 0)
		return rc == -EFAULT ? -EAGAIN : rc;
	a.noncontiguous = glibc_load32(raw + 4) & GLIBC_NONCONTIGUOUS;
	a.top = glibc_load(raw + l->top);
	a.system_mem = glibc_load(raw + l->system_mem);
	if (glibc_load(raw + l->next) == 0 || a.top % 16 != 0 || a.system_mem > glibc_load(raw + l->system_mem + 8) ||
	    a.system_mem >> 47)
		return -EAGAIN;
	for (int i = 0; l->fastbins >= 0 && i < GLIBC_FASTBINS; i++)
		a.fastbins[i] = glibc_load(raw + l->fastbins + 8 * i);
	/* before the first request the top is the empty unsorted bin */
	if (a.top == address + l->bins - CHUNK_HEADER)
		a.top = 0;
	if (a.top) {
		rc = mem_read_u64(mem, a.top + 8, &size);
		if (rc == -ESRCH)
			return rc;
		/* the top moves while it is read: then its size is read again when it is needed */
		size &= ~CHUNK_FLAGS;
		a.top_bytes =
			rc == 0 && size >= 16 && size <= a.system_mem && (a.top + size) % GLIBC_PAGE == 0 ? size : 0;
	}
	*ret = a;
	return 0;
}

int glibc_refresh_top(struct glibc_walk *w, struct glibc_arena *a)
{
	struct glibc_arena now;

	/* top and its size are two reads: a third look that agrees with the first says that they belong together */
	for (int i = 0; i < 32; i++) {
		uint64_t top;

		if (glibc_read_arena(w->mem, w->g, a->address, &now) == 0 && now.top_bytes != 0 &&
		    mem_read_u64(w->mem, a->address + w->g->layout->top, &top) == 0 && top == now.top) {
			a->top = now.top;
			a->top_bytes = now.top_bytes;
			a->system_mem = now.system_mem;
			return 0;
		}
	}
	return -EAGAIN;
}

/* The heads as they are when the loop begins: they go with the links that the loop sees. */
static void refresh_fastbins(struct glibc_walk *w, struct glibc_arena *a)
{
	if (w->g->layout->fastbins >= 0 &&
	    mem_read_exact(w->mem, a->address + (uint64_t)w->g->layout->fastbins, a->fastbins, sizeof(a->fastbins)) < 0)
		memset(a->fastbins, 0, sizeof(a->fastbins));
}

static int by_address(const void *a, const void *b)
{
	const struct glibc_arena *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* Thread arenas lie behind a heap header that names them: tells the header's size and how heaps are aligned. */
static void learn_heaps(struct glibc_walk *w, const struct glibc_arena *arenas, size_t count)
{
	unsigned int best = 0;

	for (size_t h = 0; h < 2; h++) {
		for (size_t m = 0; m < 3; m++) {
			unsigned int votes = 0;
			uint64_t max = glibc_heap_maxima[m], head = glibc_heap_headers[h], owner;

			for (size_t i = 0; i < count && i < 64; i++) {
				uint64_t a = arenas[i].address;

				if (arenas[i].is_main || (a - head) % max != 0 ||
				    !glibc_reader_peek_u64(&w->reader, a - head, &owner) || owner != a ||
				    !glibc_reader_peek_u64(&w->reader, arenas[i].top & ~(max - 1), &owner) ||
				    owner != a)
					continue;
				votes++;
			}
			if (votes > best) {
				best = votes;
				w->g->heap_max = max;
				w->g->heap_header = (uint32_t)head;
			}
		}
	}
}

int glibc_list_arenas(struct glibc_walk *w)
{
	uint64_t at = w->g->main_arena;
	int rc;

	w->g->ring_count = 0;
	do {
		struct glibc_arena a;

		if (w->arena_count == GLIBC_ARENAS_MAX) {
			w->arenas_cut = true;
			break;
		}
		rc = glibc_read_arena(w->mem, w->g, at, &a);
		for (int i = 0; i < 8 && rc == -EAGAIN; i++)
			rc = glibc_read_arena(w->mem, w->g, at, &a);
		if (rc < 0 && (rc != -EAGAIN || at == w->g->main_arena))
			return rc;
		if (rc < 0) {
			w->arenas_cut = true;
			break;
		}
		rc = vec_reserve(&w->arenas, &w->arena_cap, w->arena_count + 1, sizeof(*w->arenas));
		if (rc < 0)
			return rc;
		w->arenas[w->arena_count++] = a;
		if (w->g->ring_count < GLIBC_HEADROOM_ARENAS)
			w->g->ring[w->g->ring_count++] = at;
		rc = mem_read_u64(w->mem, at + w->g->layout->next, &at);
		if (rc < 0)
			return rc;
	} while (at != w->g->main_arena && at != 0);
	if (w->arena_count > 1 && !w->g->heap_max)
		learn_heaps(w, w->arenas, w->arena_count);
	qsort(w->arenas, w->arena_count, sizeof(*w->arenas), by_address);
	return 0;
}

struct glibc_arena *glibc_arena_at(struct glibc_walk *w, uint64_t address)
{
	struct glibc_arena key = { .address = address };

	return w->arena_count ? bsearch(&key, w->arenas, w->arena_count, sizeof(key), by_address) : NULL;
}

struct glibc_arena *glibc_arena_of_chunk(struct glibc_walk *w, uint64_t chunk, uint64_t head)
{
	uint64_t owner;

	if (!(head & CHUNK_NON_MAIN))
		return glibc_arena_at(w, w->g->main_arena);
	if (!w->g->heap_max || !glibc_reader_peek_u64(&w->reader, chunk & ~(w->g->heap_max - 1), &owner))
		return NULL;
	return glibc_arena_at(w, owner);
}

/* First chunk of a heap: in an arena's first heap malloc_state lies before it. */
static uint64_t first_chunk(const struct glibc *g, const struct glibc_arena *a, uint64_t heap)
{
	uint64_t first = heap + g->heap_header;

	if (first == a->address)
		first += g->layout->size;
	return glibc_align_up(first, 16);
}

int glibc_walk_heaps(struct glibc_walk *w, struct glibc_arena *a)
{
	const struct glibc *g = w->g;
	uint64_t heap, known = 0;

	if (!g->heap_max || !a->top)
		return -EAGAIN;
	refresh_fastbins(w, a);
	heap = a->top & ~(g->heap_max - 1);
	for (bool top = true; heap && a->heap_count < HEAPS_MAX; top = false) {
		uint64_t head[3]; /* ar_ptr, prev, size */
		struct glibc_span s;
		int rc = mem_read_exact(w->mem, heap, head, sizeof(head));

		if (rc == -ESRCH)
			return rc;
		if (rc < 0 || head[0] != a->address || head[2] > g->heap_max || head[2] % GLIBC_PAGE != 0 ||
		    head[2] <= g->heap_header || head[1] % g->heap_max != 0 || head[1] == heap)
			return -EAGAIN;
		known += head[2];
		a->heap_count++;
		s = (struct glibc_span){ first_chunk(g, a, heap), heap + head[2], a, top, 0 };
		if (top)
			a->top_bytes = s.end - a->top;
		rc = glibc_walk_span(w, &s);
		if (rc < 0)
			return rc;
		if (heap + g->heap_header == a->address || known > a->system_mem + g->heap_max)
			break;
		heap = head[1];
	}
	return 0;
}

/* The end of the readable stretch that begins at address. */
static uint64_t stretch_end(const struct glibc_walk *w, uint64_t address)
{
	const struct region *r = region_find(w->regions, w->region_count, address);
	const struct region *end = w->regions + w->region_count;
	uint64_t to = 0;

	for (; r && r < end && (!to || r->start == to) && (r->flags & REGION_WRITE) && r->inode == 0; r++)
		to = r->end;
	return to;
}

static uint64_t main_start(const struct glibc_walk *w)
{
	if (w->sbrk_base && region_find(w->regions, w->region_count, w->sbrk_base))
		return glibc_align_up(w->sbrk_base, 16);
	for (size_t i = 0; i < w->region_count; i++)
		if (w->regions[i].class == REGION_HEAP)
			return w->regions[i].start;
	return 0;
}

/* Stretches of the break, one behind the other: foreign code may have taken pieces in between. */
int glibc_walk_main(struct glibc_walk *w, struct glibc_arena *a)
{
	uint64_t start = main_start(w), end = start ? stretch_end(w, start) : 0;

	if (!a->top || !start)
		return 0;
	if (!a->top_bytes && glibc_refresh_top(w, a) < 0)
		return 0;
	refresh_fastbins(w, a);
	while (start && start < end) {
		bool has_top = a->top >= start && (a->top < end || a->top + a->top_bytes <= end + GLIBC_PAGE);
		struct glibc_span s = { start, has_top ? a->top + a->top_bytes : end, a, has_top, 0 };
		int rc = glibc_walk_span(w, &s);

		if (rc < 0)
			return rc;
		a->heap_count++;
		w->main_covered += s.finish - start;
		if (a->reached_top || s.finish >= s.end || s.finish <= start)
			break;
		/* what lies between belongs to others; the kernel's break has grown meanwhile, perhaps */
		start = glibc_resync(w, &s, s.finish);
		if (start)
			w->main_covered += start - s.finish;
	}
	return 0;
}

void glibc_close_arena(struct glibc_walk *w, struct glibc_arena *a)
{
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		for (int used = 0; used < 2; used++) {
			uint64_t blocks = w->tally.blocks[used][i];
			uint64_t bytes = i < HEAP_SMALL_CLASSES ? blocks * (i * 16) : w->tally.bytes[used][i];

			if (used) {
				a->in_use_blocks += blocks;
				a->in_use_bytes += bytes;
			} else {
				a->free_blocks += blocks;
				a->free_bytes += bytes;
			}
			w->total.blocks[used][i] += blocks;
			w->total.bytes[used][i] += bytes;
		}
	}
	if (a->top) {
		a->free_blocks++;
		a->free_bytes += a->top_bytes;
	}
	w->total.whole_pages_bytes += w->tally.whole_pages_bytes;
	w->total.absent_bytes += w->tally.absent_bytes;
	if (w->tally.largest_free_bytes > w->total.largest_free_bytes)
		w->total.largest_free_bytes = w->tally.largest_free_bytes;
	memset(w->tally.blocks, 0, sizeof(w->tally.blocks));
	memset(w->tally.bytes, 0, sizeof(w->tally.bytes));
	w->tally.whole_pages_bytes = w->tally.absent_bytes = w->tally.largest_free_bytes = 0;
	glibc_count_fastbins(w, a);
}
