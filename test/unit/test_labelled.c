/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Guards what `make bench-verdicts` measures, on few series of the tuning set: a change that makes verdicts worse is seen at once. Seeds
 * are fixed, so the figures are the same in every run.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "support_labelled.h"

#define SEEDS 12

struct counts {
	size_t said[VERDICT_CLASS_COUNT], made[VERDICT_CLASS_COUNT], right[VERDICT_CLASS_COUNT];
	size_t sure, sure_right, sure_false_leaks, flat;
	size_t forecasts, inside;
};

static void count_forecast(struct counts *c, const struct labelled *l, const struct verdict *v)
{
	if (!v->forecast.known || isnan(l->crossing_s))
		return;
	c->forecasts++;
	c->inside += v->forecast.eta_s.low <= l->crossing_s && l->crossing_s <= v->forecast.eta_s.high;
}

static void count_verdict(struct counts *c, const struct labelled *l, const struct verdict *v)
{
	bool right = verdict_in_set(v, l->accepted);
	bool flat = l->label != VERDICT_LEAK && l->label != VERDICT_GROWTH && l->label != VERDICT_SCALING;

	c->made[l->label]++;
	c->said[right ? l->label : v->class]++;
	c->right[l->label] += right;
	c->flat += flat;
	c->sure_false_leaks += flat && v->class == VERDICT_LEAK && v->confidence >= 0.9;
	if (v->confidence >= 0.9) {
		c->sure++;
		c->sure_right += right;
	}
}

static void count_kind(struct counts *c, enum labelled_kind kind)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct labelled l;
		struct arena arena;
		struct verdict v;

		labelled_make(&l, kind, seed, LABELLED_TUNING);
		arena_init(&arena, 16384, 0);
		ck_assert_int_eq(verdict_judge(&l.input, &arena, &v), 0);
		if (!labelled_info[kind].unjudged)
			count_verdict(c, &l, &v);
		count_forecast(c, &l, &v);
		arena_deinit(&arena);
		labelled_free(&l);
	}
}

static double share(size_t part, size_t of)
{
	return of > 0 ? (double)part / (double)of : 1;
}

START_TEST(verdicts_are_as_good_as_they_were)
{
	struct counts c = { 0 };
	double f1 = 0;
	size_t classes = 0;

	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++)
		count_kind(&c, kind);
	for (size_t i = 0; i < VERDICT_CLASS_COUNT; i++) {
		double precision = share(c.right[i], c.said[i]), recall = share(c.right[i], c.made[i]);

		ck_assert_msg(c.made[i] > 0, "no series of %s", verdict_class_names[i]);
		ck_assert_msg(recall >= 0.9, "recall of %s is %.3f", verdict_class_names[i], recall);
		f1 += precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
		classes++;
	}
	ck_assert_double_ge(share(c.right[VERDICT_LEAK], c.said[VERDICT_LEAK]), 0.98);
	ck_assert_double_ge(share(c.right[VERDICT_LEAK], c.made[VERDICT_LEAK]), 0.95);
	ck_assert_double_ge(f1 / (double)classes, 0.95);
	ck_assert_double_ge(share(c.sure_right, c.sure), 0.95);
	ck_assert_double_le(share(c.sure_false_leaks, c.flat), 0.005);
	ck_assert_double_ge(share(c.inside, c.forecasts), 0.85);
	ck_assert_double_le(share(c.inside, c.forecasts), 0.96);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("labelled series");
	TCase *tc = tcase_create("labelled");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, verdicts_are_as_good_as_they_were);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
