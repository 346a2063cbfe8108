/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Growth by direct mmap, 1 MiB/s in pieces of 64 KiB: no allocator knows of it. leak_mmap [SECONDS] */
#include "victim.h"

#include <sys/mman.h>

#define PIECE (64 * KIB)
#define LEAK_RATE (double)MIB

static struct churn churn;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void grow_map(void)
{
	void *piece = mmap(NULL, PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (piece == MAP_FAILED)
		abort();
	memset(piece, 1, PIECE);
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), leaked = 0;

	print_leak_truth("leak_mmap", "\"growth\", \"leak\"", "anon", "grow_map", LEAK_LINE, LEAK_RATE);
	churn_fill(&churn, 4099);
	while (now_s() - start < seconds) {
		for (; leaked < (now_s() - start) * LEAK_RATE; leaked += PIECE)
			grow_map();
		churn_turn(&churn, 500);
		nap_ms(10);
	}
	return 0;
}
