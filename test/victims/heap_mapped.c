/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * 1,009 mmapped blocks, every seventh freed; memalign'd ones among them; beside them mappings of the program's own that
 * begin as such a block would.
 */
#include <string.h>
#include <sys/mman.h>

#include "heap_truth.h"

#define COUNT 1009
#define DECOYS 13

int main(void)
{
	static void *blocks[COUNT];
	struct truth t = { 0 };

	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	for (size_t i = 0; i < COUNT; i++) {
		blocks[i] = i % 50 == 1 ? memalign(1 << 16, 300007) : malloc((130 << 10) + i * 509);
		if (i % 80 == 2) {
			size_t *decoy = mmap(NULL, 1 << 18, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

			if (decoy == MAP_FAILED)
				return 1;
			decoy[1] = i % 160 == 2 ? (1 << 18) | 2 : (1 << 17) | 2;
		}
	}
	for (size_t i = 0; i < COUNT; i += 7) {
		free(blocks[i]);
		blocks[i] = NULL;
	}
	for (size_t i = 0; i < COUNT; i++)
		if (blocks[i])
			truth_add(&t, blocks[i]);
	truth_tell(&t);
	return 0;
}
