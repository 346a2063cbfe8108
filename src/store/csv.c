/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CSV: rows. See the header store.h for what is read, csv_header.c for the first line. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

#include "memwatch/base/clock.h"

static void csv_deinit(struct csv *c)
{
	drafts_deinit(&c->groups);
	free(c->columns);
	free(c->order);
	free(c->order_begin);
	free(c->drafts);
	free(c->cells);
	str_deinit(&c->key);
}

static int bad_cell(struct csv *c, size_t line, size_t column, const char *what)
{
	char cell[CLEAN_BYTES];
	char title[CLEAN_BYTES];

	return store_bad_line(c->d->err, line, "'%s' is not %s (column %s)",
			      piece_clean(c->cells[column], cell, sizeof(cell)), what,
			      piece_clean(piece_unquote(c->columns[column].title), title, sizeof(title)));
}

/* The first time tells how all are written. */
static bool set_time(struct csv *c, struct text t)
{
	int64_t ns;
	double v;
	bool epoch;

	if (store_time_parse_date(t, &ns)) {
		c->d->base_ns = ns;
		c->time_is_date = true;
	} else if (store_number(t, &v) && !isnan(v)) {
		c->time_scale = c->columns[c->time_column].name.scale;
		if (c->time_scale > 0)
			epoch = store_time_is_epoch(v * c->time_scale);
		else
			c->time_scale = store_time_scale(v, &epoch);
		if (epoch && v * c->time_scale < (double)INT64_MAX / (double)NS_PER_S) {
			c->d->base_ns = (int64_t)(v * c->time_scale * (double)NS_PER_S);
			c->time_first = v;
		}
	} else {
		return false;
	}
	c->time_is_set = true;
	return true;
}

static int read_time(struct csv *c, size_t line, double *ret)
{
	struct text t = piece_unquote(c->cells[c->time_column]);
	int64_t ns;
	double v;

	*ret = NAN;
	if (store_number(t, &v) && isnan(v))
		return 0;
	if (!c->time_is_set && !set_time(c, t))
		return bad_cell(c, line, c->time_column,
				"a time: expected seconds, or a date such as 2026-11-20T12:10:25Z");
	if (c->time_is_date) {
		if (!store_time_parse_date(t, &ns))
			return bad_cell(c, line, c->time_column, "a date, as the first time is");
		*ret = (double)(ns - c->d->base_ns) / (double)NS_PER_S;
		return 0;
	}
	if (!store_number(t, &v))
		return bad_cell(c, line, c->time_column, "a number, as the first time is");
	v = (v - c->time_first) * c->time_scale;
	if (!(fabs(v) <= TIME_MAX_S))
		return bad_cell(c, line, c->time_column, "a time that can be");
	*ret = v;
	return 0;
}

/* A series' draft begins with the columns of its group. */
static int begin_draft(struct csv *c, const struct draft *group, struct draft *s)
{
	for (size_t i = 0; i < group->metric_count; i++)
		if (draft_column(s, group->metrics[i]) < 0)
			return store_no_memory(c->d->err);
	s->cpu_percent = group->cpu_percent;
	s->work_unit = group->work_unit;
	if (group->pid > 0)
		s->pid = group->pid;
	return 0;
}

static int set_labels(struct csv *c, struct draft *s)
{
	for (size_t i = 0; i < c->column_count; i++) {
		double pid;

		if (c->columns[i].role != CSV_LABEL)
			continue;
		if (c->columns[i].is_comm && draft_set(&s->comm, piece_unquote(c->cells[i])) < 0)
			return store_no_memory(c->d->err);
		if (c->columns[i].is_pid && store_number(piece_unquote(c->cells[i]), &pid) && pid >= 1 &&
		    pid <= INT32_MAX)
			s->pid = (pid_t)pid;
	}
	return draft_set(&s->label, (struct text){ str_text(&c->key), c->key.len }) < 0 ? store_no_memory(c->d->err) :
											  0;
}

/* "web-1", "srv pid 7", behind them what the header says of the columns */
static int make_key(struct csv *c, const struct draft *group)
{
	str_reset(&c->key);
	for (size_t i = 0; i < c->column_count; i++) {
		struct text t;

		if (c->columns[i].role != CSV_LABEL)
			continue;
		t = piece_unquote(c->cells[i]);
		if (c->key.len > 0)
			str_addc(&c->key, ' ');
		if (c->columns[i].is_pid)
			str_add(&c->key, "pid ");
		str_addn(&c->key, t.at, t.len);
	}
	if (*group->key)
		str_addf(&c->key, " %s", group->key);
	return str_status(&c->key) < 0 ? store_no_memory(c->d->err) : 0;
}

static int find_draft(struct csv *c, size_t g, struct draft **ret)
{
	const struct draft *group = &c->groups.list[g];
	struct draft *s = NULL;
	int r;

	if (c->label_count == 0) {
		*ret = &c->d->list[c->drafts[g]];
		return 0;
	}
	r = make_key(c, group);
	if (r == 0)
		r = drafts_get(c->d, (struct text){ str_text(&c->key), c->key.len }, &s);
	if (r == 0 && s->metric_count == 0) {
		r = begin_draft(c, group, s);
		if (r == 0)
			r = set_labels(c, s);
	}
	if (r == 0)
		*ret = s;
	return r;
}

static int read_cells(struct csv *c, size_t line, size_t g, struct draft *s, double *row)
{
	for (size_t i = c->order_begin[g]; i < c->order_begin[g + 1]; i++) {
		const struct csv_column *col = &c->columns[c->order[i]];
		struct text t = c->cells[c->order[i]];
		double v;

		if (!store_number(t, &v)) {
			t = piece_unquote(t);
			if (!store_number(t, &v))
				return bad_cell(c, line, c->order[i], "a number");
		}
		if (v < 0) /* -1 is how some tools write that they do not know */
			v = NAN;
		s->unknown_count += isnan(v) ? 1 : 0;
		row[col->at] = v * col->name.scale;
	}
	return 0;
}

static int read_row(struct csv *c, size_t line)
{
	double t;
	int r = read_time(c, line, &t);

	if (r < 0)
		return r;
	c->timeless_count += isnan(t) ? 1 : 0;
	for (size_t g = 0; g < c->groups.count && !isnan(t); g++) {
		struct draft *s = NULL;
		double *row;
		size_t unknown;

		r = find_draft(c, g, &s);
		if (r < 0)
			return r;
		r = draft_row(c->d, s, t, &row);
		if (r < 0)
			return r;
		unknown = s->unknown_count;
		r = read_cells(c, line, g, s, row);
		if (r < 0)
			return r;
		if (s->unknown_count - unknown < s->metric_count)
			continue;
		s->unknown_count = unknown;
		draft_drop_empty(c->d, s);
	}
	return 0;
}

/* Every series of a header without label columns is there from the begin. */
static int begin_drafts(struct csv *c)
{
	for (size_t g = 0; g < c->groups.count && c->label_count == 0; g++) {
		struct draft *s;
		int r = drafts_get(c->d, (struct text){ c->groups.list[g].key, strlen(c->groups.list[g].key) }, &s);

		if (r < 0)
			return r;
		r = begin_draft(c, &c->groups.list[g], s);
		if (r < 0)
			return r;
		c->drafts[g] = (size_t)(s - c->d->list);
	}
	return 0;
}

/* The number of cells is right, or one too many is empty. */
static bool is_whole(const struct csv *c, struct text line, size_t count)
{
	return count == c->column_count ||
	       (count == c->column_count + 1 && c->sep != ' ' && line.len > 0 && line.at[line.len - 1] == c->sep);
}

/* A line that is cut is told from a malformed one by the newline that it lacks. */
static int read_line(struct csv *c, struct text line, size_t number, bool ended)
{
	bool open;
	size_t count = csv_split(c, line, false, c->cells, c->column_count, &open);
	struct err *err = c->d->err;

	if (open || !is_whole(c, line, count)) {
		if (!ended && (open || count < c->column_count))
			return drafts_note(c->d, "line %zu, the last one, is cut off: left out", number);
		return open ? store_bad_line(err, number, "a quote is not closed") :
			      store_bad_line(err, number, "%zu column%s where the header has %zu", count,
					     count == 1 ? "" : "s", c->column_count);
	}
	return read_row(c, number);
}

static struct text first_word(struct text t)
{
	size_t len = 0;

	while (len < t.len && !memchr(",;\t ", t.at[len], 4))
		len++;
	return (struct text){ t.at, len };
}

/* The first line that is neither empty nor a comment; a comment right above numbers is the header, as NumPy writes it. */
static bool find_header(struct text *rest, struct text *ret, size_t *number)
{
	struct text comment = { NULL, 0 };
	struct text line;
	struct text before = *rest;
	size_t comment_number = 0;
	bool ended;
	double v;

	for (; piece_line(rest, &line, &ended); before = *rest) {
		struct text trimmed = piece_trim(line);

		++*number;
		if (trimmed.len == 0)
			continue;
		if (*trimmed.at == '#') {
			comment = piece_trim((struct text){ trimmed.at + 1, trimmed.len - 1 });
			comment_number = *number;
			continue;
		}
		if (comment.len > 0 && comment_number + 1 == *number && store_number(first_word(trimmed), &v) &&
		    !isnan(v)) {
			*rest = before;
			line = comment;
			*number = comment_number;
		}
		*ret = line;
		return true;
	}
	return false;
}

static int read_rows(struct csv *c, struct text rest)
{
	struct text line;
	size_t number = 0;
	bool ended;
	int r;

	if (!find_header(&rest, &line, &number))
		return err_set(c->d->err, EBADMSG, "empty: a CSV recording begins with a header such as 't,rss'");
	r = csv_header(c, line, number);
	if (r == 0)
		r = begin_drafts(c);
	while (r == 0 && piece_line(&rest, &line, &ended)) {
		struct text trimmed = piece_trim(line);

		number++;
		if (trimmed.len > 0 && *trimmed.at != '#')
			r = read_line(c, line, number, ended);
	}
	if (r == 0 && c->timeless_count > 0)
		r = drafts_note(c->d, "%zu row%s without a time left out", c->timeless_count,
				c->timeless_count == 1 ? "" : "s");
	return r;
}

int store_read_csv(struct text text, struct drafts *d)
{
	struct csv c = { .d = d, .key = STR_INIT };
	int r;

	drafts_init(&c.groups, RECORDING_CSV, d->err);
	r = read_rows(&c, text);
	csv_deinit(&c);
	return r;
}
