/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remote calls in threads that sleep: no wait ends early, late, or with an EINTR that no handler made. */
#include <check.h>
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "support_remote.h"
#include "support_trace.h"

#define SLEEP_NS (40 * NS_PER_MS)

static void note_sleep(uint64_t start, bool good)
{
	if (!good || clock_now_ns() - start < SLEEP_NS)
		atomic_fetch_add(&board->wrong, 1);
	atomic_fetch_add(&board->rounds, 1);
}

static const struct timespec sleep_time = { .tv_nsec = (long)SLEEP_NS };

static bool by_nanosleep(void)
{
	return nanosleep(&sleep_time, NULL) == 0;
}

static bool by_poll(void)
{
	return poll(NULL, 0, SLEEP_NS / NS_PER_MS) == 0;
}

static bool by_futex(void)
{
	int word = 1;

	register const void *timeout __asm__("r10") = &sleep_time;
	long result;

	/* as C libraries have it: the number is loaded right before */
	__asm__ volatile("mov $202, %%eax\n\tsyscall"
			 : "=a"(result)
			 : "D"(&word), "S"(FUTEX_WAIT), "d"(1), "r"(timeout)
			 : "rcx", "r11", "memory");
	return result == -ETIMEDOUT;
}

static bool by_ppoll(void)
{
	sigset_t none;

	sigemptyset(&none);
	return ppoll(NULL, 0, &sleep_time, &none) == 0;
}

static bool by_epoll(void)
{
	struct epoll_event event;
	int fd = epoll_create1(0), n = epoll_wait(fd, &event, 1, SLEEP_NS / NS_PER_MS);

	close(fd);
	return n == 0;
}

static bool by_sigtimedwait(void)
{
	sigset_t usr1;

	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	return sigtimedwait(&usr1, NULL, &sleep_time) < 0 && errno == EAGAIN;
}

static bool (*const sleeps[])(void) = { by_nanosleep, by_poll, by_futex, by_ppoll, by_epoll, by_sigtimedwait };
#define RESTARTED 4 /* the first ones, with the time that remains; the others begin anew */
static int sleep_kind;

static void sleep_repeatedly(void)
{
	atomic_store(&board->ready, 1);
	while (!atomic_load(&board->stop)) {
		uint64_t start = clock_now_ns();

		note_sleep(start, sleeps[sleep_kind]());
	}
}

/* Calls without a pause: a sleep that began anew after each would never end. (ppoll keeps its remaining time in its argument.) */
START_TEST(sleeps_are_neither_cut_nor_stretched)
{
	struct fixture f;

	sleep_kind = _i;
	open_done_word();
	fixture_start(&f, sleep_repeatedly, 1);
	for (int i = 0; i < 4 || atomic_load(&board->rounds) < 4; i++) {
		struct remote_call c = function_call(0, WAIT_NS);

		call_getpid(&f);
		call_in(&f, &c);
		ck_assert_int_lt(i, 1000000);
	}
	check_undisturbed(&f);
	fixture_finish(&f);
}
END_TEST

START_TEST(calls_that_fail_when_interrupted_do_not)
{
	const struct remote_call c = { .is_syscall = true,
				       .number_or_address = SYS_getpid,
				       .deadline_ns = 400 * NS_PER_MS };
	struct fixture f;

	sleep_kind = RESTARTED + _i;
	fixture_start(&f, sleep_repeatedly, 1);
	for (int i = 0; i < 12; i++)
		ck_assert_int_eq(call_in(&f, &c).value, f.pid);
	check_undisturbed(&f);
	fixture_finish(&f);
}
END_TEST

static volatile sig_atomic_t handled;

static void count_signal(int sig)
{
	(void)sig;
	handled++;
}

/* pause() returns when a handler has run, and only then; one whose signal is swallowed would hang. */
static void pause_repeatedly(void)
{
	struct sigaction action = { .sa_handler = count_signal };
	const struct itimerval once = { { 0, 0 }, { 0, 1000 } };

	sigaction(SIGALRM, &action, NULL);
	atomic_store(&board->ready, 1);
	for (int expected = 1; !atomic_load(&board->stop); expected++) {
		sigset_t alarm, old;

		sigemptyset(&alarm);
		sigaddset(&alarm, SIGALRM);
		sigprocmask(SIG_BLOCK, &alarm, &old);
		setitimer(ITIMER_REAL, &once, NULL);
		if (sigsuspend(&old) != -1 || errno != EINTR || handled != expected)
			atomic_fetch_add(&board->wrong, 1);
		sigprocmask(SIG_SETMASK, &old, NULL);
		atomic_fetch_add(&board->rounds, 1);
	}
}

START_TEST(waiting_for_signals_goes_on)
{
	struct remote_result r = { .value = -1 };
	struct err err = ERR_INIT;
	struct fixture f;
	int made = 0;

	open_done_word();
	fixture_start(&f, pause_repeatedly, 1);
	for (int i = 0; i < CALLS;
	     i++) { /* a mask that blocks what is handled is a second choice, hence the deadline */
		struct remote_call c = function_call(0, 40 * NS_PER_MS);

		(void)!tracer_remote_call(f.t, f.pid, f.mem, &c, &r, &err);
		made += r.value == 0;
		r.value = -1;
	}
	ck_assert_int_gt(made, CALLS / 4);
	check_undisturbed(&f);
	fixture_finish(&f);
}
END_TEST

static void sleep_blocking(void)
{
	struct sigaction action = { .sa_handler = count_signal };
	sigset_t alarm;

	sigaction(SIGALRM, &action, NULL);
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	atomic_store(&board->ready, 1);
	for (;;)
		poll(NULL, 0, -1);
}

/* A thread that is a second choice is not stopped over and over until it is taken: nothing changes while it sleeps. */
START_TEST(second_choices_are_left_asleep)
{
	const struct remote_call c = { .is_syscall = true,
				       .number_or_address = SYS_getpid,
				       .deadline_ns = 2 * NS_PER_S };
	struct remote_result r;
	struct fixture f;

	fixture_start(&f, sleep_blocking, 1);
	await(thread_state(f.pid, f.pid) == 'S');
	r = call_in(&f, &c);
	ck_assert_int_eq(r.value, f.pid);
	ck_assert_uint_le(r.stops,
			  15); /* every 100 ms of the half second; 3 of the call itself, and those of the last try */
	fixture_finish(&f);
}
END_TEST

START_TEST(killed_at_any_instant_sleeps_go_on)
{
	sleep_kind = _i;
	kill_rounds(sleep_repeatedly, 1, KILL_ROUNDS / 10);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace-remote-waits");
	TCase *tc = tcase_create("trace-remote-waits");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_set_timeout(tc, 240);
	tcase_add_checked_fixture(tc, board_setup, board_teardown);
	tcase_add_loop_test(tc, sleeps_are_neither_cut_nor_stretched, 0, RESTARTED);
	tcase_add_loop_test(tc, calls_that_fail_when_interrupted_do_not, 0, 2);
	tcase_add_test(tc, waiting_for_signals_goes_on);
	tcase_add_test(tc, second_choices_are_left_asleep);
	tcase_add_loop_test(tc, killed_at_any_instant_sleeps_go_on, 0, RESTARTED);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
