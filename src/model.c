/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/model.h"

#include <math.h>
#include <string.h>

/* A snapshot of one process with some sites fits in one chunk; the limit bounds memwatch, not the report. */
#define SNAPSHOT_FIRST_BYTES ((size_t)64 << 10)
#define SNAPSHOT_LIMIT_BYTES ((size_t)512 << 20)

const struct metric_info metric_table[METRIC_COUNT] = {
	[METRIC_RSS] = { "rss_bytes", "bytes", false },
	[METRIC_PSS] = { "pss_bytes", "bytes", false },
	[METRIC_ANON] = { "anon_bytes", "bytes", false },
	[METRIC_FILE] = { "file_bytes", "bytes", false },
	[METRIC_SHMEM] = { "shmem_bytes", "bytes", false },
	[METRIC_SWAP] = { "swap_bytes", "bytes", false },
	[METRIC_STACK] = { "stack_bytes", "bytes", false },
	[METRIC_LAZY_FREE] = { "lazy_free_bytes", "bytes", false },
	[METRIC_HEAP_IN_USE] = { "heap_in_use_bytes", "bytes", false },
	[METRIC_HEAP_FREE] = { "heap_free_bytes", "bytes", false },
	[METRIC_HEAP_MAPPED] = { "heap_mapped_bytes", "bytes", false },
	[METRIC_HEAP_BLOCKS] = { "heap_in_use_blocks", "count", false },
	[METRIC_RUNTIME_LIVE] = { "runtime_live_bytes", "bytes", false },
	[METRIC_VIRTUAL] = { "virtual_bytes", "bytes", false },
	[METRIC_THREADS] = { "threads", "count", false },
	[METRIC_FDS] = { "fds", "count", false },
	[METRIC_MINOR_FAULTS] = { "minor_faults", "count", true },
	[METRIC_MAJOR_FAULTS] = { "major_faults", "count", true },
	[METRIC_CPU] = { "cpu_s", "s", true },
	[METRIC_READ_CHARS] = { "read_chars", "bytes", true },
	[METRIC_WRITE_CHARS] = { "write_chars", "bytes", true },
	[METRIC_SYSCALLS] = { "syscalls", "count", true },
	[METRIC_SWITCHES] = { "context_switches", "count", true },
	[METRIC_NET] = { "net_bytes", "bytes", true },
	[METRIC_WORK] = { "work_units", "count", true },
	[METRIC_CGROUP] = { "cgroup_bytes", "bytes", false },
	[METRIC_PSI_SOME] = { "psi_some_percent", "percent", false },
};

const char *const frame_note_names[FRAME_NOTE_COUNT] = {
	[FRAME_OK] = "ok",
	[FRAME_NO_SYMBOL] = "no-symbol",
	[FRAME_NO_CFI] = "no-cfi",
	[FRAME_TRUNCATED] = "truncated",
	[FRAME_BAD_POINTER] = "bad-pointer",
	[FRAME_NO_MODULE] = "no-module",
};

const char *const verdict_class_names[VERDICT_CLASS_COUNT + 1] = {
	[VERDICT_INSUFFICIENT_DATA] = "insufficient-data",
	[VERDICT_STABLE] = "stable",
	[VERDICT_WARMUP] = "warmup",
	[VERDICT_SCALING] = "scaling",
	[VERDICT_LEAK] = "leak",
	[VERDICT_RETENTION] = "retention",
	[VERDICT_SPIKE] = "spike",
	[VERDICT_STEP] = "step",
	[VERDICT_GROWTH] = "growth",
	[VERDICT_CLASS_COUNT] = NULL,
};

const char *const verdict_kind_names[KIND_COUNT] = {
	[KIND_UNREACHABLE] = "unreachable",
	[KIND_REACHABLE] = "reachable",
	[KIND_SUSPECTED] = "suspected",
};

const char *const verdict_cause_names[CAUSE_COUNT] = {
	[CAUSE_FRAGMENTATION] = "fragmentation",
	[CAUSE_ALLOCATOR] = "allocator",
	[CAUSE_GC] = "gc",
};

const char *const verdict_where_names[WHERE_COUNT] = {
	[WHERE_HEAP] = "heap",   [WHERE_ANON] = "anon",   [WHERE_FILE] = "file",
	[WHERE_SHMEM] = "shmem", [WHERE_STACK] = "stack", [WHERE_RUNTIME] = "runtime",
};

void sample_init(struct sample *s, double t_s)
{
	s->t_s = t_s;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		s->v[i] = NAN;
}

static void metric_summary_init(struct metric_summary *m)
{
	m->count = 0;
	m->first = m->last = m->min = m->max = m->mean = NAN;
	m->slope_per_s = (struct interval){ NAN, NAN, NAN };
}

static void process_entry_init(struct process_entry *p)
{
	p->target.exit_code = -1;
	p->target.peak_rss_bytes = UNKNOWN_U64;
	for (size_t i = 0; i < METRIC_COUNT; i++)
		metric_summary_init(&p->metrics[i]);
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		p->classes[i].rss_bytes = UNKNOWN_U64;
	p->verdict.slope_per_s = (struct interval){ NAN, NAN, NAN };
	p->verdict.forecast.eta_s = (struct interval){ NAN, NAN, NAN };
}

void snapshot_init(struct snapshot *s)
{
	memset(s, 0, sizeof(*s));
	arena_init(&s->arena, SNAPSHOT_FIRST_BYTES, SNAPSHOT_LIMIT_BYTES);
	process_entry_init(&s->main);
	metric_summary_init(&s->tree_pss);
	s->limit_bytes = NAN;
}

void snapshot_deinit(struct snapshot *s)
{
	if (!s)
		return;
	arena_deinit(&s->arena);
	memset(s, 0, sizeof(*s));
}
