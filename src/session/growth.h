/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Growth of each size class over the time watched: the in-use bytes at up to 16 walks spread over it, and at the newest one.
 * Pure; a fixed 36 KB. Zeroed and opened_s set, it is ready.
 */
#ifndef MEMWATCH_SESSION_GROWTH_H
#define MEMWATCH_SESSION_GROWTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/heap.h"

#define CLASS_GROWTH_MARKS 16
#define CLASS_GROWTH_TOP 16
#define CLASS_GROWTH_MIN_BYTES (64 << 10) /* what a class or the heap grew by counts from here on */

struct class_growth {
	double opened_s; /* when the watching began, in the time of the walks */
	double t_s;      /* of the newest walk */
	uint64_t bytes[HEAP_CLASS_COUNT], blocks[HEAP_CLASS_COUNT]; /* at the newest walk */
	double rate[HEAP_CLASS_COUNT];                              /* bytes/s, past the warm-up */
	uint16_t top[CLASS_GROWTH_TOP];                             /* the classes that grow most, by rate */
	size_t top_count;
	bool is_top[HEAP_CLASS_COUNT];
	/* the walks that are kept, spaced ever further apart */
	double mark_t_s[CLASS_GROWTH_MARKS], spacing_s;
	uint64_t marks[CLASS_GROWTH_MARKS][HEAP_CLASS_COUNT];
	size_t mark_count;
};

void class_growth_take(struct class_growth *g, double t_s, const struct heap_stats *heap);
/* The class grows beyond doubt, by a material sum, and has not stopped. */
bool class_growth_is_sure(const struct class_growth *g, size_t index);

#endif
