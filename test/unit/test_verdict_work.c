/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Verdicts where the work done is known, where it is not, and what the evidence and the actions then say. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "memwatch/verdict.h"
#include "support_series.h"

#define MIB (1024.0 * 1024.0)
#define SECONDS 120

struct judged {
	struct arena arena;
	struct verdict v;
};

static void judge(const struct verdict_input *in, struct judged *ret)
{
	arena_init(&ret->arena, 16384, 0);
	ck_assert_int_eq(verdict_judge(in, &ret->arena, &ret->v), 0);
}

static const struct evidence *find_evidence(const struct verdict *v, const char *id)
{
	for (size_t i = 0; i < v->evidence_count; i++)
		if (strcmp(v->evidence[i].id, id) == 0)
			return &v->evidence[i];
	return NULL;
}

static bool has_command(const struct verdict *v, const char *part)
{
	for (size_t i = 0; i < v->action_count; i++)
		if (v->actions[i].command && strstr(v->actions[i].command, part))
			return true;
	return false;
}

/* What a made-up recording holds; NULL: that metric is not there. */
struct script {
	double (*rss)(double t_s), (*in_use)(double t_s), (*cpu)(double t_s), (*work)(double t_s);
};

static struct series *record(const struct script *script)
{
	uint64_t state = 7;
	struct series *s;

	ck_assert_int_eq(series_create(&s), 0);
	for (double t = 0; t <= SECONDS; t += 0.2) {
		struct sample sample;

		sample_init(&sample, t);
		sample.v[METRIC_RSS] = script->rss(t) + 20000 * random_normal(&state);
		if (script->in_use)
			sample.v[METRIC_HEAP_IN_USE] = script->in_use(t) + 2000 * random_normal(&state);
		if (script->cpu)
			sample.v[METRIC_CPU] = script->cpu(t);
		if (script->work)
			sample.v[METRIC_WORK] = script->work(t);
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
	return s;
}

static double steady(double t_s)
{
	return 0.3 * t_s;
}

static double idle(double t_s)
{
	(void)t_s;
	return 12;
}

/* Busy for 10 s, then nothing for as long. */
static double on_and_off(double t_s)
{
	return 10 * floor(t_s / 20) + fmin(10, fmod(t_s, 20));
}

static double flat(double t_s)
{
	(void)t_s;
	return 60 * MIB;
}

static double with_time(double t_s)
{
	return 60 * MIB + 0.3 * MIB * t_s;
}

static double with_work(double t_s)
{
	return 60 * MIB + 0.6 * MIB * on_and_off(t_s);
}

static double requests(double t_s)
{
	return floor(100 * on_and_off(t_s));
}

static double per_request(double t_s)
{
	return 60 * MIB + 3000 * requests(t_s) + (requests(t_s) > 0 ? 3.6e6 : 0);
}

static double teeth(double t_s)
{
	return 60 * MIB + 0.05 * MIB * t_s + 12 * MIB * fmod(t_s, 6) / 6;
}

static double days(double t_s)
{
	return 60 * MIB + 10 * MIB * sin(2 * M_PI * t_s / 55);
}

struct expectation {
	const char *name;
	struct script script;
	bool recorded, transient;
	const char *runtime;
	enum verdict_class class;
	const char *id;      /* evidence that must be there */
	const char *command; /* of an action; NULL: any */
};

static const struct expectation expectations[] = {
	{ "RSS alone",
	  { with_time, NULL, NULL, NULL },
	  true,
	  false,
	  NULL,
	  VERDICT_GROWTH,
	  "no-heap-truth",
	  "--expect transient" },
	{ "RSS alone, nothing should stay",
	  { with_time, NULL, NULL, NULL },
	  true,
	  true,
	  NULL,
	  VERDICT_LEAK,
	  "transient",
	  NULL },
	{ "RSS under steady work", { with_time, NULL, steady, NULL }, true, false, NULL, VERDICT_LEAK, "work", NULL },
	{ "RSS of a live process",
	  { with_time, NULL, steady, NULL },
	  false,
	  false,
	  NULL,
	  VERDICT_GROWTH,
	  "work",
	  NULL },
	{ "RSS of a managed heap",
	  { with_time, NULL, steady, NULL },
	  true,
	  false,
	  "java",
	  VERDICT_GROWTH,
	  "runtime",
	  NULL },
	{ "RSS at idle", { with_time, NULL, idle, NULL }, true, false, NULL, VERDICT_LEAK, "work", NULL },
	{ "RSS in step with CPU",
	  { with_work, NULL, on_and_off, NULL },
	  true,
	  false,
	  NULL,
	  VERDICT_SCALING,
	  "units",
	  "--expect transient" },
	{ "RSS with time, CPU on and off",
	  { with_time, NULL, on_and_off, NULL },
	  true,
	  false,
	  NULL,
	  VERDICT_LEAK,
	  "work",
	  NULL },
	{ "heap in step with CPU",
	  { with_work, with_work, on_and_off, NULL },
	  false,
	  false,
	  NULL,
	  VERDICT_SCALING,
	  "work",
	  "--expect transient" },
	{ "heap under steady work",
	  { with_time, with_time, steady, NULL },
	  false,
	  false,
	  NULL,
	  VERDICT_LEAK,
	  "units",
	  NULL },
	{ "heap per request",
	  { per_request, per_request, NULL, requests },
	  false,
	  false,
	  NULL,
	  VERDICT_SCALING,
	  "first-unit",
	  NULL },
	{ "heap per request that should not stay",
	  { per_request, per_request, NULL, requests },
	  false,
	  true,
	  NULL,
	  VERDICT_LEAK,
	  "transient",
	  NULL },
	{ "troughs that rise", { teeth, NULL, NULL, NULL }, true, false, NULL, VERDICT_LEAK, "teeth", NULL },
	{ "troughs that rise in a live process",
	  { teeth, NULL, NULL, NULL },
	  false,
	  false,
	  NULL,
	  VERDICT_GROWTH,
	  "teeth",
	  NULL },
	{ "two days", { days, NULL, NULL, NULL }, true, false, NULL, VERDICT_STABLE, "trend", NULL },
	{ "flat, whatever the work",
	  { flat, flat, on_and_off, requests },
	  true,
	  true,
	  NULL,
	  VERDICT_STABLE,
	  "trend",
	  NULL },
};

START_TEST(work_decides)
{
	for (size_t i = 0; i < sizeof(expectations) / sizeof(*expectations); i++) {
		const struct expectation *e = &expectations[i];
		struct series *s = record(&e->script);
		struct verdict_input in = { .series = s,
					    .now_s = SECONDS,
					    .recorded = e->recorded,
					    .transient = e->transient,
					    .runtime = e->runtime,
					    .work_unit = "request" };
		struct judged j;

		judge(&in, &j);
		ck_assert_msg(j.v.class == e->class, "%s: %s (%s)", e->name, verdict_class_names[j.v.class],
			      j.v.summary);
		ck_assert_msg(find_evidence(&j.v, e->id), "%s: no '%s'", e->name, e->id);
		ck_assert_msg(!e->command || has_command(&j.v, e->command), "%s: no action '%s'", e->name, e->command);
		arena_deinit(&j.arena);
		series_destroy(s);
	}
}
END_TEST

START_TEST(the_first_unit_is_dearer_than_the_next)
{
	const struct script script = { per_request, per_request, NULL, requests };
	struct series *s = record(&script);
	struct verdict_input in = { .series = s, .now_s = SECONDS, .work_unit = "request" };
	struct judged j;

	judge(&in, &j);
	ck_assert(j.v.work.known && j.v.work.cooperative);
	ck_assert_str_eq(j.v.work.unit, "request");
	ck_assert_double_eq_tol(j.v.work.bytes_per_unit.value, 3000, 60);
	ck_assert(j.v.work.bytes_per_unit.low <= 3000 && 3000 <= j.v.work.bytes_per_unit.high);
	ck_assert_double_eq_tol(j.v.work.fixed_bytes.value, 60 * MIB + 3.6e6, 0.05 * 3.6e6);
	ck_assert(strstr(j.v.summary, "per request"));
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(a_program_that_slows_down_is_not_accused)
{
	struct judged j;
	struct run r;

	run_make(&r, RUN_SLOWER, 1, 60);
	judge(&r.input, &j);
	ck_assert_int_eq(j.v.class, VERDICT_STABLE);
	ck_assert_msg(strncmp(j.v.summary, "no leak: memory flat", 20) == 0, "%s", j.v.summary);
	ck_assert(find_evidence(&j.v, "cycle-time") != NULL);
	ck_assert_double_gt(j.v.cycles.duration_ratio, 10);
	ck_assert_double_lt(j.v.cycles.duration_ratio, 16);
	ck_assert(j.v.cycles.growth_per_cycle.low <= 0 && 0 <= j.v.cycles.growth_per_cycle.high);
	arena_deinit(&j.arena);
	run_free(&r);
}
END_TEST

/* massif counts instructions: forty of its "milliseconds" may be a whole program. */
START_TEST(counted_times_need_no_seconds)
{
	struct verdict_input in = { .recorded = true };
	struct series *s;

	ck_assert_int_eq(series_create(&s), 0);
	for (int i = 0; i < 60; i++) {
		struct sample sample;

		sample_init(&sample, 0.001 * i);
		sample.v[METRIC_HEAP_IN_USE] = MIB * (10 + i);
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
	in.series = s;
	in.now_s = 0.059;
	for (int counted = 0; counted < 2; counted++) {
		struct judged j;

		in.counted_time = counted;
		judge(&in, &j);
		ck_assert_int_eq(j.v.class, counted ? VERDICT_LEAK : VERDICT_INSUFFICIENT_DATA);
		arena_deinit(&j.arena);
	}
	series_destroy(s);
}
END_TEST

START_TEST(survivors_speak_for_and_against)
{
	struct judged j;
	struct run r;

	run_make(&r, RUN_LEAK_CHURN, 2, 20);
	judge(&r.input, &j);
	ck_assert(!find_evidence(&j.v, "survivors")->against);
	ck_assert(strstr(find_evidence(&j.v, "survivors")->text, "32 of 32"));
	arena_deinit(&j.arena);
	r.class.freed_blocks = 25;
	r.class.leak_probability = 0;
	judge(&r.input, &j);
	ck_assert(find_evidence(&j.v, "survivors")->against);
	arena_deinit(&j.arena);
	run_free(&r);
}
END_TEST

START_TEST(few_sites_amid_churn_are_a_leak_and_many_that_stay_are_not)
{
	struct sites_course few = { .top_share = 0.97, .growing_sites = 1, .churning_sites = 12, .survival = 0.01 },
			    many = { .top_share = 0.2, .growing_sites = 9, .churning_sites = 1, .survival = 0.97 },
			    none = { .top_share = NAN, .churning_sites = 3, .survival = 0.01 };
	struct judged j;
	struct run r;

	run_make(&r, RUN_LEAK_CHURN, 2, 20);
	r.input.sites = &few;
	judge(&r.input, &j);
	ck_assert(!find_evidence(&j.v, "sites")->against);
	ck_assert(strstr(find_evidence(&j.v, "sites")->text,
			 "of 13 stacks by which memory is taken 1 grows, and 12 give"));
	arena_deinit(&j.arena);
	r.input.sites = &many;
	judge(&r.input, &j);
	ck_assert(find_evidence(&j.v, "sites")->against);
	arena_deinit(&j.arena);
	r.input.sites = &none;
	judge(&r.input, &j);
	ck_assert_ptr_null(find_evidence(&j.v, "sites"));
	arena_deinit(&j.arena);
	run_free(&r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("verdict and work");
	TCase *tc = tcase_create("work");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, work_decides);
	tcase_add_test(tc, the_first_unit_is_dearer_than_the_next);
	tcase_add_test(tc, a_program_that_slows_down_is_not_accused);
	tcase_add_test(tc, counted_times_need_no_seconds);
	tcase_add_test(tc, survivors_speak_for_and_against);
	tcase_add_test(tc, few_sites_amid_churn_are_a_leak_and_many_that_stay_are_not);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
