/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One size class leaks, among others that only churn, and under churn of its own class: 1,009 blocks of the leaked size are replaced
 * all the time. survivors_churn [SECONDS] [BYTES PER SECOND]
 */
#include "victim.h"

#define LEAK_BYTES 131 /* in a chunk of 144 */
#define LEAK_CHUNK 144
#define LIVE 1009

struct entry {
	struct entry *next;
	char payload[LEAK_BYTES - sizeof(void *)];
};

static struct entry *remembered;
static struct entry *live[LIVE];
static struct churn churn;
static uint64_t numbers = 4099;

NOINLINE static struct entry *make(void)
{
	struct entry *e = must(malloc(sizeof(*e)));
	uint64_t r = next_random(&numbers);

	for (size_t i = 0; i < sizeof(e->payload); i++)
		e->payload[i] = (char)(r >> (i % 57));
	return e;
}

NOINLINE static void remember(void)
{
	struct entry *e = make();

	e->next = remembered;
	remembered = e;
}

NOINLINE static void work(void)
{
	churn_turn(&churn, 500);
	for (int i = 0; i < 200; i++) {
		size_t slot = next_random(&numbers) % LIVE;

		free(live[slot]);
		live[slot] = make();
	}
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), rate = (double)long_arg(argc, argv, 2, 262144);
	char details[128];

	snprintf(details, sizeof(details), ", \"where\": \"heap\", \"chunk\": %d, \"bytes_per_s\": %.0f", LEAK_CHUNK,
		 rate);
	print_truth("survivors_churn", "\"leak\"", details);
	churn_fill(&churn, 4099);
	for (double leaked = 0; now_s() - start < seconds; nap_ms(10)) {
		work();
		for (; leaked < (now_s() - start) * rate; leaked += LEAK_CHUNK)
			remember();
	}
	return 0;
}
