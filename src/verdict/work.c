/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory against work: which counter, how evenly it runs, and what that says about a rise. The fit is in work_fit.c. */
#include <math.h>

#include "verdict-priv.h"

#define WORK_POINTS 1024
#define MIN_POINTS 8
#define COVER_SHARE 0.6 /* of the time: "most of it", and a counter that is read every fifth tick loses its edges */
#define STILL_BLOCKS 20 /* for the stretch before the first unit */
#define CHOICE_BLOCKS 31
#define CHOICE_MARGIN 0.25 /* two standard errors of Kendall's tau on 30 pairs: below it counters tie */
#define RATE_BLOCKS 20
#define COUNTING_CHANCE 1.9 /* chi-square of 19, 1 %: a smaller excess over what counting explains is chance */
#define IDLE_RATE 0.05      /* of the mean */
#define IDLE_UNITS 3.5      /* that many are expected and none seen: 3 % of a Poisson's zeros */
#define CPU_TICK_S 0.01
#define CPU_STILL_S 0.025 /* two ticks */
#define PAGE_SIGMA 1182.0 /* 4096 / sqrt(12): rounding to pages */
#define EXACT 1e-6        /* of the rise: what is left of figures without noise */
/* work_relate() */
#define IDLE_MOSTLY 0.85
#define VARIES 0.25 /* random arrivals, and the ups and downs of a loaded machine, stay below it */
#define MAIN_PART 0.5
#define SMALL_PART 0.25

struct counter {
	enum metric metric;
	size_t count;
	struct point points[WORK_POINTS];
};

/* Kernel counters, the one that is preferred on ties first. Faults are memory itself, the network is all processes'. */
static const struct {
	enum metric metric;
	const char *unit;
	double step; /* the counter moves by no less */
} kernel_counters[] = {
	{ METRIC_CPU, "CPU second", CPU_TICK_S },   { METRIC_SYSCALLS, "read or write call", 1 },
	{ METRIC_READ_CHARS, "byte read", 0 },      { METRIC_WRITE_CHARS, "byte written", 0 },
	{ METRIC_SWITCHES, "voluntary switch", 1 }, { METRIC_NET, "byte on the network", 0 },
};
#define KERNEL_COUNTERS (sizeof(kernel_counters) / sizeof(*kernel_counters))

static double moved(const struct counter *c)
{
	return c->points[c->count - 1].v - c->points[0].v;
}

/* The counter without its resets (a recording may span a restart). False where it does not cover most of the time. */
static bool counter_read(const struct series *s, enum metric m, double from_s, double to_s, struct counter *ret)
{
	double lost = 0, before;

	ret->metric = m;
	ret->count = series_points(s, m, from_s, to_s, ret->points, WORK_POINTS);
	if (ret->count < MIN_POINTS ||
	    ret->points[ret->count - 1].t_s - ret->points[0].t_s < COVER_SHARE * (to_s - from_s))
		return false;
	before = ret->points[0].v;
	for (size_t i = 1; i < ret->count; i++) {
		double v = ret->points[i].v;

		if (v < before)
			lost += before;
		before = v;
		ret->points[i].v = v + lost;
	}
	return isfinite(moved(ret));
}

/* Linear in between; NaN outside. *at is a cursor: times must ascend from call to call. */
static double counter_at(const struct counter *c, size_t *at, double t_s)
{
	const struct point *p;
	double gap_s;

	if (t_s < c->points[0].t_s || t_s > c->points[c->count - 1].t_s)
		return NAN;
	while (*at + 2 < c->count && c->points[*at + 1].t_s <= t_s)
		++*at;
	p = &c->points[*at];
	gap_s = p[1].t_s - p[0].t_s;
	return gap_s > 0 ? p[0].v + (p[1].v - p[0].v) * fmin(1, (t_s - p[0].t_s) / gap_s) : p[1].v;
}

/* ---- which counter --------------------------------------------------------------------------------------------------- */

/* Kendall's tau-b of the increments from point to point. */
static double concordance(const double *a, const double *b, size_t count)
{
	double sum = 0, pairs_a = 0, pairs_b = 0;

	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++) {
			double sa = (a[i] > a[j]) - (a[i] < a[j]), sb = (b[i] > b[j]) - (b[i] < b[j]);

			sum += sa * sb;
			pairs_a += sa * sa;
			pairs_b += sb * sb;
		}
	return pairs_a > 0 && pairs_b > 0 ? sum / sqrt(pairs_a * pairs_b) : 0;
}

static bool moved_beyond_rounding(enum metric m, double by)
{
	return by > (m == METRIC_CPU ? CPU_STILL_S : 0);
}

/* Whether it moved by more than its rounding can feign. */
static bool moves(const struct counter *c)
{
	return moved_beyond_rounding(c->metric, moved(c));
}

/*
 * How well the counter's increments go with the memory's, -1..1; -2: it stands still; NaN: it does not cover most of the time. A search
 * for each time, no walk through all points: the counters are many.
 */
static double goes_with(const struct series *s, enum metric m, const struct point *blocks, size_t count)
{
	double times[CHOICE_BLOCKS], units[CHOICE_BLOCKS], bytes[CHOICE_BLOCKS], more[CHOICE_BLOCKS], by = 0;
	double begin_s = NAN, end_s = NAN;
	size_t made = 0;

	for (size_t i = 0; i < count; i++)
		times[i] = blocks[i].t_s;
	series_values_at(s, m, times, count, units);
	for (size_t i = 0; i < count; i++) {
		if (isnan(units[i]))
			continue;
		begin_s = isnan(begin_s) ? times[i] : begin_s;
		end_s = times[i];
		if (i == 0 || isnan(units[i - 1]))
			continue;
		more[made] = units[i] >= units[i - 1] ? units[i] - units[i - 1] : units[i];
		by += more[made];
		bytes[made++] = blocks[i].v - blocks[i - 1].v;
	}
	if (!(made >= 3 && end_s - begin_s >= COVER_SHARE * (times[count - 1] - times[0])))
		return NAN;
	return moved_beyond_rounding(m, by) ? concordance(more, bytes, made) : -2;
}

/* The best of the kernel's counters into *ret; false: none is known. Where none moves, that is the answer too. */
static bool choose_kernel_counter(const struct verdict_input *in, const struct point *y, size_t count, bool swings,
				  double from_s, double to_s, struct counter *ret, const char **ret_unit)
{
	struct point blocks[CHOICE_BLOCKS];
	size_t n = points_blocks(y, count, CHOICE_BLOCKS, swings ? BLOCK_MIN : BLOCK_MEAN, blocks);
	double best = -INFINITY;
	size_t chosen = 0;

	for (size_t k = 0; k < KERNEL_COUNTERS; k++) {
		double with = goes_with(in->series, kernel_counters[k].metric, blocks, n);

		if (isnan(with) || with <= best + (best > -2 ? CHOICE_MARGIN : 0))
			continue;
		best = with;
		chosen = k;
	}
	*ret_unit = kernel_counters[chosen].unit;
	return best > -INFINITY && counter_read(in->series, kernel_counters[chosen].metric, from_s, to_s, ret);
}

/* ---- how evenly it runs ---------------------------------------------------------------------------------------------- */

static double step_of(enum metric m)
{
	for (size_t k = 0; k < KERNEL_COUNTERS; k++)
		if (kernel_counters[k].metric == m)
			return kernel_counters[k].step;
	return 1;
}

/* What counting explains: rounding to the step for the CPU, arrivals at random (Poisson) for what is counted one by one. */
static double counting_variance(enum metric m, double mean, double step)
{
	double part = mean / step - floor(mean / step);

	if (step <= 0)
		return 0;
	return m == METRIC_CPU ? step * step * fmax(1.0 / 6, part * (1 - part)) : mean * step;
}

/* Blocks in a row without work count as idle where that many should have shown some. */
static double idle_share(const double *work, double mean, double step)
{
	size_t idle = 0;

	for (size_t i = 0, j; i < RATE_BLOCKS; i = j + 1) {
		for (j = i; j < RATE_BLOCKS && work[j] < IDLE_RATE * mean;)
			j++;
		if ((double)(j - i) * mean >= IDLE_UNITS * step)
			idle += j - i;
	}
	return (double)idle / RATE_BLOCKS;
}

static void measure_rate(const struct counter *c, struct work_fit *ret)
{
	double begin_s = c->points[0].t_s, span_s = c->points[c->count - 1].t_s - begin_s;
	double mean = moved(c) / RATE_BLOCKS, step = step_of(c->metric), before = c->points[0].v, var = 0;
	double work[RATE_BLOCKS], counting;
	size_t at = 0;

	ret->units_first = c->points[0].v;
	ret->units_last = c->points[c->count - 1].v;
	if (!moves(c)) {
		ret->rate_variation = 0;
		ret->idle_share = 1;
		return;
	}
	for (size_t i = 0; i < RATE_BLOCKS; i++) {
		double end_s = begin_s + span_s * (double)(i + 1) / RATE_BLOCKS;
		double now = i + 1 < RATE_BLOCKS ? counter_at(c, &at, end_s) : ret->units_last;

		work[i] = now - before;
		var += (work[i] - mean) * (work[i] - mean) / (RATE_BLOCKS - 1);
		before = now;
	}
	counting = counting_variance(c->metric, mean, step);
	ret->rate_variation = var > COUNTING_CHANCE * counting ? sqrt(var - counting) / mean : 0;
	ret->idle_share = idle_share(work, mean, step);
}

/* ---- the course ------------------------------------------------------------------------------------------------------ */

/* Reduces points[0..count) to at most `blocks` spans of even time. The units are those at the very times of the bytes. */
static void add_blocks(const struct point *y, const double *units, size_t count, size_t blocks, bool minima,
		       struct work_course *c)
{
	double from_s = count ? y[0].t_s : 0, span_s = count ? y[count - 1].t_s - from_s : 0;
	size_t at = 0;

	for (size_t b = 0; b < blocks && at < count; b++) {
		double end_s = from_s + span_s * (double)(b + 1) / (double)blocks, t = 0, u = 0, v = 0, n;
		size_t begin = at, least = at;

		for (; at < count && (y[at].t_s < end_s || b + 1 == blocks); at++) {
			least = y[at].v < y[least].v ? at : least;
			t += y[at].t_s - from_s;
			u += units[at] - units[begin];
			v += y[at].v - y[begin].v;
		}
		if (at == begin)
			continue;
		n = (double)(at - begin);
		c->t_s[c->count] = minima ? y[least].t_s : from_s + t / n;
		c->units[c->count] = minima ? units[least] : units[begin] + u / n;
		c->bytes[c->count++] = minima ? y[least].v : y[begin].v + v / n;
	}
}

/* y with the units at its times; drops what lies outside of the counter. Returns the count. */
static size_t join(const struct counter *c, struct point *y, size_t count, double *ret_units)
{
	size_t at = 0, kept = 0;

	for (size_t i = 0; i < count; i++) {
		double units = counter_at(c, &at, y[i].t_s);

		if (isnan(units))
			continue;
		y[kept] = y[i];
		ret_units[kept++] = units;
	}
	return kept;
}

/*
 * Named units start at a moment: what lies before is kept apart, so that a first unit that is dear is seen as a jump, and no block
 * mixes the two. Points between the last reading without and the first with a unit belong to neither.
 */
static void make_course(const struct counter *w, struct point *y, size_t count, size_t blocks, bool minima, bool apart,
			struct work_course *c)
{
	double units[WORK_POINTS], still_s = w->points[0].t_s, moved_s = w->points[w->count - 1].t_s;
	size_t still = 0, from;

	count = join(w, y, count, units);
	for (size_t i = 1; apart && i < w->count; i++) {
		if (w->points[i].v > w->points[0].v) {
			moved_s = w->points[i].t_s;
			break;
		}
		still_s = w->points[i].t_s;
	}
	while (apart && still < count && y[still].t_s <= still_s)
		still++;
	for (from = still; apart && from < count && y[from].t_s < moved_s;)
		from++;
	if (!apart || still == 0 || count - from < MIN_POINTS) {
		add_blocks(y, units, count, blocks, minima, c);
		return;
	}
	c->still_thin = still * blocks < count;
	add_blocks(y, units, still, STILL_BLOCKS, minima, c);
	c->still = c->count;
	add_blocks(y + from, units + from, count - from, blocks - STILL_BLOCKS, minima, c);
}

/* A course that swings is judged by its troughs: a block must be as long as a tooth. */
static size_t blocks_for(const struct trend *subject, double span_s)
{
	if (subject->period_s <= 0)
		return WORK_BLOCKS;
	return (size_t)fmin(WORK_BLOCKS, fmax(2 * STILL_BLOCKS, span_s / subject->period_s));
}

static double resolution_of(const struct trend *subject, const struct point *y, size_t count)
{
	double low = y[0].v, high = y[0].v;

	for (size_t i = 1; i < count; i++) {
		low = fmin(low, y[i].v);
		high = fmax(high, y[i].v);
	}
	return fmax(subject->metric == METRIC_RSS ? PAGE_SIGMA : 1, EXACT * (high - low));
}

void work_measure(const struct verdict_input *in, const struct trend *subject, double from_s, double to_s,
		  struct work_fit *ret)
{
	const struct interval unknown = { NAN, NAN, NAN };
	struct point y[WORK_POINTS];
	size_t count = series_points(in->series, subject->metric, from_s, to_s, y, WORK_POINTS);
	bool minima = subject->period_s > 0;
	struct work_course course = { .count = 0 };
	const char *unit = NULL;
	struct counter w;

	*ret = (struct work_fit){
		.fixed_bytes = unknown,
		.bytes_per_unit = unknown,
		.bytes_per_s = unknown,
		.exponent = unknown,
		.r2 = NAN,
		.rate_variation = NAN,
		.idle_share = NAN,
	};
	if (count < MIN_POINTS || !(y[count - 1].t_s > y[0].t_s))
		return;
	ret->cooperative = counter_read(in->series, METRIC_WORK, from_s, to_s, &w);
	if (ret->cooperative)
		ret->unit = in->work_unit ? in->work_unit : "unit";
	else if (!choose_kernel_counter(in, y, count, minima, from_s, to_s, &w, &unit))
		return;
	else
		ret->unit = unit;
	ret->source = metric_table[w.metric].name;
	measure_rate(&w, ret);
	course.begin_s = y[0].t_s;
	course.resolution = resolution_of(subject, y, count);
	make_course(&w, y, count, blocks_for(subject, y[count - 1].t_s - y[0].t_s), minima,
		    ret->cooperative && moves(&w), &course);
	if (!moves(&w)) /* what rounding may have moved tells nothing */
		for (size_t i = 0; i < course.count; i++)
			course.units[i] = ret->units_last;
	work_fit_course(&course, ret);
}

/* ---- what it says ---------------------------------------------------------------------------------------------------- */

enum work_relation work_relate(const struct work_fit *w, double rise, double span_s)
{
	double by_work = w->bytes_per_unit.value * (w->units_last - w->units_first);
	double by_time = w->bytes_per_s.value * span_s, half = (w->bytes_per_s.high - w->bytes_per_s.low) / 2 * span_s;
	bool varies = w->cooperative || w->rate_variation >= VARIES;
	bool with_work = w->bytes_per_unit.low > 0, with_time = w->bytes_per_s.low > 0;

	if (!w->known || !(rise > 0) || !(span_s > 0))
		return WORK_UNKNOWN;
	if (isnan(w->bytes_per_unit.value)) /* the work stands still */
		return with_time ? WORK_IDLE : WORK_UNKNOWN;
	if (isnan(w->bytes_per_s.value)) {
		if (!w->cooperative)
			return w->rate_variation < VARIES ? WORK_STEADY : WORK_UNKNOWN;
		return with_work && by_work >= MAIN_PART * rise ? WORK_EXPLAINS : WORK_UNKNOWN;
	}
	if (with_time && by_time >= MAIN_PART * rise && w->idle_share >= IDLE_MOSTLY)
		return WORK_IDLE;
	if (!varies)
		return WORK_STEADY;
	if (with_work && by_work >= MAIN_PART * rise &&
	    ((fabs(by_time) < SMALL_PART * rise && half < MAIN_PART * rise) ||
	     (!with_time && w->bytes_per_s.high >= 0 && fabs(by_time) + half < MAIN_PART * rise)))
		return WORK_EXPLAINS;
	if (with_work && with_time && by_work >= SMALL_PART * rise && by_time >= SMALL_PART * rise)
		return WORK_MIXED;
	return with_time && by_time >= MAIN_PART * rise ? WORK_TIME : WORK_UNKNOWN;
}
