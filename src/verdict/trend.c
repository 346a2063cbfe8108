/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One metric: points, troughs, and what the tests say about them. */
#include <math.h>

#include "verdict-priv.h"

#define MIN_POINTS 6 /* six rising points are the fewest that can pass the gate */
#define SHAPE_MARGIN 6.0
#define TROUGHS_ALL 16 /* up to here every point counts as a trough: there is nothing to reduce */
#define POINTS_PER_FURTHER_TROUGH 32
#define MAD_TO_SIGMA 1.4826
#define SECOND_DIFFERENCE 2.449489742783178 /* sqrt(6): their standard deviation over that of the noise */
#define NOISE_FACTOR 3
#define DEPENDENCE_MAX 0.9
#define FEW_TROUGHS 10
#define TEETH_MAX 512
#define TOOTH_POINTS 4      /* at least, on average: fewer show no tooth but noise */
#define SHARP_FALL 0.12     /* of the cycle */
#define LARGE_TEETH 6       /* fewer may be noise that happens to fall at once */
#define TEETH_SHARE 0.6     /* of the window */
#define TOOTH_OF_RANGE 0.1  /* at least, of all that the course spans: smaller ones hide nothing */
#define MIN_TOOTH_TROUGHS 5 /* troughs of true teeth scatter little: five in a row say what ten block minima do */
#define TAIL_OF_RISE 0.06
#define WANDER_CORRELATION 0.3 /* of a walk of 20 steps about its line: 0.6 +- 0.2; of noise 0 +- 0.2 */
#define WANDER_OF_RISE 0.03

double level_between(const struct point *points, size_t count, double from_s, double to_s)
{
	double values[TREND_POINTS];
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		if (points[i].t_s >= from_s && points[i].t_s <= to_s)
			values[n++] = points[i].v;
	return values_median(values, n);
}

/*
 * A choice between power and independence: the block must be long enough that its minimum is a trough (two periods of a
 * sawtooth) and that neighbours depend little on each other; Mann-Kendall on some 20 block minima kept 3.5 % false
 * alarms on AR(1) 0.9 where 300 raw points gave 28 %.
 */
static size_t trough_blocks(const struct trend *t)
{
	size_t blocks = t->count;

	if (blocks > TROUGHS_ALL)
		blocks = TROUGHS_ALL + (t->count - TROUGHS_ALL) / POINTS_PER_FURTHER_TROUGH;
	if (t->period_s > 0) {
		double periods = t->span_s / t->period_s;

		if (periods < (double)blocks * 2)
			blocks = (size_t)fmax(8, periods / 2);
	}
	return blocks < TREND_TROUGHS ? blocks : TREND_TROUGHS;
}

/* Second differences see neither level nor slope, and their median does not see steps: what is left is the noise. */
static double noise_of(const struct point *p, size_t count)
{
	double bends[TREND_TROUGHS];

	if (count < 4)
		return 0;
	for (size_t i = 0; i + 2 < count; i++)
		bends[i] = fabs(p[i].v - 2 * p[i + 1].v + p[i + 2].v);
	return MAD_TO_SIGMA * values_median(bends, count - 2) / SECOND_DIFFERENCE;
}

static double scatter_of(const struct trend *t)
{
	double rest[TREND_POINTS], middle;

	for (size_t i = 0; i < t->count; i++)
		rest[i] = t->points[i].v - t->level_first - t->rise * (t->points[i].t_s - t->from_s) / t->span_s;
	middle = values_median(rest, t->count);
	for (size_t i = 0; i < t->count; i++)
		rest[i] = fabs(rest[i] - middle);
	return MAD_TO_SIGMA * values_median(rest, t->count);
}

/*
 * Mean increment over its standard error, with one lag of covariance (Bartlett). Of the tests tried it alone tells
 * drift from a random walk: 2 % false alarms where Mann-Kendall has 44 %.
 */
static double drift_of(const struct point *p, size_t count)
{
	double n = (double)count - 1, mean, var = 0, cov = 0, before = 0, long_run;

	if (count < 5)
		return 0;
	mean = (p[count - 1].v - p[0].v) / n;
	for (size_t i = 1; i < count; i++) {
		double d = p[i].v - p[i - 1].v - mean;

		var += d * d / n;
		cov += i > 1 ? d * before / n : 0;
		before = d;
	}
	/*
	 * negative covariance is noise about a line; half of the variance stays, so that few points cannot feign
	 * certainty
	 */
	long_run = fmax(var + cov, var / 2);
	return mean / sqrt(fmax(long_run, mean * mean * 1e-4 + 1e-12) / n);
}

/*
 * Lag-1 correlation of the residuals about the line, and their standard deviation. The estimate is too low by about (1 + 4 r) / n
 * (Kendall 1954).
 */
static double residual_correlation(const struct point *p, size_t count, double slope, double *ret_sd)
{
	double rest[TREND_TROUGHS], mean = 0, var = 0, cov = 0, n = (double)count, r;

	for (size_t i = 0; i < count; i++) {
		rest[i] = p[i].v - slope * p[i].t_s;
		mean += rest[i] / n;
	}
	for (size_t i = 0; i < count; i++) {
		var += (rest[i] - mean) * (rest[i] - mean);
		cov += i > 0 ? (rest[i] - mean) * (rest[i - 1] - mean) : 0;
	}
	*ret_sd = sqrt(var / n);
	r = var > 0 ? cov / var : 0;
	return r + (1 + 4 * r) / n;
}

/*
 * Student's t of the least-squares line, its variance made greater by `dependence`, as a normal deviate of the same probability (Wallace
 * 1959).
 */
static double line_z(const struct point *p, size_t count, double dependence)
{
	double n = (double)count, mt = 0, mv = 0, tt = 0, tv = 0, vv = 0, slope, left, t;

	for (size_t i = 0; i < count; i++) {
		mt += p[i].t_s / n;
		mv += p[i].v / n;
	}
	for (size_t i = 0; i < count; i++) {
		tt += (p[i].t_s - mt) * (p[i].t_s - mt);
		tv += (p[i].t_s - mt) * (p[i].v - mv);
		vv += (p[i].v - mv) * (p[i].v - mv);
	}
	if (count < 4 || tt <= 0 || vv <= 0)
		return 0;
	slope = tv / tt;
	left = fmax(vv - slope * tv, vv * 1e-6);
	t = slope * sqrt(tt * (n - 2) / left / dependence);
	return copysign((8 * n - 15) / (8 * n - 13) * sqrt((n - 2) * log1p(t * t / (n - 2))), slope);
}

/*
 * Neighbouring block minima of an autocorrelated course still depend on each other: AR(1) .95 passes Mann-Kendall's 1 % in one case of
 * eight. With a correlation of r the variance grows by (1 + r) / (1 - r).
 * Mann-Kendall less that; where the residuals are small against the rise, that takes too much away, and the line's t says
 * so. It also speaks for few troughs, where Mann-Kendall cannot reach the gate (five), or hardly (seven).
 */
static double significance(const struct point *p, size_t count, double r)
{
	double raw = trend_mann_kendall(p, count), more = r > 0 ? (1 + r) / (1 - fmin(r, DEPENDENCE_MAX)) : 1;
	double by_line = line_z(p, count, more);

	return fmax(raw / sqrt(more), count < FEW_TROUGHS ? by_line : fmin(raw, by_line));
}

static void measure_levels(struct trend *t)
{
	size_t n = t->trough_count, outer = n / 8 > 2 ? n / 8 : 2;
	double values[TREND_TROUGHS];

	for (size_t i = 0; i < outer; i++)
		values[i] = t->troughs[i].v;
	t->level_first = values_median(values, outer);
	for (size_t i = 0; i < outer; i++)
		values[i] = t->troughs[n - 1 - i].v;
	t->level_last = values_median(values, outer);
	t->rise = t->level_last - t->level_first;
	t->high = t->points[0];
	for (size_t i = 1; i < t->count; i++)
		if (t->points[i].v > t->high.v)
			t->high = t->points[i];
}

/* When it rose, and since when it stays. */
static void measure_course(struct trend *t)
{
	size_t n = t->trough_count, tail = n - 1;
	double end_s = t->troughs[n - 1].t_s;
	double near = fmax(TAIL_OF_RISE * fabs(t->rise), fmin(2 * t->noise, fabs(t->rise) / 4));

	near = fmax(near, t->material / 8);
	while (tail > 0 && fabs(t->troughs[tail - 1].v - t->level_last) <= near)
		tail--;
	t->flat_tail_s = end_s - t->troughs[tail].t_s;
	t->rise_begin_s = t->troughs[0].t_s;
	t->rise_end_s = end_s;
	for (size_t i = 0; i < n; i++)
		if (t->troughs[i].v <= t->level_first + 0.1 * t->rise)
			t->rise_begin_s = t->troughs[i].t_s;
	for (size_t i = n; i-- > 0;)
		if (t->troughs[i].v >= t->level_first + 0.9 * t->rise)
			t->rise_end_s = t->troughs[i].t_s;
}

static void measure_bursts(struct trend *t)
{
	double base = fmax(t->level_first, t->level_last), half = base + (t->high.v - base) / 2, above_s = 0;
	bool above = false;

	for (size_t i = 0; i < t->count; i++) {
		bool now = t->points[i].v > half;

		if (now && !above)
			t->bursts++;
		if (now && i + 1 < t->count)
			above_s += t->points[i + 1].t_s - t->points[i].t_s;
		above = now;
	}
	t->burst_share = above_s / t->span_s;
}

static bool max_is_new(const struct trend *t)
{
	double third_s = t->troughs[0].t_s + (t->troughs[t->trough_count - 1].t_s - t->troughs[0].t_s) * 2 / 3;
	double before = -INFINITY, late = -INFINITY;

	for (size_t i = 0; i < t->trough_count; i++)
		if (t->troughs[i].t_s > third_s)
			late = fmax(late, t->troughs[i].v);
		else
			before = fmax(before, t->troughs[i].v);
	return late > before;
}

/* Whether the rise has no end in sight: a line or a power of the time, unless a course with an end fits clearly better. */
static void compare_shapes(struct trend *t)
{
	const double *bic = t->shape.bic;
	double endless = fmin(fmin(bic[SHAPE_LINEAR], bic[SHAPE_POWER]), bic[SHAPE_STAIRCASE]);
	double other = fmin(fmin(bic[SHAPE_STEP], bic[SHAPE_SATURATING]), fmin(bic[SHAPE_LOG], bic[SHAPE_DOUBLING]));

	t->linear = isnan(endless);
	if (t->linear)
		return;
	t->waves = bic[SHAPE_PERIODIC] + SHAPE_MARGIN < endless;
	t->linear = endless <= other + SHAPE_MARGIN && !t->waves;
	t->saturates = t->shape.shape == SHAPE_SATURATING && bic[SHAPE_SATURATING] + SHAPE_MARGIN < endless;
}

/* The tests look at the rise alone where a flat stretch precedes it: the slope of the leak, not of leak and rest. */
static void measure_tests(struct trend *t)
{
	double r, sd;
	size_t skip = 0;

	t->onset_s = t->from_s;
	if (t->shape.shape == SHAPE_LINEAR && t->shape.onset_s > t->from_s) {
		while (skip + 8 < t->trough_count && t->troughs[skip].t_s < t->shape.onset_s)
			skip++;
		t->onset_s = t->troughs[skip].t_s;
	}
	t->slope = trend_theil_sen(t->troughs + skip, t->trough_count - skip);
	r = residual_correlation(t->troughs + skip, t->trough_count - skip, t->slope.value, &sd);
	if (t->shape.rest_correlation < r) { /* a bend makes neighbours alike that do not depend on each other */
		r = t->shape.rest_correlation;
		r += (1 + 4 * r) / (double)t->trough_count;
		sd = t->shape.rest_sd;
	}
	t->z = significance(t->troughs + skip, t->trough_count - skip, r);
	t->drift_t = drift_of(t->troughs + skip, t->trough_count - skip);
	/* noise is not alike; the slight bend of a steady course is small; a random walk that happens to rise is both */
	t->wanders = r > WANDER_CORRELATION && sd > WANDER_OF_RISE * t->rise;
	for (size_t i = 1; i < t->trough_count; i++)
		t->higher += t->troughs[i].v > t->troughs[i - 1].v;
	t->new_max = max_is_new(t);
	t->rising = t->z > GATE_Z && t->rise >= t->material && t->new_max && t->slope.low > 0;
	compare_shapes(t);
}

/*
 * Whether the swings are what the course is made of: over most of the window, resolved, and not small against everything else, such as
 * the noise before a late rise.
 */
static bool swings(const struct trend *t, const struct cycle *cycles, size_t teeth)
{
	double falls[TEETH_MAX], low = INFINITY, high = -INFINITY;

	if (teeth + 1 < MIN_TOOTH_TROUGHS || (double)t->count < TOOTH_POINTS * (double)teeth ||
	    cycles[teeth - 1].end_s - cycles[0].start_s < TEETH_SHARE * t->span_s)
		return false;
	for (size_t i = 0; i < teeth; i++)
		falls[i] = cycles[i].peak - cycles[i].end;
	for (size_t i = 0; i < t->count; i++) {
		low = fmin(low, t->points[i].v);
		high = fmax(high, t->points[i].v);
	}
	return values_median(falls, teeth) >= TOOTH_OF_RANGE * (high - low);
}

/* Whether what falls falls at once, after a slow rise, as at a collection; a walk takes as long down as up. */
static bool falls_sharply(const struct trend *t, const struct cycle *cycles, size_t teeth)
{
	double shares[TEETH_MAX];
	size_t at = 0;

	for (size_t i = 0; i < teeth; i++) {
		double peak_s = cycles[i].end_s, peak = -INFINITY;

		while (at < t->count && t->points[at].t_s < cycles[i].start_s)
			at++;
		for (size_t k = at; k < t->count && t->points[k].t_s <= cycles[i].end_s; k++)
			if (t->points[k].v >= peak) {
				peak = t->points[k].v;
				peak_s = t->points[k].t_s;
			}
		shares[i] = (cycles[i].end_s - peak_s) / (cycles[i].end_s - cycles[i].start_s);
	}
	return values_median(shares, teeth) < SHARP_FALL;
}

/*
 * Small teeth on large ones, as collectors of generations make them, have no one depth. The large ones are those at least half as deep as
 * the deepest fall.
 */
static size_t large_teeth(const struct trend *t, struct cycle *cycles)
{
	double top = -INFINITY, deepest = 0;
	size_t teeth;

	for (size_t i = 0; i < t->count; i++) {
		top = fmax(top, t->points[i].v);
		deepest = fmax(deepest, top - t->points[i].v);
	}
	teeth = points_cycles(t->points, t->count, deepest / 2, cycles, TEETH_MAX);
	return teeth >= LARGE_TEETH && swings(t, cycles, teeth) && falls_sharply(t, cycles, teeth) ? teeth : 0;
}

/* The troughs of the teeth where there are some; else every point of a few, or the minima of blocks. */
static void find_troughs(struct trend *t)
{
	struct cycle cycles[TEETH_MAX];
	struct point troughs[TEETH_MAX + 1];
	size_t teeth = points_cycles(t->points, t->count, 0, cycles, TEETH_MAX);

	t->period_s = trend_period(t->points, t->count);
	if (!swings(t, cycles, teeth))
		teeth = large_teeth(t, cycles);
	if (teeth > 0) {
		t->teeth = teeth;
		for (size_t i = 0; i < teeth; i++)
			troughs[i] = (struct point){ cycles[i].start_s, cycles[i].start };
		troughs[teeth] = (struct point){ cycles[teeth - 1].end_s, cycles[teeth - 1].end };
		t->trough_count = points_blocks(troughs, teeth + 1, TREND_TROUGHS, BLOCK_MIN, t->troughs);
	} else if (t->count <= TROUGHS_ALL && t->period_s <= 0) {
		t->trough_count = t->count;
		for (size_t i = 0; i < t->count; i++)
			t->troughs[i] = t->points[i];
	} else {
		t->trough_count = points_blocks(t->points, t->count, trough_blocks(t), BLOCK_MIN, t->troughs);
	}
}

void trend_measure(const struct series *s, enum metric m, double from_s, double to_s, double floor_bytes,
		   double floor_share, struct trend *ret)
{
	struct trend *t = ret;

	t->metric = m;
	t->count = series_points(s, m, from_s, to_s, t->points, TREND_POINTS);
	if (t->count < MIN_POINTS || t->points[t->count - 1].t_s <= t->points[0].t_s)
		return;
	t->from_s = t->points[0].t_s;
	t->span_s = t->points[t->count - 1].t_s - t->from_s;
	find_troughs(t);
	if (t->trough_count < (t->teeth > 0 ? MIN_TOOTH_TROUGHS : MIN_POINTS))
		return;
	t->known = true;
	measure_levels(t);
	t->noise = noise_of(t->troughs, t->trough_count);
	t->scatter = scatter_of(t);
	t->material = fmax(fmax(floor_bytes, floor_share * t->level_last), NOISE_FACTOR * t->noise);
	trend_shape(t->troughs, t->trough_count, t->material, &t->shape);
	measure_tests(t);
	measure_course(t);
	measure_bursts(t);
}
