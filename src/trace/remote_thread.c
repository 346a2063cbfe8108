/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whether a thread may be taken for a remote call, and taking it. */
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"

/* Not in every libc's <sys/ptrace.h>; the kernel's numbers. */
#define GET_MASK 0x420a /* PTRACE_GETSIGMASK */
#define GET_RSEQ 0x420f /* PTRACE_GET_RSEQ_CONFIGURATION, since Linux 5.13 */
#define MASK_BYTES 8
#define RSEQ_CS_OFFSET 8 /* of the pointer to the running critical section in struct rseq */

#define STACK_ROOM_MIN                                                                                                 \
	((uint64_t)32 << 10)          /* below the stack pointer: the frame, and what a function of the probe needs */
#define STOP_WAIT_NS (20 * NS_PER_MS) /* a thread that does not stop by then is let go when it does */
#define SPINS 60                      /* looks before sleeping: most stops come within microseconds */
#define PAUSE_NS (40 * NS_PER_US)

struct rseq_configuration {
	uint64_t pointer;
	uint32_t size, signature, flags, pad;
};

static uint64_t number_after(const char *buf, const char *name, int base)
{
	const char *line = strstr(buf, name);

	return line ? strtoull(line + strlen(name), NULL, base) : 0;
}

int remote_facts_read(pid_t pid, pid_t tid, struct remote_facts *ret)
{
	char path[64], buf[4096];
	const char *features;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)tid);
	if (io_read_at(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return -ESRCH;
	features = strstr(buf, "\nx86_Thread_features:");
	*ret = (struct remote_facts){ .seccomp = (int)number_after(buf, "\nSeccomp:", 10),
				      .tracer = (int)number_after(buf, "\nTracerPid:", 10),
				      .caught = number_after(buf, "\nSigCgt:", 16) };
	if (features) {
		size_t len = strcspn(features + 1, "\n") + 1;

		ret->shadow_stack = memmem(features, len, "shstk", 5) != NULL;
	}
	return 0;
}

int remote_wait(struct tracer *t, struct tracee *x, uint64_t until, struct remote_result *count)
{
	for (int spins = 0;; spins++) {
		int e = tracee_poll(t, x);

		if (e < 0)
			return e;
		if (e > 0) {
			count->stops++;
			return 0;
		}
		if (clock_now_ns() >= until)
			return -ETIME;
		if (spins >= SPINS)
			pause_for(t, PAUSE_NS);
	}
}

int remote_next(struct remote *r, struct tracee *x, uint64_t until)
{
	int e = remote_wait(r->t, x, until, &r->result);

	r->seen_ns = e == 0 ? clock_now_ns() : 0;
	return e;
}

void remote_account(struct remote *r)
{
	if (r->seen_ns)
		r->stood_ns += clock_now_ns() - r->seen_ns;
	r->seen_ns = 0;
}

/*
 * Below the stack pointer must be nothing but unused stack. That is known of [stack] for the first thread (its control block lies
 * elsewhere, and elsewhere its stack pointer is on a coroutine's stack), and of a mapping with a guard right below it and the
 * thread's control block above the stack pointer for the others. Without the guard it is not known: neighbouring mappings are merged
 * by the kernel, and Go has its stacks and control blocks side by side on its heap.
 */
static bool is_own_stack(const struct remote *r, const struct arch_saved *s, pid_t tid)
{
	const struct region *at = region_find(r->regions, r->region_count, s->sp);
	const uint16_t access = REGION_READ | REGION_WRITE | REGION_EXEC;

	if (!at || !(at->flags & REGION_WRITE) || (at->flags & REGION_SHARED) || s->sp - at->start < STACK_ROOM_MIN)
		return false;
	if (tid == r->pid)
		return strcmp(at->path, "[stack]") == 0;
	if (at->inode != 0 || s->thread_base <= s->sp || s->thread_base >= at->end)
		return false;
	return at > r->regions && at[-1].end == at->start && (at[-1].flags & access) == 0;
}

/* A critical section of rseq must not be left and entered again: the kernel would no longer restart it. */
static bool in_rseq(const struct remote *r, pid_t tid, const struct arch_saved *s)
{
	struct rseq_configuration c = { 0 };
	uint64_t section;

	if (ptrace((enum __ptrace_request)GET_RSEQ, tid, (void *)sizeof(c), &c) < 0)
		return !s->in_call; /* cannot be asked: only sure inside a system call, which no section may make */
	if (c.pointer == 0)
		return false;
	return mem_read_u64(r->mem, c.pointer + RSEQ_CS_OFFSET, &section) < 0 || section != 0;
}

/* What the frame must make again. Where it is not known, memwatch killed in this call would leave the program with an EINTR. */
static bool number_known(const struct remote *r, struct arch_saved *s)
{
	unsigned char code[ARCH_CALL_CODE];

	return !s->number_lost ||
	       (mem_read_exact(r->mem, s->pc - sizeof(code), code, sizeof(code)) == 0 && arch_remote_number(s, code));
}

static int check_filters(const struct remote *r, pid_t tid)
{
	struct seccomp_data data[2] = { { .nr = (int)arch_sigreturn, .arch = arch_audit }, { .arch = arch_audit } };

	data[0].instruction_pointer = r->gadgets.way_out;
	data[1].instruction_pointer = r->gadgets.call;
	data[1].nr = (int)r->call->number_or_address;
	memcpy(data[1].args, r->call->args, sizeof(data[1].args));
	return remote_filter_check(tid, data, r->call->is_syscall ? 2 : 1);
}

/* A function's own calls. */
static int check_inner_filters(const struct remote *r, pid_t tid)
{
	int e = 0;

	for (size_t i = 0; e == 0 && !r->call->is_syscall && i < r->call->call_count; i++) {
		const struct seccomp_data data = { .nr = (int)r->call->calls[i],
						   .arch = arch_audit,
						   .instruction_pointer = r->call->number_or_address };

		e = remote_filter_check(tid, &data, 1);
	}
	return e;
}

static int write_frame(const struct remote *r, size_t len)
{
	struct iovec local = { r->frame, len }, remote = { (void *)(uintptr_t)r->frame_address, len };
	ssize_t done = process_vm_writev(r->pid, &local, 1, &remote, 1, 0);

	if (done == (ssize_t)len)
		return 0;
	return done < 0 && errno == EPERM ? -EPERM : -EAGAIN;
}

/* In the stop: reads all that the thread has, and writes the frame where that is safe. */
static int prepare(struct remote *r, const struct tracee *x, bool filtered)
{
	struct arch_saved *s = r->saved;
	size_t len;
	int e = arch_remote_read(x->tid, s);

	if (e < 0)
		return e;
	if (!is_own_stack(r, s, x->tid)) {
		r->unsuitable = true;
		return -EAGAIN;
	}
	if (ptrace((enum __ptrace_request)GET_MASK, x->tid, (void *)MASK_BYTES, &s->blocked) < 0)
		return -errno;
	/* blocks signals that have handlers: perhaps it is in one, on an alternate stack that lies inside this stack */
	if ((s->blocked & r->caught) && x->state != TRACEE_HELD && clock_now_ns() < r->patience_ns)
		return -EAGAIN;
	if (in_rseq(r, x->tid, s))
		return -EAGAIN;
	if (!number_known(r, s) && x->state != TRACEE_HELD && clock_now_ns() < r->patience_ns)
		return -EAGAIN;
	e = filtered ? check_filters(r, x->tid) : 0;
	if (e == 0 && filtered)
		e = check_inner_filters(r, x->tid);
	if (e < 0) {
		r->confined = true;
		return e == -ESRCH ? e : -EAGAIN;
	}
	len = arch_remote_frame(s, r->gadgets.way_out, r->frame, &r->frame_address);
	return write_frame(r, len);
}

/* Attached, and asked to stop. */
static int attach(struct remote *r, const struct thread_entry *e, struct tracee **ret)
{
	struct tracee *x = tracer_find(r->t, e->tid);
	int n = 0;

	if (!x) {
		n = tracer_seize(r->t, e->tid, r->pid, e->ppid == r->t->self, 0, &x);
		if (n == -EPERM)
			r->refused = true;
		if (n == -EPERM || n == -ESRCH)
			return -EAGAIN; /* also the answer for a thread that is ending */
		if (n < 0)
			return n;
	}
	if (x->state == TRACEE_LISTENING || x->newborn)
		return -EAGAIN;
	tracer_interrupt(x);
	*ret = x;
	return 0;
}

/* Held where registers may be changed: not in the middle of the exec or fork that it is held for. */
static bool held_well(const struct tracee *x)
{
	return stop_event(x->status) == STOP_EVENT || WSTOPSIG(x->status) == SYSCALL_TRAP;
}

/* Waits for the stop that was asked for. Any other is answered as it deserves. */
static int await_stop(struct remote *r, struct tracee *x)
{
	uint64_t until = clock_now_ns() + STOP_WAIT_NS;
	int n = remote_next(r, x, until < r->until_ns ? until : r->until_ns);

	if (n < 0)
		return -EAGAIN; /* late: tracer_settle() lets it go; or it has ended */
	if (stop_event(x->status) == STOP_EVENT && !stop_is_group(x->status))
		return 0;
	r->job_stopped = r->job_stopped || stop_is_group(x->status);
	tracee_answer(r->t, x);
	return -EAGAIN;
}

int remote_try(struct remote *r, const struct thread_entry *entry)
{
	struct remote_facts facts;
	struct tracee *x;
	bool held;
	int e;

	if (remote_facts_read(r->pid, entry->tid, &facts) < 0)
		return -EAGAIN;
	if (facts.seccomp == SECCOMP_MODE_STRICT || facts.shadow_stack) {
		r->confined = true;
		return -EAGAIN;
	}
	r->caught = facts.caught;
	r->stood_ns = r->seen_ns = 0;
	e = attach(r, entry, &x);
	if (e < 0)
		return e;
	held = x->state == TRACEE_HELD;
	if (held && !held_well(x))
		return -EBUSY;
	if (!held)
		e = await_stop(r, x);
	if (e == 0) {
		e = prepare(r, x, facts.seccomp == SECCOMP_MODE_FILTER);
		if (e == 0)
			e = remote_steps(r, x, held);
		else if (!held)
			tracee_answer(r->t, x);
	}
	remote_account(r);
	r->result.stopped_ns_total += r->stood_ns;
	if (r->stood_ns > r->result.stopped_ns_max)
		r->result.stopped_ns_max = r->stood_ns;
	return e;
}
