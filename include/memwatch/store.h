/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Recordings of memory use, our own and other tools', read into plain tables that series and verdict can take. Text in, tables out: no
 * file is opened here, nothing is judged.
 *
 *   report      memwatch-report/1 (one document, or one a line)      its series[] and what it knows of heap and limits
 *   stream      memwatch-stream/1, NDJSON                            one series a process
 *   csv         a header line, then rows; comma, semicolon or tab    see below
 *   mprof       memory_profiler: "MEM mebibytes epoch-seconds", CMDL, CHLD, FUNC lines
 *   massif      Valgrind massif.out: time (ms; i and B are counts), mem_heap_B + mem_heap_extra_B (+ stacks). i and B are work, not time: they fill
 *               METRIC_WORK, and t_s is the same count scaled (10^9 instructions, or a MiB, a "second"); a note says so
 *   psrecord    "# Elapsed time   CPU (%)     Real (MB)   Virtual (MB)", rows; its MB are MiB; or its CSV
 *   prometheus  range query answer: {"status":"success","data":{"resultType":"matrix","result":[{"metric":{...},"values":[[t,"v"]]}]}}
 *               Results with the same labels but for __name__ are columns of one series; unknown names are RSS where nothing else is known.
 *
 * CSV header: the time is "t", "time", "timestamp", "elapsed", "ts", "date" …, with an optional unit as suffix or in brackets ("t_ms",
 * "time (s)", "t[us]"); seconds without one. Values may be RFC 3339 times, or epoch seconds, milliseconds, microseconds or nanoseconds (told by
 * their size). Other columns: any metric name of the contract, with or without its unit ("rss", "rss_bytes", "rss_kb", "RSS (MiB)", "heap_in_use",
 * "cpu_s", "work"); columns of the same metric behind a label ("web-1:rss", "rss{pid=7}") or a column "pid", "label", "name", "instance",
 * "series" or "process" with text make several series. Unknown columns are left out with a note; none that is known is an error. Empty
 * cells, "NaN", "null", "-" and values below 0 are unknown. Comment lines begin with '#'; one right above numbers is the header.
 *
 * Units: K, KiB, M, MiB … are binary, KB, MB, GB decimal, as in the contract; but a suffix "_kb" and "(kB)" are 1024, as ps, /proc and
 * getrusage() mean them. A percentage of CPU ("cpu_percent", "CPU (%)") is summed up to cpu_s; "cpu" alone could be either and is left out. A
 * column "requests", "objects", "n" … is METRIC_WORK; one that falls in more than 5 % of its rows holds amounts per interval.
 *
 * Repairs are made and told in notes, never silently: times that go backward (rows are sorted), the same time twice (the last one
 * holds), unknown values, gaps much longer than the usual spacing, counters that fall.
 *
 * Lives: a restart of the process splits a series. A fall of a counter (cpu_s, minor_faults, …) is one beyond doubt; without counters, a
 * fall of the memory to about where the series began, below all that was seen since, unless such falls come regularly (a sawtooth).
 * exec in a stream and another process_start_time_seconds are restarts too. Within a life METRIC_WORK never falls.
 * Judge each life by itself: what was before a restart is another process.
 *
 * Bounded: RECORDING_ROWS_MAX rows and RECORDING_SERIES_MAX series a file; more is -E2BIG with a message.
 */
#ifndef MEMWATCH_STORE_H
#define MEMWATCH_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/model.h"

#define RECORDING_ROWS_MAX ((size_t)20 << 20) /* over all series of a file */
#define RECORDING_SERIES_MAX 100000

enum recording_format {
	RECORDING_AUTO,
	RECORDING_REPORT,
	RECORDING_STREAM,
	RECORDING_CSV,
	RECORDING_MPROF,
	RECORDING_MASSIF,
	RECORDING_PSRECORD,
	RECORDING_PROMETHEUS,
	RECORDING_FORMAT_COUNT
};

extern const char *const recording_format_names[RECORDING_FORMAT_COUNT + 1]; /* "auto", "report", …; NULL-terminated */

struct recorded_life { /* rows [first, first + count) */
	size_t first, count;
};

struct recorded_series {
	const char *
		label; /* what tells it from the others of the file: "web-1", "pid 7", the Prometheus labels; "" where it is the only one */
	pid_t pid;                  /* 0 unknown */
	const char *comm;           /* program's name; NULL unknown */
	const enum metric *metrics; /* of the columns behind the time */
	size_t metric_count;
	double *cells; /* row-major: t_s since the first row, then the metrics; NaN unknown; t_s strictly ascending */
	size_t row_count;
	int64_t begin_wall_ns; /* time of the first row since the epoch; 0 unknown */
	bool from_start;       /* the recording began with the process (mprof run, massif, our own run) */
	bool ended;            /* … and saw its end */
	bool counted_time;     /* t_s is a count of something else, scaled (massif's i and B): seconds mean nothing */
	const char *work_unit; /* METRIC_WORK's column or counter, as a singular noun where it is one; NULL none */
	struct recorded_life *lives; /* in order, at least one, together all rows */
	size_t life_count;
	struct gap *notes; /* rung "recording": what was repaired or left out */
	size_t note_count;
};

struct recording {
	struct arena arena; /* owns everything below */
	enum recording_format format;
	struct recorded_series *series;
	size_t series_count;
	struct snapshot
		*snapshot; /* RECORDING_REPORT with one document: all of it, freed with the recording; else NULL */
};

/*
 * Reads text (len bytes, need not end in NUL). *ret needs no initialisation, is untouched on failure and is freed by recording_deinit().
 * -EBADMSG: malformed; err says "line N: …" with what was expected. -E2BIG: too long. -ENOMEM. Safe on hostile text; linear in len.
 */
must_check int recording_parse(const char *text, size_t len, enum recording_format format, struct recording *ret,
			       struct err *err);
void recording_deinit(struct recording *r); /* NULL-safe */

#endif
