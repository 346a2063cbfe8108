/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Blocks with mappings of their own, and stretches of the main heap that were mmapped because the break could not grow.
 *
 * Any anonymous mapping may begin with bytes that look like such a block, so mp_ has the last word: its count and sum decide how
 * many there are; what it does not vouch for is dropped, what it knows and was not found is a gap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"

#include "glibc.h"

#define BLOCKS_MAX 131072
#define PROBES_MAX 262144 /* pages looked at where the chain of a mapping ends early */
#define PROBES_AT_ONCE 256

/* The size of the mapped block whose mapping begins at address; 0: none. */
static uint64_t block_at(struct glibc_walk *w, uint64_t address, uint64_t end)
{
	const uint8_t *p = glibc_reader_peek(&w->reader, address, CHUNK_HEADER);
	uint64_t before, head, bytes;

	if (!p)
		return 0;
	/* memalign leaves the first header as it was, with the size of the whole */
	before = glibc_load(p);
	head = glibc_load(p + 8);
	bytes = (head & ~CHUNK_FLAGS) + w->g->layout->mmap_extra;
	if (before > (w->g->layout->mmap_extra ? 1 : 0) || (head & CHUNK_FLAGS) != CHUNK_MMAPPED ||
	    bytes < GLIBC_PAGE || bytes % GLIBC_PAGE != 0 || bytes > end - address)
		return 0;
	return bytes;
}

#define FAR_PAGES 16 /* how far behind the start of its mapping an aligned block's header is looked for */

/*
 * A memalign'd block that realloc() changed: the first header is stale, its own stands further in and says how far. Alignments up
 * to a page put it into the first page, larger ones right before a page.
 */
static uint64_t aligned_block_at(struct glibc_walk *w, uint64_t address, uint64_t end)
{
	for (uint64_t o = 16; o < FAR_PAGES * GLIBC_PAGE && o < end - address;
	     o += o < GLIBC_PAGE - 16 ? 16 : GLIBC_PAGE) {
		const uint8_t *p = glibc_reader_peek(&w->reader, address + o, CHUNK_HEADER);
		uint64_t head = p ? glibc_load(p + 8) : 0;
		uint64_t bytes = o + (head & ~CHUNK_FLAGS) + w->g->layout->mmap_extra;

		if (p && glibc_load(p) == o && (head & CHUNK_FLAGS) == CHUNK_MMAPPED && bytes % GLIBC_PAGE == 0 &&
		    bytes > o && bytes <= end - address)
			return bytes;
	}
	return 0;
}

/* Where the committed part of a thread heap covers address: its end. */
static uint64_t heap_over(struct glibc_walk *w, uint64_t address)
{
	uint64_t heap, owner, size;

	if (!w->g->heap_max)
		return 0;
	heap = address & ~(w->g->heap_max - 1);
	if (!glibc_reader_peek_u64(&w->reader, heap, &owner) || !glibc_arena_at(w, owner) ||
	    !glibc_reader_peek_u64(&w->reader, heap + 16, &size) || size > w->g->heap_max || size < GLIBC_PAGE)
		return 0;
	return heap + size > address ? glibc_align_up(heap + size, GLIBC_PAGE) : 0;
}

static int add_block(struct glibc_walk *w, uint64_t address, uint64_t bytes)
{
	int rc;

	if (w->block_count == BLOCKS_MAX)
		return 0;
	rc = vec_reserve(&w->blocks, &w->block_cap, w->block_count + 1, sizeof(*w->blocks));
	if (rc < 0)
		return rc;
	w->blocks[w->block_count++] = (struct glibc_block){ address, bytes, false };
	return 0;
}

/* A stretch of the main heap at address? Walks it; *ret_end is its end, 0 where there is none. */
static int try_stretch(struct glibc_walk *w, struct glibc_arena *a, uint64_t address, uint64_t end, uint64_t *ret_end)
{
	bool has_top = a->top >= address && a->top < end;
	struct glibc_span s = { address, has_top ? a->top + a->top_bytes : end, a, has_top, 0 };
	uint64_t left = a->system_mem > w->main_covered ? a->system_mem - w->main_covered : 0, head;
	struct glibc_tally before = w->tally;
	uint64_t skipped = a->skipped_bytes;
	int rc;

	*ret_end = 0;
	for (size_t i = 0; i < w->stretch_count; i++) {
		if (w->stretches[i].start == address) { /* in an earlier round */
			*ret_end = w->stretches[i].end;
			return 0;
		}
	}
	if (w->stretch_count == GLIBC_STRETCHES || left < GLIBC_PAGE ||
	    !glibc_reader_peek_u64(&w->reader, address + 8, &head) || !(head & CHUNK_PREV_IN_USE) ||
	    !glibc_chain_holds(w, &s, address))
		return 0;
	rc = glibc_walk_span(w, &s);
	if (rc < 0)
		return rc;
	if (s.finish - address > left) { /* more than the arena ever took: not its own */
		w->tally = before;
		if (w->options->picks)
			heap_picks_drop(w->options->picks, address, s.finish);
		w->stats.skipped_bytes -= a->skipped_bytes - skipped;
		a->skipped_bytes = skipped;
		return 0;
	}
	a->heap_count++;
	w->main_covered += s.finish - address;
	*ret_end = glibc_align_up(s.finish, GLIBC_PAGE);
	w->stretches[w->stretch_count++] = (struct mem_range){ address, *ret_end };
	return 0;
}

static int by_place(const void *a, const void *b)
{
	const struct glibc_block *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

/* The next place after at where a block was last time; end: none. The kernel merges mappings, so a region's start is not all. */
static uint64_t next_hint(const struct glibc *g, uint64_t at, uint64_t end)
{
	size_t low = 0, high = g->block_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (g->blocks[middle] <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low < g->block_count && g->blocks[low] < end ? g->blocks[low] : end;
}

/* The next present page after at whose first words could be a header; end: none. Many pages a call: they are most of the cost. */
static uint64_t next_header(struct glibc_walk *w, uint64_t at, uint64_t end, uint64_t *probes)
{
	uint64_t heads[PROBES_AT_ONCE][2], range_end = 0;
	struct mem_piece pieces[PROBES_AT_ONCE];

	at = (at & ~(GLIBC_PAGE - 1)) + GLIBC_PAGE;
	while (at<end && * probes> 0) {
		size_t n = 0;
		int rc = glibc_reader_present(&w->reader, at, end, &range_end);

		if (rc < 0)
			break;
		if (rc == 0) {
			at = range_end;
			continue;
		}
		for (; n < PROBES_AT_ONCE && n < *probes && at + n * GLIBC_PAGE < range_end; n++)
			pieces[n] = (struct mem_piece){ at + n * GLIBC_PAGE, heads[n], sizeof(heads[n]), 0 };
		*probes -= n;
		if (mem_read_batch(w->mem, pieces, n) < 0)
			break;
		for (size_t i = 0; i < n; i++) {
			uint64_t flags = heads[i][1] & CHUNK_FLAGS, size = heads[i][1] & ~CHUNK_FLAGS;

			/* the size may be stale, see aligned_block_at() */
			if (pieces[i].done == sizeof(heads[i]) && size >= CHUNK_MIN &&
			    (flags == CHUNK_MMAPPED || flags == CHUNK_PREV_IN_USE))
				return pieces[i].address;
		}
		at += n * GLIBC_PAGE;
	}
	return end;
}

/* One anonymous region: from its start, from where blocks were last time, or page by page. */
static int parse_region(struct glibc_walk *w, struct glibc_arena *a, const struct region *r, int round,
			uint64_t *probes)
{
	size_t first = w->block_count;
	uint64_t at = r->start;
	bool whole = true;
	int rc;

	while (at < r->end) {
		uint64_t step = round > 0 ? aligned_block_at(w, at, r->end) : 0, end = 0;

		if (!step)
			step = block_at(w, at, r->end);
		if (step) {
			rc = add_block(w, at, step);
			if (rc < 0)
				return rc;
			at += step;
			continue;
		}
		end = heap_over(w, at);
		if (!end && (a->noncontiguous || !a->reached_top || w->stretch_count)) {
			rc = try_stretch(w, a, at, r->end, &end);
			if (rc < 0)
				return rc;
		}
		if (end <= at) {
			whole = false;
			end = round > 1 ? next_header(w, at, r->end, probes) : next_hint(w->g, at, r->end);
		}
		at = end;
	}
	for (size_t i = first; i < w->block_count; i++)
		w->blocks[i].strong = whole;
	return 0;
}

/* For the next walk. */
static void remember_blocks(struct glibc_walk *w)
{
	uint64_t *grown = realloc(w->g->blocks, (w->block_count + 1) * sizeof(*grown));

	if (!grown)
		return;
	w->g->blocks = grown;
	w->g->block_count = w->block_count;
	qsort(w->blocks, w->block_count, sizeof(*w->blocks), by_place);
	for (size_t i = 0; i < w->block_count; i++)
		grown[i] = w->blocks[i].address;
}

static uint64_t block_bytes(const struct glibc_walk *w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->block_count; i++)
		sum += w->blocks[i].bytes;
	return sum;
}

static int parse_all(struct glibc_walk *w, struct glibc_arena *a, int round)
{
	uint64_t probes = PROBES_MAX;

	w->block_count = 0;
	for (size_t i = 0; i < w->region_count; i++) {
		const struct region *r = &w->regions[i];
		bool ours = r->inode == 0 && (r->class == REGION_ANON || r->class == REGION_HEAP) &&
			    (r->flags & (REGION_READ | REGION_WRITE | REGION_SHARED)) == (REGION_READ | REGION_WRITE);
		int rc;

		if (!ours || (r->class == REGION_HEAP && a->heap_count > 0))
			continue;
		rc = parse_region(w, a, r, round, &probes);
		if (rc < 0)
			return rc;
		if (w->block_count == w->n_mmaps && block_bytes(w) == w->mmapped_mem && (a->reached_top || !a->top) &&
		    (!a->noncontiguous || w->main_covered >= a->system_mem))
			break;
	}
	return 0;
}

static int by_size(const void *a, const void *b)
{
	const struct glibc_block *x = a, *y = b;

	return x->bytes != y->bytes ? (x->bytes < y->bytes ? -1 : 1) : x->strong - y->strong;
}

static size_t run_length(const struct glibc_walk *w, size_t first)
{
	size_t n = 1;

	while (first + n < w->block_count && w->blocks[first + n].bytes == w->blocks[first].bytes)
		n++;
	return n;
}

static void drop_at(struct glibc_walk *w, size_t at, size_t n)
{
	memmove(&w->blocks[at], &w->blocks[at + n], (w->block_count - at - n) * sizeof(*w->blocks));
	w->block_count -= n;
}

/*
 * Sorted by size: is there a size, or are there two, of which `surplus` blocks make up `over` bytes? Drops them. Programs that
 * map memory of their own do so in few sizes.
 */
static bool drop_exactly(struct glibc_walk *w, uint64_t surplus, uint64_t over)
{
	size_t steps = 0;

	for (size_t i = 0; i < w->block_count; i += run_length(w, i)) {
		uint64_t small = w->blocks[i].bytes;

		if (run_length(w, i) >= surplus && surplus * small == over) {
			drop_at(w, i, (size_t)surplus);
			return true;
		}
		for (size_t j = i + run_length(w, i); j < w->block_count && steps < 1000000;
		     j += run_length(w, j), steps++) {
			uint64_t large = w->blocks[j].bytes, rest, many;

			if (surplus * small > over || (over - surplus * small) % (large - small) != 0)
				continue;
			many = (over - surplus * small) / (large - small); /* of the large ones */
			rest = surplus - many;
			if (many > surplus || many > run_length(w, j) || rest > run_length(w, i))
				continue;
			drop_at(w, j, (size_t)many);
			drop_at(w, i, (size_t)rest);
			return true;
		}
	}
	return false;
}

/* More than mp_ vouches for: those that make the sum right go, else weak ones. */
static void drop_surplus(struct glibc_walk *w)
{
	qsort(w->blocks, w->block_count, sizeof(*w->blocks), by_size);
	while (w->block_count > w->n_mmaps) {
		uint64_t sum = block_bytes(w);
		size_t victim = 0;

		if (sum > w->mmapped_mem && drop_exactly(w, w->block_count - w->n_mmaps, sum - w->mmapped_mem))
			return;
		while (victim + 1 < w->block_count && w->blocks[victim].strong)
			victim++;
		drop_at(w, victim, 1);
	}
}

static void count_block(struct glibc_walk *w, const struct glibc_block *b)
{
	size_t index = heap_class_index(b->bytes);
	struct heap_picks *picks = w->options->picks;
	uint64_t hash = picks ? heap_pick_hash(b->address, picks->salt) : UINT64_MAX;

	w->total.blocks[1][index]++;
	if (index >= HEAP_SMALL_CLASSES)
		w->total.bytes[1][index] += b->bytes;
	if (picks && hash < picks->below[index])
		heap_picks_add(picks, index, b->address, b->bytes, hash);
	glibc_found_block(w, b->address, b->bytes, true);
}

int glibc_walk_mappings(struct glibc_walk *w, struct glibc_arena *a)
{
	bool pieces = a->top && (!a->reached_top || (a->noncontiguous && w->main_covered < a->system_mem));
	uint64_t sum;
	int rc;

	glibc_read_par(w);
	if (w->n_mmaps == 0 && !pieces)
		return 0;
	/* each round knows more ways to find a block, and costs more */
	for (int round = 0; round < 3; round++) {
		rc = parse_all(w, a, round);
		if (rc < 0)
			return rc;
		glibc_read_par(w);
		if (w->block_count >= w->n_mmaps && block_bytes(w) >= w->mmapped_mem && (a->reached_top || !a->top))
			break;
	}
	if (w->block_count) {
		drop_surplus(w);
		remember_blocks(w);
	}
	sum = block_bytes(w);
	for (size_t i = 0; i < w->block_count; i++)
		count_block(w, &w->blocks[i]);
	w->stats.mmapped_blocks = w->block_count;
	w->stats.mmapped_bytes = sum;
	if (sum < w->mmapped_mem) {
		w->stats.skipped_bytes += w->mmapped_mem - sum;
		w->stats.mapped_bytes += w->mmapped_mem - sum;
		w->stats.complete = false;
	}
	return 0;
}
