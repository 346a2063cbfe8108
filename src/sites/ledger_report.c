/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ranking by growth. Of each stack: by how much its settled bytes grew in the window, how far that is beyond the noise of sampling and
 * of its own course, whether it goes on, and how much of it will stay: churn with long lives, a queue and a table whose entries are
 * replaced all gain blocks that a leak gains too, but theirs die. The hazard among the oldest blocks tells.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sites/ledger-window.h"

#define Z95 1.96
#define Z_GROWS 2.0       /* net gain of samples, in standard deviations, where blocks left too: sites are many */
#define UNSURE_SHARE 0.02 /* of its growth is what a site is ranked by that is within its noise */
#define STOPPED_MAX 0.01  /* chance that growth that goes on pauses that long at the end: then it has stopped */
#define STOPPED_DOUBT 0.1
#define RISES_LEAST 3.0   /* a site of … */
#define RISES_SAMPLES 8.0 /* … so many samples is taken to have grown in at least so many steps */
#define LAST_SAMPLES 20.0 /* with these the last third must go on growing */
#define HORIZON 10.0      /* windows ahead: what of the growth would still be there? */
#define KEEP_MIN 2e-4     /* a backlog turns over and grows without bound all the same */
#define HAZARD_Z 1.64
#define CHURN_SURVIVAL 0.5
#define NAMED_FACTOR 8 /* stacks to name for each site wanted: some read the same */
#define AGES_MAX 63    /* blocks of a site from which its median age is told */

double window_between(const struct window *w, double before, double after)
{
	return isnan(w->part) ? 0.0 : before + w->part * (after - before);
}

/* History at a time: the sums at the mark before and after it. `now` stands for a mark at l->t_s. */
static struct ledger_sums sums_at(const struct window *w, const struct ledger_stack *s)
{
	struct ledger_sums now = { s->settled, (float)s->var, (float)s->samples, (float)s->taken,
				   (float)s->taken_blocks };
	const struct ledger_sums *b = w->mark < w->l->mark_count ? &s->marks[w->mark] : &now;
	const struct ledger_sums *a = w->mark > 0 ? &s->marks[w->mark - 1] : b;

	return (struct ledger_sums){ window_between(w, a->settled, b->settled),
				     (float)window_between(w, a->var, b->var),
				     (float)window_between(w, a->samples, b->samples),
				     (float)window_between(w, a->taken, b->taken),
				     (float)window_between(w, a->taken_blocks, b->taken_blocks) };
}

static void place(struct window *w, double t_s)
{
	const struct site_ledger *l = w->l;
	double before, after;

	w->mark = 0;
	while (w->mark < l->mark_count && l->mark_t_s[w->mark] <= t_s)
		w->mark++;
	if (w->mark == 0) {
		w->part = NAN;
		return;
	}
	before = l->mark_t_s[w->mark - 1];
	after = w->mark < l->mark_count ? l->mark_t_s[w->mark] : l->t_s;
	w->part = after > before ? (t_s - before) / (after - before) : 0.0;
	w->part = w->part < 1.0 ? w->part : 1.0;
}

static void window_open(struct window *w)
{
	const struct site_ledger *l = w->l;

	place(w, w->since_s);
	/* from the first mark on all is the ledger's own; what was taken before it has settled in the window */
	w->born_s =
		isnan(w->part) || w->since_s <= l->opened_s ? -INFINITY : w->since_s - ledger_settle_age(l, w->since_s);
	if (w->since_s <= l->opened_s)
		w->part = NAN;
}

/* ---- sums over the live blocks ---- */

static void add_exposure(struct growth *g, double from, double to)
{
	for (size_t bin = ledger_age_bin(from); bin < LEDGER_AGES; bin++) {
		double start = fmax(ledger_age_start(bin), from);
		double end = bin + 1 < LEDGER_AGES ? fmin(ledger_age_start(bin + 1), to) : to;

		if (start >= to)
			break;
		g->exposure[bin] += (float)(end - start);
	}
}

static void add_entry(struct window *w, const struct ledger_entry *e, double settle_age)
{
	struct growth *g = &w->of[e->stack];

	if (e->t_s >= w->since_s || isnan(w->part))
		g->there += e->weight;
	if (!e->settled)
		return;
	if (w->l->t_s - e->t_s > settle_age)
		add_exposure(g, settle_age, w->l->t_s - e->t_s);
	if (e->t_s <= w->born_s) {
		g->old += e->weight;
		g->old_var += ledger_var(e);
		g->old_samples += 1.0;
		if (e->moved_s > w->born_s) {
			g->moved += 1.0;
			g->moved_last_s = fmax(g->moved_last_s, e->moved_s);
		}
		return;
	}
	g->in += e->weight;
	g->in_var += ledger_var(e);
	g->in_size += (double)e->size;
	g->in_samples += 1.0;
	g->in_blocks += e->size > 0 ? e->weight / (double)e->size : 1.0;
	g->last_birth_s = fmax(g->last_birth_s, e->t_s);
}

/* A buffer that realloc() makes ever larger: no new block settles in the window, but what there is has grown. */
static void take_moved(struct growth *g)
{
	if (g->moved < 1.0 || g->in_samples >= 1.0 || g->grown < 1.0)
		return;
	g->in = g->in_size = g->in_scaled = g->grown;
	g->in_samples = g->in_blocks = g->moved;
	g->last_birth_s = g->moved_last_s;
}

static int sum_blocks(struct window *w)
{
	const struct site_ledger *l = w->l;
	double settle_age = ledger_settle_age(l, l->t_s);

	w->of = calloc(l->stacks.count ? l->stacks.count : 1, sizeof(*w->of));
	if (!w->of)
		return -ENOMEM;
	for (size_t i = 0; i < l->stacks.count; i++)
		w->of[i].last_birth_s = -INFINITY;
	for (size_t i = 0; i < l->entry_top; i++)
		if (l->entries[i].used)
			add_entry(w, &l->entries[i], settle_age);
	for (size_t i = 0; i < l->stacks.count; i++) {
		const struct ledger_stack *s = &l->of[i];
		struct ledger_sums then = sums_at(w, s);
		struct growth *g = &w->of[i];

		g->stack = (uint32_t)i;
		g->grown = s->settled - then.settled;
		g->left_var = fmax(0.0, (double)then.var - g->old_var);
		g->left_samples = fmax(0.0, (double)then.samples - g->old_samples);
		if (g->left_samples < 0.01) /* rounding of floats */
			g->left_samples = g->left_var = 0.0;
		/* what grew in the window was taken a little before it, perhaps */
		g->taken = fmax(fmax(g->there, g->grown), s->taken - (double)then.taken);
		g->taken_blocks = fmax(g->in_blocks, s->taken_blocks - (double)then.taken_blocks);
		g->scale = 1.0;
		take_moved(g);
	}
	return 0;
}

/* ---- judging one stack ---- */

/* What of the growth would still be there, if the oldest blocks go on dying as they do. */
static double keep_share(const struct window *w, const struct growth *g)
{
	const float *deaths = w->l->of[g->stack].deaths;
	size_t first = ledger_age_bin(ledger_settle_age(w->l, w->l->t_s)), last = 0;
	double died = 0.0, lived = 0.0;

	for (size_t i = 0; i < LEDGER_AGES; i++)
		if (deaths[i] > 0.0F || g->exposure[i] > 0.0F)
			last = i;
	for (size_t i = first > last ? last : first; i <= last; i++) {
		/* the dead have lived, too: each that died older through the whole bin, one that died in it through half */
		double width = i + 1 < LEDGER_AGES ? ledger_age_start(i + 1) - ledger_age_start(i) : 0.0;

		if (i + 2 < last) /* younger than a quarter of the oldest */
			continue;
		died += (double)deaths[i];
		lived += (double)g->exposure[i] + (double)deaths[i] * width / 2.0;
		for (size_t j = i + 1; j <= last; j++)
			lived += (double)deaths[j] * width;
	}
	died -= HAZARD_Z * sqrt(died);
	if (died <= 0.0 || lived <= 0.0)
		return 1.0;
	return fmax(KEEP_MIN, exp(-died / lived * HORIZON * (w->until_s - w->since_s)));
}

struct course {            /* of the settled bytes in the window */
	double noise;      /* standard deviation of the growth, from how unevenly it came */
	double last_third; /* growth */
	double rises;      /* intervals with growth */
};

static void course_of(const struct window *w, const struct growth *g, struct course *ret)
{
	const struct site_ledger *l = w->l;
	const struct ledger_stack *s = &l->of[g->stack];
	struct window third = *w;
	double span = l->t_s - fmax(w->since_s, l->opened_s), rate = span > 0.0 ? g->grown / span : 0.0;
	double t = l->t_s - span, bytes = s->settled - g->grown, sum = 0.0, count = 0.0;

	*ret = (struct course){ 0 };
	place(&third, l->t_s - span / 3.0);
	ret->last_third = s->settled - sums_at(&third, s).settled;
	for (size_t i = w->mark; i <= l->mark_count; i++) {
		bool end = i == l->mark_count;
		double to = end ? l->t_s : l->mark_t_s[i], then = end ? s->settled : s->marks[i].settled;
		double gain = then - bytes;

		if (to - t < span / (2.0 * LEDGER_MARKS) && !(end && to > t))
			continue;
		ret->rises += gain > 0.0;
		sum += (gain - rate * (to - t)) * (gain - rate * (to - t)) / (to - t);
		count += 1.0;
		t = to;
		bytes = then;
	}
	ret->noise = count > 2.0 ? sqrt(sum / (count - 1.0) * span) : 0.0;
}

/* The chance that growth that goes on makes no step for as long as this has made none. */
static double going_on(const struct window *w, const struct growth *g, const struct course *c)
{
	double start = fmax(fmax(w->born_s, w->since_s), w->l->opened_s);
	double front = w->l->t_s - ledger_settle_age(w->l, w->l->t_s);
	double x = front > start ? (g->last_birth_s - start) / (front - start) : 1.0;
	double steps = fmin(g->in_samples, fmax(1.0, c->rises));

	if (g->in_samples >= RISES_SAMPLES)
		steps = fmax(steps, RISES_LEAST);
	return x >= 1.0 ? 1.0 : pow(fmax(0.0, x), steps);
}

/* Score interval of a Poisson count, for sums whose blocks count unequally; exact counts have no width. */
static void interval(struct growth *g)
{
	double c = g->in > 0.0 ? g->in_var / g->in : 0.0;
	double middle = g->in + c * Z95 * Z95 / 2.0, half = Z95 * sqrt(c * g->in + c * c * Z95 * Z95 / 4.0);
	double below = g->in - (middle - half), above = middle + half - g->in, left = Z95 * Z95 * g->left_var;

	g->low = g->grown - sqrt(below * below + left);
	g->high = g->grown + sqrt(above * above + left);
	if (g->left_samples <= 0.0)
		g->low = fmax(g->low, g->in_size);
	g->low = fmin(fmax(0.0, g->low), g->grown);
}

/* Sets score, 0: left out. */
static void judge(const struct window *w, struct growth *g)
{
	double each = g->in_samples > 0.0 ? g->in / g->in_samples : 0.0, pause, grown, noise;
	double net = g->in_samples - g->left_samples, count_noise = sqrt(g->in_samples + g->left_samples);
	struct course c;

	g->score = 0.0;
	if (g->in_samples < 1.0 || g->grown < 1.0 || g->scale <= 0.0 ||
	    (g->left_samples > 0.0 && net < Z_GROWS * count_noise))
		return;
	interval(g);
	course_of(w, g, &c);
	pause = going_on(w, g, &c);
	if (pause < STOPPED_MAX)
		return;
	grown = g->grown;
	if (g->in_samples >= LAST_SAMPLES)
		grown = fmin(grown, 3.0 * (fmax(0.0, c.last_third) + each));
	noise = fmax(sqrt(g->in_var + g->left_var), c.noise);
	grown = fmax(grown - noise, UNSURE_SHARE * grown);
	g->score = grown * g->scale * window_plausibility(g) * keep_share(w, g) * fmin(1.0, pause / STOPPED_DOUBT);
}

static int compare_score(const void *a, const void *b)
{
	const struct growth *x = a, *y = b;

	return (x->score < y->score) - (x->score > y->score);
}

static int judge_window(struct window *w)
{
	int rc;

	window_open(w);
	rc = sum_blocks(w);
	if (rc < 0)
		return rc;
	window_join_truth(w);
	for (size_t i = 0; i < w->l->stacks.count; i++)
		judge(w, &w->of[i]);
	return 0;
}

/* ---- telling ---- */

int site_ledger_course(struct site_ledger *l, double since_s, double until_s, struct sites_course *ret)
{
	struct window w = { .l = l, .since_s = since_s, .until_s = until_s };
	struct sites_course course = { 0 };
	double taken = 0.0, there = 0.0, scores = 0.0, top = 0.0;
	int rc = judge_window(&w);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < l->stacks.count; i++) {
		const struct growth *g = &w.of[i];

		taken += g->taken;
		there += g->there;
		scores += g->score;
		top = fmax(top, g->score);
		course.growing_sites += g->score > 0.0;
		course.growth_bytes += g->score > 0.0 ? g->grown : 0.0;
		course.churning_sites += g->taken > 0.0 && g->there < CHURN_SURVIVAL * g->taken;
	}
	free(w.of);
	course.churn_bytes = taken - there;
	course.survival = taken > 0.0 ? there / taken : NAN;
	course.top_share = scores > 0.0 ? top / scores : NAN;
	*ret = course;
	return 0;
}

static int compare_double(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the stack's settled blocks, evenly from all. */
static double median_age(const struct site_ledger *l, const struct growth *g)
{
	double ages[AGES_MAX], step = fmax(1.0, (g->in_samples + g->old_samples) / AGES_MAX), next = 0.0, seen = 0.0;
	size_t count = 0;

	for (size_t i = 0; i < l->entry_top && count < AGES_MAX; i++) {
		const struct ledger_entry *e = &l->entries[i];

		if (!e->used || !e->settled || e->stack != g->stack)
			continue;
		if (seen >= next) {
			ages[count++] = l->t_s - e->t_s;
			next += step;
		}
		seen += 1.0;
	}
	qsort(ages, count, sizeof(*ages), compare_double);
	return count > 0 ? ages[count / 2] : NAN;
}

static uint64_t whole(double value)
{
	return value < 0x1p63 ? (uint64_t)(fmax(0.0, value) + 0.5) : 1ULL << 63;
}

/* share and survival carry sums until finish(). */
static struct site site_of(const struct window *w, const struct growth *g)
{
	return (struct site){ .bytes = whole(g->grown * g->scale),
			      .blocks =
				      whole(fmax(1.0, g->in > 0.0 ? g->in_blocks * g->grown / g->in * g->scale : 0.0)),
			      .allocated_bytes = whole(g->taken),
			      .allocated_blocks = whole(g->taken_blocks),
			      .share = g->score,
			      .survival = g->there,
			      .bytes_low = g->low * g->scale,
			      .bytes_high = g->high * g->scale,
			      .age_s = median_age(w->l, g),
			      .exact = true,
			      .source = w->l->stacks.items[g->stack].source };
}

/* Stacks of one site are sampled independently: their variances add up. */
static void merge(struct site *into, const struct site *s)
{
	double below = hypot((double)into->bytes - into->bytes_low, (double)s->bytes - s->bytes_low);
	double above = hypot(into->bytes_high - (double)into->bytes, s->bytes_high - (double)s->bytes);

	into->bytes += s->bytes;
	into->blocks += s->blocks;
	into->allocated_bytes += s->allocated_bytes;
	into->allocated_blocks += s->allocated_blocks;
	into->share += s->share;
	into->survival += s->survival;
	into->bytes_low = fmax(0.0, (double)into->bytes - below);
	into->bytes_high = (double)into->bytes + above;
}

static int compare_site(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return (x->share < y->share) - (x->share > y->share);
}

static size_t finish(const struct site_query *q, double total, struct site *sites, size_t count)
{
	double seconds = q->until_s - q->since_s;

	qsort(sites, count, sizeof(*sites), compare_site);
	for (size_t i = 0; i < count; i++) {
		struct site *s = &sites[i];

		s->share /= total;
		s->survival = s->allocated_bytes > 0 ? fmin(1.0, s->survival / (double)s->allocated_bytes) : NAN;
		s->bytes_per_s = seconds > 0.0 ? (double)s->bytes / seconds : NAN;
	}
	if (count > q->max)
		count = q->max;
	while (count > 0 && sites[count - 1].share < SITES_SHARE_MIN)
		count--;
	return count;
}

int site_ledger_report(struct site_ledger *l, const struct site_query *q, struct arena *arena, struct site **ret,
		       size_t *ret_count)
{
	struct window w = { .l = l, .q = q, .since_s = q->since_s, .until_s = q->until_s };
	size_t named = 0, count = 0, cap = q->max * NAMED_FACTOR;
	cleanup_free struct growth *of = NULL;
	struct site *sites;
	double total = 0.0;
	int rc = judge_window(&w);

	if (rc < 0)
		return rc;
	of = w.of;
	qsort(of, l->stacks.count, sizeof(*of), compare_score);
	while (named < l->stacks.count && of[named].score > 0.0)
		total += of[named++].score;
	named = named < cap ? named : cap;
	sites = arena_array(arena, named ? named : 1, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < named; i++) {
		struct site site = site_of(&w, &of[i]), *same;

		rc = site_stack_name(&l->stacks.items[of[i].stack], q->symbols, arena, &site);
		if (rc < 0)
			return rc;
		same = site_find_same(sites, count, &site);
		if (same)
			merge(same, &site);
		else
			sites[count++] = site;
	}
	*ret_count = finish(q, total, sites, count);
	*ret = sites;
	return 0;
}
