/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the verdict: features are computed once (features.c, trend.c), rules read them (rules.c: the first that
 * holds names the class), evidence says what was seen (evidence.c, one table entry per id), actions and forecast
 * follow from the class.
 */
#ifndef MEMWATCH_VERDICT_PRIV_H
#define MEMWATCH_VERDICT_PRIV_H

#include "memwatch/base/str.h"
#include "memwatch/verdict.h"

#define TREND_POINTS 600
#define TREND_TROUGHS 40
#define EVIDENCE_MAX 24
#define ACTION_MAX 6

/* One-sided 1 % of the normal distribution; and of Student's t with some 15 degrees of freedom at 5 %. */
#define GATE_Z 2.33
#define GATE_DRIFT_T 1.65

#define KIB 1024.0
#define MIB (1024.0 * 1024.0)

/* One metric inside the window, reduced to troughs and tested. Zeroed where the metric is not known. */
struct trend {
	bool known; /* enough points for tests */
	enum metric metric;
	size_t count;
	struct point points[TREND_POINTS];
	struct point troughs[TREND_TROUGHS];
	size_t trough_count;
	double from_s, span_s, period_s;
	double level_first, level_last; /* medians of the outermost troughs */
	double rise;                    /* level_last - level_first */
	struct point high;              /* highest point */
	double noise;                   /* of the troughs about any smooth course */
	double scatter;                 /* of the points about the line between the levels */
	double material;                /* a smaller change counts as none */
	double z, drift_t;              /* Mann-Kendall; mean increment over its standard error */
	struct interval slope;
	size_t higher;                   /* troughs above the one before */
	bool wanders;                    /* about the line, as a random walk does */
	bool new_max;                    /* the highest trough lies in the last third */
	bool rising;                     /* the gate: significant, material, new maximum */
	bool linear;                     /* no other shape explains it clearly better than a line */
	bool saturates;                  /* a saturating course explains it clearly better than a line */
	double rise_begin_s, rise_end_s; /* last trough below 10 % and first above 90 % of the rise */
	double flat_tail_s;              /* how long it has stayed where it is now */
	size_t bursts;                   /* excursions above half of the way to the highest point */
	double burst_share;              /* of the time spent there */
	double onset_s;                  /* where a linear rise begins */
	struct shape_fit shape;
};

/* How much of the growth of RSS is whose. All over the same time; NaN unknown. */
struct split {
	double rss, in_use, free_inside, rest;
	double file, shmem, stack, anon;
};

struct features {
	const struct verdict_input *in;
	uint64_t samples;
	double from_s, to_s,
		span_s;    /* what is judged: the start-up of a fresh process and a dying one's last moments cut off */
	double observed_s; /* all of it */
	bool startup_cut;
	struct trend rss, truth, free_inside;
	bool has_truth;     /* truth holds the allocator's bytes in use or the runtime's live bytes */
	bool truth_is_live; /* the latter */
	struct split split;
	enum verdict_where where; /* what grows most of RSS */
	double where_rise;
	double held_free;       /* bytes free inside the allocator all through the last fifth; NaN unknown */
	double held_share;      /* of RSS */
	double held_needed;     /* share that makes it retention */
	bool peak_seen;         /* the memory now free was in use while memwatch watched */
	double trimmable_share; /* of the free bytes; NaN unknown */
	double gc_gap;          /* RSS - live bytes; NaN unknown */
};

/* Scratch of one judgement. */
struct judgement {
	struct features f;
	struct arena *arena;
	const struct trend *subject; /* the trend that the verdict is about */
	struct verdict v;
	struct evidence evidence[EVIDENCE_MAX];
	struct action actions[ACTION_MAX];
	struct str text; /* scratch of the builders */
	bool failed;     /* out of memory */
};

struct verdict_rule {
	const char *name;
	/* Whether it holds; then sets class, kind, cause, where, confidence of *ret and the subject. */
	bool (*applies)(const struct features *f, struct verdict *ret, const struct trend **ret_subject);
	const char *aside; /* said against the verdict where it also holds behind another; NULL: nothing to say */
};

struct evidence_rule {
	const char *id;
	void (*say)(struct judgement *j, const char *id); /* adds at most one, or nothing where it has nothing to say */
};

extern const struct verdict_rule verdict_rules[];   /* ended by name == NULL */
extern const struct evidence_rule evidence_rules[]; /* ended by id == NULL */

/* trend.c */
void trend_measure(const struct series *s, enum metric m, double from_s, double to_s, double floor_bytes,
		   double floor_share, struct trend *ret);
double level_between(const struct point *points, size_t count, double from_s, double to_s); /* median; NaN for none */

/* features.c */
void features_compute(const struct verdict_input *in, struct features *ret);

/* confidence.c */
double confidence_logistic(double score);
double confidence_cap(double confidence, double span_s, size_t troughs);
double confidence_of_trend(const struct trend *t);

/* evidence.c, actions.c, forecast.c */
void evidence_build(struct judgement *j);
void actions_build(struct judgement *j);
void forecast_build(struct judgement *j);

/* text.c */
void text_tenths(struct str *out, double value);
void text_rate(struct str *out, double per_s);
void text_interval(struct str *out, struct interval per_s); /* "(95 %: 0.98 to 1.06)" in the unit of the value */
const char *text_take(struct judgement *j); /* the scratch text, moved to the arena; "" and failed on no memory */

#endif
