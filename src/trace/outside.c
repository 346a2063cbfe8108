/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Whether all threads are outside of some code: asked before it is unmapped. */
#include "trace_internal.h"
#include "arch/arch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"

#define SLICE_BYTES ((size_t)32 << 10) /* holds a handler's frames and the signal frame above them */
#define GROUP 8                        /* threads stopped at a time: a stop stays far below 1 ms */
#define STOP_NS NS_PER_MS
#define PAUSE_NS (2 * NS_PER_MS)
#define PLACE_BYTES 320 /* /proc/PID/task/TID/syscall: nine numbers */

struct search {
	struct tracer *t;
	pid_t pid;
	struct mem *mem;
	const struct outside_query *q;
	struct map outside; /* tids that have been seen outside */
	struct arena arena;
	struct remote_result *cost;
};

static bool is_in(const struct search *s, uint64_t address)
{
	return address >= s->q->start && address < s->q->end;
}

/* A program counter that the kernel saved for a signal handler; not mere remains of calls that have returned. */
static bool holds_saved_pc(const struct search *s, const unsigned char *slice, size_t len)
{
	uint64_t word;

	for (size_t at = 0; at + 8 <= len; at += 8) {
		memcpy(&word, slice + at, 8);
		if (is_in(s, word) && arch_is_saved_pc(slice, len, at))
			return true;
	}
	return false;
}

static bool is_entry(const struct search *s, uint64_t word)
{
	for (size_t i = 0; is_in(s, word) && i < s->q->entry_count; i++)
		if (s->q->entries[i] == word)
			return true;
	return false;
}

static bool holds_entry(const struct search *s, const unsigned char *slice, size_t len)
{
	uint64_t word;

	for (size_t at = 0; s->q->entries && at + 8 <= len; at += 8) {
		memcpy(&word, slice + at, 8);
		if (is_entry(s, word))
			return true;
	}
	return false;
}

static bool is_outside(const struct search *s, const struct thread_stack *x)
{
	if (x->condition != THREAD_CAPTURED || x->slice_len == 0 || is_in(s, x->regs.pc))
		return false;
	for (size_t i = 0; i < x->regs.count; i++)
		if (is_in(s, x->regs.value[i]))
			return false;
	return !holds_saved_pc(s, x->slice, x->slice_len) && !holds_entry(s, x->slice, x->slice_len);
}

static int stop_and_look(struct search *s, bool running, struct err *err)
{
	const struct capture_options options = { .deadline_ns = STOP_NS,
						 .slice_bytes = SLICE_BYTES,
						 .max_threads = GROUP,
						 .running_only = running,
						 .sleeping_only = !running,
						 .fragile_too = !running };
	struct capture capture;
	int rc;

	arena_reset(&s->arena);
	rc = tracer_capture(s->t, s->pid, s->mem, &options, &s->arena, &capture, err);
	if (rc < 0)
		return rc == -ESRCH || rc == -EPERM ?
			       0 :
			       rc; /* those few have ended, or are about to: the next list tells */
	s->cost->stops++;
	s->cost->stopped_ns_total += capture.stopped_ns;
	if (capture.stopped_ns > s->cost->stopped_ns_max)
		s->cost->stopped_ns_max = capture.stopped_ns;
	for (size_t i = 0; rc >= 0 && i < capture.thread_count; i++)
		if (is_outside(s, &capture.threads[i]))
			rc = map_put(&s->outside, (uint64_t)capture.threads[i].tid, 1);
	return rc;
}

/* Where a thread sleeps: the last two numbers are its stack pointer and program counter. False: it runs, or is gone. */
static bool sleeping_place(int task_fd, pid_t tid, char text[PLACE_BYTES], uint64_t *ret_sp, uint64_t *ret_pc)
{
	char path[64], *pc, *sp;

	snprintf(path, sizeof(path), "%d/syscall", (int)tid);
	if (io_read_at(task_fd, path, text, PLACE_BYTES) <= 0 || strncmp(text, "running", 7) == 0)
		return false;
	pc = strrchr(text, ' ');
	if (!pc)
		return false;
	for (sp = pc - 1; sp > text && *sp != ' '; sp--)
		;
	*ret_sp = strtoull(sp, NULL, 16);
	*ret_pc = strtoull(pc, NULL, 16);
	return *ret_sp != 0 && *ret_pc != 0;
}

static int look_at_sleeping(struct search *s, int task_fd, pid_t tid)
{
	char before[PLACE_BYTES], after[PLACE_BYTES];
	uint64_t sp, pc;
	unsigned char *slice = arena_alloc(&s->arena, SLICE_BYTES);
	ssize_t len;

	if (!slice)
		return -ENOMEM;
	if (!sleeping_place(task_fd, tid, before, &sp, &pc) || is_in(s, pc))
		return 0;
	len = mem_read(s->mem, sp, slice, SLICE_BYTES);
	if (len < 8 || holds_saved_pc(s, slice, (size_t)len) || !sleeping_place(task_fd, tid, after, &sp, &pc) ||
	    strcmp(before, after) != 0) /* it has moved while it was read */
		return 0;
	return map_put(&s->outside, (uint64_t)tid, 1);
}

/* One round over all threads. 1: all have been seen outside. */
static int look_at_all(struct search *s, struct err *err)
{
	struct thread_list list cleanup_threads = THREAD_LIST_INIT;
	bool running = false;
	size_t missing = 0;
	uint64_t seen;
	int rc = thread_list_read(&list, s->pid);

	arena_reset(&s->arena);
	for (size_t i = 0; rc >= 0 && i < list.count; i++) {
		struct thread_entry *e = &list.entries[i];

		if (map_get(&s->outside, (uint64_t)e->tid, &seen))
			continue;
		thread_entry_read(&list, e);
		if (e->state == 'Z' || e->state == 'X')
			continue;
		missing++;
		if (e->state == 'R' || s->q->entries)
			running = running || e->state == 'R';
		else
			rc = look_at_sleeping(s, list.dir_fd, e->tid);
	}
	if (rc < 0)
		return rc;
	if (missing == 0)
		return 1;
	return running || s->q->entries ? stop_and_look(s, running, err) : 0;
}

int tracer_threads_outside(struct tracer *t, pid_t pid, struct mem *mem, const struct outside_query *query,
			   struct remote_result *cost, struct err *err)
{
	struct search s = { .t = t, .pid = pid, .mem = mem, .q = query, .cost = cost };
	uint64_t until = clock_now_ns() + query->deadline_ns;
	const struct timespec pause = { 0, PAUSE_NS };
	int rc;

	map_init(&s.outside);
	arena_init(&s.arena, 1 << 20, 16 << 20);
	for (;;) {
		rc = look_at_all(&s, err);
		if (rc != 0 || clock_now_ns() >= until)
			break;
		nanosleep(&pause, NULL);
	}
	map_deinit(&s.outside);
	arena_deinit(&s.arena);
	return rc;
}
