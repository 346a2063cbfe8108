/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a heap victim says about itself, on one line, and how it then waits: blocked in read(0) until its parent lets go. */
#ifndef MEMWATCH_TEST_VICTIMS_HEAP_TRUTH_H
#define MEMWATCH_TEST_VICTIMS_HEAP_TRUTH_H

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct truth {
	size_t live_blocks, live_bytes; /* chunks in this program's hands, headers included; without mmapped ones */
	size_t mapped_blocks;           /* mmapped ones */
	size_t threads;                 /* beside the first */
};

/* Chunk size of a block that is not mmapped. */
static inline size_t truth_chunk(void *p)
{
	return malloc_usable_size(p) + 8;
}

static inline void truth_add(struct truth *t, void *p)
{
	const size_t *head = p;

	__asm__("" : "+r"(head)); /* the word before the block is the allocator's: not for the compiler to judge */
	if (head[-1] & 2) {
		t->mapped_blocks++;
		return;
	}
	t->live_blocks++;
	t->live_bytes += truth_chunk(p);
}

/* Nothing here allocates: the figures stay true while the program waits. */
static inline void truth_tell(const struct truth *t)
{
	struct mallinfo2 m = mallinfo2();
	char line[512];
	int n = snprintf(
		line, sizeof(line),
		"live_blocks=%zu live_bytes=%zu mapped_blocks=%zu threads=%zu arena=%zu uordblks=%zu fordblks=%zu "
		"hblks=%zu hblkhd=%zu fsmblks=%zu smblks=%zu keepcost=%zu\n",
		t->live_blocks, t->live_bytes, t->mapped_blocks, t->threads, m.arena, m.uordblks, m.fordblks, m.hblks,
		m.hblkhd, m.fsmblks, m.smblks, m.keepcost);
	char c;

	if (n < 0 || write(1, line, (size_t)n) != n)
		_exit(2);
	while (read(0, &c, 1) > 0)
		;
}

static inline unsigned int truth_random(unsigned int *seed)
{
	*seed = *seed * 1664525U + 1013904223U;
	return *seed >> 8;
}

#endif
