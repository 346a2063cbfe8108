/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The heap walker over images with lies in them. Input: one byte chooses the release; then records of 12 bytes, each a place (1),
 * an operation (1), an offset in words (2) and a value (8) that is stored, added or xored there; those of odd places only
 * after the probe.
 */
#include <stdlib.h>
#include <string.h>

#include "../fixtures/heap_image.h"
#include "memwatch/heap.h"

#define RECORD 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply(struct image *im, const uint8_t *data, size_t size, bool late)
{
	for (size_t at = 1; at + RECORD <= size; at += RECORD) {
		const struct region *r = &im->places[data[at] / 2 % IMAGE_PLACES].region;
		uint16_t word;
		uint64_t value, address;

		if ((data[at] & 1) != late)
			continue;
		memcpy(&word, data + at + 2, sizeof(word));
		memcpy(&value, data + at + 4, sizeof(value));
		address = r->start + word * 8ULL % (r->end - r->start);
		if (data[at + 1] % 3 == 1)
			value += image_get(im, address);
		else if (data[at + 1] % 3 == 2)
			value ^= image_get(im, address);
		image_put(im, address, value);
	}
}

static void check(const struct heap_stats *s)
{
	if (s->in_use_bytes + s->free_bytes + s->overhead_bytes + s->skipped_bytes != s->mapped_bytes ||
	    s->pinned_bytes > s->free_bytes)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct heap_walk_options options = { .size_classes = true, .resident = true };
	struct heap_walker *w = NULL;
	struct heap_headroom room;
	struct heap_stats stats;
	struct arena arena;
	struct image im;
	struct mem *mem;

	if (size < 1)
		return 0;
	image_init(&im, &image_releases[data[0] % IMAGE_RELEASES]);
	apply(&im, data, size, false);
	if (mem_fixture_create(im.places, IMAGE_PLACES, &mem) < 0)
		abort();
	arena_init(&arena, 4096, 0);
	if (heap_probe(mem, &w, NULL) == 1) {
		apply(&im, data, size, true);
		if (heap_walk(w, mem, &options, &arena, &stats) == 0)
			check(&stats);
		if (heap_headroom(w, mem, &room) == 0 && room.in_use_hint != UNKNOWN_U64 &&
		    room.in_use_hint > room.mapped_bytes)
			abort();
	}
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
	return 0;
}
