/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memalign at every power of two, realloc up and down, calloc; with an argument also of mmapped blocks. */
#include "heap_truth.h"

#define COUNT 4001

int main(int argc, char **argv)
{
	static void *blocks[COUNT];
	struct truth t = { 0 };
	unsigned int seed = 3;
	(void)argv;

	if (argc > 1)
		mallopt(M_MMAP_THRESHOLD, 4096);

	for (size_t i = 0; i < COUNT; i++)
		blocks[i] =
			i % 3 ? memalign((size_t)16 << i % 12, 1 + truth_random(&seed) % 5003) : calloc(1, 1 + i % 701);
	for (size_t i = 0; i < COUNT; i += 5)
		blocks[i] = realloc(blocks[i], 1 + truth_random(&seed) % 9001);
	for (size_t i = 0; i < COUNT; i += 4) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
	for (size_t i = 0; i < COUNT; i++)
		if (blocks[i])
			truth_add(&t, blocks[i]);
	truth_tell(&t);
	return 0;
}
