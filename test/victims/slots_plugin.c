/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A plugin for slots_target: 11 blocks, taken and given back. */
/* build: -shared -fPIC */
#include "victim.h"

void plugin_work(void);

void plugin_work(void)
{
	void *volatile blocks[11];

	for (int i = 0; i < 11; i++)
		blocks[i] = must(malloc((size_t)(31 + i)));
	for (int i = 0; i < 11; i++)
		free(blocks[i]);
}
