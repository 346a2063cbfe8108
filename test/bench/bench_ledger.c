/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ledger's cost a sampled block that comes and goes, beside a live set; of a look; of a report; and its memory at the bound.
 *
 *     bench_ledger [LIVE]     default 30000 blocks that stay
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "memwatch/base/clock.h"
#include "memwatch/sites.h"

#define EVENTS 4000000
#define STACKS 200
#define YOUNG 2000 /* churn that is live at a time */
#define TICK_EVENTS 10000

static uint64_t state = 88172645463325252ULL;

static uint64_t next_random(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	return state ^= state << 17;
}

static int take(struct site_ledger *l, uint32_t stack, uint64_t address, double t_s)
{
	struct ledger_block b = { .address = address, .size = 64, .weight_bytes = 2080.0, .t_s = t_s, .in_heap = true };

	return site_ledger_taken(l, stack, &b);
}

int main(int argc, char **argv)
{
	size_t live = argc > 1 ? strtoull(argv[1], NULL, 10) : 30000;
	static uint64_t young[YOUNG];
	struct site_ledger *l;
	struct sites_course course;
	uint64_t start, ns, ticks_ns = 0;
	double t_s = 0.0;
	uint32_t stack;

	if (site_ledger_create(&l) < 0)
		return 1;
	for (uint64_t i = 0; i < STACKS; i++) {
		struct unwind_stack s = { .pcs = { 0x400000 + i * 64, 0x500000 }, .count = 2 };

		if (site_ledger_stack(l, &s, "bench", &stack) < 0)
			return 1;
	}
	site_ledger_tick(l, 0.0);
	for (size_t i = 0; i < live; i++)
		if (take(l, (uint32_t)(i % STACKS), 0x7f0000000000 + i * 80, 0.0) < 0)
			return 1;
	start = clock_now_ns();
	for (size_t i = 0; i < EVENTS; i++) {
		size_t at = next_random() % YOUNG;

		site_ledger_given_back(l, young[at], t_s);
		young[at] = 0x600000000000 + (next_random() % 1000000) * 80;
		t_s += 1e-5;
		if (take(l, (uint32_t)(at % STACKS), young[at], t_s) < 0)
			return 1;
		if (i % TICK_EVENTS == 0) {
			uint64_t tick = clock_now_ns();

			site_ledger_tick(l, t_s);
			ticks_ns += clock_now_ns() - tick;
		}
	}
	ns = clock_now_ns() - start;
	printf("one block taken and given back: %.1f ns, beside %zu live ones\n", (double)ns / EVENTS, live);
	printf("one tick: %.1f us\n", (double)ticks_ns / (EVENTS / TICK_EVENTS) / 1e3);
	start = clock_now_ns();
	if (site_ledger_course(l, 0.0, t_s, &course) < 0)
		return 1;
	printf("judging %zu live blocks: %.2f ms\n", site_ledger_count(l), (double)(clock_now_ns() - start) / 1e6);
	for (uint64_t i = 0; i < 2 * LEDGER_STACKS_MAX; i++) {
		struct unwind_stack s = { .pcs = { 0x800000 + i * 64 }, .count = 40 };

		if (site_ledger_stack(l, &s, "bench", &stack) < 0)
			return 1;
	}
	for (uint64_t i = 0; i < 3 * (uint64_t)LEDGER_BLOCKS_MAX; i++)
		if (take(l, (uint32_t)(i % STACKS), 0x500000000000 + i * 80, t_s) < 0)
			return 1;
	{
		struct mallinfo2 info = mallinfo2();

		printf("memory at the bound: %.1f MiB, %zu blocks\n", (double)(info.uordblks + info.hblkhd) / 1048576.0,
		       site_ledger_count(l));
	}
	site_ledger_destroy(l);
	return 0;
}
