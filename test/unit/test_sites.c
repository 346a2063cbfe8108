/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The site table: who grew, what survived, what is merged, and that it stays bounded. */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/sites.h"

#define MIB 1048576ULL
#define CONTENT 77 /* hash of what a followed block holds */

static struct site_table *table;
static struct symbols *symbols;
static struct mem *memory;
static int proc_fd;
static struct arena arena;

__attribute__((noinline)) static void grows_much(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void grows_little(void)
{
	__asm__ volatile("nop" ::: "memory");
}

static void setup(void)
{
	struct symbols_options options = { .pid = getpid() };
	struct err err = ERR_INIT;

	proc_fd = open("/proc/self", O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(proc_fd, 0);
	options.proc_fd = proc_fd;
	ck_assert_int_eq(symbols_create(&options, &symbols), 0);
	ck_assert_int_ge(mem_live_create(getpid(), proc_fd, &memory, &err), 0);
	ck_assert_int_ge(symbols_update(symbols, memory), 0);
	ck_assert_int_eq(site_table_create(&table), 0);
	arena_init(&arena, 4096, 0);
}

static void teardown(void)
{
	site_table_destroy(table);
	symbols_destroy(symbols);
	mem_destroy(memory);
	close(proc_fd);
	arena_deinit(&arena);
}

static struct unwind_stack stack_of(void (*function)(void), uint64_t offset)
{
	struct unwind_stack stack = { .count = 1, .end = FRAME_OK };

	stack.pcs[0] = (uint64_t)(uintptr_t)function + offset;
	return stack;
}

static void add_stack(const struct unwind_stack *stack, uint64_t start, uint64_t bytes, bool exact, double t_s)
{
	struct site_event event = { .start = start,
				    .end = start ? start + bytes : 0,
				    .weight_bytes = bytes,
				    .exact = exact,
				    .t_s = t_s,
				    .source = "stacks" };

	ck_assert_int_eq(site_table_add(table, stack, &event), 0);
}

static void add(void (*function)(void), uint64_t start, uint64_t bytes, bool exact, double t_s)
{
	struct unwind_stack stack = stack_of(function, 0);

	add_stack(&stack, start, bytes, exact, t_s);
}

static size_t report_with(const struct heap_stats *heap, double since_s, struct site **ret)
{
	const struct site_query query = {
		.symbols = symbols, .since_s = since_s, .until_s = since_s + 10.0, .heap = heap, .max = 20
	};
	size_t count = 0;

	ck_assert_int_eq(site_table_report(table, &query, &arena, ret, &count), 0);
	return count;
}

static size_t report(double since_s, struct site **ret)
{
	return report_with(NULL, since_s, ret);
}

START_TEST(ranks_by_survivors)
{
	struct region kept = { .start = 16 * MIB, .end = 18 * MIB, .flags = REGION_READ | REGION_WRITE };
	struct site *sites;

	/* The first takes more, but all of it was given back meanwhile. */
	add(grows_much, 64 * MIB, 8 * MIB, true, 1.0);
	add(grows_little, 16 * MIB, 2 * MIB, true, 1.0);
	site_table_refresh(table, &kept, 1);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_little");
	ck_assert_uint_eq(sites[0].bytes, 2 * MIB);
	ck_assert_double_eq_tol(sites[0].share, 1.0, 1e-9);
	ck_assert_double_eq_tol(sites[0].survival, 1.0, 1e-9);
	ck_assert(sites[0].exact);
}
END_TEST

START_TEST(read_only_is_given_back)
{
	/* A thread arena that shrinks leaves its pages mapped without any right. */
	struct region shrunk = { .start = 16 * MIB, .end = 18 * MIB, .flags = 0 };
	struct site *sites;

	add(grows_much, 16 * MIB, 2 * MIB, true, 1.0);
	site_table_refresh(table, &shrunk, 1);
	ck_assert_uint_eq(report(0.0, &sites), 0);
}
END_TEST

START_TEST(range_taken_again)
{
	struct site *sites;

	add(grows_much, 16 * MIB, 2 * MIB, true, 1.0);
	add(grows_little, 17 * MIB, 1 * MIB, true, 2.0);
	ck_assert_uint_eq(report(0.0, &sites), 2);
	ck_assert_uint_eq(sites[0].bytes, MIB);
	ck_assert_uint_eq(sites[1].bytes, MIB);
}
END_TEST

START_TEST(built_up_before_does_not_count)
{
	struct site *sites;

	add(grows_much, 64 * MIB, 64 * MIB, true, 0.5);
	add(grows_little, 16 * MIB, 1 * MIB, true, 5.0);
	ck_assert_uint_eq(report(2.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_little");
}
END_TEST

START_TEST(statistical_give_way_to_exact)
{
	struct site *sites;

	add(grows_much, 0, 3 * MIB, false, 1.0);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert(!sites[0].exact);
	add(grows_little, 16 * MIB, 1 * MIB, true, 1.0);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_little");
}
END_TEST

START_TEST(what_exact_events_explain)
{
	ck_assert(isnan(site_table_exact_share(table, 0.0)));
	add(grows_much, 16 * MIB, 8 * MIB, true, 1.0);
	ck_assert_double_eq(site_table_exact_share(table, 0.0), 1.0);
	add(grows_little, 0, 3 * MIB, false, 2.0);
	add(grows_much, 64 * MIB, MIB, true, 3.0);
	ck_assert_double_eq(site_table_exact_share(table, 0.0), 0.75);
	ck_assert_double_eq(site_table_exact_share(table, 1.5), 0.25);
	ck_assert(isnan(site_table_exact_share(table, 3.5)));
}
END_TEST

START_TEST(same_line_is_one_site)
{
	struct unwind_stack a = stack_of(grows_much, 0);
	struct site *sites;

	/* The very same address twice, and once as part of a longer stack: two sites, not three. */
	add_stack(&a, 16 * MIB, MIB, true, 1.0);
	add_stack(&a, 18 * MIB, MIB, true, 1.0);
	a.pcs[a.count++] = (uint64_t)(uintptr_t)grows_little + 1;
	add_stack(&a, 20 * MIB, MIB, true, 1.0);
	ck_assert_uint_eq(report(0.0, &sites), 2);
	ck_assert_uint_eq(sites[0].bytes, 2 * MIB);
	ck_assert_uint_eq(sites[0].frame_count, 1);
	ck_assert_uint_eq(sites[1].frame_count, 2);
}
END_TEST

START_TEST(stays_bounded)
{
	struct site *sites;
	uint64_t total = 0;
	size_t count;

	/* More stacks than the table keeps: the rest is one entry, and no byte is lost as long as events fit. */
	for (uint64_t i = 0; i < SITES_MAX + 500; i++) {
		struct unwind_stack stack = { .count = 1, .end = FRAME_OK };

		stack.pcs[0] = 0x1000 + i * 16;
		add_stack(&stack, 0, i < SITES_MAX - 1 ? 1 : 1000, true, 1.0);
	}
	count = report(0.0, &sites);
	ck_assert_uint_gt(count, 0);
	ck_assert_str_eq(sites[0].frames[0].function, "(other stacks)");
	for (size_t i = 0; i < count; i++)
		total += sites[i].bytes;
	ck_assert_uint_ge(total, 501 * 1000);
	ck_assert_uint_eq(site_table_events(table), SITES_MAX + 500);
}
END_TEST

START_TEST(many_events_stay_bounded)
{
	struct site *sites;

	for (uint64_t i = 0; i < 3 * SITES_RANGES_MAX; i++)
		add(grows_much, (1 + i) * MIB, MIB, true, 2.0);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_much");
	/* What was thinned out may be forgotten, but most of what is known to survive is not. */
	ck_assert_uint_gt(sites[0].bytes, SITES_RANGES_MAX / 2 * MIB);
	ck_assert_uint_eq(site_table_events(table), 3 * SITES_RANGES_MAX);
}
END_TEST

/* One heap growth whose block is at [start - 64, start + 192) when it is in use. */
static void add_in_heap(void (*function)(void), uint64_t start, uint64_t size)
{
	struct unwind_stack stack = stack_of(function, 0);
	struct site_event event = { .start = start,
				    .end = start + MIB,
				    .weight_bytes = MIB,
				    .exact = true,
				    .in_heap = true,
				    .t_s = 1.0,
				    .source = "stacks",
				    .block_start = start - 64,
				    .block_size = size,
				    .content = CONTENT };

	ck_assert_int_eq(site_table_add(table, &stack, &event), 0);
}

static void walk_finds(const struct heap_block *found, size_t count)
{
	struct heap_block asked[4];

	ck_assert_uint_eq(site_table_blocks(table, false, asked, 4), count);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(asked[i].address, found[i].address);
	site_table_seen(table, found, count);
}

/* As often as it takes to believe that a block stays. */
static void walks_find(const struct heap_block *found, size_t count)
{
	for (int i = 0; i < 6; i++)
		walk_finds(found, count);
}

START_TEST(short_lived_blocks_are_no_site)
{
	struct heap_block used[] = { { 16 * MIB - 64, 16 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT },
				     { 32 * MIB - 64, 32 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT } };
	uint64_t events, given_back;
	struct site *sites;

	add_in_heap(grows_much, 32 * MIB, 256);
	add_in_heap(grows_little, 16 * MIB, 256);
	walk_finds(used, 2);
	ck_assert_uint_eq(report(0.0, &sites), 0); /* once proves nothing */
	walks_find(used, 2);
	ck_assert_uint_eq(report(0.0, &sites), 2);
	used[1].state = HEAP_BLOCK_FREE;
	walk_finds(used, 2);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_little");
	site_table_given_back(table, 0.0, &events, &given_back);
	ck_assert_uint_eq(events, 2);
	ck_assert_uint_eq(given_back, 1);
	/* Given back stays given back: another block in that place is another block. */
	walk_finds(used, 1);
	ck_assert_uint_eq(report(0.0, &sites), 1);
}
END_TEST

START_TEST(changed_content_needs_a_stack_that_keeps)
{
	/* The block in that place is as large as the one that was taken, but what it holds is another thing: alone that says little. */
	struct heap_block used[] = { { 16 * MIB - 64, 16 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT + 1 },
				     { 32 * MIB - 64, 32 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT },
				     { 48 * MIB - 64, 48 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT } };
	struct site *sites;

	add_in_heap(grows_little, 16 * MIB, 256);
	add_in_heap(grows_little, 32 * MIB, 256);
	add_in_heap(grows_little, 48 * MIB, 256);
	walks_find(used, 3);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_uint_eq(sites[0].bytes, 2 * MIB);
	used[1].state = HEAP_BLOCK_FREE;
	used[2].content =
		CONTENT + 1; /* two of three stay, both changed: an object that is written to while it is kept */
	walk_finds(used, 3);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_uint_eq(sites[0].bytes, 2 * MIB);
	used[1] = used[2];
	used[1].state = HEAP_BLOCK_FREE; /* one of three stays, and it may be anybody's */
	walk_finds(used, 2);
	ck_assert_uint_eq(report(0.0, &sites), 0);
}
END_TEST

START_TEST(replaced_block_was_given_back)
{
	struct heap_block used = { 16 * MIB - 64, 16 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT };
	struct heap_block missed = { 16 * MIB - 64, 0, 0, HEAP_BLOCK_UNKNOWN, 0 };
	struct site *sites;

	add_in_heap(grows_much, 16 * MIB, 256);
	walk_finds(&used, 1);
	walk_finds(&missed, 1); /* a torn walk says nothing */
	walks_find(&used, 1);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	used.size = 512;
	walk_finds(&used, 1);
	ck_assert_uint_eq(report(0.0, &sites), 0);
}
END_TEST

START_TEST(a_class_that_churns_weighs_nothing)
{
	/* Three events in the class that churns, one in the class that grows by 1 MiB/s: rank by what grows. */
	struct heap_size_class classes[] = { { .size = 256, .growth_per_s = 1000.0 },
					     { .size = 512, .growth_per_s = 1048576.0 },
					     { .size = 640, .growth_per_s = 262144.0 } };
	struct heap_stats heap = { .classes = classes, .class_count = 3 };
	struct heap_block used[] = { { 16 * MIB - 64, 16 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT },
				     { 20 * MIB - 64, 20 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT },
				     { 24 * MIB - 64, 24 * MIB - 64, 256, HEAP_BLOCK_IN_USE, CONTENT },
				     { 32 * MIB - 64, 32 * MIB - 64, 512, HEAP_BLOCK_IN_USE, CONTENT } };
	struct site *sites;

	add_in_heap(grows_much, 16 * MIB, 256);
	add_in_heap(grows_much, 20 * MIB, 256);
	add_in_heap(grows_much, 24 * MIB, 256);
	add_in_heap(grows_little, 32 * MIB, 512);
	walks_find(used, 4);
	ck_assert_uint_eq(report_with(&heap, 0.0, &sites), 1);
	ck_assert_str_eq(sites[0].frames[0].function, "grows_little");
	ck_assert_uint_eq(sites[0].bytes, 10 * MIB);
	/* What nobody was seen to take (class 640) is not given to anybody. */
	ck_assert_double_eq_tol(sites[0].share, 1048576.0 / (1048576.0 + 262144.0 + 1000.0), 1e-6);
}
END_TEST

START_TEST(why_a_stack_ends)
{
	struct unwind_stack stack = stack_of(grows_much, 0);
	struct site *sites;

	stack.end = FRAME_TRUNCATED;
	add_stack(&stack, 16 * MIB, MIB, true, 1.0);
	ck_assert_uint_eq(report(0.0, &sites), 1);
	ck_assert_int_eq(sites[0].frames[0].note, FRAME_TRUNCATED);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sites");
	TCase *tc = tcase_create("table");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, ranks_by_survivors);
	tcase_add_test(tc, read_only_is_given_back);
	tcase_add_test(tc, range_taken_again);
	tcase_add_test(tc, built_up_before_does_not_count);
	tcase_add_test(tc, statistical_give_way_to_exact);
	tcase_add_test(tc, what_exact_events_explain);
	tcase_add_test(tc, same_line_is_one_site);
	tcase_add_test(tc, stays_bounded);
	tcase_add_test(tc, many_events_stay_bounded);
	tcase_add_test(tc, short_lived_blocks_are_no_site);
	tcase_add_test(tc, changed_content_needs_a_stack_that_keeps);
	tcase_add_test(tc, replaced_block_was_given_back);
	tcase_add_test(tc, a_class_that_churns_weighs_nothing);
	tcase_add_test(tc, why_a_stack_ends);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
