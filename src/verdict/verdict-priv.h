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
#define EVIDENCE_MAX 32
#define ACTION_MAX 6

/* One-sided 1 % of the normal distribution; and of Student's t with some 15 degrees of freedom at 5 %. */
#define GATE_Z 2.33
#define GATE_DRIFT_T 1.65

/* What grows is not surely growing before so much was seen of it. */
#define SURE_SECONDS 40.0
#define SETTLED_SECONDS 15.0 /* what does not grow */
#define SURE_TROUGHS 12

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
	/*
	 * Mann-Kendall, less what neighbours that depend on each other feign (or, on few troughs, the t of the line where it says
	 * more); mean increment over its standard error.
	 */
	double z, drift_t;
	size_t teeth; /* regular cycles found: the troughs are theirs; 0 none */
	struct interval slope;
	size_t higher;                   /* troughs above the one before */
	bool wanders;                    /* about the line, as a random walk does */
	bool new_max;                    /* the highest trough lies in the last third */
	bool rising;                     /* the gate: significant, material, new maximum */
	bool linear;                     /* no other shape explains it clearly better than a line */
	bool waves;                      /* a wave explains it clearly better than a line */
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

/* How memory goes with the work done; see work_relate(). */
enum work_relation {
	WORK_UNKNOWN,
	WORK_IDLE,     /* memory grows while (nearly) no work is done */
	WORK_STEADY,   /* the rate is too even to tell work from time */
	WORK_EXPLAINS, /* growth goes with work, and stands still when work does */
	WORK_TIME,     /* growth goes with time, though work varies */
	WORK_MIXED     /* with both */
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
	double gc_gap;          /* held by the runtime beside live bytes; NaN unknown */
	const struct trend
		*grower; /* truth where there is one and the heap is not minor, else rss: what work is held against */
	struct work_fit work; /* of that, see work.c */
	enum work_relation relation;
	struct cycle_fit cycles;
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

/* Growth that something else than the heap makes up, at more than twice the heap's, is not the heap's leak. */
#define HEAP_MINOR 2.0
#define MAX_ODD_SHAPE 0.8 /* confidence where the course has another shape than the class supposes */

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

/* course.c */
bool course_stopped(const struct trend *t);
bool course_is_step(const struct trend *t);
bool course_is_startup(const struct features *f,
		       const struct trend *t); /* the end of the start-up that the cut left standing */
bool course_grew_and_stopped(const struct features *f, const struct trend *t);
bool course_grows(const struct trend *t);     /* with no end in sight */
bool course_drifts(const struct trend *t);    /* beyond what a random walk does */
bool course_is_steady(const struct trend *t); /* … evenly, and beyond what a random walk does */
enum verdict_where course_where(const struct features *f, const struct trend *t);

/* rules_held.c, rules_once.c: as verdict_rule.applies */
bool rule_gc(const struct features *f, struct verdict *ret, const struct trend **ret_subject);
bool rule_retention(const struct features *f, struct verdict *ret, const struct trend **ret_subject);
bool rule_spike(const struct features *f, struct verdict *ret, const struct trend **ret_subject);
bool rule_step(const struct features *f, struct verdict *ret, const struct trend **ret_subject);
bool rule_warmup(const struct features *f, struct verdict *ret, const struct trend **ret_subject);

/* trend.c */
void trend_measure(const struct series *s, enum metric m, double from_s, double to_s, double floor_bytes,
		   double floor_share, struct trend *ret);
double level_between(const struct point *points, size_t count, double from_s, double to_s); /* median; NaN for none */

/* features.c */
bool features_heap_is_minor(const struct features *f); /* something else grows much more */
void features_compute(const struct verdict_input *in, struct features *ret);

/*
 * work.c: memory (the points of the subject) against work. Picks the counter: METRIC_WORK where there is one, else the kernel's counter
 * that goes best with the memory and is not memory itself. ret->known false where no counter covers the time.
 */
void work_measure(const struct verdict_input *in, const struct trend *subject, double from_s, double to_s,
		  struct work_fit *ret);

enum work_relation work_relate(const struct work_fit *w, double rise, double span_s);

/* work.c for work_fit.c: the memory at some even times, and the count of units then. */
#define WORK_BLOCKS 120
struct work_course {
	size_t count;
	size_t still;    /* the first so many lie before the counter first moved (0: not told apart) */
	bool still_thin; /* … and stand for fewer readings than the others: no part of a fit */
	double t_s[WORK_BLOCKS], units[WORK_BLOCKS], bytes[WORK_BLOCKS];
	double begin_s;    /* of the time watched */
	double resolution; /* bytes; residuals below are rounding */
};

/* work_fit.c: fills what follows from the course; cooperative, units and rate are set before. */
void work_fit_course(const struct work_course *c, struct work_fit *ret);

/* cycles.c: ret->known false where there are no cycles: fewer than 6, or nothing that swings and no units of work. */
void cycles_measure(const struct verdict_input *in, const struct trend *subject, double from_s, double to_s,
		    struct cycle_fit *ret);

/* confidence.c */
double confidence_logistic(double score);
/* sure_s: seconds after which 0.9 can be reached */
double confidence_cap(double confidence, double span_s, double sure_s, size_t troughs);
double confidence_of_trend(const struct trend *t);

/* evidence.c, evidence_work.c, actions.c, forecast.c */
void evidence_build(struct judgement *j);
/* Closes the text that j->text holds into one piece of evidence. Never NULL. */
struct evidence *evidence_add(struct judgement *j, const char *id, double value, const char *unit, double threshold);
bool evidence_rises(const struct judgement *j); /* leak, growth, scaling */
const char *evidence_subject(const struct judgement *j);
const char *work_piece(const struct judgement *j); /* "request", "piece of work" */
void add_per_unit(struct judgement *j);            /* summaries */
void add_slower(struct judgement *j);
void say_work(struct judgement *j, const char *id);
void say_first_unit(struct judgement *j, const char *id);
void say_transient(struct judgement *j, const char *id);
void say_cycles(struct judgement *j, const char *id);
void say_cycle_time(struct judgement *j, const char *id);
void say_survivors(struct judgement *j, const char *id);
void say_sites(struct judgement *j, const char *id);
void say_teeth(struct judgement *j, const char *id);
void say_units(struct judgement *j, const char *id);
void actions_build(struct judgement *j);
void forecast_build(struct judgement *j);

/* text.c */
void text_tenths(struct str *out, double value);
void text_rate(struct str *out, double per_s);
void text_interval(struct str *out, struct interval per_s); /* "(95 %: 0.98 to 1.06)" in the unit of the value */
const char *text_take(struct judgement *j); /* the scratch text, moved to the arena; "" and failed on no memory */

#endif
