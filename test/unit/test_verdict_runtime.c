/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is concluded where a language runtime manages memory beside malloc. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "memwatch/verdict.h"

#define MIB 1048576.0
#define SECONDS 60.0

typedef double course(double t_s);

struct courses { /* NULL: not read */
	course *rss, *live, *in_use, *free_inside;
	double committed_bytes; /* at the end; NaN: the runtime does not say */
	const char *runtime;
};

struct judged {
	struct arena arena;
	struct verdict v;
};

static void judge(const struct courses *c, struct judged *ret)
{
	struct runtime_stats stats = { .live_bytes = c->live ? c->live(SECONDS) : NAN,
				       .in_use_bytes = NAN,
				       .free_bytes = NAN,
				       .committed_bytes = c->committed_bytes,
				       .released_bytes = NAN };
	struct verdict_input in = { .now_s = SECONDS, .pid = 1234, .runtime = c->runtime, .runtime_stats = &stats };
	struct series *s;

	ck_assert_int_eq(series_create(&s), 0);
	for (double t = 0; t <= SECONDS; t += 0.1) {
		struct sample sample;

		sample_init(&sample, t);
		sample.v[METRIC_RSS] = c->rss(t);
		if (c->live)
			sample.v[METRIC_RUNTIME_LIVE] = c->live(t);
		if (c->in_use)
			sample.v[METRIC_HEAP_IN_USE] = c->in_use(t);
		if (c->free_inside)
			sample.v[METRIC_HEAP_FREE] = c->free_inside(t);
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
	in.series = s;
	arena_init(&ret->arena, 16384, 0);
	ck_assert_int_eq(verdict_judge(&in, &ret->arena, &ret->v), 0);
	series_destroy(s);
}

static bool has_command(const struct verdict *v, const char *part)
{
	for (size_t i = 0; i < v->action_count; i++)
		if (v->actions[i].command && strstr(v->actions[i].command, part))
			return true;
	return false;
}

static double rss_rises(double t_s)
{
	return (80 + t_s) * MIB;
}

static double rises(double t_s)
{
	return (20 + t_s) * MIB;
}

static double flat(double t_s)
{
	(void)t_s;
	return 30 * MIB;
}

/* Garbage that is collected every three seconds. */
static double saw(double t_s)
{
	return (30 + 8 * fmod(t_s, 3)) * MIB;
}

static double rss_held(double t_s)
{
	return (t_s < 10 ? 100 + 10 * t_s : 200) * MIB;
}

static double live_peak(double t_s)
{
	return (t_s < 10 ? 60 + 10 * t_s : t_s < 20 ? 160 : 40) * MIB;
}

START_TEST(live_that_rises_is_the_runtimes_leak)
{
	struct judged j;

	judge(&(struct courses){ rss_rises, rises, flat, NULL, 90 * MIB, "hotspot" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_LEAK);
	ck_assert_int_eq(j.v.where, WHERE_RUNTIME);
	ck_assert_int_eq(j.v.judged, METRIC_RUNTIME_LIVE);
	ck_assert(has_command(&j.v, "jcmd 1234 GC.class_histogram"));
	arena_deinit(&j.arena);
}
END_TEST

START_TEST(malloc_leaks_though_live_is_flat)
{
	struct judged j;

	judge(&(struct courses){ rss_rises, flat, rises, flat, 32 * MIB, "cpython" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_LEAK);
	ck_assert_int_eq(j.v.where, WHERE_HEAP);
	ck_assert_int_eq(j.v.judged, METRIC_HEAP_IN_USE);
	arena_deinit(&j.arena);
}
END_TEST

START_TEST(the_collector_is_the_cause_where_it_holds_the_memory)
{
	struct judged j;

	judge(&(struct courses){ rss_rises, flat, NULL, NULL, 140 * MIB, "go" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_RETENTION);
	ck_assert_int_eq(j.v.cause, CAUSE_GC);
	ck_assert(has_command(&j.v, "GOMEMLIMIT"));
	arena_deinit(&j.arena);
	judge(&(struct courses){ rss_held, live_peak, NULL, NULL, 190 * MIB, "v8" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_RETENTION);
	ck_assert_int_eq(j.v.cause, CAUSE_GC);
	ck_assert(has_command(&j.v, "--max-old-space-size"));
	arena_deinit(&j.arena);
}
END_TEST

/* RSS rises, and what the runtime has taken does not: it is somebody else's memory. */
START_TEST(the_collector_is_not_blamed_for_what_it_does_not_hold)
{
	struct judged j;

	judge(&(struct courses){ rss_rises, flat, flat, flat, 34 * MIB, "cpython" }, &j);
	ck_assert_int_ne(j.v.cause, CAUSE_GC);
	ck_assert_int_ne(j.v.class, VERDICT_LEAK);
	arena_deinit(&j.arena);
	/* malloc's free bytes grow */
	judge(&(struct courses){ rss_rises, flat, flat, rises, 34 * MIB, "cpython" }, &j);
	ck_assert_int_ne(j.v.cause, CAUSE_GC);
	ck_assert_int_ne(j.v.class, VERDICT_LEAK);
	arena_deinit(&j.arena);
}
END_TEST

START_TEST(without_live_bytes_growth_is_no_leak_and_no_collectors)
{
	struct judged j;

	judge(&(struct courses){ rss_rises, NULL, NULL, NULL, 140 * MIB, "v8" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_GROWTH);
	ck_assert_int_ne(j.v.cause, CAUSE_GC);
	arena_deinit(&j.arena);
}
END_TEST

START_TEST(garbage_that_is_collected_is_neither)
{
	struct judged j;

	judge(&(struct courses){ flat, saw, flat, NULL, 60 * MIB, "cpython" }, &j);
	ck_assert_int_eq(j.v.class, VERDICT_STABLE);
	arena_deinit(&j.arena);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("verdict_runtime");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, live_that_rises_is_the_runtimes_leak);
	tcase_add_test(tc, malloc_leaks_though_live_is_flat);
	tcase_add_test(tc, the_collector_is_the_cause_where_it_holds_the_memory);
	tcase_add_test(tc, the_collector_is_not_blamed_for_what_it_does_not_hold);
	tcase_add_test(tc, without_live_bytes_growth_is_no_leak_and_no_collectors);
	tcase_add_test(tc, garbage_that_is_collected_is_neither);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
