/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/model.h"

static const char *const contract_names[METRIC_COUNT] = {
	"rss_bytes",
	"pss_bytes",
	"anon_bytes",
	"file_bytes",
	"shmem_bytes",
	"swap_bytes",
	"stack_bytes",
	"lazy_free_bytes",
	"heap_in_use_bytes",
	"heap_free_bytes",
	"heap_mapped_bytes",
	"heap_in_use_blocks",
	"runtime_live_bytes",
	"virtual_bytes",
	"threads",
	"fds",
	"minor_faults",
	"major_faults",
	"cpu_s",
	"read_chars",
	"write_chars",
	"syscalls",
	"context_switches",
	"net_bytes",
	"work_units",
	"cgroup_bytes",
	"psi_some_percent",
};

START_TEST(metrics_have_the_contract_names)
{
	for (size_t i = 0; i < METRIC_COUNT; i++)
		ck_assert_str_eq(metric_table[i].name, contract_names[i]);
}
END_TEST

START_TEST(units_agree_with_names)
{
	for (size_t i = 0; i < METRIC_COUNT; i++) {
		const struct metric_info *m = &metric_table[i];
		size_t len = strlen(m->name);

		if (len > 6 && !strcmp(m->name + len - 6, "_bytes"))
			ck_assert_str_eq(m->unit, "bytes");
		ck_assert(!strcmp(m->unit, "bytes") || !strcmp(m->unit, "s") || !strcmp(m->unit, "count") ||
			  !strcmp(m->unit, "percent"));
	}
	ck_assert_str_eq(metric_table[METRIC_CPU].unit, "s");
	ck_assert_str_eq(metric_table[METRIC_PSI_SOME].unit, "percent");
}
END_TEST

START_TEST(only_counters_are_counters)
{
	for (int i = 0; i < METRIC_COUNT; i++)
		ck_assert_int_eq(metric_table[i].counter, i >= METRIC_MINOR_FAULTS && i <= METRIC_WORK);
}
END_TEST

START_TEST(verdict_names_keep_the_contract_spelling)
{
	static const char *const classes[] = { "insufficient-data", "stable", "warmup", "scaling", "leak",
					       "retention",         "spike",  "step",   "growth" };

	for (size_t i = 0; i < VERDICT_CLASS_COUNT; i++)
		ck_assert_str_eq(verdict_class_names[i], classes[i]);
	ck_assert_ptr_null(verdict_class_names[VERDICT_CLASS_COUNT]);
	ck_assert_ptr_null(verdict_kind_names[KIND_NONE]);
	ck_assert_str_eq(verdict_kind_names[KIND_UNREACHABLE], "unreachable");
	ck_assert_str_eq(verdict_kind_names[KIND_REACHABLE], "reachable");
	ck_assert_str_eq(verdict_kind_names[KIND_SUSPECTED], "suspected");
	ck_assert_ptr_null(verdict_cause_names[CAUSE_NONE]);
	ck_assert_str_eq(verdict_cause_names[CAUSE_FRAGMENTATION], "fragmentation");
	ck_assert_str_eq(verdict_cause_names[CAUSE_ALLOCATOR], "allocator");
	ck_assert_str_eq(verdict_cause_names[CAUSE_GC], "gc");
	ck_assert_ptr_null(verdict_where_names[WHERE_NONE]);
	for (size_t i = WHERE_NONE + 1; i < WHERE_COUNT; i++)
		ck_assert_ptr_nonnull(verdict_where_names[i]);
	for (size_t i = 0; i < FRAME_NOTE_COUNT; i++)
		ck_assert_ptr_nonnull(frame_note_names[i]);
}
END_TEST

START_TEST(a_new_sample_knows_nothing)
{
	struct sample s;

	memset(&s, 0x5a, sizeof(s));
	sample_init(&s, 1.5);
	ck_assert_double_eq(s.t_s, 1.5);
	for (size_t i = 0; i < METRIC_COUNT; i++)
		ck_assert(isnan(s.v[i]));
}
END_TEST

START_TEST(a_new_snapshot_claims_nothing)
{
	struct snapshot s;
	char *text;

	memset(&s, 0x5a, sizeof(s));
	snapshot_init(&s);
	ck_assert_ptr_null(s.processes);
	ck_assert_int_eq(s.main.target.exit_code, -1);
	ck_assert(s.main.target.peak_rss_bytes == UNKNOWN_U64);
	ck_assert(isnan(s.limit_bytes));
	ck_assert(!s.main.verdict.forecast.known);
	ck_assert_uint_eq(s.main.metrics[METRIC_RSS].count, 0);
	ck_assert(isnan(s.main.metrics[METRIC_RSS].slope_per_s.value));
	ck_assert(s.main.classes[REGION_HEAP].rss_bytes == UNKNOWN_U64);
	text = arena_strdup(&s.arena, "in the snapshot's arena");
	ck_assert_str_eq(text, "in the snapshot's arena");
	snapshot_deinit(&s);
	snapshot_deinit(&s); /* half-built and emptied ones are safe */
	snapshot_deinit(NULL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("model");
	TCase *tc = tcase_create("model");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, metrics_have_the_contract_names);
	tcase_add_test(tc, units_agree_with_names);
	tcase_add_test(tc, only_counters_are_counters);
	tcase_add_test(tc, verdict_names_keep_the_contract_spelling);
	tcase_add_test(tc, a_new_sample_knows_nothing);
	tcase_add_test(tc, a_new_snapshot_claims_nothing);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
