/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What leaking programs share that are to show their leaking line: threads that churn, and a live table beside the leak.
 *
 *     PROGRAM SECONDS KIND [--threads N] [--churn PAIRS/S] [--rate BYTES/S] [--size BYTES] [--churn-max BYTES]
 *             [--table MIB] [--replace ENTRIES/S]
 *
 * The main thread leaks and churns; N - 1 others churn. Half of the churn is of the leak's own size, the rest of 16 .. churn-max bytes. The
 * table is filled before the truth is printed, so that whoever attaches at that line finds it there; its entries are replaced at random.
 *
 * The truth, first of all; "wrapper" names functions of the program that only pass the request on, whose callers count:
 *     { "victim": "site_c", "pid": 4099, "expected": ["leak"], "where": "heap", "function": "leak_strdup", "line": 31,
 *       "bytes_per_s": 65536, "wrapper": "", "threads": 4, "churn_per_s": 1000000, "table_mib": 64 }
 * At the end, what was really done: { "seconds": 30.0, "leaked_bytes": 1966080, "pairs": 30000000 }
 */
#ifndef SITE_H
#define SITE_H

#include "victim.h"

#include <pthread.h>
#include <stdbool.h>

#define SITE_SLOTS 1021
#define SITE_ENTRY 1024
#define SITE_STEP_MS 2
#define SITE_DEBT_S                                                                                                    \
	0.02 /* what a late thread catches up with, at most: a slow machine churns less, instead of ever later */

struct site_options {
	double seconds, rate;
	long threads, churn, size, churn_max, table_mib, replace;
	const char *kind;
};

struct site_pace { /* so much a second, in whole pieces */
	double rate, from;
	uint64_t done;
};

struct site_kind {
	const char *name, *function;
	int line;
	void (*leak)(size_t size);  /* loses one piece of about size bytes */
	void *(*take)(size_t size); /* how the churn takes blocks */
	void (*give)(void *block);
	const char *wrapper, *where;
};

static struct site_options site_options;
static const struct site_kind *site_kind;
static double site_start;

static inline uint64_t site_due(struct site_pace *p, double now, double most_late_s)
{
	uint64_t all = (uint64_t)((now - p->from) * p->rate), due = all > p->done ? all - p->done : 0;
	uint64_t most = (uint64_t)(most_late_s * p->rate);

	if (due > most) {
		p->from += (double)(due - most) / p->rate;
		due = most;
	}
	p->done += due;
	return due;
}

NOINLINE static bool site_option(const char *name, const char *value)
{
	long number = atol(value);

	if (strcmp(name, "--threads") == 0)
		site_options.threads = number;
	else if (strcmp(name, "--churn") == 0)
		site_options.churn = number;
	else if (strcmp(name, "--rate") == 0)
		site_options.rate = (double)number;
	else if (strcmp(name, "--size") == 0)
		site_options.size = number;
	else if (strcmp(name, "--churn-max") == 0)
		site_options.churn_max = number;
	else if (strcmp(name, "--table") == 0)
		site_options.table_mib = number;
	else if (strcmp(name, "--replace") == 0)
		site_options.replace = number;
	else
		return false;
	return true;
}

NOINLINE static void site_usage(const char *program)
{
	fprintf(stderr, "%s SECONDS KIND [--threads N] [--churn N] [--rate N] [--size N] [--table MIB] ...\n", program);
	exit(2);
}

NOINLINE static void site_parse(int argc, char **argv, const char *kind)
{
	int i = 2;

	site_options = (struct site_options){ 30, 131072, 1, 100000, 499, 1039, 0, 0, kind };
	if (argc > 1)
		site_options.seconds = atof(argv[1]);
	if (argc > i && strncmp(argv[i], "--", 2) != 0)
		site_options.kind = argv[i++];
	for (; i + 1 < argc; i += 2)
		if (!site_option(argv[i], argv[i + 1]))
			site_usage(argv[0]);
	if (i != argc || site_options.threads < 1 || site_options.threads > 64 || site_options.size < 32 ||
	    site_options.rate < 1 || site_options.churn_max < 17 || site_options.churn < 0)
		site_usage(argv[0]);
}

NOINLINE static void site_truth(const char *victim)
{
	const struct site_options *o = &site_options;
	char details[512];

	snprintf(details, sizeof(details),
		 ", \"where\": \"%s\", \"function\": \"%s\", \"line\": %d, \"bytes_per_s\": %.0f, \"wrapper\": \"%s\", "
		 "\"threads\": %ld, \"churn_per_s\": %ld, \"table_mib\": %ld",
		 site_kind->where, site_kind->function, site_kind->line, o->rate, site_kind->wrapper, o->threads,
		 o->churn, o->table_mib);
	print_truth(victim, "\"leak\"", details);
}

/* ---- the live table ----------------------------------------------------------------------------------------------------- */

struct site_table {
	char **entries;
	size_t count;
	uint64_t random;
	struct site_pace pace;
};

NOINLINE static char *site_table_entry(int value)
{
	char *entry = (char *)must(malloc(SITE_ENTRY));

	memset(entry, value, SITE_ENTRY);
	return entry;
}

NOINLINE static void site_table_fill(struct site_table *t)
{
	memset(t, 0, sizeof(*t));
	t->random = 7919;
	t->count = (size_t)site_options.table_mib * MIB / SITE_ENTRY;
	if (t->count == 0)
		return;
	t->entries = (char **)must(calloc(t->count, sizeof(*t->entries)));
	for (size_t i = 0; i < t->count; i++)
		t->entries[i] = site_table_entry((int)i);
	t->pace.rate = (double)site_options.replace;
}

NOINLINE static void site_table_replace(struct site_table *t, double now)
{
	if (t->count == 0 || t->pace.rate < 1)
		return;
	for (uint64_t due = site_due(&t->pace, now, SITE_DEBT_S); due; due--) {
		size_t i = next_random(&t->random) % t->count;

		free(t->entries[i]);
		t->entries[i] = site_table_entry((int)i);
	}
}

/* ---- churn -------------------------------------------------------------------------------------------------------------- */

struct site_churn {
	void *slots[SITE_SLOTS];
	uint64_t random, pairs;
	struct site_pace pace;
};

NOINLINE static void site_churn_turn(struct site_churn *c, uint64_t pairs)
{
	void *(*take)(size_t) = site_kind->take;
	void (*give)(void *) = site_kind->give;
	uint64_t others = (uint64_t)site_options.churn_max - 15;

	for (uint64_t i = 0; i < pairs; i++) {
		uint64_t r = next_random(&c->random);
		void **slot = &c->slots[r % SITE_SLOTS];

		if (*slot)
			give(*slot);
		*slot = take((r >> 20) & 1 ? (size_t)site_options.size : (size_t)(16 + (r >> 32) % others));
	}
	c->pairs += pairs;
}

NOINLINE static void site_churn_step(struct site_churn *c, double now)
{
	uint64_t due = site_due(&c->pace, now, SITE_DEBT_S);

	if (due)
		site_churn_turn(c, due);
}

NOINLINE static void *site_churn_thread(void *arg)
{
	struct site_churn *c = (struct site_churn *)arg;

	for (double now = now_s(); now - site_start < site_options.seconds; now = now_s()) {
		site_churn_step(c, now);
		nap_ms(SITE_STEP_MS);
	}
	return NULL;
}

/* ---- the whole program ------------------------------------------------------------------------------------------------- */

NOINLINE static double site_leak_until_end(struct site_churn *churn, struct site_table *table)
{
	double leaked = 0;

	for (double now = now_s(); now - site_start < site_options.seconds; now = now_s()) {
		site_churn_step(churn, now);
		for (double due = (now - site_start) * site_options.rate; leaked < due;
		     leaked += (double)site_options.size)
			site_kind->leak((size_t)site_options.size);
		site_table_replace(table, now);
		nap_ms(SITE_STEP_MS);
	}
	return leaked;
}

NOINLINE static int site_main(int argc, char **argv, const char *victim, const struct site_kind *kinds, size_t count)
{
	static struct site_churn churn[64];
	struct site_table table;
	pthread_t threads[64];
	uint64_t pairs = 0;
	double leaked;

	site_parse(argc, argv, kinds[0].name);
	for (size_t i = 0; i < count; i++)
		if (strcmp(kinds[i].name, site_options.kind) == 0)
			site_kind = &kinds[i];
	if (!site_kind)
		site_usage(argv[0]);
	site_table_fill(&table);
	site_truth(victim);
	site_start = table.pace.from = now_s();
	for (long i = 0; i < site_options.threads; i++) {
		churn[i].random = 4099 + (uint64_t)i;
		churn[i].pace.from = site_start;
		churn[i].pace.rate = (double)site_options.churn / (double)site_options.threads;
		if (i > 0 && pthread_create(&threads[i], NULL, site_churn_thread, &churn[i]) != 0)
			return 1;
	}
	leaked = site_leak_until_end(&churn[0], &table);
	for (long i = 0; i < site_options.threads; i++) {
		if (i > 0)
			pthread_join(threads[i], NULL);
		pairs += churn[i].pairs;
	}
	printf("{ \"seconds\": %.3f, \"leaked_bytes\": %.0f, \"pairs\": %llu }\n", now_s() - site_start, leaked,
	       (unsigned long long)pairs);
	return 0;
}

#endif
