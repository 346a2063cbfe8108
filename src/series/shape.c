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
 *   power       a + b t^p, p of 0.5, 0.7, 1.5, 2, 3                                     k 4
 *   periodic    a + b sin(w t) + c cos(w t), 1 to 6 waves in the window; with a line
 *               beside it, it counts as linear                                          k 5; 6
 *   staircase   J >= 4 jumps of about the same height, flat in between                  k 2 J + 2
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
#define KNEES_MAX 64     /* knees tried: bounds the cost on long input */
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
#define EQUAL_JUMPS_MIN 4
#define EQUAL_SPREAD 0.6 /* standard deviation over mean of jumps that count as equal */
#define WAVES_MIN 1.0    /* waves in the window: fewer look like a bend */
#define WAVES_MAX 6.0
#define WAVES_STEP 0.25
#define WAVES_POINTS 10 /* a wave has two parameters more than a line */

const char *const shape_names[SHAPE_COUNT] = {
	[SHAPE_UNDECIDED] = "undecided", [SHAPE_CONST] = "constant",        [SHAPE_LINEAR] = "linear",
	[SHAPE_STEP] = "step",           [SHAPE_SATURATING] = "saturating", [SHAPE_LOG] = "logarithmic",
	[SHAPE_DOUBLING] = "doubling",   [SHAPE_FALLING] = "falling",       [SHAPE_POWER] = "power",
	[SHAPE_PERIODIC] = "periodic",   [SHAPE_STAIRCASE] = "staircase",
};

static const double powers[] = { 0.5, 0.7, 1.5, 2, 3 };

/* Sums over the first points, of times from the first point on and values about their mean: any ramp in constant time. */
struct sums {
	double t[MAX_POINTS + 1], tt[MAX_POINTS + 1], v[MAX_POINTS + 1], tv[MAX_POINTS + 1];
	double mean, total;
};

/* A smooth course without an end, as it was fitted best. */
struct curve {
	enum axis axis;
	double a, b;
	struct line_fit line;
};

struct fitting {
	const struct point *points;
	size_t count, stride;
	double floor; /* of SSE / n */
	double from_s, span_s;
	struct shape_fit fit;
	double effect[SHAPE_COUNT]; /* size of the change that the model describes */
	struct sums sums;
	struct curve curves[SHAPE_COUNT]; /* of LINEAR, LOG, POWER */
};

static double axis_at(enum axis axis, double t, double a, double b)
{
	switch (axis) {
	case AXIS_EXP:
		return -expm1(-(t - a) / b);
	case AXIS_LOG:
		return log1p((t - a) / b);
	case AXIS_POWER:
		return pow(fmax(0, t - a), b);
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

static void sums_make(struct fitting *f)
{
	struct sums *s = &f->sums;

	for (size_t i = 0; i < f->count; i++)
		s->mean += f->points[i].v / (double)f->count;
	for (size_t i = 0; i < f->count; i++) {
		double t = f->points[i].t_s - f->from_s, v = f->points[i].v - s->mean;

		s->t[i + 1] = s->t[i] + t;
		s->tt[i + 1] = s->tt[i] + t * t;
		s->v[i + 1] = s->v[i] + v;
		s->tv[i + 1] = s->tv[i] + t * v;
		s->total += v * v;
	}
}

/* Least squares on a line that is flat before point i and from point j on; base is the value at the time of the first point. */
static struct line_fit fit_ramp(const struct fitting *f, size_t i, size_t j)
{
	const struct sums *s = &f->sums;
	double a = f->points[i].t_s - f->from_s, b = f->points[j].t_s - f->from_s;
	double head = (double)i, tail = (double)(f->count - j), n = (double)f->count;
	double x = a * head + s->t[j] - s->t[i] + b * tail;
	double xx = a * a * head + s->tt[j] - s->tt[i] + b * b * tail;
	double xv = a * s->v[i] + s->tv[j] - s->tv[i] + b * (s->v[f->count] - s->v[j]);
	struct line_fit line = { .total = s->total };

	xx -= x * x / n;
	line.slope = xx > 0 ? xv / xx : 0;
	line.base = s->mean - line.slope * x / n;
	line.sse = fmax(0, s->total - line.slope * xv);
	return line;
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
	struct line_fit line = fit_ramp(f, 0, f->count - 1);

	offer(f, SHAPE_CONST, line.total, 2, 0);
	if (line.slope < 0) {
		offer(f, SHAPE_FALLING, line.sse, 3, -line.slope * f->span_s);
		return;
	}
	offer(f, SHAPE_LINEAR, line.sse, 3, line.slope * f->span_s);
	f->curves[SHAPE_LINEAR] = (struct curve){ AXIS_RAMP, -INFINITY, INFINITY, line };
	f->fit.slope_per_s = line.slope;
	f->fit.onset_s = f->from_s;
	for (size_t i = 2; i < f->count; i += f->stride) {
		double onset_s = f->points[i].t_s, left_s = f->from_s + f->span_s - onset_s;

		if (left_s < (1 - ONSET_LATEST) * f->span_s)
			break;
		line = fit_ramp(f, i, f->count - 1);
		if (line.slope > 0 && offer(f, SHAPE_LINEAR, line.sse, 4, line.slope * left_s)) {
			f->curves[SHAPE_LINEAR] = (struct curve){ AXIS_RAMP, onset_s, INFINITY, line };
			f->fit.slope_per_s = line.slope;
			f->fit.onset_s = onset_s;
		}
	}
}

static void fit_step(struct fitting *f)
{
	const struct sums *s = &f->sums;
	double least = INFINITY;

	for (size_t i = 1; i < f->count; i++) {
		double nb = (double)i, na = (double)(f->count - i);
		double before = s->v[i], after = s->v[f->count] - before;
		double sse = fmax(0, s->total - before * before / nb - after * after / na);

		if (sse >= least)
			continue;
		least = sse;
		f->fit.step_at_s = f->points[i].t_s;
		f->fit.step_size = after / na - before / nb;
	}
	offer(f, SHAPE_STEP, least, 4, fabs(f->fit.step_size));
}

/* The best of the ramps that begin at point i; its end, 0 where none rises. */
static size_t best_ramp(const struct fitting *f, size_t i, struct line_fit *ret)
{
	size_t best = 0;

	ret->sse = INFINITY;
	for (size_t j = i + RAMP_POINTS; j < f->count; j += f->stride) {
		struct line_fit line;

		if (f->points[j].t_s - f->from_s > KNEE_LATEST * f->span_s)
			break;
		line = fit_ramp(f, i, j);
		if (line.slope > 0 && line.sse < ret->sse) {
			*ret = line;
			best = j;
		}
	}
	return best;
}

/* A rise between two knees, flat before and behind. The exponential curve is tried besides. */
static void fit_saturating(struct fitting *f)
{
	double end_s = f->from_s + f->span_s;

	for (size_t i = 0; i < f->count; i += f->stride) {
		struct line_fit line;
		size_t j = best_ramp(f, i, &line);
		double a_s = f->points[i].t_s, b_s = f->points[j].t_s;

		if (j > 0 && offer(f, SHAPE_SATURATING, line.sse, i == 0 ? 4 : 5, line.slope * (b_s - a_s))) {
			f->fit.tau_s = b_s - f->from_s;
			f->fit.ceiling = line.base + line.slope * (b_s - f->from_s);
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

		if (line.slope > 0 && offer(f, SHAPE_LOG, line.sse, 4, line.slope * log1p(f->span_s / scale_s)))
			f->curves[SHAPE_LOG] = (struct curve){ AXIS_LOG, f->from_s, scale_s, line };
	}
}

static void fit_power(struct fitting *f)
{
	for (size_t i = 0; i < sizeof(powers) / sizeof(*powers); i++) {
		struct line_fit line = fit_line(f->points, f->count, AXIS_POWER, f->from_s, powers[i]);

		if (line.slope > 0 && offer(f, SHAPE_POWER, line.sse, 4, line.slope * pow(f->span_s, powers[i])))
			f->curves[SHAPE_POWER] = (struct curve){ AXIS_POWER, f->from_s, powers[i], line };
	}
}

/* What is left of a course once a wave and, with it, a line are taken off. */
struct wave_fit {
	double sse, amplitude;           /* the wave alone */
	double line_sse, slope_per_span; /* with a line */
};

static struct wave_fit fit_wave(const struct fitting *f, double waves)
{
	const double turn = 2 * M_PI * waves / f->span_s;
	double x[3] = { 0 }, xx[3][3] = { 0 }, xv[3] = { 0 }, n = (double)f->count, det, p, q, r;
	struct wave_fit w;

	for (size_t i = 0; i < f->count; i++) {
		double t = f->points[i].t_s - f->from_s, v = f->points[i].v - f->sums.mean;
		double row[3] = { sin(turn * t), cos(turn * t), t / f->span_s };

		for (size_t a = 0; a < 3; a++) {
			x[a] += row[a];
			xv[a] += row[a] * v;
			for (size_t b = a; b < 3; b++)
				xx[a][b] += row[a] * row[b];
		}
	}
	for (size_t a = 0; a < 3; a++)
		for (size_t b = a; b < 3; b++)
			xx[a][b] -= x[a] * x[b] / n;
	det = fmax(xx[0][0] * xx[1][1] - xx[0][1] * xx[0][1], 1e-12 * n * n);
	p = (xx[1][1] * xv[0] - xx[0][1] * xv[1]) / det;
	q = (xx[0][0] * xv[1] - xx[0][1] * xv[0]) / det;
	w.sse = fmax(0, f->sums.total - p * xv[0] - q * xv[1]);
	w.amplitude = hypot(p, q);
	/* the line's share, once the wave's part is taken off the line too */
	p = (xx[1][1] * xx[0][2] - xx[0][1] * xx[1][2]) / det;
	q = (xx[0][0] * xx[1][2] - xx[0][1] * xx[0][2]) / det;
	r = fmax(xx[2][2] - p * xx[0][2] - q * xx[1][2], 1e-9 * n);
	w.slope_per_span = (xv[2] - p * xv[0] - q * xv[1]) / r;
	w.line_sse = fmax(0, w.sse - w.slope_per_span * w.slope_per_span * r);
	return w;
}

/* A slow wave rises for as long as half of its period; a line below a wave is a line. */
static void fit_periodic(struct fitting *f)
{
	if (f->count < WAVES_POINTS)
		return;
	for (double waves = WAVES_MIN; waves <= WAVES_MAX && 4 * waves <= (double)f->count; waves += WAVES_STEP) {
		struct wave_fit w = fit_wave(f, waves);

		offer(f, SHAPE_PERIODIC, w.sse, 5, 2 * w.amplitude);
		if (w.slope_per_span > 0 && offer(f, SHAPE_LINEAR, w.line_sse, 6, w.slope_per_span)) {
			f->fit.slope_per_s = w.slope_per_span / f->span_s;
			f->fit.onset_s = f->from_s;
		}
	}
}

/* The levels between jumps, and the jumps. */
struct stairs {
	size_t jumps, doubling; /* jumps about twice the one before */
	double jumped;          /* sum of the jumps */
	double squares;         /* sum of their squares */
	double sse;             /* about the levels */
	double tread_s;         /* the longest level between two jumps */
};

static void climb(const struct fitting *f, double least, struct stairs *ret)
{
	double last_jump = 0, last_jump_s = 0;

	*ret = (struct stairs){ 0 };
	for (size_t i = 0, j; i < f->count; i = j) {
		double mean = f->points[i].v, m2 = 0, jump;

		for (j = i + 1; j < f->count && fabs(f->points[j].v - f->points[j - 1].v) < least; j++) {
			double away = f->points[j].v - mean;

			mean += away / (double)(j - i + 1);
			m2 += away * (f->points[j].v - mean);
		}
		ret->sse += m2;
		if (j == f->count)
			break;
		jump = f->points[j].v - f->points[j - 1].v;
		if (ret->jumps > 0) {
			ret->doubling += jump > JUMP_RATIO_LOW * last_jump && jump < JUMP_RATIO_HIGH * last_jump;
			ret->tread_s = fmax(ret->tread_s, f->points[j].t_s - last_jump_s);
		}
		ret->jumps++;
		ret->jumped += jump;
		ret->squares += jump * jump;
		last_jump = jump;
		last_jump_s = f->points[j].t_s;
	}
}

/* Between jumps a staircase is flat, so that the usual increment is noise: a jump must stand out of that. */
static double least_jump(const struct fitting *f, double rise)
{
	double away[MAX_POINTS];

	for (size_t i = 1; i < f->count; i++)
		away[i - 1] = fabs(f->points[i].v - f->points[i - 1].v);
	return fmax(JUMP_OF_RISE * rise, JUMP_OF_USUAL * values_median(away, f->count - 1));
}

static void fit_stairs(struct fitting *f)
{
	double rise = f->points[f->count - 1].v - f->points[0].v, mean, spread;
	struct stairs s;

	if (rise <= 0)
		return;
	climb(f, least_jump(f, rise), &s);
	if (s.jumps < JUMPS_MIN || s.jumps > f->count / 2 || s.jumped < JUMPS_EXPLAIN * rise)
		return;
	mean = s.jumped / (double)s.jumps;
	spread = sqrt(fmax(0, s.squares / (double)s.jumps - mean * mean));
	f->fit.tread_s = s.tread_s;
	if (3 * s.doubling >= 2 * (s.jumps - 1))
		offer(f, SHAPE_DOUBLING, s.sse, 2 * (double)s.jumps + 2, rise);
	else if (s.jumps >= EQUAL_JUMPS_MIN && spread < EQUAL_SPREAD * mean)
		offer(f, SHAPE_STAIRCASE, s.sse, 2 * (double)s.jumps + 2, rise);
}

/* How alike neighbours are in what the best of the curves leaves: a bend is no wandering. */
static void measure_rest(struct fitting *f)
{
	static const enum shape smooth[] = { SHAPE_LINEAR, SHAPE_LOG, SHAPE_POWER };
	enum shape best = SHAPE_LINEAR;
	double before = 0, var = 0, cov = 0, n = (double)f->count;

	if (isnan(f->fit.bic[SHAPE_LINEAR]))
		return;
	for (size_t i = 1; i < sizeof(smooth) / sizeof(*smooth); i++)
		if (f->fit.bic[smooth[i]] < f->fit.bic[best])
			best = smooth[i];
	for (size_t i = 0; i < f->count; i++) {
		const struct curve *c = &f->curves[best];
		double x = axis_at(c->axis, f->points[i].t_s, c->a, c->b) - (c->axis == AXIS_RAMP ? f->from_s : 0);
		double rest = f->points[i].v - c->line.base - c->line.slope * x;

		var += rest * rest;
		cov += rest * before;
		before = rest;
	}
	f->fit.rest_sd = sqrt(var / n);
	f->fit.rest_correlation = var > 0 ? cov / var : 0;
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
	f.fit.tread_s = 0;
	f.fit.rest_sd = f.fit.rest_correlation = NAN;
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
	sums_make(&f);
	fit_lines(&f);
	fit_step(&f);
	fit_saturating(&f);
	fit_log(&f);
	fit_power(&f);
	fit_periodic(&f);
	fit_stairs(&f);
	choose(&f, min_effect);
	measure_rest(&f);
	*ret = f.fit;
}
