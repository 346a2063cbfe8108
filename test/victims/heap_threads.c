/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eight threads with arenas of their own; one of them outgrows its first heap of 64 MiB. Blocks cross threads. */
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "heap_truth.h"

#define THREADS 8
#define COUNT 5003
#define BIG 107 /* blocks of 1,000,003 bytes: more than one heap */

static void *blocks[THREADS][COUNT];
static void *big[BIG];
static pthread_barrier_t made, freed;
static pthread_mutex_t never = PTHREAD_MUTEX_INITIALIZER;

static void *work(void *arg)
{
	size_t me = (size_t)(uintptr_t)arg, other = (me + 1) % THREADS;
	unsigned int seed = (unsigned int)me + 1;

	for (size_t i = 0; i < COUNT; i++)
		blocks[me][i] = malloc(1 + truth_random(&seed) % 2003);
	for (size_t i = 0; me == 3 && i < BIG; i++) {
		big[i] = malloc(1000003);
		memset(big[i], 1, 4099);
	}
	pthread_barrier_wait(&made);
	/* frees a neighbour's blocks: they go to this thread's tcache and to the neighbour's arena */
	for (size_t i = 0; i < COUNT; i += 2) {
		free(blocks[other][i]);
		blocks[other][i] = NULL;
	}
	pthread_barrier_wait(&freed);
	pthread_mutex_lock(&never);
	return NULL;
}

int main(void)
{
	struct truth t = { .threads = THREADS };
	pthread_t thread;

	mallopt(M_MMAP_THRESHOLD, 32 << 20);
	pthread_mutex_lock(&never);
	pthread_barrier_init(&made, NULL, THREADS);
	pthread_barrier_init(&freed, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		if (pthread_create(&thread, NULL, work, (void *)(uintptr_t)i) != 0)
			return 1;
	pthread_barrier_wait(&freed);
	for (size_t i = 0; i < THREADS; i++)
		for (size_t j = 0; j < COUNT; j++)
			if (blocks[i][j])
				truth_add(&t, blocks[i][j]);
	for (size_t i = 0; i < BIG; i++)
		truth_add(&t, big[i]);
	truth_tell(&t);
	_exit(0);
}
