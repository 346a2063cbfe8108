/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading a report back. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "support_report.h"

/* ---- reading back ------------------------------------------------------------------------------------------------------ */

/* What is read back renders the same, in every format. */
START_TEST(test_roundtrip)
{
	cleanup_str struct str json = STR_INIT;
	struct snapshot s;
	struct snapshot back;
	struct err err = ERR_INIT;

	scenario_tree(&s);
	if (_i == 1)
		scenario_make_hostile(&s);
	if (_i == 2)
		s.main.target.exited = true;
	if (_i == 3)
		scenario_add_runtime(&s.main);
	render("json", &s, &plain, &json);
	ck_assert_msg(report_parse(str_text(&json), json.len, &back, &err) == 0, "%s", err.msg);
	for (const struct report_format *f = report_formats; f->name; f++) {
		cleanup_str struct str before = STR_INIT;
		cleanup_str struct str after = STR_INIT;

		render(f->name, _i == 1 ? &back : &s, &plain, &before);
		render(f->name, &back, &plain, &after);
		ck_assert_msg(after.len == before.len && memcmp(after.data, before.data, after.len) == 0,
			      "%s differs: %s, not %s", f->name, str_text(&after), str_text(&before));
	}
	ck_assert_int_eq(back.main.target.id.pid, 4242);
	ck_assert_uint_eq(back.main.heap.walk_ns, 15500000);
	ck_assert_uint_eq(back.main.heap.classes[1].in_use_bytes, 61440 * 1040);
	ck_assert(back.main.metrics[METRIC_PSS].count == 0 && isnan(back.main.metrics[METRIC_PSS].last));
	ck_assert_int_eq(back.main.target.exited, _i == 2);
	ck_assert_uint_eq(back.main.heap.classes[1].freed_blocks, 1);
	ck_assert(_i == 1 || back.main.sites[0].allocated_blocks == 61502);
	ck_assert(_i == 1 || back.main.sites[0].bytes_low == s.main.sites[0].bytes_low);
	ck_assert(_i == 1 || back.main.sites[0].age_s == 41.5);
	ck_assert(back.main.verdict.work.known && !back.processes[1].verdict.work.known);
	ck_assert(back.main.verdict.work.cooperative && back.main.verdict.work.bytes_per_unit.high == 142);
	ck_assert_uint_eq(back.main.verdict.work.prediction_count, 2);
	ck_assert(back.main.verdict.work.predictions[0].bytes.value == 139774874);
	ck_assert(back.main.verdict.cycles.slows && back.main.verdict.cycles.edge == 100);
	ck_assert(back.main.verdict.cycles.quarters[1].mean_duration_s == 0.01);
	ck_assert(isnan(back.main.verdict.cycles.quarters[2].mean_bytes));
	ck_assert((back.main.target.source != NULL) == (_i == 1));
	ck_assert(back.main.has_runtime == (_i == 1 || _i == 3) && !back.processes[1].has_runtime);
	snapshot_deinit(&back);
	snapshot_deinit(&s);
}
END_TEST

/* A runtime's accounts: what is not known stays so, and every figure keeps its unit. */
START_TEST(test_runtime)
{
	cleanup_str struct str json = STR_INIT;
	cleanup_str struct str text = STR_INIT;
	struct snapshot s;
	struct snapshot back;
	struct err err = ERR_INIT;
	const struct runtime_stats *r = &back.main.runtime;

	scenario(&s);
	scenario_add_runtime(&s.main);
	s.main.runtime.live_bytes = _i ? 8 * MIB : NAN;
	s.main.runtime.live_is_stale = _i;
	render("json", &s, &plain, &json);
	ck_assert_msg(report_parse(str_text(&json), json.len, &back, &err) == 0, "%s", err.msg);
	ck_assert(back.main.has_runtime);
	ck_assert_str_eq(back.main.target.runtime.name, "cpython");
	ck_assert(_i ? r->live_bytes == 8 * MIB : isnan(r->live_bytes));
	ck_assert(r->live_is_stale == (bool)_i && isnan(r->released_bytes));
	ck_assert(r->in_use_bytes == 38 * MIB && r->free_bytes == 3 * MIB + 512 && r->committed_bytes == 41 * MIB);
	ck_assert(r->collections == 1234567 && r->tasks == 3);
	ck_assert_uint_eq(r->figure_count, 4);
	for (size_t i = 0; i < r->figure_count; i++) {
		ck_assert_str_eq(r->figures[i].name, s.main.runtime.figures[i].name);
		ck_assert_int_eq(r->figures[i].unit, s.main.runtime.figures[i].unit);
	}
	ck_assert(r->figures[1].value == 3145728 && isnan(r->figures[3].value));
	render("text", &back, &plain, &text);
	ck_assert_ptr_nonnull(strstr(str_text(&text), "\nruntime (cpython 3.11.2, found by symbol)\n"));
	ck_assert_ptr_nonnull(strstr(str_text(&text), "\n  in use                  38.0 MiB\n"));
	ck_assert_ptr_nonnull(strstr(str_text(&text), "\n  full collections       1,234,567\n"));
	ck_assert_ptr_nonnull(strstr(str_text(&text), "\n  pymalloc pinned         3.00 MiB\n"));
	ck_assert((strstr(str_text(&text), "live after collection") != NULL) == (bool)_i);
	ck_assert((strstr(str_text(&text), "does not keep it up to date") != NULL) == (bool)_i);
	ck_assert_ptr_null(strstr(str_text(&text), "uncollectable"));
	ck_assert_ptr_null(strstr(str_text(&text), "released"));
	snapshot_deinit(&back);
	snapshot_deinit(&s);
}
END_TEST

#define MINIMAL                                                                                                        \
	"\"schema\":\"memwatch-report/1\",\"session\":{},\"cost\":{},\"target\":{},\"verdict\":{\"class\":\"leak\"}"

START_TEST(test_parse_refuses)
{
	static const struct {
		const char *text, *message;
	} cases[] = {
		{ "", "no valid JSON" },
		{ "{", "no valid JSON" },
		{ "{" MINIMAL "} x", "no valid JSON at byte" },
		{ "[]", "'schema'" },
		{ "{\"schema\":\"memwatch-report/2\"}", "'schema'" },
		{ "{\"schema\":\"memwatch-report/1\",\"session\":{},\"cost\":{},\"target\":{}}",
		  "'verdict' is missing" },
		{ "{" MINIMAL ",\"heap\":{\"in_use_bytes\":-1}}", "'heap.in_use_bytes'" },
		{ "{" MINIMAL ",\"heap\":{\"in_use_bytes\":1.5}}", "'heap.in_use_bytes'" },
		{ "{" MINIMAL ",\"heap\":{\"in_use_bytes\":1e999}}", "'heap.in_use_bytes'" },
		{ "{" MINIMAL ",\"heap\":{\"arenas\":[{},{\"address\":7}]}}", "'heap.arenas[1].address'" },
		{ "{" MINIMAL ",\"heap\":{\"arenas\":[3]}}", "'heap.arenas[0]'" },
		{ "{" MINIMAL ",\"runtime\":7}", "'runtime' is not an object" },
		{ "{" MINIMAL ",\"runtime\":{\"in_use_bytes\":\"x\"}}", "'runtime.in_use_bytes'" },
		{ "{" MINIMAL ",\"runtime\":{\"figures\":[1]}}", "'runtime.figures' is not an object" },
		{ "{" MINIMAL ",\"runtime\":{\"figures\":{\"\\u001b[2J\":{}}}}", "'runtime.figures'" },
		{ "{" MINIMAL ",\"runtime\":{\"figures\":{\"a\":1e999}}}", "'runtime.figures'" },
		{ "{" MINIMAL ",\"work\":[]}", "'work' is not an object" },
		{ "{" MINIMAL ",\"work\":{\"predictions\":[{\"bytes\":7}]}}", "'work.predictions[0].bytes'" },
		{ "{" MINIMAL ",\"cycles\":{\"count\":-1}}", "'cycles.count'" },
		{ "{" MINIMAL ",\"cycles\":{\"quarters\":[{},{},{},{},{\"mean_bytes\":\"x\"}]}}",
		  "'cycles.quarters[4].mean_bytes'" },
		{ "{" MINIMAL ",\"sites\":{}}", "'sites' is not an array" },
		{ "{" MINIMAL ",\"sites\":[{\"frames\":[{\"function\":1}]}]}", "'sites[0].frames[0].function'" },
		{ "{" MINIMAL ",\"series\":{\"columns\":[\"t_s\"],\"rows\":[[1],[1,2]]}}", "'series.rows'" },
		{ "{" MINIMAL ",\"series\":{\"columns\":[\"t_s\"],\"rows\":[[]]}}", "'series.rows'" },
		{ "{" MINIMAL ",\"series\":{\"columns\":[\"t_s\"],\"rows\":[7]}}", "'series.rows'" },
		{ "{\"schema\":\"memwatch-report/1\",\"session\":{\"started_at\":\"yesterday\"}}",
		  "'session.started_at'" },
		{ "[[[[[[[[[[[[[[[[[[[[[[", "too deep" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct err err = ERR_INIT;
		struct snapshot s;

		memset(&s, 0x5a, sizeof(s));
		ck_assert_int_eq(report_parse(cases[i].text, strlen(cases[i].text), &s, &err), -EBADMSG);
		ck_assert_msg(strstr(err.msg, cases[i].message), "'%s' does not say %s", err.msg, cases[i].message);
		ck_assert_int_eq(((unsigned char *)&s)[0], 0x5a);
	}
}
END_TEST

START_TEST(test_parse_minimal)
{
	static const char text[] = "{" MINIMAL "}\n";
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	ck_assert_int_eq(report_parse(text, sizeof(text) - 1, &s, NULL), 0);
	ck_assert_int_eq(s.main.verdict.class, VERDICT_LEAK);
	ck_assert_uint_eq(s.cost.stops, UNKNOWN_U64);
	ck_assert(isnan(s.main.verdict.confidence) && isnan(s.limit_bytes));
	ck_assert(!s.main.has_heap && !s.main.has_runtime);
	render("text", &s, &plain, &out);
	ck_assert_ptr_nonnull(strstr(str_text(&out), "verdict: leak\n"));
	snapshot_deinit(&s);
}
END_TEST

/* Older reports lack the newer members; later ones may have more of them. */
START_TEST(test_parse_other_releases)
{
	static const char text[] =
		"{" MINIMAL ",\"heap\":{\"size_classes\":[{\"size\":32,\"in_use\":64,\"free\":0}]},"
		"\"work\":{\"unit\":\"request\",\"predictions\":[{\"units\":1},{},{},{},{},{\"units\":6}]},"
		"\"sites\":[{\"bytes\":4096,\"share\":1,\"blocks\":1,\"allocated_bytes\":4096}],"
		"\"cycles\":{\"count\":7,\"quarters\":[{\"mean_bytes\":5},{},{},{},{}]}}";
	struct snapshot s;

	ck_assert_int_eq(report_parse(text, sizeof(text) - 1, &s, NULL), 0);
	ck_assert_uint_eq(s.main.heap.classes[0].tracked_blocks, 0);
	ck_assert(isnan(s.main.heap.classes[0].leak_probability));
	ck_assert(s.main.verdict.work.known && s.main.verdict.cycles.known);
	ck_assert_uint_eq(s.main.verdict.work.prediction_count, WORK_PREDICTIONS);
	ck_assert_uint_eq(s.main.sites[0].allocated_blocks, UNKNOWN_U64);
	ck_assert(isnan(s.main.sites[0].bytes_low) && isnan(s.main.sites[0].bytes_high) &&
		  isnan(s.main.sites[0].age_s));
	ck_assert(isnan(s.main.verdict.work.fixed_bytes.value) && isnan(s.main.verdict.work.predictions[1].units));
	ck_assert(s.main.verdict.cycles.quarters[0].mean_bytes == 5);
	ck_assert(isnan(s.main.verdict.cycles.quarters[3].mean_bytes));
	snapshot_deinit(&s);
}
END_TEST

/* A report that is cut anywhere is refused, never misread. */
START_TEST(test_parse_cut)
{
	cleanup_str struct str json = STR_INIT;
	struct snapshot s;
	struct snapshot back;

	scenario(&s);
	render("json", &s, &plain, &json);
	for (size_t len = 0; len < json.len - 2; len += 7)
		ck_assert_int_eq(report_parse(str_text(&json), len, &back, NULL), -EBADMSG);
	snapshot_deinit(&s);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("report_parse");
	TCase *tc = tcase_create("report_parse");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, test_roundtrip, 0, 4);
	tcase_add_loop_test(tc, test_runtime, 0, 2);
	tcase_add_test(tc, test_parse_refuses);
	tcase_add_test(tc, test_parse_minimal);
	tcase_add_test(tc, test_parse_other_releases);
	tcase_add_test(tc, test_parse_cut);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
