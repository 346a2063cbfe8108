/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Labelled series, richer than support_series.h: recordings and live watches of processes whose behaviour is known, made
 * from a kind, a seed and a set. The same three give the same series.
 *
 * LABELLED_TUNING may be looked at while the engine is worked on; LABELLED_JUDGING, with other seeds and with ranges that
 * go beyond or lie beside, only judges. A label is what an observer with the same data could know: support_labelled_kinds.c
 * says for each kind why. Every kind also comes with samples missing, gaps, irregular spacing and coarse pages.
 *
 *     struct labelled l;
 *     labelled_make(&l, LABELLED_PLATEAU, 17, LABELLED_TUNING);
 *     verdict_judge(&l.input, &arena, &v);
 *     right = verdict_in_set(&v, l.accepted);
 *     labelled_free(&l);
 */
#ifndef MEMWATCH_TEST_SUPPORT_LABELLED_H
#define MEMWATCH_TEST_SUPPORT_LABELLED_H

#include "memwatch/verdict.h"

enum labelled_set { LABELLED_TUNING, LABELLED_JUDGING };

enum labelled_kind {
	/* only RSS, recorded */
	LABELLED_FLAT_IID,
	LABELLED_FLAT_AR50,
	LABELLED_FLAT_AR80,
	LABELLED_FLAT_AR90,
	LABELLED_FLAT_AR95,
	LABELLED_FLAT_PAGES,
	LABELLED_SAWTOOTH,
	LABELLED_SINE,
	LABELLED_FALLING,
	LABELLED_WALK,
	LABELLED_PLATEAU,
	LABELLED_RAMP_FLAT,
	LABELLED_STEP,
	LABELLED_BURST,
	LABELLED_GROWTH_IID,
	LABELLED_GROWTH_AR50,
	LABELLED_GROWTH_AR80,
	LABELLED_GROWTH_AR95,
	LABELLED_GROWTH_LATE,
	LABELLED_GROWTH_SLOW,
	LABELLED_GROWTH_STAIRS,
	LABELLED_GROWTH_WALK, /* judged by its forecast alone */
	LABELLED_DOUBLING,
	LABELLED_SAWTOOTH_LEAK,
	/* RSS and a counter of work (CPU seconds or units), recorded */
	LABELLED_WORK_STEADY_LEAK,
	LABELLED_WORK_IDLE_LEAK,
	LABELLED_WORK_VARIES_LEAK,
	LABELLED_WORK_TRANSIENT_LEAK,
	LABELLED_WORK_BURSTS,
	LABELLED_WORK_RAMP,
	LABELLED_WORK_FLAT,
	LABELLED_WORK_PLATEAU,
	LABELLED_WORK_RATE,
	/* RSS and heap truth, recorded or live */
	LABELLED_HEAP_LEAK_IID,
	LABELLED_HEAP_LEAK_AR,
	LABELLED_HEAP_LEAK_SAWTOOTH,
	LABELLED_HEAP_LEAK_LATE,
	LABELLED_HEAP_LEAK_SLOW,
	LABELLED_HEAP_WORK_LEAK,
	LABELLED_HEAP_WORK,
	LABELLED_HEAP_CACHE,
	LABELLED_HEAP_CACHE_CURVE,
	LABELLED_HEAP_PINNED,
	LABELLED_HEAP_UNTRIMMED,
	LABELLED_HEAP_FREE_GROWS,
	LABELLED_HEAP_CHURN,
	LABELLED_HEAP_AR,
	LABELLED_HEAP_SAWTOOTH,
	LABELLED_HEAP_RSS_WALK,
	LABELLED_HEAP_WALK,
	LABELLED_HEAP_BURST,
	LABELLED_HEAP_STEP,
	LABELLED_HEAP_MAPPINGS,
	LABELLED_LIVE_LEAK,
	LABELLED_LIVE_DROPPED,
	LABELLED_LIVE_HELD,
	/* too little of anything */
	LABELLED_SHORT,
	LABELLED_FEW,
	LABELLED_KIND_COUNT
};

struct labelled_info {
	const char *name; /* kebab-case */
	enum verdict_class label;
	uint64_t accepted; /* bit set of enum verdict_class; the label among them */
	bool forecast;     /* goes on growing: a limit ahead and the time it is reached are known */
	bool unjudged;     /* no class can be asked for */
	const char *why;   /* the label is right */
};

extern const struct labelled_info labelled_info[LABELLED_KIND_COUNT];

enum labelled_event { EVENT_NONE, EVENT_CURVE, EVENT_RAMP, EVENT_STEP, EVENT_BURST, EVENT_PEAK, EVENT_FALL };
enum labelled_load { LOAD_NONE, LOAD_STEADY, LOAD_IDLE, LOAD_BURSTS, LOAD_RAMP, LOAD_DAILY };

/* What a run is made of, drawn once. Bytes, seconds, and shares of the span; 0 means none throughout. */
struct labelled_plan {
	enum labelled_kind kind;
	uint64_t state; /* of the random numbers */
	size_t points;
	double step_s, span_s;
	double drop, gap_at, gap_width, jitter, quantum;
	bool heap, live, cpu, units; /* what is recorded beside RSS */
	size_t walk_every;           /* samples */
	bool recorded, from_start, transient;
	double startup_s; /* where from_start */
	double base, other;
	double iid, ar, phi, walk; /* standard deviations; of AR(1) the stationary one, of the walk that of a step */
	bool walk_outside;         /* not the heap's */
	double rate, onset_s;      /* steady growth per second */
	double stairs;             /* in so many equal steps over the span */
	double doublings;
	double outside_rate; /* mappings beside the heap */
	double jumps;        /* rare page jumps, so many over the span */
	enum labelled_event event;
	double size, at, width;
	bool triangle;
	double tooth, tooth_s, tooth_jitter;
	double swing, swing_s, phase;
	enum labelled_load work;
	double work_phase_s; /* mean length of a busy or idle phase; period of a daily load */
	double ramp_low;     /* rate at the slow end of a ramp, 1 at the fast end */
	bool ramp_down;      /* begins fast */
	double busy;         /* CPU seconds or units a second at full rate */
	double by_work;      /* bytes that a second of full work leaves */
	double by_rate;      /* bytes in use at full rate */
	double overhead;     /* RSS that the allocator takes for each byte in use, beyond that byte */
	double free_grows;   /* bytes free inside the allocator, gained over the span */
	bool pinned, gives_back;
	double limit_ahead; /* how far the limit lies above the highest level, in rises seen */
};

struct labelled_state {
	double t_s, ar, walk, jumped;
	double tooth_begin_s, tooth_length_s, tooth_height;
	double work, counter, rate, work_end_s;
	bool busy;
	double mapped, live_seen, next_gc_s;
	double rss, high; /* the newest and the highest, seen or not */
};

struct labelled {
	enum labelled_kind kind;
	struct labelled_plan plan;
	struct labelled_state at;
	size_t next; /* sample */
	struct series *series;
	struct heap_stats heap;
	struct verdict_limit limit;
	struct verdict_input input;
	enum verdict_class label;
	enum verdict_cause cause; /* that can be known from the input; CAUSE_NONE: not asked */
	uint64_t accepted;
	double crossing_s; /* after the last sample, when the process as it goes on first reaches the limit; NaN none */
};

void labelled_make(struct labelled *ret, enum labelled_kind kind, uint64_t seed, enum labelled_set set);
void labelled_free(struct labelled *l);

/* The two halves of labelled_make, for runs of one's own: a plan, and a run of it that is fed sample by sample. */
void labelled_plan_draw(struct labelled_plan *ret, enum labelled_kind kind, uint64_t seed, enum labelled_set set);
void labelled_open(struct labelled *ret, const struct labelled_plan *plan);
void labelled_feed(struct labelled *l,
		   double until_s); /* adds the samples up to that time; input is ready afterwards */

/* RSS as recorded, for the baselines. The caller frees *ret. Returns the count. */
size_t labelled_points(const struct labelled *l, struct point **ret);

#endif
