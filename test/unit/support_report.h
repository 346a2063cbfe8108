/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One scenario for the writers and the reader of reports: a leak in srv.c. */
#ifndef MEMWATCH_TEST_SUPPORT_REPORT_H
#define MEMWATCH_TEST_SUPPORT_REPORT_H

#include "memwatch/report.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MIB ((uint64_t)1 << 20)

extern const struct report_style plain; /* no colours, not cut, Unicode */
extern const struct report_style ascii;
extern const char hostile[]; /* escape sequences, bad UTF-8, direction marks */

/* Initialises *s; strings and arrays are static. */
void scenario(struct snapshot *s);
/* The same with a child that was killed, under --children. */
void scenario_tree(struct snapshot *s);
/* … that runs in CPython. */
void scenario_add_runtime(struct process_entry *p);
/* Puts `hostile` wherever a target has a say. */
void scenario_make_hostile(struct snapshot *s);

void render(const char *format, const struct snapshot *s, const struct report_style *style, struct str *out);

/* That no control character, direction mark or bad UTF-8 is in it. */
void check_printable(const struct str *out, bool only_ascii);

#endif
