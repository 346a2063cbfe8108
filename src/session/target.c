/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One watched process: opening, another program under the same pid, the end. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"
#include "session/private.h"
#include "session/units.h"

#define PROBE_BACKOFF_NS (10 * NS_PER_MS)
#define TARGETS_MAX 4096 /* processes of one session, ended ones included */
#define HEAP_ARENA_BYTES (32 << 10)
#define RUNTIME_ARENA_BYTES (4 << 10)

double session_time(const struct session *s, uint64_t now_ns)
{
	return (double)((now_ns ? now_ns : clock_now_ns()) - s->begin_ns) * 1e-9;
}

struct target *session_find(struct session *s, pid_t pid)
{
	for (size_t i = 0; i < s->target_count; i++)
		if (s->targets[i]->proc.id.pid == pid && !s->targets[i]->gone)
			return s->targets[i];
	return NULL;
}

/* The gaps of the heap and of the sites say why; that of the runtime would be the same. */
static void no_memory(struct target *t)
{
	t->mem = NULL;
	t->rungs[RUNG_HEAP].off = t->rungs[RUNG_RUNTIME].off = t->rungs[RUNG_SITES].off = true;
}

/*
 * Whether this process may be read at all. Without the right to read smaps nothing but the resident size is left: then watching is
 * refused, with the reason. Where only memory itself is out of reach (Yama, seccomp), the rungs below go on.
 */
static int check_rights(struct target *t, struct err *err)
{
	struct region_totals totals;
	struct err why = ERR_INIT;
	uint64_t ns;
	int rc = mem_live_create(t->proc.id.pid, t->proc.dir_fd, &t->mem, &why);

	if (rc == -ESRCH)
		return err_set(err, ESRCH, "no process with pid %d", (int)t->proc.id.pid);
	if (rc >= 0)
		return 0;
	t->mem = NULL;
	rc = proc_read_rollup(&t->proc, &totals, &ns);
	if (rc < 0) {
		trace_explain_refusal(t->proc.id.pid, &why);
		return err_set(err, EPERM, "cannot watch process %d: %s", (int)t->proc.id.pid, why.msg);
	}
	session_gap_err(t->session, "heap", &why);
	session_gap_err(t->session, "sites", &why);
	no_memory(t);
	return 0;
}

int target_symbols(struct target *t)
{
	struct symbols_options options = { .pid = t->proc.id.pid,
					   .proc_fd = t->proc.dir_fd,
					   .debuginfod = t->session->options.debuginfod };

	return t->symbols ? 0 : symbols_create(&options, &t->symbols);
}

static int read_info(struct target *t)
{
	arena_reset(&t->info_arena);
	t->info = (struct target_info){ .exit_code = -1, .peak_rss_bytes = UNKNOWN_U64 };
	return proc_read_identity(&t->proc, &t->info_arena, &t->info);
}

/* What belongs to one program image. */
static int begin_image(struct target *t)
{
	struct stat_line stat;
	int rc = series_create(&t->series);

	if (rc < 0)
		return rc;
	t->image_ns = clock_now_ns();
	t->opened_s = session_time(t->session, t->image_ns);
	t->mark_rss = t->sites_rss = NAN;
	t->rate = 0.0;
	t->class_base.t_s = t->class_next.t_s = NAN;
	t->hot_class_size = 0;
	t->probe_backoff_ns = PROBE_BACKOFF_NS;
	t->runtime_backoff_ns = 0;
	sample_init(&t->last, 0.0);
	/* Deeper looks wait until there is something to see: a program that ends at once must not pay for them. */
	rung_retry(t, RUNG_HEAP, t->from_start ? 15 * NS_PER_MS : 0);
	rung_retry(t, RUNG_RUNTIME, t->from_start ? 30 * NS_PER_MS : 0);
	rung_retry(t, RUNG_SMAPS, t->from_start ? 300 * NS_PER_MS : 0);
	rung_retry(t, RUNG_SITES, t->from_start ? 300 * NS_PER_MS : 50 * NS_PER_MS);
	rung_retry(t, RUNG_FDS, 20 * NS_PER_MS);
	rung_retry(t, RUNG_VERDICT, 500 * NS_PER_MS);
	if (t->session->options.heap == HEAP_OFF)
		t->rungs[RUNG_HEAP].off = true;
	sources_choose(t);
	if (t->session->options.sites == SITES_OFF)
		t->rungs[RUNG_SITES].off = true;
	if (!t->session->options.children)
		t->rungs[RUNG_CHILDREN].off = true;
	if (proc_read_stat(&t->proc, &stat) >= 0)
		t->start_stack = stat.start_stack;
	return read_info(t);
}

int target_open(struct session *s, pid_t pid, bool standing, struct target **ret, struct err *err)
{
	struct target *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(err, ENOMEM, "out of memory");
	t->session = s;
	t->standing = t->from_start = standing;
	t->proc = (struct proc)PROC_INIT;
	t->cgroup.dir_fd = -1;
	t->peak_rss_bytes = UNKNOWN_U64;
	t->cgroup_limit = UINT64_MAX;
	arena_init(&t->heap_arena, HEAP_ARENA_BYTES, 0);
	arena_init(&t->heap_spare, HEAP_ARENA_BYTES, 0);
	arena_init(&t->runtime_arena, RUNTIME_ARENA_BYTES, 0);
	arena_init(&t->runtime_spare, RUNTIME_ARENA_BYTES, 0);
	arena_init(&t->verdict_arena, 8 << 10, 0);
	arena_init(&t->verdict_spare, 8 << 10, 0);
	arena_init(&t->info_arena, 4 << 10, 0);
	rc = proc_open(pid, &t->proc, err);
	if (rc >= 0)
		rc = check_rights(t, err);
	if (rc >= 0) {
		rc = cgroup_open(&t->proc, &t->cgroup);
		if (rc >= 0)
			rc = begin_image(t);
		if (rc < 0)
			err_set(err, -rc, "cannot read process %d: %s", (int)pid, strerror(-rc));
	}
	if (rc < 0) {
		target_close(t);
		return rc;
	}
	*ret = t;
	return 0;
}

/* What was made for one program image, but for the figures. */
static void leave_image(struct target *t)
{
	sources_close(t);
	heap_walker_destroy(t->walker);
	t->walker = NULL;
	runtime_destroy(t->runtime);
	t->runtime = NULL;
	survivors_destroy(t->survivors);
	t->survivors = NULL;
	mem_destroy(t->mem);
	t->mem = NULL;
}

void target_leave(struct target *t)
{
	leave_image(t);
	t->gone = true;
	/* Thousands of short children must not use up our descriptors. */
	struct identity id = t->proc.id;

	symbols_leave(t->symbols);
	cgroup_close(&t->cgroup);
	proc_close(&t->proc);
	t->proc.id = id;
}

void target_close(struct target *t)
{
	if (!t)
		return;
	target_leave(t);
	site_table_destroy(t->sites);
	site_ledger_destroy(t->ledger);
	symbols_destroy(t->symbols);
	series_destroy(t->series);
	arena_deinit(&t->heap_arena);
	arena_deinit(&t->heap_spare);
	arena_deinit(&t->runtime_arena);
	arena_deinit(&t->runtime_spare);
	arena_deinit(&t->verdict_arena);
	arena_deinit(&t->verdict_spare);
	arena_deinit(&t->info_arena);
	free(t);
}

int target_exec(struct target *t)
{
	struct session *s = t->session;
	struct err why = ERR_INIT;
	int rc;

	leave_image(t);
	site_table_destroy(t->sites);
	site_ledger_destroy(t->ledger);
	symbols_destroy(t->symbols);
	series_destroy(t->series);
	t->sites = NULL;
	t->ledger = NULL;
	t->symbols = NULL;
	t->series = NULL;
	t->exiting = t->has_heap = t->has_runtime = t->has_classes = t->has_verdict = t->sites_rewound = false;
	t->from_start = true;
	t->peak_rss_bytes = UNKNOWN_U64;
	memset(t->rungs, 0, sizeof(t->rungs));
	if (mem_live_create(t->proc.id.pid, t->proc.dir_fd, &t->mem, &why) < 0) {
		/* A set-uid program, for one: what can still be read goes on. */
		session_gap_err(s, "heap", &why);
		no_memory(t);
	}
	rc = begin_image(t);
	if (rc >= 0)
		units_exec(t);
	return rc;
}

int session_add(struct session *s, pid_t pid, bool standing, pid_t parent, struct err *err)
{
	struct target *t;
	int rc;

	if (s->target_count >= TARGETS_MAX)
		return err_set(err, EOVERFLOW, "more than %d processes: the later ones are not watched", TARGETS_MAX);
	rc = vec_reserve(&s->targets, &s->target_cap, s->target_count + 1, sizeof(struct target *));
	if (rc < 0)
		return err_set(err, ENOMEM, "out of memory");
	rc = target_open(s, pid, standing, &t, err);
	if (rc < 0)
		return rc;
	t->parent = parent;
	s->targets[s->target_count++] = t;
	s->living++;
	return 0;
}
