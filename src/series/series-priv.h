/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of a series: per metric one track, that is a ring of raw points and, behind it, rings of buckets.
 *
 * Invariants: a ring's cap is a power of two and grows only while nothing has left the ring (head == 0); everything
 * in tier k + 1 is older than everything in tier k, and that older than everything raw. A metric that is never known
 * costs nothing, a sparse one only what it holds.
 */
#ifndef MEMWATCH_SERIES_PRIV_H
#define MEMWATCH_SERIES_PRIV_H

#include "memwatch/series.h"

/*
 * 4,096 raw points are seven minutes at 10 Hz; 256 buckets a tier keep any stretch of the past at 256 / 8 places or
 * more. 24 h at 10 Hz fill four tiers: 64 KiB + 4 x 16 KiB a metric, 3 MiB for 24 dense ones.
 */
#define RAW_CAP 4096U
#define TIER_CAP 256U
#define TIER_FACTOR 8U
#define TIER_MAX 20 /* 8^20 samples and more: no series gets there */
#define BUCKET_POINTS 4

struct bucket {
	struct point first, min, max, last;
};

struct ring {
	void *items;
	size_t cap, head, count;
};

struct track {
	struct ring raw;             /* struct point */
	struct ring tiers[TIER_MAX]; /* struct bucket */
	uint64_t known;
	struct bucket all; /* of the whole run */
	double mean;
};

struct series {
	uint64_t samples;
	double last_s;
	struct track tracks[METRIC_COUNT];
};

/* Walks the points of a track inside [from_s, to_s] in ascending order. */
struct track_walk {
	const struct track *track;
	double from_s, to_s;
	size_t tier; /* from the coarsest that holds something down to 0, then the raw ring */
	size_t index;
	bool raw;
	bool extremes; /* of a bucket only minimum and maximum are wanted; may be set on the way */
	struct point pending[BUCKET_POINTS];
	size_t pending_count, pending_at;
};

void track_walk_init(struct track_walk *w, const struct track *track, double from_s, double to_s);
bool track_walk_next(struct track_walk *w, struct point *ret);
/* How many points that walk can give at most: a bucket counts for four, though its points may coincide. */
size_t track_count(const struct track *t, double from_s, double to_s);

/* The k-th smallest (0-based) of values[0..count), which it reorders. count > 0. */
double select_kth(double *values, size_t count, size_t k);

/*
 * Least squares of v on one axis made from t: straight (a, b infinite) or flat outside of [a, b]; saturating or
 * logarithmic from a on with scale b; the power b of the time since a.
 */
enum axis { AXIS_RAMP, AXIS_EXP, AXIS_LOG, AXIS_POWER };
struct line_fit {
	double sse, total; /* squared residuals; about the mean alone */
	double base, slope;
};
struct line_fit fit_line(const struct point *points, size_t count, enum axis axis, double a, double b);

#endif
