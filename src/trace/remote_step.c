/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The way of a thread through a remote call, from stop to stop. See remote.h. */
#include "remote.h"

#include <errno.h>
#include <sys/ptrace.h>

#include "memwatch/base/clock.h"

#define SET_MASK 0x420b /* PTRACE_SETSIGMASK; not in every libc */
#define MASK_BYTES 8    /* of the kernel's signal set */
#define SPINS 60        /* looks before sleeping: most functions take tens of microseconds */
#define PAUSE_NS (20 * NS_PER_US)
#define GRACE_NS (200 * NS_PER_MS) /* for steps that take microseconds, where the deadline is over or near */

/* Faults of the call itself: a fault that is blocked would take the program's handler away. */
static uint64_t fault_signals(void)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS };
	uint64_t set = 0;

	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		set |= 1ULL << (faults[i] - 1);
	return set;
}

static int set_mask(pid_t tid, uint64_t mask)
{
	return ptrace((enum __ptrace_request)SET_MASK, tid, (void *)MASK_BYTES, &mask) < 0 ? -errno : 0;
}

/* ESRCH: killed in this instant; its end will be reported. */
static void go(struct remote *r, struct tracee *x, enum __ptrace_request how, int sig)
{
	remote_account(r);
	x->state = TRACEE_RUNNING;
	ptrace(how, x->tid, NULL, (void *)(uintptr_t)sig);
}

static uint64_t patient_until(const struct remote *r)
{
	uint64_t grace = clock_now_ns() + GRACE_NS;

	return grace > r->until_ns ? grace : r->until_ns;
}

static bool is_call_stop(const struct tracee *x)
{
	return stop_event(x->status) == 0 && WSTOPSIG(x->status) == SYSCALL_TRAP;
}

void remote_hold(struct tracee *x)
{
	tracee_take(x);
	x->state = TRACEE_HELD;
	x->options_now = -1; /* tracer_resume() sets them right */
}

/* Lets a thread go from a stop in which its registers are its own again. */
static void release(struct remote *r, struct tracee *x, bool hold)
{
	int sig = stop_signal(x->status);

	if (!hold || stop_is_group(x->status) || (stop_event(x->status) != 0 && stop_event(x->status) != STOP_EVENT)) {
		tracee_answer(r->t, x);
		return;
	}
	if (sig != 0) { /* on to where its handler begins */
		ptrace(PTRACE_INTERRUPT, x->tid, NULL, NULL);
		go(r, x, PTRACE_CONT, sig);
		if (remote_next(r, x, clock_now_ns() + GRACE_NS) < 0)
			return;
		if (stop_signal(x->status) != 0 || stop_is_group(x->status)) {
			tracee_answer(r->t, x); /* signal upon signal: it runs, and is not held */
			return;
		}
	}
	remote_hold(x);
}

/* The mask first: were memwatch killed in between, the frame restores both. */
static int restore(const struct remote *r, const struct tracee *x)
{
	int e = set_mask(x->tid, r->saved->blocked);

	return e < 0 ? e : arch_remote_restore(x->tid, r->saved, !r->call->is_syscall);
}

/* Back to where it was, from a stop before the call has been made. */
static int give_up(struct remote *r, struct tracee *x, bool hold)
{
	int e = restore(r, x);

	release(r, x, hold);
	return e < 0 ? e : -EAGAIN;
}

/* A fault of the called function: it is taken back, and the program never knows. */
static int take_back(struct remote *r, struct tracee *x, bool hold)
{
	int e = restore(r, x);

	if (e == 0)
		x->status = (STOP_EVENT << 16) | (SIGTRAP << 8) | 0x7f; /* no signal is to be delivered */
	release(r, x, hold);
	return e < 0 ? e : -EFAULT;
}

/* A stop that is not one of a system call, inside a function. 1: it goes on. */
static int function_stop(struct remote *r, struct tracee *x, bool hold)
{
	int sig = stop_signal(x->status);
	siginfo_t info;

	if (stop_event(x->status) == STOP_EVENT && !stop_is_group(x->status)) {
		go(r, x, PTRACE_SYSCALL, 0);
		return 1;
	}
	if (sig == 0) { /* job control: it goes on, and comes through, when the process is continued */
		bool stopped = stop_is_group(x->status);

		tracee_answer(r->t, x);
		return stopped ? -ETIME : -ESRCH;
	}
	if ((fault_signals() & (1ULL << (sig - 1))) && ptrace(PTRACE_GETSIGINFO, x->tid, NULL, &info) == 0 &&
	    info.si_code > 0)
		return take_back(r, x, hold);
	go(r, x, PTRACE_SYSCALL, sig);
	return 1;
}

/* No longer waited for: it comes through by itself, and is let go at its next stop. */
static int leave(struct remote *r, struct tracee *x)
{
	ptrace(PTRACE_INTERRUPT, x->tid, NULL, NULL);
	if (remote_next(r, x, clock_now_ns() + GRACE_NS / 10) == 0)
		tracee_answer(r->t, x);
	return -ETIME;
}

static int to_end_of_function(struct remote *r, struct tracee *x, bool hold)
{
	struct arch_look look;
	int e;

	go(r, x, PTRACE_SYSCALL, 0);
	r->sent = true;
	for (;;) {
		e = remote_next(r, x, r->until_ns);
		if (e < 0)
			return e == -ETIME ? leave(r, x) : e;
		if (!is_call_stop(x)) {
			e = function_stop(r, x, hold);
			if (e < 0)
				return e;
			continue;
		}
		e = arch_remote_look(x->tid, r->frame_address, &look);
		if (e == 0 && look.leaving)
			e = arch_remote_stay(x->tid, &r->gadgets);
		else
			look.leaving = false;
		go(r, x, PTRACE_SYSCALL, 0);
		if (look.leaving && e == 0) {
			e = remote_next(r, x, patient_until(r));
			return e == -ETIME ? leave(r, x) : e;
		}
	}
}

/* Whether the function waits to be taken back: 1; 0 not yet; -EALREADY it has gone on by itself. */
static int is_waiting(const struct remote *r)
{
	uint64_t word;

	if (mem_read_u64(r->mem, r->call->waiting_address, &word) == 0 && word == r->call->done_value)
		return 1;
	if (mem_read_u64(r->mem, r->call->done_address, &word) < 0 || word != r->call->done_value)
		return 0;
	return mem_read_u64(r->mem, r->call->waiting_address, &word) == 0 && word == r->call->done_value ? 1 :
													   -EALREADY;
}

/* Where it is now: stopped in its loop, where it is taken back, or past it, and then the frame brings it back. */
static int take_from_loop(struct remote *r, struct tracee *x, bool hold)
{
	int e;

	ptrace(PTRACE_INTERRUPT, x->tid, NULL, NULL);
	e = remote_next(r, x, clock_now_ns() + GRACE_NS);
	if (e < 0)
		return e == -ETIME ? 0 : e; /* late: let go at its next stop */
	if (is_waiting(r) == 1)             /* it stands, and so does the word */
		e = restore(r, x);
	release(r, x, hold);
	return e;
}

/* The thread runs the function without a stop. Signals are blocked meanwhile. */
static int run_until_waiting(struct remote *r, struct tracee *x, bool hold)
{
	int e;

	go(r, x, PTRACE_CONT, 0);
	r->sent = true;
	for (int spins = 0; is_waiting(r) == 0; spins++) {
		e = tracee_poll(r->t, x);
		if (e < 0)
			return e;
		if (e > 0) {
			e = function_stop(r, x, hold);
			if (e < 0)
				return e;
		}
		if (clock_now_ns() >= r->until_ns)
			return leave(r, x);
		if (spins > SPINS)
			pause_for(r->t, PAUSE_NS);
	}
	return take_from_loop(r, x, hold);
}

static int to_exit_of_call(struct remote *r, struct tracee *x, bool hold)
{
	struct arch_look look = { 0 };
	bool entered = false;
	int e;

	for (;;) {
		go(r, x, PTRACE_SYSCALL, 0);
		e = remote_next(r, x, patient_until(r));
		if (e < 0)
			return e == -ETIME ? leave(r, x) : e;
		if (!is_call_stop(x) && !entered && (stop_signal(x->status) || stop_event(x->status) == STOP_EVENT))
			return give_up(r, x, hold);
		if (!is_call_stop(x)) {
			tracee_answer(r->t, x);
			return -ESRCH;
		}
		e = arch_remote_look(x->tid, r->frame_address, &look);
		if (e < 0) {
			tracee_answer(r->t, x);
			return e;
		}
		if (entered)
			break;
		entered = look.number == r->call->number_or_address;
		r->sent = r->sent || entered;
	}
	r->result.value = (int64_t)look.result;
	return 0;
}

/* From the exit of a call to a stop in which the kernel takes back what it had left undone. */
static int bring_back(struct remote *r, struct tracee *x, bool hold)
{
	int e;

	ptrace(PTRACE_INTERRUPT, x->tid, NULL, NULL);
	go(r, x, PTRACE_CONT, 0);
	e = remote_next(r, x, clock_now_ns() + GRACE_NS);
	if (e < 0)
		return e == -ETIME ? 0 : e; /* late: the frame brings it back */
	if (stop_event(x->status) == STOP_EVENT || stop_signal(x->status) != 0)
		e = restore(r, x);
	release(r, x, hold);
	return e;
}

int remote_steps(struct remote *r, struct tracee *x, bool hold)
{
	const long options = x->options | PTRACE_O_TRACESYSGOOD;
	int e = 0;

	if (ptrace(PTRACE_SETOPTIONS, x->tid, NULL, (void *)options) < 0)
		e = -errno;
	else
		x->options_now = options;
	if (e == 0)
		e = arch_remote_enter(x->tid, r->saved, r->frame_address, &r->gadgets, r->call);
	if (e == 0) /* after the registers: were memwatch killed in between, the frame holds the mask */
		e = set_mask(x->tid, r->saved->blocked | ~fault_signals());
	if (e < 0) {
		if (!hold)
			tracee_answer(r->t, x);
		return e;
	}
	if (!r->call->is_syscall && r->call->waiting_address != 0)
		return run_until_waiting(r, x, hold);
	e = r->call->is_syscall ? to_exit_of_call(r, x, hold) : to_end_of_function(r, x, hold);
	return e == 0 ? bring_back(r, x, hold) : e;
}
