/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eight threads, each with an arena of its own, churn and leak 128 KiB/s each. leak_threads [SECONDS] [THREADS] */
#include "victim.h"

#include <pthread.h>

#define LEAK_BYTES 1031
#define LEAK_RATE (128.0 * KIB)

static double seconds, start;
static void *volatile *leaked_by[64];

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void thread_leak(int thread)
{
	void **block = must(malloc(LEAK_BYTES));

	memset(block, thread, LEAK_BYTES);
	*block = (void *)leaked_by[thread];
	leaked_by[thread] = block;
}

static void *work(void *arg)
{
	int thread = (int)(intptr_t)arg;
	struct churn *churn = must(malloc(sizeof(*churn)));
	double leaked = 0;

	churn_fill(churn, 4099 + (uint64_t)thread);
	while (now_s() - start < seconds) {
		churn_turn(churn, 300);
		for (; leaked < (now_s() - start) * LEAK_RATE; leaked += LEAK_BYTES)
			thread_leak(thread);
		nap_ms(20);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	long count = long_arg(argc, argv, 2, 8);

	if (count < 1 || count > 64)
		return 2;
	seconds = seconds_arg(argc, argv);
	start = now_s();
	print_leak_truth("leak_threads", "\"leak\"", "heap", "thread_leak", LEAK_LINE, LEAK_RATE * (double)count);
	for (long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) != 0)
			return 1;
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
