/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/series.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "series-priv.h"

#define RING_FIRST_CAP 16U
#define SUMMARY_POINTS 1200
#define SUMMARY_BLOCKS 60

static struct point *raw_at(const struct ring *r, size_t i)
{
	return (struct point *)r->items + ((r->head + i) & (r->cap - 1));
}

static struct bucket *bucket_at(const struct ring *r, size_t i)
{
	return (struct bucket *)r->items + ((r->head + i) & (r->cap - 1));
}

/* Room for one more where the ring may still grow. A full ring is no error: the caller makes room. */
static int ring_reserve(struct ring *r, size_t max_cap, size_t elem_size)
{
	size_t cap = r->cap ? r->cap * 2 : RING_FIRST_CAP;
	void *items;

	if (r->count < r->cap || r->cap == max_cap)
		return 0;
	items = realloc(r->items, cap * elem_size);
	if (!items)
		return -ENOMEM;
	r->items = items;
	r->cap = cap;
	return 0;
}

static void ring_drop(struct ring *r, size_t count)
{
	r->head = (r->head + count) & (r->cap - 1);
	r->count -= count;
}

static void bucket_merge(struct bucket *into, const struct bucket *b)
{
	if (b->min.v < into->min.v)
		into->min = b->min;
	if (b->max.v > into->max.v)
		into->max = b->max;
	into->last = b->last;
}

static struct bucket bucket_of(struct point p)
{
	return (struct bucket){ p, p, p, p };
}

static struct bucket take_oldest_raw(struct ring *raw)
{
	struct bucket b = bucket_of(*raw_at(raw, 0));

	for (size_t i = 1; i < TIER_FACTOR; i++) {
		struct bucket next = bucket_of(*raw_at(raw, i));

		bucket_merge(&b, &next);
	}
	ring_drop(raw, TIER_FACTOR);
	return b;
}

static struct bucket take_oldest_buckets(struct ring *tier)
{
	struct bucket b = *bucket_at(tier, 0);

	for (size_t i = 1; i < TIER_FACTOR; i++)
		bucket_merge(&b, bucket_at(tier, i));
	ring_drop(tier, TIER_FACTOR);
	return b;
}

/* Everything that adding one point can need, before anything changes: a failure leaves the track as it was. */
static int track_reserve(struct track *t)
{
	int err = ring_reserve(&t->raw, RAW_CAP, sizeof(struct point));
	bool spills = t->raw.count == RAW_CAP;

	for (size_t k = 0; !err && spills && k < TIER_MAX; k++) {
		err = ring_reserve(&t->tiers[k], TIER_CAP, sizeof(struct bucket));
		spills = t->tiers[k].count == TIER_CAP;
	}
	return err;
}

static void track_add(struct track *t, struct point p)
{
	struct bucket now = bucket_of(p);

	if (t->raw.count == RAW_CAP) {
		struct bucket carry = take_oldest_raw(&t->raw);

		for (size_t k = 0; k < TIER_MAX; k++) {
			struct ring *tier = &t->tiers[k];
			bool full = tier->count == TIER_CAP;
			struct bucket oldest = full ? take_oldest_buckets(tier) : carry;

			tier->count++;
			*bucket_at(tier, tier->count - 1) = carry;
			if (!full)
				break;
			carry = oldest;
		}
	}
	t->raw.count++;
	*raw_at(&t->raw, t->raw.count - 1) = p;
	if (t->known++ == 0)
		t->all = now;
	else
		bucket_merge(&t->all, &now);
	t->mean += (p.v - t->mean) / (double)t->known;
}

int series_create(struct series **ret)
{
	struct series *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->last_s = -INFINITY;
	*ret = s;
	return 0;
}

void series_destroy(struct series *s)
{
	if (!s)
		return;
	for (size_t m = 0; m < METRIC_COUNT; m++) {
		free(s->tracks[m].raw.items);
		for (size_t k = 0; k < TIER_MAX; k++)
			free(s->tracks[m].tiers[k].items);
	}
	free(s);
}

int series_add(struct series *s, const struct sample *sample)
{
	if (!isfinite(sample->t_s) || sample->t_s < s->last_s)
		return -EINVAL;
	for (size_t m = 0; m < METRIC_COUNT; m++)
		if (isfinite(sample->v[m]) && track_reserve(&s->tracks[m]) < 0)
			return -ENOMEM;
	for (size_t m = 0; m < METRIC_COUNT; m++)
		if (isfinite(sample->v[m]))
			track_add(&s->tracks[m], (struct point){ sample->t_s, sample->v[m] });
	s->samples++;
	s->last_s = sample->t_s;
	return 0;
}

uint64_t series_count(const struct series *s)
{
	return s->samples;
}

size_t series_bytes(const struct series *s)
{
	size_t bytes = sizeof(*s);

	for (size_t m = 0; m < METRIC_COUNT; m++) {
		bytes += s->tracks[m].raw.cap * sizeof(struct point);
		for (size_t k = 0; k < TIER_MAX; k++)
			bytes += s->tracks[m].tiers[k].cap * sizeof(struct bucket);
	}
	return bytes;
}

bool series_last(const struct series *s, enum metric m, struct point *ret)
{
	if (s->tracks[m].known == 0)
		return false;
	*ret = s->tracks[m].all.last;
	return true;
}

bool series_first(const struct series *s, enum metric m, struct point *ret)
{
	if (s->tracks[m].known == 0)
		return false;
	*ret = s->tracks[m].all.first;
	return true;
}

void series_summary(const struct series *s, enum metric m, struct metric_summary *ret)
{
	const struct track *t = &s->tracks[m];
	struct point points[SUMMARY_POINTS], means[SUMMARY_BLOCKS];
	size_t count = series_points(s, m, -INFINITY, INFINITY, points, SUMMARY_POINTS);

	count = points_blocks(points, count, SUMMARY_BLOCKS, BLOCK_MEAN, means);
	*ret = (struct metric_summary){
		.count = t->known,
		.first = t->known ? t->all.first.v : NAN,
		.last = t->known ? t->all.last.v : NAN,
		.min = t->known ? t->all.min.v : NAN,
		.max = t->known ? t->all.max.v : NAN,
		.mean = t->known ? t->mean : NAN,
		.slope_per_s = trend_theil_sen(means, count),
	};
}

/*
 * First index of a ring whose time is not below t_s (or, above: is beyond it); for buckets their last (or first)
 * point counts.
 */
static size_t ring_find(const struct ring *r, bool raw, double t_s, bool above)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		double at_s = raw   ? raw_at(r, mid)->t_s :
			      above ? bucket_at(r, mid)->first.t_s :
				      bucket_at(r, mid)->last.t_s;

		if (above ? at_s > t_s : at_s >= t_s)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

/* Goes on to the next finer ring, to its first item that reaches into the window. */
static void walk_older_done(struct track_walk *w)
{
	w->raw = w->tier == 0;
	if (!w->raw)
		w->tier--;
	w->index = ring_find(w->raw ? &w->track->raw : &w->track->tiers[w->tier], w->raw, w->from_s, false);
}

void track_walk_init(struct track_walk *w, const struct track *track, double from_s, double to_s)
{
	*w = (struct track_walk){ .track = track, .from_s = from_s, .to_s = to_s };
	while (w->tier < TIER_MAX && track->tiers[w->tier].count > 0)
		w->tier++;
	walk_older_done(w);
}

size_t track_count(const struct track *t, double from_s, double to_s)
{
	size_t count = ring_find(&t->raw, true, to_s, true) - ring_find(&t->raw, true, from_s, false);

	for (size_t k = 0; k < TIER_MAX && t->tiers[k].count > 0; k++) {
		size_t begin = ring_find(&t->tiers[k], false, from_s, false),
		       end = ring_find(&t->tiers[k], false, to_s, true);

		count += end > begin ? BUCKET_POINTS * (end - begin) : 0;
	}
	return count;
}

static void push_pending(struct track_walk *w, struct point p)
{
	const struct point *before = w->pending_count ? &w->pending[w->pending_count - 1] : NULL;

	if (!before || p.t_s > before->t_s || (p.t_s == before->t_s && p.v != before->v))
		w->pending[w->pending_count++] = p;
}

static void expand_bucket(struct track_walk *w, const struct bucket *b)
{
	bool min_first = b->min.t_s <= b->max.t_s;

	w->pending_count = 0;
	w->pending_at = 0;
	if (!w->extremes)
		push_pending(w, b->first);
	push_pending(w, min_first ? b->min : b->max);
	push_pending(w, min_first ? b->max : b->min);
	if (!w->extremes)
		push_pending(w, b->last);
}

/* The next bucket, of the coarsest tier first; false where only raw points are left. */
static bool walk_bucket(struct track_walk *w)
{
	while (!w->raw) {
		const struct ring *tier = &w->track->tiers[w->tier];

		if (w->index < tier->count) {
			expand_bucket(w, bucket_at(tier, w->index++));
			return true;
		}
		walk_older_done(w);
	}
	return false;
}

bool track_walk_next(struct track_walk *w, struct point *ret)
{
	const struct ring *raw = &w->track->raw;

	while (!w->raw || w->pending_at < w->pending_count) {
		while (w->pending_at < w->pending_count) {
			struct point p = w->pending[w->pending_at++];

			if (p.t_s > w->to_s)
				return false;
			if (p.t_s >= w->from_s) {
				*ret = p;
				return true;
			}
		}
		if (!walk_bucket(w))
			break;
	}
	/* raw points are most of what a long series is walked for; the first one inside the window has been looked up */
	if (w->index >= raw->count || raw_at(raw, w->index)->t_s > w->to_s)
		return false;
	*ret = *raw_at(raw, w->index++);
	return true;
}
