/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From the session's state to the plain data that writers take. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "session/private.h"
#include "session/units.h"

#define SERIES_ROWS 2000

static int copy_info(const struct target *t, struct arena *arena, struct target_info *ret)
{
	const struct target_info *from = &t->info;
	const char **cmdline = arena_array(arena, from->cmdline_count ? from->cmdline_count : 1, sizeof(*cmdline));

	if (!cmdline)
		return -ENOMEM;
	*ret = *from;
	ret->comm = arena_strdup(arena, from->comm);
	ret->exe = arena_strdup(arena, from->exe);
	ret->cgroup = arena_strdup(arena, from->cgroup);
	for (size_t i = 0; i < from->cmdline_count; i++)
		cmdline[i] = arena_strdup(arena, from->cmdline[i]);
	ret->cmdline = cmdline;
	ret->allocator = (struct named_part){ arena_strdup(arena, from->allocator.name),
					      arena_strdup(arena, from->allocator.version),
					      arena_strdup(arena, from->allocator.found_by) };
	ret->runtime = (struct named_part){ arena_strdup(arena, from->runtime.name),
					    arena_strdup(arena, from->runtime.version),
					    arena_strdup(arena, from->runtime.found_by) };
	ret->peak_rss_bytes = t->peak_rss_bytes;
	return 0;
}

static int copy_heap(const struct heap_stats *from, struct arena *arena, struct heap_stats *ret)
{
	*ret = *from;
	ret->arenas = arena_memdup(arena, from->arenas, from->arena_count * sizeof(*from->arenas));
	ret->classes = arena_memdup(arena, from->classes, from->class_count * sizeof(*from->classes));
	ret->source = arena_strdup(arena, from->source);
	return (from->arena_count && !ret->arenas) || (from->class_count && !ret->classes) ? -ENOMEM : 0;
}

/* Names of figures are the readers' own, which live as long as the program or in their arena. */
static int copy_runtime(const struct runtime_stats *from, struct arena *arena, struct runtime_stats *ret)
{
	*ret = *from;
	ret->figures = arena_memdup(arena, from->figures, from->figure_count * sizeof(*from->figures));
	if (from->figure_count && !ret->figures)
		return -ENOMEM;
	for (size_t i = 0; i < from->figure_count; i++) {
		ret->figures[i].name = arena_strdup(arena, from->figures[i].name);
		if (!ret->figures[i].name)
			return -ENOMEM;
	}
	return 0;
}

static int copy_sites(struct session *s, struct target *t, struct arena *arena, struct process_entry *entry)
{
	uint64_t events, given_back;
	const char *gap;
	int rc;

	if (!t->sites)
		return 0;
	rc = sources_report(t, arena, &entry->sites, &entry->site_count);
	if (rc < 0)
		return rc;
	site_table_given_back(t->sites, growth_since_s(t), &events, &given_back);
	if (entry->site_count == 0 && events > 0)
		session_gap(s, "sites",
			    "the heap grew while stacks were taken, but the blocks that it grew for were given back or "
			    "are too "
			    "young to tell: many short-lived blocks hide the one that stays",
			    "watch longer");
	gap = symbols_gap(t->symbols, &s->gap_arena);
	if (gap)
		session_gap(s, "symbols", gap, "install its debug symbols, or build with -g");
	return 0;
}

/* The program's own code in the first site: the innermost frame with a line, else the innermost one of the executable itself. */
static const char *top_site(const struct process_entry *entry)
{
	const struct site *site = entry->sites;
	const char *exe = entry->target.exe;

	if (entry->site_count == 0 || site->frame_count == 0)
		return NULL;
	for (size_t i = 0; i < site->frame_count; i++)
		if (site->frames[i].line > 0)
			return site->frames[i].function;
	for (size_t i = 0; i < site->frame_count; i++)
		if (exe && site->frames[i].module && strcmp(site->frames[i].module, exe) == 0)
			return site->frames[i].function;
	return site->frames[0].function;
}

/* Sources that see single blocks know of each whether it is there still: of a program that frees all at its end, none is. */
static void say_why_no_site(struct session *s, const struct target *t, const struct process_entry *entry)
{
	enum verdict_class class = entry->verdict.class;

	if (site_ledger_events(t->ledger) == 0)
		return;
	if (entry->site_count == 0 && (class == VERDICT_LEAK || class == VERDICT_GROWTH || class == VERDICT_SCALING))
		session_gap(s, "sites",
			    "memory grew, but what was sampled meanwhile was given back, at the end of the program "
			    "perhaps, or is "
			    "too young to tell who keeps it",
			    "watch a part of its time: --duration");
	else if (entry->site_count > 0 && t->has_heap && strcmp(entry->sites[0].source, sites_faults.name) == 0)
		session_gap(s, "sites",
			    "call sites by page faults name who touched memory first: in a heap with churn that may be "
			    "another than who "
			    "keeps it",
			    "compare with --sites probe");
}

static int fill_entry(struct session *s, struct target *t, struct arena *arena, struct process_entry *entry)
{
	int rc = copy_info(t, arena, &entry->target);

	entry->parent = t->parent;
	if (rc >= 0 && t->has_heap)
		rc = copy_heap(&t->heap, arena, &entry->heap);
	entry->has_heap = t->has_heap;
	if (rc >= 0 && t->has_runtime)
		rc = copy_runtime(&t->runtime_stats, arena, &entry->runtime);
	entry->has_runtime = t->has_runtime;
	if (rc >= 0)
		rc = copy_sites(s, t, arena, entry);
	if (rc >= 0)
		rc = judge(t, top_site(entry), arena, &entry->verdict);
	if (rc >= 0 && t->ledger)
		say_why_no_site(s, t, entry);
	for (int m = 0; m < METRIC_COUNT; m++)
		series_summary(t->series, (enum metric)m, &entry->metrics[m]);
	for (int i = 0; i < REGION_CLASS_COUNT; i++) {
		entry->classes[i] = t->classes_last[i];
		if (!t->has_classes)
			entry->classes[i].rss_bytes = UNKNOWN_U64;
	}
	return rc;
}

static uint64_t own_peak_bytes(void)
{
	struct err why = ERR_INIT;
	struct status status = { .vm_hwm_bytes = UNKNOWN_U64 };
	struct proc self = PROC_INIT;

	if (proc_open(getpid(), &self, &why) < 0 || proc_read_status(&self, &status) < 0)
		status.vm_hwm_bytes = UNKNOWN_U64;
	proc_close(&self);
	return status.vm_hwm_bytes;
}

static int fill_session(struct session *s, struct snapshot *ret)
{
	const struct target *t = s->targets[0];
	const char **rungs = arena_array(&ret->arena, 4, sizeof(*rungs));
	uint64_t end = s->exited_ns ? s->exited_ns : clock_now_ns();
	uint64_t cpu = clock_self_cpu_ns() - s->cpu_begin_ns + units_cpu_ns(s->units);
	size_t n = 0;

	if (!rungs)
		return -ENOMEM;
	rungs[n++] = "observe";
	if (t->has_heap)
		rungs[n++] = "heap";
	if (t->has_runtime)
		rungs[n++] = "runtime";
	if (sources_events(t) > 0)
		rungs[n++] = "sites";
	ret->session = (struct session_info){ .started_wall_ns = s->begin_wall_ns,
					      .duration_s = session_time(s, end),
					      .samples = s->samples,
					      .interval_ms = (double)s->options.interval_ns / 1e6,
					      .rungs = rungs,
					      .rung_count = n };
	ret->cost = s->cost;
	ret->cost.cpu_s = (double)cpu * 1e-9;
	ret->cost.cpu_percent = end > s->begin_ns ? 100.0 * (double)cpu / (double)(end - s->begin_ns) : NAN;
	ret->cost.rss_peak_bytes = own_peak_bytes();
	ret->tree_pss = s->tree_pss;
	return 0;
}

static int fill_gaps(struct session *s, struct snapshot *ret)
{
	struct session_info *info = &ret->session;

	info->gaps = arena_array(&ret->arena, s->gap_count ? s->gap_count : 1, sizeof(*info->gaps));
	if (!info->gaps)
		return -ENOMEM;
	for (size_t i = 0; i < s->gap_count; i++)
		info->gaps[i] = (struct gap){ arena_strdup(&ret->arena, s->gaps[i].rung),
					      arena_strdup(&ret->arena, s->gaps[i].reason),
					      arena_strdup(&ret->arena, s->gaps[i].remedy) };
	info->gap_count = s->gap_count;
	return 0;
}

static void note_missing(struct session *s)
{
	const struct target *t = s->targets[0];

	if (s->options.heap == HEAP_OFF)
		session_gap(s, "heap", "switched off", "leave --heap out");
	else if (!t->has_heap && !t->rungs[RUNG_HEAP].off)
		session_gap(
			s, "heap",
			"no known allocator found in the target (glibc malloc is known), or it has not been used yet",
			NULL);
	if (s->options.sites == SITES_OFF)
		session_gap(s, "sites", "switched off", "leave --sites out");
	units_note_gaps(s);
}

int session_snapshot(struct session *s, struct snapshot *ret)
{
	int rc;

	note_missing(s);
	rc = fill_session(s, ret);
	if (rc >= 0)
		rc = fill_entry(s, s->targets[0], &ret->arena, &ret->main);
	if (rc >= 0 && s->options.children) {
		ret->processes = arena_array(&ret->arena, s->target_count, sizeof(*ret->processes));
		ret->process_count = s->target_count;
		if (!ret->processes)
			return -ENOMEM;
		ret->processes[0] = ret->main;
		for (size_t i = 1; rc >= 0 && i < s->target_count; i++)
			rc = fill_entry(s, s->targets[i], &ret->arena, &ret->processes[i]);
	}
	if (rc >= 0)
		rc = series_export(s->targets[0]->series, SERIES_ROWS, &ret->arena, &ret->series);
	ret->limit_bytes = ret->main.verdict.forecast.known ? (double)ret->main.verdict.forecast.limit_bytes : NAN;
	if (rc >= 0)
		rc = fill_gaps(s, ret);
	return rc;
}
