/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Trend tests on few points: Mann-Kendall, Theil-Sen (Sen 1968), noise, and the period of a sawtooth. */
#include "memwatch/series.h"

#include <math.h>
#include <stdlib.h>

#include "series-priv.h"

#define MIN_POINTS 4
#define MAX_POINTS 600 /* 179,700 pairs: 1.4 MB for the time of one call */
#define Z_95 1.959963984540054
#define MAD_TO_SIGMA 1.4826
#define PERIOD_SAMPLES 256
#define PERIOD_MIN_LAG 4 /* a shorter one is not resolved */
#define PERIOD_OF_SPAN 0.01
#define PERIOD_CORRELATION 0.4 /* of white noise at 256 samples: below 0.2 */

static int compare_values(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Variance of Kendall's S, ties of the values counted. count <= MAX_POINTS */
static double kendall_variance(const struct point *points, size_t count)
{
	double sorted[MAX_POINTS], n = (double)count;
	double var = n * (n - 1) * (2 * n + 5);

	for (size_t i = 0; i < count; i++)
		sorted[i] = points[i].v;
	qsort(sorted, count, sizeof(*sorted), compare_values);
	for (size_t i = 0, j; i < count; i = j) {
		double t;

		for (j = i + 1; j < count && sorted[j] <= sorted[i];)
			j++;
		t = (double)(j - i);
		var -= t * (t - 1) * (2 * t + 5);
	}
	return var / 18;
}

double trend_mann_kendall(const struct point *points, size_t count)
{
	double s = 0, var;

	if (count > MAX_POINTS)
		count = MAX_POINTS;
	if (count < MIN_POINTS)
		return 0;
	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			s += (points[j].v > points[i].v) - (points[j].v < points[i].v);
	var = kendall_variance(points, count);
	if (var <= 0 || s == 0)
		return 0;
	return (s > 0 ? s - 1 : s + 1) / sqrt(var);
}

static size_t pair_slopes(const struct point *points, size_t count, double *slopes)
{
	size_t made = 0;

	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			if (points[j].t_s > points[i].t_s)
				slopes[made++] = (points[j].v - points[i].v) / (points[j].t_s - points[i].t_s);
	return made;
}

struct interval trend_theil_sen(const struct point *points, size_t count)
{
	struct interval ret = { NAN, NAN, NAN };
	cleanup_free double *slopes = NULL;
	size_t made;
	double half;

	if (count > MAX_POINTS)
		count = MAX_POINTS;
	if (count < MIN_POINTS)
		return ret;
	slopes = malloc(count * (count - 1) / 2 * sizeof(*slopes));
	if (!slopes)
		return ret;
	made = pair_slopes(points, count, slopes);
	if (made == 0)
		return ret;
	half = Z_95 * sqrt(kendall_variance(points, count));
	ret.value = values_median(slopes, made);
	/* Sen: the slopes of rank (N - C) / 2 and (N + C) / 2 + 1, counted from 1 */
	ret.low = select_kth(slopes, made, (size_t)fmax(0, floor(((double)made - half) / 2 - 0.5)));
	ret.high = select_kth(slopes, made, (size_t)fmin((double)made - 1, ceil(((double)made + half) / 2 - 0.5)));
	return ret;
}

double trend_noise(const struct point *points, size_t count)
{
	double slope = trend_theil_sen(points, count).value;
	double rest[MAX_POINTS], middle;

	if (isnan(slope))
		return 0;
	if (count > MAX_POINTS)
		count = MAX_POINTS;
	for (size_t i = 0; i < count; i++)
		rest[i] = points[i].v - slope * points[i].t_s;
	middle = values_median(rest, count);
	for (size_t i = 0; i < count; i++)
		rest[i] = fabs(rest[i] - middle);
	return MAD_TO_SIGMA * values_median(rest, count);
}

/*
 * Values at even times, linear in between, the straight line through them taken off. Returns the span of the values
 * before.
 */
static double resample(const struct point *points, size_t count, double *ret)
{
	double span_s = points[count - 1].t_s - points[0].t_s;
	double low = INFINITY, high = -INFINITY;
	struct point even[PERIOD_SAMPLES];
	struct line_fit line;
	size_t at = 0;

	for (size_t i = 0; i < PERIOD_SAMPLES; i++) {
		double t = points[0].t_s + span_s * (double)i / (PERIOD_SAMPLES - 1), gap_s;

		while (at + 2 < count && points[at + 1].t_s <= t)
			at++;
		gap_s = points[at + 1].t_s - points[at].t_s;
		even[i].t_s = t;
		even[i].v = points[at].v +
			    (gap_s > 0 ? (points[at + 1].v - points[at].v) * (t - points[at].t_s) / gap_s : 0);
		low = fmin(low, even[i].v);
		high = fmax(high, even[i].v);
	}
	line = fit_line(even, PERIOD_SAMPLES, AXIS_RAMP, -INFINITY, INFINITY);
	for (size_t i = 0; i < PERIOD_SAMPLES; i++)
		ret[i] = even[i].v - line.base - line.slope * even[i].t_s;
	return high - low;
}

static double correlation(const double *x, size_t lag, double power)
{
	double sum = 0;

	for (size_t i = 0; i + lag < PERIOD_SAMPLES; i++)
		sum += x[i] * x[i + lag];
	return sum / power * PERIOD_SAMPLES / (double)(PERIOD_SAMPLES - lag);
}

double trend_period(const struct point *points, size_t count)
{
	double x[PERIOD_SAMPLES], power = 0, best = PERIOD_CORRELATION, before = 1, span;
	size_t best_lag = 0, lag = 1;

	if (count < 16 || points[count - 1].t_s <= points[0].t_s)
		return 0;
	span = resample(points, count, x);
	for (size_t i = 0; i < PERIOD_SAMPLES; i++)
		power += x[i] * x[i];
	/* teeth that are small against the course (pages, rounding) hide no trough */
	if (sqrt(power / PERIOD_SAMPLES) <= PERIOD_OF_SPAN * span)
		return 0;
	/* the peak at lag 0 ends where the correlation first turns negative; at least three periods must be seen */
	while (lag < PERIOD_SAMPLES / 3 && before > 0)
		before = correlation(x, lag++, power);
	for (; lag <= PERIOD_SAMPLES / 3; lag++) {
		double r = correlation(x, lag, power);

		if (r > best) {
			best = r;
			best_lag = lag;
		} else if (best_lag > 0 && r < 0) {
			break;
		}
	}
	if (best_lag < PERIOD_MIN_LAG)
		return 0;
	return (double)best_lag * (points[count - 1].t_s - points[0].t_s) / (PERIOD_SAMPLES - 1);
}
