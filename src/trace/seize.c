/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PTRACE_SEIZE, and the way out of its one trap.
 *
 * A thread that executes a program holds a lock of its process (cred_guard_mutex) until its sibling threads are gone, and a
 * sibling that is traced is gone only when its tracer has reaped it. PTRACE_SEIZE takes the same lock: called just then for
 * another sibling, it waits for the exec, which waits for the tracer: both hang for ever. The wait in the kernel can be
 * interrupted but restarts by itself; so a timer's signal handler does the reaping while SEIZE waits.
 */
#include "trace_internal.h"

#include <errno.h>
#include <sys/ptrace.h>
#include <time.h>

#include "memwatch/base/clock.h"

#define GUARD_NS (2 * (long)NS_PER_MS)

/* Async-signal-safe. Runs only inside the ptrace() of tracer_seize(): nothing else is touching the registry. */
static void reap_siblings(int sig, siginfo_t *info, void *context)
{
	const struct tracer *t = info->si_value.sival_ptr;
	struct rusage usage;
	int error = errno, status;

	(void)sig;
	(void)context;
	if (info->si_code != SI_TIMER || !t->seizing)
		return;
	for (size_t i = 0; i < t->count; i++) {
		const struct tracee *x = t->tracees[i];

		/* a leader does not hold up an exec, and its status is wanted; the record of another goes at its next look */
		if (x->tid != x->pid)
			(void)tracer_wait(x->tid, &status, &usage);
	}
	errno = error;
}

void guard_create(struct tracer *t)
{
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMAX };
	struct sigaction action = { .sa_sigaction = reap_siblings, .sa_flags = SA_SIGINFO | SA_RESTART };

	event.sigev_value.sival_ptr = t;
	t->has_guard = sigaction(SIGRTMAX, &action, NULL) == 0 && timer_create(CLOCK_MONOTONIC, &event, &t->guard) == 0;
}

void guard_destroy(struct tracer *t)
{
	if (t->has_guard)
		timer_delete(t->guard);
}

static int seize_guarded(struct tracer *t, pid_t tid, long options)
{
	const struct itimerspec armed = { { 0, GUARD_NS }, { 0, GUARD_NS } }, off = { { 0, 0 }, { 0, 0 } };
	sigset_t guard, old;
	int r = 0;

	sigemptyset(&guard);
	sigaddset(&guard, SIGRTMAX);
	sigprocmask(SIG_UNBLOCK, &guard, &old);
	t->seizing = 1;
	if (t->has_guard)
		timer_settime(t->guard, 0, &armed, NULL);
	if (ptrace(PTRACE_SEIZE, tid, NULL, (void *)options) < 0)
		r = -errno;
	if (t->has_guard)
		timer_settime(t->guard, 0, &off, NULL);
	t->seizing = 0;
	sigprocmask(SIG_SETMASK, &old, NULL);
	return r;
}

int tracer_seize(struct tracer *t, pid_t tid, pid_t pid, bool child, long options, struct tracee **ret)
{
	struct tracee *x;
	int r = tracer_add(t, tid, pid, &x);

	if (r < 0)
		return r;
	r = seize_guarded(t, tid, options);
	if (r < 0) {
		tracer_remove(t, x);
		return r;
	}
	x->child = child && tid == pid;
	x->options = x->options_now = options;
	*ret = x;
	return 0;
}

int tracer_reattach(struct tracer *t, pid_t pid)
{
	struct tracee *x = tracer_find(t, pid);
	int r;

	if (!x || !x->standing || x->state == TRACEE_HELD)
		return -ESRCH;
	r = seize_guarded(t, pid, x->options);
	if (r < 0)
		return r;
	x->state = TRACEE_RUNNING;
	x->options_now = x->options;
	x->group_stopped = false;
	t->stacks_stale = true;
	return 0;
}
