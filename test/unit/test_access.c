/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Processes of other users and namespaces, hidden ones, and pids used twice. Where the machine permits none of it (no root),
 * a body gives CHILD_SKIP. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include "child.h"
#include "memwatch/mem.h"
#include "memwatch/proc.h"

#define NOBODY 65534

static bool become_nobody(void)
{
	return setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
}

_Noreturn static void pause_forever(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		pause();
}

/* In a pid namespace of its own, where ns_last_pid gives the same number twice. */
static int reuse_in_namespace(void)
{
	struct proc first, second;
	struct statm statm;
	struct mem *mem;
	char byte, text[16];
	pid_t pid, again;
	int fd, result;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("proc", "/proc", "proc", 0, NULL) < 0)
		return CHILD_SKIP;
	pid = fork();
	if (pid == 0)
		pause_forever();
	if (proc_open(pid, &first, NULL) < 0 || mem_live_create(pid, first.dir_fd, &mem, NULL) < 0)
		return 1;
	if (mem_read(mem, (uint64_t)(uintptr_t)&reuse_in_namespace, &byte, 1) != 1)
		return 2;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(text, sizeof(text), "%d", (int)pid - 1);
	fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return CHILD_SKIP;
	close(fd);
	again = fork();
	if (again == 0)
		pause_forever();
	if (again != pid)
		return 3;
	result = proc_alive(&first) || proc_read_statm(&first, &statm) != -ESRCH ? 4 : 0;
	if (mem_read(mem, (uint64_t)(uintptr_t)&reuse_in_namespace, &byte, 1) != -ESRCH)
		result = 5;
	if (proc_open(again, &second, NULL) < 0 || !proc_alive(&second))
		result = 6;
	return result;
}

static int in_new_pid_namespace(int (*body)(void))
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0)
		return CHILD_SKIP;
	pid = fork();
	if (pid == 0)
		_exit(body());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static int reuse_body(void)
{
	return in_new_pid_namespace(reuse_in_namespace);
}

START_TEST(a_reused_pid_is_another_process)
{
	int result = child_result(reuse_body);

	ck_assert_msg(result == 0 || result == CHILD_SKIP, "step %d", result);
}
END_TEST

/* A process in an inner pid namespace, seen from the outer one. */
static int namespaces_body(void)
{
	struct mem *mem = NULL;
	struct proc p;
	pid_t pid, ns_pid = 0;
	char byte;
	int result = 0;

	if (unshare(CLONE_NEWPID) < 0)
		return CHILD_SKIP;
	pid = fork();
	if (pid == 0)
		pause_forever();
	if (proc_open(pid, &p, NULL) < 0 || proc_ns_pid(&p, &ns_pid) < 0 || ns_pid != 1)
		result = 1;
	else if (p.pid_fd < 0 || mem_live_create(pid, p.dir_fd, &mem, NULL) < 0)
		result = 2;
	else if (mem_read(mem, (uint64_t)(uintptr_t)&namespaces_body, &byte, 1) != 1)
		result = 3;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return result;
}

START_TEST(other_namespaces_are_within_reach)
{
	int result = child_result(namespaces_body);

	ck_assert_msg(result == 0 || result == CHILD_SKIP, "step %d", result);
}
END_TEST

/* A /proc of another namespace names other processes by our pids: only descriptors may be used. */
static int foreign_proc_body(void)
{
	char byte = 0, text[64];
	struct mem *mem = NULL;
	struct proc p;
	int result = 0, ready[2];
	pid_t init;

	if (pipe(ready) < 0 || unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return CHILD_SKIP;
	init = fork(); /* pid 1 there */
	if (init == 0) {
		byte = mount("proc", "/proc", "proc", 0, NULL) == 0;
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		pause_forever();
	}
	if (read(ready[0], &byte, 1) != 1 || !byte)
		result = CHILD_SKIP;
	else if (readlink("/proc/self", text, sizeof(text)) > 0 || proc_open(1, &p, NULL) < 0)
		result = 1; /* /proc/self names nobody: we are not in that namespace */
	else if (p.pid_fd >= 0 || proc_pids_are_ours(p.dir_fd))
		result = 2;
	else if (mem_live_create(1, p.dir_fd, &mem, NULL) < 0)
		result = 3;
	else if (mem_read(mem, (uint64_t)(uintptr_t)&foreign_proc_body, &byte, 1) != 1 || !proc_alive(&p))
		result = 4;
	kill(init, SIGKILL);
	waitpid(init, NULL, 0);
	if (result == 0 && (proc_alive(&p) || mem_read(mem, 4096, &byte, 1) != -ESRCH))
		result = 5;
	return result;
}

START_TEST(a_foreign_proc_is_read_by_descriptor)
{
	int result = child_result(foreign_proc_body);

	ck_assert_msg(result == 0 || result == CHILD_SKIP, "step %d", result);
}
END_TEST

static int hidden_with(const char *option, const char *expected)
{
	struct err err = ERR_INIT;
	struct proc p;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", "/proc", "proc", 0, option) < 0)
		return CHILD_SKIP;
	if (!become_nobody())
		return CHILD_SKIP;
	if (proc_open(1, &p, &err) != -EPERM)
		return 1;
	if (!strstr(err.msg, "hidepid") || !strstr(err.msg, expected))
		return 2;
	return proc_open(999999999, &p, &err) == -ESRCH ? 0 : 3;
}

static int hidepid_invisible(void)
{
	return hidden_with("hidepid=2", "belongs to another user");
}

static int hidepid_noaccess(void)
{
	return hidden_with("hidepid=1", "belongs to uid 0");
}

/* Another user's process can be watched by statm; what is not ours to read says so. */
static int other_user_body(void)
{
	struct region_totals t[REGION_CLASS_COUNT];
	struct statm statm;
	struct proc_io io;
	struct proc p;
	uint64_t ns;

	if (!become_nobody())
		return CHILD_SKIP;
	if (proc_open(getppid(), &p, NULL) < 0 || p.uid != 0 || proc_read_statm(&p, &statm) < 0)
		return 1;
	if (proc_read_io(&p, &io) != -EACCES)
		return 2;
	return proc_read_rollup(&p, t, &ns) == -EACCES ? 0 : 3;
}

START_TEST(what_is_not_ours_says_so)
{
	static int (*const bodies[])(void) = { hidepid_invisible, hidepid_noaccess, other_user_body };

	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		int result = child_result(bodies[i]);

		ck_assert_msg(result == 0 || result == CHILD_SKIP, "body %zu step %d", i, result);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("access");
	TCase *tc = tcase_create("access");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_reused_pid_is_another_process);
	tcase_add_test(tc, other_namespaces_are_within_reach);
	tcase_add_test(tc, a_foreign_proc_is_read_by_descriptor);
	tcase_add_test(tc, what_is_not_ours_says_so);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
