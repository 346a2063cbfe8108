/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Finding the next chunk where the chain is lost: by chunks that chain on from there, else by what the arena's lists name. */
#include <errno.h>
#include <string.h>

#include "glibc.h"

#define HOPS 12
#define SCAN_BYTES (4ULL << 20)

/* A fencepost at address: 16 bytes, then in the main arena 16 bytes again, in a thread heap a head of 0 at the very end. */
bool glibc_is_fence(struct glibc_walk *w, const struct glibc_span *s, uint64_t address, uint64_t *ret_end)
{
	uint64_t head, behind, size;

	if (address < s->start || address >= s->end || s->end - address < 2 * CHUNK_HEADER ||
	    !glibc_reader_peek_u64(&w->reader, address + 8, &head))
		return false;
	size = head & ~CHUNK_FLAGS;
	if (size != 16 && (s->arena->is_main || size != 32 || (head & CHUNK_NON_MAIN)))
		return false;
	if (s->end - address < size + 16 || !glibc_reader_peek_u64(&w->reader, address + size + 8, &behind))
		return false;
	if (s->arena->is_main ? behind != (16 | CHUNK_PREV_IN_USE) : behind > 7 || address + size + 16 != s->end)
		return false;
	*ret_end = address + size + 16;
	return true;
}

static bool sane_head(const struct glibc_span *s, uint64_t address, uint64_t head)
{
	return !(head & 10) && head >= CHUNK_MIN && s->end > address && (head & ~CHUNK_FLAGS) <= s->end - address;
}

bool glibc_chain_holds(struct glibc_walk *w, const struct glibc_span *s, uint64_t address)
{
	uint64_t flag = s->arena->is_main ? 0 : CHUNK_NON_MAIN, top = s->arena->top, head, fence_end;

	if (!glibc_reader_peek_u64(&w->reader, address + 8, &head) || !sane_head(s, address, head))
		return false;
	for (int i = 0; i < HOPS; i++) {
		uint64_t size = head & ~CHUNK_FLAGS, next = address + size, next_head, foot;

		if (address == top)
			return i > 0 || s->has_top;
		if (next >= s->end || !glibc_reader_peek_u64(&w->reader, next + 8, &next_head))
			return false;
		if (next_head & CHUNK_PREV_IN_USE) {
			if ((head ^ flag) & CHUNK_NON_MAIN)
				return false;
		} else if (!glibc_reader_peek_u64(&w->reader, next, &foot) || foot != size) {
			return false;
		}
		if (glibc_is_fence(w, s, next, &fence_end))
			return true;
		if (!sane_head(s, next, next_head))
			return false;
		address = next;
		head = next_head;
	}
	return true;
}

static uint64_t scan(struct glibc_walk *w, const struct glibc_span *s, uint64_t from, uint64_t to)
{
	while (from < to) {
		uint64_t range_end = 0;
		int rc = glibc_reader_present(&w->reader, from, to, &range_end);

		if (rc < 0)
			return 0;
		if (rc == 0) {
			from = range_end;
			continue;
		}
		for (; from < range_end; from += 16) {
			uint64_t head;

			if (!glibc_reader_peek_u64(&w->reader, from + 8, &head)) {
				from |= GLIBC_PAGE - 16;
				continue;
			}
			if (sane_head(s, from, head) && glibc_chain_holds(w, s, from))
				return from;
		}
	}
	return 0;
}

/* The lowest chunk at or above from that the bins name. */
static uint64_t from_bins(struct glibc_walk *w, const struct glibc_span *s, uint64_t from)
{
	uint64_t bins[GLIBC_BINS * 2], best = 0;

	if (mem_read_exact(w->mem, s->arena->address + w->g->layout->bins, bins, sizeof(bins)) < 0)
		return 0;
	for (size_t i = 0; i < GLIBC_BINS * 2; i++)
		if (bins[i] >= from && bins[i] < s->end && bins[i] % 16 == 0 && (!best || bins[i] < best) &&
		    glibc_chain_holds(w, s, bins[i]))
			best = bins[i];
	return best;
}

uint64_t glibc_resync(struct glibc_walk *w, const struct glibc_span *s, uint64_t from)
{
	uint64_t to = s->end - from > SCAN_BYTES ? from + SCAN_BYTES : s->end, found;

	if (from >= s->end || from < s->start)
		return 0;
	if (s->has_top && s->arena->top >= from && s->arena->top < to)
		to = s->arena->top;
	found = from < to ? scan(w, s, from, to) : 0;
	if (!found)
		found = from_bins(w, s, from);
	if (!found && s->has_top && s->arena->top >= from)
		found = s->arena->top;
	return found;
}
