/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remote calls in a child of ours before its main; what is refused, and the filters that decide it. */
#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support_trace.h"
#include "trace/remote.h"

/* ---- filters ---- */

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, what)

static uint32_t says(const struct sock_filter *program, size_t count, int nr)
{
	const struct seccomp_data data = { .nr = nr, .arch = AUDIT_ARCH_X86_64, .args = { 5, 6 } };
	uint32_t ret = 0;

	ck_assert_int_eq(remote_filter_run(program, count, &data, &ret), 0);
	return ret;
}
#define SAYS(program, nr) says(program, sizeof(program) / sizeof((program)[0]), nr)

START_TEST(filters_are_run_as_the_kernel_does)
{
	const struct sock_filter denies[] = {
		LOAD(arch),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		RETURN(SECCOMP_RET_KILL_PROCESS),
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
		RETURN(SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_ERRNO | 1),
	};
	const struct sock_filter computes[] = {
		LOAD(args[0]),
		BPF_STMT(BPF_ST, 3),
		LOAD(args[1]),
		BPF_STMT(BPF_MISC | BPF_TAX, 0),
		BPF_STMT(BPF_LD | BPF_MEM, 3),
		BPF_STMT(BPF_ALU | BPF_MUL | BPF_X, 0), /* 30 */
		BPF_STMT(BPF_ALU | BPF_SUB | BPF_K, 2), /* 28 */
		BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 2), /* 7 */
		BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 2), /* 5 */
		BPF_STMT(BPF_ALU | BPF_NEG, 0),
		BPF_STMT(BPF_RET | BPF_A, 0),
	};

	ck_assert_uint_eq(SAYS(denies, SYS_mmap), SECCOMP_RET_ERRNO | 1);
	ck_assert_uint_eq(SAYS(denies, SYS_munmap), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(SAYS(denies, 0x40000001), SECCOMP_RET_ERRNO | 1);
	ck_assert_uint_eq(SAYS(computes, 0), (uint32_t)-5);
}
END_TEST

START_TEST(broken_filters_are_none)
{
	const struct sock_filter broken[][2] = {
		{ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, sizeof(struct seccomp_data)), RETURN(SECCOMP_RET_ALLOW) },
		{ BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RETURN(SECCOMP_RET_ALLOW) },
		{ BPF_STMT(BPF_ST, BPF_MEMWORDS), RETURN(SECCOMP_RET_ALLOW) },
		{ BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RETURN(SECCOMP_RET_ALLOW) },
		{ BPF_JUMP(BPF_JMP | BPF_JA, 0xffffffff, 0, 0), RETURN(SECCOMP_RET_ALLOW) },
		{ BPF_STMT(BPF_LD | BPF_IMM, 1), BPF_STMT(BPF_LD | BPF_IMM, 1) },
	};
	const struct seccomp_data data = { 0 };
	uint32_t ret;

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++)
		ck_assert_int_eq(remote_filter_run(broken[i], 2, &data, &ret), -EINVAL);
}
END_TEST

static void confine(uint32_t mmap_gets)
{
	struct sock_filter filter[] = {
		LOAD(nr),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
		RETURN(mmap_gets),
		RETURN(SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = { .len = 4, .filter = filter };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		_exit(9);
	spin_with_marker();
}

static void confined_harmlessly(void)
{
	confine(SECCOMP_RET_ALLOW);
}

static void confined_hard(void)
{
	confine(SECCOMP_RET_KILL_PROCESS);
}

START_TEST(a_filter_that_forbids_the_calls_is_respected)
{
	const struct remote_call map = { .is_syscall = true,
					 .number_or_address = SYS_mmap,
					 .args = { 0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0 },
					 .deadline_ns = 200 * NS_PER_MS };
	const long calls[] = { SYS_munmap, SYS_mmap };
	struct remote_result r = { 0 };
	struct err err = ERR_INIT;
	struct fixture f;
	int e;

	fixture_start(&f, _i ? confined_hard : confined_harmlessly, 1);
	e = tracer_remote_check(f.t, f.pid, f.mem, calls, 2, &err);
	if (_i || e < 0) { /* also where filters cannot be looked at: not root */
		ck_assert_int_eq(e, -ENOTSUP);
		ck_assert_msg(strstr(err.msg, "seccomp") != NULL, "%s", err.msg);
		ck_assert_int_lt(tracer_remote_call(f.t, f.pid, f.mem, &map, &r, &err), 0);
	} else {
		ck_assert_int_eq(tracer_remote_call(f.t, f.pid, f.mem, &map, &r, &err), 0);
		ck_assert_int_gt(r.value, 0);
	}
	fixture_check_untraced(&f);
	ck_assert_int_eq(thread_state(f.pid, f.pid), 'R');
	fixture_finish(&f);
}
END_TEST

/* ---- a child of ours ---- */

static int after_calls(void *arg)
{
	int *left = arg;

	return --*left == 0;
}

static void finish(struct tracer *t, pid_t pid)
{
	struct trace_event e;

	let_go(t, pid);
	for (e = next_event(t); e.type != TRACE_ENDED; e = next_event(t))
		let_go(t, e.tid);
	ck_assert_int_eq(e.wait_status, 0);
}

static void started(struct fixture *f, const char *const *argv)
{
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = spawn(t, false, argv);
	ck_assert_int_eq(next_event(t).type, TRACE_EXEC);
	fixture_open(f, pid);
	tracer_destroy(f->t);
	f->t = t;
}

START_TEST(a_child_is_held_when_ready_and_makes_calls)
{
	const char *const argv[] = { "/bin/true", NULL };
	const struct remote_call map = { .is_syscall = true,
					 .number_or_address = SYS_mmap,
					 .args = { 0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
						   (uint64_t)-1, 0 } };
	struct remote_result r;
	struct err err = ERR_INIT;
	struct fixture f;
	char page[8192];
	int left = 20;

	started(&f, argv);
	ck_assert_msg(tracer_run_until(f.t, f.pid, after_calls, &left, WAIT_NS, 1000, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(left, 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_msg(tracer_remote_call(f.t, f.pid, f.mem, &map, &r, &err) == 0, "%s", err.msg);
		ck_assert_int_eq(mem_read_exact(f.mem, (uint64_t)r.value, page, sizeof(page)), 0);
		ck_assert_int_eq(thread_state(f.pid, f.pid), 't');
	}
	finish(f.t, f.pid);
	fixture_close(&f);
}
END_TEST

START_TEST(a_child_that_is_never_ready)
{
	const char *const argv[] = { "/bin/true", NULL };
	struct err err = ERR_INIT;
	struct fixture f;
	int never = -1;

	started(&f, argv);
	ck_assert_int_eq(tracer_run_until(f.t, f.pid, after_calls, &never, WAIT_NS, 5, &err), -ETIME);
	ck_assert_int_eq(thread_state(f.pid, f.pid), 't');
	ck_assert_int_eq(tracer_run_until(f.t, f.pid, after_calls, &never, WAIT_NS, 100000, &err), -ESRCH);
	ck_assert_int_eq(next_event(f.t).type, TRACE_EXIT_STOP);
	finish(f.t, f.pid);
	fixture_close(&f);
}
END_TEST

START_TEST(a_child_that_sleeps_is_held_at_the_deadline)
{
	const char *const argv[] = { "/bin/sleep", "0.7", NULL };
	const struct remote_call get = { .is_syscall = true, .number_or_address = SYS_getpid };
	struct remote_result r;
	struct err err = ERR_INIT;
	struct fixture f;
	int never = -1;

	started(&f, argv);
	ck_assert_int_eq(tracer_run_until(f.t, f.pid, after_calls, &never, 300 * NS_PER_MS, 100000, &err), -ETIME);
	ck_assert_int_eq(thread_state(f.pid, f.pid), 't');
	ck_assert_int_eq(tracer_remote_call(f.t, f.pid, f.mem, &get, &r, &err), 0);
	ck_assert_int_eq(r.value, f.pid);
	finish(f.t, f.pid);
	fixture_close(&f);
}
END_TEST

START_TEST(an_exec_meanwhile_is_told)
{
	const char *const argv[] = { "/usr/bin/env", "/bin/true", NULL };
	struct err err = ERR_INIT;
	struct fixture f;
	int left = -1;

	started(&f, argv);
	ck_assert_int_eq(tracer_run_until(f.t, f.pid, after_calls, &left, WAIT_NS, 100000, &err), -EAGAIN);
	ck_assert_int_eq(next_event(f.t).type, TRACE_EXEC);
	left = 10;
	ck_assert_int_eq(tracer_run_until(f.t, f.pid, after_calls, &left, WAIT_NS, 1000, &err), 0);
	finish(f.t, f.pid);
	fixture_close(&f);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("trace-remote-run");
	TCase *tc = tcase_create("trace-remote-run");
	SRunner *sr = srunner_create(s);
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, board_setup, board_teardown);
	tcase_add_test(tc, filters_are_run_as_the_kernel_does);
	tcase_add_test(tc, broken_filters_are_none);
	tcase_add_loop_test(tc, a_filter_that_forbids_the_calls_is_respected, 0, 2);
	tcase_add_test(tc, a_child_is_held_when_ready_and_makes_calls);
	tcase_add_test(tc, a_child_that_is_never_ready);
	tcase_add_test(tc, a_child_that_sleeps_is_held_at_the_deadline);
	tcase_add_test(tc, an_exec_meanwhile_is_told);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
