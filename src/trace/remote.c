/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Remote calls: which thread, how often to try, and what to say where none would do. The mechanism: remote.h. */
#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"

#define DEADLINE_NS (2 * NS_PER_S)
#define PATIENCE_SHARE 4 /* of the deadline: when second choices are taken */
#define TRIES_PER_ROUND 32
#define ASLEEP_NS (100 * NS_PER_MS) /* one that sleeps is rarely better to take a moment later */
#define ROUND_PAUSE_MIN_NS (200 * NS_PER_US)
#define ROUND_PAUSE_MAX_NS (20 * NS_PER_MS)
#define ELF_HEADER_BYTES 20 /* class and machine are in them */

/* ---- check ---- */

static int check_program(pid_t pid, struct err *err)
{
	unsigned char header[ELF_HEADER_BYTES];
	char path[64];
	cleanup_close int fd = -1;
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : pread(fd, header, sizeof(header), 0);
	if (len < 0 && errno == ENOENT && access("/proc/self/exe", F_OK) == 0)
		return err_set(err, ESRCH, "process %d has ended, or is a kernel thread", (int)pid);
	if (len < 0) {
		trace_explain_refusal(pid, err);
		return -EPERM;
	}
	if (!arch_remote_native(header, (size_t)len))
		return err_set(err, ENOTSUP,
			       "process %d is not a 64-bit program of this processor, and the probe is made for those "
			       "only; use "
			       "another source of call sites",
			       (int)pid);
	return 0;
}

static int say_confined(pid_t pid, bool known, struct err *err)
{
	if (known)
		return err_set(err, ENOTSUP,
			       "a seccomp filter confines process %d and does not let the calls of the probe pass; use "
			       "another "
			       "source of call sites, or start the program without the filter",
			       (int)pid);
	return err_set(
		err, ENOTSUP,
		"a seccomp filter confines process %d, and cannot be looked at; run memwatch as root outside of any "
		"container, or use another source of call sites",
		(int)pid);
}

/* Stops one thread for a moment to read the filters that confine it. Nothing is changed. */
static int look_at_filters(struct tracer *t, pid_t pid, pid_t tid, const struct seccomp_data *data, size_t count,
			   struct err *err)
{
	struct remote_result unused = { 0 };
	struct tracee *x = tracer_find(t, tid);
	bool held = x && x->state == TRACEE_HELD;
	struct pause_state pause;
	int e = x ? 0 : tracer_seize(t, tid, pid, false, 0, &x);

	if (e == -EPERM) {
		trace_explain_refusal(pid, err);
		return e;
	}
	if (e < 0)
		return err_set(err, -e, "cannot attach to thread %d: %s", (int)tid, strerror(-e));
	pause_begin(&pause); /* its end answers whatever has stopped */
	if (!held) {
		tracer_interrupt(x);
		e = remote_wait(t, x, clock_now_ns() + DEADLINE_NS, &unused);
	}
	if (e < 0) {
		err_set(err, -e, "thread %d did not stop to show its seccomp filter: %s", (int)tid, strerror(-e));
	} else {
		e = remote_filter_check(tid, data, count);
		if (!held)
			tracee_answer(t, x);
		if (e < 0)
			e = say_confined(pid, e == -EACCES, err);
	}
	pause_end(t, &pause);
	return e;
}

static int check_filters(struct tracer *t, pid_t pid, pid_t tid, const long *calls, size_t count, struct err *err)
{
	cleanup_free struct seccomp_data *data = calloc(count + 1, sizeof(*data));

	if (!data)
		return err_set(err, ENOMEM, "out of memory to look at the seccomp filter of process %d", (int)pid);
	for (size_t i = 0; i <= count; i++) {
		data[i].nr = i < count ? (int)calls[i] : (int)arch_sigreturn;
		data[i].arch = arch_audit;
	}
	return look_at_filters(t, pid, tid, data, count + 1, err);
}

/* The threads may differ: one that is confined is left alone where others are not (remote_try()). */
static int check_threads(struct tracer *t, pid_t pid, const long *calls, size_t count, struct err *err)
{
	struct thread_list list cleanup_threads = THREAD_LIST_INIT;
	bool strict = false;
	pid_t filtered = 0;
	int e = thread_list_read(&list, pid);

	if (e < 0)
		return err_set(err, -e, "cannot list the threads of process %d: %s", (int)pid, strerror(-e));
	for (size_t i = 0; i < list.count; i++) {
		struct remote_facts f;

		if (remote_facts_read(pid, list.entries[i].tid, &f) < 0)
			continue;
		if (f.tracer > 0 && f.tracer != t->self) {
			trace_explain_refusal(pid, err);
			return -EPERM;
		}
		if (f.shadow_stack)
			return err_set(err, ENOTSUP,
				       "process %d runs with shadow stacks, which a remote call would violate; start "
				       "it without "
				       "(GLIBC_TUNABLES=glibc.cpu.x86_shstk=off), or use another source of call sites",
				       (int)pid);
		if (f.seccomp == SECCOMP_MODE_DISABLED)
			return 0;
		strict = strict || f.seccomp == SECCOMP_MODE_STRICT;
		if (f.seccomp == SECCOMP_MODE_FILTER && filtered == 0)
			filtered = list.entries[i].tid;
	}
	if (filtered != 0)
		return check_filters(t, pid, filtered, calls, count, err);
	return strict ? say_confined(pid, true, err) : 0;
}

int tracer_remote_check(struct tracer *t, pid_t pid, struct mem *mem, const long *calls, size_t count, struct err *err)
{
	struct arch_gadgets gadgets;
	int e = check_program(pid, err);

	if (e == 0)
		e = remote_find_gadgets(pid, mem, &gadgets, err);
	return e == 0 ? check_threads(t, pid, calls, count, err) : e;
}

/* ---- call ---- */

/* Running threads first, then those asleep in calls that are restarted; last, and late, those whose call would fail. */
enum choice { CHOICE_RUNNING, CHOICE_ASLEEP, CHOICE_FRAGILE, CHOICES };

static bool is_choice(const struct thread_entry *e, enum choice choice)
{
	if (e->state == 'R')
		return choice == CHOICE_RUNNING;
	return e->state == 'S' && choice == (e->fragile ? CHOICE_FRAGILE : CHOICE_ASLEEP);
}

/* Not taken a moment ago, and nothing has changed: it sleeps on, and it is not late yet. */
static bool was_tried(const struct remote *r, const struct thread_entry *e)
{
	uint64_t now = clock_now_ns(), then;

	return e->state == 'S' && map_get(&r->asleep, (uint64_t)e->tid, &then) && now - then < ASLEEP_NS &&
	       (then >= r->patience_ns || now < r->patience_ns);
}

/* One round over the threads, from another one each time. Returns as remote_try() does. */
static int one_round(struct remote *r, struct thread_list *list, size_t round)
{
	size_t tries = 0, alive = 0;
	int e = thread_list_read(list, r->pid);
	ssize_t regions = e == 0 ? mem_regions(r->mem, &r->regions) : 0;

	if (e < 0 || regions < 0)
		return e < 0 ? e : (int)regions;
	r->region_count = (size_t)regions;
	for (size_t i = 0; i < list->count; i++) {
		struct thread_entry *entry = &list->entries[i];

		thread_entry_read(list, entry);
		alive += entry->state != 'Z' && entry->state != 'X';
		r->job_stopped = r->job_stopped || entry->state == 'T';
	}
	if (alive == 0)
		return -ESRCH;
	for (int choice = 0; choice < CHOICES; choice++) {
		if (choice == CHOICE_FRAGILE && clock_now_ns() < r->patience_ns)
			break;
		for (size_t i = 0; i < list->count && tries < TRIES_PER_ROUND; i++) {
			const struct thread_entry *entry = &list->entries[(i + round * TRIES_PER_ROUND) % list->count];

			if (!is_choice(entry, (enum choice)choice) || was_tried(r, entry))
				continue;
			tries++;
			e = remote_try(r, entry);
			if (e != -EAGAIN && (e != -ESRCH || r->sent))
				return e;
			if (entry->state == 'S' && map_put(&r->asleep, (uint64_t)entry->tid, clock_now_ns()) < 0)
				return -ENOMEM;
		}
	}
	return -EAGAIN;
}

static int find_thread(struct remote *r)
{
	struct thread_list list cleanup_threads = THREAD_LIST_INIT;
	const struct tracee *leader = tracer_find(r->t, r->pid);
	uint64_t pause = ROUND_PAUSE_MIN_NS;
	int e = -EAGAIN;

	if (leader && leader->state == TRACEE_HELD) {
		const struct thread_entry entry = { .tid = r->pid, .state = 'S' };
		ssize_t regions = mem_regions(r->mem, &r->regions);

		if (regions < 0)
			return (int)regions;
		r->region_count = (size_t)regions;
		return remote_try(r, &entry); /* nothing would change by trying again */
	}
	for (size_t round = 0; e == -EAGAIN && clock_now_ns() < r->until_ns; round++) {
		e = one_round(r, &list, round);
		if (e != -EAGAIN)
			break;
		pause_for(r->t, pause);
		(void)tracer_settle(r->t);
		pause = pause * 2 < ROUND_PAUSE_MAX_NS ? pause * 2 : ROUND_PAUSE_MAX_NS;
	}
	return e;
}

static int explain_no_thread(const struct remote *r, struct err *err)
{
	double seconds = (double)(r->until_ns - r->start_ns) / (double)NS_PER_S;

	if (r->refused && r->result.stops == 0) {
		trace_explain_refusal(r->pid, err);
		return -EPERM;
	}
	if (r->confined && !r->unsuitable)
		return say_confined(r->pid, true, err);
	if (r->job_stopped)
		return err_set(err, ETIME,
			       "process %d is stopped by job control; continue it (kill -CONT %d) and try again",
			       (int)r->pid, (int)r->pid);
	return err_set(
		err, ETIME,
		"no thread of process %d could be taken for a remote call within %.1f s: %s; try again, or use another "
		"source of call sites",
		(int)r->pid, seconds,
		r->unsuitable ? "none is on a stack that is known to be its own and has 32 KiB left" :
				"they do not stop, or are in places that must not be interrupted");
}

static int explain(const struct remote *r, int e, struct err *err)
{
	switch (e) {
	case 0:
		return 0;
	case -EAGAIN:
		return explain_no_thread(r, err);
	case -ETIME:
		return err_set(err, ETIME,
			       "a remote call in process %d has not come through; it will, what it was asked for "
			       "happens later",
			       (int)r->pid);
	case -ESRCH:
		return err_set(err, ESRCH, "process %d has ended, or the thread that made a remote call has",
			       (int)r->pid);
	case -EBUSY:
		return err_set(err, EBUSY, "process %d is held where it cannot make a call: let it run on first",
			       (int)r->pid);
	case -EFAULT:
		return err_set(err, EFAULT, "the function called in process %d failed by a fault, which was taken back",
			       (int)r->pid);
	case -ENOTSUP:
		return err_set(
			err, ENOTSUP,
			"registers of a thread of process %d cannot be saved completely on this kernel and processor; "
			"use another source of call sites",
			(int)r->pid);
	case -EPERM:
		trace_explain_refusal(r->pid, err);
		return e;
	default:
		return err_set(err, -e, "a remote call in process %d failed: %s", (int)r->pid, strerror(-e));
	}
}

/* A function has returned; whether it came to its end is what it says itself. */
static int check_done(const struct remote *r)
{
	uint64_t value;

	if (r->call->is_syscall || r->call->done_address == 0)
		return 0;
	for (;;) {
		int e = mem_read_u64(r->mem, r->call->done_address, &value);

		if (e < 0)
			return e;
		if (value == r->call->done_value)
			return 0;
		if (clock_now_ns() >= r->until_ns)
			return -ETIME;
		pause_for(r->t, ROUND_PAUSE_MIN_NS);
	}
}

int tracer_remote_call(struct tracer *t, pid_t pid, struct mem *mem, const struct remote_call *call,
		       struct remote_result *ret, struct err *err)
{
	cleanup_free struct arch_saved *saved = malloc(sizeof(*saved));
	cleanup_free unsigned char *frame = malloc(ARCH_FRAME_MAX);
	uint64_t deadline = call->deadline_ns ? call->deadline_ns : DEADLINE_NS;
	struct remote r = {
		.t = t, .pid = pid, .mem = mem, .call = call, .saved = saved, .frame = frame, .asleep = MAP_INIT
	};
	struct pause_state pause;
	struct priority priority;
	int e;

	if (!saved || !frame)
		return err_set(err, ENOMEM, "out of memory for a remote call in process %d", (int)pid);
	e = remote_find_gadgets(pid, mem, &r.gadgets, err);
	if (e < 0)
		return e;
	r.start_ns = clock_now_ns();
	r.until_ns = r.start_ns + deadline;
	r.patience_ns = r.start_ns + deadline / PATIENCE_SHARE;
	pause_begin(&pause);
	(void)priority_raise(&priority); /* the stops are as short as this process is quick */
	e = find_thread(&r);
	map_deinit(&r.asleep);
	priority_restore(&priority);
	if (e == 0 || (e == -ETIME && !call->is_syscall && call->done_address != 0))
		e = check_done(&r);
	pause_end(t, &pause);
	t->stacks_stale = true; /* the call may have made mappings */
	e = explain(&r, e, err);
	if (e == 0)
		*ret = r.result;
	return e;
}
