/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which walks of the heap are taken for figures. */
#include <check.h>
#include <stdlib.h>

#include "session/private.h"

#define MIB ((uint64_t)1 << 20)

/* Seen live: the break grew between the reading of the mappings and the walk, and nothing of 14 MiB was reached. */
START_TEST(unreached_heap_is_no_empty_heap)
{
	const struct heap_stats skipped = { .mapped_bytes = 14 * MIB, .skipped_bytes = 14 * MIB - 4096 };
	/* … or was reached and cast away again: then the walk believes that it is complete */
	const struct heap_stats lost = {
		.mapped_bytes = 12570624, .free_bytes = 151376, .overhead_bytes = 12419248, .complete = true
	};
	unsigned torn = 0;

	ck_assert(walk_is_torn(&skipped, &torn));
	ck_assert(walk_is_torn(&lost, &torn));
}
END_TEST

START_TEST(small_parts_may_be_missed)
{
	const struct heap_stats whole = { .mapped_bytes = 14 * MIB, .in_use_bytes = 13 * MIB, .complete = true };
	const struct heap_stats nearly = { .mapped_bytes = 14 * MIB, .in_use_bytes = 13 * MIB, .skipped_bytes = MIB };
	const struct heap_stats empty = { .complete = true };
	unsigned torn = 0;

	ck_assert(!walk_is_torn(&whole, &torn));
	ck_assert(!walk_is_torn(&nearly, &torn));
	ck_assert(!walk_is_torn(&empty, &torn));
}
END_TEST

/* A part that can never be walked must not cost the heap truth of all the rest; and a whole walk ends the row. */
START_TEST(lasting_miss_is_taken)
{
	const struct heap_stats part = { .mapped_bytes = 14 * MIB, .in_use_bytes = 7 * MIB, .skipped_bytes = 7 * MIB };
	const struct heap_stats whole = { .mapped_bytes = 14 * MIB, .in_use_bytes = 14 * MIB, .complete = true };
	unsigned torn = 0, dropped = 0;

	while (dropped < 1000 && walk_is_torn(&part, &torn))
		dropped++;
	ck_assert_uint_ge(dropped, 3);
	ck_assert_uint_lt(dropped, 100);
	ck_assert(!walk_is_torn(&part, &torn));
	ck_assert(!walk_is_torn(&whole, &torn));
	ck_assert(walk_is_torn(&part, &torn));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("looks");
	SRunner *runner = srunner_create(suite);
	TCase *tc = tcase_create("walks");
	int failed;

	tcase_add_test(tc, unreached_heap_is_no_empty_heap);
	tcase_add_test(tc, small_parts_may_be_missed);
	tcase_add_test(tc, lasting_miss_is_taken);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
