/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Subcommands: one file each, each with its option table. main.c finds the command by name and returns what run() returns.
 */
#ifndef MEMWATCH_CMD_CMD_H
#define MEMWATCH_CMD_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/opt.h"
#include "memwatch/report.h"
#include "memwatch/session.h"

enum exit_status {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_GATE = 3,
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127
};

struct command {
	const char *name;
	const char *synopsis; /* behind "memwatch " */
	const char *summary;  /* one line */
	const struct opt *options;
	/* argv[0] is the command's name. Returns the exit status; prints its own errors. */
	int (*run)(int argc, char **argv);
};

extern const struct command command_attach, command_run, command_analyze, command_report, command_doctor, command_help,
	command_version;
extern const struct command *const commands[]; /* NULL-terminated, in the order of --help */

const struct command *command_find(const char *name);
void command_print_help(const struct command *command);
/* How text is shown on the file that fd is: `color` is an index into watch_color_choices. */
struct report_style command_style(int color, int fd);

/* ---- options that attach and run share ---- */

struct watch_args {
	pid_t pid;
	uint64_t duration_ns, interval_ns, limit_bytes;
	const char *output, *stream;
	const char *unit_func, *unit_stdout, *unit_file;
	bool json, children, quiet, debuginfod, help;
	int sites, heap, color, expect;
	uint64_t fail_on;
	double budget;
};

extern const char *const watch_sites_choices[], *const watch_heap_choices[], *const watch_color_choices[],
										     *const watch_expect_choices[];

/* clang-format off */
#define WATCH_OPTIONS \
	{ 'd', "duration", OPT_DURATION, offsetof(struct watch_args, duration_ns), "T", \
	  "stop after T (90, 90s, 5m, 2h); without it: until the target ends or Ctrl-C", NULL, 0, 0 }, \
	{ 'i', "interval", OPT_DURATION, offsetof(struct watch_args, interval_ns), "T", \
	  "time between samples (default 100ms; 1ms at the start)", NULL, 0, 0 }, \
	{ 'o', "output", OPT_TEXT, offsetof(struct watch_args, output), "FILE", "write the JSON report to FILE; - is standard output", \
	  NULL, 0, 0 }, \
	{ 0, "json", OPT_FLAG, offsetof(struct watch_args, json), NULL, "the JSON report on standard output, and nothing else there", \
	  NULL, 0, 0 }, \
	{ 0, "stream", OPT_TEXT, offsetof(struct watch_args, stream), "FILE", "write NDJSON to FILE while it runs; - is standard output", \
	  NULL, 0, 0 }, \
	{ 0, "sites", OPT_CHOICE, offsetof(struct watch_args, sites), "SOURCE", \
	  "where call sites come from: auto, off, stacks (faults and probe are not in this release)", watch_sites_choices, 0, 0 }, \
	{ 0, "heap", OPT_CHOICE, offsetof(struct watch_args, heap), "MODE", "read the allocator's structures: auto, off", \
	  watch_heap_choices, 0, 0 }, \
	{ 0, "children", OPT_FLAG, offsetof(struct watch_args, children), NULL, "follow the whole process tree", NULL, 0, 0 }, \
	{ 0, "limit", OPT_BYTES, offsetof(struct watch_args, limit_bytes), "BYTES", \
	  "a limit for the forecast, beside cgroup, rlimit and machine (K, M, G; KB, MB, GB)", NULL, 0, 0 }, \
	{ 0, "unit-func", OPT_TEXT, offsetof(struct watch_args, unit_func), "SYMBOL", \
	  "count calls of this function as units of work", NULL, 0, 0 }, \
	{ 0, "unit-stdout", OPT_TEXT, offsetof(struct watch_args, unit_stdout), "REGEX", \
	  "run: count lines of standard output that match, or take the count from a group of digits", NULL, 0, 0 }, \
	{ 0, "unit-file", OPT_TEXT, offsetof(struct watch_args, unit_file), "FILE", \
	  "take the count of units of work from the last line of FILE, or count its lines", NULL, 0, 0 }, \
	{ 0, "expect", OPT_CHOICE, offsetof(struct watch_args, expect), "WHAT", \
	  "what a unit of work may leave behind: any, transient (nothing)", watch_expect_choices, 0, 0 }, \
	{ 0, "fail-on", OPT_SET, offsetof(struct watch_args, fail_on), "CLASS,...", "exit with status 3 on such a verdict", \
	  verdict_class_names, 0, 0 }, \
	{ 0, "budget", OPT_NUMBER, offsetof(struct watch_args, budget), "PERCENT", \
	  "CPU that memwatch may use, of one core (default 2)", NULL, 0.01, 100 }, \
	{ 0, "debuginfod", OPT_FLAG, offsetof(struct watch_args, debuginfod), NULL, \
	  "fetch missing debug information from the servers in DEBUGINFOD_URLS", NULL, 0, 0 }, \
	{ 'q', "quiet", OPT_FLAG, offsetof(struct watch_args, quiet), NULL, "no progress on standard error", NULL, 0, 0 }, \
	{ 0, "color", OPT_CHOICE, offsetof(struct watch_args, color), "WHEN", "colour: auto, always, never", watch_color_choices, 0, 0 }, \
	{ 'h', "help", OPT_FLAG, offsetof(struct watch_args, help), NULL, "this text", NULL, 0, 0 }
/* clang-format on */

/* Whether the options fit together (one standard output, sources of this release). 0 or -EINVAL with a message. */
must_check int watch_check(const struct watch_args *args, bool run, struct err *err);
/* Watches and reports. child: argv of `run`, else NULL. Returns the exit status. */
int watch(const struct watch_args *args, char *const *child);

#endif
