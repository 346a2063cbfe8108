/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/series.h"
#include "support_series.h"

#define DAY_SAMPLES 864000

static struct series *series_new(void)
{
	struct series *s;

	ck_assert_int_eq(series_create(&s), 0);
	return s;
}

static int add_value(struct series *s, enum metric m, double t_s, double v)
{
	struct sample sample;

	sample_init(&sample, t_s);
	sample.v[m] = v;
	return series_add(s, &sample);
}

START_TEST(time_going_backward_is_refused)
{
	struct series *s = series_new();
	struct point last;

	ck_assert_int_eq(add_value(s, METRIC_RSS, 1, 10), 0);
	ck_assert_int_eq(add_value(s, METRIC_RSS, 0.999, 20), -EINVAL);
	ck_assert_int_eq(add_value(s, METRIC_RSS, NAN, 20), -EINVAL);
	ck_assert_int_eq(add_value(s, METRIC_RSS, 1, 30), 0);
	ck_assert_uint_eq(series_count(s), 2);
	ck_assert(series_last(s, METRIC_RSS, &last));
	ck_assert_double_eq(last.v, 30);
	series_destroy(s);
	series_destroy(NULL);
}
END_TEST

START_TEST(unknown_values_are_skipped_and_untouched)
{
	struct series *s = series_new();
	struct point p = { -1, -1 };
	struct metric_summary sum;

	ck_assert_int_eq(add_value(s, METRIC_RSS, 0, 5), 0);
	ck_assert_int_eq(add_value(s, METRIC_RSS, 1, INFINITY), 0);
	ck_assert(!series_first(s, METRIC_PSS, &p));
	ck_assert_double_eq(p.v, -1);
	series_summary(s, METRIC_PSS, &sum);
	ck_assert_uint_eq(sum.count, 0);
	ck_assert(isnan(sum.mean) && isnan(sum.slope_per_s.value));
	series_summary(s, METRIC_RSS, &sum);
	ck_assert_uint_eq(sum.count, 1);
	series_destroy(s);
}
END_TEST

/* The maximum and the minimum stand at odd places long ago: they must outlive every merging. */
START_TEST(a_day_fits_and_keeps_its_extremes)
{
	struct series *s = series_new();
	struct metric_summary sum;
	struct point points[600];
	struct sample sample;
	double high = 0, low = INFINITY, high_s = 0;
	size_t n;

	for (size_t i = 0; i < DAY_SAMPLES; i++) {
		sample_init(&sample, (double)i * 0.1);
		for (size_t m = 0; m < METRIC_COUNT; m++)
			if (m == METRIC_RSS || i % 64 == 0 || i < DAY_SAMPLES / 50)
				sample.v[m] = (double)(1000 + i % 7 + i / 1000);
		if (i == 123457)
			sample.v[METRIC_RSS] = 99999;
		if (i == 11)
			sample.v[METRIC_RSS] = 1;
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
	ck_assert_uint_le(series_bytes(s), 8U << 20);
	series_summary(s, METRIC_RSS, &sum);
	ck_assert_uint_eq(sum.count, DAY_SAMPLES);
	ck_assert_double_eq(sum.max, 99999);
	ck_assert_double_eq(sum.min, 1);
	ck_assert_double_eq(sum.first, 1000);
	ck_assert_double_eq(sum.last, 1000 + (DAY_SAMPLES - 1) % 7 + (DAY_SAMPLES - 1) / 1000);
	ck_assert_double_eq_tol(sum.mean, 1000 + 3 + 431.5, 1);
	ck_assert_double_eq_tol(sum.slope_per_s.value, 0.01, 0.0005);
	n = series_points(s, METRIC_RSS, -INFINITY, INFINITY, points, 600);
	ck_assert_uint_ge(n, 300);
	for (size_t i = 0; i < n; i++) {
		ck_assert(i == 0 || points[i].t_s > points[i - 1].t_s);
		high_s = points[i].v > high ? points[i].t_s : high_s;
		high = fmax(high, points[i].v);
		low = fmin(low, points[i].v);
	}
	ck_assert_double_eq(high, 99999);
	ck_assert_double_eq_tol(high_s, 12345.7, 1e-6);
	ck_assert_double_eq(low, 1);
	ck_assert_double_eq(points[0].t_s, 0);
	ck_assert_double_eq_tol(points[n - 1].t_s, (DAY_SAMPLES - 1) * 0.1, 1e-6);
	series_destroy(s);
}
END_TEST

START_TEST(a_sparse_metric_costs_little)
{
	struct series *s = series_new();
	size_t before;

	for (size_t i = 0; i < 20000; i++)
		ck_assert_int_eq(add_value(s, METRIC_RSS, (double)i, 1), 0);
	before = series_bytes(s);
	for (size_t i = 0; i < 100; i++)
		ck_assert_int_eq(add_value(s, METRIC_PSS, 20000 + (double)i, 1), 0);
	ck_assert_uint_le(series_bytes(s) - before, 4096);
	series_destroy(s);
}
END_TEST

START_TEST(points_are_raw_inside_a_window)
{
	struct series *s = series_new();
	struct point points[64];
	size_t n;

	for (size_t i = 0; i < 10000; i++)
		ck_assert_int_eq(add_value(s, METRIC_RSS, (double)i, (double)(i * i)), 0);
	n = series_points(s, METRIC_RSS, 9990, 9995.5, points, 64);
	ck_assert_uint_eq(n, 6);
	for (size_t i = 0; i < n; i++) {
		ck_assert_double_eq(points[i].t_s, 9990 + (double)i);
		ck_assert_double_eq(points[i].v, (9990 + (double)i) * (9990 + (double)i));
	}
	/* long ago there are buckets: what they give is true, ascending and inside */
	n = series_points(s, METRIC_RSS, 100, 1000, points, 64);
	ck_assert_uint_ge(n, 8);
	for (size_t i = 0; i < n; i++) {
		ck_assert(points[i].t_s >= 100 && points[i].t_s <= 1000 &&
			  (i == 0 || points[i].t_s > points[i - 1].t_s));
		ck_assert_double_eq(points[i].v, points[i].t_s * points[i].t_s);
	}
	ck_assert_uint_eq(series_points(s, METRIC_RSS, 20000, 30000, points, 64), 0);
	ck_assert_uint_eq(series_points(s, METRIC_RSS, 9000, 9999, points, 0), 0);
	for (size_t cap = 1; cap <= 8; cap++) {
		n = series_points(s, METRIC_RSS, 9000, 9999, points, cap);
		ck_assert(n >= 1 && n <= cap);
		ck_assert_double_eq(points[n - 1].t_s, 9999);
	}
	series_destroy(s);
}
END_TEST

static double cell(const struct table *t, size_t row, const char *column)
{
	for (size_t c = 0; c < t->column_count; c++)
		if (strcmp(t->columns[c], column) == 0)
			return t->cells[row * t->column_count + c];
	ck_abort_msg("no column %s", column);
	return NAN;
}

START_TEST(export_keeps_extremes_and_marks_unknown)
{
	struct series *s = series_new();
	struct arena arena;
	struct table table;
	double high_rss = 0, high_heap = 0, before = -1;
	size_t known = 0;

	arena_init(&arena, 4096, 0);
	for (size_t i = 0; i < 50000; i++) {
		struct sample sample;

		sample_init(&sample, (double)i * 0.1);
		sample.v[METRIC_RSS] = i == 31337 ? 777 : 100;
		if (i % 100 == 50)
			sample.v[METRIC_HEAP_IN_USE] = i == 22250 ? 555 : 50;
		if (i < 25000 && i % 10 == 0)
			sample.v[METRIC_PSS] = 9;
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
	ck_assert_int_eq(series_export(s, 200, &arena, &table), 0);
	ck_assert_uint_le(table.row_count, 200);
	ck_assert_uint_ge(table.row_count, 100);
	ck_assert_uint_eq(table.column_count, 4);
	ck_assert_str_eq(table.columns[0], "t_s");
	for (size_t i = 0; i < table.row_count; i++) {
		double t_s = cell(&table, i, "t_s");

		ck_assert(t_s > before);
		before = t_s;
		if (cell(&table, i, "rss_bytes") > high_rss)
			high_rss = cell(&table, i, "rss_bytes");
		if (cell(&table, i, "heap_in_use_bytes") > high_heap)
			high_heap = cell(&table, i, "heap_in_use_bytes");
		ck_assert(t_s < 2550 || isnan(cell(&table, i, "pss_bytes")));
		known += isnan(cell(&table, i, "pss_bytes")) ? 0 : 1;
	}
	ck_assert_double_eq(high_rss, 777);
	ck_assert_double_eq(high_heap, 555);
	ck_assert_uint_ge(known, 20);
	ck_assert_double_eq_tol(before, 4999.9, 1e-6);
	arena_deinit(&arena);
	series_destroy(s);
}
END_TEST

START_TEST(export_of_nothing_is_an_empty_table)
{
	struct series *s = series_new();
	struct arena arena;
	struct table table;

	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(series_export(s, 2000, &arena, &table), 0);
	ck_assert_uint_eq(table.row_count, 0);
	ck_assert_uint_eq(table.column_count, 1);
	arena_deinit(&arena);
	series_destroy(s);
}
END_TEST

START_TEST(blocks_reduce_equal_spans)
{
	const struct point p[] = { { 0, 4 }, { 1, 2 }, { 2, 9 }, { 8, 5 }, { 9, 7 }, { 10, 6 } };
	struct point b[5];

	ck_assert_uint_eq(points_blocks(p, 6, 2, BLOCK_MIN, b), 2);
	ck_assert_double_eq(b[0].t_s, 1);
	ck_assert_double_eq(b[0].v, 2);
	ck_assert_double_eq(b[1].v, 5);
	ck_assert_uint_eq(points_blocks(p, 6, 2, BLOCK_MAX, b), 2);
	ck_assert_double_eq(b[0].t_s, 2);
	ck_assert_double_eq(b[1].v, 7);
	ck_assert_uint_eq(points_blocks(p, 6, 2, BLOCK_MEAN, b), 2);
	ck_assert_double_eq(b[0].v, 5);
	ck_assert_double_eq(b[0].t_s, 2.5);
	ck_assert_uint_eq(points_blocks(p, 6, 2, BLOCK_MEDIAN, b), 2);
	ck_assert_double_eq(b[0].v, 4);
	ck_assert_double_eq(b[1].v, 6);
	/* the middle is empty */
	ck_assert_uint_eq(points_blocks(p, 6, 5, BLOCK_MIN, b), 3);
	ck_assert_uint_eq(points_blocks(p, 0, 5, BLOCK_MIN, b), 0);
}
END_TEST

/* Figures by hand: S = 8, Var = 16.67 without ties; with the tie pair S = 7, Var = 15.67. */
START_TEST(mann_kendall_counts_ties)
{
	struct point p[5] = { { 0, 1 }, { 1, 2 }, { 2, 4 }, { 3, 3 }, { 4, 5 } };
	struct point flat[30];

	ck_assert_double_eq_tol(trend_mann_kendall(p, 5), 7 / sqrt(50.0 / 3), 1e-9);
	p[3].v = 2;
	ck_assert_double_eq_tol(trend_mann_kendall(p, 5), 6 / sqrt(47.0 / 3), 1e-9);
	for (size_t i = 0; i < 30; i++)
		flat[i] = (struct point){ (double)i, 7 };
	ck_assert_double_eq(trend_mann_kendall(flat, 30), 0);
	ck_assert_double_eq(trend_mann_kendall(p, 3), 0);
}
END_TEST

START_TEST(theil_sen_covers_the_true_slope)
{
	struct point p[40];
	uint64_t state = 7;
	size_t covered = 0;

	for (size_t run = 0; run < 200; run++) {
		struct interval slope;

		for (size_t i = 0; i < 40; i++)
			p[i] = (struct point){ (double)i * 0.5,
					       1e8 + 3000 * (double)i * 0.5 + 4000 * random_normal(&state) };
		p[17].v = 5e9; /* an outlier moves it little */
		slope = trend_theil_sen(p, 40);
		ck_assert(slope.low <= slope.value && slope.value <= slope.high);
		ck_assert_double_eq_tol(slope.value, 3000, 700);
		covered += slope.low <= 3000 && 3000 <= slope.high;
	}
	ck_assert_uint_ge(covered, 180);
	ck_assert(isnan(trend_theil_sen(p, 3).value));
	for (size_t i = 0; i < 40; i++)
		p[i] = (struct point){ 1, (double)i };
	ck_assert(isnan(trend_theil_sen(p, 40).value));
}
END_TEST

START_TEST(noise_is_that_about_the_line)
{
	struct point p[300];
	uint64_t state = 3;

	for (size_t i = 0; i < 300; i++)
		p[i] = (struct point){ (double)i, 50 * (double)i + 10 * random_normal(&state) };
	ck_assert_double_eq_tol(trend_noise(p, 300), 10, 2);
	ck_assert_double_eq(trend_noise(p, 2), 0);
}
END_TEST

START_TEST(period_of_a_sawtooth_is_found_and_noise_has_none)
{
	struct point p[400];
	uint64_t state = 5;
	size_t false_periods = 0;

	for (size_t i = 0; i < 400; i++)
		p[i] = (struct point){ (double)i * 0.1, 1e6 * fmod((double)i * 0.1, 2.5) + 2e4 * (double)i };
	ck_assert_double_eq_tol(trend_period(p, 400), 2.5, 0.2);
	for (size_t run = 0; run < 50; run++) {
		for (size_t i = 0; i < 400; i++)
			p[i].v = random_normal(&state);
		false_periods += trend_period(p, 400) > 0;
	}
	ck_assert_uint_eq(false_periods, 0);
	for (size_t i = 0; i < 400; i++)
		p[i].v = 5;
	ck_assert_double_eq(trend_period(p, 400), 0);
}
END_TEST

#define SHAPE_POINTS 24

static double shape_value(enum shape shape, double x)
{
	switch (shape) {
	case SHAPE_LINEAR:
		return 100 * x;
	case SHAPE_STEP:
		return x > 0.5 ? 80 : 0;
	case SHAPE_SATURATING:
		return 100 * -expm1(-x / 0.2);
	case SHAPE_LOG:
		return 30 * log1p(x / 0.02);
	case SHAPE_DOUBLING:
		return pow(2, floor(x * 6.5));
	case SHAPE_FALLING:
		return 100 * (1 - x);
	case SHAPE_POWER:
		return 100 * x * x;
	case SHAPE_PERIODIC:
		return 50 * sin(6.283185307179586 * 1.6 * x);
	case SHAPE_STAIRCASE:
		return 20 * floor(5.5 * x);
	default:
		return 0;
	}
}

START_TEST(each_shape_is_told_from_the_others)
{
	struct point p[SHAPE_POINTS];
	struct shape_fit fit;
	uint64_t state = 11;

	for (enum shape shape = SHAPE_CONST; shape < SHAPE_COUNT; shape++) {
		size_t right = 0;

		for (size_t run = 0; run < 100; run++) {
			for (size_t i = 0; i < SHAPE_POINTS; i++) {
				p[i].t_s = (double)i;
				p[i].v = 5e8 + 1e6 * (shape_value(shape, (double)i / SHAPE_POINTS) +
						      0.5 * random_normal(&state));
			}
			trend_shape(p, SHAPE_POINTS, 1e7, &fit);
			right += fit.shape == shape;
		}
		ck_assert_msg(right >= 90, "%s: %zu of 100", shape_names[shape], right);
	}
}
END_TEST

START_TEST(shapes_give_their_figures)
{
	struct point p[SHAPE_POINTS];
	struct shape_fit fit;

	for (size_t i = 0; i < SHAPE_POINTS; i++)
		p[i] = (struct point){ (double)i, i < 10 ? 1e6 : 5e6 };
	trend_shape(p, SHAPE_POINTS, 1e5, &fit);
	ck_assert_int_eq(fit.shape, SHAPE_STEP);
	ck_assert_double_eq(fit.step_at_s, 10);
	ck_assert_double_eq_tol(fit.step_size, 4e6, 1);
	for (size_t i = 0; i < SHAPE_POINTS; i++)
		p[i].v = 1e6 + 1e5 * fmax(0, (double)i - 10);
	trend_shape(p, SHAPE_POINTS, 1e5, &fit);
	ck_assert_int_eq(fit.shape, SHAPE_LINEAR);
	ck_assert_double_eq_tol(fit.slope_per_s, 1e5, 1e3);
	ck_assert_double_eq_tol(fit.onset_s, 10, 1);
	for (size_t i = 0; i < SHAPE_POINTS; i++)
		p[i].v = 1e6 + 1e5 * fmin((double)i, 9);
	trend_shape(p, SHAPE_POINTS, 1e5, &fit);
	ck_assert_int_eq(fit.shape, SHAPE_SATURATING);
	ck_assert_double_eq_tol(fit.ceiling, 1.9e6, 1e4);
	trend_shape(p, SHAPE_POINTS, 1e8, &fit);
	ck_assert_int_eq(fit.shape, SHAPE_CONST);
	trend_shape(p, 7, 1e5, &fit);
	ck_assert_int_eq(fit.shape, SHAPE_UNDECIDED);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("series");
	TCase *tc = tcase_create("series");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, time_going_backward_is_refused);
	tcase_add_test(tc, unknown_values_are_skipped_and_untouched);
	tcase_add_test(tc, a_day_fits_and_keeps_its_extremes);
	tcase_add_test(tc, a_sparse_metric_costs_little);
	tcase_add_test(tc, points_are_raw_inside_a_window);
	tcase_add_test(tc, export_keeps_extremes_and_marks_unknown);
	tcase_add_test(tc, export_of_nothing_is_an_empty_table);
	tcase_add_test(tc, blocks_reduce_equal_spans);
	tcase_add_test(tc, mann_kendall_counts_ties);
	tcase_add_test(tc, theil_sen_covers_the_true_slope);
	tcase_add_test(tc, noise_is_that_about_the_line);
	tcase_add_test(tc, period_of_a_sawtooth_is_found_and_noise_has_none);
	tcase_add_test(tc, each_shape_is_told_from_the_others);
	tcase_add_test(tc, shapes_give_their_figures);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
