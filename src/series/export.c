/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The table for the report. Rows stand at times of the densest metrics' thinned points, so that their extremes have a
 * row of their own; every other metric gives the newest value that became known since the row before.
 */
#include "memwatch/series.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "series-priv.h"

static int compare_times(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Which metric gives the rows where RSS was never read: the one with most values. */
static enum metric densest(const struct series *s)
{
	enum metric best = METRIC_RSS;

	for (size_t m = 0; m < METRIC_COUNT && s->tracks[METRIC_RSS].known == 0; m++)
		if (s->tracks[m].known > s->tracks[best].known)
			best = (enum metric)m;
	return best;
}

static size_t add_times(const struct series *s, enum metric m, size_t cap, struct point *scratch, double *times)
{
	size_t count = cap > 0 ? series_points(s, m, -INFINITY, INFINITY, scratch, cap) : 0;

	for (size_t i = 0; i < count; i++)
		times[i] = scratch[i].t_s;
	return count;
}

/*
 * A quarter of the rows for the extremes of the heap, the rest for the densest metric. Returns the number of distinct
 * times.
 */
static int pick_times(const struct series *s, size_t max_rows, double **ret_times, size_t *ret_count)
{
	size_t for_heap = s->tracks[METRIC_HEAP_IN_USE].known > 0 ? max_rows / 4 : 0;
	cleanup_free struct point *scratch = calloc(max_rows + 1, sizeof(*scratch));
	cleanup_free double *times = calloc(max_rows + 1, sizeof(*times));
	size_t count, unique = 0;

	if (!scratch || !times)
		return -ENOMEM;
	count = add_times(s, densest(s), max_rows - for_heap, scratch, times);
	count += add_times(s, METRIC_HEAP_IN_USE, for_heap, scratch, times + count);
	qsort(times, count, sizeof(*times), compare_times);
	for (size_t i = 0; i < count; i++)
		if (unique == 0 || times[i] > times[unique - 1])
			times[unique++] = times[i];
	*ret_times = take_ptr(&times);
	*ret_count = unique;
	return 0;
}

static void fill_column(const struct track *track, size_t column, struct table *table)
{
	struct track_walk w;
	struct point p;
	size_t row = 0;

	track_walk_init(&w, track, -INFINITY, INFINITY);
	while (track_walk_next(&w, &p)) {
		while (row < table->row_count && table->cells[row * table->column_count] < p.t_s)
			row++;
		if (row == table->row_count)
			break;
		table->cells[row * table->column_count + column] = p.v;
	}
}

int series_export(const struct series *s, size_t max_rows, struct arena *arena, struct table *ret)
{
	cleanup_free double *times = NULL;
	struct table table = { .column_count = 1 };
	size_t column = 1;
	int err = pick_times(s, max_rows, &times, &table.row_count);

	if (err < 0)
		return err;
	for (size_t m = 0; m < METRIC_COUNT; m++)
		table.column_count += s->tracks[m].known > 0;
	table.columns = arena_array(arena, table.column_count, sizeof(*table.columns));
	table.cells = arena_array(arena, table.row_count * table.column_count + 1, sizeof(*table.cells));
	if (!table.columns || !table.cells)
		return -ENOMEM;
	for (size_t i = 0; i < table.row_count * table.column_count; i++)
		table.cells[i] = i % table.column_count == 0 ? times[i / table.column_count] : NAN;
	table.columns[0] = "t_s";
	for (size_t m = 0; m < METRIC_COUNT; m++) {
		if (s->tracks[m].known == 0)
			continue;
		table.columns[column] = metric_table[m].name;
		fill_column(&s->tracks[m], column++, &table);
	}
	*ret = table;
	return 0;
}
