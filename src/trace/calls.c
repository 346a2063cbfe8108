/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counting calls: hardware breakpoints of perf, one event a living thread, inherited by the threads that it makes. */
#include "arch/arch.h"
#include "perf.h"

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

#define ROUNDS 8       /* of listing and opening, until no thread was born in between */
#define CALIBRATION 64 /* calls of our own: under 1 ms at 11 us each, the dearest trap measured (a virtual machine) */

struct call_counter {
	pid_t pid;
	uint64_t places[CALL_PLACES_MAX];
	size_t place_count;
	int *fds;
	size_t count, cap;
	uint64_t cost_ns;
	bool missed;
};

/* A disabled counter; a descriptor or -errno. */
static int open_event(pid_t tid, uint64_t place)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_BREAKPOINT,
					.size = sizeof(attr),
					.bp_type = HW_BREAKPOINT_X,
					.bp_addr = place,
					.bp_len = arch_breakpoint_len,
					.disabled = 1,
					.inherit = 1,
					.exclude_kernel = 1,
					.exclude_hv = 1 };
	long fd;

	attr.inherit_thread = 1;
	fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 && errno == EINVAL) { /* before 5.13 */
		attr.inherit_thread = 0;
		fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);
	}
	return fd < 0 ? -errno : (int)fd;
}

/* ---- why not ---- */

static int explain(pid_t pid, int code, struct err *err)
{
	switch (code) {
	case ENOSPC:
		return err_set(
			err, code,
			"calls cannot be counted: all hardware breakpoints are in use; end the debugger or counter "
			"that uses them");
	case EINVAL:
	case ENOENT:
	case ENODEV:
	case ENOSYS:
	case EOPNOTSUPP:
		return err_set(
			err, EOPNOTSUPP,
			"calls cannot be counted: this kernel or machine has no hardware breakpoints for perf (%s); "
			"count lines or a file: --unit-stdout, --unit-file",
			strerror(code));
	default:
		return perf_explain(pid, code, "calls cannot be counted", err);
	}
}

/* ---- opening ---- */

static void close_events(struct call_counter *c)
{
	for (size_t i = 0; i < c->count; i++)
		close(c->fds[i]);
	c->count = 0;
}

/* A thread that has ended meanwhile is no error. */
static int add_thread(struct call_counter *c, pid_t tid)
{
	for (size_t i = 0; i < c->place_count; i++) {
		int fd;

		if (vec_reserve(&c->fds, &c->cap, c->count + 1, sizeof(*c->fds)) < 0)
			return -ENOMEM;
		fd = open_event(tid, c->places[i]);
		if (fd == -ESRCH)
			return 0;
		if (fd < 0)
			return fd;
		c->fds[c->count++] = fd;
	}
	return 0;
}

/*
 * A thread that is born while events are opened has inherited its maker's or not: nobody can tell. So nothing counts yet, and all is
 * opened again until no thread was born in between; only then everything is switched on, what was inherited by then too.
 */
static int open_all(struct call_counter *c)
{
	int r = 0;

	for (int round = 0; round < ROUNDS; round++) {
		cleanup_threads struct thread_list before = THREAD_LIST_INIT, after = THREAD_LIST_INIT;

		close_events(c);
		r = thread_list_read(&before, c->pid);
		for (size_t i = 0; r == 0 && i < before.count; i++)
			r = add_thread(c, before.entries[i].tid);
		if (r == 0)
			r = thread_list_read(&after, c->pid);
		if (r < 0)
			return r;
		c->missed = perf_has_newborn(&before, &after);
		if (!c->missed)
			break;
	}
	if (c->count == 0)
		return -ESRCH;
	for (size_t i = 0; i < c->count; i++)
		if (ioctl(c->fds[i], PERF_EVENT_IOC_ENABLE, 0) < 0)
			return -errno;
	return 0;
}

/* ---- what a call costs ---- */

__attribute__((noinline)) static void called(void)
{
	__asm__ volatile("" ::: "memory");
}

static uint64_t time_calls(void)
{
	uint64_t begin = clock_now_ns();

	for (int i = 0; i < CALIBRATION; i++)
		called();
	return clock_now_ns() - begin;
}

static uint64_t measure_cost(void)
{
	int fd = open_event(0, (uint64_t)(uintptr_t)called);
	uint64_t plain = time_calls(), trapped = plain;

	if (fd < 0)
		return 0;
	if (ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) == 0)
		trapped = time_calls();
	close(fd);
	return trapped > plain ? (trapped - plain) / CALIBRATION : 0;
}

int call_counter_open(pid_t pid, const uint64_t *places, size_t count, struct call_counter **ret, struct err *err)
{
	struct call_counter *c;
	int r;

	if (count == 0 || count > CALL_PLACES_MAX)
		return err_set(err, EINVAL, "calls cannot be counted at %zu places; at most %d", count,
			       CALL_PLACES_MAX);
	c = calloc(1, sizeof(*c));
	if (!c)
		return explain(pid, ENOMEM, err);
	c->pid = pid;
	c->place_count = count;
	memcpy(c->places, places, count * sizeof(*places));
	c->cost_ns = measure_cost(); /* before: the target's breakpoints need not wait for it */
	r = open_all(c);
	if (r == -EMFILE) {
		(void)perf_allow_files();
		r = open_all(c);
	}
	if (r < 0) {
		call_counter_close(c);
		return explain(pid, -r, err);
	}
	*ret = c;
	return 0;
}

int call_counter_read(const struct call_counter *c, uint64_t *ret)
{
	uint64_t sum = 0, value;

	for (size_t i = 0; i < c->count; i++) {
		ssize_t n = read(c->fds[i], &value, sizeof(value));

		if (n < 0)
			return -errno;
		if (n != (ssize_t)sizeof(value))
			return -EIO;
		sum += value;
	}
	*ret = sum;
	return 0;
}

uint64_t call_counter_cost_ns(const struct call_counter *c)
{
	return c->cost_ns;
}

bool call_counter_missed(const struct call_counter *c)
{
	return c->missed;
}

void call_counter_close(struct call_counter *c)
{
	if (!c)
		return;
	close_events(c);
	free(c->fds);
	free(c);
}
