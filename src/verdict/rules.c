/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rules in order: the first that holds names the class. */
#include <math.h>

#include "verdict-priv.h"

/* Growth that something else than the heap makes up, at more than twice the heap's, is not the heap's leak. */
#define HEAP_MINOR 2.0
/* Flat for that share of the window: it has stopped. */
#define TAIL_SHARE 0.22
#define TAIL_SPACINGS 2.5
#define STEP_TAIL_SHARE 0.15
#define STEP_HEAD_SHARE 0.08
#define STEP_SPREAD 0.1 /* of the window; or neighbouring troughs */
#define STEP_SPACINGS 1.6
#define STEP_EXPLAINS 0.8 /* of the rise */
#define RAMP_SHARE 0.15   /* a rise at the very beginning of a fresh process that is shorter is its start-up … */
#define STARTUP_REST 0.34 /* … unless more than a third of all growth is left of it after the cut */
#define BURST_SIGMAS 5
#define BURST_BACK 0.3  /* what may remain of it */
#define BURST_SHARE 0.6 /* of the time */
#define BURST_OF_LEVEL 0.1
/* Retention below this is not worth an action, whatever its share: an allocator's normal stock. */
#define HELD_MIN (8 * MIB)
#define HELD_SHARE_MIN 0.25
#define GIVEN_BACK 2.0    /* times what is held: then most was given back */
#define FREE_EXPLAINS 0.6 /* of the growth of RSS */
#define TRIM_MOST 0.5
#define IN_USE_EXPLAINS 0.6
#define SUPPORTED_Z 1.64 /* one-sided 5 % */
/* Limits of what can be known. */
#define MAX_GROWTH 0.85
#define MAX_RUNTIME 0.7
#define MAX_ODD_SHAPE 0.6
#define MAX_RUNTIME_LEAK 0.85
#define MAX_SUPPORTED 0.85

/*
 * Flat for long, over some troughs, and a course with an end fits no worse than a line: noise can hide a slope in a
 * tail. A staircase that doubles has long treads and has not stopped on one.
 */
static bool stopped(const struct trend *t)
{
	const double *bic = t->shape.bic;
	double spacing_s = t->trough_count > 1 ? t->span_s / (double)(t->trough_count - 1) : 0;
	bool ends = !(bic[SHAPE_LINEAR] < fmin(bic[SHAPE_SATURATING], bic[SHAPE_STEP]));

	return t->flat_tail_s >= fmax(TAIL_SHARE * t->span_s, TAIL_SPACINGS * spacing_s) && ends &&
	       t->shape.shape != SHAPE_DOUBLING;
}

static bool is_step(const struct trend *t)
{
	double took_s = t->rise_end_s - t->rise_begin_s;
	double spacing_s = t->trough_count > 1 ? t->span_s / (double)(t->trough_count - 1) : 0;

	return t->known && t->rise >= t->material && t->shape.shape != SHAPE_DOUBLING &&
	       took_s <= fmax(STEP_SPREAD * t->span_s, STEP_SPACINGS * spacing_s) &&
	       t->flat_tail_s >= STEP_TAIL_SHARE * t->span_s &&
	       t->rise_begin_s - t->from_s >= STEP_HEAD_SHARE * t->span_s &&
	       t->shape.step_size >= STEP_EXPLAINS * t->rise;
}

/* The end of the start-up that the cut left standing. */
static bool is_startup(const struct features *f, const struct trend *t)
{
	struct point first;
	bool early = t->rise_end_s - t->from_s < RAMP_SHARE * t->span_s;

	return f->startup_cut && early && series_first(f->in->series, t->metric, &first) &&
	       t->rise < STARTUP_REST * (t->level_last - first.v);
}

static bool grew_and_stopped(const struct features *f, const struct trend *t)
{
	return t->known && t->rise >= t->material && t->z > 0 && (stopped(t) || t->saturates) && !is_startup(f, t);
}

/* Steady growth of any kind; a staircase that doubles has few increments, so its drift proves nothing. */
static bool grows(const struct trend *t)
{
	return t->known && t->rising && !stopped(t) && !t->saturates;
}

static bool applies_insufficient(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	if (f->observed_s >= VERDICT_MIN_SECONDS && f->samples >= VERDICT_MIN_SAMPLES && (f->rss.known || f->has_truth))
		return false;
	ret->class = VERDICT_INSUFFICIENT_DATA;
	ret->confidence = 1;
	*ret_subject = &f->rss;
	return true;
}

static bool heap_is_minor(const struct features *f)
{
	return !f->truth_is_live && f->where != WHERE_HEAP && f->where_rise >= f->rss.material && f->rss.rising &&
	       f->where_rise > HEAP_MINOR * f->truth.rise;
}

/* A level that wanders must drift beyond doubt: one random walk in ten passes the other gates. */
static bool leaks_alone(const struct trend *t)
{
	double least = t->wanders ? 2 * GATE_DRIFT_T : GATE_DRIFT_T;

	return grows(t) && t->linear && t->shape.shape != SHAPE_DOUBLING && t->drift_t >= least;
}

/*
 * Walks are few, and churn may scatter them; RSS is dense. Where RSS rises beyond doubt and the split says that it is
 * the bytes in use, a weaker trend of theirs is enough. Free memory that grows, or mappings, fail the split.
 */
static bool leaks_with_rss(const struct features *f)
{
	const struct trend *t = &f->truth, *rss = &f->rss;
	double most = IN_USE_EXPLAINS * f->split.rss;

	return grows(rss) && !rss->wanders && rss->linear && rss->shape.shape != SHAPE_DOUBLING &&
	       rss->drift_t >= 2 * GATE_DRIFT_T && t->z > SUPPORTED_Z && t->rise >= most && f->split.in_use >= most &&
	       t->shape.shape != SHAPE_DOUBLING && f->split.free_inside < f->split.rss / 4;
}

static bool applies_leak(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = &f->truth;
	bool alone = leaks_alone(t);

	if (!f->has_truth || !(alone || leaks_with_rss(f)) || heap_is_minor(f))
		return false;
	ret->class = VERDICT_LEAK;
	ret->kind = KIND_SUSPECTED;
	ret->where = f->truth_is_live ? WHERE_RUNTIME : WHERE_HEAP;
	ret->confidence = alone ? confidence_of_trend(t) : fmin(MAX_SUPPORTED, confidence_of_trend(&f->rss));
	if (f->in->runtime && !f->truth_is_live)
		ret->confidence = fmin(ret->confidence, MAX_RUNTIME_LEAK);
	*ret_subject = t;
	return true;
}

static bool applies_gc(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *live = &f->truth;
	double level = f->rss.level_last, drop = live->high.v - live->level_last;
	bool dropped =
		fmin(drop, f->gc_gap) >= fmax(HELD_MIN, HELD_SHARE_MIN * level) && f->rss.high.v - level < drop / 2;

	if (!f->truth_is_live || !f->rss.known || live->rising ||
	    !(dropped || (f->rss.rising && live->rise < f->rss.rise / 4)))
		return false;
	ret->class = VERDICT_RETENTION;
	ret->cause = CAUSE_GC;
	ret->where = WHERE_RUNTIME;
	ret->confidence = confidence_cap(confidence_logistic(1 + fmin(1.5, log2(fmax(1, f->gc_gap / HELD_MIN)) / 2)),
					 f->span_s, f->rss.trough_count);
	*ret_subject = &f->rss;
	return true;
}

static enum verdict_cause retention_cause(const struct features *f)
{
	/* without a walk nothing speaks for pinned pages, and the allocator is the one that can be asked */
	return f->trimmable_share < TRIM_MOST ? CAUSE_FRAGMENTATION : CAUSE_ALLOCATOR;
}

static bool applies_retention(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	bool held = f->held_free >= HELD_MIN && f->held_share >= f->held_needed &&
		    !(f->peak_seen && f->rss.high.v - f->rss.level_last > GIVEN_BACK * f->held_free);
	bool growing = grows(&f->rss) && grows(&f->free_inside) && f->split.free_inside >= HELD_MIN / 2 &&
		       f->split.free_inside >= FREE_EXPLAINS * f->split.rss;

	if (!f->has_truth || f->truth_is_live || !f->rss.known || f->truth.rising || !(held || growing))
		return false;
	ret->class = VERDICT_RETENTION;
	ret->cause = retention_cause(f);
	ret->where = WHERE_HEAP;
	ret->confidence = confidence_cap(
		confidence_logistic(0.8 + fmin(1.5, log2(fmax(1, f->held_free / HELD_MIN)) / 2) +
				    fmin(1.5, 4 * fmax(0, f->held_share - f->held_needed)) + f->peak_seen),
		f->span_s, f->rss.trough_count);
	*ret_subject = growing && !held ? &f->free_inside : &f->rss;
	return true;
}

static bool applies_spike(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->rss.known ? &f->rss : &f->truth;
	double base = fmax(t->level_first, t->level_last), size = t->high.v - base;

	if (!t->known || size < 2 * t->material || size < BURST_SIGMAS * t->scatter || size < BURST_OF_LEVEL * base ||
	    fabs(t->rise) > BURST_BACK * size || t->bursts < 1 || t->bursts > 2 || t->burst_share > BURST_SHARE)
		return false;
	ret->class = VERDICT_SPIKE;
	ret->confidence = confidence_cap(confidence_logistic(0.8 + fmin(2, log2(size / (2 * t->material)) / 2) +
							     (t->bursts == 1 ? 0.5 : 0) - 2 * fabs(t->rise) / size),
					 f->span_s, t->trough_count);
	*ret_subject = t;
	return true;
}

/* Where the subject lies: the heap if it is the allocator's figure, else what grows most. */
static enum verdict_where where_of(const struct features *f, const struct trend *t)
{
	if (t->metric == METRIC_HEAP_IN_USE)
		return WHERE_HEAP;
	return t->metric == METRIC_RUNTIME_LIVE ? WHERE_RUNTIME : f->where;
}

static bool applies_step(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = is_step(&f->truth) ? &f->truth : &f->rss;

	if (!is_step(t) || is_startup(f, t))
		return false;
	ret->class = VERDICT_STEP;
	ret->where = where_of(f, t);
	ret->confidence = confidence_cap(confidence_logistic(1 + fmin(1.5, log2(t->rise / t->material) / 2) +
							     fmin(1, 2 * t->flat_tail_s / t->span_s)),
					 f->span_s, t->trough_count);
	*ret_subject = t;
	return true;
}

static bool applies_warmup(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = grew_and_stopped(f, &f->truth) ? &f->truth : &f->rss;

	/* the heap may have settled while the rest goes on growing */
	if (!grew_and_stopped(f, t) || (t == &f->truth && grows(&f->rss) && f->rss.rise > HEAP_MINOR * t->rise))
		return false;
	ret->class = VERDICT_WARMUP;
	ret->where = where_of(f, t);
	ret->confidence = confidence_cap(confidence_logistic(0.3 + fmin(1.5, log2(t->rise / t->material) / 2) +
							     3 * t->flat_tail_s / t->span_s + (t->saturates ? 0.5 : 0)),
					 f->span_s, t->trough_count);
	if (!stopped(t))
		ret->confidence = fmin(ret->confidence, MAX_ODD_SHAPE);
	*ret_subject = t;
	return true;
}

static bool applies_growth(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	bool by_rss = grows(&f->rss) && !(grows(&f->truth) && f->truth.rise > f->rss.rise / HEAP_MINOR);
	const struct trend *t = by_rss ? &f->rss : &f->truth;

	if (!grows(t))
		return false;
	ret->class = VERDICT_GROWTH;
	ret->where = where_of(f, t);
	ret->confidence = fmin(MAX_GROWTH, confidence_of_trend(t));
	if (f->in->runtime)
		ret->confidence = fmin(ret->confidence, MAX_RUNTIME);
	if (!t->linear || t->drift_t < GATE_DRIFT_T)
		ret->confidence = fmin(ret->confidence, MAX_ODD_SHAPE);
	*ret_subject = t;
	return true;
}

static double doubt(const struct trend *t)
{
	if (!t->known)
		return 0;
	return 0.6 * fmax(0, t->z - 1) + fmax(0, t->rise / t->material - 0.3);
}

static bool applies_stable(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->has_truth && doubt(&f->truth) > doubt(&f->rss) ? &f->truth : &f->rss;

	ret->class = VERDICT_STABLE;
	if (!t->known)
		t = &f->truth;
	ret->confidence = confidence_cap(confidence_logistic(3 - doubt(t)), f->span_s, t->trough_count);
	*ret_subject = t;
	return true;
}

const struct verdict_rule verdict_rules[] = {
	{ "short", applies_insufficient, NULL },
	{ "leak", applies_leak, NULL },
	{ "gc-retention", applies_gc, "the runtime also keeps memory that its live objects do not fill" },
	{ "retention", applies_retention, "the allocator also keeps free memory" },
	{ "spike", applies_spike, "a burst that was given back also stands out" },
	{ "step", applies_step, "one step also explains most of the rise" },
	{ "warmup", applies_warmup, "part of it also grew and then stopped" },
	{ "growth", applies_growth, "memory also grows steadily" },
	{ "stable", applies_stable, NULL },
	{ NULL, NULL, NULL },
};
