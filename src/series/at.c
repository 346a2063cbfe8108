/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The value of a metric at given times: a search per time, where walking all points would cost as much as there are points. */
#include <math.h>

#include "series-priv.h"

static struct bucket item_at(const struct ring *r, bool raw, size_t i)
{
	size_t slot = (r->head + i) & (r->cap - 1);

	if (raw) {
		struct point p = ((const struct point *)r->items)[slot];

		return (struct bucket){ p, p, p, p };
	}
	return ((const struct bucket *)r->items)[slot];
}

/* First item that ends at t_s or later. */
static size_t find_item(const struct ring *r, bool raw, double t_s)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2, slot = (r->head + mid) & (r->cap - 1);
		double end_s = raw ? ((const struct point *)r->items)[slot].t_s :
				     ((const struct bucket *)r->items)[slot].last.t_s;

		if (end_s >= t_s)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static double between(struct point a, struct point b, double t_s)
{
	return b.t_s > a.t_s ? a.v + (b.v - a.v) * ((t_s - a.t_s) / (b.t_s - a.t_s)) : b.v;
}

static double value_at(const struct track *t, double t_s)
{
	struct point after = t->all.last; /* what the next newer ring begins with */

	if (t->known == 0 || !(t_s >= t->all.first.t_s && t_s <= t->all.last.t_s))
		return NAN;
	/* each ring is older than the one before it in this order */
	for (size_t k = 0; k <= TIER_MAX; k++) {
		bool raw = k == 0;
		const struct ring *r = raw ? &t->raw : &t->tiers[k - 1];
		struct bucket item;
		size_t i;

		if (r->count == 0)
			continue;
		item = item_at(r, raw, 0);
		if (t_s < item.first.t_s) {
			after = item.first;
			continue;
		}
		i = find_item(r, raw, t_s);
		if (i == r->count) /* between this ring and the newer one */
			return between(item_at(r, raw, i - 1).last, after, t_s);
		item = item_at(r, raw, i);
		if (t_s >= item.first.t_s)
			return between(item.first, item.last, t_s);
		return between(item_at(r, raw, i - 1).last, item.first, t_s);
	}
	return NAN;
}

void series_values_at(const struct series *s, enum metric m, const double *t_s, size_t count, double *ret)
{
	for (size_t i = 0; i < count; i++)
		ret[i] = value_at(&s->tracks[m], t_s[i]);
}
