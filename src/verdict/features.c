/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Everything that rules and evidence look at, computed once. */
#include <math.h>

#include "verdict-priv.h"

/* A fresh process loads libraries and builds its tables at first: a tenth of the run is no evidence. */
#define STARTUP_SHARE 0.1
/* What a process frees while it ends says nothing: the fall at the very end, at most this share of the run. */
#define ENDING_SHARE 0.15
#define ENDING_LEVEL 0.95

/*
 * Material: a change below counts as none. The allocator's own figures are exact to the byte, so only a floor against
 * trifles (buffers, lazily built tables) is needed, and the noise that trend_measure() adds. RSS moves by pages, by
 * batched per-CPU counters and by what the kernel does (read-ahead, huge pages of 2 MiB on hundreds of MiB): 1 MiB
 * and 1 %.
 */
#define TRUTH_FLOOR (512 * KIB)
#define TRUTH_SHARE 0.002
#define RSS_FLOOR (1 * MIB)
#define RSS_SHARE 0.01
#define RSS_NOISE_FACTOR 3

/* How much of a window's ends makes a level, and how few points will do. */
#define EDGE_SHARE 0.15
#define GROWTH_POINTS 128
/* "Held" is what stays free for a fifth of the run and two seconds at least. */
#define HELD_SHARE 0.2
#define HELD_SECONDS 2.0
/*
 * glibc under steady churn of mixed sizes keeps 10 to 30 % free by itself; where the peak was seen, less is needed to
 * call it held.
 */
#define HELD_AFTER_PEAK 0.25
#define HELD_WITHOUT_PEAK 0.40

static double ending_cut(const struct series *s, enum metric m, double from_s, double to_s)
{
	struct point tail[GROWTH_POINTS];
	size_t n = series_points(s, m, to_s - ENDING_SHARE * (to_s - from_s), to_s, tail, GROWTH_POINTS);
	double high = -INFINITY;

	for (size_t i = 0; i < n; i++)
		high = fmax(high, tail[i].v);
	for (size_t i = n; i-- > 0;)
		if (tail[i].v >= ENDING_LEVEL * high)
			return i + 1 == n ? to_s : tail[i].t_s;
	return to_s;
}

static void find_window(struct features *f)
{
	const struct verdict_input *in = f->in;
	struct point first = { in->now_s, 0 }, p;

	for (size_t m = 0; m < METRIC_COUNT; m++)
		if (series_first(in->series, (enum metric)m, &p) && p.t_s < first.t_s)
			first = p;
	f->from_s = first.t_s;
	f->to_s = in->now_s;
	f->observed_s = f->to_s - f->from_s;
	if (in->ended) {
		double by_rss = ending_cut(in->series, METRIC_RSS, f->from_s, f->to_s);
		double by_heap = ending_cut(in->series, METRIC_HEAP_IN_USE, f->from_s, f->to_s);

		f->to_s = fmin(by_rss, by_heap);
	}
	f->startup_cut = in->from_start;
	if (in->from_start)
		f->from_s += STARTUP_SHARE * (f->to_s - f->from_s);
	f->span_s = f->to_s - f->from_s;
}

/* Points that a trend has already taken out of the series: that is what a verdict on a day costs most. */
static const struct trend *trend_of(const struct features *f, enum metric m)
{
	const struct trend *trends[] = { &f->rss, &f->truth, &f->free_inside };

	for (size_t i = 0; i < sizeof(trends) / sizeof(*trends); i++)
		if (trends[i]->known && trends[i]->metric == m)
			return trends[i];
	return NULL;
}

/* Level at the end minus level at the beginning; NaN where the metric does not cover most of the time. */
static double growth_of(const struct features *f, enum metric m, double from_s)
{
	const struct trend *t = trend_of(f, m);
	struct point own[GROWTH_POINTS];
	const struct point *points = t ? t->points : own;
	double edge_s = EDGE_SHARE * (f->to_s - from_s), first, last;
	size_t n = t ? t->count : series_points(f->in->series, m, from_s, f->to_s, own, GROWTH_POINTS), skip = 0;

	first = level_between(points, n, from_s, from_s + edge_s);
	last = level_between(points, n, f->to_s - edge_s, f->to_s);
	if (!isnan(first) && !isnan(last))
		return last - first;
	/* too sparse for levels */
	while (skip < n && points[skip].t_s < from_s)
		skip++;
	if (n < skip + 2 || points[n - 1].t_s - points[skip].t_s < (f->to_s - from_s) / 2)
		return NAN;
	return points[n - 1].v - points[skip].v;
}

static double class_growth(const struct verdict_input *in, enum region_class c)
{
	if (!in->classes_first || !in->classes_last)
		return NAN;
	if (in->classes_first[c].rss_bytes == UNKNOWN_U64 || in->classes_last[c].rss_bytes == UNKNOWN_U64)
		return NAN;
	return (double)in->classes_last[c].rss_bytes - (double)in->classes_first[c].rss_bytes;
}

static double or_else(double value, double other)
{
	return isnan(value) ? other : value;
}

/*
 * Growth of what is anonymous, but neither heap nor stack. Where no figure tells file from anonymous, the whole rest
 * stands for it.
 */
static double anon_growth(const struct features *f, double from_s)
{
	const struct split *d = &f->split;
	double stack = or_else(d->stack, 0), all = growth_of(f, METRIC_ANON, from_s);

	if (isnan(all))
		all = d->rss - d->file - or_else(d->shmem, 0);
	if (isnan(all) && isnan(d->in_use))
		return class_growth(f->in, REGION_ANON);
	if (f->in->recorded && !isnan(d->in_use) && isnan(d->free_inside))
		return NAN; /* it may be what the allocator keeps */
	if (isnan(all))
		return d->rest - stack;
	/* with no heap truth the kernel's [heap] counts as heap */
	return all - stack -
	       or_else(d->in_use + or_else(d->free_inside, 0), or_else(class_growth(f->in, REGION_HEAP), 0));
}

static void split_growth(struct features *f)
{
	struct split *d = &f->split;
	bool heap = f->has_truth && !f->truth_is_live;
	double from_s = heap ? fmax(f->from_s, f->truth.from_s) : f->from_s;

	d->rss = growth_of(f, METRIC_RSS, from_s);
	d->in_use = growth_of(f, METRIC_HEAP_IN_USE, from_s);
	d->free_inside = growth_of(f, METRIC_HEAP_FREE, from_s);
	d->rest = d->rss - d->in_use - or_else(d->free_inside, 0);
	d->file = or_else(growth_of(f, METRIC_FILE, from_s), class_growth(f->in, REGION_FILE));
	d->shmem = or_else(growth_of(f, METRIC_SHMEM, from_s), class_growth(f->in, REGION_SHMEM));
	d->stack = or_else(growth_of(f, METRIC_STACK, from_s), class_growth(f->in, REGION_STACK));
	d->anon = anon_growth(f, from_s);
}

static void name_largest(struct features *f)
{
	const struct split *d = &f->split;
	double heap =
		isnan(d->in_use) ? class_growth(f->in, REGION_HEAP) : d->in_use + fmax(0, or_else(d->free_inside, 0));
	const struct {
		enum verdict_where where;
		double rise;
	} parts[] = {
		{ WHERE_HEAP, heap },      { f->in->runtime ? WHERE_RUNTIME : WHERE_ANON, d->anon },
		{ WHERE_FILE, d->file },   { WHERE_SHMEM, d->shmem },
		{ WHERE_STACK, d->stack },
	};

	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
		if (parts[i].rise > f->where_rise) {
			f->where = parts[i].where;
			f->where_rise = parts[i].rise;
		}
}

/* No figure for what is free inside: what the program gave back since its peak, as far as RSS did not fall with it. */
static void measure_kept(struct features *f)
{
	const struct trend *t = &f->truth;
	double latest = 0, given, fell = f->rss.high.v - f->rss.level_last;

	/* a loop that takes it again and again has not given it back */
	for (size_t i = 0; i < t->count; i++)
		if (t->points[i].t_s >= f->to_s - HELD_SHARE * f->span_s)
			latest = fmax(latest, t->points[i].v);
	given = t->high.v - latest;

	f->held_free = fmax(0, fmin(given - fmax(0, fell), f->rss.level_last - latest));
	f->held_share = f->held_free / f->rss.level_last;
	f->peak_seen = true;
	f->held_needed = HELD_AFTER_PEAK;
}

/* Bytes that stayed free inside the allocator, and resident as far as is known. */
static void measure_held(struct features *f)
{
	const struct heap_stats *heap = f->in->heap;
	struct point tail[GROWTH_POINTS];
	double held_s = fmax(HELD_SHARE * f->span_s, HELD_SECONDS), held = INFINITY;
	size_t n = series_points(f->in->series, METRIC_HEAP_FREE, f->to_s - held_s, f->to_s, tail, GROWTH_POINTS);

	f->held_free = f->held_share = f->trimmable_share = NAN;
	if (n == 0 && f->has_truth && !f->truth_is_live && f->rss.known && f->rss.level_last > 0) {
		measure_kept(f);
		return;
	}
	if (n == 0 || !f->rss.known || f->rss.level_last <= 0)
		return;
	for (size_t i = 0; i < n; i++)
		held = fmin(held, tail[i].v);
	if (heap && heap->free_resident_bytes != UNKNOWN_U64)
		held = fmin(held, (double)heap->free_resident_bytes);
	else if (f->has_truth && !f->truth_is_live)
		held = fmin(held, fmax(0, f->rss.level_last - f->truth.level_last));
	f->held_free = held;
	f->held_share = held / f->rss.level_last;
	f->peak_seen = (f->has_truth && f->truth.high.v - f->truth.level_last >= held / 2) ||
		       (f->free_inside.known && f->free_inside.rise >= held / 2);
	f->held_needed = f->peak_seen ? HELD_AFTER_PEAK : HELD_WITHOUT_PEAK;
	if (heap && heap->free_bytes > 0) {
		double of = heap->free_resident_bytes != UNKNOWN_U64 && heap->free_resident_bytes > 0 ?
				    (double)heap->free_resident_bytes :
				    (double)heap->free_bytes;

		f->trimmable_share = fmin(1, (double)heap->trimmable_bytes / of);
	}
}

bool features_heap_is_minor(const struct features *f)
{
	return !f->truth_is_live && f->where != WHERE_HEAP && f->where_rise >= f->rss.material && f->rss.rising &&
	       f->where_rise > HEAP_MINOR * f->truth.rise;
}

/*
 * What is held beside live objects: by the runtime's own accounts, where it keeps them; in a recording all of RSS, and a heap that was walked is not the
 * runtime's.
 */
static double runtime_holds(const struct features *f)
{
	const struct runtime_stats *s = f->in->runtime_stats;
	double outside = f->rss.level_last - f->truth.level_last;

	return s && !isnan(s->committed_bytes) ? fmin(outside, s->committed_bytes - f->truth.level_last) : outside;
}

/* How far it moved, up or down: that one tells more about what RSS did. */
static double moved(const struct trend *t)
{
	return fmax(t->rise, t->high.v - t->level_last);
}

/* The runtime's live bytes or the allocator's bytes in use. A runtime takes memory from malloc beside its own: the one that moves more is judged. */
static void choose_truth(struct features *f)
{
	const struct series *series = f->in->series;
	struct trend live = { 0 }, heap = { 0 };

	trend_measure(series, METRIC_RUNTIME_LIVE, f->from_s, f->to_s, TRUTH_FLOOR, TRUTH_SHARE, &live);
	trend_measure(series, METRIC_HEAP_IN_USE, f->from_s, f->to_s, TRUTH_FLOOR, TRUTH_SHARE, &heap);
	f->truth_is_live = live.known && (!heap.known || moved(&live) >= moved(&heap));
	f->truth = f->truth_is_live ? live : heap;
	f->has_truth = f->truth.known;
}

void features_compute(const struct verdict_input *in, struct features *ret)
{
	struct features *f = ret;
	double rss_floor = fmax(RSS_FLOOR, RSS_NOISE_FACTOR * in->rss_noise_bytes);

	f->in = in;
	f->samples = series_count(in->series);
	find_window(f);
	trend_measure(in->series, METRIC_RSS, f->from_s, f->to_s, rss_floor, RSS_SHARE, &f->rss);
	choose_truth(f);
	trend_measure(in->series, METRIC_HEAP_FREE, f->from_s, f->to_s, RSS_FLOOR, RSS_SHARE, &f->free_inside);
	split_growth(f);
	name_largest(f);
	measure_held(f);
	f->gc_gap = f->truth_is_live && f->rss.known ? runtime_holds(f) : NAN;
	f->grower = f->has_truth && !features_heap_is_minor(f) ? &f->truth : &f->rss;
	work_measure(in, f->grower, f->from_s, f->to_s, &f->work);
	f->relation = work_relate(&f->work, f->grower->rise, f->span_s);
	cycles_measure(in, f->grower, f->from_s, f->to_s, &f->cycles);
}
