/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Who of those that grew can have made the heap grow. What is known of each size class is set against what the stacks claim of it.
 */
#include <math.h>
#include <string.h>

#include "sites/ledger-window.h"

#define CLASS_EXCESS 1.2 /* estimate over truth from where on a size class is scaled down, if significant */
#define CLASS_Z 2.0
#define CLASS_LEAST 65536.0 /* what a class grows by in a window by mere chance: truth is not finer than that */

/* By class what it grew by; INFINITY where that is not known. */
static void known_classes(const struct window *w, double ret_truth[HEAP_CLASS_COUNT])
{
	const struct heap_stats *heap = w->q ? w->q->heap : NULL;
	bool known = heap && heap->class_count > 0;

	for (size_t i = 0; known && i < heap->class_count; i++)
		known = !isnan(heap->classes[i].growth_per_s);
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		ret_truth[i] = known ? 0.0 : INFINITY;
	for (size_t i = 0; known && i < heap->class_count; i++)
		ret_truth[heap_class_index(heap->classes[i].size)] =
			fmax(0.0, heap->classes[i].growth_per_s * (w->until_s - w->since_s));
}

/* Of what a stack gained in the window, the part that is more than it lost. */
static double net_share(const struct growth *g)
{
	return g->in > 0.0 ? fmax(0.0, fmin(1.0, g->grown / g->in)) : 0.0;
}

static void claim(struct window *w)
{
	const struct site_ledger *l = w->l;

	for (size_t i = 0; i < l->entry_top; i++) {
		const struct ledger_entry *e = &l->entries[i];
		struct class_truth *c = &w->classes[ledger_class(e->size)];

		if (!e->used || !e->settled || !e->in_heap || e->t_s <= w->born_s)
			continue;
		c->claimed += e->weight * net_share(&w->of[e->stack]);
		c->in += e->weight;
		c->in_var += ledger_var(e);
	}
}

/*
 * Classes of which the stacks that grow claim more than they grew by: a table that was filled by one stack, and is kept up by another. Known is the growth from the
 * heap walk, and the ledger's own, which counts what was lost as well: too high where that was taken before the ledger was opened, never
 * too low. A chunk may be a class larger than its block needs, where a rest would be too small.
 */
static void judge_classes(struct window *w, const double truth[HEAP_CLASS_COUNT])
{
	const struct site_ledger *l = w->l;

	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		const struct ledger_class *now = &l->classes[i];
		const struct ledger_class *b = w->mark < l->mark_count ? &l->class_marks[w->mark][i] : now;
		const struct ledger_class *a = w->mark > 0 ? &l->class_marks[w->mark - 1][i] : b;
		struct class_truth *c = &w->classes[i];
		double own = now->settled - window_between(w, a->settled, b->settled);
		double lost = c->in > 0.0 ? fmax(0.0, c->in - own) / c->in : 0.0;
		double noise = CLASS_Z * sqrt(c->in_var * (1.0 + lost));
		double walked =
			truth[i] + (i > 0 ? truth[i - 1] : 0.0) + (i + 1 < HEAP_CLASS_COUNT ? truth[i + 1] : 0.0);

		c->truth = fmax(CLASS_LEAST, fmin(own, walked));
		c->scaled = c->claimed > c->truth * CLASS_EXCESS && c->claimed > c->truth + noise;
	}
}

double window_plausibility(const struct growth *g)
{
	double ratio = g->claimed > g->truth * CLASS_EXCESS ? g->truth / g->claimed : 1.0;

	return ratio * ratio;
}

/* First who claims in which class, then how plausible all are together, then what each is left with. */
static void share_class(struct window *w, const struct ledger_entry *e, int pass)
{
	size_t class = ledger_class(e->size);
	struct growth *g = &w->of[e->stack];
	struct class_truth *c = &w->classes[class];
	double bytes = e->weight * net_share(g);
	bool scaled = e->in_heap && c->scaled;
	uint64_t bit = 1ULL << (class % 64);

	if (pass == 0 && scaled) {
		g->claimed += bytes;
		g->truth += g->classes[class / 64] & bit ? 0.0 : c->truth;
		g->classes[class / 64] |= bit;
	} else if (pass == 1 && scaled) {
		c->plausible += bytes * fmax(1e-9, window_plausibility(g));
	} else if (pass == 2) {
		g->in_scaled += bytes * (scaled ? fmin(1.0, window_plausibility(g) * c->truth / c->plausible) : 1.0);
	}
}

void window_join_truth(struct window *w)
{
	const struct site_ledger *l = w->l;
	double truth[HEAP_CLASS_COUNT];

	known_classes(w, truth);
	claim(w);
	judge_classes(w, truth);
	for (int pass = 0; pass < 3; pass++) {
		for (size_t i = 0; i < l->entry_top; i++) {
			const struct ledger_entry *e = &l->entries[i];

			if (e->used && e->settled && e->t_s > w->born_s && net_share(&w->of[e->stack]) > 0.0)
				share_class(w, e, pass);
		}
	}
	for (size_t i = 0; i < l->stacks.count; i++) {
		struct growth *g = &w->of[i];
		double net = g->in * net_share(g);

		if (net > 0.0)
			g->scale = fmax(0.0, fmin(1.0, g->in_scaled / net));
	}
}
