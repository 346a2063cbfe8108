/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "../../src/verdict/verdict-priv.h"
#include "memwatch/verdict.h"
#include "support_series.h"

#define SEEDS 60
#define IDS_MAX 32

struct judged {
	struct arena arena;
	struct verdict v;
};

static void judge(const struct verdict_input *in, struct judged *ret)
{
	arena_init(&ret->arena, 16384, 0);
	ck_assert_int_eq(verdict_judge(in, &ret->arena, &ret->v), 0);
	ck_assert(ret->v.confidence >= 0 && ret->v.confidence <= 1);
	ck_assert(ret->v.summary && ret->v.summary[0] != '\0');
	ck_assert_uint_ge(ret->v.evidence_count, 1);
}

static const struct evidence *find_evidence(const struct verdict *v, const char *id)
{
	for (size_t i = 0; i < v->evidence_count; i++)
		if (strcmp(v->evidence[i].id, id) == 0)
			return &v->evidence[i];
	return NULL;
}

static bool has_action(const struct verdict *v, const char *part)
{
	for (size_t i = 0; i < v->action_count; i++)
		if (strstr(v->actions[i].text, part))
			return true;
	return false;
}

struct tally {
	size_t made[RUN_KIND_COUNT], right[RUN_KIND_COUNT];
	size_t leaks_said, leaks_true, sure_walks;
	bool classes[VERDICT_CLASS_COUNT];
};

static void tally_kind(struct tally *t, enum run_kind kind)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct judged j;
		struct run r;

		run_make(&r, kind, seed, 0);
		judge(&r.input, &j);
		t->made[kind]++;
		t->right[kind] += run_right(&r, &j.v);
		t->classes[j.v.class] = true;
		if (j.v.class == VERDICT_LEAK) {
			t->leaks_said++;
			t->leaks_true += run_labels[kind].kind == KIND_SUSPECTED;
			t->sure_walks += kind == RUN_WALK && j.v.confidence >= 0.9;
		}
		arena_deinit(&j.arena);
		run_free(&r);
	}
}

/* Over all kinds: at least 95 % of each right, and nearly every leak that is said is one, random walks among them. */
START_TEST(labelled_runs_get_their_class)
{
	struct tally t = { 0 };

	for (enum run_kind kind = 0; kind < RUN_KIND_COUNT; kind++) {
		tally_kind(&t, kind);
		ck_assert_msg(100 * t.right[kind] >= 95 * t.made[kind], "%s: %zu of %zu right", run_labels[kind].name,
			      t.right[kind], t.made[kind]);
	}
	ck_assert_uint_ge(1000 * t.leaks_true, 980 * t.leaks_said);
	ck_assert_uint_eq(t.sure_walks, 0);
	for (size_t c = 0; c < VERDICT_CLASS_COUNT; c++)
		ck_assert_msg(t.classes[c], "class %s never reached", verdict_class_names[c]);
}
END_TEST

START_TEST(long_walks_and_noise_are_seldom_surely_leaks)
{
	size_t sure = 0, leaks = 0;

	for (uint64_t seed = 1; seed <= 100; seed++)
		for (size_t i = 0; i < 2; i++) {
			struct judged j;
			struct run r;

			run_make(&r, i ? RUN_WALK : RUN_AR1, seed, 60);
			judge(&r.input, &j);
			leaks += i == 0 && j.v.class == VERDICT_LEAK;
			sure += j.v.class == VERDICT_LEAK && j.v.confidence >= 0.9;
			arena_deinit(&j.arena);
			run_free(&r);
		}
	ck_assert_uint_le(leaks, 1);
	ck_assert_uint_le(sure, 3);
}
END_TEST

/* Kinds and inputs that between them reach each evidence rule. */
static void collect_ids(enum run_kind kind, uint64_t seed, double seconds, bool foreign, bool seen[IDS_MAX])
{
	const struct sites_course few = { .top_share = 0.9, .growing_sites = 1, .churning_sites = 9, .survival = 0.01 };
	struct judged j;
	struct run r;

	run_make(&r, kind, seed, seconds);
	r.input.foreign_heap = foreign;
	r.input.sites = &few;
	judge(&r.input, &j);
	for (size_t i = 0; evidence_rules[i].id; i++)
		if (find_evidence(&j.v, evidence_rules[i].id))
			seen[i] = true;
	for (size_t i = 0; i < j.v.evidence_count; i++)
		ck_assert_msg(j.v.evidence[i].text[0] != '\0', "%s has no text", j.v.evidence[i].id);
	arena_deinit(&j.arena);
	run_free(&r);
}

START_TEST(every_evidence_rule_is_reached)
{
	bool seen[IDS_MAX] = { false };

	for (enum run_kind kind = 0; kind < RUN_KIND_COUNT; kind++)
		for (uint64_t seed = 1; seed <= 12; seed++) {
			collect_ids(kind, seed, 0, false, seen);
			collect_ids(kind, seed, 5, true, seen);
		}
	for (size_t i = 0; evidence_rules[i].id; i++)
		ck_assert_msg(i < IDS_MAX && seen[i], "%s never said", evidence_rules[i].id);
}
END_TEST

START_TEST(confidence_rises_and_is_modest_at_first)
{
	const double seconds[] = { 4, 9, 14, 20, 40, 80 };
	double before = 0;

	for (size_t i = 0; i < sizeof(seconds) / sizeof(*seconds); i++) {
		struct judged j;
		struct run r;

		run_make(&r, RUN_LEAK_LIVE, 3, seconds[i]);
		judge(&r.input, &j);
		ck_assert_int_eq(j.v.class, VERDICT_LEAK);
		ck_assert_msg(j.v.confidence > before, "%g s: %g, before %g", seconds[i], j.v.confidence, before);
		ck_assert(seconds[i] >= 15 || j.v.confidence < 0.9);
		before = j.v.confidence;
		arena_deinit(&j.arena);
		run_free(&r);
	}
	ck_assert_double_ge(before, 0.95);
}
END_TEST

/* A run written by hand: one value a tick from a function of time. */
typedef double course(double t_s);

static void add_course(struct series *s, double seconds, course *rss, course *in_use, course *free_inside)
{
	for (double t = 0; t <= seconds; t += 0.1) {
		struct sample sample;

		sample_init(&sample, t);
		sample.v[METRIC_RSS] = rss(t);
		if (in_use)
			sample.v[METRIC_HEAP_IN_USE] = in_use(t);
		if (free_inside)
			sample.v[METRIC_HEAP_FREE] = free_inside(t);
		ck_assert_int_eq(series_add(s, &sample), 0);
	}
}

static double rising(double t_s)
{
	return 20 * MIB + 1.0 * MIB * t_s;
}

static double rising_rss(double t_s)
{
	return 40 * MIB + 1.0 * MIB * t_s;
}

static double nine(double t_s)
{
	(void)t_s;
	return 9.1 * MIB;
}

static double forty(double t_s)
{
	(void)t_s;
	return 40 * MIB;
}

START_TEST(a_clean_leak_reads_well)
{
	struct verdict_limit limits[] = { { (uint64_t)(400 * MIB), "machine", 100 * MIB },
					  { (uint64_t)(160 * MIB), "cgroup", 100 * MIB } };
	struct verdict_input in = {
		.now_s = 60, .limits = limits, .limit_count = 2, .top_site_function = "cache_put", .hot_class_size = 48
	};
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 60, rising_rss, rising, nine);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_LEAK);
	ck_assert_int_eq(j.v.kind, KIND_SUSPECTED);
	ck_assert_int_eq(j.v.where, WHERE_HEAP);
	ck_assert_int_eq(j.v.judged, METRIC_HEAP_IN_USE);
	ck_assert_double_ge(j.v.confidence, 0.95);
	ck_assert_double_eq_tol(j.v.slope_per_s.value, MIB, 1);
	ck_assert_str_eq(j.v.summary,
			 "in-use heap grows 1.00 MiB/s, linear over 60 s, each trough higher than the one before");
	ck_assert_str_eq(j.v.evidence[0].id, "trend");
	ck_assert_str_eq(j.v.evidence[0].text, "in-use heap grows 1.00 MiB/s (95 %: 1.00 to 1.00), linear over 60 s, "
					       "each trough higher than the one before");
	ck_assert_str_eq(find_evidence(&j.v, "free-inside")->text,
			 "not retention: bytes free inside the allocator are flat (9.10 MiB)");
	ck_assert_str_eq(find_evidence(&j.v, "rest-of-rss")->text, "not mappings: the rest of RSS is flat");
	ck_assert(find_evidence(&j.v, "work")->against);
	ck_assert(has_action(&j.v, "cache_put"));
	ck_assert(has_action(&j.v, "48 bytes"));
	/* the nearest limit in time, not the first */
	ck_assert(j.v.forecast.known);
	ck_assert_str_eq(j.v.forecast.limit_source, "cgroup");
	ck_assert_double_eq_tol(j.v.forecast.eta_s.value, 60, 0.1);
	ck_assert(j.v.forecast.eta_s.low <= j.v.forecast.eta_s.value &&
		  j.v.forecast.eta_s.value <= j.v.forecast.eta_s.high);
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(rss_alone_is_never_a_leak)
{
	struct verdict_input in = { .now_s = 60 };
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 60, rising_rss, NULL, NULL);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_GROWTH);
	ck_assert_int_eq(j.v.where, WHERE_NONE);
	ck_assert(find_evidence(&j.v, "no-heap-truth")->against);
	ck_assert(!j.v.forecast.known);
	arena_deinit(&j.arena);
	in.runtime = "python";
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_GROWTH);
	ck_assert_double_le(j.v.confidence, 0.7);
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(smaps_classes_say_where)
{
	struct region_totals first[REGION_CLASS_COUNT] = { 0 }, last[REGION_CLASS_COUNT] = { 0 };
	struct verdict_input in = { .now_s = 60, .classes_first = first, .classes_last = last };
	const struct {
		enum region_class grows;
		enum verdict_where where;
	} cases[] = { { REGION_HEAP, WHERE_HEAP },
		      { REGION_ANON, WHERE_ANON },
		      { REGION_FILE, WHERE_FILE },
		      { REGION_SHMEM, WHERE_SHMEM },
		      { REGION_STACK, WHERE_STACK } };
	struct series *s;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 60, rising_rss, NULL, NULL);
	in.series = s;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct judged j;

		last[cases[i].grows].rss_bytes = (uint64_t)(60 * MIB);
		judge(&in, &j);
		ck_assert_int_eq(j.v.class, VERDICT_GROWTH);
		ck_assert_msg(j.v.where == cases[i].where, "class %zu: where %d", i, (int)j.v.where);
		last[cases[i].grows].rss_bytes = 0;
		arena_deinit(&j.arena);
	}
	series_destroy(s);
}
END_TEST

static double freed_at_end(double t_s)
{
	return t_s < 28 ? 50 * MIB : 2 * MIB;
}

static double leak_freed_at_end(double t_s)
{
	return t_s < 28.5 ? rising(t_s) : 1 * MIB;
}

START_TEST(what_a_dying_process_frees_says_nothing)
{
	struct verdict_input in = { .now_s = 30, .ended = true };
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 30, freed_at_end, freed_at_end, nine);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_STABLE);
	arena_deinit(&j.arena);
	series_destroy(s);

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 30, leak_freed_at_end, leak_freed_at_end, nine);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_LEAK);
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

static double filled(double t_s)
{
	return 10 * MIB + 100 * MIB * fmin(t_s, 8) / 8;
}

/* 40 % of a run from exec: a cache, not the start-up; and while it fills it must be no sure leak. */
START_TEST(a_cache_from_exec_is_warmup)
{
	struct verdict_input in = { .from_start = true };
	const double seconds[] = { 6, 20 };
	const enum verdict_class expected[] = { VERDICT_LEAK, VERDICT_WARMUP };

	for (size_t i = 0; i < 2; i++) {
		struct series *s;
		struct judged j;

		ck_assert_int_eq(series_create(&s), 0);
		add_course(s, seconds[i], filled, filled, nine);
		in.series = s;
		in.now_s = seconds[i];
		judge(&in, &j);
		ck_assert_int_eq(j.v.class, expected[i]);
		ck_assert(i == 1 || j.v.confidence < 0.75);
		ck_assert(find_evidence(&j.v, "startup") != NULL);
		arena_deinit(&j.arena);
		series_destroy(s);
	}
}
END_TEST

START_TEST(retention_actions_fit_the_cause)
{
	struct heap_size_class classes[] = { { .size = 32, .in_use_blocks = 90000 },
					     { .size = 4096, .in_use_blocks = 100 } };
	struct judged j;
	struct run r;

	run_make(&r, RUN_PEAK_TOP, 1, 20);
	r.heap.arena_count = 64;
	judge(&r.input, &j);
	ck_assert_int_eq(j.v.cause, CAUSE_ALLOCATOR);
	ck_assert(has_action(&j.v, "malloc_trim(0)"));
	ck_assert(has_action(&j.v, "MALLOC_ARENA_MAX=2"));
	ck_assert(find_evidence(&j.v, "peak-held")->value >= find_evidence(&j.v, "peak-held")->threshold);
	arena_deinit(&j.arena);
	run_free(&r);

	run_make(&r, RUN_PEAK_PINNED, 1, 20);
	r.heap.classes = classes;
	r.heap.class_count = 2;
	r.heap.in_use_blocks = 90100;
	judge(&r.input, &j);
	ck_assert_int_eq(j.v.cause, CAUSE_FRAGMENTATION);
	ck_assert(has_action(&j.v, "32 bytes"));
	ck_assert(!has_action(&j.v, "MALLOC_ARENA_MAX"));
	arena_deinit(&j.arena);
	run_free(&r);
}
END_TEST

static double small_free(double t_s)
{
	(void)t_s;
	return 4 * MIB;
}

/* A third of a small process free is an allocator's normal stock. */
START_TEST(little_free_memory_is_no_retention)
{
	struct verdict_input in = { .now_s = 20 };
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 20, nine, small_free, small_free);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_STABLE);
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(forecast_knows_its_limits)
{
	struct verdict_limit limits[] = { { UNKNOWN_U64, "cgroup", 1 },
					  { 1000, "rlimit", NAN },
					  { 1000, "--limit", 5000 } };
	struct verdict_input in = { .now_s = 60, .limits = limits, .limit_count = 2 };
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 60, rising_rss, rising, nine);
	in.series = s;
	judge(&in, &j);
	ck_assert(!j.v.forecast.known);
	ck_assert(isnan(j.v.forecast.eta_s.value));
	arena_deinit(&j.arena);
	in.limit_count = 3; /* already beyond */
	judge(&in, &j);
	ck_assert(j.v.forecast.known);
	ck_assert_double_eq(j.v.forecast.eta_s.value, 0);
	arena_deinit(&j.arena);
	series_destroy(s);

	ck_assert_int_eq(series_create(&s), 0);
	add_course(s, 60, forty, forty, nine);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_STABLE);
	ck_assert(!j.v.forecast.known);
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(nothing_at_all_is_insufficient)
{
	struct verdict_input in = { .now_s = 100 };
	struct series *s;
	struct judged j;

	ck_assert_int_eq(series_create(&s), 0);
	in.series = s;
	judge(&in, &j);
	ck_assert_int_eq(j.v.class, VERDICT_INSUFFICIENT_DATA);
	ck_assert_str_eq(j.v.evidence[0].id, "short");
	arena_deinit(&j.arena);
	series_destroy(s);
}
END_TEST

START_TEST(no_memory_leaves_the_result_alone)
{
	struct verdict v = { .class = VERDICT_SPIKE, .summary = "before" };
	struct arena arena;
	struct run r;

	run_make(&r, RUN_LEAK_CHURN, 1, 20);
	for (size_t limit = 16; limit < 1024; limit += 100) {
		arena_init(&arena, 16, limit);
		ck_assert_int_eq(verdict_judge(&r.input, &arena, &v), -ENOMEM);
		ck_assert_int_eq(v.class, VERDICT_SPIKE);
		ck_assert_str_eq(v.summary, "before");
		arena_deinit(&arena);
	}
	run_free(&r);
}
END_TEST

START_TEST(the_same_input_gives_the_same_verdict)
{
	struct judged a, b;
	struct run r;

	run_make(&r, RUN_LEAK_SAWTOOTH, 9, 25);
	judge(&r.input, &a);
	judge(&r.input, &b);
	ck_assert_str_eq(a.v.summary, b.v.summary);
	ck_assert_uint_eq(a.v.evidence_count, b.v.evidence_count);
	for (size_t i = 0; i < a.v.evidence_count; i++)
		ck_assert_str_eq(a.v.evidence[i].text, b.v.evidence[i].text);
	ck_assert(!verdict_changed(&a.v, &b.v));
	b.v.cause = CAUSE_GC;
	ck_assert(verdict_changed(&a.v, &b.v));
	ck_assert(verdict_in_set(&a.v, 1ULL << a.v.class));
	ck_assert(!verdict_in_set(&a.v, ~(1ULL << a.v.class)));
	arena_deinit(&a.arena);
	arena_deinit(&b.arena);
	run_free(&r);
}
END_TEST

static void add_tests(TCase *tc)
{
	tcase_add_test(tc, labelled_runs_get_their_class);
	tcase_add_test(tc, long_walks_and_noise_are_seldom_surely_leaks);
	tcase_add_test(tc, every_evidence_rule_is_reached);
	tcase_add_test(tc, confidence_rises_and_is_modest_at_first);
	tcase_add_test(tc, a_clean_leak_reads_well);
	tcase_add_test(tc, rss_alone_is_never_a_leak);
	tcase_add_test(tc, smaps_classes_say_where);
	tcase_add_test(tc, what_a_dying_process_frees_says_nothing);
	tcase_add_test(tc, a_cache_from_exec_is_warmup);
	tcase_add_test(tc, retention_actions_fit_the_cause);
	tcase_add_test(tc, little_free_memory_is_no_retention);
	tcase_add_test(tc, forecast_knows_its_limits);
	tcase_add_test(tc, nothing_at_all_is_insufficient);
	tcase_add_test(tc, no_memory_leaves_the_result_alone);
	tcase_add_test(tc, the_same_input_gives_the_same_verdict);
}

int main(void)
{
	Suite *suite = suite_create("verdict");
	TCase *tc = tcase_create("verdict");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	add_tests(tc);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
