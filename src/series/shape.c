/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Model selection by BIC = n ln(SSE / n) + k ln n, where k counts the noise too.
 *
 *   const       a                                                                       k 2
 *   linear      a + b t, b > 0; or flat until an onset                                  k 3; 4
 *   step        a, then b                                                               k 4
 *   saturating  a + b (1 - exp(-t / tau)), tau up to 0.45 of the window: a longer one
 *               cannot be told from a line; or a ramp that ends in a plateau            k 4; 5 if it begins late
 *   log         a + b ln(1 + t / s)                                                     k 4
 *   doubling    J jumps, each about twice the one before, flat in between               k 2 J + 2
 *   falling     a - b t                                                                 k 3
 *
 * Residuals far below min_effect count as none: without that floor, input free of noise would choose by rounding
 * errors.
 */
#include "memwatch/series.h"

#include <math.h>

#include "series-priv.h"

#define MIN_POINTS 8
#define MAX_POINTS 600
#define MARGIN_CONST 6.0   /* to be preferred to "nothing happens" */
#define MARGIN_DECIDED 2.0 /* to be preferred to the second best */
#define FLOOR_OF_EFFECT 0.02
#define KNEES_MAX 40     /* knees tried: bounds the cost on long input */
#define KNEE_LATEST 0.75 /* a plateau is at least a quarter of the window */
#define ONSET_LATEST 0.7
#define RAMP_POINTS 3 /* a rise within fewer intervals is a step */
#define TAU_MIN 0.03
#define TAU_MAX 0.45
#define SCALE_GRID 1.3
#define JUMP_OF_RISE 0.03  /* smaller increments are no jumps */
#define JUMP_OF_USUAL 4.0  /* some four standard deviations of the noise */
#define JUMPS_EXPLAIN 0.85 /* of all that rises */
#define JUMPS_MIN 3
#define JUMP_RATIO_LOW 1.4
#define JUMP_RATIO_HIGH 3.0

const char *const shape_names[SHAPE_COUNT] = {
	[SHAPE_UNDECIDED] = "undecided", [SHAPE_CONST] = "constant",        [SHAPE_LINEAR] = "linear",
	[SHAPE_STEP] = "step",           [SHAPE_SATURATING] = "saturating", [SHAPE_LOG] = "logarithmic",
	[SHAPE_DOUBLING] = "doubling",   [SHAPE_FALLING] = "falling",
};

struct fitting {
	const struct point *points;
	size_t count, stride;
	double floor; /* of SSE / n */
	double from_s, span_s;
	struct shape_fit fit;
	double effect[SHAPE_COUNT]; /* size of the change that the model describes */
};

static double axis_at(enum axis axis, double t, double a, double b)
{
	switch (axis) {
	case AXIS_EXP:
		return -expm1(-(t - a) / b);
	case AXIS_LOG:
		return log1p((t - a) / b);
	case AXIS_RAMP:
	default:
		return fmin(fmax(t, a), b);
	}
}

/* About the means, so that a large level costs no digits. */
struct line_fit fit_line(const struct point *points, size_t count, enum axis axis, double a, double b)
{
	double x[MAX_POINTS], mx = 0, mv = 0, sxx = 0, sxv = 0;
	struct line_fit f = { 0 };

	count = count < MAX_POINTS ? count : MAX_POINTS;
	for (size_t i = 0; i < count; i++) {
		x[i] = axis_at(axis, points[i].t_s, a, b);
		mx += x[i];
		mv += points[i].v;
	}
	mx /= (double)count;
	mv /= (double)count;
	for (size_t i = 0; i < count; i++) {
		sxx += (x[i] - mx) * (x[i] - mx);
		sxv += (x[i] - mx) * (points[i].v - mv);
		f.total += (points[i].v - mv) * (points[i].v - mv);
	}
	f.slope = sxx > 0 ? sxv / sxx : 0;
	f.base = mv - f.slope * mx;
	f.sse = fmax(0, f.total - f.slope * sxv);
	return f;
}

/* Keeps the better form of a shape; true where this one is. */
static bool offer(struct fitting *f, enum shape shape, double sse, double k, double effect)
{
	double n = (double)f->count, bic = n * log(sse / n + f->floor) + k * log(n);

	if (!isnan(f->fit.bic[shape]) && f->fit.bic[shape] <= bic)
		return false;
	f->fit.bic[shape] = bic;
	f->effect[shape] = effect;
	return true;
}

static void fit_lines(struct fitting *f)
{
	struct line_fit line = fit_line(f->points, f->count, AXIS_RAMP, -INFINITY, INFINITY);

	offer(f, SHAPE_CONST, line.total, 2, 0);
	if (line.slope < 0) {
		offer(f, SHAPE_FALLING, line.sse, 3, -line.slope * f->span_s);
		return;
	}
	offer(f, SHAPE_LINEAR, line.sse, 3, line.slope * f->span_s);
	f->fit.slope_per_s = line.slope;
	f->fit.onset_s = f->from_s;
	for (size_t i = 2; i < f->count; i += f->stride) {
		double onset_s = f->points[i].t_s, left_s = f->from_s + f->span_s - onset_s;

		if (left_s < (1 - ONSET_LATEST) * f->span_s)
			break;
		line = fit_line(f->points, f->count, AXIS_RAMP, onset_s, INFINITY);
		if (line.slope > 0 && offer(f, SHAPE_LINEAR, line.sse, 4, line.slope * left_s)) {
			f->fit.slope_per_s = line.slope;
			f->fit.onset_s = onset_s;
		}
	}
}

static void fit_step(struct fitting *f)
{
	double before = 0, after = 0, mean = 0, total = 0;

	for (size_t i = 0; i < f->count; i++)
		mean += f->points[i].v / (double)f->count;
	for (size_t i = 0; i < f->count; i++) {
		after += f->points[i].v - mean;
		total += (f->points[i].v - mean) * (f->points[i].v - mean);
	}
	for (size_t i = 1; i < f->count; i++) {
		double nb = (double)i, na = (double)(f->count - i);
		double size;

		before += f->points[i - 1].v - mean;
		after -= f->points[i - 1].v - mean;
		size = after / na - before / nb;
		if (offer(f, SHAPE_STEP, fmax(0, total - before * before / nb - after * after / na), 4, fabs(size))) {
			f->fit.step_at_s = f->points[i].t_s;
			f->fit.step_size = size;
		}
	}
}

/* A rise between two knees, flat before and behind. The exponential curve is tried besides. */
static void fit_saturating(struct fitting *f)
{
	double end_s = f->from_s + f->span_s;

	for (size_t i = 0; i < f->count; i += f->stride)
		for (size_t j = i + RAMP_POINTS; j < f->count; j += f->stride) {
			double a = f->points[i].t_s, b = f->points[j].t_s;
			struct line_fit line;

			if (b - f->from_s > KNEE_LATEST * f->span_s)
				break;
			line = fit_line(f->points, f->count, AXIS_RAMP, a, b);
			if (line.slope > 0 &&
			    offer(f, SHAPE_SATURATING, line.sse, i == 0 ? 4 : 5, line.slope * (b - a))) {
				f->fit.tau_s = b - f->from_s;
				f->fit.ceiling = line.base + line.slope * b;
			}
		}
	for (double tau_s = TAU_MIN * f->span_s; tau_s <= TAU_MAX * f->span_s; tau_s *= SCALE_GRID) {
		struct line_fit line = fit_line(f->points, f->count, AXIS_EXP, f->from_s, tau_s);
		double reached = -expm1(-(end_s - f->from_s) / tau_s);

		if (line.slope > 0 && offer(f, SHAPE_SATURATING, line.sse, 4, line.slope * reached)) {
			f->fit.tau_s = tau_s;
			f->fit.ceiling = line.base + line.slope;
		}
	}
}

static void fit_log(struct fitting *f)
{
	for (double scale_s = TAU_MIN * f->span_s / 4; scale_s <= TAU_MAX * f->span_s / 2; scale_s *= SCALE_GRID) {
		struct line_fit line = fit_line(f->points, f->count, AXIS_LOG, f->from_s, scale_s);

		if (line.slope > 0)
			offer(f, SHAPE_LOG, line.sse, 4, line.slope * log1p(f->span_s / scale_s));
	}
}

/* Residuals about the levels between jumps; *ret_doubles: most jumps are about twice the one before. */
static double jump_levels(const struct fitting *f, double least, size_t *ret_jumps, double *ret_jumped,
			  bool *ret_doubles)
{
	double sse = 0, jumped = 0, last_jump = 0;
	size_t jumps = 0, doubling = 0;

	for (size_t i = 0, j; i < f->count; i = j) {
		double mean = f->points[i].v, m2 = 0;

		for (j = i + 1; j < f->count && fabs(f->points[j].v - f->points[j - 1].v) < least; j++) {
			double away = f->points[j].v - mean;

			mean += away / (double)(j - i + 1);
			m2 += away * (f->points[j].v - mean);
		}
		sse += m2;
		if (j == f->count)
			break;
		double jump = f->points[j].v - f->points[j - 1].v;

		doubling += jumps > 0 && jump > JUMP_RATIO_LOW * last_jump && jump < JUMP_RATIO_HIGH * last_jump;
		jumps++;
		jumped += jump;
		last_jump = jump;
	}
	*ret_jumps = jumps;
	*ret_jumped = jumped;
	*ret_doubles = jumps >= JUMPS_MIN && 3 * doubling >= 2 * (jumps - 1);
	return sse;
}

/* Between jumps a staircase is flat, so that the usual increment is noise: a jump must stand out of that. */
static double least_jump(const struct fitting *f, double rise)
{
	double away[MAX_POINTS];

	for (size_t i = 1; i < f->count; i++)
		away[i - 1] = fabs(f->points[i].v - f->points[i - 1].v);
	return fmax(JUMP_OF_RISE * rise, JUMP_OF_USUAL * select_median(away, f->count - 1));
}

static void fit_doubling(struct fitting *f)
{
	double rise = f->points[f->count - 1].v - f->points[0].v, sse, jumped;
	size_t jumps;
	bool doubles;

	if (rise <= 0)
		return;
	sse = jump_levels(f, least_jump(f, rise), &jumps, &jumped, &doubles);
	if (doubles && jumped >= JUMPS_EXPLAIN * rise && jumps <= f->count / 2)
		offer(f, SHAPE_DOUBLING, sse, 2 * (double)jumps + 2, rise);
}

static void choose(struct fitting *f, double min_effect)
{
	struct shape_fit *fit = &f->fit;
	enum shape best = SHAPE_CONST;
	double second = INFINITY;

	for (size_t s = SHAPE_CONST; s < SHAPE_COUNT; s++)
		if (fit->bic[s] < fit->bic[best])
			best = (enum shape)s;
	for (size_t s = SHAPE_CONST; s < SHAPE_COUNT; s++)
		if (s != best && fit->bic[s] < second)
			second = fit->bic[s];
	fit->margin = second - fit->bic[best];
	if (best == SHAPE_CONST || f->effect[best] < min_effect ||
	    fit->bic[SHAPE_CONST] - fit->bic[best] < MARGIN_CONST)
		fit->shape = SHAPE_CONST;
	else
		fit->shape = fit->margin < MARGIN_DECIDED ? SHAPE_UNDECIDED : best;
}

void trend_shape(const struct point *points, size_t count, double min_effect, struct shape_fit *ret)
{
	struct fitting f = { .points = points, .count = count < MAX_POINTS ? count : MAX_POINTS };
	double level = 0;

	f.fit.tau_s = f.fit.ceiling = f.fit.slope_per_s = f.fit.step_at_s = f.fit.step_size = f.fit.onset_s = NAN;
	for (size_t s = 0; s < SHAPE_COUNT; s++)
		f.fit.bic[s] = NAN;
	if (f.count < MIN_POINTS || points[f.count - 1].t_s <= points[0].t_s) {
		*ret = f.fit;
		return;
	}
	for (size_t i = 0; i < f.count; i++)
		level = fmax(level, fabs(points[i].v));
	f.floor = fmax(FLOOR_OF_EFFECT * min_effect, level * 1e-9 + 1e-9);
	f.floor *= f.floor;
	f.stride = f.count / KNEES_MAX + 1;
	f.from_s = points[0].t_s;
	f.span_s = points[f.count - 1].t_s - f.from_s;
	fit_lines(&f);
	fit_step(&f);
	fit_saturating(&f);
	fit_log(&f);
	fit_doubling(&f);
	choose(&f, min_effect);
	*ret = f.fit;
}
