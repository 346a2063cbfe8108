/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A cache that fills during the first 40 % of the time and then evicts: memory stops growing. cache_fill [SECONDS] [MIB] */
#include "victim.h"

#define ENTRY_BYTES 2053

static struct churn churn;
static void **entries;

NOINLINE static void cache_put(size_t slot)
{
	free(entries[slot]);
	entries[slot] = must(malloc(ENTRY_BYTES));
	memset(entries[slot], 3, ENTRY_BYTES);
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();
	size_t count = (size_t)long_arg(argc, argv, 2, 64) * MIB / ENTRY_BYTES, filled = 0;
	uint64_t random = 4099;

	print_truth("cache_fill", "\"warmup\"", "");
	entries = must(calloc(count, sizeof(*entries)));
	churn_fill(&churn, 4099);
	while (now_s() - start < seconds) {
		double share = (now_s() - start) / (0.4 * seconds);

		while (filled < count && (double)filled < share * (double)count)
			cache_put(filled++);
		for (int i = 0; i < 20 && filled == count; i++)
			cache_put(next_random(&random) % count);
		churn_turn(&churn, 500);
		nap_ms(10);
	}
	return 0;
}
