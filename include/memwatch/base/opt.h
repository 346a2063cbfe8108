/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Option tables: each command has one const table; parsing, validation and help come from it.
 *
 *     static const struct opt options[] = {
 *             { 'd', "duration", OPT_DURATION, offsetof(struct watch_args, duration_ns), .arg = "T", .help = "…" },
 *             OPT_END
 *     };
 *
 * Rules: "--name=value" and "--name value", "-d 5" and "-d5", bundled flags ("-qv"); "--" ends the options; the first
 * argument that is no option ends them too where `stop_at_first` is set (run), else options may stand anywhere.
 * Unique prefixes of long names are NOT accepted: scripts must survive new options.
 * An unknown option is an error that names the closest known one. An option given twice takes its last value, sets too.
 */
#ifndef MEMWATCH_BASE_OPT_H
#define MEMWATCH_BASE_OPT_H

#include <stdbool.h>
#include <stddef.h>

#include "memwatch/base/err.h"
#include "memwatch/base/str.h"

enum opt_type {
	OPT_NONE,     /* end of the table */
	OPT_FLAG,     /* bool, set true */
	OPT_TEXT,     /* const char * into argv */
	OPT_DURATION, /* uint64_t ns; > 0 */
	OPT_BYTES,    /* uint64_t bytes; > 0 */
	OPT_NUMBER,   /* double, min..max */
	OPT_PID,      /* pid_t, 1..INT_MAX */
	OPT_CHOICE,   /* int, index into choices */
	OPT_SET,      /* uint64_t, bit set from a comma list of choices */
};

struct opt {
	char short_name; /* 0: none */
	const char *long_name;
	enum opt_type type;
	size_t offset;              /* of the field in the arguments struct */
	const char *arg;            /* placeholder in help; NULL for flags */
	const char *help;           /* one line, wrapped by opt_add_help(); NULL: not listed */
	const char *const *choices; /* NULL-terminated, OPT_CHOICE and OPT_SET */
	double min, max;            /* OPT_NUMBER, inclusive; equal: no limit */
};

#define OPT_END                                                                                                        \
	{                                                                                                              \
		0, NULL, OPT_NONE, 0, NULL, NULL, NULL, 0, 0                                                           \
	}

/*
 * Parses argv[0..argc) into *args. argv is permuted so that the operands stand at its end; *ret_first is the index of
 * the first operand. Returns 0 or -EINVAL with a message such as: invalid --duration '-1': must be positive
 */
must_check int opt_parse(const struct opt *table, int argc, char **argv, bool stop_at_first, void *args, int *ret_first,
			 struct err *err);

/* Appends the aligned option list for --help, at most 100 columns wide. */
void opt_add_help(const struct opt *table, struct str *out);

#endif
