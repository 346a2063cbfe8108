/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remote calls: the target makes them, and nothing of what it computes, waits for or is sent changes by them. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "support_remote.h"
#include "support_trace.h"

#define COROUTINE_BYTES ((size_t)512 << 10)

/* ---- calls ---- */

static void check_mmap(struct fixture *f)
{
	const struct remote_call map = { .is_syscall = true,
					 .number_or_address = SYS_mmap,
					 .args = { 0, 3 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
						   (uint64_t)-1, 0 } };
	struct remote_call unmap = { .is_syscall = true, .number_or_address = SYS_munmap };
	struct remote_result r = call_in(f, &map);
	unsigned char page[3 << 12];

	ck_assert_int_gt(r.value, 0);
	ck_assert_int_eq(mem_read_exact(f->mem, (uint64_t)r.value, page, sizeof(page)), 0);
	unmap.args[0] = (uint64_t)r.value;
	unmap.args[1] = sizeof(page);
	ck_assert_int_eq(call_in(f, &unmap).value, 0);
	ck_assert_int_ne(mem_read_exact(f->mem, (uint64_t)r.value, page, sizeof(page)), 0);
	unmap.args[0] = 1; /* not a page's address */
	ck_assert_int_eq(call_in(f, &unmap).value, -EINVAL);
}

static void calls_leave_it_right(void (*body)(void), int threads)
{
	const long calls[] = { SYS_mmap, SYS_munmap };
	struct err err = ERR_INIT;
	struct fixture f;

	fixture_start(&f, body, threads);
	ck_assert_msg(tracer_remote_check(f.t, f.pid, f.mem, calls, 2, &err) == 0, "%s", err.msg);
	for (int i = 0; i < CALLS; i++)
		call_getpid(&f);
	check_mmap(&f);
	check_undisturbed(&f);
	fixture_finish(&f);
}

START_TEST(calls_leave_a_busy_thread_as_it_was)
{
	calls_leave_it_right(compute_alone, 1);
}
END_TEST

START_TEST(calls_leave_16_busy_threads_as_they_were)
{
	calls_leave_it_right(compute_many, RT_THREADS);
}
END_TEST

/* ---- functions ---- */

START_TEST(functions_are_called_and_leave_no_trace)
{
	struct fixture f;

	open_done_word();
	fixture_start(&f, compute_many, RT_THREADS);
	for (int i = 0; i < CALLS; i++) {
		struct remote_call c = function_call(0, WAIT_NS);

		ck_assert_int_eq(call_in(&f, &c).value, 0);
		ck_assert_uint_eq(atomic_load(&done_word[1]), 54321);
	}
	check_undisturbed(&f);
	fixture_finish(&f);
}
END_TEST

/* The deadline passes: the thread is let go inside the function, and the frame alone brings it back. */
START_TEST(a_function_that_takes_long_comes_back_alone)
{
	struct remote_result r;
	struct err err = ERR_INIT;
	struct fixture f;

	open_done_word();
	fixture_start(&f, compute_alone, 1);
	for (int i = 0; i < 20; i++) {
		struct remote_call c = function_call(1, 20 * NS_PER_MS);

		atomic_store(&board->go, false);
		ck_assert_int_eq(tracer_remote_call(f.t, f.pid, f.mem, &c, &r, &err), -ETIME);
		fixture_check_untraced(&f);
		atomic_store(&board->go, true);
		await(atomic_load(&done_word[0]) == 77);
		check_undisturbed(&f);
	}
	fixture_finish(&f);
}
END_TEST

START_TEST(a_fault_of_the_function_is_taken_back)
{
	struct remote_call c;
	struct remote_result r;
	struct err err = ERR_INIT;
	struct fixture f;

	open_done_word();
	fixture_start(&f, compute_alone, 1);
	c = function_call(2, WAIT_NS);
	ck_assert_int_eq(tracer_remote_call(f.t, f.pid, f.mem, &c, &r, &err), -EFAULT);
	check_undisturbed(&f);
	fixture_finish(&f);
}
END_TEST

START_TEST(no_signal_is_lost_or_doubled)
{
	struct fixture f;
	int status;

	fixture_start(&f, signalled, RT_THREADS);
	for (int i = 0; i < CALLS; i++)
		call_getpid(&f);
	atomic_store(&board->stop, true);
	fixture_close(&f);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	ck_assert_uint_gt(board_sum(board->sent), 0);
	ck_assert_uint_eq(board_sum(board->sent), board_sum(board->got));
}
END_TEST

/* ---- memwatch dies ---- */

START_TEST(killed_at_any_instant_busy_threads_go_on)
{
	kill_rounds(_i ? compute_many : compute_alone, _i ? RT_THREADS : 1, KILL_ROUNDS / 2);
}
END_TEST

/* ---- stacks that are not known to be one ---- */

static _Thread_local ucontext_t outside, coroutine;

static void *run_coroutine(void *stack)
{
	getcontext(&coroutine);
	coroutine.uc_stack = (stack_t){ .ss_sp = stack, .ss_size = COROUTINE_BYTES };
	coroutine.uc_link = &outside;
	makecontext(&coroutine, compute_alone, 0);
	swapcontext(&outside, &coroutine);
	return NULL;
}

static void on_coroutine(void)
{
	run_coroutine(malloc(COROUTINE_BYTES));
}

/* Also a thread whose control block may lie above the coroutine's stack. */
static void all_on_coroutines(void)
{
	pthread_t id;

	pthread_create(&id, NULL, run_coroutine, malloc(COROUTINE_BYTES));
	on_coroutine();
}

START_TEST(a_thread_on_a_coroutine_is_not_taken)
{
	const struct remote_call c = { .is_syscall = true,
				       .number_or_address = SYS_getpid,
				       .deadline_ns = 300 * NS_PER_MS };
	struct remote_result r = { .value = -1 };
	struct err err = ERR_INIT;
	struct fixture f;

	fixture_start(&f, _i ? all_on_coroutines : on_coroutine, _i ? 2 : 1);
	ck_assert_int_eq(tracer_remote_call(f.t, f.pid, f.mem, &c, &r, &err), -ETIME);
	ck_assert_ptr_nonnull(strstr(err.msg, "stack"));
	ck_assert_int_eq(r.value, -1);
	await(tracer_settle(f.t) == 0);
	await(atomic_load(&board->rounds) > 5);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	fixture_finish(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace-remote");
	TCase *tc = tcase_create("trace-remote");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_set_timeout(tc, 240);
	tcase_add_checked_fixture(tc, board_setup, board_teardown);
	tcase_add_test(tc, calls_leave_a_busy_thread_as_it_was);
	tcase_add_test(tc, calls_leave_16_busy_threads_as_they_were);
	tcase_add_test(tc, functions_are_called_and_leave_no_trace);
	tcase_add_test(tc, a_function_that_takes_long_comes_back_alone);
	tcase_add_test(tc, a_fault_of_the_function_is_taken_back);
	tcase_add_test(tc, no_signal_is_lost_or_doubled);
	tcase_add_loop_test(tc, killed_at_any_instant_busy_threads_go_on, 0, 2);
	tcase_add_loop_test(tc, a_thread_on_a_coroutine_is_not_taken, 0, 2);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
