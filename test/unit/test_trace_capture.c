/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One stop window over a process. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support_trace.h"

START_TEST(capture_copies_registers_and_stack_of_every_thread)
{
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;

	fixture_start(&f, spinners, 4);
	ck_assert_msg(fixture_capture(&f, &c, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(c.thread_count, 4);
	for (size_t i = 0; i < c.thread_count; i++) {
		const struct thread_stack *s = &c.threads[i];

		ck_assert_int_eq(s->condition, THREAD_CAPTURED);
		ck_assert_uint_eq(s->regs.count, 17);
		ck_assert_uint_eq(s->regs.value[16], s->regs.pc);
		ck_assert_uint_eq(s->regs.value[7], s->regs.sp);
		/* a function's neighbour in the source is not always the one in the text: distance only */
		ck_assert_uint_lt(s->regs.pc - (uintptr_t)spin_with_marker, 4096);
		ck_assert_uint_le(s->slice_address, s->regs.sp);
		ck_assert_uint_le(s->regs.sp - s->slice_address, 128);
		ck_assert(s->slice_full);
		ck_assert(slice_has_marker(s));
	}
	ck_assert_uint_gt(c.stopped_ns, 0);
	for (size_t i = 0; i < c.thread_count; i++)
		await(thread_state(f.pid, c.threads[i].tid) == 'R');
	ck_assert_uint_eq(tracer_settle(f.t), 0);
	ck_assert_int_eq(status_field(f.pid, "TracerPid:"), 0);
	fixture_finish(&f);
}
END_TEST

START_TEST(no_signal_is_lost_under_captures)
{
	const struct capture_options o = { .deadline_ns = 0 };
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;
	unsigned long before, captured = 0;
	uint64_t until = clock_now_ns() + WAIT_NS;
	int status;

	fixture_start(&f, signalled, RT_THREADS);
	/* with the usual short deadline: on a busy machine a capture may come away with nothing */
	for (int i = 0; i < 300 || (captured <= 300 && clock_now_ns() < until); i++) {
		arena_reset(&f.arena);
		ck_assert_msg(tracer_capture(f.t, f.pid, f.mem, &o, &f.arena, &c, &err) == 0, "%s", err.msg);
		for (size_t k = 0; k < c.thread_count; k++)
			captured += c.threads[k].condition == THREAD_CAPTURED;
		tracer_settle(f.t);
	}
	ck_assert_uint_gt(captured, 300);
	await(tracer_settle(f.t) == 0);
	before = board_sum(board->got);
	await(board_sum(board->got) > before + 100); /* it runs on */
	atomic_store(&board->stop, true);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	for (int i = 0; i < RT_THREADS; i++)
		ck_assert_uint_eq(atomic_load(&board->sent[i]), atomic_load(&board->got[i]));
	fixture_finish(&f);
}
END_TEST

START_TEST(stopped_target_stays_stopped)
{
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;
	unsigned long rounds;

	fixture_start(&f, spinners, 4);
	kill(f.pid, SIGSTOP);
	await(thread_state(f.pid, f.pid) == 'T');
	rounds = atomic_load(&board->rounds);
	for (int i = 0; i < 50; i++) {
		ck_assert_msg(fixture_capture(&f, &c, &err) == 0, "%s", err.msg);
		ck_assert_uint_eq(c.thread_count, 4);
		for (size_t k = 0; k < 4; k++) {
			ck_assert_int_eq(c.threads[k].condition, THREAD_CAPTURED);
			await(thread_state(f.pid, c.threads[k].tid) == 'T');
		}
	}
	ck_assert_uint_eq(atomic_load(&board->rounds), rounds);
	kill(f.pid, SIGCONT);
	for (size_t k = 0; k < 4; k++)
		await(thread_state(f.pid, c.threads[k].tid) == 'R');
	fixture_finish(&f);
}
END_TEST

START_TEST(standing_process_is_captured_and_goes_on)
{
	const char *argv[] = { "sh", "-c", "while :; do :; done", NULL };
	const struct capture_options o = { .deadline_ns = WAIT_NS };
	struct err err = ERR_INIT;
	struct fixture f;
	struct trace_event e;
	struct capture c;
	struct tracer *mine;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&mine), 0);
	pid = spawn(mine, false, argv);
	fixture_open(&f, pid);
	/* held at its exec: captured as it stands, and still held */
	ck_assert_msg(tracer_capture(mine, pid, f.mem, &o, &f.arena, &c, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(c.threads[0].condition, THREAD_CAPTURED);
	ck_assert_int_eq(thread_state(pid, pid), 't');
	e = next_event(mine);
	ck_assert_int_eq(e.type, TRACE_EXEC);
	let_go(mine, pid);
	for (int i = 0; i < 100; i++) {
		ck_assert_msg(tracer_capture(mine, pid, f.mem, &o, &f.arena, &c, &err) == 0, "%s", err.msg);
		ck_assert_int_eq(c.threads[0].condition, THREAD_CAPTURED);
	}
	ck_assert_int_eq(tracer_next_event(mine, &e), 0);
	ck_assert_int_eq(e.type, TRACE_NONE);
	ck_assert_int_eq(thread_state(pid, pid), 'R');
	/* in job control's stop: captured, and neither continued nor reported again */
	kill(pid, SIGSTOP);
	ck_assert_int_eq(next_event(mine).type, TRACE_STOPPED);
	ck_assert_msg(tracer_capture(mine, pid, f.mem, &o, &f.arena, &c, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(tracer_next_event(mine, &e), 0);
	ck_assert_int_eq(e.type, TRACE_NONE);
	kill(pid, SIGCONT);
	ck_assert_int_eq(next_event(mine).type, TRACE_CONTINUED);
	kill(pid, SIGTERM);
	e = run_to(mine, TRACE_EXIT_STOP);
	let_go(mine, e.tid);
	e = next_event(mine);
	ck_assert_int_eq(WTERMSIG(e.wait_status), SIGTERM);
	tracer_destroy(mine);
	fixture_close(&f);
}
END_TEST

static int wake_fd; /* an eventfd: each write wakes the sleeper once */

static void epoll_sleeper(void)
{
	struct epoll_event event = { .events = EPOLLIN };
	int fd = epoll_create1(0);
	uint64_t value;

	epoll_ctl(fd, EPOLL_CTL_ADD, wake_fd, &event);
	atomic_store(&board->ready, 1);
	for (;;) {
		atomic_fetch_add(&board->rounds, 1);
		if (epoll_wait(fd, &event, 1, -1) < 0)
			atomic_fetch_add(&board->wrong, 1);
		else if (read(wake_fd, &value, sizeof(value)) < 0)
			_exit(1);
	}
}

START_TEST(sleepers_that_would_notice_do_not)
{
	const struct capture_options all = { .deadline_ns = WAIT_NS, .fragile_too = true };
	const uint64_t one = 1;
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;

	wake_fd = eventfd(0, EFD_NONBLOCK);
	fixture_start(&f, epoll_sleeper, 1);
	for (unsigned long round = 1; round <= 3; round++) {
		/* between this and its sleep there is no other call to sleep in */
		await(atomic_load(&board->rounds) == round && thread_state(f.pid, f.pid) == 'S');
		for (int i = 0; i < 50; i++) {
			ck_assert_msg(fixture_capture(&f, &c, &err) == 0, "%s", err.msg);
			ck_assert_uint_eq(c.thread_count, 0);
		}
		ck_assert_int_eq(write(wake_fd, &one, sizeof(one)), sizeof(one));
	}
	await(atomic_load(&board->rounds) == 4 && thread_state(f.pid, f.pid) == 'S');
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	for (unsigned long round = 4; round <= 50; round++) { /* asked for: the call begins anew */
		for (int i = 0; i < 3; i++) {
			arena_reset(&f.arena);
			ck_assert_int_eq(tracer_capture(f.t, f.pid, f.mem, &all, &f.arena, &c, &err), 0);
			ck_assert_uint_eq(c.thread_count, 1);
			ck_assert_int_eq(c.threads[0].condition, THREAD_CAPTURED);
		}
		ck_assert_int_eq(write(wake_fd, &one, sizeof(one)), sizeof(one));
		await(atomic_load(&board->rounds) == round + 1 && thread_state(f.pid, f.pid) == 'S');
	}
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	close(wake_fd);
	fixture_finish(&f);
}
END_TEST

START_TEST(threads_and_children_come_and_go)
{
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;
	unsigned long rounds;
	int status;

	fixture_start(&f, restless, 1);
	for (int i = 0; i < 200; i++) {
		ck_assert_msg(fixture_capture(&f, &c, &err) == 0, "%s", err.msg);
		tracer_settle(f.t);
	}
	await(tracer_settle(f.t) == 0);
	rounds = atomic_load(&board->rounds);
	await(atomic_load(&board->rounds) > rounds + 3);
	atomic_store(&board->stop, true);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(WEXITSTATUS(status), 6);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	fixture_finish(&f);
}
END_TEST

static void exec_itself(void)
{
	atomic_store(&board->ready, 1);
	while (!atomic_load(&board->go))
		short_sleep();
	execl("/proc/self/exe", "test", "exec-again", "40", (char *)NULL);
}

START_TEST(target_that_executes_and_ends_meanwhile)
{
	/* the usual deadline: threads that stand already hold up their exec as long as the window lasts */
	const struct capture_options o = { .deadline_ns = 0 };
	struct err err = ERR_INIT;
	struct trace_event e;
	struct fixture f;
	struct capture c;
	int r;

	fixture_start(&f, exec_itself, 1);
	atomic_store(&board->go, true);
	do {
		arena_reset(&f.arena);
		r = tracer_capture(f.t, f.pid, f.mem, &o, &f.arena, &c, &err);
		tracer_settle(f.t);
	} while (r == 0);
	ck_assert_int_eq(r, -ESRCH);
	ck_assert_str_ne(err.msg, "");
	e = next_event(f.t); /* our own child, though never standing: reaped and reported */
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert_int_eq(e.pid, f.pid);
	ck_assert_int_eq(WEXITSTATUS(e.wait_status), 11);
	fixture_close(&f);
}
END_TEST

START_TEST(another_tracer_is_named)
{
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;
	char want[64];
	pid_t other;

	fixture_start(&f, spinners, 4);
	other = fork();
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "rival");
		if (ptrace(PTRACE_SEIZE, f.pid, NULL, NULL) == 0)
			atomic_store(&board->go, true);
		for (;;)
			pause();
	}
	await(atomic_load(&board->go));
	/* the leader alone is refused: the others are had */
	ck_assert_int_eq(fixture_capture(&f, &c, &err), 0);
	ck_assert_int_eq(c.threads[0].condition + c.threads[1].condition + c.threads[2].condition +
				 c.threads[3].condition,
			 THREAD_REFUSED);
	trace_explain_refusal(f.pid, &err);
	snprintf(want, sizeof(want), "process %d 'rival'", (int)other);
	ck_assert_msg(strstr(err.msg, want) != NULL, "%s", err.msg);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	fixture_finish(&f);
}
END_TEST

START_TEST(missing_process_and_own_process)
{
	const struct capture_options o = { .deadline_ns = 0 };
	struct err err = ERR_INIT;
	struct capture c;
	struct fixture f;

	fixture_start(&f, spinners, 1);
	ck_assert_int_eq(tracer_capture(f.t, 0x3ffffffe, f.mem, &o, &f.arena, &c, &err), -ESRCH);
	ck_assert_int_eq(tracer_capture(f.t, getpid(), f.mem, &o, &f.arena, &c, &err), -EPERM);
	ck_assert_ptr_nonnull(strstr(err.msg, "itself"));
	fixture_finish(&f);
}
END_TEST

START_TEST(threads_beyond_the_limit_take_turns)
{
	const struct capture_options o = { .deadline_ns = WAIT_NS, .max_threads = 1 };
	struct err err = ERR_INIT;
	struct fixture f;
	struct capture c;
	pid_t seen[4] = { 0 };
	size_t count = 0;

	fixture_start(&f, spinners, 4);
	for (int i = 0; i < 200 && count < 4; i++) {
		size_t k = 0;

		ck_assert_int_eq(tracer_capture(f.t, f.pid, f.mem, &o, &f.arena, &c, &err), 0);
		ck_assert_uint_eq(c.thread_count, 1);
		while (k < count && seen[k] != c.threads[0].tid)
			k++;
		if (k == count)
			seen[count++] = c.threads[0].tid;
	}
	ck_assert_uint_eq(count, 4);
	fixture_finish(&f);
}
END_TEST

/* ---- the program that one of the tests starts ---- */

static void *wait_for_ever(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* Executes itself as often as its argument says, each time with threads that the kernel must end first. */
static int be_victim(int argc, char **argv)
{
	char left[16];
	pthread_t id;

	if (argc != 3 || strcmp(argv[1], "exec-again") != 0)
		return 1;
	if (strcmp(argv[2], "0") == 0)
		_exit(11);
	snprintf(left, sizeof(left), "%d", atoi(argv[2]) - 1);
	for (int i = 0; i < 4; i++)
		if (pthread_create(&id, NULL, wait_for_ever, NULL) != 0)
			return 1;
	execl("/proc/self/exe", argv[0], argv[1], left, (char *)NULL);
	return 1;
}

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		capture_copies_registers_and_stack_of_every_thread,
		no_signal_is_lost_under_captures,
		stopped_target_stays_stopped,
		standing_process_is_captured_and_goes_on,
		sleepers_that_would_notice_do_not,
		threads_and_children_come_and_go,
		target_that_executes_and_ends_meanwhile,
		another_tracer_is_named,
		missing_process_and_own_process,
		threads_beyond_the_limit_take_turns,
	};
	const struct trace_test suite = { "trace-capture", tests, sizeof(tests) / sizeof(tests[0]), be_victim };

	return trace_test_main(&suite, argc, argv);
}
