/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The detectors that are in use elsewhere, on RSS alone, as published. */
#include <math.h>
#include <stdlib.h>

#include "verdicts.h"

#define R2_MIN 0.8          /* linear backward regression (Jindal and others) */
#define Z_MIN 2.326         /* one-sided 1 % */
#define LAST_PART (2.0 / 3) /* max filtration: a new maximum behind that share of the window */

const char *const detector_names[DETECTOR_COUNT] = {
	[DETECT_OLS] = "OLS, R2 > 0.8",
	[DETECT_MANN_KENDALL] = "Mann-Kendall, z > 2.33",
	[DETECT_MAX_FILTRATION] = "max filtration + regression",
};

struct line {
	double slope, r2, t;
};

static struct line least_squares(const struct point *points, size_t count)
{
	double n = (double)count, mt = 0, mv = 0, tt = 0, vv = 0, tv = 0;
	struct line l = { 0 };

	for (size_t i = 0; i < count; i++) {
		mt += points[i].t_s / n;
		mv += points[i].v / n;
	}
	for (size_t i = 0; i < count; i++) {
		double t = points[i].t_s - mt, v = points[i].v - mv;

		tt += t * t;
		vv += v * v;
		tv += t * v;
	}
	if (count < 4 || tt <= 0 || vv <= 0)
		return l;
	l.slope = tv / tt;
	l.r2 = tv * tv / (tt * vv);
	l.t = l.slope > 0 ? sqrt(l.r2 * (n - 2) / fmax(1e-12, 1 - l.r2)) : 0;
	return l;
}

static bool new_maximum(const struct point *points, size_t count)
{
	double from_s = points[0].t_s + LAST_PART * (points[count - 1].t_s - points[0].t_s);
	double before = -INFINITY, after = -INFINITY;

	for (size_t i = 0; i < count; i++)
		if (points[i].t_s < from_s)
			before = fmax(before, points[i].v);
		else
			after = fmax(after, points[i].v);
	return after > before;
}

void detect(const struct point *points, size_t count, bool ret[DETECTOR_COUNT])
{
	struct line l = least_squares(points, count);

	ret[DETECT_OLS] = l.slope > 0 && l.r2 > R2_MIN;
	ret[DETECT_MANN_KENDALL] = count >= 4 && trend_mann_kendall(points, count) > Z_MIN;
	ret[DETECT_MAX_FILTRATION] = count >= 4 && l.t > Z_MIN && new_maximum(points, count);
}
