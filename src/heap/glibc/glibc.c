/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The walker's operations. */
#include "glibc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"

static int glibc_probe(struct mem *mem, struct heap_walker **ret, struct err *err)
{
	struct heap_walker *w = calloc(1, sizeof(*w));
	struct glibc *g = calloc(1, sizeof(*g));
	int rc = w && g ? glibc_find(g, mem) : -ENOMEM;

	if (rc == 1) {
		g->ring[0] = g->main_arena;
		g->ring_count = 1;
		w->ops = &heap_glibc;
		w->arg = g;
		*ret = w;
		return 1;
	}
	free(w);
	free(g);
	if (rc < 0)
		return err_set(err, -rc, "cannot look for the heap of the target: %s", strerror(-rc));
	return 0;
}

static int walk_arenas(struct glibc_walk *w)
{
	struct glibc_arena *main_arena;
	int rc;

	for (size_t i = 0; i < w->arena_count; i++) {
		struct glibc_arena *a = &w->arenas[i];

		if (a->is_main || !a->top)
			continue;
		rc = glibc_walk_heaps(w, a);
		if (rc < 0 && rc != -EAGAIN)
			return rc;
		glibc_close_arena(w, a);
	}
	main_arena = glibc_arena_at(w, w->g->main_arena);
	if (!main_arena)
		return -EAGAIN;
	rc = glibc_walk_main(w, main_arena);
	if (rc == 0)
		rc = glibc_walk_mappings(w, main_arena);
	if (rc < 0)
		return rc;
	glibc_close_arena(w, main_arena);
	glibc_count_tcaches(w);
	return 0;
}

static int glibc_walk(struct heap_walker *walker, struct mem *mem, const struct heap_walk_options *options,
		      struct arena *arena, struct heap_stats *ret)
{
	uint64_t begun = clock_now_ns(), alive;
	struct glibc_walk *w = calloc(1, sizeof(*w));
	ssize_t regions;
	int rc;

	if (!w)
		return -ENOMEM;
	w->g = walker->arg;
	w->mem = mem;
	w->options = options;
	w->stats.complete = true;
	rc = glibc_reader_init(&w->reader, mem);
	if (rc == 0) {
		regions = mem_regions(mem, &w->regions);
		rc = regions < 0 ? (int)regions : 0;
		w->region_count = rc < 0 ? 0 : (size_t)regions;
	}
	if (rc == 0)
		rc = glibc_list_arenas(w);
	if (rc == 0) {
		glibc_read_par(w);
		glibc_learn_linking(w);
		rc = walk_arenas(w);
	}
	w->stats.walk_ns = clock_now_ns() - begun;
	/* pages that could not be read were passed over: of a target that died meanwhile that is not the truth */
	if (rc == 0)
		rc = mem_read_u64(mem, w->g->main_arena, &alive);
	if (rc == -EFAULT)
		rc = -EAGAIN;
	if (rc == 0)
		rc = glibc_finish(w, arena, ret);
	glibc_reader_deinit(&w->reader);
	free(w->arenas);
	free(w->candidates);
	free(w->blocks);
	free(w->links);
	free(w);
	return rc;
}

struct headroom_reads {
	uint64_t top[GLIBC_HEADROOM_ARENAS], head[GLIBC_HEADROOM_ARENAS];
	uint64_t tail[GLIBC_HEADROOM_ARENAS][4]; /* next, next_free, attached_threads, system_mem */
	uint64_t mmapped;
	uint32_t flags[2]; /* mutex and flags of the main arena */
};

/* Two batches: the tops' addresses and sums, then the tops' sizes. */
static int read_headroom(struct glibc *g, struct mem *mem, struct headroom_reads *r, bool *ret_main_ok)
{
	struct mem_piece pieces[2 * GLIBC_HEADROOM_ARENAS + 2];
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < g->ring_count; i++) {
		pieces[n++] = (struct mem_piece){ g->ring[i] + g->layout->top, &r->top[i], 8, 0 };
		pieces[n++] = (struct mem_piece){ g->ring[i] + g->layout->next, r->tail[i], sizeof(r->tail[i]), 0 };
	}
	if (g->par)
		pieces[n++] = (struct mem_piece){ g->par_address + g->par->mmapped_mem, &r->mmapped, 8, 0 };
	pieces[n++] = (struct mem_piece){ g->main_arena, r->flags, sizeof(r->flags), 0 };
	rc = mem_read_batch(mem, pieces, n);
	if (rc < 0)
		return rc;
	*ret_main_ok = pieces[0].done == 8 && pieces[1].done == sizeof(r->tail[0]);
	for (size_t i = 0; i < g->ring_count; i++)
		pieces[i] = (struct mem_piece){ r->top[i] + 8, &r->head[i], 8, 0 };
	return mem_read_batch(mem, pieces, g->ring_count);
}

static void learn_arena(struct glibc *g, uint64_t address)
{
	if (address == 0 || address % 8 != 0 || g->ring_count == GLIBC_HEADROOM_ARENAS)
		return;
	for (size_t i = 0; i < g->ring_count; i++)
		if (g->ring[i] == address)
			return;
	g->ring[g->ring_count++] = address;
}

static int glibc_headroom(struct heap_walker *walker, struct mem *mem, struct heap_headroom *ret)
{
	struct glibc *g = walker->arg;
	struct headroom_reads r;
	struct heap_headroom h = { .top_bytes = UNKNOWN_U64 };
	bool main_ok = false;
	size_t known = g->ring_count;
	int rc;

	memset(&r, 0, sizeof(r));
	rc = read_headroom(g, mem, &r, &main_ok);
	if (rc < 0)
		return rc;
	if (!main_ok)
		return -EAGAIN;
	for (size_t i = 0; i < known; i++) {
		uint64_t top = r.head[i] & ~CHUNK_FLAGS, system = r.tail[i][3], next = r.tail[i][0];
		bool initial = r.top[i] == g->ring[i] + g->layout->bins - CHUNK_HEADER;

		learn_arena(g, next); /* a new one is looked at from the next call on */
		if (initial || top > system || system >> 47)
			continue;
		h.in_use_hint += system - top;
		h.mapped_bytes += system;
		if (top < h.top_bytes)
			h.top_bytes = top;
		if (g->ring[i] == g->main_arena && !(r.flags[1] & GLIBC_NONCONTIGUOUS))
			h.main_end = r.top[i] + top;
	}
	h.mapped_bytes += r.mmapped;
	*ret = h;
	return 0;
}

static void glibc_describe(struct heap_walker *walker, struct arena *arena, struct named_part *ret)
{
	const struct glibc *g = walker->arg;

	ret->name = "glibc";
	ret->version = g->version[0] ? arena_strdup(arena, g->version) : NULL;
	ret->found_by = "signature";
}

static void glibc_destroy(struct heap_walker *walker)
{
	struct glibc *g = walker->arg;

	free(g->blocks);
	free(g);
	free(walker);
}

const struct heap_walker_ops heap_glibc = {
	.name = "glibc",
	.probe = glibc_probe,
	.walk = glibc_walk,
	.headroom = glibc_headroom,
	.recheck = glibc_recheck,
	.grown_block = glibc_grown_block,
	.describe = glibc_describe,
	.destroy = glibc_destroy,
};
