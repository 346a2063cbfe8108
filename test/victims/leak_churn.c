/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A steady leak of 1 MiB/s under heavy churn of blocks of the same sizes. leak_churn [SECONDS] */
#include "victim.h"

#define LEAK_BYTES 521
#define LEAK_RATE (double)MIB

struct entry {
	struct entry *next;
	char payload[LEAK_BYTES - sizeof(void *)];
};

static struct entry *remembered; /* still reachable, never read again */
static struct churn churn;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void remember(int value)
{
	struct entry *e = must(malloc(sizeof(*e)));

	memset(e->payload, value, sizeof(e->payload));
	e->next = remembered;
	remembered = e;
}

NOINLINE static void request(double elapsed, double *leaked)
{
	churn_turn(&churn, 2000);
	for (; *leaked < elapsed * LEAK_RATE; *leaked += LEAK_BYTES)
		remember((int)elapsed);
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), leaked = 0;

	print_leak_truth("leak_churn", "\"leak\"", "heap", "remember", LEAK_LINE, LEAK_RATE);
	churn_fill(&churn, 4099);
	while (now_s() - start < seconds) {
		request(now_s() - start, &leaked);
		nap_ms(10);
	}
	return 0;
}
