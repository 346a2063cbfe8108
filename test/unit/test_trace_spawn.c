/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Standing processes: the events of memwatch's own child. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support_trace.h"

#define TOUCH_BYTES ((size_t)48 << 20)

START_TEST(spawned_program_reports_exec_exit_and_status)
{
	const char *argv[] = { "sh", "-c", "exit 7", NULL };
	struct tracer *t;
	struct trace_event e;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = spawn(t, false, argv);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_EXEC);
	ck_assert_int_eq(e.pid, pid);
	ck_assert_int_eq(tracer_resume(t, e.tid), 0);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_EXIT_STOP);
	ck_assert_int_eq(tracer_resume(t, e.tid), 0);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert_int_eq(e.pid, pid);
	ck_assert(WIFEXITED(e.wait_status) && WEXITSTATUS(e.wait_status) == 7);
	ck_assert_int_gt(e.usage.ru_maxrss, 0);
	ck_assert_int_eq(tracer_resume(t, pid), 0);
	tracer_destroy(t);
}
END_TEST

START_TEST(death_by_signal_comes_through)
{
	const char *argv[] = { "sh", "-c", "kill -TERM $$; exit 1", NULL };
	struct tracer *t;
	struct trace_event e;

	ck_assert_int_eq(tracer_create(&t), 0);
	spawn(t, false, argv);
	e = run_to(t, TRACE_EXIT_STOP);
	let_go(t, e.tid);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert(WIFSIGNALED(e.wait_status) && WTERMSIG(e.wait_status) == SIGTERM);
	tracer_destroy(t);
}
END_TEST

START_TEST(unexecutable_program_gives_its_errno)
{
	const char *missing[] = { "memwatch-no-such-program", NULL }, *directory[] = { "/proc", NULL };
	struct spawn_options o = { .argv = (char *const *)(uintptr_t)missing };
	struct err err = ERR_INIT;
	struct trace_event e;
	struct tracer *t;
	pid_t pid = -5;

	ck_assert_int_eq(tracer_create(&t), 0);
	ck_assert_int_eq(tracer_spawn(t, &o, &pid, &err), -ENOENT);
	ck_assert_ptr_nonnull(strstr(err.msg, "'memwatch-no-such-program'"));
	o.argv = (char *const *)(uintptr_t)directory;
	ck_assert_int_eq(tracer_spawn(t, &o, &pid, &err), -EACCES);
	ck_assert_int_eq(pid, -5);
	ck_assert_int_eq(tracer_next_event(t, &e), 0);
	ck_assert_int_eq(e.type, TRACE_NONE);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* reaped */
	ck_assert_int_eq(errno, ECHILD);
	tracer_destroy(t);
}
END_TEST

START_TEST(memory_is_whole_at_the_exit_stop)
{
	const char *argv[] = { "/proc/self/exe", "touch", NULL };
	struct trace_event e;
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = spawn(t, false, argv);
	e = run_to(t, TRACE_EXIT_STOP);
	ck_assert_int_ge(status_field(pid, "VmRSS:"), (long)(TOUCH_BYTES >> 10));
	let_go(t, e.tid);
	ck_assert_int_eq(next_event(t).type, TRACE_ENDED);
	tracer_destroy(t);
}
END_TEST

START_TEST(leader_that_leaves_alone_is_no_exit)
{
	const char *argv[] = { "/proc/self/exe", "leader-leaves", NULL };
	struct trace_event e;
	struct tracer *t;

	ck_assert_int_eq(tracer_create(&t), 0);
	spawn(t, false, argv);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_EXEC);
	let_go(t, e.tid);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert(WIFEXITED(e.wait_status) && WEXITSTATUS(e.wait_status) == 9);
	tracer_destroy(t);
}
END_TEST

START_TEST(job_control_of_a_standing_process)
{
	const char *argv[] = { "sleep", "1000", NULL };
	struct trace_event e;
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = spawn(t, false, argv);
	e = next_event(t);
	let_go(t, e.tid);
	for (int i = 0; i < 3; i++) {
		kill(pid, i == 1 ? SIGTSTP : SIGSTOP);
		e = next_event(t);
		ck_assert_int_eq(e.type, TRACE_STOPPED);
		ck_assert_int_eq(e.signal, i == 1 ? SIGTSTP : SIGSTOP);
		kill(pid, SIGCONT);
		ck_assert_int_eq(next_event(t).type, TRACE_CONTINUED);
		do { /* the SIGCONT itself passes through the tracer */
			ck_assert_int_eq(tracer_next_event(t, &e), 0);
			ck_assert_int_eq(e.type, TRACE_NONE);
		} while (thread_state(pid, pid) != 'S');
	}
	kill(pid, SIGKILL);
	do
		e = next_event(t), let_go(t, e.tid);
	while (e.type != TRACE_ENDED);
	ck_assert(WIFSIGNALED(e.wait_status) && WTERMSIG(e.wait_status) == SIGKILL);
	tracer_destroy(t);
}
END_TEST

START_TEST(child_gets_the_signals_memwatch_was_given)
{
	const char *argv[] = { "sh", "-c",
			       "m=$(sed -n 's/^SigBlk:.*\\(........\\)$/\\1/p' /proc/$$/status);"
			       "i=$(sed -n 's/^SigIgn:.*\\(........\\)$/\\1/p' /proc/$$/status);"
			       "[ $((0x$m)) = $((1 << 15)) ] && [ $((0x$i & (1 << 11))) = 0 ] && [ $((0x$i & 1)) = 1 ]",
			       NULL };
	sigset_t mask, mine;
	struct trace_event e;
	struct tracer *t;

	sigemptyset(&mask);
	sigaddset(&mask, SIGSTKFLT);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	signal(SIGHUP, SIG_IGN);
	ck_assert_int_eq(tracer_create(&t), 0);
	sigfillset(&mine);
	sigprocmask(SIG_SETMASK, &mine, NULL);
	signal(SIGUSR2, SIG_IGN);
	spawn(t, false, argv);
	e = run_to(t, TRACE_EXIT_STOP);
	let_go(t, e.tid);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert_int_eq(e.wait_status, 0);
	tracer_destroy(t);
}
END_TEST

START_TEST(forks_are_followed)
{
	const char *argv[] = { "sh", "-c", "(exit 3); /bin/true; exit 4", NULL };
	int forks = 0, ends = 0, execs = 0, statuses = 0;
	struct trace_event e;
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	/* children of the child are not ours to wait for, but traced they are seen to end */
	pid = spawn(t, true, argv);
	do {
		e = next_event(t);
		forks += e.type == TRACE_FORK;
		execs += e.type == TRACE_EXEC;
		ends += e.type == TRACE_ENDED;
		if (e.type == TRACE_FORK)
			ck_assert_int_eq((int)status_field(e.child_pid, "TracerPid:"), (int)getpid());
		if (e.type == TRACE_ENDED)
			statuses += WEXITSTATUS(e.wait_status);
		let_go(t, e.tid);
	} while (e.type != TRACE_ENDED || e.pid != pid);
	ck_assert_int_ge(forks, 2);
	ck_assert_int_eq(ends, forks + 1);
	ck_assert_int_eq(execs, 2);
	ck_assert_int_eq(statuses, 7);
	tracer_destroy(t);
}
END_TEST

START_TEST(untraced_children_are_reaped_and_reported)
{
	struct trace_event e;
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = fork();
	if (pid == 0)
		_exit(5);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_ENDED);
	ck_assert_int_eq(e.pid, pid);
	ck_assert_int_eq(WEXITSTATUS(e.wait_status), 5);
	tracer_destroy(t);
}
END_TEST

START_TEST(self_test_passes_where_ptrace_works)
{
	struct err err = ERR_INIT;

	ck_assert_msg(trace_self_test(&err) == 0, "%s", err.msg);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

/* ---- programs that the tests start ---- */

static void *exit_with_nine(void *arg)
{
	(void)arg;
	while (thread_state(getpid(), getpid()) != 'Z') /* the leader leaves first */
		short_sleep();
	exit(9);
}

static int be_victim(int argc, char **argv)
{
	(void)argc;
	if (strcmp(argv[1], "touch") == 0) {
		volatile char *at = malloc(TOUCH_BYTES);

		for (size_t i = 0; at && i < TOUCH_BYTES; i += 4096)
			at[i] = 1;
		_exit(0);
	}
	if (strcmp(argv[1], "leader-leaves") == 0) {
		pthread_t id;

		if (pthread_create(&id, NULL, exit_with_nine, NULL) != 0)
			return 1;
		pthread_exit(NULL);
	}
	return 1;
}

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		spawned_program_reports_exec_exit_and_status, death_by_signal_comes_through,
		unexecutable_program_gives_its_errno,         memory_is_whole_at_the_exit_stop,
		leader_that_leaves_alone_is_no_exit,          job_control_of_a_standing_process,
		child_gets_the_signals_memwatch_was_given,    forks_are_followed,
		untraced_children_are_reaped_and_reported,    self_test_passes_where_ptrace_works,
	};
	const struct trace_test suite = { "trace-spawn", tests, sizeof(tests) / sizeof(tests[0]), be_victim };

	return trace_test_main(&suite, argc, argv);
}
