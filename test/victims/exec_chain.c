/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Executes itself three times within half a second, then leaks 1 MiB/s. exec_chain [SECONDS] */
#include "victim.h"

#define LEAK_BYTES 4099
#define LEAK_RATE (double)MIB

static void **leaked_blocks;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void leak_after_exec(void)
{
	void **block = must(malloc(LEAK_BYTES));

	memset(block, 1, LEAK_BYTES);
	*block = leaked_blocks;
	leaked_blocks = block;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start, leaked = 0;
	long stage = long_arg(argc, argv, 2, 0);
	char next[24];

	if (stage < 3) {
		char *again[] = { argv[0], argc > 1 ? argv[1] : "30", next, NULL };

		memset(must(malloc(4 * MIB)), 1, 4 * MIB);
		nap_ms(150);
		snprintf(next, sizeof(next), "%ld", stage + 1);
		execv("/proc/self/exe", again);
		return 126;
	}
	print_leak_truth("exec_chain", "\"leak\"", "heap", "leak_after_exec", LEAK_LINE, LEAK_RATE);
	for (start = now_s(); now_s() - start < seconds; nap_ms(10))
		for (; leaked < (now_s() - start) * LEAK_RATE; leaked += LEAK_BYTES)
			leak_after_exec();
	return 0;
}
