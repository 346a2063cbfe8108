/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory mapped in advance is touched for the first time, 1 MiB/s: growth that no call makes. Beside it 64 KiB/s are mapped and touched. touch_pool [SECONDS] */
#include "victim.h"

#include <sys/mman.h>

#define PIECE (16 * KIB)
#define TOUCH_RATE (double)MIB
#define MAP_RATE (64.0 * KIB)

static char *pool;
static size_t pool_used;

NOINLINE static void map_more(void)
{
	char *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (piece == MAP_FAILED)
		abort();
	for (size_t i = 0; i < PIECE; i += 4096)
		piece[i] = 1;
}

enum { TOUCH_LINE = __LINE__ + 4 };
NOINLINE static void touch_more(void)
{
	for (size_t i = 0; i < PIECE; i += 4096)
		pool[pool_used + i] = 1;
	pool_used += PIECE;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), touched = 0, mapped = 0, elapsed = 0;

	pool = mmap(NULL, (size_t)((seconds + 1) * TOUCH_RATE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (pool == MAP_FAILED)
		abort();
	print_leak_truth("touch_pool", "\"growth\", \"leak\"", "anon", "touch_more", TOUCH_LINE, TOUCH_RATE + MAP_RATE);
	while (elapsed < seconds) {
		elapsed = now_s() - start;
		for (; touched < elapsed * TOUCH_RATE; touched += PIECE)
			touch_more();
		for (; mapped < elapsed * MAP_RATE; mapped += PIECE)
			map_more();
		nap_ms(10);
	}
	return 0;
}
