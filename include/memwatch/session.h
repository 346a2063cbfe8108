/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The conductor: ties targets, rungs, series and verdicts together. cmd/ gives options and a listener, and gets snapshots.
 *
 * A session watches one target, or a tree of them (`children`). One thread; session_run() blocks until the end: the target's
 * end, the duration, or session_interrupt() from a signal handler.
 *
 *      session_create() ──> ready ──session_run()──> watching ──end──> over ──session_snapshot()──> (report)
 *                                                      │  ^
 *                                             tick ────┘  └─── looks within the budget: heap walk, smaps, sites, verdict
 *
 * Budget: CPU of memwatch and stall of the target together stay under budget_percent of one core, on average over the last
 * seconds; the first look of every rung is always taken, so that short runs get an answer.
 */
#ifndef MEMWATCH_SESSION_H
#define MEMWATCH_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/err.h"
#include "memwatch/model.h"

enum sites_choice { SITES_AUTO, SITES_OFF, SITES_FAULTS, SITES_PROBE, SITES_STACKS };
enum heap_choice { HEAP_AUTO, HEAP_OFF };

struct session_options {
	pid_t pid;             /* attach: > 0 */
	char *const *argv;     /* run: non-NULL */
	uint64_t duration_ns;  /* 0: until the target ends or Ctrl-C */
	uint64_t interval_ns;  /* 0: 100 ms */
	double budget_percent; /* 0: 2.0 */
	int sites;             /* enum sites_choice */
	int heap;              /* enum heap_choice */
	bool children;
	uint64_t limit_bytes; /* 0: none given */
	bool debuginfod;
	/*
	 * Units of work, counted with the user's help into METRIC_WORK of the (first) target; at most one of:
	 *   unit_func    calls of a function: "name", demangled or mangled, "lib.so:name", "module+0xoffset"
	 *   unit_stdout  run: lines of the child's standard output that match this POSIX extended regular expression; where a group of it
	 *                matches digits, they are the count so far. The child then writes into a pipe, which a process of its own empties
	 *                into memwatch's standard output, whatever becomes of memwatch
	 *   unit_file    a file whose last line holds the count so far, or that gets a line a unit; or a FIFO
	 * What cannot be counted is a gap, but for a function that a running target does not have: session_create() fails.
	 */
	const char *unit_func, *unit_stdout, *unit_file;
	bool transient; /* a unit of work should leave nothing behind */
};

struct session;

/* What the listener may be told; all calls come from session_run()'s thread, between ticks. Pointers are valid during the call. */
struct session_listener {
	void *arg;
	void (*begin)(void *arg, const struct target_info *target, double interval_ms);
	void (*sample)(void *arg, pid_t pid, const struct sample *sample, const struct verdict *verdict);
	void (*event)(void *arg, double t_s, pid_t pid, const char *event, const char *detail, double value);
	void (*verdict)(void *arg, double t_s, pid_t pid, const struct verdict *verdict);
};

/* Opens or starts the target. Errors name cause and remedy; for `run`, -ENOENT and -EACCES mean that CMD cannot be executed. */
must_check int session_create(const struct session_options *options, const struct session_listener *listener,
			      struct session **ret, struct err *err);
must_check int session_run(struct session *s, struct err *err);
/* Final or current state; *ret from snapshot_init(), freed by snapshot_deinit(). */
must_check int session_snapshot(struct session *s, struct snapshot *ret);
/* run after its duration: ends the child (SIGTERM, after 5 s SIGKILL) and waits for it. Does nothing in any other case. */
must_check int session_end_child(struct session *s, struct err *err);
/* wait status of run's child, -1 when it is not known (attach, still running). */
int session_wait_status(const struct session *s);
void session_destroy(struct session *s); /* lets go of every target */

/*
 * Signals: session_signals_install() catches SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP and SIGCONT; call it before session_create(),
 * which adds SIGCHLD. The handler only sets the signal flag (async-signal-safe). Attach: the first SIGINT, SIGTERM, SIGHUP or SIGQUIT
 * ends the watching; run: SIGTERM and SIGHUP are passed on to the child, SIGINT and SIGQUIT only wait for it (the terminal has sent
 * them there already). The second SIGINT leaves at once.
 */
void session_signals_install(void);

#endif
