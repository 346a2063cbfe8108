/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the remote calls: how one thread is taken, sent off and brought back.
 *
 *   stopped --frame written, enter--> entry of the call --> its exit --INTERRUPT--> stopped again --restore--> let go
 *
 * Up to the frame nothing has changed in the target. From `enter` on the thread needs nobody: let go at any stop on this way, by us or
 * by the kernel because memwatch was killed, it makes the call, or has made it, and returns through the frame.
 *
 * Where memwatch lives, the frame is not used: the thread is brought to a second PTRACE_EVENT_STOP and given back exactly what it had at
 * the first, the half-done system call included. So the kernel goes on with that call as after any stop (the remaining time of a sleep;
 * EINTR where, and only where, a handler runs), which no return from a frame could do: rt_sigreturn forgets the remaining time.
 * Until then all signals but those of faults are blocked, so that no handler runs on a state that is not the program's.
 */
#ifndef MEMWATCH_TRACE_REMOTE_H
#define MEMWATCH_TRACE_REMOTE_H

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "trace_internal.h"
#include "arch/arch.h"
#include "arch/remote.h"

struct remote {
	struct tracer *t;
	pid_t pid;
	struct mem *mem;
	const struct remote_call *call;
	uint64_t start_ns, until_ns, patience_ns; /* monotonic; from patience_ns on second choices are taken */
	struct arch_gadgets gadgets;
	const struct region *regions;
	size_t region_count;
	uint64_t caught; /* signals that the process has handlers for */
	struct arch_saved *saved;
	unsigned char *frame;
	uint64_t frame_address;
	struct remote_result result;
	uint64_t seen_ns, stood_ns; /* of one try: the last stop was seen; time from seen to sent on */
	struct map asleep;          /* threads that were not taken in their sleep: tid -> when */
	/* why threads were not taken, for the message */
	bool refused, confined, unsuitable, job_stopped, sent;
};

/* ---- remote_code.c ---- */
must_check int remote_find_gadgets(pid_t pid, struct mem *mem, struct arch_gadgets *ret, struct err *err);

/* ---- remote_filter.c ---- */
/* What a seccomp program returns; -EINVAL where it is none that the kernel would take. */
must_check int remote_filter_run(const struct sock_filter *program, size_t count, const struct seccomp_data *data,
				 uint32_t *ret);
/* Whether all filters of a stopped thread let these through: 0, -EACCES they do not, -EPERM they cannot be looked at. */
must_check int remote_filter_check(pid_t tid, const struct seccomp_data *data, size_t count);

/* ---- remote_thread.c ---- */
struct remote_facts { /* of /proc/PID/task/TID/status */
	int seccomp, tracer;
	bool shadow_stack;
	uint64_t caught;
};
must_check int remote_facts_read(pid_t pid, pid_t tid, struct remote_facts *ret);
/* Waits for a stop, which it counts: 0, -ETIME, -ESRCH (the record is gone). */
must_check int remote_wait(struct tracer *t, struct tracee *x, uint64_t until, struct remote_result *count);
/* The same for a thread on its way, and the other end of a stop: the thread is about to be sent on. */
must_check int remote_next(struct remote *r, struct tracee *x, uint64_t until);
void remote_account(struct remote *r);
/*
 * One try with one thread: 0 the call was made; -EAGAIN not, nothing has changed, another thread or another time may do; -ETIME sent off,
 * and not come through; -ESRCH that thread has ended; other errors: hopeless. The thread is let go (or held again) in every case.
 */
must_check int remote_try(struct remote *r, const struct thread_entry *e);

/* ---- remote_step.c ---- */
/* From the frame, written, to the thread let go. Returns as remote_try() does. x may be gone afterwards. */
must_check int remote_steps(struct remote *r, struct tracee *x, bool hold);
/* Holds a thread that is stopped, for tracer_resume(), without an event. */
void remote_hold(struct tracee *x);

#endif
