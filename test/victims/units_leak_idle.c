/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A leak that has nothing to do with the work: memory grows by the clock, also while no unit is done. Units come for a third of the
 * time only, and leave nothing behind.
 *
 *     units_leak_idle [SECONDS]
 */
#include "victim.h"

#define TICK_MS 10
#define LEAK_BYTES 10007
#define WORK_BYTES 65537

static void *last;

NOINLINE static void leak_some(void)
{
	void **block = must(malloc(LEAK_BYTES));

	memset(block, 3, LEAK_BYTES);
	*block = last;
	last = block;
}

NOINLINE static void do_unit(unsigned long number)
{
	char *block = must(malloc(WORK_BYTES));

	memset(block, (int)number, WORK_BYTES);
	free(block);
	printf("unit %lu\n", number);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	double begin = now_s(), end = begin + seconds_arg(argc, argv);
	unsigned long units = 0;

	print_leak_truth("units_leak_idle", "\"leak\"", "heap", "leak_some", 20, LEAK_BYTES * 1000.0 / TICK_MS);
	while (now_s() < end) {
		leak_some();
		if ((unsigned long)(now_s() - begin) % 3 == 0)
			do_unit(++units);
		nap_ms(TICK_MS);
	}
	printf("total %lu\n", units);
	return 0;
}
