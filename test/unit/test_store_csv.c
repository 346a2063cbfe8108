/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support_store.h"

static double at(const struct recorded_series *s, size_t row)
{
	return s->cells[row * (s->metric_count + 1)];
}

START_TEST(the_simplest_file)
{
	struct recording r;

	store_read("t,rss\n0,1000\n0.5,2000\n1.25,2500\n", &r);
	ck_assert_int_eq(r.format, RECORDING_CSV);
	ck_assert_uint_eq(r.series_count, 1);
	ck_assert_uint_eq(r.series[0].row_count, 3);
	ck_assert_str_eq(r.series[0].label, "");
	ck_assert_double_eq(at(&r.series[0], 2), 1.25);
	ck_assert_double_eq(store_cell(&r.series[0], 2, METRIC_RSS), 2500);
	ck_assert_uint_eq(r.series[0].life_count, 1);
	ck_assert_uint_eq(r.series[0].note_count, 0);
	ck_assert_int_eq(r.series[0].begin_wall_ns, 0);
	recording_deinit(&r);
	recording_deinit(NULL);
}
END_TEST

/* What the same figure is called in files that people have. */
static const struct {
	const char *header;
	enum metric metric;
	double scale;
} headers[] = {
	{ "rss", METRIC_RSS, 1 },
	{ "RSS (MiB)", METRIC_RSS, 1048576 },
	{ " \"Rss [kib]\" ", METRIC_RSS, 1024 },
	{ "rss_kb", METRIC_RSS, 1024 },
	{ "RSS_KB", METRIC_RSS, 1024 },
	{ "rss (kB)", METRIC_RSS, 1024 },
	{ "rss (KB)", METRIC_RSS, 1000 },
	{ "mem_MB", METRIC_RSS, 1e6 },
	{ "memory_bytes", METRIC_RSS, 1 },
	{ "memory_gib", METRIC_RSS, 1073741824 },
	{ "process_resident_memory_bytes", METRIC_RSS, 1 },
	{ "uss", METRIC_ANON, 1 },
	{ "PSS", METRIC_PSS, 1 },
	{ "swap_kb", METRIC_SWAP, 1024 },
	{ "heap", METRIC_HEAP_IN_USE, 1 },
	{ "heap_used", METRIC_HEAP_IN_USE, 1 },
	{ "heap_in_use_bytes", METRIC_HEAP_IN_USE, 1 },
	{ "heap_free", METRIC_HEAP_FREE, 1 },
	{ "heap_committed", METRIC_HEAP_MAPPED, 1 },
	{ "post_gc", METRIC_RUNTIME_LIVE, 1 },
	{ "heap_in_use_blocks", METRIC_HEAP_BLOCKS, 1 },
	{ "VSZ (K)", METRIC_VIRTUAL, 1024 },
	{ "threads", METRIC_THREADS, 1 },
	{ "num_fds", METRIC_FDS, 1 },
	{ "minor_faults", METRIC_MINOR_FAULTS, 1 },
	{ "cpu_s", METRIC_CPU, 1 },
	{ "cpu_time (ms)", METRIC_CPU, 1e-3 },
	{ "process_cpu_seconds_total", METRIC_CPU, 1 },
	{ "memwatch_rss_bytes", METRIC_RSS, 1 },
};

START_TEST(column_names_and_units)
{
	char text[256];
	struct recording r;

	snprintf(text, sizeof(text), "t\t%s\n0\t3\n1\t5\n", headers[_i].header);
	store_read(text, &r);
	ck_assert_double_eq_tol(store_cell(&r.series[0], 1, headers[_i].metric), 5 * headers[_i].scale, 1e-9);
	recording_deinit(&r);
}
END_TEST

/* Times: header and two values, what lies between them, and when the first one is. */
static const struct {
	const char *header, *first, *second;
	double between_s;
	int64_t begin_ns;
} times[] = {
	{ "t", "0", "1.5", 1.5, 0 },
	{ "t_ms", "100", "350", 0.25, 0 },
	{ "time (s)", "5", "6", 1, 0 },
	{ "t[us]", "0", "1500000", 1.5, 0 },
	{ "Elapsed", "1e1", "2e1", 10, 0 },
	{ "minutes", "1", "2", 60, 0 },
	{ "timestamp", "1714000000", "1714000030.5", 30.5, 1714000000000000000 },
	{ "timestamp", "1714000000000", "1714000000250", 0.25, 1714000000000000000 },
	{ "ts", "1714000000000000", "1714000001000000", 1, 1714000000000000000 },
	{ "ts", "1714000000000000000", "1714000002000000000", 2, 1714000000000000000 },
	{ "timestamp_ms", "1714000000000", "1714000001000", 1, 1714000000000000000 },
	{ "date", "2026-11-20T12:10:25.5Z", "2026-11-20T12:10:26Z", 0.5, 1795176625500000000 },
	{ "time", "2026-11-20 13:10:25.5+01:00", "2026-11-20 12:10:26", 0.5, 1795176625500000000 },
	{ "time", "2026-11-20 12:10:25.5 UTC", "\"2026-11-20T06:10:26-0600\"", 0.5, 1795176625500000000 },
	{ "", "2026-11-20", "2026-11-21", 86400, 1795132800000000000 },
};

START_TEST(times_and_their_units)
{
	char text[256];
	struct recording r;

	snprintf(text, sizeof(text), "%s;rss\n%s;3\n%s;5\n", times[_i].header, times[_i].first, times[_i].second);
	store_read(text, &r);
	ck_assert_double_eq(at(&r.series[0], 0), 0);
	ck_assert_double_eq_tol(at(&r.series[0], 1), times[_i].between_s, 1e-6);
	ck_assert_int_le(llabs(r.series[0].begin_wall_ns - times[_i].begin_ns), 1000);
	recording_deinit(&r);
}
END_TEST

START_TEST(bom_crlf_quotes_comments_and_blanks)
{
	struct recording r;

	store_read("\xef\xbb\xbf# a comment\r\n\r\n\"t\" , \"rss\" \r\n 0 , \"10\" \r\n# between\r\n1,20\r\n", &r);
	ck_assert_uint_eq(r.series[0].row_count, 2);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_RSS), 20);
	recording_deinit(&r);
	store_read("# t,rss\n0.0,1e3\n1.0,2.5e+3\n", &r); /* as numpy.savetxt() writes it */
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_RSS), 2500);
	recording_deinit(&r);
	store_read("t   rss   threads\n0   10   2\n1   20   3\n", &r);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_THREADS), 3);
	recording_deinit(&r);
}
END_TEST

START_TEST(several_series_by_header)
{
	struct recording r;

	store_read("t,web-1 :rss,web-1:threads,\"rss{pid=7,x=y}\",rss{pid=8}\n0,1,2,3,4\n1,5,6,7,8\n", &r);
	ck_assert_uint_eq(r.series_count, 3);
	ck_assert_str_eq(r.series[0].label, "web-1");
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_THREADS), 6);
	ck_assert_str_eq(r.series[1].label, "pid=7,x=y");
	ck_assert_double_eq(store_cell(&r.series[1], 1, METRIC_RSS), 7);
	ck_assert_int_eq(r.series[2].pid, 8);
	ck_assert_double_eq(store_cell(&r.series[2], 0, METRIC_RSS), 4);
	recording_deinit(&r);
}
END_TEST

START_TEST(several_series_by_label_columns)
{
	struct recording r;

	store_read("time,pid,name,rss\n0,7,web,1\n0,8,db,2\n1,7,web,3\n1,8,db,4\n2,7,web,5\n", &r);
	ck_assert_uint_eq(r.series_count, 2);
	ck_assert_int_eq(r.series[0].pid, 7);
	ck_assert_str_eq(r.series[0].comm, "web");
	ck_assert_ptr_nonnull(strstr(r.series[0].label, "web"));
	ck_assert_uint_eq(r.series[0].row_count, 3);
	ck_assert_double_eq(store_cell(&r.series[1], 1, METRIC_RSS), 4);
	recording_deinit(&r);
}
END_TEST

START_TEST(unknown_columns_and_values_are_told)
{
	struct recording r;

	store_read("t,rss,colour,cpu,pss\n0,1,red,9,\n1,NaN,red,9,-\n2,3,red,9,null\n3,-1,blue,9,7\n", &r);
	ck_assert(!store_has(&r.series[0], METRIC_CPU)); /* seconds or percent? */
	ck_assert(store_notes(&r.series[0], "columns left out: 'colour', 'cpu'"));
	ck_assert(store_notes(&r.series[0], "3 values are not known"));
	ck_assert(store_notes(&r.series[0], "1 row without any value"));
	ck_assert_uint_eq(r.series[0].row_count, 3);
	ck_assert(isnan(store_cell(&r.series[0], 2, METRIC_RSS)));
	ck_assert(isnan(store_cell(&r.series[0], 0, METRIC_PSS)));
	recording_deinit(&r);
}
END_TEST

START_TEST(rows_are_sorted_and_the_last_of_a_time_holds)
{
	struct recording r;

	store_read("t,rss\n0,1\n2,3\n1,2\n3,4\n3,5\n", &r);
	ck_assert_uint_eq(r.series[0].row_count, 4);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_RSS), 2);
	ck_assert_double_eq(store_cell(&r.series[0], 3, METRIC_RSS), 5);
	ck_assert(store_notes(&r.series[0], "1 row went back in time"));
	ck_assert(store_notes(&r.series[0], "1 row had the time of another"));
	recording_deinit(&r);
}
END_TEST

START_TEST(long_gaps_are_told)
{
	struct recording r;

	store_read("t,rss\n0,1\n1,2\n2,3\n13,4\n14,5\n15,6\n100,7\n101,8\n", &r);
	ck_assert(store_notes(&r.series[0], "2 gaps longer than 10 times the usual 1"));
	ck_assert(store_notes(&r.series[0], "the longest 85 s after 15 s"));
	recording_deinit(&r);
}
END_TEST

START_TEST(a_cut_last_line_is_no_error)
{
	struct recording r;

	store_read("t,rss,pss\n0,1,2\n1,2,3\n2,3", &r);
	ck_assert_uint_eq(r.series[0].row_count, 2);
	ck_assert(store_notes(&r.series[0], "line 4, the last one, is cut off"));
	recording_deinit(&r);
	store_read("t,rss\n0,1\n1,2", &r); /* a whole one without newline is read */
	ck_assert_uint_eq(r.series[0].row_count, 2);
	recording_deinit(&r);
}
END_TEST

START_TEST(work_counts)
{
	struct recording r;

	store_read("t,rss,requests\n0,1,0\n1,1,10\n2,1,30\n3,1,5\n4,1,9\n", &r);
	ck_assert_str_eq(r.series[0].work_unit, "request");
	ck_assert_uint_eq(r.series[0].life_count, 1); /* set back without a fall of the memory */
	ck_assert_double_eq(store_cell(&r.series[0], 4, METRIC_WORK), 39);
	ck_assert(store_notes(&r.series[0], "set back 1 time"));
	recording_deinit(&r);
	store_read("t,rss,objects\n0,1,5\n1,1,3\n2,1,8\n3,1,2\n4,1,7\n5,1,1\n", &r);
	ck_assert_double_eq(store_cell(&r.series[0], 5, METRIC_WORK), 26);
	ck_assert_str_eq(r.series[0].work_unit, "object");
	ck_assert(store_notes(&r.series[0], "amounts per interval"));
	recording_deinit(&r);
}
END_TEST

START_TEST(cpu_percent_becomes_seconds)
{
	struct recording r;

	store_read("t,rss,cpu %\n0,1,0\n2,1,50\n3,1,200\n", &r);
	ck_assert_double_eq_tol(store_cell(&r.series[0], 1, METRIC_CPU), 1, 1e-12);
	ck_assert_double_eq_tol(store_cell(&r.series[0], 2, METRIC_CPU), 3, 1e-12);
	ck_assert(store_notes(&r.series[0], "percentages"));
	recording_deinit(&r);
	store_read("t,rss,cpu_percent,cpu_s\n0,1,50,7\n2,1,50,8\n", &r); /* the exact one holds */
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_CPU), 8);
	recording_deinit(&r);
}
END_TEST

static const struct {
	const char *text, *message;
} broken[] = {
	{ "", "empty" },
	{ "\n\n", "empty" },
	{ "t,rss\n", "no values" },
	{ "t,rss\n0,\n1,nan\n", "no values" },
	{ "0.0,123\n1.0,124\n", "line 1: a row of numbers where the header should be" },
	{ "a,rss\n0,1\n", "line 1: no time column among 'a', 'rss'" },
	{ "\n# x\nt,colour\n0,1\n", "line 3: no column of a known metric among 't', 'colour'" },
	{ "t,rss\n0,1\n1,abc\n", "line 3: 'abc' is not a number (column rss)" },
	{ "t,rss\n0,1\n\n# x\n1,1e\n", "line 5: '1e' is not a number (column rss)" },
	{ "t,rss\n0,1\nyesterday,2\n", "line 3: 'yesterday' is not a number" },
	{ "date,rss\nyesterday,2\n", "line 2: 'yesterday' is not a time" },
	{ "date,rss\n2026-11-20,1\n2026-13-20,2\n", "line 3: '2026-13-20' is not a date" },
	{ "t,rss\n0,1\n1,2,3\n2,3\n", "line 3: 3 columns where the header has 2" },
	{ "t,rss,pss\n0,1\n1,2,3\n", "line 2: 2 columns where the header has 3" },
	{ "t,rss\n0,1\n1,\"2\n2,3\n", "line 3: a quote is not closed" },
	{ "t,rss\n0,1\n1,a\x1b[31m\n", "'a?[31m' is not a number" },
	{ "t,rss\n0,0x10\n", "line 2: '0x10' is not a number" },
	{ "\x1f\x8b\x08", "compressed" },
	{ "\xff\xfet", "UTF-16" },
};

START_TEST(broken_files_are_refused_with_their_line)
{
	store_refuse(RECORDING_AUTO, broken[_i].text, broken[_i].message);
}
END_TEST

START_TEST(nul_bytes_and_numbers_of_any_length)
{
	struct recording r;
	struct err err = ERR_INIT;
	char text[4096];

	ck_assert_int_eq(recording_parse("t,rss\n0\0,1\n", 11, RECORDING_AUTO, &r, &err), -EBADMSG);
	ck_assert_int_eq(recording_parse(NULL, 0, RECORDING_CSV, &r, &err), -EBADMSG);
	memset(text, '7', sizeof(text));
	memcpy(text, "t,rss\n0,", 8);
	memcpy(text + 4000, "e-3991\n1,0.30000000000000004\n2,9007199254740991\n3,1e400\n", 57);
	store_read(text, &r);
	ck_assert_double_eq_tol(store_cell(&r.series[0], 0, METRIC_RSS), 7.777777777777778, 1e-14);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_RSS), 0.30000000000000004);
	ck_assert_double_eq(store_cell(&r.series[0], 2, METRIC_RSS), 9007199254740991.0);
	ck_assert_uint_eq(r.series[0].row_count, 3); /* 1e400 is nothing that was measured */
	recording_deinit(&r);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store csv");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60); /* sanitizers are slow, and machines busy */
	tcase_add_test(tc, the_simplest_file);
	tcase_add_loop_test(tc, column_names_and_units, 0, sizeof(headers) / sizeof(headers[0]));
	tcase_add_loop_test(tc, times_and_their_units, 0, sizeof(times) / sizeof(times[0]));
	tcase_add_test(tc, bom_crlf_quotes_comments_and_blanks);
	tcase_add_test(tc, several_series_by_header);
	tcase_add_test(tc, several_series_by_label_columns);
	tcase_add_test(tc, unknown_columns_and_values_are_told);
	tcase_add_test(tc, rows_are_sorted_and_the_last_of_a_time_holds);
	tcase_add_test(tc, long_gaps_are_told);
	tcase_add_test(tc, a_cut_last_line_is_no_error);
	tcase_add_test(tc, work_counts);
	tcase_add_test(tc, cpu_percent_becomes_seconds);
	tcase_add_loop_test(tc, broken_files_are_refused_with_their_line, 0, sizeof(broken) / sizeof(broken[0]));
	tcase_add_test(tc, nul_bytes_and_numbers_of_any_length);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
