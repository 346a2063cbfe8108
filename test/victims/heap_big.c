/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For the benchmark: heap_big MEBIBYTES LEAST MOST; blocks of LEAST to MOST bytes, one in eight freed. */
#include <string.h>

#include "heap_truth.h"

int main(int argc, char **argv)
{
	size_t want = (argc > 1 ? strtoul(argv[1], NULL, 10) : 64) << 20;
	size_t least = argc > 2 ? strtoul(argv[2], NULL, 10) : 64, most = argc > 3 ? strtoul(argv[3], NULL, 10) : 512;
	struct truth t = { 0 };
	unsigned int seed = 5;

	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	void **freed = calloc(want / least / 8 + 4096, sizeof(*freed));
	size_t freed_count = 0;

	truth_add(&t, freed);
	for (size_t sum = 0; sum < want;) {
		size_t size = least + truth_random(&seed) % (most - least + 1);
		char *p = malloc(size);

		memset(p, 0x5a, size);
		sum += truth_chunk(p);
		if (truth_random(&seed) % 8 == 0 && freed_count < want / least / 8 + 4096)
			freed[freed_count++] = p;
		else
			truth_add(&t, p);
	}
	for (size_t i = 0; i < freed_count; i++)
		free(freed[i]);
	truth_tell(&t);
	return 0;
}
