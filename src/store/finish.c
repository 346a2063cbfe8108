/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From drafts to series: sorted, the same time once, columns that hold something, counters that do not fall, lives, notes. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#include "memwatch/base/clock.h"
#include "memwatch/base/units.h"

#define SPACINGS_MAX 255     /* looked at for the usual one, spread over the series */
#define WORK_FALLS_PART 0.05 /* of the rows: more falls are no resets, the column holds amounts per interval */
#define WORK_FALLS_MIN 3
#define SERIES_NOTES_MAX 16
#define VALUE_MAX 1e30 /* greater ones are no measurement, and sums of them would overflow */
#define RUNG "recording"

struct finisher {
	struct drafts *d;
	struct draft *s;
	struct arena *arena;
	struct recorded_series *out;
	size_t width;
	size_t swapped, repeated; /* rows */
	size_t gap_count;
	double usual_gap_s, longest_gap_s, longest_at_s;
	size_t work_falls;
	bool work_summed;
	size_t dropped_columns;
	struct gap notes[SERIES_NOTES_MAX];
	size_t note_count;
	bool failed; /* out of memory while a note was made */
};

static void note(struct finisher *f, const char *text)
{
	f->failed |= !text;
	if (text && f->note_count < SERIES_NOTES_MAX)
		f->notes[f->note_count++] = (struct gap){ RUNG, text, NULL };
}

static const char *plural(size_t count)
{
	return count == 1 ? "" : "s";
}

/* ---- rows ------------------------------------------------------------------------------------------------------------- */

struct ordered {
	double t;
	size_t row;
};

static int by_time(const void *a, const void *b)
{
	const struct ordered *x = a;
	const struct ordered *y = b;

	if (x->t != y->t)
		return x->t < y->t ? -1 : 1;
	return (x->row > y->row) - (x->row < y->row);
}

/* *ret NULL: the rows are in order. A row is out of order if its time is before the latest above it. */
static int order_rows(struct finisher *f, struct ordered **ret)
{
	const struct draft *s = f->s;
	size_t width = s->metric_count + 1;
	double latest = -INFINITY;
	struct ordered *order;

	for (size_t i = 0; i < s->row_count; i++) {
		f->swapped += s->cells[i * width] < latest;
		latest = fmax(latest, s->cells[i * width]);
	}
	if (f->swapped == 0)
		return 0;
	order = malloc(s->row_count * sizeof(*order));
	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < s->row_count; i++)
		order[i] = (struct ordered){ s->cells[i * width], i };
	qsort(order, s->row_count, sizeof(*order), by_time);
	*ret = order;
	return 0;
}

/* Columns that are known somewhere; their numbers in the draft go to kept[]. */
static size_t kept_columns(struct finisher *f, size_t kept[METRIC_COUNT])
{
	const struct draft *s = f->s;
	size_t count = 0;

	for (size_t c = 1; c <= s->metric_count; c++) {
		size_t row = 0;

		while (row < s->row_count && isnan(s->cells[row * (s->metric_count + 1) + c]))
			row++;
		if (row < s->row_count)
			kept[count++] = c;
	}
	f->dropped_columns = s->metric_count - count;
	return count;
}

/* Copies the rows in order; of the same time, what is known last holds. */
static int copy_rows(struct finisher *f, const struct ordered *order, const size_t *kept, size_t count)
{
	const struct draft *s = f->s;
	struct recorded_series *out = f->out;
	enum metric *metrics = arena_array(f->arena, count, sizeof(*metrics));
	double *to = NULL;
	double t0;

	f->width = count + 1;
	out->metric_count = count;
	out->metrics = metrics;
	out->cells = arena_array(f->arena, s->row_count, f->width * sizeof(*out->cells));
	if (!metrics || !out->cells)
		return -ENOMEM;
	for (size_t c = 0; c < count; c++)
		metrics[c] = s->metrics[kept[c] - 1];
	t0 = s->cells[(order ? order[0].row : 0) * (s->metric_count + 1)];
	for (size_t i = 0; i < s->row_count; i++) {
		const double *from = s->cells + (order ? order[i].row : i) * (s->metric_count + 1);
		bool same = to && from[0] - t0 <= to[0];

		f->repeated += same;
		if (!same) {
			to = out->cells + out->row_count++ * f->width;
			to[0] = from[0] - t0;
		}
		for (size_t c = 0; c < count; c++)
			if (!same || !isnan(from[kept[c]]))
				to[c + 1] = from[kept[c]] <= VALUE_MAX ? from[kept[c]] : NAN;
	}
	if (f->d->base_ns != 0 && fabs(t0) < (double)INT64_MAX / (double)NS_PER_S &&
	    __builtin_add_overflow(f->d->base_ns, (int64_t)(t0 * (double)NS_PER_S), &out->begin_wall_ns))
		out->begin_wall_ns = 0;
	for (size_t i = 0; i < s->split_count; i++)
		s->splits[i] -= t0;
	return 0;
}

static double *cell(const struct finisher *f, size_t row, size_t column)
{
	return f->out->cells + row * f->width + column;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void find_gaps(struct finisher *f)
{
	double spacings[SPACINGS_MAX];
	size_t rows = f->out->row_count;
	size_t count = rows < 2 ? 0 : rows - 1 < SPACINGS_MAX ? rows - 1 : SPACINGS_MAX;

	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++) {
		size_t row = count < SPACINGS_MAX ? i : (size_t)((double)i * (double)(rows - 2) / (SPACINGS_MAX - 1));

		spacings[i] = *cell(f, row + 1, 0) - *cell(f, row, 0);
	}
	qsort(spacings, count, sizeof(*spacings), by_value);
	f->usual_gap_s = spacings[count / 2];
	for (size_t row = 1; row < rows; row++) {
		double dt = *cell(f, row, 0) - *cell(f, row - 1, 0);

		if (dt <= GAP_FACTOR * f->usual_gap_s)
			continue;
		f->gap_count++;
		if (dt > f->longest_gap_s) {
			f->longest_gap_s = dt;
			f->longest_at_s = *cell(f, row - 1, 0);
		}
	}
}

/* ---- columns ---------------------------------------------------------------------------------------------------------- */

/* The column of a metric in the result; 0: none. */
static size_t column_of(const struct finisher *f, enum metric metric)
{
	for (size_t c = 0; c < f->out->metric_count; c++)
		if (f->out->metrics[c] == metric)
			return c + 1;
	return 0;
}

/* Each percentage is of the time since the row before. */
static void integrate_cpu(struct finisher *f)
{
	size_t c = column_of(f, METRIC_CPU);
	double percent = NAN;
	double sum = 0;

	if (!f->s->cpu_percent || c == 0)
		return;
	f->s->cpu_derived = true;
	for (size_t row = 0; row < f->out->row_count; row++) {
		double *v = cell(f, row, c);

		if (!isnan(*v))
			percent = *v;
		if (row > 0 && !isnan(percent))
			sum += percent / 100 * (*cell(f, row, 0) - *cell(f, row - 1, 0));
		*v = isnan(*v) ? NAN : sum;
	}
}

/* Amounts per interval become a running total. Resets of a total are left to hold_work(). */
static void sum_work(struct finisher *f)
{
	size_t c = column_of(f, METRIC_WORK);
	double last = NAN;
	double total = 0;
	size_t known = 0;
	size_t falls = 0;

	if (c == 0)
		return;
	for (size_t row = 0; row < f->out->row_count; row++) {
		double v = *cell(f, row, c);

		if (isnan(v))
			continue;
		known++;
		falls += v < last;
		last = v;
	}
	if (falls < WORK_FALLS_MIN || (double)falls <= WORK_FALLS_PART * (double)known)
		return;
	f->work_summed = true;
	for (size_t row = 0; row < f->out->row_count; row++) {
		double *v = cell(f, row, c);

		if (!isnan(*v))
			*v = total += *v;
	}
}

/* Within a life the count of work goes on where the program set it back. */
static void hold_work(struct finisher *f, const struct recorded_life *life)
{
	size_t c = column_of(f, METRIC_WORK);
	double last = NAN;
	double offset = 0;

	for (size_t row = life->first; c > 0 && row < life->first + life->count; row++) {
		double *v = cell(f, row, c);
		double raw = *v;

		if (isnan(raw))
			continue;
		if (raw < last) {
			offset += last;
			f->work_falls++;
		}
		last = raw;
		*v = raw + offset;
	}
}

/* ---- notes ------------------------------------------------------------------------------------------------------------ */

static void note_rows(struct finisher *f)
{
	const struct draft *s = f->s;

	if (f->swapped > 0 && !s->joined)
		note(f, arena_printf(f->arena, "%zu row%s went back in time: the rows were sorted", f->swapped,
				     plural(f->swapped)));
	if (f->repeated > 0 && !s->joined)
		note(f, arena_printf(f->arena, "%zu row%s had the time of another: the last one holds", f->repeated,
				     plural(f->repeated)));
	if (s->unknown_count > 0 && !s->sparse)
		note(f, arena_printf(f->arena, "%zu value%s not known", s->unknown_count,
				     s->unknown_count == 1 ? " is" : "s are"));
	if (s->zero_count > 0)
		note(f, arena_printf(f->arena, "%zu value%s of a process that had ended left out", s->zero_count,
				     plural(s->zero_count)));
	if (s->empty_count > 0 && !s->sparse)
		note(f, arena_printf(f->arena, "%zu row%s without any value left out", s->empty_count,
				     plural(s->empty_count)));
}

static void note_gaps(struct finisher *f)
{
	cleanup_str struct str text = STR_INIT;

	if (f->gap_count == 0)
		return;
	str_addf(&text, "%zu gap%s longer than %g times the usual ", f->gap_count, plural(f->gap_count), GAP_FACTOR);
	units_add_duration(&text, f->usual_gap_s);
	str_add(&text, f->gap_count == 1 ? ": " : ", the longest ");
	units_add_duration(&text, f->longest_gap_s);
	str_add(&text, " after ");
	units_add_duration(&text, f->longest_at_s);
	note(f, str_status(&text) < 0 ? NULL : arena_strdup(f->arena, str_text(&text)));
}

static void note_lives(struct finisher *f, const struct lives *l)
{
	cleanup_str struct str text = STR_INIT;
	size_t restarts = l->count - 1;

	if (l->sawteeth > 0)
		note(f, arena_printf(f->arena, "%zu falls to where it began come regularly: a sawtooth, not restarts",
				     l->sawteeth));
	if (restarts == 0)
		return;
	str_addf(&text, "%zu restart%s (", restarts, plural(restarts));
	if (l->counter != METRIC_COUNT)
		str_addf(&text, "%s falls", metric_table[l->counter].name);
	if (l->by_split)
		str_addf(&text, "%sanother program", l->counter != METRIC_COUNT ? ", " : "");
	if (l->by_level)
		str_addf(&text, "%sthe memory falls to where it began",
			 l->counter != METRIC_COUNT || l->by_split ? ", " : "");
	str_add(&text, restarts == 1 ? ") at " : "), the first at ");
	units_add_duration(&text, *cell(f, l->list[1].first, 0));
	str_add(&text, ": each life is judged by itself");
	note(f, str_status(&text) < 0 ? NULL : arena_strdup(f->arena, str_text(&text)));
}

static void note_columns(struct finisher *f)
{
	if (f->dropped_columns > 0 && !f->s->sparse)
		note(f, arena_printf(f->arena, "%zu column%s without any value left out", f->dropped_columns,
				     plural(f->dropped_columns)));
	if (f->s->cpu_derived)
		note(f, "cpu_s is summed up from percentages");
	if (f->work_summed)
		note(f, "work_units falls too often for a count: taken as amounts per interval and summed up");
	if (f->work_falls > 0)
		note(f, arena_printf(f->arena, "work_units is set back %zu time%s without a restart: counted on",
				     f->work_falls, plural(f->work_falls)));
}

static int copy_notes(struct finisher *f)
{
	struct drafts *d = f->d;
	size_t count = f->note_count + d->note_count;

	if (f->failed)
		return -ENOMEM;
	f->out->notes = arena_array(f->arena, count, sizeof(*f->out->notes));
	if (!f->out->notes)
		return -ENOMEM;
	for (size_t i = 0; i < d->note_count; i++) {
		const char *text = arena_strdup(f->arena, str_text(&d->notes[i]));

		if (!text)
			return -ENOMEM;
		f->out->notes[i] = (struct gap){ RUNG, text, NULL };
	}
	for (size_t i = 0; i < f->note_count; i++)
		f->out->notes[d->note_count + i] = f->notes[i];
	f->out->note_count = count;
	return 0;
}

/* ---- series ----------------------------------------------------------------------------------------------------------- */

static int finish_lives(struct finisher *f)
{
	struct recorded_series *out = f->out;
	struct lives_input in = { .cells = out->cells,
				  .width = f->width,
				  .row_count = out->row_count,
				  .metrics = out->metrics,
				  .splits = f->s->splits,
				  .split_count = f->s->split_count,
				  .cpu_derived = f->s->cpu_derived,
				  .usual_gap_s = f->usual_gap_s };
	struct lives lives;
	int r = lives_find(&in, &lives);

	if (r < 0)
		return r;
	note_lives(f, &lives);
	out->lives = arena_memdup(f->arena, lives.list, lives.count * sizeof(*lives.list));
	out->life_count = out->lives ? lives.count : 0;
	free(lives.list);
	for (size_t i = 0; i < out->life_count; i++)
		hold_work(f, &out->lives[i]);
	return out->lives ? 0 : -ENOMEM;
}

static int finish_texts(struct finisher *f)
{
	struct recorded_series *out = f->out;
	const struct draft *s = f->s;

	out->label = arena_strdup(f->arena, s->label ? s->label : s->key);
	out->comm = s->comm && *s->comm ? arena_strdup(f->arena, s->comm) : NULL;
	out->work_unit =
		column_of(f, METRIC_WORK) > 0 ? arena_strdup(f->arena, s->work_unit ? s->work_unit : "unit") : NULL;
	out->pid = s->pid;
	out->from_start = s->from_start;
	out->ended = s->ended;
	out->counted_time = s->counted_time;
	return !out->label || (s->comm && *s->comm && !out->comm) ||
			       (column_of(f, METRIC_WORK) > 0 && !out->work_unit) ?
		       -ENOMEM :
		       0;
}

/* 0, 1 where nothing of it is known, -ENOMEM */
static int finish_series(struct drafts *d, struct draft *s, struct arena *arena, struct recorded_series *out)
{
	struct finisher f = { .d = d, .s = s, .arena = arena, .out = out };
	cleanup_free struct ordered *order = NULL;
	size_t kept[METRIC_COUNT];
	size_t count = kept_columns(&f, kept);

	if (count == 0)
		return 1;
	if (order_rows(&f, &order) < 0 || copy_rows(&f, order, kept, count) < 0)
		return -ENOMEM;
	free(s->cells); /* so that not all of them stand in memory twice */
	s->cells = NULL;
	find_gaps(&f);
	integrate_cpu(&f);
	sum_work(&f);
	note_rows(&f);
	note_gaps(&f);
	if (finish_lives(&f) < 0)
		return -ENOMEM;
	note_columns(&f);
	if (finish_texts(&f) < 0)
		return -ENOMEM;
	return copy_notes(&f);
}

int drafts_finish(struct drafts *d, struct recording *ret)
{
	size_t empty = 0;
	size_t count = 0;

	for (size_t i = 0; i < d->count; i++) {
		size_t kept[METRIC_COUNT];
		struct finisher f = { .s = &d->list[i] };

		empty += kept_columns(&f, kept) == 0;
	}
	if (d->count == 0 || empty == d->count)
		return err_set(d->err, EBADMSG, "no values: a %s recording needs at least one row with a value",
			       recording_format_names[d->format]);
	if (empty > 0 && drafts_note(d, "%zu series without any value left out", empty) < 0)
		return -ENOMEM;
	ret->series = arena_array(&ret->arena, d->count - empty, sizeof(*ret->series));
	if (!ret->series)
		return store_no_memory(d->err);
	for (size_t i = 0; i < d->count; i++) {
		int r = finish_series(d, &d->list[i], &ret->arena, &ret->series[count]);

		if (r < 0)
			return store_no_memory(d->err);
		count += r == 0;
	}
	ret->series_count = count;
	if (count == 1)
		ret->series[0].label = "";
	return 0;
}
