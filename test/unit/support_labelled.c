/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs a plan: the process, what is seen of it, and how it goes on afterwards. */
#include "support_labelled.h"

#include <math.h>
#include <stdlib.h>

#include "support_series.h"

#define MIB (1024.0 * 1024.0)
#define PAGE 4096.0
#define TAU 6.283185307179586
#define BLOCK_BYTES 96
#define TICK_S 0.01 /* of the kernel's CPU times */
/* glibc keeps a little more than is in use, and more after noise. */
#define SLACK 1.03
#define HIGH_WATER_SIGMAS 3
#define GIVEN_BACK_ABOVE 1.01
#define GIVEN_BACK_PER_STEP 0.2
#define WORK_NOISE 0.15 /* of what one step counts */
#define RATE_SMOOTH 0.3 /* memory follows the load by that share a step */
#define IDLE_RATE 0.004 /* CPU time; of units there are none */
#define PAUSE_RATE 0.01
#define DAILY_SWING 0.85
#define GO_ON_SPANS 60 /* a limit that is not reached by then is not reached */

static double ramp(double x, double from, double to)
{
	return fmin(1, fmax(0, (x - from) / (to - from)));
}

static double event_level(const struct labelled_plan *p, double t)
{
	double x = t / p->span_s, in;

	switch (p->event) {
	case EVENT_CURVE:
		return p->size * -expm1(-x / p->width);
	case EVENT_RAMP:
		return p->size * fmin(1, x / p->at);
	case EVENT_STEP:
		return x >= p->at ? p->size : 0;
	case EVENT_BURST:
		in = (x - p->at) / p->width;
		if (in < 0 || in >= 1)
			return 0;
		return p->triangle ? p->size * (1 - fabs(2 * in - 1)) : p->size;
	case EVENT_PEAK:
		return x < p->at ? p->size * ramp(x, 0.03, p->width) : 0;
	case EVENT_FALL:
		return -p->size * fmin(1, x);
	case EVENT_NONE:
		break;
	}
	return 0;
}

static double growth_level(const struct labelled_plan *p, double t)
{
	double tread_s, k;

	if (p->doublings > 0) {
		k = exp2(p->doublings);
		return p->size * exp2(floor(log2(1 + (k - 1) * t / p->span_s))) / k;
	}
	if (p->stairs > 0) {
		tread_s = p->span_s / p->stairs;
		return p->rate * tread_s * floor(t / tread_s + p->phase);
	}
	return p->rate * fmax(0, t - p->onset_s);
}

static double tooth_level(struct labelled_plan *p, struct labelled_state *s)
{
	if (p->tooth <= 0)
		return 0;
	while (s->tooth_length_s <= 0 || s->t_s >= s->tooth_begin_s + s->tooth_length_s) {
		s->tooth_begin_s += s->tooth_length_s;
		s->tooth_length_s = p->tooth_s * (1 + p->tooth_jitter * (2 * random_uniform(&p->state) - 1));
		s->tooth_height = p->tooth * (1 + p->tooth_jitter * (2 * random_uniform(&p->state) - 1));
	}
	return s->tooth_height * (s->t_s - s->tooth_begin_s) / s->tooth_length_s;
}

static double work_rate(struct labelled_plan *p, struct labelled_state *s)
{
	double x = fmin(1, s->t_s / p->span_s);

	switch (p->work) {
	case LOAD_STEADY:
		return 1;
	case LOAD_IDLE:
		return p->cpu ? IDLE_RATE : 0;
	case LOAD_BURSTS:
		if (s->t_s >= s->work_end_s) {
			s->work_end_s = s->t_s + p->work_phase_s * (0.6 + 0.8 * random_uniform(&p->state));
			s->busy = !s->busy;
		}
		return s->busy ? 1 : PAUSE_RATE;
	case LOAD_RAMP:
		return p->ramp_low + (1 - p->ramp_low) * (p->ramp_down ? 1 - x : x);
	case LOAD_DAILY:
		return (1 + DAILY_SWING * sin(TAU * (s->t_s / p->work_phase_s + p->phase))) / (1 + DAILY_SWING);
	case LOAD_NONE:
		break;
	}
	return 0;
}

static void work_step(struct labelled_plan *p, struct labelled_state *s, double dt)
{
	double rate = work_rate(p, s), noise = 1 + WORK_NOISE * random_normal(&p->state);

	s->rate = s->t_s <= 0 ? rate : s->rate + RATE_SMOOTH * (rate - s->rate);
	s->work += rate * dt;
	s->counter += p->busy * rate * dt * fmax(0, noise);
}

static double noise_step(struct labelled_plan *p, struct labelled_state *s)
{
	double n = p->iid * random_normal(&p->state);

	if (p->ar > 0) {
		double shock = random_normal(&p->state);

		s->ar = s->t_s <= 0 ? p->ar * shock : p->phi * s->ar + p->ar * sqrt(1 - p->phi * p->phi) * shock;
	}
	if (p->walk > 0)
		s->walk += p->walk * random_normal(&p->state);
	if (p->jumps > 0 && random_uniform(&p->state) < p->jumps / (double)p->points)
		s->jumped += PAGE * (floor(17 * random_uniform(&p->state)) - 8);
	return n + s->ar + (p->walk_outside ? 0 : s->walk) + s->jumped;
}

/* What the program has in its hands. */
static double in_use_step(struct labelled_plan *p, struct labelled_state *s, double dt)
{
	double v = p->base, noise;

	if (p->work != LOAD_NONE)
		work_step(p, s, dt);
	if (p->from_start && p->startup_s > 0)
		v *= 0.2 + 0.8 * fmin(1, s->t_s / p->startup_s);
	v += growth_level(p, s->t_s) + event_level(p, s->t_s) + tooth_level(p, s);
	if (p->swing > 0)
		v += p->swing * sin(TAU * (s->t_s / p->swing_s + p->phase));
	v += p->by_work * s->work + p->by_rate * s->rate;
	noise = noise_step(p, s);
	return fmax(v + noise, PAGE);
}

static void allocator_step(const struct labelled_plan *p, struct labelled_state *s, double in_use)
{
	double most = in_use * (1 + p->overhead) + (SLACK - 1) * p->base + MIB / 4;

	if (s->mapped > GIVEN_BACK_ABOVE * most && p->gives_back)
		s->mapped -= GIVEN_BACK_PER_STEP * (s->mapped - GIVEN_BACK_ABOVE * most);
	s->mapped = fmax(s->mapped, most);
}

/* A collection now and then: what it found alive is known until the next one. */
static void collector_step(struct labelled_plan *p, struct labelled_state *s, double live)
{
	if (s->t_s < s->next_gc_s)
		return;
	s->live_seen = live;
	s->next_gc_s = s->t_s + p->step_s * (double)p->walk_every * (0.5 + random_uniform(&p->state));
}

struct seen {
	double rss, in_use, free_inside;
};

static void process_step(struct labelled_plan *p, struct labelled_state *s, double t, struct seen *ret)
{
	double dt = t - s->t_s, in_use, free_inside = 0, extra;

	s->t_s = t;
	in_use = in_use_step(p, s, dt);
	extra = p->outside_rate * t + (p->walk_outside ? s->walk : 0);
	if (p->heap || p->live) {
		allocator_step(p, s, in_use);
		free_inside = s->mapped - in_use + p->free_grows * t / p->span_s;
	}
	if (p->live)
		collector_step(p, s, in_use);
	s->rss = fmax(PAGE, in_use + free_inside + p->other + extra);
	s->high = fmax(s->high, s->rss);
	*ret = (struct seen){ s->rss, in_use, free_inside };
}

static void add_sample(struct labelled *l, const struct seen *q, bool walk)
{
	const struct labelled_plan *p = &l->plan;
	struct sample s;

	sample_init(&s, l->at.t_s);
	s.v[METRIC_RSS] = floor(q->rss / p->quantum) * p->quantum;
	if (p->cpu)
		s.v[METRIC_CPU] = floor(l->at.counter / TICK_S) * TICK_S;
	if (p->units)
		s.v[METRIC_WORK] = floor(l->at.counter);
	if (walk && p->heap) {
		s.v[METRIC_HEAP_IN_USE] = floor(q->in_use / 16) * 16;
		s.v[METRIC_HEAP_FREE] = floor(q->free_inside / 16) * 16;
		s.v[METRIC_HEAP_MAPPED] = floor((q->in_use + q->free_inside) / PAGE) * PAGE;
		s.v[METRIC_HEAP_BLOCKS] = floor(q->in_use / BLOCK_BYTES);
		l->heap.in_use_bytes = (uint64_t)q->in_use;
		l->heap.free_bytes = (uint64_t)q->free_inside;
		l->heap.mapped_bytes = (uint64_t)(q->in_use + q->free_inside);
	}
	if (walk && p->live)
		s.v[METRIC_RUNTIME_LIVE] = floor(l->at.live_seen / 16) * 16;
	if (series_add(l->series, &s) < 0)
		abort();
	l->input.now_s = l->at.t_s;
}

static void finish_input(struct labelled *l)
{
	const struct labelled_plan *p = &l->plan;
	struct heap_stats *h = &l->heap;

	h->free_resident_bytes = h->free_bytes;
	h->trimmable_bytes = (uint64_t)((double)h->free_bytes * (p->pinned ? 0.1 : 0.95));
	h->pinned_bytes = h->free_bytes - h->trimmable_bytes;
	h->in_use_blocks = h->in_use_bytes / BLOCK_BYTES;
	h->free_blocks = h->free_bytes / 4096;
	h->fragmentation = h->mapped_bytes ? 1 - (double)h->in_use_bytes / (double)h->mapped_bytes : 0;
	h->complete = true;
	l->limit.used_bytes = l->at.rss;
	l->input.series = l->series;
	l->input.heap = p->heap && !p->recorded ? h : NULL;
	l->input.runtime = p->live ? "java" : NULL;
	l->input.recorded = p->recorded;
	l->input.from_start = p->from_start;
	l->input.transient = p->transient;
	l->input.work_unit = p->units ? "request" : NULL;
	l->input.rss_noise_bytes = p->recorded ? 0 : 64 * 1024;
	l->input.limits = &l->limit;
	l->input.limit_count = l->limit.bytes > 0 ? 1 : 0;
}

void labelled_open(struct labelled *ret, const struct labelled_plan *plan)
{
	*ret = (struct labelled){ .kind = plan->kind, .plan = *plan, .crossing_s = NAN };
	ret->plan.quantum = fmax(ret->plan.quantum, PAGE);
	ret->plan.walk_every = ret->plan.walk_every ? ret->plan.walk_every : 1;
	/* what an allocator took before anybody watched */
	if (!plan->from_start)
		ret->at.mapped =
			(SLACK + plan->overhead) * (plan->base + HIGH_WATER_SIGMAS * hypot(plan->iid, plan->ar) +
						    (1 + plan->tooth_jitter) * plan->tooth);
	if (series_create(&ret->series) < 0)
		abort();
}

static bool is_missing(struct labelled_plan *p, size_t i, double t)
{
	double x = t / p->span_s;
	bool dropped = p->drop > 0 && random_uniform(&p->state) < p->drop;

	if (i == 0 || i + 1 == p->points)
		return false;
	return dropped || (p->gap_width > 0 && x >= p->gap_at && x < p->gap_at + p->gap_width);
}

void labelled_feed(struct labelled *l, double until_s)
{
	struct labelled_plan *p = &l->plan;

	for (;; l->next++) {
		uint64_t before = p->state;
		double t = (double)l->next * p->step_s;
		struct seen q;

		if (l->next > 0 && p->jitter > 0)
			t += p->jitter * p->step_s * (random_uniform(&p->state) - 0.5);
		if (t > until_s) {
			p->state = before;
			break;
		}
		process_step(p, &l->at, t, &q);
		if (!is_missing(p, l->next, t))
			add_sample(l, &q, l->next % p->walk_every == 0);
	}
	finish_input(l);
}

/* The process goes on as it was until it first reaches the limit. */
static double crossing(const struct labelled *l)
{
	struct labelled_plan p = l->plan;
	struct labelled_state s = l->at;
	double limit = (double)l->limit.bytes, end_s = s.t_s;
	struct seen q;

	while (s.t_s < end_s + GO_ON_SPANS * p.span_s) {
		process_step(&p, &s, s.t_s + p.step_s, &q);
		if (q.rss >= limit)
			return s.t_s - end_s;
	}
	return INFINITY;
}

static void set_limit(struct labelled *l)
{
	const struct labelled_plan *p = &l->plan;
	double rise = (p->rate + p->outside_rate) * (p->span_s - p->onset_s) + p->by_work * l->at.work;

	if (p->limit_ahead <= 0)
		return;
	if (rise <= 0) /* nothing that would reach it */
		rise = l->at.rss / 4;
	/* a limit below what was seen would have been reached */
	l->limit.bytes = (uint64_t)(l->at.high + p->limit_ahead * rise);
	l->limit.source = p->recorded ? "--limit" : "cgroup";
	if (labelled_info[l->kind].forecast)
		l->crossing_s = crossing(l);
}

static enum verdict_cause cause_of(const struct labelled *l)
{
	if (l->label != VERDICT_RETENTION)
		return CAUSE_NONE;
	if (l->plan.live)
		return CAUSE_GC;
	if (l->plan.recorded) /* nobody counted what a trim could give back */
		return CAUSE_NONE;
	return l->plan.pinned ? CAUSE_FRAGMENTATION : CAUSE_ALLOCATOR;
}

void labelled_make(struct labelled *ret, enum labelled_kind kind, uint64_t seed, enum labelled_set set)
{
	struct labelled_plan plan;

	labelled_plan_draw(&plan, kind, seed, set);
	labelled_open(ret, &plan);
	ret->label = labelled_info[kind].label;
	ret->accepted = labelled_info[kind].accepted;
	/* one wave and a half: rose and came back is just as true */
	if (kind == LABELLED_SINE && plan.span_s < 2 * plan.swing_s)
		ret->accepted |= 1ULL << VERDICT_SPIKE;
	labelled_feed(ret, plan.span_s + plan.step_s * 0.1);
	ret->cause = cause_of(ret);
	set_limit(ret);
	finish_input(ret);
}

void labelled_free(struct labelled *l)
{
	series_destroy(l->series);
	l->series = NULL;
}

size_t labelled_points(const struct labelled *l, struct point **ret)
{
	size_t cap = (size_t)series_count(l->series) + 1;
	struct point *points = calloc(cap, sizeof(*points));

	if (!points)
		abort();
	*ret = points;
	return series_points(l->series, METRIC_RSS, 0, l->input.now_s, points, cap);
}
