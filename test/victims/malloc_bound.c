/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads that do nothing but malloc and free; at its end one JSON line with what they did. malloc_bound [SECONDS] [THREADS] */
#include "victim.h"

#include <pthread.h>

static double end;

static void *work(void *arg)
{
	struct churn *churn = must(malloc(sizeof(*churn)));
	uint64_t pairs = 0;

	churn_fill(churn, 4099 + (uint64_t)(uintptr_t)arg);
	for (; now_s() < end; pairs += 1000)
		churn_turn(churn, 1000);
	return (void *)(uintptr_t)pairs;
}

int main(int argc, char **argv)
{
	pthread_t threads[64];
	long count = long_arg(argc, argv, 2, 4);
	uint64_t pairs = 0;
	double seconds = seconds_arg(argc, argv);

	if (count < 1 || count > 64)
		return 2;
	print_truth("malloc_bound", "\"stable\"", "");
	end = now_s() + seconds;
	for (long i = 0; i < count; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i) != 0)
			return 1;
	for (long i = 0; i < count; i++) {
		void *done;

		pthread_join(threads[i], &done);
		pairs += (uint64_t)(uintptr_t)done;
	}
	printf("{ \"pairs\": %llu, \"pairs_per_s\": %.0f }\n", (unsigned long long)pairs, (double)pairs / seconds);
	return 0;
}
