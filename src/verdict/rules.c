/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The rules in order: the first that holds names the class. Here those of steady growth, and of nothing at all. */
#include <math.h>

#include "verdict-priv.h"

#define IN_USE_EXPLAINS 0.6
#define SUPPORTED_Z 1.64 /* one-sided 5 % */
#define SCALING_R2 0.8
/* Limits of what can be known. */
#define MAX_GROWTH 0.95
#define MAX_RUNTIME 0.7
#define MAX_RUNTIME_LEAK 0.85
#define MAX_SUPPORTED 0.85
#define MAX_BY_RSS 0.85  /* RSS holds the allocator's stock too */
#define MAX_BY_TEETH 0.8 /* … and that the work is even is concluded from the teeth alone */
#define MAX_MIXED 0.75
#define MAX_UNSETTLED 0.5
#define UNSETTLED_RISE 3.0
#define UNSETTLED_TAIL 0.1
#define MAX_COUNTER 0.8 /* a kernel's counter is not the program's unit of work */

static bool rule_short(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	bool long_enough = f->observed_s >= VERDICT_MIN_SECONDS || f->in->counted_time;

	if (long_enough && f->samples >= VERDICT_MIN_SAMPLES && (f->rss.known || f->has_truth))
		return false;
	ret->class = VERDICT_INSUFFICIENT_DATA;
	ret->confidence = 1;
	*ret_subject = &f->rss;
	return true;
}

/*
 * Walks are few, and churn may scatter them; RSS is dense. Where RSS rises beyond doubt and the split says that it is
 * the bytes in use, a weaker trend of theirs is enough. Free memory that grows, or mappings, fail the split.
 */
static bool leaks_with_rss(const struct features *f)
{
	const struct trend *t = &f->truth, *rss = &f->rss;
	double most = IN_USE_EXPLAINS * f->split.rss;

	return course_is_steady(rss) && !rss->wanders && rss->drift_t >= 2 * GATE_DRIFT_T && t->z > SUPPORTED_Z &&
	       t->rise >= most && f->split.in_use >= most && t->shape.shape != SHAPE_DOUBLING &&
	       f->split.free_inside < f->split.rss / 4;
}

/* Work that varies was counted, and says neither this nor that. */
static bool work_is_undecided(const struct features *f)
{
	return f->relation == WORK_UNKNOWN && f->work.known && f->work.rate_variation > 0;
}

/*
 * RSS alone cannot tell a leak from a cache that fills or an allocator's stock. It can where the work is known and does not explain the
 * growth, and where the memory swings and no work was counted: even teeth show even work, and each collection leaves more behind. In a live process that could
 * be looked into and was not understood (another allocator, a managed heap), neither is enough.
 */
static bool leaks_by_rss(const struct features *f, double *ret_most)
{
	const struct verdict_input *in = f->in;

	*ret_most = MAX_BY_RSS;
	if (f->has_truth || !course_is_steady(&f->rss))
		return false;
	if (in->transient)
		return true;
	if (!in->recorded || in->runtime || in->foreign_heap)
		return false;
	if (f->relation != WORK_UNKNOWN)
		return f->relation != WORK_EXPLAINS;
	*ret_most = MAX_BY_TEETH;
	return f->rss.teeth > 0 && !work_is_undecided(f);
}

/* In step with the work, whatever its course in time: a pause of the work is a pause of the growth. */
static bool goes_with_work(const struct features *f)
{
	const struct trend *t = f->grower;

	return f->relation == WORK_EXPLAINS && t->known && t->rise >= t->material && t->z >= GATE_Z &&
	       f->work.r2 >= SCALING_R2;
}

static double confidence_of_work(const struct features *f)
{
	const struct trend *t = f->grower;
	double score = 0.5 + 10 * (f->work.r2 - SCALING_R2) + fmin(1, log2(t->rise / t->material) / 2);
	double confidence = confidence_cap(confidence_logistic(score), f->span_s, SURE_SECONDS, t->trough_count);

	return f->work.cooperative ? confidence : fmin(confidence, MAX_COUNTER);
}

static bool rule_leak(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->has_truth ? &f->truth : &f->rss;
	bool alone = f->has_truth && course_is_steady(t), with_rss = f->has_truth && leaks_with_rss(f);
	double most = 1;

	if (!alone && !with_rss && !leaks_by_rss(f, &most))
		return false;
	if ((f->has_truth && features_heap_is_minor(f)) || (f->relation == WORK_EXPLAINS && !f->in->transient))
		return false;
	ret->class = VERDICT_LEAK;
	ret->kind = KIND_SUSPECTED;
	ret->where = course_where(f, t);
	ret->confidence = with_rss && !alone ? fmin(MAX_SUPPORTED, confidence_of_trend(&f->rss)) :
					       fmin(most, confidence_of_trend(t));
	if (f->in->runtime && !f->truth_is_live)
		ret->confidence = fmin(ret->confidence, MAX_RUNTIME_LEAK);
	if (f->relation == WORK_MIXED || work_is_undecided(f))
		ret->confidence = fmin(ret->confidence, MAX_MIXED);
	*ret_subject = t;
	return true;
}

/* Goes with the work, and the work should leave nothing behind. */
static bool rule_unit_leak(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	if (!f->in->transient || !goes_with_work(f))
		return false;
	ret->class = VERDICT_LEAK;
	ret->kind = KIND_SUSPECTED;
	ret->where = course_where(f, f->grower);
	ret->confidence = confidence_of_work(f);
	*ret_subject = f->grower;
	return true;
}

static bool rule_scaling(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	if (f->in->transient || !goes_with_work(f))
		return false;
	ret->class = VERDICT_SCALING;
	ret->where = course_where(f, f->grower);
	ret->confidence = confidence_of_work(f);
	*ret_subject = f->grower;
	return true;
}

/* Much more than would count, but of no shape that has a name: no leak, and not stable either. */
static bool rule_unsettled(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->grower;
	bool rests = t->flat_tail_s >= UNSETTLED_TAIL * t->span_s;

	if (!t->known || t->rise < UNSETTLED_RISE * t->material || t->waves || course_is_startup(f, t) ||
	    !(rests || (t->z >= GATE_Z && t->new_max)))
		return false;
	ret->class = rests ? VERDICT_WARMUP : VERDICT_GROWTH;
	ret->where = course_where(f, t);
	ret->confidence = fmin(MAX_UNSETTLED, confidence_of_trend(t));
	*ret_subject = t;
	return true;
}

static bool rule_growth(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	bool by_rss = course_grows(&f->rss) && !(course_grows(&f->truth) && f->truth.rise > f->rss.rise / HEAP_MINOR);
	const struct trend *t = by_rss ? &f->rss : &f->truth;

	if (!course_grows(t) || !course_drifts(t))
		return false;
	ret->class = VERDICT_GROWTH;
	ret->where = course_where(f, t);
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

static bool rule_stable(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->has_truth && doubt(&f->truth) > doubt(&f->rss) ? &f->truth : &f->rss;

	ret->class = VERDICT_STABLE;
	if (!t->known)
		t = &f->truth;
	ret->confidence = confidence_cap(confidence_logistic(course_is_startup(f, t) ? 3 : 3 - doubt(t)), f->span_s,
					 SETTLED_SECONDS, t->trough_count);
	*ret_subject = t;
	return true;
}

const struct verdict_rule verdict_rules[] = {
	{ "short", rule_short, NULL },
	{ "leak", rule_leak, NULL },
	{ "unit-leak", rule_unit_leak, NULL },
	{ "scaling", rule_scaling, "part of it also goes with the work done" },
	{ "gc-retention", rule_gc, "the runtime also keeps memory that its live objects do not fill" },
	{ "retention", rule_retention, "the allocator also keeps free memory" },
	{ "spike", rule_spike, "a burst that was given back also stands out" },
	{ "step", rule_step, "one step also explains most of the rise" },
	{ "warmup", rule_warmup, "part of it also grew and then stopped" },
	{ "growth", rule_growth, "memory also grows steadily" },
	{ "unsettled", rule_unsettled, NULL },
	{ "stable", rule_stable, NULL },
	{ NULL, NULL, NULL },
};
