/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Our own reports: one document, or one a line as `analyze --json` prints them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#include "memwatch/base/clock.h"
#include "memwatch/report.h"

/* A recording that begins so soon after its process began with it: the time that exec and the first sample take. */
#define START_NS_MAX ((int64_t)500 * (int64_t)NS_PER_MS)

static int make_label(const struct target_info *t, struct str *out)
{
	if (t->label && *t->label)
		str_add(out, t->label);
	else if (t->source && *t->source)
		str_add(out, t->source);
	else
		str_addf(out, "%s%spid %d", t->comm ? t->comm : "", t->comm ? " " : "", (int)t->id.pid);
	return str_status(out);
}

/* Reports of the same process are told from each other by their lines. */
static int get_series(struct drafts *d, const struct target_info *t, size_t line, struct draft **ret)
{
	cleanup_str struct str label = STR_INIT;
	struct draft *s = NULL;
	int r;

	if (make_label(t, &label) < 0)
		return store_no_memory(d->err);
	r = drafts_get(d, (struct text){ str_text(&label), label.len }, &s);
	if (r == 0 && s->label) {
		str_addf(&label, " (line %zu)", line);
		if (str_status(&label) < 0)
			return store_no_memory(d->err);
		r = drafts_get(d, (struct text){ str_text(&label), label.len }, &s);
	}
	if (r < 0)
		return r;
	if (draft_set(&s->label, (struct text){ str_text(&label), label.len }) < 0 ||
	    (t->comm && draft_set(&s->comm, (struct text){ t->comm, strlen(t->comm) }) < 0))
		return store_no_memory(d->err);
	s->pid = t->id.pid;
	s->ended = t->exited;
	s->sparse = true;
	*ret = s;
	return 0;
}

/* Which column of the table is which of the draft; 0: left out. */
static int map_columns(struct drafts *d, struct draft *s, const struct table *table, int *column)
{
	char clean[CLEAN_BYTES];

	for (size_t c = 1; c < table->column_count; c++) {
		enum metric m;

		column[c] = 0;
		if (table->columns[c] && name_metric(table->columns[c], &m)) {
			if (s->column_of[m] > 0)
				continue;
			column[c] = draft_column(s, m);
			if (column[c] < 0)
				return store_no_memory(d->err);
		} else {
			struct text t = { table->columns[c] ? table->columns[c] : "",
					  table->columns[c] ? strlen(table->columns[c]) : 0 };
			int r = drafts_note(d, "column left out: '%s'", piece_clean(t, clean, sizeof(clean)));

			if (r < 0)
				return r;
		}
	}
	return 0;
}

static int add_rows(struct drafts *d, struct draft *s, const struct snapshot *snapshot, size_t line)
{
	const struct table *table = &snapshot->series;
	cleanup_free int *column = calloc(table->column_count + 1, sizeof(*column));
	/* Sessions of one file may lie days apart: all times count from the first one's begin. */
	double begin_s = d->base_ns != 0 ?
				 ((double)snapshot->session.started_wall_ns - (double)d->base_ns) / (double)NS_PER_S :
				 0;
	int r = column ? map_columns(d, s, table, column) : store_no_memory(d->err);

	for (size_t i = 0; i < table->row_count && r == 0; i++) {
		const double *from = table->cells + i * table->column_count;
		double *row;

		if (!(fabs(from[0]) <= TIME_MAX_S))
			return store_bad_line(d->err, line, "row %zu of the series has no time", i + 1);
		r = draft_row(d, s, from[0] + begin_s, &row);
		for (size_t c = 1; c < table->column_count && r == 0; c++)
			if (column[c] > 0 && from[c] >= 0)
				row[column[c]] = from[c];
		if (r == 0)
			draft_drop_empty(d, s);
	}
	return r;
}

static int add_report(struct drafts *d, const struct snapshot *snapshot, size_t line)
{
	const struct target_info *t = &snapshot->main.target;
	int64_t began = snapshot->session.started_wall_ns;
	struct draft *s = NULL;
	int r;

	if (snapshot->process_count > 1) {
		r = drafts_note(d, "%zu of %zu processes of the report left out: it holds no series of theirs",
				snapshot->process_count - 1, snapshot->process_count);
		if (r < 0)
			return r;
	}
	if (snapshot->series.row_count == 0 || snapshot->series.column_count < 2)
		return drafts_note(d, "line %zu: a report without a series left out", line);
	if (d->count == 0 && began > 0)
		d->base_ns = began;
	r = get_series(d, t, line, &s);
	if (r < 0)
		return r;
	s->from_start = began > 0 && t->start_wall_ns > 0 && began - t->start_wall_ns < START_NS_MAX &&
			t->start_wall_ns - began < START_NS_MAX;
	return add_rows(d, s, snapshot, line);
}

/* One document: its first line is no whole object, or nothing follows. */
static bool is_one_document(struct text text)
{
	struct text line;
	bool ended;

	while (piece_line(&text, &line, &ended)) {
		line = piece_trim(line);
		if (line.len == 0)
			continue;
		if (line.at[line.len - 1] != '}' || line.len < 2)
			return true;
		while (text.len > 0 && (*text.at == '\n' || *text.at == '\r' || *text.at == ' ' || *text.at == '\t')) {
			text.at++;
			text.len--;
		}
		return text.len == 0;
	}
	return true;
}

static int read_lines(struct text text, struct drafts *d)
{
	struct text line;
	size_t number = 0;
	bool ended;
	int r = 0;

	while (r == 0 && piece_line(&text, &line, &ended)) {
		struct snapshot snapshot;
		struct err err = ERR_INIT;

		number++;
		line = piece_trim(line);
		if (line.len == 0)
			continue;
		r = report_parse(line.at, line.len, &snapshot, &err);
		if (r == 0) {
			r = add_report(d, &snapshot, number);
			snapshot_deinit(&snapshot);
		} else if (r == -EBADMSG && !ended && number > 1) {
			r = drafts_note(d, "line %zu, the last one, is cut off: left out", number);
		} else {
			r = r == -EBADMSG ? store_bad_line(d->err, number, "%s", err.msg) :
					    err_set(d->err, -r, "%s", err.msg);
		}
	}
	return r;
}

int store_read_report(struct text text, struct drafts *d, struct snapshot **ret_snapshot)
{
	struct snapshot *snapshot;
	int r;

	if (!is_one_document(text))
		return read_lines(text, d);
	snapshot = malloc(sizeof(*snapshot));
	if (!snapshot)
		return store_no_memory(d->err);
	r = report_parse(text.at, text.len, snapshot, d->err);
	if (r < 0) {
		free(snapshot);
		return r;
	}
	r = add_report(d, snapshot, 1);
	if (r < 0) {
		snapshot_deinit(snapshot);
		free(snapshot);
		return r;
	}
	*ret_snapshot = snapshot;
	return 0;
}
