/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Drafts: series while they are read. Bounded by RECORDING_ROWS_MAX and RECORDING_SERIES_MAX. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#include "memwatch/base/vec.h"

#define NOTES_MAX 64 /* of a file: what is left out is named, not listed without end */

int store_no_memory(struct err *err)
{
	return err_set(err, ENOMEM, "out of memory while reading a recording");
}

int store_bad_line(struct err *err, size_t line, const char *fmt, ...)
{
	char what[ERR_MSG_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(err, EBADMSG, "line %zu: %s", line, what);
}

size_t store_line_of(const char *text, size_t at)
{
	size_t line = 1;

	for (size_t i = 0; i < at; i++)
		line += text[i] == '\n';
	return line;
}

void drafts_init(struct drafts *d, enum recording_format format, struct err *err)
{
	*d = (struct drafts){ .format = format, .err = err };
	map_init(&d->by_key);
}

static void draft_deinit(struct draft *s)
{
	free(s->key);
	free(s->label);
	free(s->comm);
	free(s->cells);
	free(s->splits);
}

void drafts_deinit(struct drafts *d)
{
	for (size_t i = 0; i < d->count; i++)
		draft_deinit(&d->list[i]);
	free(d->list);
	for (size_t i = 0; i < d->note_count; i++)
		str_deinit(&d->notes[i]);
	free(d->notes);
	map_deinit(&d->by_key);
}

int drafts_note(struct drafts *d, const char *fmt, ...)
{
	char text[ERR_MSG_BYTES];
	va_list ap;

	if (d->note_count == NOTES_MAX)
		return 0;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (vec_reserve(&d->notes, &d->note_cap, d->note_count + 1, sizeof(*d->notes)) < 0)
		return store_no_memory(d->err);
	str_init(&d->notes[d->note_count]);
	str_add(&d->notes[d->note_count], text);
	if (str_status(&d->notes[d->note_count++]) < 0)
		return store_no_memory(d->err);
	return 0;
}

/* FNV-1a: the keys are compared as well, so that a clash costs time only. */
static uint64_t hash(struct text t)
{
	uint64_t h = 14695981039346656037ULL;

	for (size_t i = 0; i < t.len; i++)
		h = (h ^ (unsigned char)t.at[i]) * 1099511628211ULL;
	return h;
}

static int draft_add(struct drafts *d, struct text key, uint64_t slot, struct draft **ret)
{
	struct draft *s;

	if (d->count == RECORDING_SERIES_MAX)
		return err_set(d->err, E2BIG, "more than %d series in one file: split it", RECORDING_SERIES_MAX);
	if (vec_reserve(&d->list, &d->cap, d->count + 1, sizeof(*d->list)) < 0)
		return store_no_memory(d->err);
	s = &d->list[d->count];
	memset(s, 0, sizeof(*s));
	for (size_t m = 0; m < METRIC_COUNT; m++)
		s->column_of[m] = -1;
	s->key = malloc(key.len + 1);
	if (!s->key)
		return store_no_memory(d->err);
	if (key.len > 0)
		memcpy(s->key, key.at, key.len);
	s->key[key.len] = '\0';
	if (map_put(&d->by_key, slot, d->count) < 0) {
		free(s->key);
		return store_no_memory(d->err);
	}
	d->count++;
	*ret = s;
	return 0;
}

int drafts_get(struct drafts *d, struct text key, struct draft **ret)
{
	uint64_t slot;
	uint64_t index;

	key.len = strnlen(key.at, key.len); /* keys are kept as C strings */
	for (slot = hash(key); map_get(&d->by_key, slot, &index); slot++)
		if (strlen(d->list[index].key) == key.len && memcmp(d->list[index].key, key.at, key.len) == 0) {
			*ret = &d->list[index];
			return 0;
		}
	return draft_add(d, key, slot, ret);
}

/* A wider table: rows move from the last to the first, so that none is overwritten before it was moved. */
static int widen(struct draft *s)
{
	size_t width = s->metric_count + 1;
	size_t need;

	if (__builtin_mul_overflow(s->row_count, width + 1, &need) ||
	    vec_reserve(&s->cells, &s->cell_cap, need, sizeof(*s->cells)) < 0)
		return -ENOMEM;
	for (size_t row = s->row_count; row > 0; row--) {
		memmove(s->cells + (row - 1) * (width + 1), s->cells + (row - 1) * width, width * sizeof(*s->cells));
		s->cells[(row - 1) * (width + 1) + width] = NAN;
	}
	return 0;
}

int draft_column(struct draft *s, enum metric metric)
{
	if (s->column_of[metric] >= 0)
		return s->column_of[metric];
	if (s->row_count > 0 && widen(s) < 0)
		return -ENOMEM;
	s->metrics[s->metric_count++] = metric;
	s->column_of[metric] = (int)s->metric_count;
	return s->column_of[metric];
}

int draft_row(struct drafts *d, struct draft *s, double t, double **ret)
{
	size_t width = s->metric_count + 1;
	double *row;

	if (d->row_total == RECORDING_ROWS_MAX)
		return err_set(d->err, E2BIG, "more than %zu rows in one file: split it, or keep every tenth row",
			       RECORDING_ROWS_MAX);
	if (vec_reserve(&s->cells, &s->cell_cap, (s->row_count + 1) * width, sizeof(*s->cells)) < 0)
		return store_no_memory(d->err);
	row = s->cells + s->row_count * width;
	row[0] = t;
	for (size_t i = 1; i < width; i++)
		row[i] = NAN;
	s->row_count++;
	d->row_total++;
	*ret = row;
	return 0;
}

void draft_drop_empty(struct drafts *d, struct draft *s)
{
	const double *row = s->cells + (s->row_count - 1) * (s->metric_count + 1);

	for (size_t i = 1; i <= s->metric_count; i++)
		if (!isnan(row[i]))
			return;
	s->row_count--;
	d->row_total--;
	s->empty_count++;
}

int draft_split(struct draft *s, double t)
{
	if (vec_reserve(&s->splits, &s->split_cap, s->split_count + 1, sizeof(*s->splits)) < 0)
		return -ENOMEM;
	s->splits[s->split_count++] = t;
	return 0;
}

int draft_set(char **field, struct text value)
{
	size_t size = value.len + 1;
	char *copy = malloc(size + 3);

	if (!copy)
		return -ENOMEM;
	piece_clean(value, copy, size + 3);
	free(*field);
	*field = copy;
	return 0;
}
