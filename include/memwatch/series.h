/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounded time series of samples, and the statistics on it. Pure: no I/O, no clock.
 *
 * Storage: a ring of raw samples (recent detail), and tiers of buckets behind it, each bucket of tier k summing up
 * 2^(3k) samples with first, last, minimum and maximum and their true times. When a ring is full its oldest entries move into
 * the next tier, so any length fits in a fixed number of bytes and extremes are never lost. 24 h at 10 Hz: at most 8 MB.
 * Values that a sample does not have (NaN) are skipped metric by metric. Times must not go backward: such samples are refused.
 */
#ifndef MEMWATCH_SERIES_H
#define MEMWATCH_SERIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/model.h"

struct point {
	double t_s, v;
};

struct series;
must_check int series_create(struct series **ret);
void series_destroy(struct series *s);
/* 0, -EINVAL for time going backward, -ENOMEM */
must_check int series_add(struct series *s, const struct sample *sample);
uint64_t series_count(const struct series *s);                              /* samples ever added */
size_t series_bytes(const struct series *s);                                /* memory held */
bool series_last(const struct series *s, enum metric m, struct point *ret); /* newest known value */
bool series_first(const struct series *s, enum metric m, struct point *ret);

/* Points of one metric inside [from_s, to_s], ascending: raw where still held, else each bucket's first, minimum, maximum and last
 * in the order of their times. At most cap; thinned evenly with extremes kept where there are more. Returns the count. */
size_t series_points(const struct series *s, enum metric m, double from_s, double to_s, struct point *ret, size_t cap);

/* Values of one metric at given times, linear between what is known, NaN outside. Long ago buckets count by their first and last point. */
void series_values_at(const struct series *s, enum metric m, const double *t_s, size_t count, double *ret);

/* Whole run: exact count, first, last, min, max, mean; slope by Theil-Sen on block means with 95 % interval. */
void series_summary(const struct series *s, enum metric m, struct metric_summary *ret);

/* The table for the report: t_s and every metric that was ever known; at most max_rows rows, extremes of RSS and heap in use kept. */
must_check int series_export(const struct series *s, size_t max_rows, struct arena *arena, struct table *ret);

/* Median of values[0..count), which it reorders; linear. NaN for none. */
double values_median(double *values, size_t count);

/* ---- statistics on points (t ascending) ----------------------------------------------------------------------------- */

enum block_figure { BLOCK_MIN, BLOCK_MAX, BLOCK_MEAN, BLOCK_MEDIAN };

/* Splits [first t, last t] into `blocks` equal time spans and reduces each; empty spans give no point. The point's time is that
 * of the value (min, max) or the middle of the span. Returns the count. */
size_t points_blocks(const struct point *points, size_t count, size_t blocks, enum block_figure figure,
		     struct point *ret);

/* Mann-Kendall with tie correction; z > 0 rises. 0 for fewer than 4 points. */
double trend_mann_kendall(const struct point *points, size_t count);

/* Theil-Sen slope with the 95 % interval from Kendall's variance (Sen 1968). NaN for fewer than 4 points. count <= 600. */
struct interval trend_theil_sen(const struct point *points, size_t count);

/* Median absolute deviation of the residuals about the Theil-Sen line, times 1.4826: the noise. */
double trend_noise(const struct point *points, size_t count);

/* Period of a sawtooth in seconds from the autocorrelation of evenly resampled points; 0: none. */
double trend_period(const struct point *points, size_t count);

/*
 * When a growing course first reaches a height, `ahead` above where it is at its last point, if it goes on by the same law: the same
 * growth, the same noise, whose tops reach it first. Seconds from the last point: median, and the interval of 90 %; high is infinite
 * where the slope may be zero (or behind 1e10 s). By block bootstrap, over what kinds of noise the points allow; deterministic.
 * law: whose growth it is, from from_s on; seen: the course that comes to the limit with it (the same points, or RSS above a heap);
 * period_s of a regular swing, 0 none. NaN for fewer than 5 points. Does not see growth that speeds up or ends.
 */
struct interval passage_time(const struct point *law, size_t law_count, const struct point *seen, size_t seen_count,
			     double from_s, double period_s, double ahead);

/* One rise and fall of a course that swings: from a trough to the next one. */
struct cycle {
	double start_s, end_s; /* times of the troughs */
	double start, peak, end;
};

/*
 * Splits points into cycles at alternating turning points: a fall counts as one when it is at least `swing` deep (hysteresis), so
 * cycles may differ in length and height. swing 0: chosen from the data, about half of what the usual tooth falls. The points before the
 * first trough and behind the last make no cycle. Returns the count, at most cap (the newest ones); 0 where fewer than 3 are seen or the
 * turning points are no deeper than noise (an autocorrelated or random walk has no regular teeth).
 */
size_t points_cycles(const struct point *points, size_t count, double swing, struct cycle *ret, size_t cap);

#define REGRESS_TERMS 2

/* y = mean_y + sum of slope[k] * (x[k] - mean_x[k]). Errors count the autocorrelation of the residuals as that of an AR(1). */
struct regression {
	size_t count, terms;
	double mean_y, mean_x[REGRESS_TERMS], slope[REGRESS_TERMS];
	double cov[REGRESS_TERMS + 1][REGRESS_TERMS + 1]; /* of the mean, then of the slopes */
	double total, sse;                                /* squares about the mean; about the fit */
	double variance;                                  /* of the noise */
	double rho;                                       /* lag-1 correlation of the residuals, 0..1 */
	double effective;                                 /* independent observations that the count is worth */
	double t95;                                       /* half-width of the 95 % interval in standard errors */
	double vif; /* variance inflation: how much worse two regressors are told apart than unrelated ones */
};

/*
 * Least squares of y on x[0..terms), terms <= REGRESS_TERMS (0: the mean alone), observations at even times. False, and *ret untouched,
 * where there are fewer than terms + 4 of them, a regressor does not move, or two of them move as one.
 */
bool regress(const double *y, const double *const *x, size_t terms, size_t count, struct regression *ret);
struct interval regress_slope(const struct regression *r, size_t term);
/* The fit at x, 95 %; observed: the interval of a single further observation there. */
struct interval regress_at(const struct regression *r, const double *x, bool observed);

enum shape {
	SHAPE_UNDECIDED,
	SHAPE_CONST,
	SHAPE_LINEAR,
	SHAPE_STEP,
	SHAPE_SATURATING,
	SHAPE_LOG,
	SHAPE_DOUBLING,
	SHAPE_FALLING,
	SHAPE_POWER,     /* t^0.5 to t^3: without an end, as a line */
	SHAPE_PERIODIC,  /* a wave of 1 to 6 periods, with no growth beside it */
	SHAPE_STAIRCASE, /* four steps or more of about the same height: growth in steps */
	SHAPE_COUNT
};
extern const char *const shape_names[SHAPE_COUNT];

struct shape_fit {
	enum shape shape;
	double bic[SHAPE_COUNT];     /* NaN: not fitted */
	double margin;               /* BIC distance to the second best */
	double step_at_s, step_size; /* SHAPE_STEP */
	double tau_s, ceiling;       /* SHAPE_SATURATING: v -> ceiling */
	double slope_per_s;          /* SHAPE_LINEAR */
	/* what the best of line, log and power leaves: lag-1 correlation and standard deviation; NaN where none rises */
	double rest_correlation, rest_sd;
	double tread_s; /* where steps explain the rise: the longest stretch between two of them; else 0 */
	double onset_s; /* SHAPE_LINEAR: flat until then; the first point's time where it rises from the start */
};

/* Model selection by BIC on troughs (n >= 8, else undecided; the first 600). min_effect: changes smaller than this count as none. */
void trend_shape(const struct point *points, size_t count, double min_effect, struct shape_fit *ret);

#endif
