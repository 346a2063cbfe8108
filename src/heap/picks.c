/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Blocks picked during a walk: bottom-k by hash. The picks of a class are a binary heap with the largest hash on top. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"
#include "memwatch/heap.h"

void heap_picks_init(struct heap_picks *p, uint64_t salt)
{
	memset(p, 0, sizeof(*p));
	p->salt = salt;
}

void heap_picks_deinit(struct heap_picks *p)
{
	free(p->items);
	memset(p, 0, sizeof(*p));
}

int heap_picks_begin(struct heap_picks *p, const uint16_t limit[HEAP_CLASS_COUNT])
{
	size_t sum = 0;
	int rc;

	memset(p->below, 0, sizeof(p->below));
	memset(p->count, 0, sizeof(p->count));
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		sum += limit[i];
	rc = vec_reserve(&p->items, &p->item_cap, sum, sizeof(*p->items));
	if (rc < 0)
		return rc;
	sum = 0;
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		p->limit[i] = limit[i];
		p->first[i] = (uint32_t)sum;
		p->below[i] = limit[i] ? UINT64_MAX : 0;
		sum += limit[i];
	}
	return 0;
}

static void sift_up(struct heap_pick *heap, size_t at)
{
	struct heap_pick moved = heap[at];

	while (at > 0 && heap[(at - 1) / 2].hash < moved.hash) {
		heap[at] = heap[(at - 1) / 2];
		at = (at - 1) / 2;
	}
	heap[at] = moved;
}

static void sift_down(struct heap_pick *heap, size_t count, size_t at)
{
	struct heap_pick moved = heap[at];

	for (;;) {
		size_t child = 2 * at + 1;

		if (child + 1 < count && heap[child + 1].hash > heap[child].hash)
			child++;
		if (child >= count || heap[child].hash <= moved.hash)
			break;
		heap[at] = heap[child];
		at = child;
	}
	heap[at] = moved;
}

void heap_picks_add(struct heap_picks *p, size_t index, uint64_t address, uint64_t size, uint64_t hash)
{
	struct heap_pick *heap = p->items + p->first[index];
	size_t count = p->count[index];

	if (hash >= p->below[index])
		return;
	if (count < p->limit[index]) {
		heap[count] = (struct heap_pick){ address, size, hash };
		sift_up(heap, count);
		p->count[index]++;
		return;
	}
	/* the largest goes, or the new one itself: from now on only what is smaller is complete */
	if (hash > heap[0].hash) {
		p->below[index] = hash;
		return;
	}
	p->below[index] = heap[0].hash;
	heap[0] = (struct heap_pick){ address, size, hash };
	sift_down(heap, count, 0);
}

/* `below` stays: what was let go before does not come back, so the rest is still all blocks below it. */
static void drop_at(struct heap_picks *p, size_t index, size_t at)
{
	struct heap_pick *heap = p->items + p->first[index];
	size_t count = --p->count[index];

	if (at == count)
		return;
	heap[at] = heap[count];
	sift_up(heap, at);
	sift_down(heap, count, at);
}

void heap_picks_drop(struct heap_picks *p, uint64_t start, uint64_t end)
{
	for (size_t index = 0; index < HEAP_CLASS_COUNT; index++) {
		for (size_t i = p->count[index]; i-- > 0;) {
			uint64_t address = p->items[p->first[index] + i].address;

			if (address >= start && address < end)
				drop_at(p, index, i);
		}
	}
}

void heap_picks_drop_block(struct heap_picks *p, uint64_t address, uint64_t size)
{
	size_t index = heap_class_index(size);
	uint64_t hash = heap_pick_hash(address, p->salt);

	if (hash >= p->below[index])
		return;
	for (size_t i = 0; i < p->count[index]; i++) {
		if (p->items[p->first[index] + i].address == address) {
			drop_at(p, index, i);
			return;
		}
	}
}

enum heap_content heap_content_compare(uint64_t before, uint64_t now)
{
	int said = 0, changed = 0;

	if (before == 0 || now == 0)
		return HEAP_CONTENT_UNKNOWN;
	if (before == now)
		return HEAP_CONTENT_SAME;
	for (int shift = 0; shift < 64; shift += 8) {
		uint64_t a = before >> shift & 0xff, b = now >> shift & 0xff;

		said += a > 1 || b > 1; /* words that are no zeros */
		changed += a != b;
	}
	return 2 * changed > said ? HEAP_CONTENT_REPLACED : HEAP_CONTENT_TOUCHED;
}
