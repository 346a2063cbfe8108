/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The header line of a CSV file: which column is the time, which are labels, which metric of which series the others are. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "csv.h"

#include "memwatch/base/vec.h"

#define NAMES_LISTED 5 /* in a message */

char csv_separator(struct text header)
{
	size_t semicolons = 0;
	size_t commas = 0;
	size_t blanks = 0;
	bool quoted = false;
	size_t depth = 0;

	for (size_t i = 0; i < header.len; i++) {
		char ch = header.at[i];

		if (ch == '"')
			quoted = !quoted;
		if (quoted)
			continue;
		depth += ch == '{';
		depth -= ch == '}' && depth > 0;
		if (depth > 0)
			continue;
		if (ch == '\t')
			return '\t';
		semicolons += ch == ';';
		commas += ch == ',';
		blanks += ch == ' ';
	}
	return semicolons > 0 ? ';' : commas > 0 || blanks == 0 ? ',' : ' ';
}

/* Where the cell that begins at `at` ends. */
static size_t cell_end(const struct csv *c, struct text line, size_t at, bool header, bool *open)
{
	size_t depth = 0;

	if (line.at[at] == '"') {
		for (at++; at < line.len; at++) {
			if (line.at[at] != '"')
				continue;
			if (at + 1 == line.len || line.at[at + 1] != '"')
				break;
			at++;
		}
		*open |= at == line.len;
	}
	for (; at < line.len && (depth > 0 || line.at[at] != c->sep); at++) {
		if (header && line.at[at] == '{')
			depth++;
		else if (depth > 0 && line.at[at] == '}')
			depth--;
	}
	return at;
}

size_t csv_split(const struct csv *c, struct text line, bool header, struct text *cells, size_t max, bool *ret_open)
{
	bool blanks = c->sep == ' ';
	size_t count = 0;
	size_t at = 0;

	*ret_open = false;
	if (blanks)
		line = piece_trim(line);
	for (;;) {
		size_t end;

		while (at < line.len && line.at[at] == ' ')
			at++;
		end = at < line.len ? cell_end(c, line, at, header, ret_open) : at;
		if (count < max)
			cells[count] = (struct text){ line.at + at, end - at };
		count++;
		if (end == line.len)
			return count;
		at = end + 1;
	}
}

static bool is_label_name(const char *name, struct csv_column *col)
{
	static const char *const names[] = { "label", "instance", "series", "container", "container_name",
					     "pod",   "pod_name", "host",   "job",       "service",
					     "id" };
	static const char *const programs[] = { "name", "process", "comm", "command", "program", "process_name" };

	col->is_pid = strcmp(name, "pid") == 0;
	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		col->is_comm |= strcmp(name, programs[i]) == 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return col->is_pid || col->is_comm;
}

/* "web-1:rss", "rss{pid=7}", "rss" */
static bool lookup_labelled(struct csv_column *col)
{
	struct text t = piece_unquote(col->title);
	const char *brace = t.len > 0 ? memchr(t.at, '{', t.len) : NULL;
	const char *colon = t.len > 0 ? memrchr(t.at, ':', t.len) : NULL;

	if (name_lookup(t, &col->name))
		return true;
	if (brace && t.at[t.len - 1] == '}') {
		size_t at = (size_t)(brace - t.at);

		col->label = piece_trim((struct text){ brace + 1, t.len - at - 2 });
		return name_lookup((struct text){ t.at, at }, &col->name) && !col->name.is_time;
	}
	if (!colon)
		return false;
	col->label = piece_trim((struct text){ t.at, (size_t)(colon - t.at) });
	return name_lookup((struct text){ colon + 1, (size_t)(t.at + t.len - colon - 1) }, &col->name) &&
	       !col->name.is_time;
}

static void classify(struct csv *c, size_t index)
{
	struct csv_column *col = &c->columns[index];
	char name[NAME_BYTES];
	char unit[NAME_BYTES];

	col->label = (struct text){ "", 0 };
	name_fold(col->title, name, unit);
	if (is_label_name(name, col)) {
		col->role = CSV_LABEL;
		c->label_count++;
	} else if (lookup_labelled(col)) {
		col->role = !col->name.is_time ? CSV_METRIC : c->time_column == SIZE_MAX ? CSV_TIME : CSV_IGNORED;
		if (col->role == CSV_TIME)
			c->time_column = index;
	}
}

/* A series whose time index has no name, as pandas writes it. */
static void find_nameless_time(struct csv *c)
{
	struct text first = piece_unquote(c->columns[0].title);

	if (c->time_column != SIZE_MAX || c->columns[0].role != CSV_IGNORED ||
	    (first.len > 0 && !piece_is(first, "Unnamed: 0") && !piece_is(first, "index")))
		return;
	c->columns[0].role = CSV_TIME;
	c->columns[0].name = (struct column_name){ .is_time = true };
	c->time_column = 0;
}

static void pid_of_label(struct draft *s)
{
	char *end;
	long pid;

	if (strncmp(s->key, "pid=", 4) != 0 && strncmp(s->key, "pid ", 4) != 0)
		return;
	pid = strtol(s->key + 4, &end, 10);
	if (*end == '\0' && end > s->key + 4 && pid > 0 && pid <= INT32_MAX)
		s->pid = (pid_t)pid;
}

/* Gives a metric column its place in a group; what is there already in a better form is not taken twice. */
static int place_column(struct csv *c, struct csv_column *col)
{
	struct draft *group;
	char *label = NULL;
	int r = draft_set(&label, col->label);

	if (r == 0)
		r = drafts_get(&c->groups, (struct text){ label, strlen(label) }, &group);
	free(label);
	if (r < 0)
		return r == -ENOMEM ? store_no_memory(c->d->err) : r;
	if (group->column_of[col->name.metric] >= 0) {
		col->role = CSV_IGNORED;
		return 0;
	}
	col->at = draft_column(group, col->name.metric);
	if (col->at < 0)
		return store_no_memory(c->d->err);
	col->group = (size_t)(group - c->groups.list);
	group->cpu_percent |= col->name.percent;
	if (col->name.work_unit)
		group->work_unit = col->name.work_unit;
	pid_of_label(group);
	return 0;
}

static int place_columns(struct csv *c)
{
	size_t *fill;
	int r;

	for (int second = 0; second < 2; second++)
		for (size_t i = 0; i < c->column_count; i++) {
			struct csv_column *col = &c->columns[i];

			if (col->role != CSV_METRIC || (col->name.percent || col->name.prefer_other) != second)
				continue;
			r = place_column(c, col);
			if (r < 0)
				return r;
		}
	c->order = calloc(c->column_count, sizeof(*c->order));
	c->order_begin = calloc(c->groups.count + 3, sizeof(*c->order_begin));
	c->drafts = calloc(c->groups.count + 1, sizeof(*c->drafts));
	if (!c->order || !c->order_begin || !c->drafts)
		return store_no_memory(c->d->err);
	/* counting sort: fill[group] is the group's begin at first, and its end, the next one's begin, afterwards */
	fill = c->order_begin + 1;
	for (size_t i = 0; i < c->column_count; i++)
		if (c->columns[i].role == CSV_METRIC)
			fill[c->columns[i].group + 1]++;
	for (size_t g = 1; g <= c->groups.count; g++)
		fill[g] += fill[g - 1];
	for (size_t i = 0; i < c->column_count; i++)
		if (c->columns[i].role == CSV_METRIC)
			c->order[fill[c->columns[i].group]++] = i;
	return 0;
}

static void list_names(const struct csv *c, bool ignored, struct str *out)
{
	char clean[CLEAN_BYTES];
	size_t count = 0;

	for (size_t i = 0; i < c->column_count; i++) {
		struct text title = piece_unquote(c->columns[i].title);

		if (ignored && (c->columns[i].role != CSV_IGNORED || title.len == 0 || piece_is(title, "Unnamed: 0")))
			continue;
		if (++count <= NAMES_LISTED)
			str_addf(out, "%s'%s'", count > 1 ? ", " : "", piece_clean(title, clean, sizeof(clean)));
	}
	if (count > NAMES_LISTED)
		str_addf(out, " and %zu more", count - NAMES_LISTED);
}

static int check_header(struct csv *c, size_t line_number)
{
	cleanup_str struct str names = STR_INIT;
	double number;

	list_names(c, false, &names);
	if (store_number(piece_unquote(c->columns[0].title), &number) && !isnan(number))
		return store_bad_line(c->d->err, line_number,
				      "a row of numbers where the header should be: put one above, such as 't,rss'");
	if (c->time_column == SIZE_MAX)
		return store_bad_line(
			c->d->err, line_number,
			"no time column among %s: name it 't', 'time' or 'timestamp', with its unit unless "
			"it is seconds ('t_ms')",
			str_text(&names));
	if (c->groups.count == 0)
		return store_bad_line(
			c->d->err, line_number,
			"no column of a known metric among %s: name it 'rss', 'pss', 'heap_in_use', …, with "
			"its unit unless it is bytes ('rss_kb')",
			str_text(&names));
	return 0;
}

int csv_header(struct csv *c, struct text line, size_t line_number)
{
	cleanup_str struct str left_out = STR_INIT;
	bool open;
	int r;

	c->sep = csv_separator(line);
	c->time_column = SIZE_MAX;
	c->column_count = csv_split(c, line, true, NULL, 0, &open);
	c->columns = calloc(c->column_count, sizeof(*c->columns));
	c->cells = calloc(c->column_count, sizeof(*c->cells));
	if (!c->columns || !c->cells)
		return store_no_memory(c->d->err);
	if (open)
		return store_bad_line(c->d->err, line_number, "a quote in the header is not closed");
	csv_split(c, line, true, c->cells, c->column_count, &open);
	for (size_t i = 0; i < c->column_count; i++) {
		c->columns[i].title = c->cells[i];
		classify(c, i);
	}
	find_nameless_time(c);
	r = place_columns(c);
	if (r < 0)
		return r;
	r = check_header(c, line_number);
	if (r < 0)
		return r;
	list_names(c, true, &left_out);
	return left_out.len > 0 ? drafts_note(c->d, "columns left out: %s", str_text(&left_out)) : 0;
}
