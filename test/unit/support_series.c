/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_series.h"

#include <math.h>
#include <stdlib.h>

#define MIB (1024.0 * 1024.0)
#define PAGE 4096.0
#define TAU 6.283185307179586

#define ONLY(c) (1ULL << VERDICT_##c)

const struct run_label run_labels[RUN_KIND_COUNT] = {
	[RUN_LEAK_CHURN] = { "leak under churn", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, WHERE_HEAP },
	[RUN_LEAK_SAWTOOTH] = { "leak below a sawtooth", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, WHERE_HEAP },
	[RUN_LEAK_LATE] = { "leak that begins late", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, WHERE_HEAP },
	[RUN_LEAK_LIVE] = { "leak of live objects", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, WHERE_RUNTIME },
	[RUN_CACHE_LINEAR] = { "cache that fills", ONLY(WARMUP), KIND_NONE, CAUSE_NONE, WHERE_HEAP },
	[RUN_CACHE_CURVE] = { "cache that saturates", ONLY(WARMUP), KIND_NONE, CAUSE_NONE, WHERE_HEAP },
	[RUN_PEAK_PINNED] = { "peak, pinned", ONLY(RETENTION), KIND_NONE, CAUSE_FRAGMENTATION, WHERE_HEAP },
	[RUN_PEAK_TOP] = { "peak, untrimmed", ONLY(RETENTION), KIND_NONE, CAUSE_ALLOCATOR, WHERE_HEAP },
	[RUN_HELD_BEFORE] = { "held from before", ONLY(RETENTION), KIND_NONE, CAUSE_FRAGMENTATION, WHERE_HEAP },
	[RUN_FREE_GROWS] = { "free memory grows", ONLY(RETENTION), KIND_NONE, CAUSE_FRAGMENTATION, WHERE_HEAP },
	[RUN_GC_HOLDS] = { "runtime holds", ONLY(RETENTION), KIND_NONE, CAUSE_GC, WHERE_RUNTIME },
	[RUN_CHURN] = { "churn", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_AR1] = { "autocorrelated", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	/* whatever a walk looks like; that it is never surely a leak has a test of its own */
	[RUN_WALK] = { "random walk", ~0ULL, KIND_NONE, CAUSE_NONE, -1 },
	[RUN_FALLING] = { "falling", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_SPIKE] = { "burst", ONLY(SPIKE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_STEP] = { "step", ONLY(STEP), KIND_NONE, CAUSE_NONE, WHERE_HEAP },
	[RUN_STARTUP] = { "start-up", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_RUNTIME_IDLE] = { "idle runtime", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_RUNTIME_SAWTOOTH] = { "collected garbage", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_RUNTIME_GROWS] = { "runtime grows", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_RUNTIME },
	[RUN_DOUBLING] = { "vector", ONLY(GROWTH) | ONLY(STEP) | ONLY(STABLE) | ONLY(WARMUP), KIND_NONE, CAUSE_NONE,
			   -1 },
	[RUN_NO_TRUTH] = { "leak, heap unread", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_ANON },
	[RUN_MMAP] = { "mappings", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_ANON },
	[RUN_FILE] = { "mapped file", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_FILE },
	[RUN_SHMEM] = { "shared memory", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_SHMEM },
	[RUN_STACKS] = { "thread stacks", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_STACK },
	[RUN_HEAP_MINOR] = { "heap is minor", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, WHERE_ANON },
	[RUN_SHORT] = { "short", ONLY(INSUFFICIENT_DATA), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_UNITS] = { "units of work", ONLY(SCALING), KIND_NONE, CAUSE_NONE, WHERE_HEAP },
	[RUN_UNITS_TRANSIENT] = { "leak per unit", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, WHERE_HEAP },
	[RUN_IDLE_LEAK] = { "leak at idle", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, -1 },
	[RUN_LOADED] = { "grows with the load", ONLY(SCALING), KIND_NONE, CAUSE_NONE, -1 },
	[RUN_TIMED] = { "grows with time", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, -1 },
	[RUN_TEETH] = { "troughs that rise", ONLY(LEAK), KIND_SUSPECTED, CAUSE_NONE, -1 },
	[RUN_STAIRS] = { "equal steps", ONLY(GROWTH), KIND_NONE, CAUSE_NONE, -1 },
	[RUN_WAVES] = { "days and nights", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_SLOWER] = { "slower cycles", ONLY(STABLE), KIND_NONE, CAUSE_NONE, WHERE_NONE },
	[RUN_FEW] = { "few samples", ONLY(INSUFFICIENT_DATA), KIND_NONE, CAUSE_NONE, WHERE_NONE },
};

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

double random_uniform(uint64_t *state)
{
	return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

double random_normal(uint64_t *state)
{
	double u = 1 - random_uniform(state);

	return sqrt(-2 * log(u)) * cos(TAU * random_uniform(state));
}

static double between(uint64_t *state, double low, double high)
{
	return low + (high - low) * random_uniform(state);
}

/* What a run is made of, chosen once. */
struct plan {
	uint64_t state;
	double seconds, base, other; /* bytes of the heap, of the rest */
	double rate, size;           /* growth; height of what comes once */
	double at, width;            /* when, in shares of the run */
	double noise, period_s, wander, walk_step;
	double tooth; /* height of a sawtooth */
};

/* The parts of RSS at a moment. */
struct parts {
	double in_use, free_inside, anon, file, shmem, stack, live;
};

static double ramp(double t, double from, double to)
{
	return fmin(1, fmax(0, (t - from) / (to - from)));
}

static void plan_make(struct plan *p, enum run_kind kind, uint64_t seed, double seconds)
{
	p->state = seed * 1000003ULL + (uint64_t)kind;
	p->seconds = seconds > 0 ? seconds : between(&p->state, 10, 30);
	if (seconds <= 0 && kind == RUN_SHORT)
		p->seconds = between(&p->state, 0.3, 2.9);
	p->base = 10 * MIB * pow(50, random_uniform(&p->state));
	p->other = between(&p->state, 2, 20) * MIB;
	/* a leak must come out of its churn while it is watched: 4 % of the level at least, beyond 1.5 MiB */
	p->rate = 0.1 * MIB * pow(100, random_uniform(&p->state));
	p->rate = fmax(p->rate, fmax(0.04 * p->base, 1.5 * MIB) / p->seconds);
	p->size = p->base * between(&p->state, 0.5, 2) + 16 * MIB;
	p->at = between(&p->state, 0.3, 0.6);
	p->width = between(&p->state, 0.05, 0.25);
	p->noise = p->base * 0.01;
	p->period_s = p->seconds / between(&p->state, 8, 25);
	p->tooth = p->base * between(&p->state, 0.1, 0.5);
	if (kind == RUN_LEAK_SAWTOOTH)
		p->tooth = fmin(p->tooth, 2 * p->rate * p->seconds);
	p->walk_step = p->base * 0.01;
	if (kind ==
	    RUN_TEETH) { /* a tooth of few samples is noise, and one that is small in all the growth says little */
		p->period_s = fmax(p->period_s, 1.5);
		p->tooth = fmax(p->tooth, 0.5 * p->rate * p->seconds);
	}
}

static double burst(const struct plan *p, double t)
{
	double x = t / p->seconds;

	return x >= p->at && x < p->at + p->width ? p->size : 0;
}

/* Rises over the first third, is held, then freed. */
static double peak(const struct plan *p, double t)
{
	double x = t / p->seconds;

	return p->size * ramp(x, 0.05, 0.3) * (x < p->at + 0.1 ? 1 : 0);
}

static bool is_recorded(enum run_kind kind)
{
	return kind >= RUN_IDLE_LEAK && kind <= RUN_WAVES;
}

/* Work of a run, in shares of all of it: bursts and pauses. */
static double work_done(double x)
{
	const double bursts[][2] = { { 0.02, 0.1 }, { 0.2, 0.22 }, { 0.3, 0.5 }, { 0.62, 0.7 }, { 0.82, 0.97 } };
	double done = 0, all = 0;

	for (size_t i = 0; i < sizeof(bursts) / sizeof(*bursts); i++) {
		done += fmin(fmax(x - bursts[i][0], 0), bursts[i][1] - bursts[i][0]);
		all += bursts[i][1] - bursts[i][0];
	}
	return done / all;
}

#define UNITS 4000
#define UNIT_BYTES 4096
#define FIRST_UNIT_BYTES 3.6e6

static double units_done(enum run_kind kind, double x)
{
	/* the k-th cycle takes 1 + 13 k / n times as long as the first */
	if (kind == RUN_SLOWER)
		return floor(UNITS * (sqrt(1 + 195 * x) - 1) / 13);
	return floor(UNITS * work_done(x));
}

static double heap_level(struct plan *p, enum run_kind kind, double t)
{
	double x = t / p->seconds, tooth = p->tooth * fmod(t / p->period_s, 1);

	switch (kind) {
	case RUN_LEAK_CHURN:
		return p->base + p->rate * t;
	case RUN_LEAK_SAWTOOTH:
		return p->base + p->rate * t + tooth;
	case RUN_LEAK_LATE:
		return p->base + 2 * p->rate * fmax(0, t - 0.4 * p->seconds);
	case RUN_CACHE_LINEAR:
		return p->base + p->size * ramp(x, 0, p->at);
	case RUN_CACHE_CURVE:
		return p->base + p->size * -expm1(-x / (p->width * 0.8));
	case RUN_PEAK_PINNED:
	case RUN_PEAK_TOP:
		return p->base / 4 + peak(p, t);
	case RUN_SPIKE:
		return p->base + burst(p, t);
	case RUN_STEP:
		return p->base + (x > p->at ? p->size : 0);
	case RUN_STARTUP:
		return p->size * ramp(x, 0, 0.08);
	case RUN_FALLING:
		return p->base * (1.5 - 0.5 * x);
	case RUN_DOUBLING:
		return p->base + MIB * pow(2, floor(log2(1 + 255 * x)));
	case RUN_HEAP_MINOR:
		return p->base + 0.1 * p->rate * t;
	case RUN_UNITS:
	case RUN_UNITS_TRANSIENT:
		return p->base + UNIT_BYTES * units_done(kind, x) + (units_done(kind, x) > 0 ? FIRST_UNIT_BYTES : 0);
	case RUN_LOADED:
		return p->base + 2 * p->rate * p->seconds * work_done(x);
	case RUN_IDLE_LEAK:
	case RUN_TIMED:
		return p->base + 2 * p->rate * t;
	case RUN_TEETH:
		return p->base + p->rate * t + p->tooth * fmod(t / p->period_s, 1);
	case RUN_STAIRS:
		return p->base + 0.2 * p->base * floor(x * 9);
	case RUN_WAVES:
		return p->base * (1 + 0.2 * sin(TAU * (2 * x + p->at)));
	default:
		return p->base;
	}
}

static double noise_at(struct plan *p, enum run_kind kind)
{
	double n = p->noise * random_normal(&p->state);

	if (kind == RUN_CHURN)
		return p->base * 0.05 * (2 * random_uniform(&p->state) - 1);
	if (kind == RUN_AR1)
		return p->wander = 0.9 * p->wander + 2 * n;
	if (kind == RUN_WALK)
		return p->wander += p->walk_step * random_normal(&p->state);
	return kind == RUN_LEAK_CHURN ? n : n / 10;
}

static void parts_at(struct plan *p, enum run_kind kind, double t, struct parts *ret)
{
	struct parts q = { .anon = p->other / 2, .file = p->other / 2, .stack = 0.2 * MIB };
	double grown = fmax(p->rate, 0.3 * MIB) * t;

	q.in_use = fmax(heap_level(p, kind, t) + noise_at(p, kind), PAGE); /* a walk may reach the floor */
	q.free_inside = 0.06 * p->base + fmax(0, 0.06 * p->base - (q.in_use - heap_level(p, kind, t)));
	if (kind == RUN_PEAK_PINNED || kind == RUN_PEAK_TOP)
		q.free_inside += fmax(0, p->size * ramp(t / p->seconds, 0.05, 0.3) - peak(p, t));
	if (kind == RUN_HELD_BEFORE)
		q.free_inside = 2 * p->base;
	if (kind == RUN_FREE_GROWS)
		q.free_inside = 0.1 * p->base + (0.4 * p->base + 10 * MIB) * t / p->seconds;
	/* what a tooth gives back stays in the allocator */
	if (kind == RUN_LEAK_SAWTOOTH)
		q.free_inside += p->tooth * (1 - fmod(t / p->period_s, 1));
	q.live = q.in_use;
	if (kind == RUN_LEAK_LIVE)
		q.live += p->rate * t;
	if (kind == RUN_GC_HOLDS)
		q.live = p->base * 0.3 + p->size * (t / p->seconds < p->at ? 1 : 0);
	q.anon += kind == RUN_GC_HOLDS ? p->size : 0;
	q.anon += kind == RUN_LEAK_LIVE || kind == RUN_RUNTIME_GROWS ? fmax(grown, p->base * 0.1 * t / p->seconds) : 0;
	q.anon += kind == RUN_RUNTIME_SAWTOOTH ? p->tooth * fmod(t / p->period_s, 1) : 0;
	if (kind == RUN_MMAP || kind == RUN_HEAP_MINOR)
		q.anon += grown + 0.05 * p->base * t / p->seconds;
	grown += 0.05 * p->base * t / p->seconds;
	q.file += kind == RUN_FILE ? grown : 0;
	q.shmem += kind == RUN_SHMEM ? grown : 0;
	q.stack += kind == RUN_STACKS ? grown : 0;
	if (kind == RUN_NO_TRUTH)
		q.in_use += grown;
	*ret = q;
}

static bool has_runtime(enum run_kind kind)
{
	return kind == RUN_LEAK_LIVE || kind == RUN_GC_HOLDS || kind == RUN_RUNTIME_IDLE ||
	       kind == RUN_RUNTIME_SAWTOOTH || kind == RUN_RUNTIME_GROWS;
}

static bool has_walks(enum run_kind kind)
{
	return !has_runtime(kind) && kind != RUN_NO_TRUTH && !is_recorded(kind);
}

static void add_work(const struct run *r, const struct plan *p, struct sample *s)
{
	double x = s->t_s / p->seconds;

	if (r->kind == RUN_UNITS || r->kind == RUN_UNITS_TRANSIENT || r->kind == RUN_SLOWER)
		s->v[METRIC_WORK] = units_done(r->kind, x);
	if (r->kind == RUN_LOADED || r->kind == RUN_TIMED)
		s->v[METRIC_CPU] = 100 + p->seconds / 2 * work_done(x);
	if (r->kind == RUN_IDLE_LEAK)
		s->v[METRIC_CPU] = 100;
}

static void add_sample(struct run *r, struct plan *p, double t, bool walk)
{
	struct sample s;
	struct parts q;

	sample_init(&s, t);
	parts_at(p, r->kind, t, &q);
	s.v[METRIC_FILE] = q.file;
	s.v[METRIC_SHMEM] = q.shmem;
	s.v[METRIC_RSS] = floor((q.in_use + q.free_inside + q.anon + q.file + q.shmem + q.stack) / PAGE +
				random_normal(&p->state) * 8) *
			  PAGE;
	if (walk && r->kind == RUN_STACKS)
		s.v[METRIC_STACK] = q.stack;
	if (walk && has_walks(r->kind)) {
		s.v[METRIC_HEAP_IN_USE] = q.in_use;
		s.v[METRIC_HEAP_FREE] = q.free_inside;
		s.v[METRIC_HEAP_MAPPED] = q.in_use + q.free_inside;
		s.v[METRIC_HEAP_BLOCKS] = floor(q.in_use / 96);
		r->heap.in_use_bytes = (uint64_t)q.in_use;
		r->heap.free_bytes = (uint64_t)q.free_inside;
		r->heap.mapped_bytes = (uint64_t)(q.in_use + q.free_inside);
	}
	if (walk && (r->kind == RUN_LEAK_LIVE || r->kind == RUN_GC_HOLDS))
		s.v[METRIC_RUNTIME_LIVE] = q.live;
	add_work(r, p, &s);
	if (series_add(r->series, &s) < 0)
		abort();
	r->input.now_s = t;
}

static void finish_input(struct run *r)
{
	bool pinned = r->kind == RUN_PEAK_PINNED || r->kind == RUN_HELD_BEFORE || r->kind == RUN_FREE_GROWS;

	r->heap.free_resident_bytes = r->heap.free_bytes;
	r->heap.trimmable_bytes = (uint64_t)((double)r->heap.free_bytes * (pinned ? 0.1 : 0.95));
	r->heap.pinned_bytes = r->heap.free_bytes - r->heap.trimmable_bytes;
	r->heap.in_use_blocks = r->heap.in_use_bytes / 96;
	r->heap.free_blocks = r->heap.free_bytes / 4096;
	r->limit = (struct verdict_limit){ 4ULL << 30, "cgroup", 1e9 };
	r->input.series = r->series;
	r->input.heap = has_walks(r->kind) ? &r->heap : NULL;
	r->input.runtime = has_runtime(r->kind) ? "java" : NULL;
	r->input.from_start = r->kind == RUN_STARTUP;
	r->input.limits = &r->limit;
	r->input.limit_count = 1;
	r->input.rss_noise_bytes = 64 * 1024;
	r->input.recorded = is_recorded(r->kind);
	r->input.transient = r->kind == RUN_UNITS_TRANSIENT;
	r->input.work_unit = "request";
	if (r->kind == RUN_LEAK_CHURN) {
		r->class = (struct heap_size_class){ .size = 144,
						     .tracked_blocks = 32,
						     .freed_blocks = 0,
						     .leak_probability = 1 - 1.0 / 34,
						     .growth_per_s = r->rate,
						     .age_s = 5 };
		r->heap.classes = &r->class;
		r->heap.class_count = 1;
		r->input.hot_class_size = 144;
	}
}

void run_make(struct run *r, enum run_kind kind, uint64_t seed, double seconds)
{
	struct plan p = { 0 };
	double walk_every_s, next_walk_s = 0;

	*r = (struct run){ .kind = kind };
	plan_make(&p, kind, seed, seconds);
	walk_every_s = fmin(0.2 * pow(10, random_uniform(&p.state)), p.seconds / 12);
	if (kind == RUN_LEAK_SAWTOOTH) /* a tooth that the walks do not resolve is noise */
		walk_every_s = fmin(walk_every_s, p.period_s / 4);
	r->rate = p.rate;
	if (series_create(&r->series) < 0)
		abort();
	for (double t = 0; t <= p.seconds;) {
		bool walk = t >= next_walk_s;

		add_sample(r, &p, t, walk);
		if (walk)
			next_walk_s = t + walk_every_s;
		if (kind == RUN_FEW)
			t += p.seconds / 15;
		else
			t += t < 1 ? fmin(0.1, fmax(0.001, t * 0.3)) : 0.1;
	}
	finish_input(r);
}

void run_free(struct run *r)
{
	series_destroy(r->series);
	r->series = NULL;
}

bool run_right(const struct run *r, const struct verdict *v)
{
	const struct run_label *l = &run_labels[r->kind];

	if (!verdict_in_set(v, l->classes))
		return false;
	if (r->kind == RUN_WALK || r->kind == RUN_DOUBLING)
		return true;
	return v->kind == l->kind && v->cause == l->cause && (l->where < 0 || v->where == (enum verdict_where)l->where);
}
