/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The deeper looks at one target: heap truth, the running verdict. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "session/private.h"
#include "session/units.h"

#define PROBE_BACKOFF_MAX_NS (2000 * NS_PER_MS)
#define WALK_NS (10 * NS_PER_S)      /* wall time of one walk: meanwhile nothing else is looked at */
#define FINAL_WALK_NS (2 * NS_PER_S) /* the end of the watching must not be late by more */
#define RESIDENT_EVERY 8             /* walks between two that look up which free pages are resident */
#define TORN_PART 8 /* of what is mapped: walks of targets at full speed miss less than a hundredth, or nearly all */
#define TORN_MOST 5 /* walks in a row: about one in seven is torn while a small heap grows at full speed */

/* The newest result lives in one arena while the next is made in the other. */
void swap_arenas(struct arena *a, struct arena *b)
{
	struct arena kept = *a;

	*a = *b;
	*b = kept;
}

/* ---- heap truth ---- */

static void probe_heap(struct target *t)
{
	struct err why = ERR_INIT;
	int rc = heap_probe(t->mem, &t->walker, &why);

	if (rc > 0) {
		heap_describe(t->walker, &t->info_arena, &t->info.allocator);
		sources_found_heap(t);
		return;
	}
	t->walker = NULL;
	if (rc == -EPERM || rc == -EACCES) {
		session_gap_err(t->session, "heap", &why);
		t->rungs[RUNG_HEAP].off = true;
	}
	t->probe_backoff_ns =
		t->probe_backoff_ns * 2 < PROBE_BACKOFF_MAX_NS ? t->probe_backoff_ns * 2 : PROBE_BACKOFF_MAX_NS;
	if (rung_due(t, RUNG_HEAP, clock_now_ns()))
		rung_retry(t, RUNG_HEAP, t->probe_backoff_ns);
}

static void take_mark(struct class_mark *mark, const struct heap_stats *heap, double t_s)
{
	memset(mark->in_use, 0, sizeof(mark->in_use));
	mark->t_s = t_s;
	for (size_t i = 0; i < heap->class_count; i++)
		mark->in_use[heap_class_index(heap->classes[i].size)] += heap->classes[i].in_use_bytes;
}

/* Growth by class against a walk that lies between a quarter and a half of the time watched back from the start: past the warm-up. */
static void grow_classes(struct target *t, double t_s)
{
	double elapsed = t_s - t->opened_s;

	for (size_t i = 0; i < t->heap.class_count; i++) {
		struct heap_size_class *c = &t->heap.classes[i];
		double before = (double)t->class_base.in_use[heap_class_index(c->size)];

		c->growth_per_s =
			t_s > t->class_base.t_s ? ((double)c->in_use_bytes - before) / (t_s - t->class_base.t_s) : NAN;
	}
	if (isnan(t->class_base.t_s)) {
		take_mark(&t->class_base, &t->heap, t_s);
		t->class_next = t->class_base;
	} else if (elapsed > 2.0 * (t->class_next.t_s - t->opened_s)) {
		t->class_base = t->class_next;
		take_mark(&t->class_next, &t->heap, t_s);
	}
}

uint64_t hot_class(const struct target *t)
{
	return t->has_heap ? t->hot_class_size : 0;
}

#define LOOKED_UP (SITES_FOLLOWED + SURVIVORS_MAX)

/* What the sites and the survivors follow, in one ascending list. */
static size_t blocks_to_look_up(const struct target *t, struct heap_block ret[LOOKED_UP])
{
	struct heap_block sites[SITES_FOLLOWED], others[SURVIVORS_MAX];
	size_t n = sources_blocks(t, sites, SITES_FOLLOWED), i = 0, j = 0, count = 0;
	size_t m = t->survivors ? survivors_blocks(t->survivors, others, SURVIVORS_MAX) : 0;

	while (i < n || j < m) {
		if (j == m || (i < n && sites[i].address <= others[j].address))
			ret[count++] = sites[i++];
		else
			ret[count++] = others[j++];
		ret[count - 1].state = HEAP_BLOCK_UNKNOWN;
	}
	return count;
}

/* How old the blocks of each class get. The content of those in use is read once more: another block may have taken a place. */
static void look_for_survivors(struct target *t, double t_s, const struct heap_block *looked_up, size_t count)
{
	struct heap_block blocks[SURVIVORS_FRESH > SURVIVORS_RECHECKED ? SURVIVORS_FRESH : SURVIVORS_RECHECKED];
	size_t n;

	if (!t->survivors) { /* from the second walk on: many a process ends before it */
		if (survivors_create(t->opened_s, &t->survivors) < 0)
			return;
	} else {
		survivors_seen(t->survivors, t_s, looked_up, count, t->heap.complete);
		n = survivors_due(t->survivors, blocks, SURVIVORS_RECHECKED);
		if (n > 0 && heap_recheck(t->walker, t->mem, blocks, n) >= 0)
			survivors_seen(t->survivors, t_s, blocks, n, false);
	}
	n = survivors_walked(t->survivors, t_s, &t->heap, blocks, SURVIVORS_FRESH);
	if (n > 0 && heap_recheck(t->walker, t->mem, blocks, n) >= 0)
		survivors_follow(t->survivors, blocks, n);
	survivors_fill(t->survivors, &t->heap);
	t->hot_class_size = survivors_hot_class(t->survivors);
}

/*
 * The sums leave out what was not reached: a break that grew since the mappings were read may hide all of the heap, and "nothing in use"
 * would be a trough that never was. A heap of which a part can never be walked (the break is shared) is taken as it is in the end.
 */
bool walk_is_torn(const struct heap_stats *heap, unsigned *torn_in_a_row)
{
	uint64_t seen = heap->in_use_bytes + heap->free_bytes;

	if (seen >= heap->mapped_bytes - heap->mapped_bytes / TORN_PART) {
		*torn_in_a_row = 0;
		return false;
	}
	if (*torn_in_a_row >= TORN_MOST)
		return false;
	++*torn_in_a_row;
	return true;
}

static void walk_heap(struct target *t, struct sample *sample, bool final)
{
	bool resident = final || t->rungs[RUNG_HEAP].runs % RESIDENT_EVERY == 0;
	struct heap_block blocks[LOOKED_UP];
	size_t followed = blocks_to_look_up(t, blocks);
	bool first = !t->has_heap;
	struct heap_walk_options options = { .size_classes = true,
					     .resident = resident,
					     .deadline_ns = clock_now_ns() + (final ? FINAL_WALK_NS : WALK_NS),
					     .cancel = final ? NULL : signals_pending(),
					     .picks = t->survivors ? survivors_picks(t->survivors) : NULL,
					     .blocks = blocks,
					     .block_count = followed };
	struct heap_stats heap;
	int rc;

	arena_reset(&t->heap_spare);
	rc = heap_walk(t->walker, t->mem, &options, &t->heap_spare, &heap);
	if (rc == -ETIME && !final)
		session_gap(t->session, "heap", "a walk of the heap takes too long on this machine now",
			    "give memwatch more CPU, or watch when the machine is less busy");
	if (rc < 0)
		return; /* -EAGAIN: torn beyond use, the next one will do; -ESRCH: the loop learns it */
	if (walk_is_torn(&heap, &t->torn_walks))
		return;
	sources_seen(t, sample->t_s, blocks, followed);
	if (!resident && t->has_heap && t->heap.free_resident_bytes != UNKNOWN_U64 &&
	    heap.free_resident_bytes == UNKNOWN_U64 && heap.free_bytes == t->heap.free_bytes)
		heap.free_resident_bytes = t->heap.free_resident_bytes;
	swap_arenas(&t->heap_arena, &t->heap_spare);
	t->heap = heap;
	t->has_heap = true;
	grow_classes(t, sample->t_s);
	if (!first)
		look_for_survivors(t, sample->t_s, blocks, followed);
	sample->v[METRIC_HEAP_IN_USE] = (double)heap.in_use_bytes;
	sample->v[METRIC_HEAP_FREE] = (double)heap.free_bytes;
	sample->v[METRIC_HEAP_MAPPED] = (double)heap.mapped_bytes;
	sample->v[METRIC_HEAP_BLOCKS] = (double)heap.in_use_blocks;
}

/* Between two walks: are the blocks for which the heap grew still there? */
static void recheck_blocks(struct target *t)
{
	struct heap_block blocks[SITES_FOLLOWED];
	size_t count = t->sites && t->walker ? site_table_blocks(t->sites, true, blocks, SITES_FOLLOWED) : 0;

	if (count > 0 && heap_recheck(t->walker, t->mem, blocks, count) >= 0)
		site_table_seen(t->sites, blocks, count);
}

void look_heap(struct target *t, struct sample *sample, uint64_t now_ns, bool final)
{
	uint64_t begin = clock_self_cpu_ns();

	if (t->rungs[RUNG_HEAP].off || !t->mem)
		return;
	recheck_blocks(t);
	if (!(final ? rung_affordable(t, RUNG_HEAP, now_ns) : rung_due(t, RUNG_HEAP, now_ns)))
		return;
	if (!t->walker) {
		rung_done(t, RUNG_HEAP, clock_self_cpu_ns() - begin);
		probe_heap(t);
		if (!t->walker)
			return;
	}
	walk_heap(t, sample, final);
	rung_done(t, RUNG_HEAP, clock_self_cpu_ns() - begin);
}

/* ---- the running verdict ---- */

static size_t read_limits(struct target *t, struct verdict_limit limits[LIMITS_MAX])
{
	uint64_t as = UINT64_MAX, data = UINT64_MAX, total, available;
	struct cgroup_memory memory;
	size_t n = 0;

	if (t->session->options.limit_bytes > 0)
		limits[n++] =
			(struct verdict_limit){ t->session->options.limit_bytes, "--limit", t->last.v[METRIC_RSS] };
	if (t->cgroup.version != 0 && cgroup_read(&t->cgroup, &memory) >= 0 && memory.limit_bytes != UINT64_MAX &&
	    memory.usage_bytes != UNKNOWN_U64) {
		uint64_t cache = memory.inactive_file_bytes != UNKNOWN_U64 ? memory.inactive_file_bytes : 0;

		limits[n++] = (struct verdict_limit){ memory.limit_bytes, "cgroup",
						      (double)memory.usage_bytes - (double)cache };
	}
	if (proc_read_limits(&t->proc, &as, &data) >= 0 && as != UINT64_MAX)
		limits[n++] = (struct verdict_limit){ as, "rlimit", t->last.v[METRIC_VIRTUAL] };
	if (data != UINT64_MAX && !isnan(t->last.v[METRIC_ANON]))
		limits[n++] = (struct verdict_limit){ data, "rlimit", t->last.v[METRIC_ANON] };
	if (machine_memory(&total, &available) >= 0)
		limits[n++] = (struct verdict_limit){ total, "machine", (double)total - (double)available };
	return n;
}

static bool heap_is_foreign(const struct target *t)
{
	double anon = t->last.v[METRIC_ANON], mapped = t->last.v[METRIC_HEAP_MAPPED];

	return !isnan(anon) && !isnan(mapped) && anon > 2.0 * mapped && anon - mapped > 8 << 20;
}

double growth_since_s(const struct target *t)
{
	double elapsed = t->last.t_s - t->opened_s, warm = elapsed * 0.2;

	return t->opened_s + (warm < 30.0 ? warm : 30.0);
}

int judge(struct target *t, const char *top_site, struct arena *arena, struct verdict *ret)
{
	struct sites_course course;
	struct verdict_input input = {
		.series = t->series,
		.pid = t->proc.id.pid,
		.now_s = t->last.t_s,
		.ended = t->info.exited || t->exiting,
		.from_start = t->from_start,
		.heap = t->has_heap ? &t->heap : NULL,
		.foreign_heap = heap_is_foreign(t),
		.runtime = t->info.runtime.name,
		.runtime_stats = t->has_runtime ? &t->runtime_stats : NULL,
		.limits = t->limits,
		.limit_count = t->limit_count,
		.rss_noise_bytes = t->rollup_noise_bytes,
		.hot_class_size = hot_class(t),
		.classes_first = t->has_classes ? t->classes_first : NULL,
		.classes_last = t->has_classes ? t->classes_last : NULL,
		.top_site_function = top_site,
		.sites = top_site && sources_course(t, &course) ? &course : NULL,
		.transient = t->session->options.transient,
		.work_unit = units_noun(t),
	};

	return verdict_judge(&input, arena, ret);
}

/* Hysteresis: a running verdict gives way to another one when that is reached twice in a row; to the first one at once. */
static bool is_settled(struct target *t, const struct verdict *next)
{
	bool again = t->has_verdict_next && !verdict_changed(&t->verdict_next, next);

	t->verdict_next = (struct verdict){
		.class = next->class, .kind = next->kind, .cause = next->cause, .where = next->where
	};
	t->has_verdict_next = true;
	return again || !t->has_verdict || t->verdict.class == VERDICT_INSUFFICIENT_DATA;
}

void look_verdict(struct target *t, uint64_t now_ns, bool final)
{
	struct session *s = t->session;
	struct verdict verdict = { 0 };
	uint64_t begin = clock_self_cpu_ns();

	if (!final && !rung_due(t, RUNG_VERDICT, now_ns))
		return;
	if (!t->gone)
		t->limit_count = read_limits(t, t->limits);
	arena_reset(&t->verdict_spare);
	if (judge(t, NULL, &t->verdict_spare, &verdict) < 0)
		return;
	bool changed = !t->has_verdict || verdict_changed(&t->verdict, &verdict);
	rung_done(t, RUNG_VERDICT, clock_self_cpu_ns() - begin);
	if (changed && !final && !is_settled(t, &verdict))
		return;
	swap_arenas(&t->verdict_arena, &t->verdict_spare);
	t->verdict = verdict;
	t->has_verdict = true;
	if (changed && s->listener.verdict)
		s->listener.verdict(s->listener.arg, t->last.t_s, t->proc.id.pid, &t->verdict);
}
