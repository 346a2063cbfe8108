/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writers: one scenario is held against every writer's golden file in test/golden/. MEMWATCH_UPDATE_GOLDEN=1 writes them anew: read the
 * difference before it is committed.
 */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/io.h"
#include "support_report.h"

/* ---- golden files ------------------------------------------------------------------------------------------------------ */

static void hold_against(const char *name, const struct str *text)
{
	const char *root = getenv("MEMWATCH_SRCDIR");
	const char *update = getenv("MEMWATCH_UPDATE_GOLDEN");
	cleanup_str struct str path = STR_INIT;
	cleanup_str struct str golden = STR_INIT;

	str_addf(&path, "%s/test/golden/%s", root ? root : ".", name);
	if (update && strcmp(update, "1") == 0)
		ck_assert_int_eq(io_write_file(str_text(&path), str_text(text), text->len, NULL), 0);
	{
		cleanup_close int fd = open(str_text(&path), O_RDONLY | O_CLOEXEC);

		ck_assert_msg(fd >= 0, "no golden file %s", str_text(&path));
		ck_assert_int_eq(io_read_all(fd, MIB, &golden), 0);
	}
	{ /* the whole of them would be too long for a message */
		const char *found = str_text(text);
		const char *wanted = str_text(&golden);
		size_t at = 0;

		while (found[at] && found[at] == wanted[at])
			at++;
		ck_assert_msg(found[at] == wanted[at], "%s differs at byte %zu: found '%.80s', wanted '%.80s'", name,
			      at, found + at, wanted + at);
	}
}

START_TEST(test_golden_text)
{
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario_tree(&s);
	render("text", &s, &plain, &out);
	hold_against("scenario.txt", &out);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_golden_json)
{
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario_tree(&s);
	render("json", &s, &plain, &out);
	hold_against("scenario.json", &out);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_golden_stream)
{
	cleanup_str struct str out = STR_INIT;
	struct sample sample;
	struct snapshot s;

	scenario(&s);
	sample_init(&sample, 0.1);
	ck_assert_int_eq(stream_hello(&s.main.target, 100, &out), 0);
	ck_assert_int_eq(stream_sample(&sample, 4242, &out), 0);
	sample.t_s = 0.2;
	sample.v[METRIC_RSS] = 10485760;
	sample.v[METRIC_HEAP_IN_USE] = 9007199254740991.0;
	sample.v[METRIC_CPU] = 0.1 + 0.2;
	ck_assert_int_eq(stream_sample(&sample, 4242, &out), 0);
	ck_assert_int_eq(stream_event(0.3, 4242, "thread", NULL, 9, &out), 0);
	ck_assert_int_eq(stream_event(0.4, 4242, "exec", "/bin/\"new\"\n", NAN, &out), 0);
	ck_assert_int_eq(stream_verdict(30, 4242, &s.main.verdict, &out), 0);
	s.main.target.exited = true;
	s.main.target.exit_code = 7;
	ck_assert_int_eq(stream_bye(&s, &out), 0);
	hold_against("scenario.ndjson", &out);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_child_leak_is_told)
{
	cleanup_str struct str out = STR_INIT;
	const char *found;
	struct snapshot s;

	scenario_tree(&s);
	s.main.verdict = s.processes[0].verdict = s.processes[1].verdict; /* the target is stable */
	render("text", &s, &plain, &out);
	ck_assert_ptr_null(strstr(str_text(&out), "verdict: leak"));
	str_reset(&out);
	s.processes[1].verdict.class = VERDICT_LEAK;
	s.processes[1].sites = s.main.sites;
	s.processes[1].site_count = 1;
	render("text", &s, &plain, &out);
	found = strstr(str_text(&out), "\nprocess 4243, helper\nverdict: leak, confidence 0.50\n");
	ck_assert_ptr_nonnull(found);
	ck_assert_ptr_nonnull(strstr(found, "  where:  96 %  cache_put  cache.c:118"));
	snapshot_deinit(&s);
}
END_TEST

/* ---- the verdict block ------------------------------------------------------------------------------------------------- */

START_TEST(test_block)
{
	static const char wanted[] =
		"verdict: leak (suspected), confidence 0.97, in the heap\n"
		"  in-use heap grows 1.02 MiB/s (95 %: 0.98 to 1.06), linear over 60 s, each trough higher than the "
		"one before\n"
		"  not retention: bytes free inside the allocator are flat (9.1 MiB); not mappings: the rest of RSS is "
		"flat\n"
		"  where:  96 %  cache_put  cache.c:118  <- handle  srv.c:204  <- worker  srv.c:310\n"
		"  work:   136 B per request (95 %: 130 to 142), fixed 3.60 MiB, linear, r2 0.99; at request "
		"10,000,000: 1.27 GiB\n"
		"  cycles: 1,000: 12.1 MiB in the first 100, 12.1 MiB in the last, +0.20 B a cycle (95 %: -1.50 to "
		"1.90); cycle time 2.1 ms -> 29 ms (14x)\n"
		"  limit:  2.0 GiB (cgroup) in 26 min (90 %: 22 to 31 min)\n"
		"  cost:   0.4 % of one core, 12 stops, longest 0.21 ms\n";
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	s.main.site_count = 1;
	s.main.verdict.action_count = 0;
	s.session.gap_count = 0;
	ck_assert_int_eq(report_verdict_text(&s, &plain, &out), 0);
	ck_assert_str_eq(str_text(&out), wanted);
	snapshot_deinit(&s);
}
END_TEST

/* A verdict that brings no clause of its own is told by its figures, else by its summary. */
START_TEST(test_block_without_clauses)
{
	static const struct {
		struct interval slope;
		const char *line;
	} cases[] = {
		{ { 1069548, 1027604.5, 1111490.5 }, "\n  in-use heap grows 1.02 MiB/s (95 %: 0.98 to 1.06)\n" },
		{ { -2048, -3072, -1024 }, "\n  in-use heap falls 2.00 KiB/s (95 %: 1.00 to 3.00)\n" },
		{ { 10, -3072, 1024 }, "\n  in-use heap is flat\n" },
		{ { 2097152, NAN, NAN }, "\n  in-use heap grows 2.00 MiB/s\n" },
		{ { NAN, NAN, NAN }, "\n  the in-use heap grows without an end in sight\n" },
	};
	struct snapshot s;

	scenario(&s);
	s.main.verdict.evidence++; /* the trend's own clause is the first */
	s.main.verdict.evidence_count = 2;
	for (size_t i = 0; i < COUNT(cases); i++) {
		cleanup_str struct str out = STR_INIT;

		s.main.verdict.slope_per_s = cases[i].slope;
		ck_assert_int_eq(report_verdict_text(&s, &plain, &out), 0);
		ck_assert_msg(strstr(str_text(&out), cases[i].line), "no %s in %s", cases[i].line, str_text(&out));
		ck_assert_ptr_nonnull(strstr(str_text(&out), "\n  not retention: bytes free inside"));
	}
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_block_parts)
{
	static struct evidence doubts[] = {
		{ "peak-held", "9 MiB stay free", NAN, NULL, NAN, false },
		{ "pinned", "1 MiB share a page with a block in use", NAN, NULL, NAN, false },
		{ "trimmable", "8 MiB could be trimmed", NAN, NULL, NAN, false },
		{ "noise", "the noise is large", NAN, NULL, NAN, true },
	};
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	s.main.verdict.class = VERDICT_RETENTION;
	s.main.verdict.kind = KIND_NONE;
	s.main.verdict.cause = CAUSE_FRAGMENTATION;
	s.main.verdict.evidence = doubts;
	s.main.verdict.evidence_count = COUNT(doubts);
	s.main.verdict.forecast.eta_s.high = INFINITY;
	s.cost.stops = 0;
	ck_assert_int_eq(report_verdict_text(&s, &ascii, &out), 0);
	ck_assert_ptr_nonnull(
		strstr(str_text(&out), "verdict: retention (fragmentation), confidence 0.97, in the heap\n"));
	ck_assert_ptr_nonnull(
		strstr(str_text(&out),
		       "\n  9 MiB stay free\n  1 MiB share a page with a block in use; 8 MiB could be trimmed\n"
		       "  but:    the noise is large\n"));
	ck_assert_ptr_nonnull(
		strstr(str_text(&out),
		       "  where:   4 %  plugin.so+0x1000  <- plugin_load  plugin.so+0x2000  <- ...(truncated)\n"));
	ck_assert_ptr_nonnull(strstr(str_text(&out), "  limit:  2.0 GiB (cgroup), not before 22 min\n"));
	ck_assert_ptr_nonnull(strstr(str_text(&out), "of one core, no stops\n"));
	ck_assert_ptr_nonnull(strstr(
		str_text(&out), "\n  do:     see whether it goes on at idle: memwatch --pid 4242 --duration 10m\n"));
	ck_assert_ptr_nonnull(
		strstr(str_text(&out),
		       "\n  not seen: symbols: no debug information for 'plugin.so'; install its debug package\n"));
	snapshot_deinit(&s);
}
END_TEST

/* Frames of a static binary carry its own module: told by name. Where nothing else is left, all are shown. */
START_TEST(test_block_allocator_frames)
{
	static struct frame frames[] = {
		{ 1, 1, "/bin/static", "_int_malloc", NULL, 0, false, NULL, FRAME_OK },
		{ 1, 1, "/usr/lib/libstdc++.so.6", "operator new(unsigned long)", NULL, 0, false, NULL, FRAME_OK },
		{ 1, 1, "/bin/static", "fill", "a/fill.cc", 7, false, "c++", FRAME_OK },
		{ 1, 1, "/usr/lib/libc.so.6", "__libc_start_main", NULL, 0, false, NULL, FRAME_OK },
	};
	static struct site site = { MIB, 1, MIB, 1, 1, 1, 1, NAN, NAN, NAN, true, "stacks", frames, COUNT(frames) };
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	s.main.sites = &site;
	s.main.site_count = 1;
	ck_assert_int_eq(report_verdict_text(&s, &plain, &out), 0);
	ck_assert_ptr_nonnull(
		strstr(str_text(&out), "  where: 100 %  fill  fill.cc:7  <- __libc_start_main  libc.so.6+0x1\n"));
	str_reset(&out);
	site.frame_count = 2;
	ck_assert_int_eq(report_verdict_text(&s, &plain, &out), 0);
	ck_assert_ptr_nonnull(strstr(
		str_text(&out), "  where: 100 %  _int_malloc  static+0x1  <- operator new(unsigned long)  libstdc++"));
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_block_width)
{
	struct report_style narrow = { false, 60, true };
	cleanup_str struct str out = STR_INIT;
	const char *line;
	struct snapshot s;

	scenario(&s);
	ck_assert_int_eq(report_verdict_text(&s, &narrow, &out), 0);
	ck_assert_ptr_nonnull(
		strstr(str_text(&out), "cache.c:118  <- handle  srv.c:204\n          <- worker  srv.c:310\n"));
	for (line = str_text(&out); *line; line = strchr(line, '\n') + 1)
		ck_assert_msg(strchr(line, '\n') > line && strchr(line, '\n')[-1] != ' ', "blank at the end of: %s",
			      line);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_block_color)
{
	struct report_style color = { true, 0, true };
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	ck_assert_int_eq(report_verdict_text(&s, &color, &out), 0);
	ck_assert_ptr_nonnull(strstr(str_text(&out), "verdict: \033[1;31mleak (suspected)\033[0m, confidence"));
	str_reset(&out);
	s.main.verdict.class = VERDICT_STABLE;
	ck_assert_int_eq(report_verdict_text(&s, &color, &out), 0);
	ck_assert_ptr_nonnull(strstr(str_text(&out), "\033[1;32mstable"));
	str_reset(&out);
	s.main.verdict.class = VERDICT_STEP;
	ck_assert_int_eq(report_verdict_text(&s, &color, &out), 0);
	ck_assert_ptr_nonnull(strstr(str_text(&out), "\033[1;33mstep"));
	snapshot_deinit(&s);
}
END_TEST

/* ---- hostile and unknown ----------------------------------------------------------------------------------------------- */

START_TEST(test_hostile_strings)
{
	cleanup_str struct str text = STR_INIT;
	cleanup_str struct str letters = STR_INIT;
	cleanup_str struct str json = STR_INIT;
	struct snapshot s;

	scenario_tree(&s);
	scenario_make_hostile(&s);
	s.processes[1].target.comm = hostile;
	render("text", &s, &plain, &text);
	check_printable(&text, false);
	render("text", &s, &ascii, &letters);
	check_printable(&letters, true);
	render("json", &s, &plain, &json);
	check_printable(&json, false);
	str_reset(&json);
	ck_assert_int_eq(stream_hello(&s.main.target, NAN, &json), 0);
	ck_assert_int_eq(stream_event(1, 1, hostile, hostile, INFINITY, &json), 0);
	check_printable(&json, false);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_unknown_is_null)
{
	static const char *const wanted[] = { "\"pid\":\tnull",   "\"start_time\":\tnull",  "\"uid\":\tnull",
					      "\"heap\":\tnull",  "\"forecast\":\tnull",    "\"stops\":\tnull",
					      "\"cpu_s\":\tnull", "\"limit_bytes\":\tnull", "\"exit\":\tnull",
					      "\"work\":\tnull",  "\"cycles\":\tnull",      "\"source\":\tnull",
					      "\"label\":\tnull" };
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	snapshot_init(&s);
	s.main.target.uid = UINT32_MAX;
	s.cost.stops = UNKNOWN_U64;
	s.cost.cpu_s = NAN;
	s.cost.cpu_percent = -INFINITY;
	render("json", &s, &plain, &out);
	for (size_t i = 0; i < COUNT(wanted); i++)
		ck_assert_msg(strstr(str_text(&out), wanted[i]), "%s is not in the report", wanted[i]);
	ck_assert_ptr_null(strstr(str_text(&out), "nan"));
	ck_assert_ptr_null(strstr(str_text(&out), "inf"));
	ck_assert_ptr_null(strstr(str_text(&out), "18446744073709551615"));
	str_reset(&out);
	render("text", &s, &plain, &out);
	ck_assert_ptr_null(strstr(str_text(&out), "nan"));
	ck_assert_ptr_null(strstr(str_text(&out), "18446744073709551615"));
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_exact_integers)
{
	static const struct {
		double value;
		const char *text;
	} cases[] = { { 9007199254740991.0, "9007199254740991" },
		      { 9007199254740992.0, "9007199254740992" },
		      { 1e15, "1000000000000000" },
		      { 0.1, "0.1" },
		      { 1.0 / 3, "0.3333333333333333" },
		      { -0.0, "0" },
		      { 1e300, "1e+300" },
		      { 5e-324, "4.94065645841247e-324" } };

	for (size_t i = 0; i < COUNT(cases); i++) {
		cleanup_str struct str out = STR_INIT;
		cleanup_str struct str wanted = STR_INIT;

		str_addf(&wanted, "\"value\":%s}\n", cases[i].text);
		ck_assert_int_eq(stream_event(1, 1, "mark", NULL, cases[i].value, &out), 0);
		ck_assert_ptr_nonnull(strstr(str_text(&out), str_text(&wanted)));
	}
}
END_TEST

/* Numbers are written by our own digits where they are short: always as printf() would write them, and always read back the same. */
START_TEST(test_short_numbers)
{
	static const double units[] = { 1, 0.5, 0.1, 0.01, 0.001, 1e-4, 1e-5, 1e-6, 1e-7, 1.0 / 3, 1024, 1e9 };
	uint64_t state = 4099;

	for (size_t i = 0; i < 20000; i++) {
		cleanup_str struct str out = STR_INIT;
		char wanted[32];
		double value;

		state = state * 6364136223846793005 + 1442695040888963407;
		value = (double)(int64_t)(state >> (16 + i % 40)) * units[i % COUNT(units)] * (i % 3 == 0 ? -1 : 1);
		ck_assert_int_eq(stream_event(1, 1, "mark", NULL, value, &out), 0);
		ck_assert_ptr_nonnull(strstr(str_text(&out), "\"value\":"));
		ck_assert_double_eq(strtod(strstr(str_text(&out), "\"value\":") + 8, NULL), value);
		snprintf(wanted, sizeof(wanted), "%.15g", value);
		if (strtod(wanted, NULL) == value && fabs(value) < 1e15 && value != 0)
			ck_assert_msg(strncmp(strstr(str_text(&out), "\"value\":") + 8, wanted, strlen(wanted)) == 0,
				      "%s, not %s", str_text(&out), wanted);
	}
}
END_TEST

START_TEST(test_formats)
{
	size_t count = 0;

	for (; report_formats[count].name; count++) { /* option tables take the index of the one for the other */
		ck_assert_ptr_nonnull(report_format_names[count]);
		ck_assert_str_eq(report_format_names[count], report_formats[count].name);
		ck_assert_ptr_eq(report_format_find(report_format_names[count]), &report_formats[count]);
	}
	ck_assert_uint_eq(count, 6);
	ck_assert_ptr_null(report_format_names[count]);
	ck_assert_ptr_null(report_format_find("massif"));
	ck_assert_ptr_null(report_format_find(""));
}
END_TEST

/* ---- the live line ----------------------------------------------------------------------------------------------------- */

START_TEST(test_live_line)
{
	static const double recent[] = { 10, 20, NAN, 30, 80 };
	struct verdict v = { .class = VERDICT_LEAK, .kind = KIND_SUSPECTED, .confidence = 0.9 };
	struct live_line line = {
		12, recent, COUNT(recent), 71.0 * (double)MIB, 60.0 * (double)MIB, NAN, 1069548, &v, 3
	};
	struct report_style narrow = { false, 30, false };
	cleanup_str struct str out = STR_INIT;

	report_live_line(&line, &plain, &out);
	ck_assert_str_eq(str_text(&out),
			 "12 s  rss 71.0 MiB  ▁▂ ▃█  in use 60.0 MiB  +1.02 MiB/s  3 processes  leak (suspected) 0.90");
	str_reset(&out);
	report_live_line(&line, &narrow, &out);
	ck_assert_str_eq(str_text(&out), "12 s  rss 71.0 MiB  _. -#");
	str_reset(&out);
	line = (struct live_line){ 0, NULL, 0, NAN, NAN, NAN, NAN, NULL, 1 };
	report_live_line(&line, &plain, &out);
	ck_assert_str_eq(str_text(&out), "0 s  rss unknown");
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("report");
	TCase *tc = tcase_create("report");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_golden_text);
	tcase_add_test(tc, test_golden_json);
	tcase_add_test(tc, test_golden_stream);
	tcase_add_test(tc, test_child_leak_is_told);
	tcase_add_test(tc, test_block);
	tcase_add_test(tc, test_block_without_clauses);
	tcase_add_test(tc, test_block_parts);
	tcase_add_test(tc, test_block_allocator_frames);
	tcase_add_test(tc, test_block_width);
	tcase_add_test(tc, test_block_color);
	tcase_add_test(tc, test_hostile_strings);
	tcase_add_test(tc, test_unknown_is_null);
	tcase_add_test(tc, test_exact_integers);
	tcase_add_test(tc, test_short_numbers);
	tcase_add_test(tc, test_formats);
	tcase_add_test(tc, test_live_line);
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
