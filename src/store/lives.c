/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where a recording goes from one process to its successor.
 *
 * Beyond doubt: a split that the format tells (exec, another start time), and a counter that falls. Counters of a process never do; a
 * loss below COUNTER_SLACK is rounding. Units of work are counted by the program, which may reset them: they count only together
 * with a fall of the memory.
 *
 * Without counters, by the level of the memory: a row at which it has fallen, within two samples, by most of what it had gained, to
 * where the life began and below all that was seen since. What comes back at once was a dip, what comes regularly is a
 * collector's or a cache's sawtooth, and where as many falls of that size do not lead to the beginning it is noise or a sawtooth that
 * rises: none of these splits.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "private.h"

#include "memwatch/base/vec.h"

#define COUNTER_SLACK 0.001
#define FALL_OF_LEVEL 0.3
#define FALL_OF_RANGE 0.5
#define FIRST_LEVEL_FACTOR 1.15
#define FIRST_LEVEL_ROWS                                                                                               \
	3 /* a life's first level is the highest of so many: the very first may be of a program half loaded */
#define START_PART 10       /* the first 1/10 of a life may be lower than where the next one begins */
#define BELOW_OF_RANGE 0.02 /* by which it must be below: more than the noise of a flat line */
#define LIFE_ROWS_MIN 8
#define ROWS_AFTER_MIN 3 /* fewer are the end of a process, not the begin of one */
#define DIP_RETURNS 0.9
#define ALIKE 0.6 /* a fall this part of the smallest candidate's speaks against it */
#define SAWTEETH_MIN 4
#define SAWTOOTH_VARIATION 0.35 /* standard deviation over mean of the spacing */

static double cell(const struct lives_input *in, size_t row, size_t column)
{
	return in->cells[row * in->width + column];
}

/* What only the process itself counts; the network's counters belong to a namespace that may outlive it. */
static bool proves(const struct lives_input *in, size_t column)
{
	enum metric m = in->metrics[column - 1];

	return metric_table[m].counter && m != METRIC_WORK && !(m == METRIC_CPU && in->cpu_derived);
}

static bool is_known_twice(const struct lives_input *in, size_t column)
{
	size_t known = 0;

	for (size_t row = 0; row < in->row_count && known < 2; row++)
		known += isnan(cell(in, row, column)) ? 0 : 1;
	return known == 2;
}

static bool has_proof(const struct lives_input *in)
{
	for (size_t c = 1; c < in->width; c++)
		if (proves(in, c) && in->metrics[c - 1] != METRIC_NET && is_known_twice(in, c))
			return true;
	return false;
}

/* The first of these that is known in at least half of the rows. 0: none. */
static size_t memory_column(const struct lives_input *in)
{
	static const enum metric order[] = { METRIC_RSS,         METRIC_PSS,         METRIC_ANON,        METRIC_CGROUP,
					     METRIC_HEAP_MAPPED, METRIC_HEAP_IN_USE, METRIC_RUNTIME_LIVE };

	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		for (size_t c = 1; c < in->width; c++) {
			size_t known = 0;

			if (in->metrics[c - 1] != order[i])
				continue;
			for (size_t row = 0; row < in->row_count; row++)
				known += isnan(cell(in, row, c)) ? 0 : 1;
			if (known * 2 >= in->row_count)
				return c;
		}
	return 0;
}

static int begin_life(struct lives *l, size_t row)
{
	if (vec_reserve(&l->list, &l->cap, l->count + 1, sizeof(*l->list)) < 0)
		return -ENOMEM;
	l->list[l->count++] = (struct recorded_life){ .first = row };
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Whether the memory at a row is well below that of the two known rows before. */
static bool memory_fell(const struct lives_input *in, size_t column, size_t row)
{
	double top = -1;
	size_t seen = 0;

	if (column == 0 || isnan(cell(in, row, column)))
		return false;
	for (size_t i = row; i > 0 && seen < 2; i--)
		if (!isnan(cell(in, i - 1, column))) {
			top = fmax(top, cell(in, i - 1, column));
			seen++;
		}
	return cell(in, row, column) <= (1 - FALL_OF_LEVEL) * top;
}

/* The first counter that is below its last known value at a row; 0: none. last[] is brought up to date. */
static size_t fallen_counter(const struct lives_input *in, size_t row, size_t memory, double *last)
{
	size_t fallen = 0;

	for (size_t c = 1; c < in->width; c++) {
		double v = cell(in, row, c);
		bool work = in->metrics[c - 1] == METRIC_WORK;

		if ((!proves(in, c) && !work) || isnan(v))
			continue;
		if (fallen == 0 && v < last[c] - COUNTER_SLACK * fabs(last[c]) &&
		    (!work || memory_fell(in, memory, row)))
			fallen = c;
		last[c] = v;
	}
	return fallen;
}

/* Splits and counters. `splits` ascending. */
static int find_certain(const struct lives_input *in, const double *splits, struct lives *l)
{
	double last[METRIC_COUNT + 1];
	size_t memory = memory_column(in);
	size_t next = 0;

	for (size_t c = 0; c < in->width; c++)
		last[c] = NAN;
	for (size_t row = 0; row < in->row_count; row++) {
		size_t counter = fallen_counter(in, row, memory, last);
		bool split = false;

		for (; next < in->split_count && splits[next] <= cell(in, row, 0); next++)
			split = true;
		if (row > 0 && !counter && !split)
			continue;
		if (counter && l->counter == METRIC_COUNT)
			l->counter = in->metrics[counter - 1];
		l->by_split |= row > 0 && split;
		if (begin_life(l, row) < 0)
			return -ENOMEM;
		for (size_t c = 1; c < in->width; c++) /* counters that are not known here begin anew as well */
			last[c] = counter ? cell(in, row, c) : last[c];
	}
	return 0;
}

/* ---- by the level of the memory --------------------------------------------------------------------------------------- */

struct candidate {
	size_t at; /* an index of its life's known values */
	size_t row;
	double t;
	double fall;
	bool after_gap;
};

struct level_scan {
	const struct lives_input *in;
	double *v;    /* known values of one life … */
	size_t *rows; /* … and their rows */
	size_t *low;  /* indices whose values ascend: the first is the minimum of the window */
	size_t low_first, low_count;
	size_t count;
	size_t begin; /* of the life that is looked at, an index */
	double min, max, first_level;
	struct candidate *found;
	size_t found_count, found_cap;
};

static void scan_restart(struct level_scan *s, size_t at)
{
	s->begin = at;
	s->min = s->max = s->first_level = s->v[at];
	s->low_first = s->low_count = 0;
}

/* Takes v[at] into the life's range and window. */
static void scan_take(struct level_scan *s, size_t at)
{
	size_t left = s->begin + (at + 1 - s->begin + START_PART - 1) / START_PART;

	s->min = fmin(s->min, s->v[at]);
	s->max = fmax(s->max, s->v[at]);
	if (at - s->begin < FIRST_LEVEL_ROWS)
		s->first_level = fmax(s->first_level, s->v[at]);
	while (s->low_count > s->low_first && s->v[s->low[s->low_count - 1]] >= s->v[at])
		s->low_count--;
	s->low[s->low_count++] = at;
	while (s->low_first < s->low_count && s->low[s->low_first] < left)
		s->low_first++;
}

/* By how much the memory is below the higher one of the two values before. */
static double fall_at(const struct level_scan *s, size_t at)
{
	return fmax(s->v[at - 1], s->v[at - 2]) - s->v[at];
}

static bool comes_back(const struct level_scan *s, size_t at, double top)
{
	for (size_t i = at + 1; i < s->count && i <= at + 2; i++)
		if (s->v[i] >= DIP_RETURNS * top)
			return true;
	return false;
}

static bool is_long_gap(const struct level_scan *s, size_t at)
{
	double dt = cell(s->in, s->rows[at], 0) - cell(s->in, s->rows[at - 1], 0);

	return s->in->usual_gap_s > 0 && dt > GAP_FACTOR * s->in->usual_gap_s;
}

static bool is_candidate(const struct level_scan *s, size_t at)
{
	double v = s->v[at];
	double range = s->max - s->min;
	double top;

	if (at - s->begin < LIFE_ROWS_MIN || s->count - at < ROWS_AFTER_MIN)
		return false;
	top = fmax(s->v[at - 1], s->v[at - 2]);
	if (top - v < FALL_OF_LEVEL * top || v > FIRST_LEVEL_FACTOR * s->first_level || comes_back(s, at, top))
		return false;
	if (is_long_gap(s, at))
		return true;
	return top - v >= FALL_OF_RANGE * range &&
	       (s->low_first == s->low_count || v < s->v[s->low[s->low_first]] - BELOW_OF_RANGE * range);
}

/*
 * Takes back what was found since `from` where noise or a rising sawtooth falls as far as often: values that follow each other are one
 * fall, and a fall that is a candidate or comes back at once does not count. What lies behind a gap was not seen to fall, and stays.
 */
static void drop_alike(struct level_scan *s, size_t from)
{
	double least = INFINITY;
	size_t own = 0;
	size_t others = 0;
	size_t next = from;
	size_t kept = from;

	for (size_t i = from; i < s->found_count; i++)
		if (!s->found[i].after_gap) {
			least = fmin(least, s->found[i].fall);
			own++;
		}
	for (size_t at = 2; own > 0 && at < s->count; at++) {
		bool counts = true;

		if (fall_at(s, at) < ALIKE * least)
			continue;
		for (; at < s->count && fall_at(s, at) >= ALIKE * least; at++) {
			while (next < s->found_count && s->found[next].at < at)
				next++;
			counts &= !(next < s->found_count && s->found[next].at == at) &&
				  !comes_back(s, at, fmax(s->v[at - 1], s->v[at - 2]));
		}
		others += counts ? 1 : 0;
	}
	if (own == 0 || others < own)
		return;
	for (size_t i = from; i < s->found_count; i++)
		if (s->found[i].after_gap)
			s->found[kept++] = s->found[i];
	s->found_count = kept;
}

static int scan_life(struct level_scan *s, size_t memory, size_t first, size_t end)
{
	size_t from = s->found_count;

	s->count = 0;
	for (size_t row = first; row < end; row++)
		if (!isnan(cell(s->in, row, memory))) {
			s->v[s->count] = cell(s->in, row, memory);
			s->rows[s->count++] = row;
		}
	if (s->count == 0)
		return 0;
	scan_restart(s, 0);
	for (size_t at = 0; at < s->count; at++) {
		if (is_candidate(s, at)) {
			if (vec_reserve(&s->found, &s->found_cap, s->found_count + 1, sizeof(*s->found)) < 0)
				return -ENOMEM;
			s->found[s->found_count++] = (struct candidate){ at, s->rows[at], cell(s->in, s->rows[at], 0),
									 fall_at(s, at), is_long_gap(s, at) };
			scan_restart(s, at);
		}
		scan_take(s, at);
	}
	drop_alike(s, from);
	return 0;
}

static bool is_sawtooth(const struct level_scan *s)
{
	double squares = 0;
	double n = (double)s->found_count - 1;
	double mean;

	if (s->found_count < SAWTEETH_MIN)
		return false;
	for (size_t i = 0; i < s->found_count; i++)
		if (s->found[i].after_gap)
			return false;
	mean = (s->found[s->found_count - 1].t - s->found[0].t) / n;
	for (size_t i = 1; i < s->found_count; i++) {
		double off = s->found[i].t - s->found[i - 1].t - mean;

		squares += off * off;
	}
	return sqrt(squares / (n - 1)) < SAWTOOTH_VARIATION * mean;
}

static int find_by_level(const struct lives_input *in, struct lives *l)
{
	struct level_scan s = { .in = in };
	cleanup_free double *v = NULL;
	cleanup_free size_t *rows = NULL;
	cleanup_free size_t *low = NULL;
	cleanup_free struct candidate *found = NULL;
	size_t memory = memory_column(in);
	size_t certain = l->count;
	int r = 0;

	if (memory == 0 || in->row_count < LIFE_ROWS_MIN)
		return 0;
	s.v = v = calloc(in->row_count, sizeof(*v));
	s.rows = rows = calloc(in->row_count, sizeof(*rows));
	s.low = low = calloc(in->row_count, sizeof(*low));
	if (!v || !rows || !low)
		return -ENOMEM;
	for (size_t i = 0; i < certain && r == 0; i++)
		r = scan_life(&s, memory, l->list[i].first, i + 1 < certain ? l->list[i + 1].first : in->row_count);
	found = s.found;
	if (r == 0 && is_sawtooth(&s)) {
		l->sawteeth = s.found_count;
		return 0;
	}
	l->by_level = r == 0 && s.found_count > 0;
	for (size_t i = 0; i < s.found_count && r == 0; i++)
		r = begin_life(l, s.found[i].row);
	return r;
}

static int by_first(const void *a, const void *b)
{
	size_t x = ((const struct recorded_life *)a)->first;
	size_t y = ((const struct recorded_life *)b)->first;

	return (x > y) - (x < y);
}

int lives_find(const struct lives_input *in, struct lives *ret)
{
	struct lives l = { .counter = METRIC_COUNT };
	cleanup_free double *splits = NULL;
	int r;

	if (in->split_count > 0) {
		splits = malloc(in->split_count * sizeof(*splits));
		if (!splits)
			return -ENOMEM;
		for (size_t i = 0; i < in->split_count; i++)
			splits[i] = in->splits[i];
		qsort(splits, in->split_count, sizeof(*splits), by_value);
	}
	r = find_certain(in, splits, &l);
	if (r == 0 && !has_proof(in))
		r = find_by_level(in, &l);
	if (r < 0) {
		free(l.list);
		return r;
	}
	if (l.by_level)
		qsort(l.list, l.count, sizeof(*l.list), by_first);
	for (size_t i = 0; i < l.count; i++)
		l.list[i].count = (i + 1 < l.count ? l.list[i + 1].first : in->row_count) - l.list[i].first;
	*ret = l;
	return 0;
}
