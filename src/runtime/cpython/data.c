/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Views of the target: its mappings, and a copy of one module's writable data. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"

#include "cpython.h"

#define RANGES 64
#define NAMELESS_MAX                                                                                                   \
	(2ULL << 20) /* of a nameless mapping behind a module: what follows its zeroed data may be anyone's */

int cpython_view_init(struct cpython_view *v, struct mem *mem)
{
	ssize_t n;

	*v = (struct cpython_view){ .mem = mem, .threads = UNKNOWN_U64 };
	n = mem_regions(mem, &v->regions);
	if (n < 0)
		return (int)n;
	v->region_count = (size_t)n;
	return 0;
}

bool cpython_is_plain_memory(const struct region *r)
{
	return (r->flags & (REGION_READ | REGION_WRITE)) == (REGION_READ | REGION_WRITE) &&
	       !(r->flags & REGION_SHARED) && (r->class == REGION_ANON || r->class == REGION_HEAP);
}

static int copy_range(struct cpython_data *d, struct mem *mem, uint64_t start, uint64_t end)
{
	ssize_t n;

	if (end - start > CPYTHON_DATA_MAX - d->len)
		end = start + (CPYTHON_DATA_MAX - d->len);
	if (end <= start)
		return 0;
	if (vec_reserve(&d->bytes, &d->cap, d->len + (size_t)(end - start), 1) < 0 ||
	    vec_reserve(&d->spans, &d->span_cap, d->span_count + 1, sizeof(*d->spans)) < 0)
		return -ENOMEM;
	n = mem_read(mem, start, d->bytes + d->len, (size_t)(end - start));
	if (n < 0)
		return (int)n;
	d->spans[d->span_count++] = (struct cpython_span){ start, d->len, (size_t)n };
	d->len += (size_t)n;
	return 0;
}

static int copy_present(struct cpython_data *d, struct mem *mem, uint64_t start, uint64_t end)
{
	while (start < end && d->len < CPYTHON_DATA_MAX) {
		struct mem_range ranges[RANGES];
		uint64_t next = end;
		ssize_t n = mem_present(mem, start, end, ranges, RANGES, &next);

		if (n == -ESRCH)
			return (int)n;
		if (n < 0) { /* not to be told: all of it */
			ranges[0] = (struct mem_range){ start, end };
			n = 1;
			next = end;
		}
		for (ssize_t i = 0; i < n; i++) {
			int rc = copy_range(d, mem, ranges[i].start, ranges[i].end);

			if (rc < 0)
				return rc;
		}
		if (next <= start)
			break;
		start = next;
	}
	return 0;
}

/* The file whose mappings lead up to region i without a gap; NULL: none. */
static const char *module_path(const struct cpython_view *v, size_t i)
{
	for (;;) {
		const struct region *r = &v->regions[i];

		if (r->path[0] == '/')
			return r->path;
		if (i == 0 || v->regions[i - 1].end != r->start || !cpython_is_plain_memory(r))
			return NULL;
		i--;
	}
}

int cpython_data_init(struct cpython_data *d, const struct cpython_view *v, uint64_t anchor)
{
	const struct region *at = region_find(v->regions, v->region_count, anchor);
	const char *path = at ? module_path(v, (size_t)(at - v->regions)) : NULL;
	bool behind = false; /* the mapping before this one is the module's, or its zeroed data */
	int rc = 0;

	*d = (struct cpython_data){ 0 };
	for (size_t i = 0; path && i < v->region_count && rc == 0; i++) {
		const struct region *r = &v->regions[i];
		bool writable = (r->flags & REGION_WRITE) && (r->flags & REGION_READ);
		uint64_t end = r->end;

		if (strcmp(r->path, path) == 0) {
			behind = true;
		} else {
			behind = behind && i && v->regions[i - 1].end == r->start && r->class == REGION_ANON &&
				 cpython_is_plain_memory(r);
			if (end - r->start > NAMELESS_MAX)
				end = r->start + NAMELESS_MAX;
		}
		if (behind && writable)
			rc = copy_present(d, v->mem, r->start, end);
	}
	if (rc < 0)
		cpython_data_deinit(d);
	return rc;
}

void cpython_data_deinit(struct cpython_data *d)
{
	free(d->bytes);
	free(d->spans);
	*d = (struct cpython_data){ 0 };
}
