/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cycles in a course that swings: regular teeth are told from noise by scale, not by period.
 *
 * Every up and down of a course has a depth: what it takes of hysteresis to pass it over (its persistence). A random walk has
 * downs of all depths, half as many of twice the depth or less; a course with teeth has as many downs deeper than a half of the usual tooth
 * as deeper than a third: in between there is nothing. Noise from point to point has such a gap as well, below its own
 * size, but its ups and downs last three or four points; teeth must be longer to count. Durations are not looked at beyond that: a
 * loop that slows down has cycles all the same.
 */
#include "memwatch/series.h"

#include <math.h>
#include <stdlib.h>

#include "memwatch/base/cleanup.h"
#include "series-priv.h"

#define MIN_CYCLES 3
#define USUAL_PART 0.5 /* of the median tooth: the hysteresis */
#define GAP_PART 0.3   /* downs between this and USUAL_PART of the median tooth speak against teeth … */
#define GAP_SHARE 0.2  /* … where there are more of them than this share of the teeth */
#define MIN_POINTS_EACH 7.0
#define SURE_POINTS 12.0 /* shorter teeth, or … */
#define SURE_TEETH 12    /* … fewer must be freer of other downs, and few more alike */
#define UNSURE_OTHERS 8  /* from that many on, one other down is let pass: the tooth that the watch cuts off */
#define GAP_PART_UNSURE 0.15
#define ALIKE_FEW 2.5     /* deepest to shallowest */
#define FALL_OF_RISE 0.35 /* a fall that gives back less of the rise before it is a dent in a slope */

/* Walks the turning points: alternating, equal neighbours merged. */
struct turns {
	double *depths; /* of the downs found so far */
	size_t count;
	double *stack; /* open turning points: ranges between them first widen, then narrow */
	size_t open;
};

/* Closes what lies inside of its neighbours (the rainflow count): a down and the up beside it, of the same depth. */
static void push_turn(struct turns *t, double v)
{
	t->stack[t->open++] = v;
	while (t->open >= 4) {
		const double *s = t->stack + t->open - 4;
		double inner = fabs(s[1] - s[2]);

		if (inner > fabs(s[0] - s[1]) || inner > fabs(s[2] - s[3]))
			return;
		t->depths[t->count++] = inner;
		t->stack[t->open - 3] = v;
		t->open -= 2;
	}
}

/* Depths of all downs, in no order. Returns their count. depths and stack: one per point. */
static size_t collect_depths(const struct point *p, size_t count, double *depths, double *stack)
{
	struct turns t = { .depths = depths, .stack = stack };
	double last = p[0].v;
	int way = 0;

	push_turn(&t, last);
	for (size_t i = 1; i < count; i++) {
		int now = (p[i].v > last) - (p[i].v < last);

		if (now != 0 && way != 0 && now != way)
			push_turn(&t, last);
		way = now ? now : way;
		last = p[i].v;
	}
	push_turn(&t, last);
	for (size_t i = 1; i < t.open; i++)
		if (t.stack[i] < t.stack[i - 1])
			depths[t.count++] = t.stack[i - 1] - t.stack[i];
	return t.count;
}

static int compare_falling(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x < y) - (x > y);
}

/* How many of the depths, sorted from the deepest, are at least `least`. */
static size_t count_deep(const double *depths, size_t count, double least)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (depths[mid] >= least)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* Zigzag: a peak is one once the course fell by `swing` below it, a trough once it rose by as much above it. */
struct zigzag {
	const struct point *trough, *peak, *before; /* newest candidates, and the trough before them */
	bool rising;                                /* looks for a peak */
	size_t count;                               /* of cycles done */
};

/* What is made of the cycles: each but the first `skip` goes to ret; lengths, in points, and how many fall far enough, for the judging. */
struct harvest {
	struct cycle *ret;
	size_t skip;
	double *lengths;
	size_t falls;
};

static void reap(struct zigzag *z, struct harvest *h)
{
	double rise = z->peak->v - z->before->v, fall = z->peak->v - z->trough->v;

	if (h->ret && z->count >= h->skip)
		h->ret[z->count - h->skip] =
			(struct cycle){ z->before->t_s, z->trough->t_s, z->before->v, z->peak->v, z->trough->v };
	if (h->lengths)
		h->lengths[z->count] = (double)(z->trough - z->before);
	h->falls += fall >= FALL_OF_RISE * rise;
	z->count++;
}

static size_t walk_cycles(const struct point *p, size_t count, double swing, struct harvest *h)
{
	struct zigzag z = { .trough = p, .peak = p };

	for (size_t i = 0; i < count; i++) {
		if (z.rising) {
			if (p[i].v > z.peak->v)
				z.peak = p + i;
			if (p[i].v > z.peak->v - swing)
				continue;
			z.rising = false;
			z.trough = p + i;
			continue;
		}
		if (p[i].v < z.trough->v)
			z.trough = p + i;
		if (p[i].v < z.trough->v + swing)
			continue;
		if (z.before)
			reap(&z, h);
		z.before = z.trough;
		z.rising = true;
		z.peak = p + i;
	}
	/* the last tooth has fallen, and not only up to the last point */
	if (z.before && !z.rising && z.trough < p + count - 1)
		reap(&z, h);
	return z.count;
}

/* Whether what the hysteresis cuts out looks like teeth: long enough, and each fall takes back much of its rise. */
static bool look_like_teeth(const struct point *p, size_t count, double swing, double *lengths)
{
	struct harvest h = { .lengths = lengths };
	size_t cycles = walk_cycles(p, count, swing, &h);

	return cycles >= MIN_CYCLES && 2 * h.falls >= cycles && values_median(lengths, cycles) >= MIN_POINTS_EACH;
}

/* Puts the deepest `kept` first; the others need no order. Returns how many there are in order. */
static size_t sort_deepest(double *depths, size_t count, size_t kept)
{
	if (count > kept) {
		for (size_t i = 0; i < count; i++)
			depths[i] = -depths[i];
		select_kth(depths, count, kept);
		for (size_t i = 0; i < count; i++)
			depths[i] = -depths[i];
		count = kept;
	}
	qsort(depths, count, sizeof(*depths), compare_falling);
	return count;
}

/*
 * The deepest set of teeth: the k deepest downs, of which the shallowest is deeper than half of their median and the next one is not,
 * with next to nothing in between half and a third. 0: none. scratch: as many as points.
 */
static double choose_swing(const struct point *p, size_t points, double *depths, size_t all, double *scratch)
{
	size_t kept = (size_t)((double)points / MIN_POINTS_EACH * (1 + GAP_SHARE)) + 2;
	size_t count = sort_deepest(depths, all, kept);

	for (size_t k = MIN_CYCLES; k <= count && (double)k * MIN_POINTS_EACH <= (double)points; k++) {
		double usual = depths[k / 2], swing = USUAL_PART * usual;
		bool unsure = k < SURE_TEETH || (double)k * SURE_POINTS > (double)points;
		size_t others;

		if (depths[k - 1] < swing || (k < count && depths[k] >= swing) || (k == count && count < all))
			continue;
		others = count_deep(depths, count, (unsure ? GAP_PART_UNSURE : GAP_PART) * usual) - k;
		if ((double)others > (unsure ? k >= UNSURE_OTHERS : GAP_SHARE * (double)k) ||
		    (k < SURE_TEETH && depths[0] > ALIKE_FEW * depths[k - 1]))
			continue;
		if (look_like_teeth(p, points, swing, scratch))
			return swing;
	}
	return 0;
}

size_t points_cycles(const struct point *points, size_t count, double swing, struct cycle *ret, size_t cap)
{
	struct harvest h = { 0 };
	size_t all;

	if (count < MIN_CYCLES * 2 || cap == 0)
		return 0;
	if (!(swing > 0)) {
		cleanup_free double *depths = malloc(2 * (count + 1) * sizeof(*depths));
		double *scratch;

		if (!depths)
			return 0;
		scratch = depths + count + 1;
		all = collect_depths(points, count, depths, scratch);
		swing = choose_swing(points, count, depths, all, scratch);
	}
	if (!(swing > 0))
		return 0;
	all = walk_cycles(points, count, swing, &h);
	if (all < MIN_CYCLES)
		return 0;
	h = (struct harvest){ .ret = ret, .skip = all > cap ? all - cap : 0 };
	walk_cycles(points, count, swing, &h);
	return all - h.skip;
}
