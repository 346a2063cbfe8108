/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CSV, between its header (csv_header.c) and its rows (csv.c). */
#ifndef MEMWATCH_SRC_STORE_CSV_H
#define MEMWATCH_SRC_STORE_CSV_H

#include "private.h"

struct csv_column {
	struct text title;
	enum { CSV_IGNORED, CSV_TIME, CSV_LABEL, CSV_METRIC } role;
	struct column_name name;
	struct text label;    /* in front of or behind the metric's name */
	bool is_pid, is_comm; /* CSV_LABEL */
	size_t group;
	int at; /* column in the group's drafts */
};

struct csv {
	struct drafts *d;
	struct drafts groups; /* one a label of the header; they hold no rows, but say which columns a series has */
	char sep;             /* ' ': runs of blanks */
	struct csv_column *columns;
	size_t column_count, column_cap;
	size_t *order; /* metric columns by group; order_begin[group] … order_begin[group + 1] */
	size_t *order_begin;
	size_t *drafts; /* of each group, where no column holds labels */
	size_t time_column;
	size_t label_count;
	struct text *cells; /* of the row */
	struct str key;
	/* time */
	bool time_is_set, time_is_date;
	double time_scale, time_first; /* of the column; time_first: what is subtracted before */
	size_t timeless_count;
};

/* Splits a line; *ret_open: a quote is not closed. Cells behind max are counted, not stored. Header: separators in {} are none. */
size_t csv_split(const struct csv *c, struct text line, bool header, struct text *cells, size_t max, bool *ret_open);
/* Reads the header line. */
int csv_header(struct csv *c, struct text line, size_t line_number);
char csv_separator(struct text header);

#endif
