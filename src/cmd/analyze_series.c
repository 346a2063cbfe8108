/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One recorded series: which part of it is judged, the judgement, and its description as a snapshot. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/analyze.h"
#include "memwatch/base/clock.h"
#include "memwatch/base/units.h"
#include "memwatch/series.h"
#include "memwatch/verdict.h"

#define LIFE_SHARE_MIN 0.5 /* the last life is judged when it is at least that long, compared with the longest */
#define SERIES_ROWS 2000   /* of the contract */
#define SPACINGS_MAX 255   /* as many give the median well enough, and cost little to sort */

static const double *row_of(const struct recorded_series *s, size_t row)
{
	return s->cells + row * (s->metric_count + 1);
}

/* ---- lives ------------------------------------------------------------------------------------------------------------ */

static double life_span(const struct recorded_series *s, const struct recorded_life *l)
{
	return l->count > 0 ? row_of(s, l->first + l->count - 1)[0] - row_of(s, l->first)[0] : 0;
}

/* The last life tells how the program is today, unless it has only just begun: then the longest. */
static size_t choose_life(const struct recorded_series *s)
{
	size_t longest = 0;
	size_t last = s->life_count - 1;

	for (size_t i = 1; i < s->life_count; i++)
		if (life_span(s, &s->lives[i]) >= life_span(s, &s->lives[longest]))
			longest = i;
	return life_span(s, &s->lives[last]) >= LIFE_SHARE_MIN * life_span(s, &s->lives[longest]) ? last : longest;
}

/* What was left out by the choice, as a note; NULL where there is one life only, or no memory. */
static const char *tell_lives(const struct recorded_series *s, size_t chosen, struct arena *arena)
{
	cleanup_str struct str text = STR_INIT;
	size_t restarts = s->life_count - 1;

	if (restarts == 0)
		return NULL;
	str_addf(&text, "%zu restart%s: judged the ", restarts, restarts == 1 ? "" : "s");
	str_add(&text, chosen == restarts ? "last" : "longest");
	str_add(&text, " life, ");
	units_add_duration(&text, life_span(s, &s->lives[chosen]));
	str_add(&text, " of ");
	units_add_duration(&text, row_of(s, s->row_count - 1)[0] - row_of(s, 0)[0]);
	return arena_strdup(arena, str_text(&text));
}

/* ---- the series ------------------------------------------------------------------------------------------------------- */

static int fill_series(const struct recorded_series *s, const struct recorded_life *l, struct series **ret)
{
	struct series *series = NULL;
	struct sample sample;
	double begin_s = l->count > 0 ? row_of(s, l->first)[0] : 0;
	int rc = series_create(&series);

	sample_init(&sample, 0);
	for (size_t i = 0; rc >= 0 && i < l->count; i++) {
		const double *row = row_of(s, l->first + i);

		sample.t_s = row[0] - begin_s;
		for (size_t m = 0; m < s->metric_count; m++)
			sample.v[s->metrics[m]] = row[1 + m];
		rc = series_add(series, &sample);
	}
	if (rc < 0)
		series_destroy(series);
	else
		*ret = series;
	return rc;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Seconds between rows; NaN for fewer than two. */
static double median_spacing(const struct recorded_series *s, const struct recorded_life *l)
{
	double spacings[SPACINGS_MAX];
	size_t gaps = l->count > 0 ? l->count - 1 : 0;
	size_t count = gaps < SPACINGS_MAX ? gaps : SPACINGS_MAX;

	for (size_t i = 0; i < count; i++) {
		size_t row = l->first + i * gaps / count;

		spacings[i] = row_of(s, row + 1)[0] - row_of(s, row)[0];
	}
	qsort(spacings, count, sizeof(*spacings), compare_doubles);
	return count > 0 ? spacings[count / 2] : NAN;
}

/* ---- limits ----------------------------------------------------------------------------------------------------------- */

/* What counts against a limit on memory: the last reading of the widest figure that is there. */
static double used_bytes(const struct series *series)
{
	static const enum metric wanted[] = { METRIC_RSS,         METRIC_PSS,    METRIC_ANON,        METRIC_HEAP_IN_USE,
					      METRIC_HEAP_MAPPED, METRIC_CGROUP, METRIC_RUNTIME_LIVE };
	struct point last;

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
		if (series_last(series, wanted[i], &last))
			return last.v;
	return NAN;
}

/*
 * What an own report counted against its limit is not in it (a cgroup's usage without its page cache, the whole machine's), but the
 * time until the limit and the rate are.
 */
static double used_by_report(const struct verdict *v, double fallback)
{
	double left = v->forecast.eta_s.value * v->slope_per_s.value;
	double used = (double)v->forecast.limit_bytes - left;

	return isfinite(used) && left >= 0 && used >= 0 ? used : fallback;
}

static bool choose_limit(const struct analyze_args *args, const struct recording *r, const struct series *series,
			 struct verdict_limit *ret)
{
	const struct verdict *reported = r->snapshot ? &r->snapshot->main.verdict : NULL;
	double used = used_bytes(series);

	if (args->limit_bytes > 0) {
		*ret = (struct verdict_limit){ args->limit_bytes, "--limit", used };
		return true;
	}
	if (!reported || !reported->forecast.known || reported->forecast.limit_bytes == UNKNOWN_U64)
		return false;
	*ret = (struct verdict_limit){ reported->forecast.limit_bytes, reported->forecast.limit_source,
				       used_by_report(reported, used) };
	return true;
}

/* ---- the judgement ---------------------------------------------------------------------------------------------------- */

static uint64_t hot_class(const struct heap_stats *heap)
{
	const struct heap_size_class *hot = NULL;

	for (size_t i = 0; heap && i < heap->class_count; i++)
		if (heap->classes[i].growth_per_s > (hot ? hot->growth_per_s : 0))
			hot = &heap->classes[i];
	return hot ? hot->size : 0;
}

/* The innermost frame of the first site that has a line: the program's own code. */
static const char *top_site(const struct process_entry *p)
{
	const struct site *site = p && p->site_count > 0 ? &p->sites[0] : NULL;

	for (size_t i = 0; site && i < site->frame_count; i++)
		if (site->frames[i].line > 0)
			return site->frames[i].function;
	return site && site->frame_count > 0 ? site->frames[0].function : NULL;
}

static int judge(const struct analyze_args *args, const struct recording *r, const struct recorded_series *s,
		 size_t life, const struct series *series, struct snapshot *ret)
{
	const struct process_entry *known = r->snapshot ? &r->snapshot->main : NULL;
	const struct heap_stats *heap = known && known->has_heap ? &known->heap : NULL;
	struct verdict_limit limit;
	bool limited = choose_limit(args, r, series, &limit);
	const struct verdict_input input = {
		.series = series,
		.pid = s->pid,
		.now_s = life_span(s, &s->lives[life]),
		.ended = s->ended || life + 1 < s->life_count,
		.from_start = s->from_start && life == 0,
		.heap = heap,
		.runtime = known ? known->target.runtime.name : NULL,
		.runtime_stats = known && known->has_runtime ? &known->runtime : NULL,
		.limits = &limit,
		.limit_count = limited ? 1 : 0,
		.top_site_function = top_site(known),
		.hot_class_size = hot_class(heap),
		.recorded = true,
		.counted_time = s->counted_time,
		.transient = args->expect != 0,
		.work_unit = s->work_unit,
	};

	if (limited)
		ret->limit_bytes = (double)limit.bytes;
	return verdict_judge(&input, &ret->arena, &ret->main.verdict);
}

/* ---- the snapshot ----------------------------------------------------------------------------------------------------- */

static void describe_target(const char *file, const struct recording *r, const struct recorded_series *s,
			    struct snapshot *ret)
{
	struct target_info *t = &ret->main.target;

	if (r->snapshot) {
		const struct process_entry *known = &r->snapshot->main;

		*t = known->target;
		ret->main.has_heap = known->has_heap;
		ret->main.heap = known->heap;
		ret->main.has_runtime = known->has_runtime;
		ret->main.runtime = known->runtime;
		ret->main.sites = known->sites;
		ret->main.site_count = known->site_count;
		memcpy(ret->main.classes, known->classes, sizeof(known->classes));
	} else {
		t->id = (struct identity){ s->pid, UNKNOWN_U64 };
		t->comm = s->comm;
		t->uid = UINT32_MAX;
		t->threads = UNKNOWN_U64;
		t->exited = s->ended;
	}
	t->source = file;
	t->label = s->label && *s->label ? s->label : NULL;
	ret->cost = (struct cost){ .cpu_s = NAN, .cpu_percent = NAN, .rss_peak_bytes = UNKNOWN_U64 };
}

static int describe_session(const struct recorded_series *s, size_t life, struct snapshot *ret)
{
	static const char *rungs[] = { "recording" };
	const struct recorded_life *l = &s->lives[life];
	const char *lives = tell_lives(s, life, &ret->arena);
	struct gap *gaps = arena_array(&ret->arena, s->note_count + 1, sizeof(*gaps));
	size_t count = 0;

	if (!gaps || (s->life_count > 1 && !lives))
		return -ENOMEM;
	if (lives)
		gaps[count++] = (struct gap){ "recording", lives, NULL };
	for (size_t i = 0; i < s->note_count; i++)
		gaps[count++] = s->notes[i];
	ret->session = (struct session_info){ .duration_s = life_span(s, l),
					      .samples = l->count,
					      .interval_ms = median_spacing(s, l) * 1e3,
					      .rungs = rungs,
					      .rung_count = 1,
					      .gaps = gaps,
					      .gap_count = count };
	if (s->begin_wall_ns > 0 && l->count > 0)
		ret->session.started_wall_ns = s->begin_wall_ns + (int64_t)(row_of(s, l->first)[0] * (double)NS_PER_S);
	return 0;
}

int analyze_series(const struct analyze_args *args, const char *file, const struct recording *r,
		   const struct recorded_series *s, enum analyze_detail detail, struct snapshot *ret)
{
	size_t life = choose_life(s);
	struct series *series = NULL;
	struct point known;
	int rc = fill_series(s, &s->lives[life], &series);

	if (rc < 0)
		return rc;
	describe_target(file, r, s, ret);
	rc = describe_session(s, life, ret);
	if (rc >= 0)
		rc = judge(args, r, s, life, series, ret);
	for (size_t m = 0; rc >= 0 && detail >= ANALYZE_METRICS && m < METRIC_COUNT; m++)
		if (series_first(series, (enum metric)m, &known))
			series_summary(series, (enum metric)m, &ret->main.metrics[m]);
	if (rc >= 0 && detail >= ANALYZE_SERIES)
		rc = series_export(series, SERIES_ROWS, &ret->arena, &ret->series);
	series_destroy(series);
	return rc;
}
