/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a malloc/free pair costs, by the CPU clocks of the threads themselves. site_pairs [SECONDS] [THREADS] [PAIRS/S]
 *
 * Blocks of 16 to 1,039 bytes, 64 MiB of them live; PAIRS/S of all threads together, 0: as many as can be. One pair in 64 replaces a block of
 * the 64 MiB, the others one of a few that stay in the caches, so that what a profiler adds is not lost among cache misses. Pairs of the first
 * fifth of the time (start, and somebody attaching) are not counted. At the end one JSON line; stops early on SIGTERM.
 */
#include "victim.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#define WARM_SHARE 0.2
#define HOT 509
#define LIVE_BYTES (64 * MIB)
#define MEAN_BYTES 528
#define BATCH 250

struct worker {
	pthread_t thread;
	void *hot[HOT];
	void **live;
	size_t live_count;
	uint64_t random, pairs;
	double rate, cpu_s, wall_s; /* of what is counted */
};

static double start, seconds;
static volatile sig_atomic_t stop;

static void on_term(int number)
{
	stop = number;
}

static double cpu_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

NOINLINE static void *block_of(uint64_t r)
{
	uint64_t *block = must(malloc(16 + (r >> 32) % 1024));

	*block = r;
	return block;
}

NOINLINE static void turn(struct worker *w, int pairs)
{
	for (int i = 0; i < pairs; i++) {
		uint64_t r = next_random(&w->random);
		void **slot = (r >> 58) == 0 ? &w->live[(r >> 8) % w->live_count] : &w->hot[r % HOT];

		free(*slot);
		*slot = block_of(r);
	}
	w->pairs += (uint64_t)pairs;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	double now = now_s(), wall = 0, cpu = 0, paced_from = now;
	uint64_t paced = 0;
	bool warm = true;

	for (; now - start < seconds && !stop; now = now_s()) {
		if (warm && now - start >= WARM_SHARE * seconds) {
			warm = false;
			wall = now;
			cpu = cpu_s();
			w->pairs = 0;
		}
		if (w->rate > 0 && (double)paced >= (now - paced_from) * w->rate) {
			nap_ms(1);
			continue;
		}
		turn(w, BATCH);
		paced += BATCH;
	}
	w->cpu_s = cpu_s() - cpu;
	w->wall_s = now - wall;
	return NULL;
}

static void prepare(struct worker *w, long index, long count)
{
	memset(w, 0, sizeof(*w));
	w->random = 4099 + (uint64_t)index;
	w->live_count = LIVE_BYTES / MEAN_BYTES / (size_t)count;
	w->live = must(calloc(w->live_count, sizeof(*w->live)));
	for (size_t i = 0; i < w->live_count; i++)
		w->live[i] = block_of(next_random(&w->random));
}

int main(int argc, char **argv)
{
	static struct worker workers[64];
	long count = long_arg(argc, argv, 2, 1), rate = long_arg(argc, argv, 3, 0);
	double pairs = 0, cpu = 0, wall = 0;

	seconds = seconds_arg(argc, argv);
	if (count < 1 || count > 64)
		return 2;
	signal(SIGTERM, on_term);
	for (long i = 0; i < count; i++)
		prepare(&workers[i], i, count);
	print_truth("site_pairs", "\"stable\"", "");
	start = now_s();
	for (long i = 0; i < count; i++) {
		workers[i].rate = (double)rate / (double)count;
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
			return 1;
	}
	for (long i = 0; i < count; i++) {
		pthread_join(workers[i].thread, NULL);
		pairs += (double)workers[i].pairs;
		cpu += workers[i].cpu_s;
		wall += workers[i].wall_s / (double)count;
	}
	printf("{ \"pairs\": %.0f, \"cpu_s\": %.4f, \"wall_s\": %.4f, \"ns_per_pair\": %.2f, \"pairs_per_s\": %.0f }\n",
	       pairs, cpu, wall, cpu * 1e9 / pairs, pairs / wall);
	return 0;
}
