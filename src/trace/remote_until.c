/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A child of ours, from its exec to the moment that the caller waits for. */
#include "remote.h"

#include <errno.h>
#include <sys/ptrace.h>

#include "memwatch/base/clock.h"

#define PAUSE_NS (200 * NS_PER_US)
#define STOP_WAIT_NS NS_PER_S

struct until {
	struct tracer *t;
	pid_t pid;
	int (*ready)(void *arg);
	void *arg;
	uint32_t calls, calls_max;
	bool inside; /* a system call */
};

static void go_to_call(struct tracee *x, int sig)
{
	long options = x->options | PTRACE_O_TRACESYSGOOD;

	if (x->options_now != options && ptrace(PTRACE_SETOPTIONS, x->tid, NULL, (void *)options) == 0)
		x->options_now = options;
	x->state = TRACEE_RUNNING;
	ptrace(PTRACE_SYSCALL, x->tid, NULL, (void *)(uintptr_t)sig); /* ESRCH: killed, its end will be reported */
}

/* Whether this is the return from a call; kernels before 5.3 do not say, but entries and exits alternate. */
static bool is_exit(struct until *u, const struct tracee *x)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, x->tid, (void *)sizeof(info), &info) > 0)
		u->inside = info.op == PTRACE_SYSCALL_INFO_ENTRY;
	else
		u->inside = !u->inside;
	return !u->inside;
}

/* 1: go on; else what tracer_run_until() returns, the child held. */
static int call_stop(struct until *u, struct tracee *x)
{
	int e = 0;

	if (!is_exit(u, x)) {
		go_to_call(x, 0);
		return 1;
	}
	u->calls++;
	e = u->ready(u->arg);
	if (e == 0 && u->calls < u->calls_max) {
		go_to_call(x, 0);
		return 1;
	}
	remote_hold(x);
	return e == 0 ? -ETIME : e < 0 ? e : 0;
}

/* Its child is let go too: the caller, who would do it, is not there. The event tells of it afterwards. */
static int fork_stop(struct until *u, struct tracee *x)
{
	tracee_answer(u->t, x);
	newborns_release(u->t, x->tid);
	go_to_call(x, 0);
	return 1;
}

static int event_stop(struct until *u, struct tracee *x)
{
	struct trace_event continued = { .type = TRACE_CONTINUED, .pid = x->pid, .tid = x->tid, .signal = SIGCONT };

	switch (stop_event(x->status)) {
	case STOP_EVENT:
		if (stop_is_group(x->status)) {
			tracee_answer(u->t, x);
			return 1;
		}
		if (x->group_stopped && tracer_queue(u->t, &continued) == 0)
			x->group_stopped = false;
		go_to_call(x, 0);
		return 1;
	case PTRACE_EVENT_EXEC:
		tracee_answer(u->t, x);
		return -EAGAIN;
	case PTRACE_EVENT_EXIT:
		tracee_answer(u->t, x);
		if (x->state == TRACEE_HELD)
			return -ESRCH;
		return 1; /* the leader alone: the process goes on */
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		return fork_stop(u, x);
	default:
		if (stop_event(x->status) == PTRACE_EVENT_CLONE)
			tracer_expect_clone(u->t, x);
		go_to_call(x, stop_signal(x->status));
		return 1;
	}
}

static int one_stop(struct until *u, struct tracee *x)
{
	if (stop_event(x->status) == 0 && WSTOPSIG(x->status) == SYSCALL_TRAP)
		return call_stop(u, x);
	return event_stop(u, x);
}

/* What has stopped or ended, of any process. 1: nothing that ends the waiting. */
static int answer_all(struct until *u)
{
	struct rusage usage;
	int status, e = 1;
	pid_t tid;

	while (e == 1 && (tid = tracer_wait(-1, &status, &usage)) > 0) {
		struct tracee *x = tracer_note(u->t, tid, status, &usage);

		if (x && x->tid == u->pid)
			e = one_stop(u, x);
		else if (x)
			tracee_answer(u->t, x);
		else if (!tracer_find(u->t, u->pid))
			e = -ESRCH;
	}
	return e;
}

/* The deadline is over: holds it wherever it is. */
static int stop_now(struct until *u)
{
	uint64_t end = clock_now_ns() + STOP_WAIT_NS;
	struct tracee *x = tracer_find(u->t, u->pid);
	struct remote_result unused = { 0 };
	int e;

	if (!x)
		return -ESRCH;
	if (x->state == TRACEE_LISTENING)
		return -ETIME;
	tracer_interrupt(x);
	while ((e = remote_wait(u->t, x, end, &unused)) == 0) {
		bool in_call = stop_event(x->status) == 0 && WSTOPSIG(x->status) == SYSCALL_TRAP;

		/* at an entry registers must not be changed: on, to the stop that was asked for */
		if ((in_call && is_exit(u, x)) || (stop_event(x->status) == STOP_EVENT && !stop_is_group(x->status))) {
			remote_hold(x);
			return -ETIME;
		}
		e = in_call ? (go_to_call(x, 0), 1) : event_stop(u, x);
		if (e != 1)
			return e;
		if (x->state != TRACEE_RUNNING)
			return -ETIME;
	}
	return e;
}

static int explain(const struct until *u, int e, struct err *err)
{
	switch (e) {
	case 0:
		return 0;
	case -ESRCH:
		return err_set(err, ESRCH, "process %d ended before it was ready for the probe", (int)u->pid);
	case -EAGAIN:
		return err_set(err, EAGAIN, "process %d has executed another program", (int)u->pid);
	case -ETIME:
		return err_set(err, ETIME, "process %d was not ready for the probe after %u system calls", (int)u->pid,
			       u->calls);
	default:
		return err_set(err, -e, "process %d cannot be made ready for the probe", (int)u->pid);
	}
}

int tracer_run_until(struct tracer *t, pid_t pid, int (*ready)(void *arg), void *arg, uint64_t deadline_ns,
		     uint32_t calls_max, struct err *err)
{
	struct until u = { .t = t, .pid = pid, .ready = ready, .arg = arg, .calls_max = calls_max };
	struct tracee *x = tracer_find(t, pid);
	uint64_t end = clock_now_ns() + deadline_ns, now;
	struct pause_state pause;
	int e = 1;

	if (!x || x->state != TRACEE_HELD)
		return err_set(err, ESRCH, "process %d is not held", (int)pid);
	u.inside = stop_event(x->status) != STOP_EVENT && WSTOPSIG(x->status) != SYSCALL_TRAP; /* in its execve */
	pause_begin(&pause);
	go_to_call(x, 0);
	while (e == 1) {
		e = answer_all(&u);
		now = clock_now_ns();
		if (e == 1 && now >= end)
			e = stop_now(&u);
		else if (e == 1)
			pause_for(t, end - now < PAUSE_NS ? end - now : PAUSE_NS);
	}
	pause_end(t, &pause);
	return explain(&u, e, err);
}
