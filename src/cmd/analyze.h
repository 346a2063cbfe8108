/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the files of `analyze` share: the judgement of one recorded series, and where its result goes. */
#ifndef MEMWATCH_CMD_ANALYZE_H
#define MEMWATCH_CMD_ANALYZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/err.h"
#include "memwatch/base/str.h"
#include "memwatch/model.h"
#include "memwatch/report.h"
#include "memwatch/store.h"

struct analyze_args {
	const char *output;
	bool json, quiet, help;
	int format, expect, color;
	uint64_t limit_bytes, fail_on;
};

/* How much of the snapshot is filled: each step costs more than the one before. */
enum analyze_detail {
	ANALYZE_VERDICT, /* the verdict alone */
	ANALYZE_METRICS, /* and the summaries of the metrics */
	ANALYZE_SERIES,  /* and the table of the series */
};

/*
 * Judges one series of a recording and describes it as a snapshot, which the caller has initialised and frees. Texts point into `r` and
 * `file`, which must stay. 0, -ENOMEM.
 */
must_check int analyze_series(const struct analyze_args *args, const char *file, const struct recording *r,
			      const struct recorded_series *series, enum analyze_detail detail, struct snapshot *ret);

/* ---- output (analyze_output.c) ---- */

struct analyze_output {
	const struct analyze_args *args;
	struct report_style style; /* of the text */
	bool text;                 /* standard output is free for it */
	bool with_source;          /* more than one file: labels alone would not tell the series apart */
	int fd;                    /* of the NDJSON; -1 none */
	struct str ndjson;         /* not yet written */
	struct str blocks, lines;  /* text of the first series, both ways, until it is known how many there are */
	size_t series_count, files_failed;
	size_t class_counts[VERDICT_CLASS_COUNT];
};

/* Opens what -o names. 0 or -errno with a message. */
must_check int analyze_output_init(struct analyze_output *o, const struct analyze_args *args, char *const *files,
				   size_t file_count, struct err *err);
void analyze_output_deinit(struct analyze_output *o);
enum analyze_detail analyze_output_detail(const struct analyze_output *o); /* that the next series needs */
must_check int analyze_output_add(struct analyze_output *o, const struct snapshot *snapshot, struct err *err);
/* What has been held back, and the last line. */
must_check int analyze_output_end(struct analyze_output *o, struct err *err);

#endif
