/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What victims share. A victim prints the ground truth as one JSON line, first of all; lives for the seconds that its first argument
 * gives (30 where there is none) or until SIGTERM; does the same work at every run; and sleeps between small pieces of work.
 *
 *     { "victim": "leak_churn", "expected": ["leak"], "where": "heap", "function": "remember", "line": 31, "bytes_per_s": 1048576 }
 */
#ifndef VICTIM_H
#define VICTIM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone, unused))
#define KIB 1024UL
#define MIB (1024 * KIB)

NOINLINE static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

NOINLINE static void nap_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&ts, NULL);
}

NOINLINE static double seconds_arg(int argc, char **argv)
{
	return argc > 1 ? atof(argv[1]) : 30;
}

NOINLINE static long long_arg(int argc, char **argv, int index, long otherwise)
{
	return argc > index ? atol(argv[index]) : otherwise;
}

static inline uint64_t next_random(uint64_t *state) /* xorshift: the same numbers at every run */
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* details: further members, ", \"key\": value", or "". */
NOINLINE static void print_truth(const char *victim, const char *expected, const char *details)
{
	printf("{ \"victim\": \"%s\", \"pid\": %d, \"expected\": [%s]%s }\n", victim, (int)getpid(), expected, details);
	fflush(stdout);
}

NOINLINE static void print_leak_truth(const char *victim, const char *expected, const char *where, const char *function,
				      int line, double bytes_per_s)
{
	char details[256];

	snprintf(details, sizeof(details),
		 ", \"where\": \"%s\", \"function\": \"%s\", \"line\": %d, \"bytes_per_s\": %.0f", where, function,
		 line, bytes_per_s);
	print_truth(victim, expected, details);
}

NOINLINE static void *must(void *pointer)
{
	if (!pointer)
		abort();
	return pointer;
}

/* ---- steady churn: a table of blocks of 16 to 1,039 bytes, of which some are replaced at every turn -------------------- */

#define CHURN_SLOTS 8209

struct churn {
	void *slots[CHURN_SLOTS];
	uint64_t random;
};

NOINLINE static void churn_turn(struct churn *c, int pairs)
{
	for (int i = 0; i < pairs; i++) {
		uint64_t r = next_random(&c->random);
		size_t slot = r % CHURN_SLOTS, len = 16 + (r >> 32) % 1024;

		free(c->slots[slot]);
		c->slots[slot] = must(malloc(len));
		memset(c->slots[slot], (int)r, len);
	}
}

NOINLINE static void churn_fill(struct churn *c, uint64_t seed)
{
	memset(c->slots, 0, sizeof(c->slots));
	c->random = seed;
	churn_turn(c, 4 * CHURN_SLOTS);
}

NOINLINE static void churn_for(struct churn *c, double seconds, int pairs)
{
	double end = now_s() + seconds;

	while (now_s() < end) {
		churn_turn(c, pairs);
		nap_ms(10);
	}
}

#endif
