/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "support_stack.h"

#define FRAMES 400
#define SLICE (256U << 10)

static struct blocked blocked;
static struct frame frames[FRAMES];
static size_t count;
static enum frame_note end;

static void start_in(const char *victim, const char *mode, const char *arg, size_t slice)
{
	char path[256], mode_text[16], arg_text[16];
	char *argv[] = { path, mode_text, arg_text, NULL };

	victim_path(victim, path, sizeof(path));
	snprintf(mode_text, sizeof(mode_text), "%s", mode);
	snprintf(arg_text, sizeof(arg_text), "%s", arg);
	blocked_start(&blocked, argv);
	blocked_capture(&blocked, slice);
	count = blocked_frames(&blocked, frames, FRAMES, &end);
}

/* The functions in that order, nothing between. */
static void expect_chain(const char *const *functions)
{
	size_t at = frame_index(frames, count, 0, functions[0]);

	for (size_t i = 1; functions[i]; i++)
		ck_assert_msg(at + i < count && strcmp(frames[at + i].function, functions[i]) == 0,
			      "frame %zu is '%s', not '%s'", at + i, at + i < count ? frames[at + i].function : "",
			      functions[i]);
}

static const char *const victims[] = { "sym_chain", "sym_chain_static", "sym_chain_nopie", "sym_chain_compressed" };
#define VICTIMS (int)(sizeof(victims) / sizeof(victims[0]))

START_TEST(recursion_reaches_the_start)
{
	start_in(victims[_i], "recursion", "3", SLICE);
	expect_chain((const char *[]){ "block", "recurse", "recurse", "recurse", "recurse", "main", NULL });
	ck_assert_int_eq(end, FRAME_OK);
	ck_assert_str_eq(frames[count - 1].function, "_start");
	blocked_end(&blocked);
}
END_TEST

START_TEST(call_through_a_table)
{
	start_in(victims[_i], "pointer", "", SLICE);
	expect_chain((const char *[]){ "block", "dispatch", "main", NULL });
	blocked_end(&blocked);
}
END_TEST

START_TEST(signal_handler_goes_on_where_it_interrupted)
{
	size_t at;

	start_in(victims[_i], "signal", "", SLICE);
	expect_chain((const char *[]){ "block", "handler", "<signal handler called>", NULL });
	at = frame_index(frames, count, 0, "<signal handler called>");
	at = frame_index(frames, count, at, "interrupted");
	ck_assert_str_eq(frames[at + 1].function, "main");
	ck_assert_int_eq(end, FRAME_OK);
	blocked_end(&blocked);
}
END_TEST

START_TEST(call_of_null_names_the_caller)
{
	size_t at;

	start_in(victims[_i], "null", "", SLICE);
	at = frame_index(frames, count, 0, "<signal handler called>");
	ck_assert_uint_eq(frames[at + 1].address, 0);
	ck_assert_int_eq(frames[at + 1].note, FRAME_NO_MODULE);
	ck_assert_str_eq(frames[at + 2].function, "call_nothing");
	ck_assert_str_eq(frames[at + 3].function, "main");
	blocked_end(&blocked);
}
END_TEST

START_TEST(deep_stack_ends_at_the_limit)
{
	static struct unwind_stack stack;

	start_in("sym_chain", "recursion", "1000", SLICE);
	ck_assert_int_eq(unwind_thread(blocked.symbols, &blocked.stack, &stack), 0);
	ck_assert_uint_eq(stack.count, UNWIND_MAX_FRAMES);
	ck_assert_int_eq(stack.end, FRAME_TRUNCATED);
	ck_assert_str_eq(frames[UNWIND_MAX_FRAMES - 1].function, "recurse");
	blocked_end(&blocked);
}
END_TEST

START_TEST(short_slice_says_so)
{
	start_in("sym_chain", "recursion", "100", 1024);
	ck_assert_int_eq(end, FRAME_TRUNCATED);
	ck_assert_uint_gt(count, 10);
	ck_assert_str_eq(frames[count - 1].function, "recurse");
	blocked_end(&blocked);
}
END_TEST

START_TEST(stripped_program_is_unwound)
{
	start_in("sym_chain_stripped", "recursion", "5", SLICE);
	ck_assert_int_eq(end, FRAME_OK);
	ck_assert_uint_eq(frame_index(frames, count, 0, "__libc_start_main"), count - 2);
	ck_assert_uint_ge(count, 1 + 1 + 6 + 1 + 2 + 1);
	blocked_end(&blocked);
}
END_TEST

/* Whatever stands in a stack, an unwind ends, stays inside the slice (for the sanitizers to see) and says why it ended. */
START_TEST(torn_stacks_end)
{
	static struct unwind_stack stack;
	unsigned seed = 4099;

	start_in("sym_chain", "recursion", "50", SLICE);
	for (int round = 0; round < 2000; round++) {
		struct thread_stack torn = blocked.stack;
		unsigned char copy[2048];

		torn.slice_len = torn.slice_len < sizeof(copy) ? torn.slice_len : sizeof(copy);
		memcpy(copy, blocked.stack.slice, torn.slice_len);
		for (int i = 0; i < 16; i++)
			copy[(unsigned)rand_r(&seed) % torn.slice_len] ^= (unsigned char)rand_r(&seed);
		if (round % 3 == 0)
			torn.regs.value[7] = torn.regs.sp += (uint64_t)(rand_r(&seed) % 4096) - 2048;
		if (round % 5 == 0)
			torn.regs.pc = (uint64_t)rand_r(&seed);
		torn.slice = copy;
		torn.slice_full = round % 2;
		ck_assert_int_eq(unwind_thread(blocked.symbols, &torn, &stack), 0);
		ck_assert_uint_ge(stack.count, 1);
		ck_assert_uint_le(stack.count, UNWIND_MAX_FRAMES);
		ck_assert_int_lt(stack.end, FRAME_NOTE_COUNT);
	}
	blocked_end(&blocked);
}
END_TEST

START_TEST(what_was_not_captured_is_refused)
{
	static struct unwind_stack stack = { .count = 7 };

	start_in("sym_chain", "pointer", "", SLICE);
	blocked.stack.condition = THREAD_LATE;
	ck_assert_int_lt(unwind_thread(blocked.symbols, &blocked.stack, &stack), 0);
	ck_assert_uint_eq(stack.count, 7);
	blocked_end(&blocked);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unwind");
	TCase *tc = tcase_create("native");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, recursion_reaches_the_start, 0, VICTIMS);
	tcase_add_loop_test(tc, call_through_a_table, 0, VICTIMS);
	tcase_add_loop_test(tc, signal_handler_goes_on_where_it_interrupted, 0, VICTIMS);
	tcase_add_loop_test(tc, call_of_null_names_the_caller, 0, VICTIMS);
	tcase_add_test(tc, deep_stack_ends_at_the_limit);
	tcase_add_test(tc, short_slice_says_so);
	tcase_add_test(tc, stripped_program_is_unwound);
	tcase_add_test(tc, torn_stacks_end);
	tcase_add_test(tc, what_was_not_captured_is_refused);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
