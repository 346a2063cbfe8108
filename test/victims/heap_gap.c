/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The break is blocked by a mapping after a while: glibc goes on in mmapped stretches. Before that, foreign code moves the break. */
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "heap_truth.h"

#define COUNT 30011
#define PAGE 4096UL

static void block_break(void)
{
	uintptr_t end = ((uintptr_t)sbrk(0) + PAGE - 1) & ~(PAGE - 1);

	if (mmap((void *)end, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED)
		_exit(1);
}

int main(int argc, char **argv)
{
	static void *blocks[COUNT];
	struct truth t = { 0 };
	unsigned int seed = 11;
	(void)argv;

	for (size_t i = 0; i < COUNT; i++) {
		if (i == COUNT / 4 || i == COUNT / 3) {
			char *taken = sbrk(12345 + (intptr_t)i);

			memset(taken, i == COUNT / 4 ? 0x21 : 0, 12345 + i);
		}
		if (argc < 2 && i == COUNT / 2)
			block_break();
		blocks[i] = malloc(1 + truth_random(&seed) % 1009);
	}
	for (size_t i = 0; i < COUNT; i += 3) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
	for (size_t i = 0; i < COUNT; i++)
		if (blocks[i])
			truth_add(&t, blocks[i]);
	truth_tell(&t);
	return 0;
}
