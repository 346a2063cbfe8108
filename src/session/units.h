/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Units of work that the user told memwatch how to count: one counter for the session's first target, read at each tick.
 *
 *   function   units_func.c    hardware breakpoint (trace.h, call_counter)
 *   lines      units_stdout.c  run: what the child prints, counted by a process that stands between its output and ours
 *   file       units_file.c    the target writes its count into a file, or a line a unit
 *
 * A count never goes down: a program that begins again at 0 goes on from where it was (as Prometheus counters do).
 */
#ifndef MEMWATCH_SESSION_UNITS_H
#define MEMWATCH_SESSION_UNITS_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/err.h"
#include "memwatch/session.h"

#define UNIT_LINE_MAX 4096 /* bytes of a line that are looked at */

struct target;
struct session;

/* ---- units_lines.c: counting in text; pure ---- */

struct unit_count {
	uint64_t base, now; /* units = base + now */
	bool known;         /* a unit was seen */
	bool numbered;      /* units come as numbers, not as lines: what came first decides */
};

void unit_count_number(struct unit_count *c, uint64_t number);
void unit_count_line(struct unit_count *c);
static inline uint64_t unit_count_total(const struct unit_count *c)
{
	return c->base + c->now;
}

/* The first run of digits in a line; false: none, or too large a number. */
bool unit_first_number(const char *line, size_t len, uint64_t *ret);

struct unit_lines {
	const regex_t *regex; /* NULL: every line is a unit, or holds the count as its first number */
	struct unit_count count;
	char line[UNIT_LINE_MAX]; /* the beginning of one that is not over yet */
	size_t len;
};

/* Bytes as they come; a line is counted at its newline, the last one at unit_lines_end(). NUL bytes are bytes. */
void unit_lines_feed(struct unit_lines *l, const char *data, size_t len);
void unit_lines_end(struct unit_lines *l);

/* ---- one way to count ---- */

struct units {
	const struct units_ops *ops;
	const char *argument;
	bool run;     /* the child is ours, seen from its exec */
	double value; /* units so far; NaN: none seen yet */
};

struct units_ops {
	const char *(*noun)(const struct units *u); /* singular; any time */
	/* Before the child is started; err: cause and remedy. NULL *ret never comes with 0. */
	int (*open)(const struct session_options *o, struct units **ret, struct err *err);
	/* The target is open and, under run, has not run yet. Errors end the session. May be NULL. */
	int (*attach)(struct units *u, struct target *t, struct err *err);
	void (*exec)(struct units *u, struct target *t); /* another program under the same pid; may be NULL */
	/* At a tick: sets u->value. `last`: the process is held at its end, or the watching ends. */
	void (*read)(struct units *u, struct target *t, bool last);
	/* run: the child has ended. Waits, bounded, until all is counted; may be NULL. */
	void (*drain)(struct units *u, struct session *s);
	void (*gaps)(struct units *u, struct session *s); /* before the report; may be NULL */
	void (*close)(struct units *u);
};

extern const struct units_ops units_func, units_stdout, units_file;

/* ---- units.c ---- */
must_check int units_open(const struct session_options *o, struct units **ret,
			  struct err *err); /* *ret NULL: none asked for */
void units_close(struct units *u);
int units_stdout_fd(const struct units *u);   /* for the child; 0: memwatch's own */
uint64_t units_cpu_ns(const struct units *u); /* of helper processes */
must_check int units_attach(struct session *s, struct err *err);
void units_exec(struct target *t);
/* The count into *ret, or NaN; for a target that is not counted too. */
double units_read(struct target *t, bool last);
void units_drain(struct session *s);
void units_note_gaps(struct session *s);
const char *units_noun(const struct target *t);

/* units_stdout.c */
int units_stdout_descriptor(const struct units *u);
uint64_t units_stdout_cpu_ns(const struct units *u);

#endif
