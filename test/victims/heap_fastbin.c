/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Long fastbins: 30,011 small blocks freed behind full tcaches, in an order without locality. */
#include "heap_truth.h"

#define COUNT 30011

int main(void)
{
	static void *blocks[COUNT], *kept[COUNT];
	struct truth t = { 0 };

	for (size_t i = 0; i < COUNT; i++) {
		blocks[i] = malloc(17 + 16 * (i % 6));
		kept[i] = malloc(9);
		truth_add(&t, kept[i]);
	}
	for (size_t i = 0; i < COUNT; i++)
		free(blocks[i * 7919 % COUNT]);
	truth_tell(&t);
	return 0;
}
