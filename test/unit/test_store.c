/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/report.h"
#include "support_report.h"
#include "support_store.h"

#define MIB_BYTES 1048576.0

static double at(const struct recorded_series *s, size_t row)
{
	return s->cells[row * (s->metric_count + 1)];
}

START_TEST(mprof_with_children)
{
	struct recording r;

	store_read(
		"CMDLINE /usr/bin/python3 train.py\nMEM 41.5 1714000000.25\nFUNC __main__.load 41.3 1714000000.2 80.1 "
		"1714000003.5 0\nCHLD 4243 12.5 1714000000.5\nMEM 42.5 1714000000.35\nCHLD 4243 13.5 1714000001.5\n"
		"MEM 0.000000 1714000002.25\nMEM 4",
		&r);
	ck_assert_int_eq(r.format, RECORDING_MPROF);
	ck_assert_uint_eq(r.series_count, 2);
	ck_assert_str_eq(r.series[0].comm, "python3");
	ck_assert(r.series[0].from_start);
	ck_assert_uint_eq(r.series[0].row_count, 2);
	ck_assert_double_eq_tol(at(&r.series[0], 1), 0.1, 1e-6);
	ck_assert_double_eq(store_cell(&r.series[0], 0, METRIC_RSS), 41.5 * MIB_BYTES);
	ck_assert_int_eq(r.series[0].begin_wall_ns, 1714000000250000000);
	ck_assert(store_notes(&r.series[0], "1 value of a process that had ended"));
	ck_assert(store_notes(&r.series[0], "line 8, the last one, is cut off"));
	ck_assert_int_eq(r.series[1].pid, 4243);
	ck_assert_str_eq(r.series[1].label, "pid 4243");
	recording_deinit(&r);
	store_refuse(RECORDING_AUTO, "MEM 1 2\nMEM x 3\n", "line 2: 'x' is not a number");
	store_refuse(RECORDING_AUTO, "MEM 1 2\nMEM 3\nMEM 4 5\n", "line 2: expected 'MEM MEBIBYTES SECONDS'");
	store_refuse(RECORDING_MPROF, "hello\n", "line 1: 'hello' is none of MEM");
	store_refuse(RECORDING_AUTO, "CMDLINE x\n", "no values");
}
END_TEST

#define SNAPSHOT(n, time, heap, extra, stacks)                                                                         \
	"#-----------\nsnapshot=" n "\n#-----------\ntime=" time "\nmem_heap_B=" heap "\nmem_heap_extra_B=" extra      \
	"\nmem_stacks_B=" stacks "\nheap_tree=empty\n"

START_TEST(massif_in_milliseconds_and_instructions)
{
	struct recording r;

	store_read("desc: --time-unit=ms\ncmd: ./bin/server --once\ntime_unit: ms\n" SNAPSHOT("0", "0", "0", "0", "0")
			   SNAPSHOT("1", "1500", "1000", "24", "0"),
		   &r);
	ck_assert_int_eq(r.format, RECORDING_MASSIF);
	ck_assert_str_eq(r.series[0].comm, "server");
	ck_assert_double_eq(at(&r.series[0], 1), 1.5);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_HEAP_IN_USE), 1024);
	ck_assert(!store_has(&r.series[0], METRIC_WORK) && !store_has(&r.series[0], METRIC_STACK));
	ck_assert(!r.series[0].counted_time);
	ck_assert(r.series[0].from_start && r.series[0].ended);
	recording_deinit(&r);
	store_read("desc: (none)\ncmd: ./a.out\ntime_unit: i\n" SNAPSHOT("0", "0", "0", "0", "0") SNAPSHOT(
			   "1", "2000000000", "72704", "8", "512") "n1: 72704 (heap allocation functions)\n"
								   " n0: 72704 0x491B3FA: pool (eh_alloc.cc:123)\n"
								   "#-----------\nsnapshot=2\ntime=3",
		   &r);
	ck_assert_uint_eq(r.series[0].row_count, 2);
	ck_assert(!store_has(&r.series[0], METRIC_WORK) && r.series[0].counted_time);
	ck_assert_double_eq(at(&r.series[0], 1), 2);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_STACK), 512);
	ck_assert(store_notes(&r.series[0], "the time axis counts instructions"));
	ck_assert(store_notes(&r.series[0], "the last snapshot is cut off"));
	recording_deinit(&r);
	store_refuse(RECORDING_AUTO, "desc: x\ntime_unit: ms\nsnapshot=0\ntime=0\nmem_heap_B=x\n",
		     "line 5: 'x' is not");
	store_refuse(RECORDING_AUTO, "desc: x\ntime_unit: years\n", "line 2: unknown time_unit 'years'");
	store_refuse(RECORDING_AUTO, "desc: x\nsnapshot=0\ntime=0\nsnapshot=1\n", "line 2: a snapshot without");
}
END_TEST

START_TEST(psrecord_counts_in_mebibytes)
{
	struct recording r;

	store_read("# Elapsed time   CPU (%)     Real (MB)   Virtual (MB)  Read count  Write count \n"
		   "       0.000        0.000       12.500      123.500          100            7\n"
		   "       2.000       50.000       13.500      123.500           50            7\n",
		   &r);
	ck_assert_int_eq(r.format, RECORDING_PSRECORD);
	ck_assert_double_eq(store_cell(&r.series[0], 0, METRIC_RSS), 12.5 * MIB_BYTES);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_VIRTUAL), 123.5 * MIB_BYTES);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_CPU), 1);
	ck_assert_uint_eq(r.series[0].life_count, 1);
	ck_assert(store_notes(&r.series[0], "'Read count', 'Write count'"));
	recording_deinit(&r);
	/* Its CSV has no comma behind mem_virtual when input and output are counted. */
	store_read("elapsed_time,cpu,mem_real,mem_virtual,read_count,write_count,read_bytes,write_bytes\n"
		   "0.0,0.0,12.5,123.5100,7,0,0\n1.0,0.0,13.5,123.5101,8,0,0\n",
		   &r);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_RSS), 13.5 * MIB_BYTES);
	ck_assert(!store_has(&r.series[0], METRIC_VIRTUAL));
	recording_deinit(&r);
	store_refuse(RECORDING_AUTO, "# Elapsed time   CPU (%)     Real (MB)\n0.0 0.0 1.0\n0.1 x 1.0\n",
		     "line 3: 'x' is not");
	store_refuse(RECORDING_AUTO, "# Elapsed time   CPU (%)     Real (MB)\n0.0 0.0\n0.1 0.0 1.0\n",
		     "line 2: 2 columns");
}
END_TEST

#define MATRIX(results) "{\"status\":\"success\",\"data\":{\"resultType\":\"matrix\",\"result\":[" results "]}}"

START_TEST(prometheus_joins_metrics_of_the_same_labels)
{
	struct recording r;

	store_read(
		MATRIX("{\"metric\":{\"__name__\":\"process_resident_memory_bytes\",\"job\":\"x\"},\"values\":[["
		       "1714000000,"
		       "\"100\"],[1714000030,\"NaN\"],[1714000060,\"120\"],[1714000090,\"+Inf\"]]},"
		       "{\"metric\":{\"__name__\":\"process_open_fds\",\"job\":\"x\"},\"values\":[[1714000000,\"7\"],"
		       "[1714000030,\"8\"],[1714000060,\"9\"]]},"
		       "{\"metric\":{\"__name__\":\"jvm_memory_used_bytes\",\"area\":\"heap\",\"id\":\"Eden\",\"job\":"
		       "\"x\"},"
		       "\"values\":[[1714000000,\"10\"],[1714000060,\"20\"]]},"
		       "{\"metric\":{\"__name__\":\"jvm_memory_used_bytes\",\"area\":\"heap\",\"id\":\"Old\",\"job\":"
		       "\"x\"},"
		       "\"values\":[[1714000000,\"1\"],[1714000060,\"2\"]]},"
		       "{\"metric\":{\"__name__\":\"jvm_memory_used_bytes\",\"area\":\"nonheap\",\"job\":\"x\"},"
		       "\"values\":[[1714000000,\"999\"]]},"
		       "{\"metric\":{\"pod\":\"p\"},\"values\":[[1714000000,\"5\"],[1714000030,\"6\"]]}"),
		&r);
	ck_assert_int_eq(r.format, RECORDING_PROMETHEUS);
	ck_assert_uint_eq(r.series_count, 2);
	ck_assert_str_eq(r.series[0].label, "job=\"x\"");
	ck_assert_uint_eq(r.series[0].row_count, 3);
	ck_assert(isnan(store_cell(&r.series[0], 1, METRIC_RSS)));
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_FDS), 8);
	ck_assert_double_eq(store_cell(&r.series[0], 2, METRIC_HEAP_IN_USE), 22);
	ck_assert_int_eq(r.series[0].begin_wall_ns, 1714000000000000000);
	ck_assert(store_notes(&r.series[0], "2 values are not known"));
	ck_assert(!store_notes(&r.series[0], "sorted"));
	ck_assert_double_eq(store_cell(&r.series[1], 1, METRIC_RSS), 6);
	ck_assert(store_notes(&r.series[1], "unknown metric '' taken as rss_bytes"));
	recording_deinit(&r);
}
END_TEST

static const struct {
	const char *text, *message;
} answers[] = {
	{ "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error\"}", "bad_data: parse error" },
	{ "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}", "ask /api/v1/query_range" },
	{ MATRIX(""), "no series matched" },
	{ MATRIX("{\"metric\":{},\"values\":[[1,\"x\"]]}"), "'x', which is not a number" },
	{ MATRIX("{\"metric\":{},\"values\":[7]}"), "something else" },
	{ "{\"status\":\"success\",\n\"data\":{\"resultType\":\"matrix\",\n\"result\":[", "line 3: not valid JSON" },
	{ "{\"hello\":1}", "neither a memwatch report" },
	{ "{\"schema\":\"memwatch-report/1\"}", "not a memwatch report" },
	{ "{\"type\":\"hello\",\"schema\":\"memwatch-stream/1\"}\n{\"type\"\n{}\n", "line 2: not a JSON object" },
	{ "{\"type\":\"hello\",\"schema\":\"memwatch-stream/1\"}\n{\"type\":\"sample\",\"pid\":1}\n",
	  "line 2: a sample without" },
};

START_TEST(broken_json_is_refused)
{
	store_refuse(RECORDING_AUTO, answers[_i].text, answers[_i].message);
}
END_TEST

START_TEST(our_stream_with_exec_and_a_cut_line)
{
	cleanup_str struct str text = STR_INIT;
	struct target_info target = { .id = { .pid = 7 }, .comm = "srv" };
	struct recording r;
	struct sample sample;

	ck_assert_int_eq(stream_hello(&target, 100, &text), 0);
	for (int i = 0; i < 6; i++) {
		sample_init(&sample, i * 0.5);
		sample.v[METRIC_RSS] = 4099 * i;
		if (i % 2)
			sample.v[METRIC_HEAP_IN_USE] = 100 * i;
		if (i == 4)
			ck_assert_int_eq(stream_event(1.9, 7, "exec", "/bin/x", NAN, &text), 0);
		ck_assert_int_eq(stream_sample(&sample, 7, &text), 0);
		ck_assert_int_eq(stream_sample(&sample, 8, &text), 0);
	}
	str_add(&text, "{\"type\":\"samp");
	store_read(str_text(&text), &r);
	ck_assert_int_eq(r.format, RECORDING_STREAM);
	ck_assert_uint_eq(r.series_count, 2);
	ck_assert_int_eq(r.series[0].pid, 7);
	ck_assert_str_eq(r.series[0].comm, "srv");
	ck_assert_uint_eq(r.series[0].row_count, 6);
	ck_assert(isnan(store_cell(&r.series[0], 2, METRIC_HEAP_IN_USE)));
	ck_assert_double_eq(store_cell(&r.series[0], 3, METRIC_HEAP_IN_USE), 300);
	ck_assert_uint_eq(r.series[0].life_count, 2);
	ck_assert_uint_eq(r.series[0].lives[1].first, 4);
	ck_assert_uint_eq(r.series[1].life_count, 1);
	ck_assert(store_notes(&r.series[0], "the last one, is cut off"));
	recording_deinit(&r);
}
END_TEST

START_TEST(our_reports_one_or_many)
{
	static const char *columns[] = { "t_s", "rss_bytes", "heap_in_use_bytes", "mood" };
	double cells[] = { 1, 10, NAN, 5, 3, 20, 30, 5 };
	struct snapshot s;
	cleanup_str struct str one = STR_INIT;
	struct recording r;

	scenario(&s);
	s.series = (struct table){ columns, 4, cells, 2 };
	render("ndjson", &s, &plain, &one);
	store_read(str_text(&one), &r);
	ck_assert_int_eq(r.format, RECORDING_REPORT);
	ck_assert_ptr_nonnull(r.snapshot);
	ck_assert_int_eq(r.snapshot->main.target.id.pid, 4242);
	ck_assert_double_eq(at(&r.series[0], 1), 2);
	ck_assert_double_eq(store_cell(&r.series[0], 1, METRIC_HEAP_IN_USE), 30);
	ck_assert(store_notes(&r.series[0], "column left out: 'mood'"));
	recording_deinit(&r);
	render("ndjson", &s, &plain, &one);
	store_read(str_text(&one), &r);
	ck_assert_ptr_null(r.snapshot);
	ck_assert_uint_eq(r.series_count, 2);
	ck_assert_str_ne(r.series[0].label, r.series[1].label);
	recording_deinit(&r);
}
END_TEST

/* ---- lives ------------------------------------------------------------------------------------------------------------ */

/* A CSV of `rows` values, one a second; counter: a cpu_s column that begins anew at `reset`, 0: none. */
static size_t lives_of(double (*value)(size_t row), size_t rows, bool counter, size_t reset, size_t *ret_second)
{
	cleanup_str struct str text = STR_INIT;
	struct recording r;
	size_t lives;

	str_add(&text, counter ? "t,rss,cpu_s\n" : "t,rss\n");
	for (size_t i = 0; i < rows; i++) {
		str_addf(&text, "%zu,%.0f", i, value(i));
		if (counter)
			str_addf(&text, ",%zu", i < reset ? 10 + i : i - reset);
		str_addc(&text, '\n');
	}
	store_read(str_text(&text), &r);
	lives = r.series[0].life_count;
	*ret_second = lives > 1 ? r.series[0].lives[1].first : 0;
	ck_assert(lives == 1 || store_notes(&r.series[0], "restart"));
	recording_deinit(&r);
	return lives;
}

static double noise(size_t row)
{
	return (double)(row * 7919 % 101) * 1000;
}

static double leak_restarted(size_t row)
{
	return 50e6 + (double)(row % 67) * 2e6 + noise(row);
}

static double sawtooth(size_t row)
{
	return 50e6 + (double)(row % 10) * 20e6 + noise(row);
}

static double spike(size_t row)
{
	return 50e6 + (row >= 60 && row < 64 ? 300e6 : 0) + noise(row);
}

static double flat(size_t row)
{
	return 50e6 + noise(row);
}

static double dip(size_t row)
{
	return row == 60 ? 10e6 : 50e6 + (double)row * 1e6;
}

static double released_at_exit(size_t row)
{
	return row == 99 ? 1e6 : 50e6 + (double)row * 1e6;
}

static double released_but_kept(size_t row) /* a cache that is emptied: higher than it began */
{
	return row < 60 ? 50e6 + (double)row * 5e6 : 120e6 + noise(row);
}

static double growth_in_noise(size_t row)
{
	return 60e6 + (double)row * 0.2e6 + (double)(row * 7919 * 31 % 101) / 101 * 60e6;
}

static double sawtooth_that_rises(size_t row) /* only its first teeth fall to where it began */
{
	return 50e6 + (double)row * 0.3e6 + (double)(row % 11) * 3e6;
}

static const struct {
	double (*value)(size_t row);
	size_t rows, lives, second;
} courses[] = {
	{ leak_restarted, 120, 2, 67 },
	{ sawtooth, 120, 1, 0 },
	{ spike, 120, 1, 0 },
	{ flat, 120, 1, 0 },
	{ dip, 120, 1, 0 },
	{ released_at_exit, 100, 1, 0 },
	{ released_but_kept, 120, 1, 0 },
	{ growth_in_noise, 120, 1, 0 },
	{ sawtooth_that_rises, 120, 1, 0 },
};

START_TEST(lives_by_the_level_of_the_memory)
{
	size_t second;

	ck_assert_uint_eq(lives_of(courses[_i].value, courses[_i].rows, false, 0, &second), courses[_i].lives);
	ck_assert_uint_eq(second, courses[_i].second);
}
END_TEST

START_TEST(lives_by_counters)
{
	size_t second;

	ck_assert_uint_eq(lives_of(flat, 100, true, 41, &second), 2); /* no fall of the memory needed */
	ck_assert_uint_eq(second, 41);
	ck_assert_uint_eq(lives_of(leak_restarted, 120, true, 4099, &second),
			  1); /* the counter goes on: the same process */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("store");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60); /* sanitizers are slow, and machines busy */
	tcase_add_test(tc, mprof_with_children);
	tcase_add_test(tc, massif_in_milliseconds_and_instructions);
	tcase_add_test(tc, psrecord_counts_in_mebibytes);
	tcase_add_test(tc, prometheus_joins_metrics_of_the_same_labels);
	tcase_add_loop_test(tc, broken_json_is_refused, 0, sizeof(answers) / sizeof(answers[0]));
	tcase_add_test(tc, our_stream_with_exec_and_a_cut_line);
	tcase_add_test(tc, our_reports_one_or_many);
	tcase_add_loop_test(tc, lives_by_the_level_of_the_memory, 0, sizeof(courses) / sizeof(courses[0]));
	tcase_add_test(tc, lives_by_counters);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
