/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Create-use-delete loops: what is left between the cycles, and whether they slow down.
 *
 * A cycle is a unit of work where units are counted, else a tooth of the memory. Either way the watch is cut at the ends of the
 * cycles, into at most BLOCKS pieces of whole cycles, and each gives its level (the troughs, where memory swings) and the time per
 * cycle. Units: the level of one is the lowest memory from half a unit before its end to half a unit behind it, so that it
 * does not matter whether a unit is counted when it begins or when it ends.
 */
#include <math.h>

#include "verdict-priv.h"

#define CYCLE_POINTS 2048
#define TEETH_MAX 682 /* three points make a tooth */
#define BLOCKS 60     /* 1,770 pairs for Theil-Sen: some 30 us */
#define BLOCK_PLACES 4
#define EDGE_PLACES 50
#define MIN_CYCLES 6
#define MAX_UNITS 100000.0
#define COVER_SHARE 0.6
#define EDGE_MIN 3
#define EDGE_MAX 100
#define EDGE_SHARE 10
#define SLOWS_Z 3.3 /* one in 2,000 by chance */
#define SLOWS_RATIO 1.5
#define SWINGS_FACTOR 4.0 /* range inside of a unit over the usual step from one reading to the next unit's */

/* Memory and the ends of the cycles, whatever they are made from. */
struct loop {
	const struct point *points; /* memory */
	size_t count;
	const struct point *units; /* by units: the counter, ascending */
	size_t unit_count;
	double first_unit; /* the cycle i ends when the counter reaches first_unit + i + 1 */
	const struct cycle *teeth;
	size_t cycles;
};

/* When the counter first reached `units`: linear between two readings. */
static double time_of_unit(const struct loop *l, double units)
{
	size_t low = 0, high = l->unit_count - 1;
	const struct point *p;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->units[mid].v >= units)
			high = mid;
		else
			low = mid + 1;
	}
	p = &l->units[low];
	if (low == 0 || p->v <= p[-1].v || p->v <= units)
		return p->t_s;
	return p[-1].t_s + (p->t_s - p[-1].t_s) * (units - p[-1].v) / (p->v - p[-1].v);
}

/*
 * End of cycle i, in cycles; i may lie in between, and 0 is the beginning of the first. Nothing tells when the first unit began: it is
 * taken to have lasted as long as the second, so that a start-up before it is no slow cycle.
 */
static double end_of(const struct loop *l, double i)
{
	size_t whole = (size_t)i;

	if (l->units && whole == 0 && i <= 0) {
		double first_s = time_of_unit(l, l->first_unit + 1);

		return fmax(time_of_unit(l, l->first_unit), 2 * first_s - time_of_unit(l, l->first_unit + 2));
	}
	if (l->units)
		return time_of_unit(l, l->first_unit + i);
	return whole == 0 ? l->teeth[0].start_s : l->teeth[whole - 1].end_s;
}

static size_t find_time(const struct loop *l, double t_s)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (l->points[mid].t_s >= t_s)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static double memory_at(const struct loop *l, double t_s)
{
	size_t at = find_time(l, t_s);
	const struct point *p = l->points + at;

	if (at == 0)
		return p->v;
	if (at == l->count)
		return p[-1].v;
	return p[-1].v + (p->v - p[-1].v) * (t_s - p[-1].t_s) / (p->t_s - p[-1].t_s);
}

/* Lowest and highest memory between two times, their own readings included. */
static double lowest(const struct loop *l, double from_s, double to_s, double *ret_highest)
{
	double low = fmin(memory_at(l, from_s), memory_at(l, to_s));
	double high = fmax(memory_at(l, from_s), memory_at(l, to_s));

	for (size_t i = find_time(l, from_s); i < l->count && l->points[i].t_s <= to_s; i++) {
		low = fmin(low, l->points[i].v);
		high = fmax(high, l->points[i].v);
	}
	if (ret_highest)
		*ret_highest = high;
	return low;
}

/* Whether memory goes up and down inside of a unit, and by more than it moves from one to the next. */
static bool swings(const struct loop *l)
{
	double step = (double)l->cycles / fmin(BLOCKS, (double)l->cycles), ranges = 0, moves = 0;

	for (double i = 0; i + step <= (double)l->cycles + 1e-9; i += step) {
		double from_s = end_of(l, i), to_s = end_of(l, i + 1), high;
		double low = lowest(l, from_s, to_s, &high);

		ranges += high - low;
		moves += fabs(memory_at(l, to_s) - memory_at(l, from_s));
	}
	return ranges > SWINGS_FACTOR * moves;
}

/* Mean level at the ends of the cycles from + 1 … to, at no more than `most` of them. */
static double level_of(const struct loop *l, size_t from, size_t to, size_t most, bool swinging)
{
	size_t places = to - from < most ? to - from : most;
	double sum = 0;

	for (size_t k = 1; k <= places; k++) {
		double i = (double)from + (double)((to - from) * k) / (double)places, last = (double)l->cycles;
		size_t tooth = (size_t)i;

		if (!l->units)
			sum += l->teeth[tooth - 1].end;
		else if (!swinging)
			sum += memory_at(l, end_of(l, i));
		else
			sum += lowest(l, end_of(l, fmax(0, i - 0.5)), end_of(l, fmin(last, i + 0.5)), NULL);
	}
	return sum / (double)places;
}

static double duration_of(const struct loop *l, size_t from, size_t to)
{
	return (end_of(l, (double)to) - end_of(l, (double)from)) / (double)(to - from);
}

/* Blocks that hang together say less than their count: the interval widens by what an AR(1) would do to it. */
static struct interval widen(struct interval slope, const struct point *p, size_t count)
{
	double mean = 0, var = 0, cov = 0, before = 0, n = (double)count, rho, wider;

	for (size_t i = 0; i < count; i++)
		mean += (p[i].v - p[0].v - slope.value * (p[i].t_s - p[0].t_s)) / n;
	for (size_t i = 0; i < count; i++) {
		double rest = p[i].v - p[0].v - slope.value * (p[i].t_s - p[0].t_s) - mean;

		var += rest * rest;
		cov += rest * before;
		before = rest;
	}
	if (!(var > 0))
		return slope;
	/* Kendall's bias of the correlation of residuals about a line */
	rho = (cov / var + 2 / n) / (1 - fmin(0.5, 4 / n));
	rho = fmin(fmax(rho, 0), 0.95);
	wider = sqrt((1 + rho) / (1 - rho));
	slope.low = slope.value - (slope.value - slope.low) * wider;
	slope.high = slope.value + (slope.high - slope.value) * wider;
	return slope;
}

static void measure_blocks(const struct loop *l, bool swinging, struct cycle_fit *ret)
{
	struct point levels[BLOCKS] = { 0 }, times[BLOCKS] = { 0 };
	size_t blocks = l->cycles < BLOCKS ? l->cycles : BLOCKS;

	for (size_t b = 0; b < blocks; b++) {
		size_t from = b * l->cycles / blocks, to = (b + 1) * l->cycles / blocks;
		double middle = (double)(from + to) / 2;

		levels[b] = (struct point){ middle, level_of(l, from, to, BLOCK_PLACES, swinging) };
		times[b] = (struct point){ middle, duration_of(l, from, to) };
	}
	ret->growth_per_cycle = widen(trend_theil_sen(levels, blocks), levels, blocks);
	ret->slows = ret->duration_ratio >= SLOWS_RATIO && trend_mann_kendall(times, blocks) > SLOWS_Z;
}

static void measure_loop(const struct loop *l, struct cycle_fit *ret)
{
	size_t n = l->cycles, edge = n / EDGE_SHARE;
	bool swinging = l->units && swings(l);

	edge = edge < EDGE_MIN ? EDGE_MIN : edge > EDGE_MAX ? EDGE_MAX : edge;
	ret->known = true;
	ret->by_units = l->units != NULL;
	ret->count = n;
	ret->edge = edge;
	ret->first_mean_bytes = level_of(l, 0, edge, EDGE_PLACES, swinging);
	ret->last_mean_bytes = level_of(l, n - edge, n, EDGE_PLACES, swinging);
	ret->duration_first_s = duration_of(l, 0, edge);
	ret->duration_last_s = duration_of(l, n - edge, n);
	ret->duration_ratio = ret->duration_first_s > 0 ? ret->duration_last_s / ret->duration_first_s : NAN;
	for (size_t q = 0; q < 4; q++) {
		size_t from = q * n / 4, to = (q + 1) * n / 4;

		ret->quarters[q] = (struct cycle_quarter){ level_of(l, from, to, EDGE_PLACES, swinging),
							   duration_of(l, from, to) };
	}
	measure_blocks(l, swinging, ret);
}

/* The counter where it covers the memory's time and its units make cycles. */
static bool read_units(const struct verdict_input *in, double from_s, double to_s, struct loop *l, struct point *units)
{
	double covered_s, done;

	l->unit_count = series_points(in->series, METRIC_WORK, from_s, to_s, units, CYCLE_POINTS);
	if (l->unit_count < 4 || l->count < 4)
		return false;
	covered_s =
		fmin(units[l->unit_count - 1].t_s, l->points[l->count - 1].t_s) - fmax(units[0].t_s, l->points[0].t_s);
	if (covered_s < COVER_SHARE * (to_s - from_s))
		return false;
	for (size_t i = 1; i < l->unit_count; i++) /* it starts anew with the process: no unit is undone */
		if (units[i].v < units[i - 1].v)
			return false;
	l->first_unit = ceil(units[0].v);
	done = floor(units[l->unit_count - 1].v) - l->first_unit;
	if (!(done >= MIN_CYCLES && done <= MAX_UNITS))
		return false;
	l->units = units;
	l->cycles = (size_t)done;
	return true;
}

static bool measure_teeth(const struct verdict_input *in, enum metric m, double from_s, double to_s,
			  struct point *points, struct cycle_fit *ret)
{
	size_t count = series_points(in->series, m, from_s, to_s, points, CYCLE_POINTS);
	struct cycle teeth[TEETH_MAX];
	struct loop l = { .points = points, .count = count, .teeth = teeth };

	l.cycles = points_cycles(points, count, 0, teeth, TEETH_MAX);
	if (l.cycles < MIN_CYCLES)
		return false;
	measure_loop(&l, ret);
	return true;
}

void cycles_measure(const struct verdict_input *in, const struct trend *subject, double from_s, double to_s,
		    struct cycle_fit *ret)
{
	const struct interval unknown = { NAN, NAN, NAN };
	struct point points[CYCLE_POINTS], units[CYCLE_POINTS];
	struct loop l = { .points = points };

	*ret = (struct cycle_fit){ .growth_per_cycle = unknown, .duration_ratio = NAN };
	l.count = series_points(in->series, subject->metric, from_s, to_s, points, CYCLE_POINTS);
	if (read_units(in, from_s, to_s, &l, units)) {
		measure_loop(&l, ret);
		return;
	}
	if (!measure_teeth(in, subject->metric, from_s, to_s, points, ret) && subject->metric != METRIC_RSS)
		measure_teeth(in, METRIC_RSS, from_s, to_s, points, ret);
}
