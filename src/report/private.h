/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Shared by the writers and the reader of this folder.
 *
 * What stands in the JSON is described once, in field tables (fields.c): the writer and the reader both go through them, so
 * that a report that is read back says what it said. cJSON appears in json_build.h, never here.
 */
#ifndef MEMWATCH_SRC_REPORT_PRIVATE_H
#define MEMWATCH_SRC_REPORT_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/str.h"
#include "memwatch/model.h"
#include "memwatch/report.h"

#define REPORT_SCHEMA "memwatch-report/1"
#define STREAM_SCHEMA "memwatch-stream/1"

/* ---- values as text (value.c) ---------------------------------------------------------------------------------------- */

/* Decodes one character and steps *text behind it; false for a byte that starts no valid UTF-8 (one byte is skipped). */
bool utf8_next(const char **text, uint32_t *ret);
/* Columns of a text that report_add_clean() made: characters, wide ones count once. */
size_t text_columns(const char *text);
/* For terminals: control characters, direction marks and bad UTF-8 become U+FFFD, or '?' where unicode is false. NULL: "". */
void report_add_clean(struct str *out, const char *text, bool unicode);
/* Same, cut to `columns` with an ellipsis; 0: not cut. */
void report_add_cut(struct str *out, const char *text, size_t columns, bool unicode);
/* A quoted JSON string; NULL is null. */
void report_add_json_text(struct str *out, const char *text);
/* Shortest form that reads back the same; "null" for what is not finite. Whole numbers up to 2^53 have no exponent. */
void report_add_number(struct str *out, double value);
/* Fixed decimals, whatever the locale; "unknown" for what is not finite. */
void report_add_fixed(struct str *out, double value, int decimals);
/* Decimals for three significant digits, two at most. */
int report_decimals(double value);
/* "2026-11-20T12:10:25.123Z" back to ns since the epoch. */
bool report_parse_rfc3339(const char *text, int64_t *ret_ns);
const char *report_basename(const char *path);

/* A value and its unit, so that an interval can be printed in the unit of its middle. */
struct scale {
	double divisor;
	const char *unit;
};
struct scale scale_bytes(double bytes);
struct scale scale_seconds(double seconds);

#define CYCLE_QUARTERS (sizeof(((struct cycle_fit *)NULL)->quarters) / sizeof(struct cycle_quarter))

/* ---- field tables (fields.c) ----------------------------------------------------------------------------------------- */

enum field_type {
	FIELD_U64,    /* UNKNOWN_U64 is null */
	FIELD_U32,    /* UINT32_MAX is null */
	FIELD_LINE,   /* uint32_t, 0 is null */
	FIELD_PID,    /* pid_t, below 1 is null */
	FIELD_DOUBLE, /* NaN is null */
	FIELD_TEXT,   /* NULL is null */
	FIELD_BOOL,
	FIELD_ADDRESS,  /* uint64_t as "0x…" */
	FIELD_INTERVAL, /* {value, low, high} */
	FIELD_RANGE,    /* struct interval as {low, mid, high} */
	FIELD_WALL,     /* int64_t ns since the epoch as RFC 3339; below 1 is null */
	FIELD_NS,       /* uint64_t ns as seconds */
	FIELD_ENUM,     /* index into names */
	FIELD_ENUM_0,   /* same, 0 is null */
	FIELD_METRIC,   /* enum metric by its name */
};

struct field {
	const char *key; /* NULL ends the table */
	enum field_type type;
	size_t offset;
	const char *const *names; /* FIELD_ENUM, FIELD_ENUM_0 */
	uint32_t name_count;
};

extern const struct field target_fields[], named_part_fields[], session_fields[], gap_fields[], cost_fields[];
extern const struct field verdict_fields[], evidence_fields[], action_fields[], forecast_fields[], metric_fields[];
extern const struct field work_fields[], work_prediction_fields[], cycle_fields[], cycle_quarter_fields[];
extern const struct field heap_fields[], heap_fragmentation_fields[], heap_walk_fields[], arena_fields[],
	size_class_fields[];
extern const struct field runtime_fields[];
extern const struct field site_fields[], frame_fields[], mapping_fields[];
extern const char *const region_class_names[REGION_CLASS_COUNT];

/* ---- text (text_block.c) --------------------------------------------------------------------------------------------- */

/* Words of a paragraph: breaks before an item that would pass the width, and indents what follows. */
struct flow {
	struct str *out;
	unsigned width; /* 0: one line */
	size_t indent;
	size_t column;
};
void flow_begin(struct flow *f, struct str *out, const struct report_style *style, const char *head, size_t indent);
/* The separator is left out after a break, but for its last `keep` bytes ("<- "). */
void flow_add(struct flow *f, const char *separator, size_t keep, const char *item);
void flow_end(struct flow *f);

/* Where the values of "where:", "limit:", "work:", "cost:" and "do:" begin */
#define BLOCK_INDENT 10

/* What the block says of one process: verdict, evidence, where, limit. */
void report_add_findings(const struct process_entry *p, const struct report_style *style, struct str *out);
/* "leak (suspected)" */
void report_add_class(struct str *out, const struct verdict *v);
/* The lines of memory against work, and of cycles; nothing where it is not known (text_work.c). */
void report_add_work(const struct work_fit *w, const struct report_style *style, struct str *out);
void report_add_cycles(const struct cycle_fit *c, const struct report_style *style, struct str *out);
/* The size classes that grow most or whose blocks were followed; nothing where there are none. */
void report_add_size_classes(const struct heap_stats *h, struct str *out);
/* The runtime's accounts, of an entry that has them (text_runtime.c). */
void report_add_runtime(const struct process_entry *p, const struct report_style *style, struct str *out);
enum runtime_unit report_figure_unit(const char *name);
/* "1,234,567" */
void report_add_count(struct str *out, double count);
/* "1,000 rows over 2.8 h, every 10 s" */
void report_add_extent(const struct session_info *s, struct str *out);
/* The escape sequence for the verdict's colour; "" without colours. */
const char *report_class_color(const struct verdict *v, const struct report_style *style);
#define COLOR_OFF "\033[0m"
/* Index of the innermost frame that is not the C library's or an allocator's; 0 where all are. */
size_t site_first_shown(const struct site *s);
/* What is behind the last frame: NULL, or "truncated" and the like. */
const char *site_end_note(const struct site *s);
/* "cache.c:118", "libfoo.so+0x12"; whole_path: with its folder. Nothing where the function's name says it already. */
void report_add_place(struct str *out, const struct frame *f, bool whole_path, bool unicode);

#endif
