/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What happened once and is over: a burst, a step, a warm-up. */
#include <math.h>

#include "verdict-priv.h"

#define BURST_SIGMAS 5
#define BURST_BACK 0.3  /* what may remain of it */
#define BURST_SHARE 0.6 /* of the time */
#define BURST_OF_LEVEL 0.1

bool rule_spike(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = f->rss.known ? &f->rss : &f->truth;
	double base = fmax(t->level_first, t->level_last), size = t->high.v - base;

	if (!t->known || size < 2 * t->material || size < BURST_SIGMAS * t->scatter || size < BURST_OF_LEVEL * base ||
	    fabs(t->rise) > BURST_BACK * size || t->bursts < 1 || t->bursts > 2 || t->burst_share > BURST_SHARE)
		return false;
	ret->class = VERDICT_SPIKE;
	ret->confidence = confidence_cap(confidence_logistic(0.8 + fmin(2, log2(size / (2 * t->material)) / 2) +
							     (t->bursts == 1 ? 0.5 : 0) - 2 * fabs(t->rise) / size),
					 f->span_s, SETTLED_SECONDS, t->trough_count);
	*ret_subject = t;
	return true;
}

bool rule_step(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = course_is_step(&f->truth) ? &f->truth : &f->rss;

	if (!course_is_step(t) || course_is_startup(f, t))
		return false;
	ret->class = VERDICT_STEP;
	ret->where = course_where(f, t);
	ret->confidence = confidence_cap(confidence_logistic(1 + fmin(1.5, log2(t->rise / t->material) / 2) +
							     fmin(1, 2 * t->flat_tail_s / t->span_s)),
					 f->span_s, SETTLED_SECONDS, t->trough_count);
	*ret_subject = t;
	return true;
}

bool rule_warmup(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *t = course_grew_and_stopped(f, &f->truth) ? &f->truth : &f->rss;

	/* the heap may have settled while the rest goes on growing */
	if (!course_grew_and_stopped(f, t) ||
	    (t == &f->truth && course_grows(&f->rss) && f->rss.rise > HEAP_MINOR * t->rise))
		return false;
	ret->class = VERDICT_WARMUP;
	ret->where = course_where(f, t);
	ret->confidence = confidence_cap(confidence_logistic(0.3 + fmin(1.5, log2(t->rise / t->material) / 2) +
							     3 * t->flat_tail_s / t->span_s + (t->saturates ? 0.5 : 0)),
					 f->span_s, SURE_SECONDS, t->trough_count);
	if (!course_stopped(t))
		ret->confidence = fmin(ret->confidence, MAX_ODD_SHAPE);
	*ret_subject = t;
	return true;
}
