/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From series and snapshots to a class, with evidence. Pure: the same input gives the same verdict.
 *
 * Reasoning, in order: warm-up cut; troughs (the runtime's own figure, else block minima); a gate (significant trend, material
 * size, new maximum in the last third); shape by model selection; then the split dRSS = d(in use) + d(free inside the
 * allocator) + d(the rest). The rules are a const table; the first that holds names the class, all that hold give evidence, and what
 * speaks against it is said too. A slope on RSS alone never gives `leak`: at most `growth`. Work decides beside it: growth that work explains is scaling, unless a
 * unit should leave nothing behind; in a recording, RSS that grows though work is idle, steady or varies without it is a leak, and so is what
 * is left after each fall of a course that swings.
 *
 *   leak      in-use heap (or the runtime's live bytes) itself grows steadily, trough over trough, with no sign of an end
 *   growth    memory grows steadily, but whose it is cannot be told (no heap truth, or anonymous mappings outside any known allocator)
 *   warmup    grew and approaches or has reached a plateau
 *   retention RSS stays high or grows while in-use is flat or fell: allocator (top or untrimmed, could be given back) or
 *             fragmentation (free bytes pinned between blocks in use); gc when a runtime's live bytes are flat
 *   step      one change explains the rise, flat before and after;  spike: rose and came back
 *   stable    no material trend
 *   scaling   goes with the work done (struct work_fit), and stands still with it
 *   insufficient-data  too short or too few samples to say
 */
#ifndef MEMWATCH_VERDICT_H
#define MEMWATCH_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/model.h"
#include "memwatch/series.h"

struct verdict_limit {
	uint64_t bytes;
	const char *source; /* "cgroup", "rlimit", "--limit", "machine" */
	double used_bytes;  /* what counts against it now (cgroup: usage - inactive_file; rlimit AS: virtual size) */
};

struct verdict_input {
	const struct series *series;
	pid_t pid;                     /* for the commands in actions; 0 unknown */
	double now_s;                  /* time of the last sample */
	bool ended;                    /* the target ended: what it freed at its end says nothing */
	bool from_start;               /* watched since exec (run): the warm-up is in the data */
	const struct heap_stats *heap; /* newest walk; NULL: no heap truth */
	bool foreign_heap;             /* most anonymous memory lies outside the known allocator */
	const char *runtime;           /* "cpython", "go", "hotspot", "v8" …: a managed heap; NULL: none known */
	const struct runtime_stats *runtime_stats;                /* newest; NULL: it was not read */
	const struct region_totals *classes_first, *classes_last; /* REGION_CLASS_COUNT rows each, or NULL */
	const struct verdict_limit *limits;
	size_t limit_count;
	double rss_noise_bytes;           /* noise floor of statm on this machine: |statm - rollup|, 0 unknown */
	const char *top_site_function;    /* for the actions; NULL none */
	const struct sites_course *sites; /* of single blocks, from the probe; NULL: not known */
	uint64_t hot_class_size;          /* size class that grows most; 0 none */
	bool recorded;                    /* analyze: nobody can look into the process any more */
	bool counted_time;                /* the times are counts, not seconds: VERDICT_MIN_SECONDS does not apply */
	bool transient;                   /* --expect transient: a unit of work should leave nothing behind */
	const char *work_unit;            /* what METRIC_WORK counts, singular: "request"; NULL: "unit" */
};

#define VERDICT_MIN_SECONDS 3.0
#define VERDICT_MIN_SAMPLES 20

/* Strings and arrays of *ret in the arena. 0 or -ENOMEM. Costs under 1 ms on a full series. */
must_check int verdict_judge(const struct verdict_input *input, struct arena *arena, struct verdict *ret);

/* Whether two verdicts differ in a way worth an event: class, kind, cause or where. */
bool verdict_changed(const struct verdict *a, const struct verdict *b);

/* Whether class is in the comma list that --fail-on took (bit i = enum verdict_class i). */
bool verdict_in_set(const struct verdict *v, uint64_t class_bits);

#endif
