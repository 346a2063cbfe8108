/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Writers: a snapshot in, text out. A const table of formats; cJSON, protobuf-c and zlib stay inside. No file or terminal is opened here.
 *
 * Numbers: bytes are integers, everything else doubles in shortest form; NaN, infinity, UNKNOWN_U64 and NULL become null. Text that
 * is not valid UTF-8 (command lines, paths) has its bad bytes replaced by U+FFFD; control characters never reach a terminal.
 * The JSON is of man/memwatch-report.schema.json (schema "memwatch-report/1"), the stream of "memwatch-stream/1".
 */
#ifndef MEMWATCH_REPORT_H
#define MEMWATCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>

#include "memwatch/base/err.h"
#include "memwatch/base/str.h"
#include "memwatch/model.h"

struct report_style {
	bool color;
	unsigned width; /* columns; 0: do not wrap or cut */
	bool unicode;   /* sparkline and ellipsis */
};

struct report_format {
	/*
	 * "text", "json", "ndjson" (the JSON on one line); of the call sites alone, of all processes: "folded" (outermost;...;innermost
	 * BYTES), "pprof" (a gzip-compressed profile.proto), "speedscope" (its JSON)
	 */
	const char *name;
	/* Appends the whole document. The snapshot is not changed; style is text's alone. 0 or -errno: -ENOMEM. */
	int (*render)(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
	bool binary;     /* not for terminals */
	bool sites_only; /* a report without call sites gives a valid document without anything in it: say so */
};

extern const struct report_format report_formats[]; /* ended by name == NULL */
extern const char *const report_format_names[];     /* the same names, for option tables; NULL-terminated */
const struct report_format *report_format_find(const char *name);

/*
 * Reads a report of ours back (report FILE, compare, check): -EBADMSG with the place for anything else, -ENOMEM. Safe on hostile
 * text. *ret needs no initialisation, is untouched on failure, and is freed by snapshot_deinit().
 */
must_check int report_parse(const char *text, size_t len, struct snapshot *ret, struct err *err);

/*
 * The verdict block alone, as in the text report. Of the evidence, in the order given: the first clause for the verdict has a line of
 * its own (where there is none: the trend from judged and slope_per_s, else the summary); then the others for it; then what is ruled
 * out (texts that begin with "not "); then what speaks against it, behind "but:". Statistics are left to the full report.
 */
must_check int report_verdict_text(const struct snapshot *snapshot, const struct report_style *style, struct str *out);

/* Of a series that was read from a file, target.source: a line that says where it comes from, what it holds and how much of it. */
must_check int report_recording_head(const struct snapshot *snapshot, const struct report_style *style,
				     struct str *out);
/* Its verdict in one line: label (with_source: behind the file), class, confidence, summary; cut to the width. */
must_check int report_recording_line(const struct snapshot *snapshot, bool with_source,
				     const struct report_style *style, struct str *out);

/* Live line: elapsed, RSS with a sparkline, in-use heap, rate, running verdict; cut to the width, no newline. */
struct live_line {
	double t_s;
	const double *recent_rss; /* oldest first */
	size_t recent_count;
	double rss_bytes, heap_in_use_bytes, heap_free_bytes, slope_per_s; /* NaN unknown */
	const struct verdict *verdict;                                     /* NULL: none yet */
	uint64_t process_count;                                            /* 1 without --children */
};
void report_live_line(const struct live_line *line, const struct report_style *style, struct str *out);

/* Stream objects: one line each, newline included. */
must_check int stream_hello(const struct target_info *target, double interval_ms, struct str *out);
must_check int stream_sample(const struct sample *sample, pid_t pid, struct str *out);
/* event: "thread", "exec", "fork", "mark", "limit", "stop", "exit", "gap"; detail may be NULL; value NaN: none. */
must_check int stream_event(double t_s, pid_t pid, const char *event, const char *detail, double value,
			    struct str *out);
must_check int stream_verdict(double t_s, pid_t pid, const struct verdict *verdict, struct str *out);
must_check int stream_bye(const struct snapshot *snapshot, struct str *out);

#endif
