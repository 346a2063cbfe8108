/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Points out of a series: thinning and block figures. */
#include "memwatch/series.h"

#include <math.h>
#include <stdlib.h>

#include "series-priv.h"

struct thinner {
	struct point *out;
	size_t count, cap;
	double from_s, span_s;
	size_t groups;
	bool open;    /* a group … */
	double end_s; /* … that ends there */
	struct point min, max;
};

static void emit(struct thinner *th, struct point p)
{
	if (th->count < th->cap)
		th->out[th->count++] = p;
}

static void close_group(struct thinner *th)
{
	bool min_first = th->min.t_s <= th->max.t_s;

	if (!th->open)
		return;
	emit(th, min_first ? th->min : th->max);
	if (th->min.t_s != th->max.t_s)
		emit(th, min_first ? th->max : th->min);
	th->open = false;
}

static void thin_add(struct thinner *th, struct point p)
{
	if (!th->open || p.t_s >= th->end_s) {
		double place = th->span_s > 0 ? floor((p.t_s - th->from_s) / th->span_s * (double)th->groups) : 0;

		close_group(th);
		th->end_s = place + 1 >= (double)th->groups ?
				    INFINITY :
				    th->from_s + (place + 1) * th->span_s / (double)th->groups;
		th->open = true;
		th->min = p;
		th->max = p;
		return;
	}
	if (p.v < th->min.v)
		th->min = p;
	if (p.v > th->max.v)
		th->max = p;
}

/* First and last stay; what lies between is cut into equal time spans that give their minimum and maximum. cap >= 2 */
static size_t thin(const struct track *track, double from_s, double to_s, struct point *ret, size_t cap)
{
	struct thinner th = { .out = ret, .cap = cap, .groups = (cap - 2) / 2 };
	struct track_walk w;
	struct point p, last;

	track_walk_init(&w, track, from_s, to_s);
	if (!track_walk_next(&w, &last))
		return 0;
	w.extremes = true; /* all that a group keeps */
	th.from_s = last.t_s;
	th.span_s = fmin(to_s, track->all.last.t_s) - th.from_s;
	emit(&th, last);
	/* one behind: the last one is only known when there is no further */
	for (size_t i = 0; track_walk_next(&w, &p); i++) {
		if (i > 0 && th.groups > 0)
			thin_add(&th, last);
		last = p;
	}
	close_group(&th);
	if (last.t_s > ret[0].t_s)
		emit(&th, last);
	return th.count;
}

size_t series_points(const struct series *s, enum metric m, double from_s, double to_s, struct point *ret, size_t cap)
{
	const struct track *track = &s->tracks[m];
	struct track_walk w;
	struct point p;
	size_t count = 0;

	if (cap >= 2 && track_count(track, from_s, to_s) > cap)
		return thin(track, from_s, to_s, ret, cap);
	track_walk_init(&w, track, from_s, to_s);
	while (cap > 0 && track_walk_next(&w, &p)) {
		count -= count == cap; /* a cap of one keeps the newest */
		ret[count++] = p;
	}
	return count;
}

static void swap(double *a, double *b)
{
	double t = *a;

	*a = *b;
	*b = t;
}

/* Quickselect with the median of three: linear in practice, and its steps are bounded by the shrinking range. */
double select_kth(double *values, size_t count, size_t k)
{
	size_t low = 0, high = count - 1;

	while (low < high) {
		size_t i = low, j = high;
		double pivot;

		if (values[low + (high - low) / 2] < values[low])
			swap(&values[low + (high - low) / 2], &values[low]);
		if (values[high] < values[low])
			swap(&values[high], &values[low]);
		if (values[high] < values[low + (high - low) / 2])
			swap(&values[high], &values[low + (high - low) / 2]);
		pivot = values[low + (high - low) / 2];
		for (;;) {
			while (values[i] < pivot)
				i++;
			while (values[j] > pivot)
				j--;
			if (i >= j)
				break;
			swap(&values[i++], &values[j--]);
		}
		if (k <= j)
			high = j;
		else
			low = j + 1;
	}
	return values[k];
}

double values_median(double *values, size_t count)
{
	double upper;

	if (count == 0)
		return NAN;
	upper = select_kth(values, count, count / 2);
	if (count % 2 == 1)
		return upper;
	return (upper + select_kth(values, count, count / 2 - 1)) / 2;
}

static double block_median(const struct point *points, size_t count)
{
	double few[64], *values = count <= 64 ? few : malloc(count * sizeof(*values));
	double median;

	if (!values)
		return NAN;
	for (size_t i = 0; i < count; i++)
		values[i] = points[i].v;
	median = values_median(values, count);
	if (values != few)
		free(values);
	return median;
}

static struct point reduce(const struct point *points, size_t count, enum block_figure figure, double middle_s)
{
	struct point best = points[0];
	double sum = 0;

	if (figure == BLOCK_MEDIAN)
		return (struct point){ middle_s, block_median(points, count) };
	for (size_t i = 0; i < count; i++) {
		sum += points[i].v;
		if (figure == BLOCK_MIN ? points[i].v < best.v : points[i].v > best.v)
			best = points[i];
	}
	if (figure == BLOCK_MEAN)
		return (struct point){ middle_s, sum / (double)count };
	return best;
}

size_t points_blocks(const struct point *points, size_t count, size_t blocks, enum block_figure figure,
		     struct point *ret)
{
	double from_s = count ? points[0].t_s : 0;
	double span_s = count ? points[count - 1].t_s - from_s : 0;
	size_t at = 0, made = 0;

	for (size_t b = 0; b < blocks && at < count; b++) {
		double end_s = from_s + span_s * (double)(b + 1) / (double)blocks;
		size_t begin = at;

		while (at < count && (points[at].t_s < end_s || b + 1 == blocks))
			at++;
		if (at > begin)
			ret[made++] = reduce(points + begin, at - begin, figure,
					     from_s + span_s * ((double)b + 0.5) / (double)blocks);
	}
	return made;
}
