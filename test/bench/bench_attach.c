/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Stops a busy program over and over, and says how long the stops were and whether a signal was lost.
 *
 *     bench_attach [cycles [threads]]      default 1000 cycles, 64 threads
 *
 * The target: threads that spin in calls, and one that sends them numbered real-time signals as fast as they are taken.
 * Exit status 1: a signal was lost, doubled or out of order, or a thread was left stopped.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/mem.h"
#include "memwatch/trace.h"

#define MAX_THREADS 512
#define IN_FLIGHT 8 /* unanswered signals per thread */

struct shared {
	atomic_bool stop, quit;
	atomic_int ready;
	atomic_ulong sent[MAX_THREADS], got[MAX_THREADS], wrong;
	atomic_ulong rounds[MAX_THREADS];
};

static struct shared *shared;
static _Thread_local int my_index;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	unsigned long number = (unsigned long)info->si_value.sival_int;

	(void)sig;
	(void)context;
	if (number != atomic_load(&shared->got[my_index]) + 1)
		atomic_fetch_add(&shared->wrong, 1);
	atomic_store(&shared->got[my_index], number);
}

static void *spin(void *arg)
{
	my_index = (int)(intptr_t)arg;
	atomic_fetch_add(&shared->ready, 1);
	while (!atomic_load(&shared->quit))
		atomic_fetch_add_explicit(&shared->rounds[my_index], 1, memory_order_relaxed);
	return NULL;
}

static void target(int threads)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART };
	pthread_t ids[MAX_THREADS];

	sigaction(SIGRTMIN, &action, NULL);
	for (int i = 0; i < threads; i++)
		if (pthread_create(&ids[i], NULL, spin, (void *)(intptr_t)i) != 0)
			_exit(2);
	while (atomic_load(&shared->ready) < threads)
		sched_yield();
	while (!atomic_load(&shared->stop)) {
		for (int i = 0; i < threads; i++) {
			unsigned long n = atomic_load(&shared->sent[i]);

			if (n - atomic_load(&shared->got[i]) >= IN_FLIGHT)
				continue;
			if (pthread_sigqueue(ids[i], SIGRTMIN, (union sigval){ .sival_int = (int)(n + 1) }) == 0)
				atomic_store(&shared->sent[i], n + 1);
		}
		nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
	}
	nanosleep(&(struct timespec){ .tv_sec = 2 }, NULL); /* let the last ones arrive */
	atomic_store(&shared->quit, true);
	for (int i = 0; i < threads; i++)
		pthread_join(ids[i], NULL);
	_exit(0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

struct figures {
	uint64_t *stops;
	size_t count;
	size_t captured, late, outranked;
};

static int measure(pid_t pid, int cycles, int threads, struct figures *f)
{
	struct err err = ERR_INIT;
	struct capture_options o = { .max_threads = (size_t)threads + 8 };
	struct tracer *t;
	struct mem *mem;
	struct arena arena;
	char path[64];
	int dir, r;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tracer_create(&t) < 0 || mem_live_create(pid, dir, &mem, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	arena_init(&arena, 0, 0);
	for (int i = 0; i < cycles; i++) {
		struct capture c;

		arena_reset(&arena);
		r = tracer_capture(t, pid, mem, &o, &arena, &c, &err);
		if (r < 0) {
			fprintf(stderr, "%s\n", err.msg);
			return r;
		}
		for (size_t k = 0; k < c.thread_count; k++) {
			f->captured += c.threads[k].condition == THREAD_CAPTURED;
			f->late += c.threads[k].condition == THREAD_LATE;
		}
		f->outranked += c.outranked;
		f->stops[f->count++] = c.stopped_ns;
		while (tracer_settle(t) > 0)
			sched_yield();
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	tracer_destroy(t);
	mem_destroy(mem);
	arena_deinit(&arena);
	close(dir);
	return 0;
}

static int count_stopped(pid_t pid, int threads)
{
	unsigned long before[MAX_THREADS];
	int stuck = 0;

	(void)pid;
	for (int i = 0; i < threads; i++)
		before[i] = atomic_load(&shared->rounds[i]);
	for (int tries = 0; tries < 100; tries++) {
		stuck = 0;
		for (int i = 0; i < threads; i++)
			stuck += atomic_load(&shared->rounds[i]) == before[i];
		if (stuck == 0)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	}
	return stuck;
}

int main(int argc, char **argv)
{
	int cycles = argc > 1 ? atoi(argv[1]) : 1000, threads = argc > 2 ? atoi(argv[2]) : 64, stuck, status;
	unsigned long sent = 0, got = 0;
	struct figures f = { 0 };
	pid_t pid;

	if (cycles < 1 || threads < 1 || threads > MAX_THREADS)
		return 2;
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	f.stops = calloc((size_t)cycles, sizeof(*f.stops));
	if (shared == MAP_FAILED || !f.stops)
		return 2;
	pid = fork();
	if (pid == 0)
		target(threads);
	while (atomic_load(&shared->ready) < threads)
		sched_yield();
	if (measure(pid, cycles, threads, &f) < 0) {
		kill(pid, SIGKILL);
		return 2;
	}
	stuck = count_stopped(pid, threads);
	atomic_store(&shared->stop, true);
	waitpid(pid, &status, 0);
	for (int i = 0; i < threads; i++) {
		sent += atomic_load(&shared->sent[i]);
		got += atomic_load(&shared->got[i]);
	}
	qsort(f.stops, f.count, sizeof(*f.stops), compare);
	printf("%d threads, %zu stops: p50 %.0f us, p99 %.0f us, max %.0f us; outranked %zu\n", threads, f.count,
	       (double)f.stops[f.count / 2] / 1e3, (double)f.stops[f.count * 99 / 100] / 1e3,
	       (double)f.stops[f.count - 1] / 1e3, f.outranked);
	printf("threads captured %zu, late %zu, left stopped %d\n", f.captured, f.late, stuck);
	printf("signals sent %lu, taken %lu, wrong %lu\n", sent, got, atomic_load(&shared->wrong));
	if (stuck != 0 || sent != got || atomic_load(&shared->wrong) != 0)
		return 1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}
