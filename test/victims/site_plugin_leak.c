/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A plugin that keeps what it is given: loaded by site_plugin_host, and loaded and unloaded by site_torture. */
/* build: -shared -fPIC -fomit-frame-pointer */
#include "victim.h"

struct kept {
	struct kept *next;
	char bytes[];
};

static struct kept *kept;

int plugin_line(void);
void plugin_keep(size_t size);
uint64_t plugin_work(uint64_t seed, size_t size);

enum { KEEP_LINE = __LINE__ + 3 };
NOINLINE void plugin_keep(size_t size)
{
	struct kept *k = must(malloc(size));

	memset(k->bytes, 1, size - sizeof(*k));
	k->next = kept;
	kept = k;
}

int plugin_line(void)
{
	return KEEP_LINE;
}

/* Takes, checks and gives back; the sum of what it wrote. */
uint64_t plugin_work(uint64_t seed, size_t size)
{
	unsigned char *block = must(malloc(size));
	uint64_t sum = 0;

	for (size_t i = 0; i < size; i++)
		block[i] = (unsigned char)(seed + i);
	for (size_t i = 0; i < size; i++)
		sum += block[i];
	free(block);
	return sum;
}
