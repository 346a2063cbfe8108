/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Single addresses that the caller follows from walk to walk: which chunk holds them, and is it in use? */
#include "glibc.h"

#define BATCH 64
#define CONTENT_BYTES 64
#define GROWN_MAX (64ULL << 20)

/* Index of the first wanted address at from or behind it. */
static size_t first_at(const struct glibc_walk *w, uint64_t from)
{
	size_t low = 0, high = w->options->block_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (w->options->blocks[mid].address < from)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t glibc_next_wanted(const struct glibc_walk *w, uint64_t from)
{
	size_t i = first_at(w, from);

	return i < w->options->block_count ? w->options->blocks[i].address : UINT64_MAX;
}

void glibc_found_block(struct glibc_walk *w, uint64_t start, uint64_t size, bool in_use)
{
	for (size_t i = first_at(w, start); i < w->options->block_count; i++) {
		struct heap_block *b = &w->options->blocks[i];

		if (b->address - start >= size)
			return;
		b->start = start;
		b->size = size;
		b->state = in_use ? HEAP_BLOCK_IN_USE : HEAP_BLOCK_FREE;
	}
}

struct look { /* what is read of one block */
	uint64_t next_head;
	uint64_t head; /* in one piece with the data */
	uint8_t data[CONTENT_BYTES];
};

/*
 * One byte a word: 0 behind the end of the block, 1 for a word of zeros, else a hash, another one at each place: blocks filled with one
 * byte differ in all of them or in none.
 */
static uint64_t content_of(const uint8_t *data, size_t len)
{
	uint64_t content = 0;

	for (size_t i = 0; i < len / 8; i++) {
		uint64_t word = glibc_load(data + 8 * i);
		uint64_t mixed = ((word ^ word >> 32) + i * 0xbf58476d1ce4e5b9ULL) * 0x9e3779b97f4a7c15ULL;
		uint64_t byte = word ? 2 + ((mixed ^ mixed >> 29) >> 32) % 254 : 1;

		content |= byte << (8 * i);
	}
	return content;
}

/* Begins with the header of a block with a mapping of its own: nothing lies behind it. */
static bool is_mapped(const struct glibc *g, const struct heap_block *b, uint64_t head)
{
	return (head & CHUNK_FLAGS) == CHUNK_MMAPPED && b->start % GLIBC_PAGE == 0 &&
	       (head & ~CHUNK_FLAGS) + g->layout->mmap_extra == b->size;
}

static void judge(const struct glibc *g, struct heap_block *b, const struct mem_piece pieces[2],
		  const struct look *look)
{
	bool known = pieces[0].done >= sizeof(look->head), mapped = known && is_mapped(g, b, look->head);

	if (!known || (!mapped && pieces[1].done != pieces[1].len))
		return; /* paged out or gone: the next walk will tell */
	if (!mapped && ((look->head & ~CHUNK_FLAGS) != b->size || !(look->next_head & CHUNK_PREV_IN_USE)))
		b->state = HEAP_BLOCK_FREE;
	else if (pieces[0].done == pieces[0].len)
		b->content = content_of(look->data, pieces[0].len - sizeof(look->head));
}

/* The time goes by pieces, not by bytes: two a block. */
int glibc_recheck(struct heap_walker *walker, struct mem *mem, struct heap_block *blocks, size_t count)
{
	struct mem_piece pieces[2 * BATCH];
	struct look looks[BATCH];

	for (size_t from = 0; from < count; from += BATCH) {
		size_t n = count - from < BATCH ? count - from : BATCH;
		int rc;

		for (size_t i = 0; i < n; i++) {
			const struct heap_block *b = &blocks[from + i];
			size_t room = b->size - 8; /* a block reaches 8 bytes into the next chunk's header */

			pieces[2 * i] = (struct mem_piece){ b->start + 8, &looks[i].head,
							    8 + (room < CONTENT_BYTES ? room : CONTENT_BYTES), 0 };
			pieces[2 * i + 1] = (struct mem_piece){ b->start + b->size + 8, &looks[i].next_head, 8, 0 };
		}
		rc = mem_read_batch(mem, pieces, 2 * n);
		if (rc < 0)
			return rc;
		for (size_t i = 0; i < n; i++)
			judge(walker->arg, &blocks[from + i], &pieces[2 * i], &looks[i]);
	}
	return 0;
}

static bool reaches(struct mem *mem, uint64_t start, uint64_t end, struct heap_block *ret)
{
	uint64_t head, next_head, size;

	if (start % 16 != 0 || start >= end || end - start > GROWN_MAX || mem_read_u64(mem, start + 8, &head) < 0)
		return false;
	size = head & ~CHUNK_FLAGS;
	/* A rest too small for a chunk may be left behind the block: it can end up to 32 bytes before the old end. */
	if ((head & 10) || size < CHUNK_MIN || size > 2 * GROWN_MAX || start + size + CHUNK_MIN <= end ||
	    mem_read_u64(mem, start + size + 8, &next_head) < 0 || !(next_head & CHUNK_PREV_IN_USE))
		return false;
	*ret = (struct heap_block){ .address = start, .start = start, .size = size, .state = HEAP_BLOCK_IN_USE };
	return true;
}

/* sysmalloc() keeps the old top, which becomes the block, in a register or on its stack while it asks for more. */
int glibc_grown_block(struct heap_walker *walker, struct mem *mem, uint64_t end, const uint64_t *candidates,
		      size_t count, struct heap_block *ret)
{
	(void)walker;
	for (size_t i = 0; i < count; i++)
		if (reaches(mem, candidates[i], end, ret))
			return 1;
	return 0;
}
