/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Registry of attached threads; wait; the answer to a stop. Invariants: trace_internal.h. */
#include "trace_internal.h"
#include "arch/arch.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

/* for threads to stop so that they can be detached; the kernel does the rest at exit */
#define DESTROY_WAIT_NS (200 * NS_PER_MS)
#define SETTLE_PAUSE_NS (20 * NS_PER_US)

int tracer_create(struct tracer **ret)
{
	struct tracer *t = calloc(1, sizeof(*t));
	struct sigaction action;

	if (!t)
		return -ENOMEM;
	t->self = getpid();
	t->stacks_stale = true;
	t->resume_ns = 5 * NS_PER_US;
	sigprocmask(SIG_SETMASK, NULL, &t->child_mask);
	sigemptyset(&t->child_ignored);
	for (int sig = 1; sig <= SIGRTMAX; sig++) {
		if (sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
			sigaddset(&t->child_ignored, sig);
	}
	/* ignored, the kernel would reap children by itself and their statuses be lost */
	if (sigismember(&t->child_ignored, SIGCHLD) == 1) {
		action = (struct sigaction){ .sa_handler = SIG_DFL };
		sigaction(SIGCHLD, &action, NULL);
	}
	guard_create(t);
	*ret = t;
	return 0;
}

static void detach_all(struct tracer *t)
{
	uint64_t until = clock_now_ns() + DESTROY_WAIT_NS;

	for (size_t i = 0; i < t->count; i++) {
		struct tracee *x = t->tracees[i];

		x->standing = false; /* from here on every answer is a detach */
		if (x->state == TRACEE_HELD)
			x->state = TRACEE_STOPPED;
		else if (x->state != TRACEE_STOPPED)
			tracer_interrupt(x);
	}
	while (t->count > 0) {
		for (size_t i = t->count; i-- > 0;) { /* downwards: a removal moves only what was seen */
			struct tracee *x = t->tracees[i];

			if (x->state == TRACEE_STOPPED || tracee_poll(t, x) > 0)
				tracee_answer(t, x);
		}
		if (t->count == 0 || clock_now_ns() >= until)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = SETTLE_PAUSE_NS }, NULL);
	}
}

void tracer_destroy(struct tracer *t)
{
	if (!t)
		return;
	detach_all(t);
	guard_destroy(t);
	while (t->count > 0)
		tracer_remove(t, t->tracees[t->count - 1]);
	free(t->tracees);
	free(t->queue);
	free(t->stacks);
	map_deinit(&t->by_tid);
	free(t);
}

struct tracee *tracer_find(const struct tracer *t, pid_t tid)
{
	uint64_t value;

	if (!map_get(&t->by_tid, (uint64_t)tid, &value))
		return NULL;
	return (struct tracee *)(uintptr_t)value;
}

int tracer_add(struct tracer *t, pid_t tid, pid_t pid, struct tracee **ret)
{
	struct tracee *x;

	if (vec_reserve(&t->tracees, &t->cap, t->count + 1, sizeof(struct tracee *)) < 0)
		return -ENOMEM;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	if (map_put(&t->by_tid, (uint64_t)tid, (uint64_t)(uintptr_t)x) < 0) {
		free(x);
		return -ENOMEM;
	}
	x->tid = tid;
	x->pid = pid;
	x->index = t->count;
	t->tracees[t->count++] = x;
	*ret = x;
	return 0;
}

void tracer_remove(struct tracer *t, struct tracee *x)
{
	struct tracee *last = t->tracees[--t->count];

	t->tracees[x->index] = last;
	last->index = x->index;
	map_remove(&t->by_tid, (uint64_t)x->tid);
	free(x);
}

void tracer_interrupt(struct tracee *x)
{
	if (x->state == TRACEE_HELD || x->state == TRACEE_STOPPED)
		return;
	/* a failure means that the thread is ending: its wait status says so */
	if (ptrace(PTRACE_INTERRUPT, x->tid, NULL, NULL) == 0)
		x->state = TRACEE_RUNNING;
}

static void note_end(struct tracer *t, struct tracee *x, pid_t tid, int status, const struct rusage *usage)
{
	struct trace_event event = { .type = TRACE_ENDED, .pid = tid, .tid = tid, .wait_status = status };

	/* no record: a child that was never attached, such as an adopted orphan */
	if (!x || x->standing || x->child) {
		event.usage = *usage;
		newborns_release(t, tid);
		newborns_release(t, 0); /* the parent may have died before its FORK event */
		if (tracer_queue(t, &event) < 0) {
			/* out of memory: the event is lost, the bookkeeping is not */
		}
	}
	if (x)
		tracer_remove(t, x);
}

/* A stop of a thread without a record: the kernel attached it to a parent that is traced with options. */
static struct tracee *adopt(struct tracer *t, pid_t tid, int status)
{
	struct tracee *x = NULL;
	pid_t pid = tid;

	if (thread_tgid(tid, &pid) < 0 || tracer_add(t, tid, pid, &x) < 0) {
		ptrace(PTRACE_DETACH, tid, NULL, (void *)(uintptr_t)stop_signal(status));
		return NULL;
	}
	if (pid == tid && t->follow)
		newborn_stop(t, tid, 0);
	return x;
}

/* At once: were memwatch killed while the thread stands, the call would be seen to fail. */
static void mend_call(const struct tracee *x)
{
	bool asked = stop_event(x->status) == STOP_EVENT && !stop_is_group(x->status);

	if (asked || (stop_event(x->status) == 0 && WSTOPSIG(x->status) == SYSCALL_TRAP))
		arch_mend_call(x->tid);
}

struct tracee *tracer_note(struct tracer *t, pid_t tid, int status, const struct rusage *usage)
{
	struct tracee *x = tracer_find(t, tid);

	if (WIFEXITED(status) || WIFSIGNALED(status)) {
		note_end(t, x, tid, status, usage);
		return NULL;
	}
	if (!WIFSTOPPED(status))
		return NULL;
	if (!x)
		x = adopt(t, tid, status);
	if (!x)
		return NULL;
	x->state = TRACEE_STOPPED;
	x->status = status;
	mend_call(x);
	return x;
}

/*
 * A stop is looked at, not taken (WNOWAIT): taking it clears the signal that the thread is about to get, and were memwatch killed
 * between the wait and the answer, the signal would be lost. Left in place, the kernel delivers it when it detaches for us.
 * Threads that are held are taken (tracee_take), so that they do not turn up for ever.
 */
pid_t tracer_wait(pid_t tid, int *ret_status, struct rusage *ret_usage)
{
	siginfo_t info = { .si_pid = 0 };

	if (waitid(tid > 0 ? P_PID : P_ALL, tid > 0 ? (id_t)tid : 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
		return -1;
	if (info.si_pid == 0)
		return 0;
	if (info.si_code == CLD_EXITED || info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED)
		return wait4(info.si_pid, ret_status, __WALL | WNOHANG, ret_usage);
	*ret_status = (int)((unsigned int)info.si_status << 8) | 0x7f;
	return info.si_pid;
}

void tracee_take(const struct tracee *x)
{
	siginfo_t info;

	/* stops only: an end must not be taken here */
	(void)waitid(P_PID, (id_t)x->tid, &info, WSTOPPED | WNOHANG | __WALL);
}

int tracee_poll(struct tracer *t, struct tracee *x)
{
	struct rusage usage;
	int status;
	pid_t tid = tracer_wait(x->tid, &status, &usage);

	if (tid == 0)
		return 0;
	if (tid < 0) {
		tracer_remove(t, x); /* ECHILD: an exec took its number, or somebody else's wait its end */
		return -ESRCH;
	}
	return tracer_note(t, tid, status, &usage) ? 1 : -ESRCH;
}

bool stop_is_group(int status)
{
	int sig = WSTOPSIG(status);

	return stop_event(status) == STOP_EVENT &&
	       (sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU);
}

int stop_signal(int status)
{
	if (stop_event(status) != 0 || WSTOPSIG(status) == SYSCALL_TRAP)
		return 0;
	return WSTOPSIG(status);
}

void tracer_expect_clone(struct tracer *t, const struct tracee *parent)
{
	unsigned long tid = 0;
	struct tracee *x;
	pid_t pid;

	if (ptrace(PTRACE_GETEVENTMSG, parent->tid, NULL, &tid) < 0 || tid == 0 || tracer_find(t, (pid_t)tid) ||
	    thread_tgid((pid_t)tid, &pid) < 0)
		return;
	if (tracer_add(t, (pid_t)tid, pid, &x) < 0)
		return; /* met at its stop as an unknown thread */
	x->options_now = parent->options_now;
}

static void passing_stop(struct tracer *t, struct tracee *x)
{
	if (stop_event(x->status) == PTRACE_EVENT_CLONE)
		tracer_expect_clone(t, x);
	/* in a group-stop the kernel puts the thread back into it */
	if (ptrace(PTRACE_DETACH, x->tid, NULL, (void *)(uintptr_t)stop_signal(x->status)) < 0) {
		x->state = TRACEE_RUNNING; /* killed in this instant: its end will be reported */
		return;
	}
	tracer_remove(t, x);
}

void tracee_answer(struct tracer *t, struct tracee *x)
{
	if (x->state != TRACEE_STOPPED)
		return;
	if (!x->standing) {
		passing_stop(t, x);
		return;
	}
	if (stop_event(x->status) == PTRACE_EVENT_CLONE)
		tracer_expect_clone(t, x);
	standing_stop(t, x);
}

void tracer_pump(struct tracer *t)
{
	struct rusage usage;
	struct tracee *x;
	int status;
	pid_t tid;

	while ((tid = tracer_wait(-1, &status, &usage)) > 0) {
		x = tracer_note(t, tid, status, &usage);
		if (x)
			tracee_answer(t, x);
	}
}

size_t tracer_settle(struct tracer *t)
{
	size_t awaited = 0;

	for (size_t i = t->count; i-- > 0;) {
		struct tracee *x = t->tracees[i];

		if (x->standing)
			continue;
		if (x->state == TRACEE_STOPPED || tracee_poll(t, x) > 0)
			tracee_answer(t, x);
	}
	for (size_t i = 0; i < t->count; i++)
		awaited += t->tracees[i]->standing ? 0 : 1;
	return awaited;
}

void pause_begin(struct pause_state *p)
{
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, &p->old_mask);
}

void pause_for(struct tracer *t, uint64_t ns)
{
	struct timespec ts = { .tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S) };
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	if (sigtimedwait(&chld, NULL, &ts) == SIGCHLD)
		t->sigchld_eaten = true;
}

void pause_end(struct tracer *t, const struct pause_state *p)
{
	if (t->sigchld_eaten) {
		t->sigchld_eaten = false;
		tracer_pump(t);
		if (t->queue_count > 0)
			kill(t->self, SIGCHLD); /* the caller's main loop shall wake for these */
	}
	sigprocmask(SIG_SETMASK, &p->old_mask, NULL);
}
