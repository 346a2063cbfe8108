/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A forked process that tests look at. Its body runs in steps: child_step() there says "done" and waits until the test
 * lets it go on with child_next(). It dies with the test.
 */
#ifndef MEMWATCH_TEST_CHILD_H
#define MEMWATCH_TEST_CHILD_H

#include <check.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct child {
	pid_t pid;
	int done_fd, go_fd;
};

/* In the child: reports a value and waits. */
static inline void child_step(const struct child *c, uint64_t value)
{
	char go;

	if (write(c->done_fd, &value, sizeof(value)) != (ssize_t)sizeof(value) || read(c->go_fd, &go, 1) != 1)
		_exit(0);
}

/* In the test: waits for the next step and returns its value. */
static inline uint64_t child_wait(const struct child *c)
{
	uint64_t value = 0;

	ck_assert_int_eq(read(c->done_fd, &value, sizeof(value)), sizeof(value));
	return value;
}

static inline uint64_t child_next(const struct child *c)
{
	ck_assert_int_eq(write(c->go_fd, "g", 1), 1);
	return child_wait(c);
}

static inline struct child child_start(void (*body)(const struct child *self))
{
	int done[2], go[2];
	struct child c;

	ck_assert_int_eq(pipe(done), 0);
	ck_assert_int_eq(pipe(go), 0);
	c.pid = fork();
	ck_assert_int_ge(c.pid, 0);
	if (c.pid == 0) {
		struct child self = { getpid(), done[1], go[0] };

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(done[0]);
		close(go[1]);
		body(&self);
		child_step(&self, 0);
		_exit(0);
	}
	close(done[1]);
	close(go[0]);
	c.done_fd = done[0];
	c.go_fd = go[1];
	return c;
}

/* Kills it and waits until it is a zombie, not yet reaped. */
static inline void child_kill(const struct child *c)
{
	siginfo_t info;

	ck_assert_int_eq(kill(c->pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOWAIT), 0);
}

static inline void child_reap(struct child *c)
{
	ck_assert_int_eq(waitpid(c->pid, NULL, 0), c->pid);
	close(c->done_fd);
	close(c->go_fd);
}

static inline void child_end(struct child *c)
{
	child_kill(c);
	child_reap(c);
}

/* Runs body in a process of its own; its return value, 0..99, or 100 + signal. */
static inline int child_result(int (*body)(void))
{
	pid_t pid = fork();
	int status = 0;

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		_exit(body());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

#define CHILD_SKIP 77 /* result of a body that this machine does not permit */

#endif
