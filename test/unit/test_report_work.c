/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writers: work, cycles and size classes; one report a line; what is said of recordings. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "support_report.h"

/* ---- work, cycles, size classes ---------------------------------------------------------------------------------------- */

static void check_block(const struct snapshot *s, const char *line, const char *absent)
{
	cleanup_str struct str out = STR_INIT;

	ck_assert_int_eq(report_verdict_text(s, &ascii, &out), 0);
	ck_assert_msg(!line || strstr(str_text(&out), line), "no %s in %s", line, str_text(&out));
	ck_assert_msg(!absent || !strstr(str_text(&out), absent), "%s in %s", absent, str_text(&out));
}

START_TEST(test_work_line)
{
	struct snapshot s;
	struct work_fit *w;

	scenario(&s);
	w = &s.main.verdict.work;
	w->model = "power";
	w->exponent.value = 1.5;
	w->bytes_per_s = (struct interval){ 2048, 1024, 3072 };
	w->prediction_count = 1;
	check_block(&s,
		    ", power of 1.50, r2 0.99; without work +2.00 KiB/s (95 %: 1.00 to 3.00); at request 1,000,000: "
		    "133 MiB (95 %: 127 to 139)\n",
		    NULL);
	check_block(&s, "  work:   136 B per request on average (95 %: 130 to 142), fixed", NULL);
	w->bytes_per_s.low = -1; /* may be nothing */
	check_block(&s, NULL, "without work");
	w->unit = w->model = NULL;
	w->r2 = w->fixed_bytes.value = w->bytes_per_unit.low = NAN;
	w->prediction_count = 0;
	check_block(&s, "  work:   136 B per unit, model unknown\n", "nan");
	w->model = "constant";
	w->bytes_per_unit.value = NAN;
	check_block(&s, "  work:   unknown per unit, constant\n", "nan");
	w->known = false;
	check_block(&s, NULL, "work:");
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_cycles_line)
{
	struct snapshot s;
	struct cycle_fit *c;

	scenario(&s);
	c = &s.main.verdict.cycles;
	c->growth_per_cycle = (struct interval){ -4096, NAN, NAN };
	c->duration_ratio = 1.04;
	check_block(&s, " in the last, -4.00 KiB a cycle; cycle time 2.1 ms -> 29 ms (1.0x)\n", NULL);
	c->growth_per_cycle.value = c->duration_last_s = NAN;
	c->edge = UNKNOWN_U64;
	check_block(&s, "  cycles: 1,000: 12.1 MiB in the first, 12.1 MiB in the last\n", "cycle time");
	c->known = false;
	check_block(&s, NULL, "cycles:");
	snapshot_deinit(&s);
}
END_TEST

/* The classes that grow most come first, five of them; those of which nothing is known have no line. */
START_TEST(test_size_classes)
{
	struct heap_size_class classes[] = {
		{ 32, 1, 32, 0, 0, NAN, 0, 0, NAN, NAN },     { 48, 1, 48, 0, 0, -5, 0, 0, NAN, NAN },
		{ 64, 1, 6400, 0, 0, 10, 0, 0, NAN, NAN },    { 80, 1, 80, 0, 0, 10, 8, 8, 0, NAN },
		{ 96, 1, 96, 0, 0, 4096, 32, 1, 0.94, 41.5 }, { 112, 1, 112, 0, 0, 0, 4, 2, 0.25, NAN },
		{ 128, 1, 128, 0, 0, 1, 0, 0, NAN, NAN },     { 144, 1, 144, 0, 0, 2, 0, 0, NAN, NAN },
	};
	static const char wanted[] =
		"  size class 96: +4.00 KiB/s, 96 B in use, 31 of 32 blocks followed survive, leak probability 0.94, "
		"median age 42 s\n"
		"  size class 64: +10 B/s, 6.25 KiB in use\n"
		"  size class 80: +10 B/s, 80 B in use, 0 of 8 blocks followed survive, leak probability 0.00\n"
		"  size class 144: +2 B/s, 144 B in use\n"
		"  size class 128: +1 B/s, 128 B in use\n\nmappings";
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	s.main.heap.classes = classes;
	s.main.heap.class_count = COUNT(classes);
	render("text", &s, &plain, &out);
	ck_assert_msg(strstr(str_text(&out), wanted), "%s", strstr(str_text(&out), "  size class"));
	snapshot_deinit(&s);
}
END_TEST

/* ---- limits ------------------------------------------------------------------------------------------------------------ */

START_TEST(test_limits_near_and_never)
{
	static const struct {
		struct interval eta_s;
		const char *wanted;
	} cases[] = {
		{ { 0, 0, 0 }, "(cgroup), reached already\n" },
		{ { 90, 60, 100 }, "(cgroup) in 90 s (90 %: 60 to 100 s)\n" },
		{ { INFINITY, 60, INFINITY }, "(cgroup), not before 60 s\n" },
		{ { NAN, 60, NAN }, "(cgroup), not before 60 s\n" }, /* read back from JSON */
		{ { INFINITY, INFINITY, INFINITY }, "(cgroup), not reached at this rate\n" },
		{ { NAN, NAN, NAN }, "(cgroup), not reached at this rate\n" },
	};
	struct snapshot s;

	scenario(&s);
	for (size_t i = 0; i < COUNT(cases); i++) {
		cleanup_str struct str out = STR_INIT;

		s.main.verdict.forecast.eta_s = cases[i].eta_s;
		ck_assert_int_eq(report_verdict_text(&s, &plain, &out), 0);
		ck_assert_msg(strstr(str_text(&out), cases[i].wanted), "%s", strstr(str_text(&out), "  limit:"));
	}
	snapshot_deinit(&s);
}
END_TEST

/* ---- one line, and recordings ------------------------------------------------------------------------------------------ */

/* The same document as the JSON, on one line. */
START_TEST(test_ndjson)
{
	cleanup_str struct str json = STR_INIT;
	cleanup_str struct str line = STR_INIT;
	bool quoted = false;
	size_t len = 0;
	struct snapshot s;

	scenario_tree(&s);
	scenario_make_hostile(&s);
	render("json", &s, &plain, &json);
	render("ndjson", &s, &plain, &line);
	for (size_t i = 0; i < json.len; i++) {
		quoted ^= json.data[i] == '"' && json.data[i - 1] != '\\';
		if (quoted || !strchr(" \t\n", json.data[i]))
			json.data[len++] = json.data[i];
	}
	json.data[len] = '\0';
	ck_assert_ptr_eq(strchr(str_text(&line), '\n'), line.data + line.len - 1);
	line.data[--line.len] = '\0';
	ck_assert_uint_eq(line.len, len);
	ck_assert(memcmp(line.data, json.data, len) == 0);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_recording)
{
	struct report_style narrow = { false, 100, false };
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	s.main.target.source = "night.csv";
	s.main.target.label = "web-1";
	s.session.samples = 1000;
	s.session.duration_s = 9990;
	s.session.interval_ms = 10000;
	ck_assert_int_eq(report_recording_head(&s, &plain, &out), 0);
	ck_assert_str_eq(str_text(&out),
			 "memwatch: night.csv: web-1, srv, pid 4242: rss_bytes, heap_in_use_bytes, threads, cpu_s; "
			 "1,000 rows over 2.8 h, every 10 s\n");
	str_reset(&out);
	ck_assert_int_eq(report_recording_line(&s, false, &narrow, &out), 0);
	ck_assert_str_eq(str_text(&out), "web-1                                 leak (suspected)          0.97  the "
					 "in-use heap grows witho...\n");
	str_reset(&out);
	ck_assert_int_eq(report_recording_line(&s, true, &ascii, &out), 0);
	ck_assert_str_eq(str_text(&out), "night.csv: web-1                      leak (suspected)          0.97  the "
					 "in-use heap grows without an end in sight\n");
	str_reset(&out);
	render("text", &s, &plain, &out);
	ck_assert_ptr_null(strstr(str_text(&out), "cost:"));
	ck_assert_ptr_null(strstr(str_text(&out), "still running"));
	ck_assert_ptr_nonnull(strstr(str_text(&out), "1,000 rows over 2.8 h, every 10 s\n\nverdict: leak"));
	snapshot_deinit(&s);
}
END_TEST

/* Labels come from files that anybody may have written. */
START_TEST(test_recording_hostile)
{
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	scenario_make_hostile(&s);
	ck_assert_int_eq(report_recording_head(&s, &ascii, &out), 0);
	ck_assert_int_eq(report_recording_line(&s, true, &ascii, &out), 0);
	check_printable(&out, true);
	ck_assert_ptr_eq(strchr(strchr(str_text(&out), '\n') + 1, '\n'), out.data + out.len - 1);
	snapshot_deinit(&s);
	str_reset(&out);
	snapshot_init(&s); /* nothing known at all */
	s.session.samples = UNKNOWN_U64;
	s.session.duration_s = s.session.interval_ms = NAN;
	ck_assert_int_eq(report_recording_head(&s, &ascii, &out), 0);
	ck_assert_int_eq(report_recording_line(&s, true, &ascii, &out), 0);
	ck_assert_str_eq(str_text(&out), "memwatch: unknown; unknown rows over unknown\n"
					 "unknown                               insufficient-data         0.00  \n");
	snapshot_deinit(&s);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("report_work");
	TCase *tc = tcase_create("report_work");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_work_line);
	tcase_add_test(tc, test_cycles_line);
	tcase_add_test(tc, test_size_classes);
	tcase_add_test(tc, test_limits_near_and_never);
	tcase_add_test(tc, test_ndjson);
	tcase_add_test(tc, test_recording);
	tcase_add_test(tc, test_recording_hostile);
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
