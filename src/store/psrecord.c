/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * psrecord's log. Its MB are 2^20 bytes. CPU (%) is of one core since the row before. Its counts of input and output sum up the
 * children that live at that time, so they fall without a restart: they are left out.
 *
 *     # Elapsed time   CPU (%)     Real (MB)   Virtual (MB)
 *            0.000        0.000       12.345      123.456
 *
 * Or, with --log-format csv: "elapsed_time,cpu,mem_real,mem_virtual", which with --include-io has no comma between the fourth and the
 * fifth column of the rows.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "private.h"

#define MIB_BYTES 1048576.0
#define COLUMNS_MAX 16
#define CSV_HEADER "elapsed_time,cpu,mem_real,mem_virtual"
#define CSV_GLUED 3 /* the column that is glued to the next one with --include-io */

struct psrecord_column {
	const char *title, *csv_title;
	enum metric metric;
	double scale;
};

static const struct psrecord_column titles[] = {
	{ "CPU (%)", "cpu", METRIC_CPU, 1 },
	{ "Real (MB)", "mem_real", METRIC_RSS, MIB_BYTES },
	{ "Virtual (MB)", "mem_virtual", METRIC_VIRTUAL, MIB_BYTES },
	{ "USS (MB)", "mem_uss", METRIC_ANON, MIB_BYTES },
	{ "Swap (MB)", "mem_swap", METRIC_SWAP, MIB_BYTES },
};

struct psrecord {
	struct drafts *d;
	bool csv;
	size_t count; /* columns behind the time */
	size_t glued; /* columns from here on are not read; SIZE_MAX: all are */
	double scale[COLUMNS_MAX];
	int column[COLUMNS_MAX]; /* 0: left out */
	bool has_header;
};

bool psrecord_is_csv(struct text header)
{
	return piece_begins(header, CSV_HEADER);
}

static int add_column(struct psrecord *p, struct text title, struct str *left_out)
{
	struct draft *s = &p->d->list[0];
	char clean[CLEAN_BYTES];

	if (p->count == COLUMNS_MAX)
		return 0;
	p->column[p->count] = 0;
	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++) {
		int c;

		if (!piece_is(title, p->csv ? titles[i].csv_title : titles[i].title) || p->count >= p->glued)
			continue;
		c = draft_column(s, titles[i].metric);
		if (c < 0)
			return store_no_memory(p->d->err);
		p->column[p->count] = c;
		p->scale[p->count++] = titles[i].scale;
		return 0;
	}
	str_addf(left_out, "%s'%s'", left_out->len > 0 ? ", " : "", piece_clean(title, clean, sizeof(clean)));
	p->count++;
	return 0;
}

/* Titles are centred in fields of 12: two blanks or more stand between them, single ones within. */
static struct text next_title(struct text *rest, bool csv)
{
	struct text t;
	size_t len = 0;

	*rest = piece_trim(*rest);
	while (len < rest->len && (csv ? rest->at[len] != ',' :
					 !(rest->at[len] == '\t' ||
					   (rest->at[len] == ' ' && len + 1 < rest->len && rest->at[len + 1] == ' '))))
		len++;
	t = piece_trim((struct text){ rest->at, len });
	len += csv && len < rest->len;
	*rest = (struct text){ rest->at + len, rest->len - len };
	return t;
}

static int read_header(struct psrecord *p, struct text line)
{
	cleanup_str struct str left_out = STR_INIT;
	int r = 0;

	p->csv = psrecord_is_csv(line);
	p->glued = p->csv && piece_has(line, "mem_virtual,read_count") ? CSV_GLUED - 1 : SIZE_MAX;
	if (!p->csv)
		line = (struct text){ line.at + 1, line.len - 1 }; /* '#' */
	next_title(&line, p->csv);                                 /* the time */
	while (r == 0 && piece_trim(line).len > 0)
		r = add_column(p, next_title(&line, p->csv), &left_out);
	if (r < 0)
		return r;
	p->d->list[0].cpu_percent = p->d->list[0].column_of[METRIC_CPU] > 0;
	p->has_header = true;
	return left_out.len > 0 ? drafts_note(p->d, "columns left out: %s", str_text(&left_out)) : 0;
}

static struct text next_cell(struct text *rest, bool csv)
{
	struct text t;
	size_t len = 0;

	if (!csv)
		*rest = piece_trim(*rest);
	while (len < rest->len && rest->at[len] != (csv ? ',' : ' ') && (csv || rest->at[len] != '\t'))
		len++;
	t = piece_trim((struct text){ rest->at, len });
	len += csv && len < rest->len;
	*rest = (struct text){ rest->at + len, rest->len - len };
	return t;
}

static int read_row(struct psrecord *p, struct text line, size_t number, bool ended)
{
	size_t used = p->count < p->glued ? p->count : p->glued;
	struct draft *s = &p->d->list[0];
	struct text cell = { "", 0 };
	double values[COLUMNS_MAX + 1];
	char clean[CLEAN_BYTES];
	double *row;
	int r;

	for (size_t i = 0; i <= used; i++) {
		if (piece_trim(line).len == 0)
			return ended ? store_bad_line(p->d->err, number, "%zu columns where the header has %zu", i,
						      p->count + 1) :
				       drafts_note(p->d, "line %zu, the last one, is cut off: left out", number);
		cell = next_cell(&line, p->csv);
		if (!store_number(cell, &values[i]))
			return store_bad_line(p->d->err, number, "'%s' is not a number (column %zu)",
					      piece_clean(cell, clean, sizeof(clean)), i + 1);
	}
	if (!(fabs(values[0]) <= TIME_MAX_S))
		return store_bad_line(p->d->err, number, "the elapsed time is not known");
	r = draft_row(p->d, s, values[0], &row);
	if (r < 0)
		return r;
	for (size_t i = 0; i < used; i++)
		if (p->column[i] > 0) {
			bool known = values[i + 1] >= 0;

			s->unknown_count += !known;
			row[p->column[i]] = known ? values[i + 1] * p->scale[i] : NAN;
		}
	draft_drop_empty(p->d, s);
	return 0;
}

int store_read_psrecord(struct text text, struct drafts *d)
{
	struct psrecord p = { .d = d };
	struct text line;
	struct draft *s;
	size_t number = 0;
	bool ended;
	int r = drafts_get(d, TEXT(""), &s);

	while (r == 0 && piece_line(&text, &line, &ended)) {
		number++;
		line = piece_trim(line);
		if (line.len == 0)
			continue;
		if (!p.has_header && (*line.at == '#' ? piece_has(line, "Elapsed time") : psrecord_is_csv(line)))
			r = read_header(&p, line);
		else if (*line.at == '#')
			continue;
		else if (!p.has_header)
			r = store_bad_line(d->err, number, "expected psrecord's header '# Elapsed time   CPU (%%) …'");
		else
			r = read_row(&p, line, number, ended);
	}
	return r;
}
