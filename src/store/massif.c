/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Valgrind's massif.out:
 *
 *     desc: --time-unit=ms
 *     cmd: ./server --once
 *     time_unit: ms
 *     #-----------
 *     snapshot=0
 *     #-----------
 *     time=0
 *     mem_heap_B=0
 *     mem_heap_extra_B=0
 *     mem_stacks_B=0
 *     heap_tree=empty
 *
 * Where time is not counted in milliseconds but in instructions (i) or allocated bytes (B), the time axis is that count, scaled: 10^9
 * instructions, or one MiB, are one "second". A note says so. It is no count of work beside the time: it is the time. Trees are skipped.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "private.h"

enum { FIELD_TIME, FIELD_HEAP, FIELD_EXTRA, FIELD_STACKS, FIELD_COUNT };

static const char *const field_names[FIELD_COUNT] = { "time=", "mem_heap_B=", "mem_heap_extra_B=", "mem_stacks_B=" };

static const struct massif_unit {
	const char *name;
	double scale;
	const char *told; /* NULL: it is time */
} units[] = {
	{ "ms", 1e-3, NULL },
	{ "i", 1e-9, "instructions: 10^9 of them stand for a second" },
	{ "B", 1.0 / 1048576, "bytes allocated and freed: a MiB stands for a second" },
};

struct massif {
	struct drafts *d;
	const struct massif_unit *unit;
	enum metric heap; /* --pages-as-heap=yes counts what was taken from the kernel */
	bool open;        /* within a snapshot */
	double field[FIELD_COUNT];
	size_t snapshot_line;
};

static int add_snapshot(struct massif *m)
{
	struct draft *s = &m->d->list[0];
	double *row;
	int heap;
	int r;

	if (!m->open)
		return 0;
	m->open = false;
	if (isnan(m->field[FIELD_TIME]) || isnan(m->field[FIELD_HEAP]))
		return store_bad_line(m->d->err, m->snapshot_line, "a snapshot without 'time=' and 'mem_heap_B='");
	heap = draft_column(s, m->heap);
	if (heap < 0 || (m->field[FIELD_STACKS] > 0 && draft_column(s, METRIC_STACK) < 0))
		return store_no_memory(m->d->err);
	r = draft_row(m->d, s, m->field[FIELD_TIME] * m->unit->scale, &row);
	if (r < 0)
		return r;
	row[heap] = m->field[FIELD_HEAP] + (isnan(m->field[FIELD_EXTRA]) ? 0 : m->field[FIELD_EXTRA]);
	if (s->column_of[METRIC_STACK] > 0)
		row[s->column_of[METRIC_STACK]] = m->field[FIELD_STACKS];
	return 0;
}

static int set_unit(struct massif *m, struct text value, size_t line)
{
	char clean[CLEAN_BYTES];

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (piece_is(value, units[i].name)) {
			m->unit = &units[i];
			m->d->list[0].counted_time = units[i].told != NULL;
			return units[i].told ? drafts_note(m->d, "the time axis counts %s", units[i].told) : 0;
		}
	return store_bad_line(m->d->err, line, "unknown time_unit '%s': expected ms, i or B",
			      piece_clean(value, clean, sizeof(clean)));
}

static int set_command(struct massif *m, struct text value)
{
	const char *blank = value.len > 0 ? memchr(value.at, ' ', value.len) : NULL;
	const char *slash;

	if (blank)
		value.len = (size_t)(blank - value.at);
	slash = value.len > 0 ? memrchr(value.at, '/', value.len) : NULL;
	if (slash)
		value = (struct text){ slash + 1, value.len - (size_t)(slash + 1 - value.at) };
	return draft_set(&m->d->list[0].comm, value) < 0 ? store_no_memory(m->d->err) : 0;
}

static struct text behind(struct text line, const char *prefix)
{
	size_t len = strlen(prefix);

	return piece_trim((struct text){ line.at + len, line.len - len });
}

static int read_field(struct massif *m, struct text line, size_t number)
{
	char clean[CLEAN_BYTES];

	for (size_t i = 0; i < FIELD_COUNT; i++) {
		struct text value;

		if (!piece_begins(line, field_names[i]))
			continue;
		value = behind(line, field_names[i]);
		if (!store_number(value, &m->field[i]) || !(m->field[i] >= 0 && m->field[i] <= 0x1p64))
			return store_bad_line(m->d->err, number, "'%s' is not a number (%.*s)",
					      piece_clean(value, clean, sizeof(clean)), (int)strlen(field_names[i]) - 1,
					      field_names[i]);
		if (i == FIELD_TIME && m->field[i] * m->unit->scale > TIME_MAX_S)
			return store_bad_line(m->d->err, number, "a time that cannot be");
		return 0;
	}
	return 0; /* the lines of a tree, and what later versions may add */
}

static int read_line(struct massif *m, struct text line, size_t number)
{
	int r;

	if (piece_begins(line, "snapshot=")) {
		r = add_snapshot(m);
		m->open = true;
		m->snapshot_line = number;
		for (size_t i = 0; i < FIELD_COUNT; i++)
			m->field[i] = NAN;
		return r;
	}
	if (m->open)
		return read_field(m, line, number);
	if (piece_begins(line, "time_unit:"))
		return set_unit(m, behind(line, "time_unit:"), number);
	if (piece_begins(line, "cmd:"))
		return set_command(m, behind(line, "cmd:"));
	if (piece_begins(line, "desc:") && piece_has(line, "--pages-as-heap=yes"))
		m->heap = METRIC_HEAP_MAPPED;
	return 0;
}

int store_read_massif(struct text text, struct drafts *d)
{
	struct massif m = { .d = d, .unit = &units[0], .heap = METRIC_HEAP_IN_USE };
	struct text line;
	struct draft *s;
	size_t number = 0;
	bool ended = true;
	int r = drafts_get(d, TEXT(""), &s);

	while (r == 0 && piece_line(&text, &line, &ended))
		r = read_line(&m, line, ++number);
	if (r == 0 && m.open &&
	    (isnan(m.field[FIELD_TIME]) || isnan(m.field[FIELD_HEAP]) || isnan(m.field[FIELD_EXTRA]) ||
	     (!ended && isnan(m.field[FIELD_STACKS]))))
		return drafts_note(d, "line %zu: the last snapshot is cut off: left out", m.snapshot_line);
	if (r == 0)
		r = add_snapshot(&m);
	d->list[0].from_start = r == 0;
	d->list[0].ended = r == 0; /* Valgrind writes the file when the program ends */
	d->list[0].joined = true;  /* the peak is written beside the snapshot of the same time */
	return r;
}
