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

/* Whole run: exact count, first, last, min, max, mean; slope by Theil-Sen on block means with 95 % interval. */
void series_summary(const struct series *s, enum metric m, struct metric_summary *ret);

/* The table for the report: t_s and every metric that was ever known; at most max_rows rows, extremes of RSS and heap in use kept. */
must_check int series_export(const struct series *s, size_t max_rows, struct arena *arena, struct table *ret);

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

enum shape {
	SHAPE_UNDECIDED,
	SHAPE_CONST,
	SHAPE_LINEAR,
	SHAPE_STEP,
	SHAPE_SATURATING,
	SHAPE_LOG,
	SHAPE_DOUBLING,
	SHAPE_FALLING,
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
	double onset_s; /* SHAPE_LINEAR: flat until then; the first point's time where it rises from the start */
};

/* Model selection by BIC on troughs (n >= 8, else undecided; the first 600). min_effect: changes smaller than this count as none. */
void trend_shape(const struct point *points, size_t count, double min_effect, struct shape_fit *ret);

#endif
