/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Labelled series: runs of processes whose behaviour is known, made from a seed. RSS every 100 ms (faster in the
 * first second, as memwatch samples), heap walks every 0.2 to 2 s.
 */
#ifndef MEMWATCH_TEST_SUPPORT_SERIES_H
#define MEMWATCH_TEST_SUPPORT_SERIES_H

#include "memwatch/verdict.h"

enum run_kind {
	RUN_LEAK_CHURN,    /* leak below a noisy in-use level */
	RUN_LEAK_SAWTOOTH, /* leak below a periodic one */
	RUN_LEAK_LATE,     /* begins in the middle */
	RUN_LEAK_LIVE,     /* the runtime's live bytes grow */
	RUN_CACHE_LINEAR,  /* fills evenly for 20 to 60 % of the run, then flat */
	RUN_CACHE_CURVE,   /* saturates */
	RUN_PEAK_PINNED,   /* freed between blocks in use */
	RUN_PEAK_TOP,      /* freed, not trimmed */
	RUN_HELD_BEFORE,   /* attached after the peak */
	RUN_FREE_GROWS,    /* in use flat, the allocator takes more and more */
	RUN_GC_HOLDS,      /* live bytes fell, RSS did not */
	RUN_CHURN,         /* steady, in use within 5 % */
	RUN_AR1,           /* steady, in use wanders about a level */
	RUN_WALK,          /* random walk */
	RUN_FALLING,
	RUN_SPIKE,
	RUN_STEP,
	RUN_STARTUP, /* watched from exec: all taken in the first 10 % */
	RUN_RUNTIME_IDLE,
	RUN_RUNTIME_SAWTOOTH,
	RUN_RUNTIME_GROWS,
	RUN_DOUBLING, /* a vector that grows by pushes */
	RUN_NO_TRUTH, /* leak of a program whose heap cannot be read */
	RUN_MMAP,     /* anonymous mappings outside the allocator */
	RUN_FILE,
	RUN_SHMEM,
	RUN_STACKS,
	RUN_HEAP_MINOR, /* the heap grows a little, mappings much */
	RUN_SHORT,
	RUN_FEW,             /* too few samples */
	RUN_UNITS,           /* units of work in bursts, each of which keeps 4 KiB; the first unit keeps 3.6 MB */
	RUN_UNITS_TRANSIENT, /* the same, but units should leave nothing behind */
	RUN_IDLE_LEAK,       /* recorded RSS and CPU: grows while no work is done */
	RUN_LOADED,          /* recorded RSS and CPU: grows in step with work that varies much */
	RUN_TIMED,           /* the same work, but growth goes with time */
	RUN_TEETH,           /* recorded RSS alone: what is left after each collection rises */
	RUN_STAIRS,          /* recorded RSS alone: equal steps */
	RUN_WAVES,           /* recorded RSS alone: two days */
	RUN_SLOWER,          /* memory flat, each unit of work takes longer */
	RUN_KIND_COUNT
};

struct run {
	enum run_kind kind;
	struct series *series;
	struct heap_stats heap;
	struct verdict_limit limit;
	struct verdict_input input;
	double rate;                  /* bytes per s where it grows */
	struct heap_size_class class; /* RUN_LEAK_CHURN: blocks that were followed */
};

struct run_label {
	const char *name;
	uint64_t classes; /* bit set of enum verdict_class that are right */
	enum verdict_kind kind;
	enum verdict_cause cause;
	int where; /* enum verdict_where; -1: any */
};

extern const struct run_label run_labels[RUN_KIND_COUNT];

/* seconds 0: 10 to 30, by the seed */
void run_make(struct run *r, enum run_kind kind, uint64_t seed, double seconds);
void run_free(struct run *r);
bool run_right(const struct run *r, const struct verdict *v);

/* Deterministic numbers for tests: uniform in [0, 1), and normal. */
double random_uniform(uint64_t *state);
double random_normal(uint64_t *state);

#endif
