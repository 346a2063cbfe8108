/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cycles: found in courses that have them and in no others; their growth and their slowing down. */
#include <check.h>
#include <math.h>

#include "../../src/verdict/verdict-priv.h"
#include "support_series.h"

#define MIB (1024.0 * 1024.0)
#define SEEDS 100
#define MAX_POINTS 2000

/* ---- courses --------------------------------------------------------------------------------------------------------- */

enum course {
	/* without cycles */
	WHITE,
	AR_HALF,
	AR_90,
	AR_95,
	WALK,
	DAY,
	STAIRS,
	LINE,
	FLAT,
	ONE_BURST,
	/* with */
	SAWTOOTH,
	SAWTOOTH_LEAK,
	SAWTOOTH_NOISY,
	SQUARES,
	SQUARES_LEAK,
	SLOWING,
	TRIANGLES,
	COURSES
};

static const char *const course_names[COURSES] = { "white",    "AR .5",    "AR .9",   "AR .95",  "walk",
						   "day",      "stairs",   "line",    "flat",    "burst",
						   "sawtooth", "+ leak",   "+ noise", "squares", "squares + leak",
						   "slowing",  "triangles" };

struct course_state {
	uint64_t random;
	double ar, left, length, height, low; /* of this tooth: points left, all its points */
	double slower;
	size_t teeth;
};

static double jitter(struct course_state *c, double share)
{
	return 1 + share * (2 * random_uniform(&c->random) - 1);
}

/* A new tooth where the last one ended; its place in it, 0..1. */
static double advance(struct course_state *c, double period, double share, size_t i)
{
	if (c->left < 1) {
		c->length = c->left + period * jitter(c, share);
		c->left = c->length;
		c->height = 20 * MIB * jitter(c, share);
		c->teeth += i > 0;
	}
	c->left--;
	return 1 - c->left / c->length;
}

static double ar(struct course_state *c, double rho)
{
	c->ar = rho * c->ar + sqrt(1 - rho * rho) * random_normal(&c->random);
	return c->ar;
}

static double course_at(struct course_state *c, enum course k, size_t i, size_t n)
{
	double x = (double)i / (double)n, period = (double)n / 30, e = random_normal(&c->random), at;

	switch (k) {
	case WHITE:
		return e * MIB;
	case AR_HALF:
		return ar(c, 0.5) * MIB;
	case AR_90:
		return ar(c, 0.9) * MIB;
	case AR_95:
		return ar(c, 0.95) * MIB;
	case WALK:
		return c->low += e * MIB;
	case DAY:
		return 100 * MIB * sin(3.14159 * x) + e * MIB;
	case STAIRS:
		return 10 * MIB * floor(12 * x) + e * 0.05 * MIB;
	case LINE:
		return 100 * MIB * x + e * 0.1 * MIB;
	case FLAT:
		return 0;
	case ONE_BURST:
		return (x > 0.4 && x < 0.6 ? 50 * MIB : 0) + e * MIB;
	case SAWTOOTH:
	case SAWTOOTH_LEAK:
	case SAWTOOTH_NOISY:
		at = advance(c, period, 0.3, i);
		return c->height * at + (k == SAWTOOTH_LEAK ? 200 * MIB * x : 0) +
		       (k == SAWTOOTH_NOISY ? 0.5 : 0.05) * e * MIB;
	case SQUARES:
	case SQUARES_LEAK:
		at = advance(c, period, 0.1, i);
		return (at > 0.3 && at < 0.8 ? 20 * MIB : 0) + (k == SQUARES_LEAK ? 30 * MIB * x : 0) + 0.05 * e * MIB;
	case SLOWING:
		at = advance(c, period / 3 * (1 + 13 * x), 0.1, i);
		return (at > 0.3 && at < 0.8 ? 20 * MIB : 0) + 0.05 * e * MIB;
	case TRIANGLES:
		at = advance(c, period, 0.2, i);
		return 20 * MIB * (1 - fabs(2 * at - 1)) + 0.1 * e * MIB;
	case COURSES:
	default:
		return 0;
	}
}

static size_t make_course(enum course k, uint64_t seed, size_t n, struct point *ret)
{
	struct course_state c = { .random = seed * 104729 + (uint64_t)k };

	for (size_t i = 0; i < 60; i++)
		ar(&c, 0.95);
	if (k != SLOWING) {
		c.length = (double)n / 30;
		c.height = 20 * MIB;
		c.left = floor(c.length * random_uniform(&c.random));
	}
	for (size_t i = 0; i < n; i++)
		ret[i] = (struct point){ (double)i * 0.1, 300 * MIB + course_at(&c, k, i, n) };
	return c.teeth;
}

START_TEST(cycles_are_found_where_they_are)
{
	static const size_t sizes[] = { 60, 120, 300, 1000, 2000 };
	static struct point points[MAX_POINTS];
	static struct cycle cycles[MAX_POINTS];

	for (enum course k = WHITE; k < COURSES; k++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
			size_t found = 0, right = 0;

			if (k >= SAWTOOTH && sizes[s] < 300) /* 30 teeth need ten points each */
				continue;
			for (uint64_t seed = 1; seed <= SEEDS; seed++) {
				size_t teeth = make_course(k, seed, sizes[s], points);
				size_t n = points_cycles(points, sizes[s], 0, cycles, MAX_POINTS);

				found += n > 0;
				right += n + 2 >= teeth && n <= teeth + 1;
			}
			if (k < SAWTOOTH)
				ck_assert_msg(found <= SEEDS * 2 / 100, "%s, %zu points: %zu", course_names[k],
					      sizes[s], found);
			else
				ck_assert_msg(right >= SEEDS * 95 / 100, "%s, %zu points: %zu", course_names[k],
					      sizes[s], right);
		}
	}
}
END_TEST

static size_t few_teeth(uint64_t seed, size_t teeth, size_t each, struct point *ret)
{
	struct course_state c = { .random = seed };
	size_t n = teeth * each;

	for (size_t i = 0; i < n; i++) {
		double at = advance(&c, (double)each, 0.15, i);

		ret[i] = (struct point){ (double)i, 50 * MIB + c.height * at + 0.05 * MIB * random_normal(&c.random) };
	}
	return c.teeth;
}

START_TEST(few_cycles_will_do)
{
	static struct point points[MAX_POINTS];
	struct cycle cycles[8];
	size_t found = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		size_t teeth = few_teeth(seed, 6, 15, points), n = points_cycles(points, 90, 0, cycles, 8);

		found += n >= 3 && n + 2 >= teeth && n <= teeth + 1;
		/* a given swing is taken as it is; the newest are kept */
		n = points_cycles(points, 90, 5 * MIB, cycles, 8);
		ck_assert_uint_ge(n, 3);
		struct cycle last = cycles[n - 1];

		ck_assert_uint_eq(points_cycles(points, 90, 5 * MIB, cycles, 2), 2);
		ck_assert_double_eq(cycles[1].end_s, last.end_s);
		ck_assert_double_eq(cycles[0].end_s, cycles[1].start_s);
		ck_assert(last.peak > last.start && last.peak > last.end);
		ck_assert_uint_eq(points_cycles(points, 90, 500 * MIB, cycles, 8), 0);
	}
	ck_assert_uint_ge(found, SEEDS * 90 / 100);
	ck_assert_uint_eq(points_cycles(points, 0, 0, cycles, 8), 0);
	ck_assert_uint_eq(points_cycles(points, 90, 0, cycles, 0), 0);
}
END_TEST

/* ---- what the cycles leave ------------------------------------------------------------------------------------------- */

static struct verdict_input input;
static struct trend subject;

static struct cycle_fit measure(struct series *series, enum metric metric, double span_s)
{
	struct cycle_fit fit;

	input = (struct verdict_input){ .series = series, .now_s = span_s };
	subject = (struct trend){ .metric = metric };
	cycles_measure(&input, &subject, 0, span_s, &fit);
	series_destroy(series);
	return fit;
}

static struct series *series_new(void)
{
	struct series *series;

	ck_assert_int_eq(series_create(&series), 0);
	return series;
}

static void add(struct series *series, double t_s, enum metric m, double v, double units)
{
	struct sample s;

	sample_init(&s, t_s);
	s.v[m] = v;
	s.v[METRIC_WORK] = units;
	ck_assert_int_eq(series_add(series, &s), 0);
}

#define LEFT 30011.0 /* bytes that each cycle leaves */

/* Create, use, delete: `each` ticks a cycle, `slower` times as many at the end. What is left wanders by AR(1) rho. */
static struct cycle_fit loop_run(uint64_t seed, size_t cycles, double each, double slower, double rho, bool units)
{
	struct course_state c = { .random = seed };
	struct series *series = series_new();
	double t_s = 0, left = 0;

	for (size_t i = 0; i < cycles; i++) {
		double ticks = round(each * (1 + (slower - 1) * (double)i / (double)cycles));

		left = 100 * MIB + LEFT * (double)i + 20000 * ar(&c, rho);
		for (double k = 0; k < ticks; k++, t_s += 0.1) {
			double at = k / ticks;

			add(series, t_s, METRIC_HEAP_IN_USE, left + (at > 0.3 && at < 0.8 ? 5 * MIB : 0),
			    units ? (double)i : NAN);
		}
	}
	add(series, t_s, METRIC_HEAP_IN_USE, left + LEFT, units ? (double)cycles : NAN);
	return measure(series, METRIC_HEAP_IN_USE, t_s);
}

static size_t count_cover(double rho, bool units)
{
	size_t held = 0;

	for (uint64_t seed = 1; seed <= 300; seed++) {
		struct cycle_fit c = loop_run(seed, 100, 10, 1, rho, units);

		ck_assert(c.known && c.by_units == units);
		ck_assert(!c.slows);
		ck_assert_uint_ge(c.count, 98);
		ck_assert_uint_le(c.count, 100);
		held += c.growth_per_cycle.low <= LEFT && LEFT <= c.growth_per_cycle.high;
	}
	return held;
}

START_TEST(growth_per_cycle_holds_the_truth)
{
	for (size_t units = 0; units < 2; units++) {
		size_t iid = count_cover(0, units), hangs = count_cover(0.7, units);

		ck_assert_uint_ge(iid, 300 * 93 / 100);
		ck_assert_uint_ge(hangs, 300 * 88 / 100);
	}
}
END_TEST

START_TEST(slowing_down_is_seen)
{
	for (size_t units = 0; units < 2; units++)
		for (uint64_t seed = 1; seed <= 20; seed++) {
			struct cycle_fit c = loop_run(seed, 60, 10, 14, 0, units),
					 even = loop_run(seed, 60, 20, 1, 0, units);

			ck_assert(c.known && c.slows && even.known && !even.slows);
			ck_assert_uint_eq(c.edge, c.count / 10 > 3 ? c.count / 10 : 3);
			ck_assert_double_gt(c.duration_ratio, 7);
			ck_assert_double_lt(c.duration_ratio, 14);
			ck_assert_double_eq_tol(even.duration_ratio, 1, 0.1);
			ck_assert_double_eq_tol(c.last_mean_bytes - c.first_mean_bytes, LEFT * 54, LEFT * 4);
			for (size_t q = 1; q < 4; q++) {
				ck_assert_double_gt(c.quarters[q].mean_duration_s, c.quarters[q - 1].mean_duration_s);
				ck_assert_double_gt(c.quarters[q].mean_bytes, c.quarters[q - 1].mean_bytes);
			}
		}
}
END_TEST

/* 50 units between two readings, after a start-up of 10 s: the wait before the first is nobody's. */
START_TEST(many_units_are_cycles_too)
{
	struct series *series = series_new();
	struct cycle_fit c;

	for (size_t i = 0; i <= 1000; i++) {
		double units = i < 100 ? 0 : (double)(i - 100) * 50;

		add(series, (double)i * 0.1, METRIC_RSS, floor((80 * MIB + 136 * units) / 4096) * 4096, units);
	}
	c = measure(series, METRIC_RSS, 100);
	ck_assert(c.known && c.by_units && !c.slows);
	ck_assert_uint_eq(c.count, 45000);
	ck_assert_uint_eq(c.edge, 100);
	ck_assert_double_eq_tol(c.growth_per_cycle.value, 136, 2);
	ck_assert_double_eq_tol(c.first_mean_bytes, 80 * MIB + 136 * 50, 5000);
	ck_assert_double_eq_tol(c.last_mean_bytes, 80 * MIB + 136 * 44950, 5000);
	ck_assert_double_eq_tol(c.duration_first_s, 0.002, 1e-6);
	ck_assert_double_eq_tol(c.duration_ratio, 1, 0.01);
}
END_TEST

/* Ten thousand points: most lie in buckets by now. A line must come out as a line, wherever one asks. */
START_TEST(values_are_found_at_any_time)
{
	const double outside[2] = { 0.5, 5001 };
	struct series *series = series_new();
	double times[500], values[500];

	for (size_t i = 0; i <= 10000; i++)
		add(series, 1 + (double)i * 0.5, METRIC_RSS, 1e9 + 7.0 * (double)i, NAN);
	for (size_t i = 0; i < 500; i++)
		times[i] = 1 + (double)i * 10.017;
	series_values_at(series, METRIC_RSS, times, 500, values);
	for (size_t i = 0; i < 500; i++)
		ck_assert_double_eq_tol(values[i], 1e9 + 14 * (times[i] - 1), 1e-3);
	series_values_at(series, METRIC_RSS, outside, 2, values);
	ck_assert(isnan(values[0]));
	ck_assert(!isnan(values[1])); /* the last point itself */
	series_values_at(series, METRIC_CPU, times, 2, values);
	ck_assert(isnan(values[0]) && isnan(values[1]));
	series_destroy(series);
}
END_TEST

START_TEST(what_is_no_loop_gives_nothing)
{
	static struct point points[MAX_POINTS];
	struct series *series = series_new();
	struct cycle_fit c = measure(series, METRIC_RSS, 10);

	ck_assert(!c.known && isnan(c.growth_per_cycle.value) && isnan(c.duration_ratio) && !c.slows);
	series = series_new(); /* five units are too few, and so are more than 100,000 to tell apart */
	for (size_t i = 0; i < 100; i++)
		add(series, (double)i, METRIC_RSS, 1e6, (double)(i / 20));
	ck_assert(!measure(series, METRIC_RSS, 99).known);
	series = series_new();
	for (size_t i = 0; i < 100; i++)
		add(series, (double)i, METRIC_RSS, 1e6, (double)i * 1e18);
	ck_assert(!measure(series, METRIC_RSS, 99).known);
	series = series_new(); /* all in one reading */
	for (size_t i = 0; i < 100; i++)
		add(series, (double)i, METRIC_RSS, 1e6 + (double)i, i < 50 ? 0 : 1000);
	c = measure(series, METRIC_RSS, 99);
	ck_assert(c.known && c.by_units && !c.slows);
	/* the subject has no teeth, RSS has */
	series = series_new();
	make_course(SAWTOOTH, 3, 300, points);
	for (size_t i = 0; i < 300; i++) {
		struct sample s;

		sample_init(&s, points[i].t_s);
		s.v[METRIC_RSS] = points[i].v;
		s.v[METRIC_RUNTIME_LIVE] = 1e6;
		ck_assert_int_eq(series_add(series, &s), 0);
	}
	c = measure(series, METRIC_RUNTIME_LIVE, 30);
	ck_assert(c.known && !c.by_units && c.count > 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cycles");
	TCase *tc = tcase_create("cycles");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, cycles_are_found_where_they_are);
	tcase_add_test(tc, few_cycles_will_do);
	tcase_add_test(tc, growth_per_cycle_holds_the_truth);
	tcase_add_test(tc, slowing_down_is_seen);
	tcase_add_test(tc, many_units_are_cycles_too);
	tcase_add_test(tc, values_are_found_at_any_time);
	tcase_add_test(tc, what_is_no_loop_gives_nothing);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
