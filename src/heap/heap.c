/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/heap.h"

#include <errno.h>
#include <string.h>

#define SMALL_MAX 1024ULL
#define SMALL_CLASSES (SMALL_MAX / 16 + 1)

const struct heap_walker_ops *const heap_walkers[] = {
	&heap_glibc,
	NULL,
};

int heap_probe(struct mem *mem, struct heap_walker **ret, struct err *err)
{
	int first = 0;

	for (size_t i = 0; heap_walkers[i]; i++) {
		int rc = heap_walkers[i]->probe(mem, ret, err);

		if (rc == 1 || rc == -ESRCH)
			return rc;
		if (rc < 0 && !first)
			first = rc;
	}
	return first;
}

int heap_walk(struct heap_walker *w, struct mem *mem, const struct heap_walk_options *options, struct arena *arena,
	      struct heap_stats *ret)
{
	return w->ops->walk(w, mem, options, arena, ret);
}

int heap_headroom(struct heap_walker *w, struct mem *mem, struct heap_headroom *ret)
{
	return w->ops->headroom ? w->ops->headroom(w, mem, ret) : -ENOTSUP;
}

int heap_grown_block(struct heap_walker *w, struct mem *mem, uint64_t end, const uint64_t *candidates, size_t count,
		     struct heap_block *ret)
{
	return w->ops->grown_block ? w->ops->grown_block(w, mem, end, candidates, count, ret) : -ENOTSUP;
}

int heap_recheck(struct heap_walker *w, struct mem *mem, struct heap_block *blocks, size_t count)
{
	return w->ops->recheck ? w->ops->recheck(w, mem, blocks, count) : -ENOTSUP;
}

void heap_describe(struct heap_walker *w, struct arena *arena, struct named_part *ret)
{
	w->ops->describe(w, arena, ret);
}

void heap_walker_destroy(struct heap_walker *w)
{
	if (w)
		w->ops->destroy(w);
}

size_t heap_class_index(uint64_t size)
{
	unsigned int log;
	size_t index;

	if (size <= SMALL_MAX)
		return (size_t)((size + 15) / 16);
	/* (2^log, 2^(log+1)] in four steps */
	log = 63U - (unsigned int)__builtin_clzll(size - 1);
	index = SMALL_CLASSES + (size_t)(log - 10) * 4 + (size_t)(((size - 1) >> (log - 2)) & 3);
	return index < HEAP_CLASS_COUNT ? index : HEAP_CLASS_COUNT - 1;
}

uint64_t heap_class_size(size_t index)
{
	uint64_t base;

	if (index < SMALL_CLASSES)
		return (uint64_t)index * 16;
	if (index >= HEAP_CLASS_COUNT - 1)
		return UINT64_MAX;
	index -= SMALL_CLASSES;
	if (index / 4 + 10 >= 63)
		return UINT64_MAX;
	base = 1ULL << (index / 4 + 10);
	return base + (base >> 2) * (index % 4 + 1);
}
