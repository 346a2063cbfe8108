/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How soon a leak is called, and what a verdict costs. */
#include <math.h>
#include <stdlib.h>
#include <time.h>

#include "verdicts.h"

#define MIB (1024.0 * 1024.0)
#define DELAY_SEEDS 50
#define DELAY_SLOW_S 300
#define DELAY_FAST_S 30
#define SURE_FALSE_MAX 0.005
#define RUNS 10000
#define RUN_SAMPLES 1000
#define PREPARED 40 /* different series; more would only cost memory */
#define DAY_SAMPLES 864000
#define DAY_VERDICTS 400

/* ---- delay ---------------------------------------------------------------------------------------------------------- */

struct delay_case {
	const char *name;
	double per_minute;     /* of RSS */
	double tooth, tooth_s; /* share of the base, seconds */
	double iid;            /* share of the base */
	bool heap, cpu;
	double every_s, until_s; /* a verdict each so many seconds */
};

static const struct delay_case delay_cases[] = {
	{ "1 %/min, teeth of 5 s, RSS", 0.01, 0.2, 5, 0.002, false, false, 10, 360 },
	{ "1 %/min, teeth of 10 s, RSS", 0.01, 0.2, 10, 0.002, false, false, 10, 360 },
	{ "1 %/min, teeth of 20 s, RSS", 0.01, 0.2, 20, 0.002, false, false, 10, 360 },
	{ "1 %/min, teeth of 30 s, RSS", 0.01, 0.2, 30, 0.002, false, false, 10, 360 },
	{ "1 %/min, teeth of 5 s, in use", 0.01, 0.2, 5, 0.002, true, false, 10, 360 },
	{ "1 %/min, teeth of 10 s, in use", 0.01, 0.2, 10, 0.002, true, false, 10, 360 },
	{ "1 %/min, teeth of 20 s, in use", 0.01, 0.2, 20, 0.002, true, false, 10, 360 },
	{ "1 %/min, teeth of 30 s, in use", 0.01, 0.2, 30, 0.002, true, false, 10, 360 },
	{ "10 %/min, noise 0.3 %, in use", 0.1, 0, 0, 0.003, true, false, 2, 60 },
	{ "10 %/min, noise 0.3 %, CPU", 0.1, 0, 0, 0.003, false, true, 2, 60 },
	{ "10 %/min, teeth 5 %, in use", 0.1, 0.05, 3, 0.001, true, false, 2, 60 },
	{ "10 %/min, teeth 5 %, CPU", 0.1, 0.05, 3, 0.001, false, true, 2, 60 },
};

static struct labelled_plan delay_plan(const struct delay_case *c, uint64_t seed, enum labelled_set set, bool leaks)
{
	bool judging = set == LABELLED_JUDGING;
	uint64_t mixed = (seed * 2 + judging) * 0x9e3779b97f4a7c15ULL ^ 0x510e527fade682d1ULL;
	double place = (double)(mixed >> 11) / 9007199254740992.0;
	double base = MIB * (judging ? 50 * pow(20, place) : 100 * pow(4, place));
	struct labelled_plan p = {
		.state = mixed,
		.points = 1 << 20, /* until_s ends it */
		.step_s = 0.2,
		.span_s = c->until_s,
		.base = base,
		.other = 0.1 * base,
		.iid = c->iid * base,
		.quantum = 4096,
		.tooth = c->tooth * base,
		.tooth_s = c->tooth_s,
		.tooth_jitter = 0.1,
		.heap = c->heap,
		.walk_every = 5,
		.gives_back = true,
		.recorded = !c->heap,
		.cpu = c->cpu,
		.work = c->cpu ? LOAD_STEADY : LOAD_NONE,
		.busy = 0.5,
		.rate = leaks ? c->per_minute / 60 * 1.1 * base : 0,
	};

	return p;
}

struct called {                       /* first; infinite: never */
	double leak_s, any_s, sure_s; /* leak; leak or growth; leak at confidence 0.9 or more */
};

/* Without a leak to the end, for a call may come late; with one until it is called. */
static struct called run_delay(const struct delay_case *c, uint64_t seed, enum labelled_set set, bool leaks)
{
	struct called ret = { INFINITY, INFINITY, INFINITY };
	struct labelled_plan p = delay_plan(c, seed, set, leaks);
	struct labelled l;

	labelled_open(&l, &p);
	for (double t = c->every_s; t <= c->until_s + 0.01 && !(leaks && isfinite(ret.leak_s)); t += c->every_s) {
		struct arena arena;
		struct verdict v;

		labelled_feed(&l, t);
		arena_init(&arena, 16384, 0);
		if (verdict_judge(&l.input, &arena, &v) < 0)
			abort();
		if (v.class == VERDICT_LEAK)
			ret.leak_s = fmin(ret.leak_s, t);
		if (v.class == VERDICT_LEAK && v.confidence >= 0.9)
			ret.sure_s = fmin(ret.sure_s, t);
		if (v.class == VERDICT_LEAK || v.class == VERDICT_GROWTH)
			ret.any_s = fmin(ret.any_s, t);
		arena_deinit(&arena);
	}
	labelled_free(&l);
	return ret;
}

static void print_delays(double *s)
{
	double p50 = percentile(s, DELAY_SEEDS, 0.5), p90 = percentile(s, DELAY_SEEDS, 0.9);

	printf("  %5.0f %5.0f %5.0f", p50, p90, s[DELAY_SEEDS - 1]);
}

struct delay_sum {
	double slow_s, fast_s; /* the worst p90 of the leaks of 1 and 10 % a minute */
	size_t free_runs, sure;
};

static void report_case(const struct delay_case *c, enum labelled_set set, struct delay_sum *sum)
{
	double leak[DELAY_SEEDS], any[DELAY_SEEDS], p90, *worst = c->until_s > 60 ? &sum->slow_s : &sum->fast_s;
	size_t false_leaks = 0, false_any = 0, sure = 0;

	for (size_t i = 0; i < DELAY_SEEDS; i++) {
		struct called with = run_delay(c, i + 1, set, true), without = run_delay(c, i + 1, set, false);

		leak[i] = with.leak_s;
		any[i] = with.any_s;
		false_leaks += isfinite(without.leak_s) != 0;
		false_any += isfinite(without.any_s) != 0;
		sure += isfinite(without.sure_s) != 0;
	}
	p90 = percentile(leak, DELAY_SEEDS, 0.9);
	*worst = fmax(*worst, p90);
	sum->free_runs += DELAY_SEEDS;
	sum->sure += sure;
	printf("%-32s", c->name);
	print_delays(leak);
	print_delays(any);
	printf("  %4zu %4zu %4zu\n", sure, false_leaks, false_any);
}

void report_delay(enum labelled_set set, struct bounds *b)
{
	struct delay_sum sum = { 0 };

	printf("\n5. Delay in seconds (inf: not called); of %d runs without a leak, those in which one was called at "
	       "any "
	       "time\n\n",
	       DELAY_SEEDS);
	printf("%-32s  %-17s  %-17s  %s\n%-32s", "", "leak", "leak or growth", "false: sure, leak, any", "");
	printf("  %5s %5s %5s  %5s %5s %5s\n", "p50", "p90", "max", "p50", "p90", "max");
	for (size_t i = 0; i < sizeof(delay_cases) / sizeof(*delay_cases); i++)
		report_case(&delay_cases[i], set, &sum);
	bound_at_most(b, "worst p90 until a leak of 1 %/min is called, s", sum.slow_s, DELAY_SLOW_S);
	bound_at_most(b, "worst p90 until a leak of 10 %/min is called, s", sum.fast_s, DELAY_FAST_S);
	bound_at_most(b, "runs without a leak that were surely called one, of all verdicts made while watching",
		      (double)sum.sure / (double)sum.free_runs, SURE_FALSE_MAX);
}

/* ---- speed ---------------------------------------------------------------------------------------------------------- */

static double cpu_s(void) /* of this thread: other programs on the machine are no concern */
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void judge_once(const struct verdict_input *input)
{
	struct arena arena;
	struct verdict v;

	arena_init(&arena, 16384, 0);
	if (verdict_judge(input, &arena, &v) < 0)
		abort();
	arena_deinit(&arena);
}

/* RSS of different labelled runs, RUN_SAMPLES each. */
static struct sample *prepare(enum labelled_set set)
{
	struct sample *samples = calloc(PREPARED * RUN_SAMPLES, sizeof(*samples));

	if (!samples)
		abort();
	for (size_t i = 0; i < PREPARED; i++) {
		struct labelled_plan p;
		struct labelled l;
		struct point *points;
		size_t n;

		labelled_plan_draw(&p, (enum labelled_kind)(i % LABELLED_WORK_STEADY_LEAK), i + 1, set);
		p.points = RUN_SAMPLES;
		p.drop = p.gap_width = 0;
		labelled_open(&l, &p);
		labelled_feed(&l, p.step_s * ((double)RUN_SAMPLES - 0.4));
		n = labelled_points(&l, &points);
		for (size_t k = 0; k < RUN_SAMPLES; k++) {
			sample_init(&samples[i * RUN_SAMPLES + k], (double)k);
			samples[i * RUN_SAMPLES + k].v[METRIC_RSS] = points[k < n ? k : n - 1].v;
		}
		free(points);
		labelled_free(&l);
	}
	return samples;
}

static void report_many(enum labelled_set set, struct bounds *b)
{
	struct sample *samples = prepare(set);
	double begin = cpu_s(), adding = 0, took;

	for (size_t i = 0; i < RUNS; i++) {
		const struct sample *from = samples + (i % PREPARED) * RUN_SAMPLES;
		double before = cpu_s();
		struct series *s;

		if (series_create(&s) < 0)
			abort();
		for (size_t k = 0; k < RUN_SAMPLES; k++)
			if (series_add(s, &from[k]) < 0)
				abort();
		adding += cpu_s() - before;
		judge_once(&(struct verdict_input){ .series = s, .now_s = RUN_SAMPLES - 1, .recorded = true });
		series_destroy(s);
	}
	took = cpu_s() - begin;
	printf("\n6. Speed\n\n%d series of %d points: %.2f s; each %.0f us to add and %.0f us to judge\n", RUNS,
	       RUN_SAMPLES, took, 1e6 * adding / RUNS, 1e6 * (took - adding) / RUNS);
	bound_at_most(b, "CPU seconds for all of them", took, 10);
	free(samples);
}

static void report_day(struct bounds *b)
{
	static double took[DAY_VERDICTS];
	struct labelled_plan p = { .state = 7,
				   .points = DAY_SAMPLES,
				   .step_s = 0.1,
				   .span_s = 86400,
				   .base = 200 * MIB,
				   .other = 20 * MIB,
				   .iid = MIB,
				   .ar = MIB,
				   .phi = 0.9,
				   .quantum = 4096,
				   .heap = true,
				   .walk_every = 10,
				   .rate = 1000,
				   .tooth = 20 * MIB,
				   .tooth_s = 60,
				   .cpu = true,
				   .work = LOAD_BURSTS,
				   .work_phase_s = 7200,
				   .busy = 0.5 };
	struct labelled l;
	double p99;

	labelled_open(&l, &p);
	labelled_feed(&l, p.span_s);
	for (size_t i = 0; i < DAY_VERDICTS; i++) {
		double begin = cpu_s();

		judge_once(&l.input);
		took[i] = 1e3 * (cpu_s() - begin);
	}
	p99 = percentile(took, DAY_VERDICTS, 0.99);
	printf("verdict on a day at 10 Hz with walks and CPU: best %.3f ms, median %.3f ms, p99 %.3f ms\n", took[0],
	       percentile(took, DAY_VERDICTS, 0.5), p99);
	bound_at_most(b, "p99 of a live verdict, ms", p99, 1);
	labelled_free(&l);
}

void report_speed(enum labelled_set set, struct bounds *b)
{
	report_many(set, b);
	report_day(b);
}
