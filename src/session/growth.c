/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/growth.h"

#include <math.h>
#include <string.h>

#define MARKS_ENOUGH 8  /* with these a Mann-Kendall score can reach … */
#define SCORE_MIN 3.0   /* … one in 700: some hundred classes are tested */
#define STILL_SHARE 0.1 /* of all its growth a class must have made in the last third: else it has stopped */
#define WARM_SHARE 0.2
#define WARM_MAX_S 30.0

static void take_mark(struct class_growth *g)
{
	if (g->mark_count > 0 && g->t_s - g->mark_t_s[g->mark_count - 1] < g->spacing_s)
		return;
	if (g->mark_count == CLASS_GROWTH_MARKS) { /* every second one stays */
		for (size_t i = 1; i < CLASS_GROWTH_MARKS / 2; i++) {
			g->mark_t_s[i] = g->mark_t_s[2 * i];
			memcpy(g->marks[i], g->marks[2 * i], sizeof(g->marks[i]));
		}
		g->mark_count = CLASS_GROWTH_MARKS / 2;
		g->spacing_s = (g->mark_t_s[g->mark_count - 1] - g->mark_t_s[0]) / (CLASS_GROWTH_MARKS / 2 - 1);
	}
	g->mark_t_s[g->mark_count] = g->t_s;
	memcpy(g->marks[g->mark_count], g->bytes, sizeof(g->bytes));
	g->mark_count++;
}

/* The walks past the warm-up; the newest may be the mark taken last, else it comes behind the marks. */
struct course {
	const uint64_t *bytes[CLASS_GROWTH_MARKS + 1]; /* of all classes */
	double t_s[CLASS_GROWTH_MARKS + 1];
	size_t count;
};

static void course_of(const struct class_growth *g, struct course *ret)
{
	double warm = WARM_SHARE * (g->t_s - g->opened_s),
	       since = g->opened_s + (warm < WARM_MAX_S ? warm : WARM_MAX_S);

	ret->count = 0;
	for (size_t i = 0; i < g->mark_count; i++) {
		if (g->mark_t_s[i] < since || g->mark_t_s[i] >= g->t_s)
			continue;
		ret->bytes[ret->count] = g->marks[i];
		ret->t_s[ret->count++] = g->mark_t_s[i];
	}
	ret->bytes[ret->count] = g->bytes;
	ret->t_s[ret->count++] = g->t_s;
}

/* Mean over the walks [from, to) of a class. */
static double mean_bytes(const struct course *c, size_t index, size_t from, size_t to)
{
	double sum = 0.0;

	for (size_t i = from; i < to; i++)
		sum += (double)c->bytes[i][index];
	return sum / (double)(to - from);
}

static double mean_t(const struct course *c, size_t from, size_t to)
{
	double sum = 0.0;

	for (size_t i = from; i < to; i++)
		sum += c->t_s[i];
	return sum / (double)(to - from);
}

/* From the first third of the course to the last: bytes/s. */
static void measure_rates(struct class_growth *g, const struct course *c)
{
	size_t third = c->count < 3 ? 1 : c->count / 3, last = c->count - third;
	double span = mean_t(c, last, c->count) - mean_t(c, 0, third);

	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		g->rate[i] = span > 0.0 ? (mean_bytes(c, i, last, c->count) - mean_bytes(c, i, 0, third)) / span : 0.0;
}

static void rank_classes(struct class_growth *g)
{
	g->top_count = 0;
	memset(g->is_top, 0, sizeof(g->is_top));
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		size_t at = g->top_count;

		if (g->rate[i] <= 0.0 || g->blocks[i] == 0)
			continue;
		if (at == CLASS_GROWTH_TOP && g->rate[g->top[--at]] >= g->rate[i])
			continue;
		for (; at > 0 && g->rate[g->top[at - 1]] < g->rate[i]; at--)
			g->top[at] = g->top[at - 1];
		g->top[at] = (uint16_t)i;
		g->top_count += g->top_count < CLASS_GROWTH_TOP;
	}
	for (size_t i = 0; i < g->top_count; i++)
		g->is_top[g->top[i]] = true;
}

/* Mann-Kendall: how many standard deviations the sum of the signs of all differences lies above 0. */
static double score(const struct course *c, size_t index)
{
	double n = (double)c->count, sum = 0.0;

	for (size_t i = 0; i < c->count; i++)
		for (size_t j = i + 1; j < c->count; j++)
			sum += (c->bytes[j][index] > c->bytes[i][index]) - (c->bytes[j][index] < c->bytes[i][index]);
	return (sum - 1.0) / sqrt(n * (n - 1.0) * (2.0 * n + 5.0) / 18.0);
}

static bool still_grows(const struct course *c, size_t index)
{
	size_t third = c->count / 3, last = c->count - third;
	double first = mean_bytes(c, index, 0, third), middle = mean_bytes(c, index, third, last);
	double end = mean_bytes(c, index, last, c->count);

	return end - middle > STILL_SHARE * (end - first);
}

void class_growth_take(struct class_growth *g, double t_s, const struct heap_stats *heap)
{
	struct course course;

	g->t_s = t_s;
	memset(g->bytes, 0, sizeof(g->bytes));
	memset(g->blocks, 0, sizeof(g->blocks));
	for (size_t i = 0; i < heap->class_count; i++) {
		size_t index = heap_class_index(heap->classes[i].size);

		g->bytes[index] = heap->classes[i].in_use_bytes;
		g->blocks[index] = heap->classes[i].in_use_blocks;
	}
	take_mark(g);
	course_of(g, &course);
	measure_rates(g, &course);
	rank_classes(g);
}

bool class_growth_is_sure(const struct class_growth *g, size_t index)
{
	struct course c;

	course_of(g, &c);
	return c.count >= MARKS_ENOUGH && g->rate[index] * (g->t_s - c.t_s[0]) >= CLASS_GROWTH_MIN_BYTES &&
	       score(&c, index) >= SCORE_MIN && still_grows(&c, index);
}
