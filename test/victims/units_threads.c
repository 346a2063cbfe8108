/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Calls by threads that are born later, some by threads that were born later themselves, and an exec in between where asked for.
 *
 *     units_threads SECONDS CALLS [exec]      8 threads call do_unit() CALLS times each, and another 8 after them
 *     units_threads SECONDS CALLS wait        the first 8 are there, and wait for SIGUSR1 before they call
 *     units_threads SECONDS 0                 threads are born and end without pause, one call each, until SECONDS are over
 */
#include <pthread.h>
#include <signal.h>

#include "victim.h"

#define THREADS 8

static unsigned long total;
static pthread_barrier_t gate; /* the first threads, and main */
static int gated;

NOINLINE static void do_unit(void)
{
	__atomic_add_fetch(&total, 1, __ATOMIC_RELAXED);
}

static void *call(void *arg)
{
	for (long i = 0; i < *(long *)arg; i++)
		do_unit();
	return NULL;
}

static void *call_and_make(void *arg)
{
	pthread_t thread;

	if (gated)
		pthread_barrier_wait(&gate);
	call(arg);
	if (pthread_create(&thread, NULL, call, arg) != 0)
		abort();
	pthread_join(thread, NULL);
	return NULL;
}

static void round_of(void *(*body)(void *), long *calls)
{
	pthread_t threads[THREADS];

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, body, calls) != 0)
			abort();
	if (gated) {
		sigset_t set;
		int sig;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		print_truth("units_threads", "\"stable\"", ", \"function\": \"do_unit\"");
		sigwait(&set, &sig);
		pthread_barrier_wait(&gate);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

int main(int argc, char **argv)
{
	double end = now_s() + seconds_arg(argc, argv);
	long calls = long_arg(argc, argv, 2, 101), once = 1;

	if (argc > 3 && strcmp(argv[3], "exec") == 0) {
		round_of(call_and_make, &calls);
		execl("/proc/self/exe", argv[0], argv[1], argv[2], "second", NULL);
		abort();
	}
	if (argc > 3 && strcmp(argv[3], "wait") == 0) {
		sigset_t set;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR1);
		pthread_sigmask(SIG_BLOCK, &set, NULL);
		pthread_barrier_init(&gate, NULL, THREADS + 1);
		gated = 1;
	} else {
		print_truth("units_threads", "\"stable\"", ", \"function\": \"do_unit\"");
	}
	if (calls > 0)
		round_of(call_and_make, &calls);
	while (calls == 0 && now_s() < end)
		round_of(call, &once);
	printf("total %lu\n", total);
	fflush(stdout);
	while (calls > 0 && now_s() < end)
		nap_ms(10);
	return 0;
}
