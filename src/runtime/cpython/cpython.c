/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The reader's operations. */
#include "cpython.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void cpython_destroy(void *state)
{
	free(state);
}

static int cpython_probe(const struct runtime_query *query, void **ret_state, struct err *err)
{
	struct cpython *p = calloc(1, sizeof(*p));
	struct err why = ERR_INIT;
	struct cpython_view v;
	int rc = p ? cpython_view_init(&v, query->mem) : -ENOMEM;

	if (rc == 0)
		rc = cpython_find(p, query, &v, &why);
	if (rc == 1) {
		*ret_state = p;
		return 1;
	}
	cpython_destroy(p);
	if (rc < 0)
		return err_set(err, -rc, "%s%s", why.code ? why.msg : "cannot look for CPython in the target: ",
			       why.code ? "" : strerror(-rc));
	return 0;
}

enum figure {
	FIGURE_ARENAS,
	FIGURE_PINNED,
	FIGURE_PINNED_BYTES,
	FIGURE_MAPPED,
	FIGURE_BLOCKS,
	FIGURE_POOL_FREE,
	FIGURE_LONG_LIVED,
	FIGURE_UNCOLLECTABLE,
	FIGURE_INTERPRETERS,
	FIGURE_COUNT
};

static const struct runtime_figure figure_table[FIGURE_COUNT] = {
	[FIGURE_ARENAS] = { "pymalloc_arenas", RUNTIME_COUNT, 0 },
	[FIGURE_PINNED] = { "pymalloc_arenas_pinned", RUNTIME_COUNT, 0 },
	[FIGURE_PINNED_BYTES] = { "pymalloc_pinned_bytes", RUNTIME_BYTES, 0 },
	[FIGURE_MAPPED] = { "pymalloc_mapped_bytes", RUNTIME_BYTES, 0 },
	[FIGURE_BLOCKS] = { "pymalloc_blocks", RUNTIME_COUNT, 0 },
	[FIGURE_POOL_FREE] = { "pymalloc_pool_free_bytes", RUNTIME_BYTES, 0 },
	[FIGURE_LONG_LIVED] = { "gc_tracked_long_lived", RUNTIME_COUNT, 0 },
	[FIGURE_UNCOLLECTABLE] = { "gc_uncollectable", RUNTIME_COUNT, 0 },
	[FIGURE_INTERPRETERS] = { "interpreters", RUNTIME_COUNT, 0 },
};

static int make_figures(struct arena *arena, struct runtime_figure **ret)
{
	struct runtime_figure *f = arena_memdup(arena, figure_table, sizeof(figure_table));

	if (!f)
		return -ENOMEM;
	for (size_t i = 0; i < FIGURE_COUNT; i++)
		f[i].value = NAN;
	*ret = f;
	return 0;
}

static void tell_pools(const struct cpython_arenas *a, const struct cpython_pools *s, struct runtime_stats *ret,
		       struct runtime_figure *f)
{
	double mapped = (double)s->mapped_bytes, in_use = (double)s->in_use_bytes;
	double committed = s->resident_bytes == UNKNOWN_U64 ? mapped : (double)s->resident_bytes;

	f[FIGURE_ARENAS].value = (double)a->count;
	f[FIGURE_MAPPED].value = mapped;
	ret->committed_bytes = committed;
	if (!s->valid)
		return;
	ret->in_use_bytes = in_use;
	/* Objects are freed when the last reference goes, so what is in use is live, but for cycles that wait for the collector. */
	ret->live_bytes = in_use;
	/* more in use than resident: parts are paged out */
	if (in_use <= committed)
		ret->free_bytes = committed - in_use;
	f[FIGURE_PINNED].value = (double)s->pinned;
	f[FIGURE_PINNED_BYTES].value = (double)s->pinned_bytes;
	f[FIGURE_BLOCKS].value = (double)s->blocks;
	f[FIGURE_POOL_FREE].value = (double)s->pool_free_bytes;
}

static void stats_init(struct runtime_stats *s)
{
	*s = (struct runtime_stats){
		.live_bytes = NAN,
		.in_use_bytes = NAN,
		.free_bytes = NAN,
		.committed_bytes = NAN,
		.released_bytes = NAN,
		.collections = NAN,
		.tasks = NAN,
	};
}

/* PYTHONMALLOC=malloc, debug builds and those without the interpreter lock: no table of arenas is found, and nothing is said of them. */
static int look(struct cpython *p, const struct cpython_view *v, struct runtime_stats *ret, struct runtime_figure *f)
{
	struct cpython_arenas arenas;
	struct cpython_pools pools;
	struct cpython_gc gc;
	int rc = cpython_list_arenas(p, v, &arenas);

	if (rc < 0)
		return rc;
	if (arenas.count) {
		rc = cpython_read_pools(v, &arenas, &pools);
		if (rc == 0)
			tell_pools(&arenas, &pools, ret, f);
	}
	cpython_arenas_deinit(&arenas);
	if (rc < 0)
		return rc;
	cpython_read_gc(p, v, &gc);
	ret->collections = gc.full_collections;
	f[FIGURE_LONG_LIVED].value = gc.long_lived;
	f[FIGURE_UNCOLLECTABLE].value = gc.uncollectable;
	if (v->interpreter_count && !v->interpreters_cut)
		f[FIGURE_INTERPRETERS].value = (double)v->interpreter_count;
	if (v->threads != UNKNOWN_U64)
		ret->tasks = (double)v->threads;
	/* neither of the two sources held: torn, or the interpreter is being torn down */
	return isnan(ret->committed_bytes) && v->interpreter_count == 0 ? -EAGAIN : 0;
}

static int cpython_read(void *state, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err)
{
	struct cpython *p = state;
	struct runtime_figure *figures = NULL;
	struct runtime_stats stats;
	struct cpython_view v;
	uint64_t alive;
	int rc = make_figures(arena, &figures);

	stats_init(&stats);
	if (rc == 0)
		rc = cpython_view_init(&v, mem);
	if (rc == 0)
		rc = cpython_list_interpreters(p, &v);
	if (rc == 0)
		rc = look(p, &v, &stats, figures);
	/* what could not be read was passed over: of a target that died meanwhile that is not the truth */
	if (rc == 0)
		rc = mem_read_u64(mem, p->anchor, &alive);
	if (rc == -EFAULT)
		rc = -EAGAIN;
	if (rc < 0)
		return err_set(err, -rc, "cannot read the state of CPython: %s",
			       rc == -EAGAIN ? "it changed while it was read" : strerror(-rc));
	stats.figures = figures;
	stats.figure_count = FIGURE_COUNT;
	*ret = stats;
	return 0;
}

static const char *cpython_version(const void *state)
{
	const struct cpython *p = state;

	return p->version_text[0] ? p->version_text : NULL;
}

static const char *cpython_found_by(const void *state)
{
	return ((const struct cpython *)state)->found_by;
}

const struct runtime_ops runtime_cpython = {
	.name = "cpython",
	.probe = cpython_probe,
	.read = cpython_read,
	.version = cpython_version,
	.found_by = cpython_found_by,
	.destroy = cpython_destroy,
};
