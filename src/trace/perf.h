/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the users of perf share: why it is refused, descriptors, births during the opening; and rings (perf_ring.c).
 */
#ifndef MEMWATCH_TRACE_PERF_H
#define MEMWATCH_TRACE_PERF_H

#include <linux/perf_event.h>

#include "trace_internal.h"

/* ---- perf.c ---- */
/* CAP_PERFMON or CAP_SYS_ADMIN. */
bool perf_privileged(void);
long perf_paranoid(void); /* kernel.perf_event_paranoid; -1: unknown, or no restriction */
/* Errors that mean the same for every event; code is positive, what: "calls cannot be counted". Returns -code. */
int perf_explain(pid_t pid, int code, const char *what, struct err *err);
/* Raises the soft limit of descriptors to the hard one; returns it. */
uint64_t perf_allow_files(void);
/* Both lists are in the kernel's order, in which threads only leave and are added at the end. */
bool perf_has_newborn(const struct thread_list *before, const struct thread_list *after);

/* ---- perf_ring.c ---- */
/* Where the samples of one processor go, whatever the thread. It belongs to an event of its own that never fires. */
struct perf_ring {
	int fd; /* -1: the processor is off */
	int cpu;
	struct perf_event_mmap_page *page;
	size_t bytes; /* of data: a power of two */
	uint64_t at, end;
	unsigned char *copy; /* of a record that lies across the end of the ring */
};
/* Tries bytes, then halves down to bytes_min where memory may not be locked. -ENODEV: no such processor now. */
must_check int perf_ring_open(struct perf_ring *r, int cpu, size_t bytes, size_t bytes_min);
void perf_ring_close(struct perf_ring *r);
/* Reading: begin() looks how far the kernel has come; peek() is the record at hand, NULL at that end; done() gives the room back. */
void perf_ring_begin(struct perf_ring *r);
const struct perf_event_header *perf_ring_peek(struct perf_ring *r);
void perf_ring_skip(struct perf_ring *r, const struct perf_event_header *record);
void perf_ring_done(struct perf_ring *r);

#endif
