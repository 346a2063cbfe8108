/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writes at full speed while it is read: always 200,006 blocks, two threads that replace their halves of them. It speaks up when
 * every block was replaced some five times, and ends when its input does.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

#include "heap_truth.h"

#define COUNT 100003 /* each thread's */
#define THREADS 2

static void *blocks[THREADS][COUNT];
static atomic_size_t turns;
static atomic_bool stop;

static void *work(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg;
	unsigned int seed = (unsigned int)me + 1;

	for (size_t i = 0; i < COUNT; i++)
		blocks[me][i] = malloc(16 + truth_random(&seed) % 501);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		void **block = &blocks[me][truth_random(&seed) % COUNT];

		free(*block);
		*block = malloc(16 + truth_random(&seed) % 501);
		atomic_fetch_add_explicit(&turns, 1, memory_order_relaxed);
	}
	return NULL;
}

int main(void)
{
	struct truth t = { .threads = THREADS, .live_blocks = THREADS * COUNT };
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, work, (void *)(uintptr_t)i) != 0)
			return 1;
	while (atomic_load(&turns) < 5UL * THREADS * COUNT)
		sched_yield();
	truth_tell(&t);
	atomic_store(&stop, 1);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
