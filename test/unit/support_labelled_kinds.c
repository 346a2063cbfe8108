/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The kinds, why their labels are right, and the ranges from which the two sets draw. */
#include <math.h>

#include "support_labelled.h"
#include "support_series.h"

#define MIB (1024.0 * 1024.0)
/* What is called growth, step, spike, plateau is at least that much: beyond doubt worth a word. */
#define RISE_SHARE_MIN 0.03
#define RISE_MIN (3 * MIB)
/*
 * How surely an observer who knows the noise model sees the slope: its t value. A slope alone would need less; to tell
 * a line from a course that levels off takes that much.
 */
#define ORACLE_T 7
#define ORACLE_T_SLOW 6
#define BURST_OVER 0.88 /* of the window: that it came back must be seen */
#define SERVICE_EVERY 4 /* one seed in four is a second process of the service before it */

#define BIT(c) (1ULL << VERDICT_##c)
/* A random walk has no trend, but a window of it may look like any course that ends. */
#define WALK_CLASSES (BIT(STABLE) | BIT(STEP) | BIT(WARMUP) | BIT(SPIKE) | BIT(INSUFFICIENT_DATA))

const struct labelled_info labelled_info[LABELLED_KIND_COUNT] = {
#define KIND(id, name, label, more, why)                                                                               \
	[LABELLED_##id] = { name, VERDICT_##label, BIT(label) | (more), false, false, why }
#define GOES_ON(id, name, label, why) [LABELLED_##id] = { name, VERDICT_##label, BIT(label), true, false, why }
	KIND(FLAT_IID, "flat-iid", STABLE, 0, "the level never changes"),
	KIND(FLAT_AR50, "flat-ar50", STABLE, 0, "returns to one level within samples"),
	KIND(FLAT_AR80, "flat-ar80", STABLE, 0, "returns to one level"),
	KIND(FLAT_AR90, "flat-ar90", STABLE, 0, "returns to one level many times in the window"),
	KIND(FLAT_AR95, "flat-ar95", STABLE, 0, "returns to one level a few times in the window"),
	KIND(FLAT_PAGES, "flat-pages", STABLE, 0, "a few pages up or down are no change that matters"),
	KIND(SAWTOOTH, "sawtooth", STABLE, 0, "each collection comes back to the same trough"),
	KIND(SINE, "sine", STABLE, 0, "at least one and a half waves show that it comes back"),
	KIND(FALLING, "falling", STABLE, 0, "memory that shrinks is no problem"),
	KIND(WALK, "walk", STABLE, WALK_CLASSES, "no drift: what it did says nothing about what it will do"),
	KIND(PLATEAU, "plateau", WARMUP, 0, "the window holds 2.5 or more time constants: the bend is plain"),
	KIND(RAMP_FLAT, "ramp-flat", WARMUP, 0, "grew for a while, then flat for 30 % of the window or more"),
	KIND(STEP, "step", STEP, 0, "one change between two samples, flat before and after"),
	KIND(BURST, "burst", SPIKE, 0, "rose once and came back to the level before"),
	GOES_ON(GROWTH_IID, "growth-iid", GROWTH, "a line without an end; RSS alone does not say whose"),
	GOES_ON(GROWTH_AR50, "growth-ar50", GROWTH, "the slope is beyond doubt for one who knows the noise"),
	GOES_ON(GROWTH_AR80, "growth-ar80", GROWTH, "the slope is beyond doubt for one who knows the noise"),
	GOES_ON(GROWTH_AR95, "growth-ar95", GROWTH, "the slope is beyond doubt for one who knows the noise"),
	GOES_ON(GROWTH_LATE, "growth-late", GROWTH, "flat, then a line to the end for 40 % of the window or more"),
	GOES_ON(GROWTH_SLOW, "growth-slow", GROWTH,
		"rises by 2 to 4 sigma of its noise, over samples enough to see it"),
	GOES_ON(GROWTH_STAIRS, "growth-stairs", GROWTH, "steps of one size at one distance go on"),
	[LABELLED_GROWTH_WALK] = { "growth-walk", VERDICT_GROWTH, BIT(GROWTH), true, true, "a walk with drift" },
	KIND(DOUBLING, "doubling", GROWTH, BIT(STEP) | BIT(WARMUP) | BIT(STABLE), "a table that doubles has few steps"),
	GOES_ON(SAWTOOTH_LEAK, "sawtooth-leak", LEAK, "the teeth show steady work, and each trough lies higher"),
	GOES_ON(WORK_STEADY_LEAK, "work-steady-leak", LEAK, "grows with time while the CPU is used at one pace"),
	GOES_ON(WORK_IDLE_LEAK, "work-idle-leak", LEAK, "grows while next to no work is done"),
	GOES_ON(WORK_VARIES_LEAK, "work-varies-leak", LEAK, "grows alike through busy times and idle ones"),
	KIND(WORK_TRANSIENT_LEAK, "work-transient-leak", LEAK, 0, "each unit leaves bytes behind, and should not"),
	KIND(WORK_BURSTS, "work-bursts", SCALING, 0, "grows in busy times only"),
	KIND(WORK_RAMP, "work-ramp", SCALING, 0, "bends with the work as its pace changes four times or more"),
	KIND(WORK_FLAT, "work-flat", STABLE, 0, "flat whatever the work"),
	KIND(WORK_PLATEAU, "work-plateau", WARMUP, 0, "settles while the work goes on"),
	KIND(WORK_RATE, "work-rate", STABLE, BIT(SCALING), "follows the load up and down and comes back"),
	GOES_ON(HEAP_LEAK_IID, "heap-leak-iid", LEAK, "bytes in use grow steadily"),
	GOES_ON(HEAP_LEAK_AR, "heap-leak-ar", LEAK, "bytes in use grow, beyond doubt for one who knows the noise"),
	GOES_ON(HEAP_LEAK_SAWTOOTH, "heap-leak-sawtooth", LEAK, "each trough of the bytes in use lies higher"),
	GOES_ON(HEAP_LEAK_LATE, "heap-leak-late", LEAK, "bytes in use grow from some moment on, to the end"),
	GOES_ON(HEAP_LEAK_SLOW, "heap-leak-slow", LEAK, "slow, but over walks enough to see it"),
	GOES_ON(HEAP_WORK_LEAK, "heap-work-leak", LEAK,
		"bytes in use grow with time, whether work is steady or varies"),
	KIND(HEAP_WORK, "heap-work", SCALING, 0, "bytes in use grow in busy times only"),
	KIND(HEAP_CACHE, "heap-cache", WARMUP, 0, "filled, then full for 30 % of the window or more"),
	KIND(HEAP_CACHE_CURVE, "heap-cache-curve", WARMUP, 0, "the window holds 2.5 or more time constants"),
	KIND(HEAP_PINNED, "heap-pinned", RETENTION, 0, "freed after a peak; the pages stay, held by blocks between"),
	KIND(HEAP_UNTRIMMED, "heap-untrimmed", RETENTION, 0, "freed after a peak; the allocator keeps the pages"),
	KIND(HEAP_FREE_GROWS, "heap-free-grows", RETENTION, 0, "in use flat, free inside the allocator grows"),
	KIND(HEAP_CHURN, "heap-churn", STABLE, 0, "one level under noise"),
	KIND(HEAP_AR, "heap-ar", STABLE, 0, "returns to one level"),
	KIND(HEAP_SAWTOOTH, "heap-sawtooth", STABLE, 0, "each tooth comes back to the same trough"),
	KIND(HEAP_RSS_WALK, "heap-rss-walk", STABLE, WALK_CLASSES, "in use flat; the rest wanders without drift"),
	KIND(HEAP_WALK, "heap-walk", STABLE, WALK_CLASSES | BIT(RETENTION), "in use wanders without drift"),
	KIND(HEAP_BURST, "heap-burst", SPIKE, 0, "rose once and was given back"),
	KIND(HEAP_STEP, "heap-step", STEP, 0, "one change between two samples, flat before and after"),
	KIND(HEAP_MAPPINGS, "heap-mappings", GROWTH, 0, "grows outside the allocator: whose it is cannot be told"),
	KIND(LIVE_LEAK, "live-leak", LEAK, 0, "what collections find alive grows"),
	KIND(LIVE_DROPPED, "live-dropped", RETENTION, 0, "live bytes fell, RSS did not"),
	KIND(LIVE_HELD, "live-held", RETENTION, 0, "live bytes flat, the runtime takes more and more"),
	KIND(SHORT, "short", INSUFFICIENT_DATA, 0, "below the least time that any verdict takes"),
	KIND(FEW, "few", INSUFFICIENT_DATA, 0, "below the least number of samples"),
#undef KIND
#undef GOES_ON
};

/* Draws for one run. */
struct draw {
	uint64_t state;
	bool judging;
};

static double uniform(struct draw *d, double low, double high)
{
	return low + (high - low) * random_uniform(&d->state);
}

static double spread(struct draw *d, double low, double high) /* evenly over the orders of magnitude */
{
	return low * pow(high / low, random_uniform(&d->state));
}

static bool chance(struct draw *d, double share)
{
	return random_uniform(&d->state) < share;
}

/* Tuning range, judging range. */
static double either(struct draw *d, double low, double high, double judging_low, double judging_high)
{
	return d->judging ? uniform(d, judging_low, judging_high) : uniform(d, low, high);
}

static double either_spread(struct draw *d, double low, double high, double judging_low, double judging_high)
{
	return d->judging ? spread(d, judging_low, judging_high) : spread(d, low, high);
}

static double at_least(double v, const struct labelled_plan *p)
{
	return fmax(v, fmax(RISE_MIN, RISE_SHARE_MIN * (p->base + p->other)));
}

static void draw_time(struct draw *d, struct labelled_plan *p)
{
	static const double tuning_s[] = { 0.1, 0.5 }, judging_s[] = { 0.2, 1, 5, 15, 60 };

	p->points = (size_t)either(d, 200, 800, 300, 1200);
	p->step_s = d->judging ? judging_s[(size_t)uniform(d, 0, 5)] : tuning_s[(size_t)uniform(d, 0, 2)];
	if (p->kind == LABELLED_GROWTH_SLOW || p->kind == LABELLED_HEAP_LEAK_SLOW)
		p->points = (size_t)either(d, 500, 900, 500, 1200);
	if (p->kind == LABELLED_FEW)
		p->points = (size_t)either(d, 6, 18, 4, 20);
	if (p->kind == LABELLED_SHORT) {
		p->points = (size_t)either(d, 15, 200, 5, 400);
		p->step_s = either(d, 0.5, 2.7, 0.2, 2.95) / (double)p->points;
	}
	p->span_s = p->step_s * (double)(p->points - 1);
}

static void draw_common(struct draw *d, struct labelled_plan *p)
{
	double noise = either_spread(d, 0.002, 0.02, 0.001, 0.03);

	p->base = MIB * either_spread(d, 20, 400, 5, 2000);
	p->other = 2 * MIB + p->base * uniform(d, 0.05, 0.3);
	p->iid = noise * p->base;
	p->quantum = chance(d, 0.25) ? 64 * 4096.0 : 4096.0;
	if (chance(d, 0.25))
		p->drop = either(d, 0.05, 0.2, 0.05, 0.3);
	if (chance(d, 0.2)) {
		p->gap_width = either(d, 0.05, 0.08, 0.05, 0.1);
		p->gap_at = uniform(d, 0.1, 0.85);
	}
	if (chance(d, 0.25))
		p->jitter = either(d, 0.2, 0.6, 0.1, 0.9);
	p->recorded = true;
}

static void draw_autocorrelation(struct labelled_plan *p, double phi)
{
	p->ar = p->iid;
	p->iid = p->ar / 20;
	p->phi = phi;
}

/* Samples that AR(1) noise leaves independent. */
static double effective(const struct labelled_plan *p)
{
	double n = (double)p->points / (double)p->walk_every;

	/* of every k-th sample the autocorrelation is phi^k */
	double phi = p->ar > 0 ? pow(p->phi, (double)p->walk_every) : 0;

	return n * (1 - phi) / (1 + phi);
}

/* The rise that gives the slope that t value: t = rise / sigma * sqrt(n / 12). */
static double visible_rise(const struct labelled_plan *p, double t)
{
	return t * hypot(p->ar, p->iid) * sqrt(12 / effective(p));
}

static void draw_growth(struct draw *d, struct labelled_plan *p, double t)
{
	double rise = p->base * either_spread(d, 0.08, 0.6, 0.05, 1.2), share = 1 - p->onset_s / p->span_s;

	/* a hinge is seen through its part of the window alone, and against what lies before it */
	rise = fmax(rise, visible_rise(p, t) / pow(share, 1.5));
	p->rate = at_least(rise, p) / (p->span_s * share);
	p->limit_ahead = either_spread(d, 1.2, 4, 0.6, 5);
}

static void draw_late(struct draw *d, struct labelled_plan *p)
{
	p->onset_s = p->span_s * either(d, 0.35, 0.5, 0.3, 0.6);
	draw_growth(d, p, 2 * ORACLE_T);
}

/* Seen, but hardly: the noise is as large as it may be for that. */
static void draw_slow(struct draw *d, struct labelled_plan *p, double phi)
{
	double sigmas;

	draw_autocorrelation(p, phi);
	p->ar = fmax(p->ar, 0.01 * p->base);
	sigmas = fmax(either(d, 2.5, 3.5, 2, 4), visible_rise(p, ORACLE_T_SLOW) / p->ar);
	p->rate = at_least(sigmas * p->ar, p) / p->span_s;
	p->limit_ahead = either_spread(d, 1.2, 4, 0.6, 5);
}

static void draw_teeth(struct draw *d, struct labelled_plan *p)
{
	double most = (double)p->points / 10, teeth = either_spread(d, 9, 25, 7, 40);

	p->iid = fmin(p->iid, 0.005 * p->base);
	p->tooth = fmax(p->base * either(d, 0.15, 0.5, 0.1, 0.8), 8 * p->iid + MIB);
	p->tooth_s = p->span_s / fmin(teeth, most);
	p->tooth_jitter = either(d, 0.05, 0.3, 0, 0.3);
}

static void draw_event(struct draw *d, struct labelled_plan *p, enum labelled_event event)
{
	p->event = event;
	p->size = p->base * either_spread(d, 0.15, 1, 0.1, 2);
	p->size = at_least(fmax(p->size, 10 * hypot(p->iid, p->ar)), p);
	switch (event) {
	case EVENT_CURVE:
		p->width = either(d, 0.08, 0.3, 0.05, 0.4);
		p->size = fmax(p->size, 16 * p->iid);
		break;
	case EVENT_RAMP:
		p->at = either(d, 0.2, 0.6, 0.15, 0.7);
		break;
	case EVENT_STEP:
		p->at = either(d, 0.25, 0.7, 0.2, 0.8);
		break;
	case EVENT_BURST:
		p->at = either(d, 0.2, 0.6, 0.15, 0.7);
		p->width = either(d, 0.05, 0.2, 0.03, 0.25);
		p->width = fmin(p->width, BURST_OVER - p->at);
		p->triangle = chance(d, 0.4);
		p->gap_width = 0; /* it must be seen */
		break;
	case EVENT_PEAK:
		p->width = either(d, 0.2, 0.3, 0.1, 0.3);
		p->at = either(d, 0.35, 0.55, 0.32, 0.65);
		p->size = p->base * either(d, 1, 3, 0.8, 5) + 16 * MIB;
		break;
	case EVENT_FALL:
		p->size = p->base * either(d, 0.1, 0.4, 0.05, 0.6);
		break;
	case EVENT_NONE:
		break;
	}
}

/* Memory under work: what is asked is whose growth it is, so the noise is small beside the rise. */
static void draw_work(struct draw *d, struct labelled_plan *p, enum labelled_load work)
{
	p->work = work;
	p->cpu = chance(d, 0.5);
	p->units = !p->cpu;
	/* a tick of the CPU clock must not be coarser than what a step works */
	p->busy = p->cpu ? either(d, 0.3, 0.9, 0.2, 2) : either_spread(d, 20, 400, 5, 2000);
	p->work_phase_s = p->span_s / either(d, 7, 12, 6, 16);
	if (work == LOAD_DAILY) {
		p->work_phase_s = p->span_s / either(d, 2.5, 4, 2, 5);
		p->phase = uniform(d, 0, 1);
	}
	p->ramp_low = either(d, 0.1, 0.2, 0.05, 0.25);
	p->ramp_down = chance(d, 0.5);
	p->gap_width = 0;
	p->iid = fmin(p->iid, 0.01 * p->base);
}

static void draw_work_growth(struct draw *d, struct labelled_plan *p)
{
	double rise = at_least(fmax(p->base * either_spread(d, 0.1, 1, 0.08, 2), 15 * p->iid), p);
	double pace = p->work == LOAD_RAMP ? (1 + p->ramp_low) / 2 : 0.5;

	p->by_work = rise / (pace * p->span_s);
}

static void draw_heap(struct draw *d, struct labelled_plan *p)
{
	p->heap = true;
	p->recorded = chance(d, 0.4);
	p->from_start = !p->recorded && chance(d, 0.3);
	p->startup_s = p->span_s * uniform(d, 0.01, 0.06);
	p->walk_every = (size_t)either(d, 1, 6, 1, 10.99);
	/* an allocator that keeps its highest level rises with the noise at first: in a fresh process that is a warm-up */
	p->gives_back = p->from_start || chance(d, 0.5);
	p->overhead = chance(d, 0.5) ? either(d, 0, 0.05, 0, 0.1) : 0;
	p->other = 2 * MIB + p->base * uniform(d, 0.05, 0.25);
}

static void draw_live(struct draw *d, struct labelled_plan *p)
{
	draw_heap(d, p);
	p->heap = p->from_start = p->gives_back = false;
	p->live = true;
	p->iid = fmin(p->iid, 0.01 * p->base);
}

static void draw_rss_kind(struct draw *d, struct labelled_plan *p)
{
	static const double phi[] = { 0.5, 0.8, 0.9, 0.95 };

	switch (p->kind) {
	case LABELLED_FLAT_AR50:
	case LABELLED_FLAT_AR80:
	case LABELLED_FLAT_AR90:
	case LABELLED_FLAT_AR95:
		draw_autocorrelation(p, phi[p->kind - LABELLED_FLAT_AR50]);
		break;
	case LABELLED_FLAT_PAGES:
		p->iid = 0;
		p->jumps = either(d, 3, 10, 0, 15);
		break;
	case LABELLED_SAWTOOTH:
		draw_teeth(d, p);
		break;
	case LABELLED_SINE:
		p->swing = p->base * either(d, 0.05, 0.2, 0.04, 0.35);
		p->swing_s = p->span_s / either(d, 1.6, 5, 1.5, 6);
		p->phase = uniform(d, 0, 1);
		p->iid = fmin(p->iid, p->swing / 6);
		break;
	case LABELLED_FALLING:
		draw_event(d, p, EVENT_FALL);
		break;
	case LABELLED_WALK:
		p->walk = p->base * either_spread(d, 0.0007, 0.002, 0.0005, 0.003);
		p->iid = fmin(p->iid, p->walk);
		break;
	case LABELLED_PLATEAU:
		draw_event(d, p, EVENT_CURVE);
		break;
	case LABELLED_RAMP_FLAT:
		draw_event(d, p, EVENT_RAMP);
		break;
	case LABELLED_STEP:
		draw_event(d, p, EVENT_STEP);
		break;
	case LABELLED_BURST:
		draw_event(d, p, EVENT_BURST);
		break;
	default:
		break;
	}
}

static void draw_growth_kind(struct draw *d, struct labelled_plan *p)
{
	switch (p->kind) {
	case LABELLED_GROWTH_IID:
		draw_growth(d, p, ORACLE_T);
		break;
	case LABELLED_GROWTH_AR50:
	case LABELLED_GROWTH_AR80:
	case LABELLED_GROWTH_AR95:
		draw_autocorrelation(p, p->kind == LABELLED_GROWTH_AR50 ? 0.5 :
					p->kind == LABELLED_GROWTH_AR80 ? 0.8 :
									  0.95);
		draw_growth(d, p, ORACLE_T);
		break;
	case LABELLED_GROWTH_LATE:
		draw_late(d, p);
		break;
	case LABELLED_GROWTH_SLOW:
		draw_slow(d, p, 0.8);
		break;
	case LABELLED_GROWTH_STAIRS:
		p->stairs = floor(either(d, 8, 20, 7, 30));
		p->phase = uniform(d, 0, 1);
		p->iid = fmin(p->iid, 0.005 * p->base);
		draw_growth(d, p, 3 * ORACLE_T);
		break;
	case LABELLED_GROWTH_WALK:
		draw_growth(d, p, ORACLE_T);
		/* a slope of 4 to 8 of its standard errors, which for a walk its two ends alone decide */
		p->walk = p->rate * p->span_s / sqrt((double)p->points) / either(d, 5, 7, 4, 8);
		p->iid = fmin(p->iid, p->walk);
		break;
	case LABELLED_DOUBLING:
		p->doublings = floor(either(d, 5, 7, 4, 9));
		p->size = at_least(p->base * either(d, 0.5, 1.5, 0.3, 3), p);
		p->iid = fmin(p->iid, 0.003 * p->base);
		break;
	case LABELLED_SAWTOOTH_LEAK:
		draw_teeth(d, p);
		draw_growth(d, p, 3 * ORACLE_T);
		p->rate = fmax(p->rate, p->tooth * either(d, 0.5, 1, 0.35, 1.5) / p->span_s);
		break;
	default:
		break;
	}
}

/*
 * At one pace, units of work and time cannot be told apart: whoever counts units may call it either. CPU time at one
 * pace is but a clock.
 */
static void draw_steady(struct draw *d, struct labelled_plan *p)
{
	draw_work(d, p, LOAD_STEADY);
	p->cpu = true;
	p->units = false;
	p->busy = either(d, 0.3, 0.9, 0.2, 2);
}

static void draw_work_kind(struct draw *d, struct labelled_plan *p)
{
	static const enum labelled_load varying[] = { LOAD_BURSTS, LOAD_RAMP, LOAD_DAILY, LOAD_STEADY };

	switch (p->kind) {
	case LABELLED_WORK_STEADY_LEAK:
		draw_steady(d, p);
		draw_growth(d, p, 2 * ORACLE_T);
		break;
	case LABELLED_WORK_IDLE_LEAK:
		draw_work(d, p, LOAD_IDLE);
		draw_growth(d, p, 2 * ORACLE_T);
		break;
	case LABELLED_WORK_VARIES_LEAK:
		draw_work(d, p, varying[(size_t)uniform(d, 0, 3)]);
		draw_growth(d, p, 3 * ORACLE_T);
		p->rate = fmax(p->rate, 15 * p->iid / p->span_s);
		break;
	case LABELLED_WORK_TRANSIENT_LEAK:
		draw_work(d, p, varying[(size_t)uniform(d, 0, 4)]);
		p->transient = true;
		draw_work_growth(d, p);
		break;
	case LABELLED_WORK_BURSTS:
	case LABELLED_WORK_RAMP:
		draw_work(d, p, p->kind == LABELLED_WORK_RAMP ? LOAD_RAMP : LOAD_BURSTS);
		draw_work_growth(d, p);
		break;
	case LABELLED_WORK_FLAT:
		draw_work(d, p, varying[(size_t)uniform(d, 0, 4)]);
		break;
	case LABELLED_WORK_PLATEAU:
		draw_work(d, p, varying[(size_t)uniform(d, 0, 4)]);
		draw_event(d, p, chance(d, 0.5) ? EVENT_CURVE : EVENT_RAMP);
		break;
	case LABELLED_WORK_RATE:
		draw_work(d, p, LOAD_DAILY);
		p->by_rate = at_least(p->base * either(d, 0.2, 0.6, 0.1, 1), p);
		break;
	default:
		break;
	}
}

static void draw_heap_growth(struct draw *d, struct labelled_plan *p)
{
	switch (p->kind) {
	case LABELLED_HEAP_LEAK_IID:
		draw_growth(d, p, 1.5 * ORACLE_T);
		break;
	case LABELLED_HEAP_LEAK_AR:
		draw_autocorrelation(p, chance(d, 0.5) ? 0.8 : 0.9);
		draw_growth(d, p, 1.2 * ORACLE_T);
		break;
	case LABELLED_HEAP_LEAK_SAWTOOTH:
		draw_teeth(d, p);
		/* teeth that the walks do not resolve are noise */
		p->walk_every = (size_t)fmax(1, fmin((double)p->walk_every, p->tooth_s / p->step_s / 5));
		draw_growth(d, p, 3 * ORACLE_T);
		p->rate = fmax(p->rate, p->tooth * either(d, 0.5, 1, 0.35, 1.5) / p->span_s);
		break;
	case LABELLED_HEAP_LEAK_LATE:
		draw_late(d, p);
		break;
	case LABELLED_HEAP_LEAK_SLOW:
		draw_slow(d, p, 0.8);
		break;
	case LABELLED_HEAP_WORK_LEAK:
		if (chance(d, 0.5))
			draw_steady(d, p);
		else
			draw_work(d, p, LOAD_BURSTS);
		draw_growth(d, p, 3 * ORACLE_T);
		p->rate = fmax(p->rate, 15 * p->iid / p->span_s);
		break;
	case LABELLED_HEAP_WORK:
		draw_work(d, p, LOAD_BURSTS);
		draw_work_growth(d, p);
		break;
	case LABELLED_HEAP_MAPPINGS:
		draw_growth(d, p, 2 * ORACLE_T);
		p->outside_rate = p->rate;
		p->rate = p->limit_ahead = 0;
		break;
	default:
		break;
	}
}

static void draw_heap_kind(struct draw *d, struct labelled_plan *p)
{
	switch (p->kind) {
	case LABELLED_HEAP_CACHE:
	case LABELLED_HEAP_CACHE_CURVE:
		p->from_start = false; /* or it would be the start-up */
		draw_event(d, p, p->kind == LABELLED_HEAP_CACHE ? EVENT_RAMP : EVENT_CURVE);
		break;
	case LABELLED_HEAP_PINNED:
	case LABELLED_HEAP_UNTRIMMED:
		p->gives_back = false; /* after a peak, noise is no matter */
		p->pinned = p->kind == LABELLED_HEAP_PINNED;
		draw_event(d, p, EVENT_PEAK);
		break;
	case LABELLED_HEAP_FREE_GROWS:
		p->gives_back = false;
		p->pinned = true;
		p->iid = fmin(p->iid, 0.01 * p->base);
		p->free_grows = fmax(16 * MIB, p->base * either(d, 0.5, 1.2, 0.4, 2));
		break;
	case LABELLED_HEAP_AR:
		draw_autocorrelation(p, either(d, 0.8, 0.9, 0.7, 0.95));
		break;
	case LABELLED_HEAP_SAWTOOTH:
		draw_teeth(d, p);
		break;
	case LABELLED_HEAP_RSS_WALK:
	case LABELLED_HEAP_WALK:
		p->walk = p->base * either_spread(d, 0.0007, 0.002, 0.0005, 0.003);
		p->walk_outside = p->kind == LABELLED_HEAP_RSS_WALK;
		p->iid = fmin(p->iid, p->walk);
		p->gives_back = true;
		break;
	case LABELLED_HEAP_BURST:
		p->gives_back = true;
		p->walk_every = p->walk_every > 5 ? 5 : p->walk_every;
		draw_event(d, p, EVENT_BURST);
		break;
	case LABELLED_HEAP_STEP:
		draw_event(d, p, EVENT_STEP);
		break;
	default:
		draw_heap_growth(d, p);
		break;
	}
}

static void draw_live_kind(struct draw *d, struct labelled_plan *p)
{
	switch (p->kind) {
	case LABELLED_LIVE_LEAK:
		draw_growth(d, p, 3 * ORACLE_T);
		p->limit_ahead = 0;
		break;
	case LABELLED_LIVE_DROPPED:
		draw_event(d, p, EVENT_PEAK);
		break;
	case LABELLED_LIVE_HELD:
		p->free_grows = fmax(16 * MIB, p->base * either(d, 0.5, 1.2, 0.4, 2));
		break;
	default:
		break;
	}
}

void labelled_plan_draw(struct labelled_plan *ret, enum labelled_kind kind, uint64_t seed, enum labelled_set set)
{
	bool sibling = seed % SERVICE_EVERY == SERVICE_EVERY - 1;
	uint64_t salt = set == LABELLED_JUDGING ? 0x6a09e667f3bcc909ULL : 0xbb67ae8584caa73bULL;
	struct draw d = { ((seed - sibling) * 1000003ULL + (uint64_t)kind) * 0x2545f4914f6cdd1dULL ^ salt,
			  set == LABELLED_JUDGING };
	struct labelled_plan p = { .kind = kind, .walk_every = 1 };

	draw_time(&d, &p);
	draw_common(&d, &p);
	if (kind >= LABELLED_HEAP_LEAK_IID && kind <= LABELLED_HEAP_MAPPINGS)
		draw_heap(&d, &p);
	if (kind >= LABELLED_LIVE_LEAK && kind <= LABELLED_LIVE_HELD)
		draw_live(&d, &p);
	draw_rss_kind(&d, &p);
	draw_growth_kind(&d, &p);
	draw_work_kind(&d, &p);
	if (p.heap)
		draw_heap_kind(&d, &p);
	if (p.live)
		draw_live_kind(&d, &p);
	if (p.limit_ahead <= 0 && chance(&d, 0.5)) /* a limit that nothing is heading for */
		p.limit_ahead = uniform(&d, 0.5, 4);
	p.state = d.state ^ (sibling ? 0x9e3779b97f4a7c15ULL : 0);
	*ret = p;
}
