/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a course does: rises, has stopped, rose at once. The rules are made of these. */
#include <math.h>

#include "verdict-priv.h"

/* Flat for that share of the window: it has stopped. */
#define TAIL_SHARE 0.22
#define TAIL_SPACINGS 2.5
#define TAIL_TREADS 2.0 /* times the longest tread of a staircase: it may only rest on one */
#define STEP_TAIL_SHARE 0.08
#define STEP_HEAD_SHARE 0.08
#define STEP_SPREAD 0.1 /* of the window; or neighbouring troughs */
#define STEP_SPACINGS 1.6
#define STEP_EXPLAINS 0.8 /* of the rise */
#define DRIFT_TROUGHS 8   /* fewer give no standard error of the increments worth the name */
#define RAMP_SHARE 0.15   /* a rise at the very beginning of a fresh process that is shorter is its start-up … */
#define STARTUP_REST 0.34 /* … unless more than a third of all growth is left of it after the cut */

/*
 * Flat for long, over some troughs, and a course with an end fits no worse than a line: noise can hide a slope in a
 * tail. A staircase that doubles has long treads and has not stopped on one.
 */
bool course_stopped(const struct trend *t)
{
	const double *bic = t->shape.bic;
	double spacing_s = t->trough_count > 1 ? t->span_s / (double)(t->trough_count - 1) : 0;
	bool ends = !(bic[SHAPE_LINEAR] < fmin(bic[SHAPE_SATURATING], bic[SHAPE_STEP]));
	double least_s = fmax(fmax(TAIL_SHARE * t->span_s, TAIL_SPACINGS * spacing_s), TAIL_TREADS * t->shape.tread_s);

	return t->flat_tail_s >= least_s && ends && t->shape.shape != SHAPE_DOUBLING;
}

bool course_is_step(const struct trend *t)
{
	double took_s = t->rise_end_s - t->rise_begin_s;
	double spacing_s = t->trough_count > 1 ? t->span_s / (double)(t->trough_count - 1) : 0;

	return t->known && t->rise >= t->material && t->shape.shape != SHAPE_DOUBLING &&
	       !(t->shape.bic[SHAPE_PERIODIC] < t->shape.bic[SHAPE_STEP]) &&
	       took_s <= fmax(STEP_SPREAD * t->span_s, STEP_SPACINGS * spacing_s) &&
	       t->flat_tail_s >= STEP_TAIL_SHARE * t->span_s &&
	       t->rise_begin_s - t->from_s >= STEP_HEAD_SHARE * t->span_s &&
	       t->shape.step_size >= STEP_EXPLAINS * t->rise;
}

/* The end of the start-up that the cut left standing. */
bool course_is_startup(const struct features *f, const struct trend *t)
{
	struct point first;
	bool early = t->rise_end_s - t->from_s < RAMP_SHARE * t->span_s;

	return f->startup_cut && early && series_first(f->in->series, t->metric, &first) &&
	       t->rise < STARTUP_REST * (t->level_last - first.v);
}

bool course_grew_and_stopped(const struct features *f, const struct trend *t)
{
	return t->known && t->rise >= t->material && t->z > 0 && (course_stopped(t) || t->saturates) &&
	       !course_is_startup(f, t);
}

/* Steady growth of any kind; a staircase that doubles has few increments, so its drift proves nothing. */
bool course_grows(const struct trend *t)
{
	return t->known && t->rising && !course_stopped(t) && !t->saturates && !t->waves;
}

/* A level that wanders must drift beyond doubt: one random walk in ten passes the other gates. Stairs have few increments to show it by. */
bool course_drifts(const struct trend *t)
{
	return !t->wanders || t->shape.shape == SHAPE_DOUBLING || t->shape.shape == SHAPE_STAIRCASE ||
	       t->drift_t >= 2 * GATE_DRIFT_T || t->trough_count < DRIFT_TROUGHS;
}

bool course_is_steady(const struct trend *t)
{
	return course_grows(t) && t->linear && t->shape.shape != SHAPE_DOUBLING && course_drifts(t);
}

/* Where the subject lies: the heap if it is the allocator's figure, else what grows most. */
enum verdict_where course_where(const struct features *f, const struct trend *t)
{
	if (t->metric == METRIC_HEAP_IN_USE)
		return WHERE_HEAP;
	return t->metric == METRIC_RUNTIME_LIVE ? WHERE_RUNTIME : f->where;
}
