/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory against work: figures recovered, relations told apart, at the rates that are promised. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "../../src/verdict/verdict-priv.h"
#include "support_series.h"

#define MIB (1024.0 * 1024.0)
#define RUNS 500
#define SEEDS 100

/* One run: what each of 1,000 ticks shows is made by `make`. */
struct ticks {
	uint64_t state;
	double t_s, step_s; /* of this tick */
	double span_s;
	double ar; /* state of the AR(1) */
	double wander, phase;
	double units, cpu_s, bytes, syscalls;
	enum metric metric;
};

static double tick_noise(struct ticks *k, double rho, double sigma)
{
	k->ar = rho * k->ar + sqrt(1 - rho * rho) * random_normal(&k->state);
	return sigma * k->ar;
}

static double poisson(uint64_t *state, double mean)
{
	double limit = exp(-mean), product = random_uniform(state), count = 0;

	if (mean > 30)
		return fmax(0, round(mean + sqrt(mean) * random_normal(state)));
	while (product > limit) {
		product *= random_uniform(state);
		count++;
	}
	return count;
}

/* A rate that changes every tenth of the run between a tenth and twice the mean. */
static double varying_rate(struct ticks *k)
{
	double share = k->t_s / k->span_s;

	if (share >= k->phase) {
		k->phase += 0.1;
		k->wander = 0.1 + 1.9 * random_uniform(&k->state);
	}
	return k->wander;
}

typedef void (*tick_maker)(struct ticks *k, struct sample *s);

static struct work_fit fit_run(tick_maker make, uint64_t seed, size_t ticks, double span_s, enum metric metric)
{
	static struct trend subject;
	struct ticks k = { .state = seed * 7919 + 1, .span_s = span_s, .metric = metric };
	struct verdict_input in = { .work_unit = "request" };
	struct series *series;
	struct work_fit fit;

	ck_assert_int_eq(series_create(&series), 0);
	for (size_t i = 0; i < 50; i++)
		random_uniform(&k.state);
	k.ar = random_normal(&k.state);
	k.step_s = span_s / (double)ticks;
	for (size_t i = 0; i <= ticks; i++) {
		struct sample s;

		k.t_s = k.step_s * (double)i;
		sample_init(&s, k.t_s);
		make(&k, &s);
		ck_assert_int_eq(series_add(series, &s), 0);
	}
	in.series = series;
	in.now_s = span_s;
	subject = (struct trend){ .metric = metric };
	work_measure(&in, &subject, 0, span_s, &fit);
	series_destroy(series);
	return fit;
}

static bool covers(struct interval i, double truth)
{
	return i.low <= truth && truth <= i.high;
}

/* ---- figures --------------------------------------------------------------------------------------------------------- */

#define PER_UNIT 613.0
#define PER_S 20011.0

/* Work in phases, memory by work and by time, noise independent or of AR(1) 0.7 from block to block. */
static void make_both(struct ticks *k, struct sample *s, double rho, double sigma)
{
	k->units += varying_rate(k) * 10;
	s->v[METRIC_WORK] = k->units;
	s->v[METRIC_HEAP_IN_USE] = 3e9 + PER_UNIT * k->units + PER_S * k->t_s + tick_noise(k, rho, sigma);
}

static void make_both_iid(struct ticks *k, struct sample *s)
{
	make_both(k, s, 0, 40000);
}

static void make_both_ar(struct ticks *k, struct sample *s)
{
	make_both(k, s, 0.7, 8000);
}

struct cover {
	size_t told, units, times, fixed, straight;
};

static void count_cover(const struct work_fit *w, struct cover *c)
{
	ck_assert(w->known && w->cooperative);
	c->straight += strcmp(w->model, "linear") == 0;
	if (isnan(w->bytes_per_s.value))
		return;
	c->told++;
	c->units += covers(w->bytes_per_unit, PER_UNIT);
	c->times += covers(w->bytes_per_s, PER_S);
	c->fixed += covers(w->fixed_bytes, 3e9);
}

START_TEST(intervals_hold_the_truth)
{
	struct cover iid = { 0 }, ar = { 0 };

	for (uint64_t seed = 1; seed <= RUNS; seed++) {
		struct work_fit w = fit_run(make_both_iid, seed, 1000, 20, METRIC_HEAP_IN_USE);

		count_cover(&w, &iid);
		/* as many points as blocks: the worst case, each neighbour hangs on the one before */
		w = fit_run(make_both_ar, seed, 119, 20, METRIC_HEAP_IN_USE);
		count_cover(&w, &ar);
	}
	ck_assert_uint_ge(iid.told, RUNS * 95 / 100);
	ck_assert_uint_ge(iid.straight, RUNS * 97 / 100);
	ck_assert_uint_ge(iid.units, iid.told * 93 / 100);
	ck_assert_uint_ge(iid.times, iid.told * 93 / 100);
	ck_assert_uint_ge(iid.fixed, iid.told * 93 / 100);
	ck_assert_uint_le(iid.units, iid.told * 98 / 100);
	ck_assert_uint_le(iid.times, iid.told * 98 / 100);
	ck_assert_uint_ge(ar.told, RUNS * 90 / 100);
	ck_assert_uint_ge(ar.units, ar.told * 88 / 100);
	ck_assert_uint_ge(ar.times, ar.told * 88 / 100);
}
END_TEST

/* ---- a dear first object --------------------------------------------------------------------------------------------- */

#define FIRST_COST 3.6e6
#define NEXT_COST 136.0
#define BEFORE_BYTES 41e6

/* Nothing for a fifth of the run, then one object, then 40 a tick. */
static double first_object(struct ticks *k)
{
	double share = k->t_s / k->span_s;

	if (share > 0.2)
		k->units = k->units == 0 ? 1 : k->units + 40;
	return BEFORE_BYTES + (k->units > 0 ? FIRST_COST + NEXT_COST * (k->units - 1) : 0);
}

static void make_first_heap(struct ticks *k, struct sample *s)
{
	double bytes = first_object(k);

	s->v[METRIC_WORK] = k->units;
	s->v[METRIC_HEAP_IN_USE] = bytes + 500 * random_normal(&k->state);
}

static void make_first_rss(struct ticks *k, struct sample *s)
{
	double bytes = first_object(k);

	s->v[METRIC_WORK] = k->units;
	s->v[METRIC_RSS] = floor(bytes / 4096) * 4096;
}

/* Attached late: the first object lies before the watch. */
static void make_first_missed(struct ticks *k, struct sample *s)
{
	make_first_heap(k, s);
	s->v[METRIC_WORK] = fmax(1, k->units);
	s->v[METRIC_HEAP_IN_USE] += k->units > 0 ? 0 : FIRST_COST;
}

START_TEST(a_first_object_may_be_dear)
{
	static const struct {
		tick_maker make;
		enum metric metric;
		const char *model;
	} cases[] = {
		{ make_first_heap, METRIC_HEAP_IN_USE, "step" },
		{ make_first_rss, METRIC_RSS, "step" },
		{ make_first_missed, METRIC_HEAP_IN_USE, "linear" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		for (uint64_t seed = 1; seed <= 20; seed++)
			for (size_t ticks = 60; ticks <= 1000; ticks += 940) {
				struct work_fit w = fit_run(cases[i].make, seed, ticks, 20, cases[i].metric);

				ck_assert_str_eq(w.model, cases[i].model);
				ck_assert_double_eq_tol(w.bytes_per_unit.value, NEXT_COST, 0.03 * NEXT_COST);
				ck_assert_double_eq_tol(w.fixed_bytes.value - BEFORE_BYTES, FIRST_COST,
							0.03 * FIRST_COST);
				ck_assert_str_eq(w.unit, "request");
				ck_assert_str_eq(w.source, "work_units");
			}
}
END_TEST

/* ---- relations ------------------------------------------------------------------------------------------------------- */

#define RATE 200000.0 /* bytes per s */

static double base(struct ticks *k)
{
	return 200 * MIB + tick_noise(k, 0.5, 20000);
}

static void set_cpu(struct ticks *k, struct sample *s)
{
	s->v[METRIC_CPU] = 3 + floor((k->cpu_s + 0.0037) * 100) / 100;
	s->v[METRIC_SYSCALLS] = 1000 + floor(k->syscalls);
}

/* Nothing is done but what a tick of a timer takes. */
static void make_idle(struct ticks *k, struct sample *s)
{
	k->cpu_s += 0.0005 * k->step_s;
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + RATE * k->t_s;
}

/* One burst in the first tenth, then only the timer. */
static void make_rest(struct ticks *k, struct sample *s)
{
	k->cpu_s += (k->t_s < 0.1 * k->span_s ? 0.9 : 0.0005) * k->step_s;
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + RATE * k->t_s;
}

/* Requests at random, each 1 to 3 ms and a leak. */
static void make_requests(struct ticks *k, struct sample *s)
{
	double n = poisson(&k->state, 40 * k->step_s);

	for (double i = 0; i < n; i++) {
		k->cpu_s += 0.001 + 0.002 * random_uniform(&k->state);
		k->bytes += RATE / 40;
		k->syscalls += 2;
	}
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + k->bytes;
}

static void make_even(struct ticks *k, struct sample *s)
{
	k->cpu_s += 0.004 * k->step_s; /* eight ticks in 20 s */
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + RATE * k->t_s;
}

static void make_explained(struct ticks *k, struct sample *s)
{
	double done = varying_rate(k) * k->step_s;

	k->cpu_s += 0.3 * done;
	k->syscalls += 100 * done;
	k->bytes += RATE * done;
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + k->bytes;
}

static void make_timed(struct ticks *k, struct sample *s)
{
	double done = varying_rate(k) * k->step_s;

	k->cpu_s += 0.3 * done;
	k->syscalls += 100 * done;
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = base(k) + RATE * k->t_s;
}

static void make_mixed(struct ticks *k, struct sample *s)
{
	make_explained(k, s);
	s->v[METRIC_HEAP_IN_USE] += RATE * k->t_s;
}

static void make_units_even(struct ticks *k, struct sample *s)
{
	k->units += 3;
	s->v[METRIC_WORK] = k->units;
	s->v[METRIC_HEAP_IN_USE] = base(k) + 613 * k->units;
}

static void make_units_none(struct ticks *k, struct sample *s)
{
	s->v[METRIC_WORK] = 5;
	s->v[METRIC_HEAP_IN_USE] = base(k) + RATE * k->t_s;
}

static void make_units_timed(struct ticks *k, struct sample *s)
{
	make_timed(k, s);
	s->v[METRIC_WORK] = floor(k->syscalls);
}

/* A walk that rises belongs neither to work nor to time. */
static void make_walk(struct ticks *k, struct sample *s)
{
	k->cpu_s += 0.3 * varying_rate(k) * k->step_s;
	k->bytes += 50000 * random_normal(&k->state);
	set_cpu(k, s);
	s->v[METRIC_HEAP_IN_USE] = 200 * MIB + k->bytes;
}

static const char *const relation_names[] = { "unknown", "idle", "steady", "explains", "time", "mixed" };

/* Shares in percent of SEEDS runs. */
static void count_relations(tick_maker make, double rise, unsigned tally[6])
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct work_fit w = fit_run(make, seed, 400, 20, METRIC_HEAP_IN_USE);

		tally[work_relate(&w, rise, 20)]++;
	}
}

START_TEST(relations_are_told_apart)
{
	static const struct {
		const char *name;
		tick_maker make;
		double rise;
		enum work_relation right;
		unsigned least;
	} cases[] = {
		{ "idle", make_idle, 20 * RATE, WORK_IDLE, 100 },
		{ "rest", make_rest, 20 * RATE, WORK_IDLE, 98 },
		{ "requests", make_requests, 20 * RATE, WORK_STEADY, 98 },
		{ "even", make_even, 20 * RATE, WORK_STEADY, 98 },
		{ "explained", make_explained, 20 * RATE, WORK_EXPLAINS, 85 },
		{ "timed", make_timed, 20 * RATE, WORK_TIME, 85 },
		{ "mixed", make_mixed, 40 * RATE, WORK_MIXED, 60 },
		{ "units even", make_units_even, 1200 * 613, WORK_EXPLAINS, 100 },
		{ "units none", make_units_none, 20 * RATE, WORK_IDLE, 100 },
		{ "units timed", make_units_timed, 20 * RATE, WORK_TIME, 85 },
		{ "walk", make_walk, 2e6, WORK_UNKNOWN, 60 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		unsigned tally[6] = { 0 };

		count_relations(cases[i].make, cases[i].rise, tally);
		ck_assert_msg(tally[cases[i].right] >= cases[i].least, "%s: %s %u", cases[i].name,
			      relation_names[cases[i].right], tally[cases[i].right]);
		if (cases[i].right == WORK_TIME || cases[i].right == WORK_IDLE)
			ck_assert_uint_le(tally[WORK_EXPLAINS], 1);
		if (cases[i].right == WORK_EXPLAINS)
			ck_assert_uint_le(tally[WORK_TIME] + tally[WORK_IDLE], 1);
	}
}
END_TEST

/* ---- exponents ------------------------------------------------------------------------------------------------------- */

static double shape_power(double n)
{
	return n * n;
}

static double shape_nlogn(double n)
{
	return n * log(fmax(n, 1));
}

static double shape_log(double n)
{
	return 30000 * log1p(n);
}

static double shape_root(double n)
{
	return 1000 * sqrt(n);
}

static double shape_none(double n)
{
	(void)n;
	return 0;
}

static double shape_line(double n)
{
	return 136 * n;
}

static double (*const shapes[])(double) = { shape_power, shape_nlogn, shape_log, shape_root, shape_none, shape_line };

static size_t shape_now;

static void make_shape(struct ticks *k, struct sample *s)
{
	double (*shape)(double) = shapes[shape_now];
	double size = shape(2 * k->span_s / k->step_s);

	k->units += 1 + floor(3 * random_uniform(&k->state));
	s->v[METRIC_WORK] = k->units;
	s->v[METRIC_HEAP_IN_USE] =
		90 * MIB + shape(k->units) + (size > 0 ? 0.005 * size : 1000) * random_normal(&k->state);
}

START_TEST(exponents_are_found)
{
	static const struct {
		const char *model, * or ;
		double low, high; /* of the exponent; NaN: unknown */
	} cases[] = {
		{ "quadratic", "power", 2, 2 },       { "linearithmic", "power", 1.08, 1.22 },
		{ "logarithmic", "power", NAN, NAN }, { "power", "power", 0.5, 0.5 },
		{ "constant", "constant", NAN, NAN }, { "linear", "linear", 1, 1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		size_t named = 0, curved = 0, held = 0, ahead2 = 0, ahead10 = 0, near10 = 0;

		shape_now = i;
		for (uint64_t seed = 1; seed <= SEEDS; seed++) {
			struct work_fit w = fit_run(make_shape, seed, 500, 50, METRIC_HEAP_IN_USE);

			named += strcmp(w.model, cases[i].model) == 0 || strcmp(w.model, cases[i].or) == 0;
			held += isnan(cases[i].low) ||
				(w.exponent.low <= cases[i].high && w.exponent.high >= cases[i].low);
			curved += cases[i].low > 1 && w.exponent.low > 1;
			ck_assert_uint_eq(w.prediction_count, 2);
			ck_assert_double_eq(w.predictions[0].units, 2 * w.units_last);
			ck_assert_double_eq(w.predictions[1].units, 10 * w.units_last);
			ahead2 += covers(w.predictions[0].bytes, 90 * MIB + shapes[i](2 * w.units_last));
			ahead10 += covers(w.predictions[1].bytes, 90 * MIB + shapes[i](10 * w.units_last));
			near10 += fabs(w.predictions[1].bytes.value / (90 * MIB + shapes[i](10 * w.units_last)) - 1) <
				  0.25;
		}
		ck_assert(!(cases[i].low > 1) || curved >= 93);
		ck_assert_uint_ge(named, 93);
		ck_assert_uint_ge(held, 88);
		ck_assert_uint_ge(ahead2, 88);
		ck_assert_uint_ge(ahead10, 88);
		ck_assert_msg(near10 >= 88, "%s: %zu", cases[i].model, near10);
	}
}
END_TEST

/* ---- edges ----------------------------------------------------------------------------------------------------------- */

/* Reads as ten times the program's own calls, at random: it must not be preferred to the CPU that fits as well. */
static void make_choice(struct ticks *k, struct sample *s)
{
	double done = varying_rate(k) * k->step_s;

	k->cpu_s += 0.3 * random_uniform(&k->state) * k->step_s;
	k->bytes += RATE * done;
	k->syscalls += 1000 * done;
	set_cpu(k, s);
	s->v[METRIC_READ_CHARS] = 1e6 * k->t_s;
	s->v[METRIC_MINOR_FAULTS] = k->bytes / 4096;
	s->v[METRIC_HEAP_IN_USE] = base(k) + k->bytes;
}

START_TEST(the_counter_that_goes_with_the_memory_is_chosen)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct work_fit w = fit_run(make_choice, seed, 400, 20, METRIC_HEAP_IN_USE);

		ck_assert_str_eq(w.source, "syscalls");
		ck_assert(!w.cooperative && w.prediction_count == 0);
		w = fit_run(make_explained, seed, 400, 20, METRIC_HEAP_IN_USE);
		ck_assert_str_eq(w.source, "cpu_s");
		ck_assert_str_eq(w.unit, "CPU second");
	}
}
END_TEST

/* Eight ticks of the CPU in 20 s look like bursts where they are not taken for rounding. */
START_TEST(cpu_ticks_are_no_variation)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct work_fit w = fit_run(make_even, seed, 400, 20, METRIC_HEAP_IN_USE);

		ck_assert_double_lt(w.rate_variation, 0.25);
		ck_assert_double_lt(w.idle_share, 0.3);
		ck_assert(isnan(w.bytes_per_s.value));
		w = fit_run(make_rest, seed, 400, 20, METRIC_HEAP_IN_USE);
		ck_assert_double_gt(w.rate_variation, 1);
		ck_assert_double_ge(w.idle_share, 0.85);
	}
}
END_TEST

static void make_nothing(struct ticks *k, struct sample *s)
{
	s->v[METRIC_HEAP_IN_USE] = base(k);
}

static void make_late(struct ticks *k, struct sample *s)
{
	s->v[METRIC_HEAP_IN_USE] = base(k);
	if (k->t_s > 0.7 * k->span_s)
		s->v[METRIC_WORK] = s->v[METRIC_CPU] = k->t_s;
}

static void make_reset(struct ticks *k, struct sample *s)
{
	k->units += 1;
	s->v[METRIC_WORK] = k->units > 200 ? k->units - 200 : k->units;
	s->v[METRIC_HEAP_IN_USE] = base(k) + 5000 * k->units;
}

static void make_huge(struct ticks *k, struct sample *s)
{
	double v = k->t_s > 10 ? 1e300 : -1e300;

	s->v[METRIC_WORK] = v;
	s->v[METRIC_CPU] = -v;
	s->v[METRIC_HEAP_IN_USE] = random_uniform(&k->state) > 0.5 ? v : 1 / v;
}

static void make_flat(struct ticks *k, struct sample *s)
{
	s->v[METRIC_WORK] = s->v[METRIC_CPU] = k->t_s;
	s->v[METRIC_HEAP_IN_USE] = 1e9;
}

START_TEST(what_cannot_be_known_is_not_said)
{
	struct work_fit w = fit_run(make_nothing, 1, 100, 10, METRIC_HEAP_IN_USE);

	ck_assert(!w.known && isnan(w.rate_variation) && isnan(w.bytes_per_unit.value));
	ck_assert_int_eq(work_relate(&w, 1e6, 10), WORK_UNKNOWN);
	w = fit_run(make_late, 1, 100, 10, METRIC_HEAP_IN_USE);
	ck_assert(!w.known);
	w = fit_run(make_nothing, 1, 3, 10, METRIC_HEAP_IN_USE);
	ck_assert(!w.known);
	w = fit_run(make_nothing, 1, 100, 10, METRIC_RSS);
	ck_assert(!w.known);
	w = fit_run(make_units_none, 1, 100, 10, METRIC_HEAP_IN_USE);
	ck_assert(w.known && w.cooperative && isnan(w.bytes_per_unit.value) && isnan(w.fixed_bytes.value));
	ck_assert_double_eq(w.rate_variation, 0);
	ck_assert_double_eq(w.idle_share, 1);
	ck_assert(covers(w.bytes_per_s, RATE));
	/* a recording that spans a restart of the counter */
	w = fit_run(make_reset, 1, 400, 20, METRIC_HEAP_IN_USE);
	ck_assert(w.known);
	ck_assert_double_eq_tol(w.bytes_per_unit.value, 5000, 100);
	ck_assert_double_eq(w.units_last, 401);
	w = fit_run(make_flat, 1, 400, 20, METRIC_HEAP_IN_USE);
	ck_assert(w.known);
	ck_assert_str_eq(w.model, "constant");
	ck_assert_int_eq(work_relate(&w, 0, 20), WORK_UNKNOWN);
	fit_run(make_huge, 1, 400, 20, METRIC_HEAP_IN_USE); /* no crash, no trap */
	for (size_t ticks = 4; ticks < 40; ticks++)
		fit_run(make_explained, ticks, ticks, 20, METRIC_HEAP_IN_USE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("work");
	TCase *tc = tcase_create("work");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, intervals_hold_the_truth);
	tcase_add_test(tc, a_first_object_may_be_dear);
	tcase_add_test(tc, relations_are_told_apart);
	tcase_add_test(tc, exponents_are_found);
	tcase_add_test(tc, the_counter_that_goes_with_the_memory_is_chosen);
	tcase_add_test(tc, cpu_ticks_are_no_variation);
	tcase_add_test(tc, what_cannot_be_known_is_not_said);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
