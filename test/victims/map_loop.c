/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A loop of mmap, touch, munmap in a big process; at its end one JSON line with the latency of a turn. Readers of smaps hold the lock
 * that this needs. map_loop [SECONDS] [MIB]
 */
#include "victim.h"

#include <sys/mman.h>

#define TURNS_MAX (8 * 1024 * 1024)
#define MAPPINGS 100

static float *turns;

static int ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static void turn(void)
{
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		abort();
	*page = 1;
	munmap(page, 4096);
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start, before, after;
	size_t ballast = (size_t)long_arg(argc, argv, 2, 500) * MIB / MAPPINGS / 4096 * 4096, count = 0;

	print_truth("map_loop", "\"stable\"", "");
	turns = must(malloc(TURNS_MAX * sizeof(*turns)));
	memset(turns, 0, TURNS_MAX * sizeof(*turns)); /* no fault of our own inside the loop */
	for (int i = 0; i < MAPPINGS; i++) {
		char *piece = mmap(NULL, ballast, PROT_READ | PROT_WRITE | (i % 2 ? PROT_EXEC : 0),
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (piece == MAP_FAILED)
			return 1;
		memset(piece, 1, ballast);
	}
	start = now_s();
	for (before = start; before - start < seconds && count < TURNS_MAX; before = after) {
		turn();
		after = now_s();
		turns[count++] = (float)((after - before) * 1e9);
		if (count % 64 == 0) {
			nap_ms(1);
			after = now_s();
		}
	}
	qsort(turns, count, sizeof(*turns), ascending);
	printf("{ \"turns\": %zu, \"p50_ns\": %.0f, \"p99_ns\": %.0f, \"max_ns\": %.0f }\n", count,
	       (double)turns[count / 2], (double)turns[count * 99 / 100], (double)turns[count - 1]);
	return 0;
}
