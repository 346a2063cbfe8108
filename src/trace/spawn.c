/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trace_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#define EXIT_NOT_EXECUTED 127

struct spawn_pipes {
	int go[2];     /* parent → child: you are attached */
	int failed[2]; /* child → parent: errno of execvp; closed by a successful exec */
};

/* In the child. Only async-signal-safe calls. */
static void restore_signals(const struct tracer *t)
{
	struct sigaction action = { .sa_handler = SIG_DFL };

	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		action.sa_handler = sigismember(&t->child_ignored, sig) == 1 ? SIG_IGN : SIG_DFL;
		sigaction(sig, &action, NULL); /* fails for SIGKILL and SIGSTOP and those of libc */
	}
	sigprocmask(SIG_SETMASK, &t->child_mask, NULL);
}

__attribute__((noreturn)) static void run_child(const struct tracer *t, const struct spawn_options *o,
						const struct spawn_pipes *p)
{
	char *const *argv = o->argv;
	char go;
	int error;

	close(p->go[1]);
	if (read(p->go[0], &go, 1) != 1)
		_exit(EXIT_NOT_EXECUTED); /* the parent is gone or could not attach */
	restore_signals(t);
	if (o->stdout_fd > 0 && dup2(o->stdout_fd, STDOUT_FILENO) < 0)
		_exit(EXIT_NOT_EXECUTED);
	execvp(argv[0], argv);
	error = errno;
	if (write(p->failed[1], &error, sizeof(error)) != (ssize_t)sizeof(error))
		_exit(EXIT_NOT_EXECUTED);
	_exit(EXIT_NOT_EXECUTED);
}

static void wait_end(pid_t pid)
{
	int status;

	do {
		while (waitpid(pid, &status, __WALL) < 0) {
			if (errno != EINTR)
				return;
		}
		if (WIFSTOPPED(status))
			ptrace(PTRACE_CONT, pid, NULL, (void *)(uintptr_t)stop_signal(status));
	} while (WIFSTOPPED(status));
}

/* Until the child stands at its first instruction: 0, or the errno of its exec, or -ECHILD where something killed it. */
static int wait_exec(struct tracer *t, struct tracee *x, int failed_fd)
{
	struct rusage usage;
	int status, error;

	for (;;) {
		if (wait4(x->tid, &status, __WALL, &usage) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!WIFSTOPPED(status))
			return -ECHILD;
		x->state = TRACEE_STOPPED;
		x->status = status;
		if (stop_event(status) == PTRACE_EVENT_EXIT) {
			ptrace(PTRACE_CONT, x->tid, NULL, NULL);
			wait_end(x->tid);
			return read(failed_fd, &error, sizeof(error)) == (ssize_t)sizeof(error) ? -error : -ECHILD;
		}
		tracee_answer(t, x);
		if (stop_event(status) == PTRACE_EVENT_EXEC)
			return 0;
	}
}

static int explain_exec(int code, const char *program, struct err *err)
{
	switch (code) {
	case ENOENT:
		return err_set(err, code,
			       "cannot execute '%s': no such program; check the name, and PATH where it has no slash",
			       program);
	case EACCES:
		return err_set(err, code,
			       "cannot execute '%s': permission denied; is it a file with the execute permission?",
			       program);
	case ECHILD:
		return err_set(err, code, "cannot execute '%s': the child was killed before it could", program);
	default:
		return err_set(err, code, "cannot execute '%s': %s", program, strerror(code));
	}
}

static int attach_child(struct tracer *t, pid_t pid, const struct spawn_options *o, struct tracee **ret,
			struct err *err)
{
	long options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT;
	int r;

	if (o->follow_children)
		options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
	r = tracer_seize(t, pid, pid, true, options, ret);
	if (r < 0) {
		trace_explain_refusal(pid, err);
		return r;
	}
	(*ret)->standing = true;
	t->follow = t->follow || o->follow_children;
	return 0;
}

static int start_child(struct tracer *t, const struct spawn_options *o, struct spawn_pipes *p, pid_t *ret_pid,
		       struct err *err)
{
	struct tracee *x;
	pid_t pid = fork();
	int r;

	if (pid < 0)
		return err_set(err, errno, "cannot start a process: %s", strerror(errno));
	if (pid == 0)
		run_child(t, o, p);
	close(take_fd(&p->failed[1])); /* the child's end alone keeps the pipe open */
	r = attach_child(t, pid, o, &x, err);
	if (r < 0) {
		close(take_fd(&p->go[1])); /* the child reads the end of the pipe and leaves */
		wait_end(pid);
		return r;
	}
	if (write(p->go[1], "", 1) != 1)
		close(take_fd(&p->go[1]));
	r = wait_exec(t, x, p->failed[0]);
	if (r < 0) {
		tracer_remove(t, x);
		return explain_exec(-r, o->argv[0], err);
	}
	*ret_pid = pid;
	return 0;
}

int tracer_spawn(struct tracer *t, const struct spawn_options *options, pid_t *ret_pid, struct err *err)
{
	struct spawn_pipes p = { { -1, -1 }, { -1, -1 } };
	int r;

	if (pipe2(p.go, O_CLOEXEC) < 0 || pipe2(p.failed, O_CLOEXEC) < 0)
		r = err_set(err, errno, "cannot make a pipe: %s", strerror(errno));
	else
		r = start_child(t, options, &p, ret_pid, err);
	for (int i = 0; i < 2; i++) {
		cleanup_closep(&p.go[i]);
		cleanup_closep(&p.failed[i]);
	}
	return r;
}
