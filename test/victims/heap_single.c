/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One thread: 20,011 blocks of 1 to 3,001 bytes, every third one freed. */
#include "heap_truth.h"

#define COUNT 20011

int main(void)
{
	static void *blocks[COUNT];
	struct truth t = { 0 };
	unsigned int seed = 7;

	for (size_t i = 0; i < COUNT; i++)
		blocks[i] = malloc(1 + truth_random(&seed) % 3001);
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
