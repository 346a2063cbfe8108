/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the readers of this folder. A reader turns its format into drafts: rows in the order of the file, columns as they appear.
 * finish.c sorts, repairs and notes, lives.c finds the restarts, and the result goes into the recording's arena.
 */
#ifndef MEMWATCH_SRC_STORE_PRIVATE_H
#define MEMWATCH_SRC_STORE_PRIVATE_H

#include "memwatch/base/map.h"
#include "memwatch/base/str.h"
#include "memwatch/store.h"

/* ---- numbers, times, names (number.c, time.c, names.c) ---------------------------------------------------------------- */

struct text { /* a piece of the file; no NUL at its end */
	const char *at;
	size_t len;
};

#define TEXT(literal) ((struct text){ literal, sizeof(literal) - 1 })

struct text piece_trim(struct text t);           /* blanks, tabs and CR at both ends */
struct text piece_unquote(struct text t);        /* one pair of double quotes, and blanks in and around it */
bool piece_is(struct text t, const char *word);  /* upper and lower case are the same */
bool piece_has(struct text t, const char *word); /* anywhere in it; case counts */
bool piece_begins(struct text t, const char *word);
/* Takes one line off *rest, without its "\n" or "\r\n"; false at the end. *ret_ended: the newline was there. */
bool piece_line(struct text *rest, struct text *ret, bool *ret_ended);
/* For messages and labels: at most `size` - 1 bytes, what is not printable becomes '?'. Returns out. */
const char *piece_clean(struct text t, char *out, size_t size);
#define CLEAN_BYTES 48

/* The whole of t is one decimal number; no locale. "nan", "inf", "null", "none", "na", "n/a", "-" and "" are NaN. */
bool store_number(struct text t, double *ret);
/* "2026-11-20T12:10:25.5Z", "2026-11-20 12:10:25+01:00", "2026-11-20"; without an offset it is UTC. */
bool store_time_parse_date(struct text t, int64_t *ret_ns);
/* What a time without a unit counts, by its size: 1 second, 1e-3, 1e-6, 1e-9; and whether it counts from the epoch. */
double store_time_scale(double value, bool *ret_epoch);
bool store_time_is_epoch(double seconds);
bool store_time_is_name(const char *name); /* "t", "timestamp", … as name_fold() leaves it */

#define TIME_MAX_S 1e11 /* beyond year 5000 */
#define NAME_BYTES 96

struct column_name {
	enum metric metric;
	double scale;      /* of a value to the metric's unit */
	bool percent;      /* CPU as a percentage of one core: to be integrated */
	bool is_time;      /* then metric has no meaning; scale 0: no unit was given */
	bool prefer_other; /* a stand-in: used only where nothing better of the same metric is there */
	const char *work_unit;
};

/* Lower case, what is neither letter nor digit becomes one '_', "%" becomes "percent"; a unit in brackets goes to ret_unit. */
void name_fold(struct text t, char name[NAME_BYTES], char ret_unit[NAME_BYTES]);
/* What a header cell or a metric's name of another tool means; false: not known. */
bool name_lookup(struct text t, struct column_name *ret);
bool name_metric(const char *contract_name, enum metric *ret); /* exactly */
/* Whether a folded name says how much work was done; the unit, singular. */
const char *name_work_unit(const char *folded);

/* ---- drafts (draft.c) ------------------------------------------------------------------------------------------------- */

struct draft {
	char *key;   /* tells it from the others while reading */
	char *label; /* NULL: as key */
	char *comm;
	pid_t pid;
	bool from_start, ended, counted_time;
	bool sparse;       /* most values are not known at most rows: nothing to note */
	bool joined;       /* rows of the same time are parts of one row */
	bool cpu_percent;  /* METRIC_CPU's column is a percentage: finish integrates it */
	bool cpu_derived;  /* … and has: it says nothing of restarts */
	bool work_unit_is; /* work_unit was given */
	const char *work_unit;
	enum metric metrics[METRIC_COUNT];
	int column_of[METRIC_COUNT]; /* -1: none */
	size_t metric_count;
	double *cells; /* row-major, 1 + metric_count wide; time in seconds since the file's base */
	size_t cell_cap, row_count;
	double *splits; /* times at which another program began beyond doubt */
	size_t split_count, split_cap;
	size_t unknown_count; /* cells */
	size_t empty_count;   /* rows without any value, left out */
	size_t zero_count;    /* values that no living process has */
};

struct drafts {
	struct draft *list;
	size_t count, cap;
	size_t row_total;
	struct map by_key;
	int64_t base_ns; /* what the times of all drafts count from; 0: not the epoch */
	struct str *notes;
	size_t note_count, note_cap; /* of the whole file */
	enum recording_format format;
	struct err *err;
};

void drafts_init(struct drafts *d, enum recording_format format, struct err *err);
void drafts_deinit(struct drafts *d);
/* The draft of that key, made where it is new. 0, -ENOMEM, -E2BIG. The pointer holds until the next call. */
must_check int drafts_get(struct drafts *d, struct text key, struct draft **ret);
must_check int drafts_note(struct drafts *d, const char *fmt, ...) printf_like(2, 3);
/* Column of a metric behind the time (1 …), added where it is new; -ENOMEM. */
must_check int draft_column(struct draft *s, enum metric metric);
/* A row of NaN at a time. *ret holds until the next row or column. 0, -ENOMEM, -E2BIG. */
must_check int draft_row(struct drafts *d, struct draft *s, double t, double **ret);
/* Takes the last row away again where it holds no value. */
void draft_drop_empty(struct drafts *d, struct draft *s);
must_check int draft_split(struct draft *s, double t);
must_check int draft_set(char **field, struct text value); /* a clean copy */
int store_no_memory(struct err *err);
int store_bad_line(struct err *err, size_t line, const char *fmt, ...) printf_like(3, 4);
size_t store_line_of(const char *text, size_t at); /* 1 … */

/* ---- finishing (finish.c, lives.c) ------------------------------------------------------------------------------------ */

/* Fills ret->series from the drafts. -EBADMSG where nothing is left. */
must_check int drafts_finish(struct drafts *d, struct recording *ret);

struct lives_input {
	const double *cells; /* finished */
	size_t width, row_count;
	const enum metric *metrics;
	const double *splits; /* on the axis of the cells, ascending or not */
	size_t split_count;
	bool cpu_derived;
	double usual_gap_s; /* median spacing; 0 unknown */
};

struct lives {
	struct recorded_life *list;
	size_t count, cap;
	enum metric counter; /* that fell first; METRIC_COUNT: none did */
	bool by_split, by_level;
	size_t sawteeth; /* falls that look like restarts but come regularly */
};

must_check int lives_find(const struct lives_input *in, struct lives *ret); /* 0 or -ENOMEM */
#define GAP_FACTOR 10.0 /* a gap is long if it is more than that many times the usual spacing */

/* ---- formats: each reads the whole text into drafts; 0 or -errno with d->err set --------------------------------------- */

int store_read_csv(struct text text, struct drafts *d);
int store_read_mprof(struct text text, struct drafts *d);
int store_read_massif(struct text text, struct drafts *d);
int store_read_psrecord(struct text text, struct drafts *d);
int store_read_prometheus(struct text text, struct drafts *d);
int store_read_stream(struct text text, struct drafts *d);
/* *ret_snapshot: the document, where there is just one. */
int store_read_report(struct text text, struct drafts *d, struct snapshot **ret_snapshot);

bool psrecord_is_csv(struct text header);

#endif
