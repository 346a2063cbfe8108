/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory from segments that the caller keeps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/mem.h"

struct fixture {
	struct mem mem;
	struct mem_segment *segments; /* ascending */
	struct region *regions;       /* the same, as regions() hands them out */
	size_t count;
};

static const struct mem_segment *segment_at(const struct fixture *f, uint64_t address)
{
	const struct region *r = region_find(f->regions, f->count, address);

	return r ? &f->segments[r - f->regions] : NULL;
}

static ssize_t fixture_read(struct mem *mem, uint64_t address, void *buf, size_t len)
{
	const struct fixture *f = mem->arg;
	size_t done = 0;

	while (done < len) {
		const struct mem_segment *s = segment_at(f, address + done);
		uint64_t left;
		size_t n;

		if (!s || !(s->region.flags & REGION_READ))
			break;
		left = s->region.end - (address + done);
		n = left < len - done ? (size_t)left : len - done;
		/* Mapped but not present reads as zeroes, as the kernel would fill it. */
		if (s->data)
			memcpy((char *)buf + done, (const char *)s->data + (address + done - s->region.start), n);
		else
			memset((char *)buf + done, 0, n);
		done += n;
	}
	return (ssize_t)done;
}

static ssize_t fixture_present(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
			       uint64_t *ret_next)
{
	const struct fixture *f = mem->arg;
	size_t count = 0;

	for (size_t i = 0; i < f->count; i++) {
		const struct mem_segment *s = &f->segments[i];
		uint64_t from = s->region.start > start ? s->region.start : start;
		uint64_t to = s->region.end < end ? s->region.end : end;

		if (!s->data || from >= to)
			continue;
		if (count && ret[count - 1].end == from) {
			ret[count - 1].end = to;
		} else if (count == cap) {
			*ret_next = from;
			return (ssize_t)count;
		} else {
			ret[count++] = (struct mem_range){ from, to };
		}
	}
	*ret_next = end;
	return (ssize_t)count;
}

static ssize_t fixture_regions(struct mem *mem, const struct region **ret)
{
	const struct fixture *f = mem->arg;

	*ret = f->regions;
	return (ssize_t)f->count;
}

static void fixture_destroy(struct mem *mem)
{
	struct fixture *f = mem->arg;

	free(f->segments);
	free(f->regions);
	free(f);
}

static const struct mem_ops fixture_ops = {
	.name = "fixture",
	.read = fixture_read,
	.present = fixture_present,
	.regions = fixture_regions,
	.destroy = fixture_destroy,
};

static int compare_segments(const void *a, const void *b)
{
	const struct mem_segment *x = a, *y = b;

	return (x->region.start > y->region.start) - (x->region.start < y->region.start);
}

/* Sorted, non-empty, without overlap: what region_find() needs. */
static bool segments_are_valid(const struct mem_segment *segments, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (segments[i].region.start >= segments[i].region.end)
			return false;
		if (i && segments[i - 1].region.end > segments[i].region.start)
			return false;
	}
	return true;
}

int mem_fixture_create(const struct mem_segment *segments, size_t count, struct mem **ret)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->mem = (struct mem){ &fixture_ops, f };
	f->segments = calloc(count + 1, sizeof(*f->segments));
	f->regions = calloc(count + 1, sizeof(*f->regions));
	if (!f->segments || !f->regions) {
		fixture_destroy(&f->mem);
		return -ENOMEM;
	}
	if (count) {
		memcpy(f->segments, segments, count * sizeof(*segments));
		qsort(f->segments, count, sizeof(*f->segments), compare_segments);
	}
	if (!segments_are_valid(f->segments, count)) {
		fixture_destroy(&f->mem);
		return -EINVAL;
	}
	for (size_t i = 0; i < count; i++) {
		f->regions[i] = f->segments[i].region;
		if (!f->regions[i].path)
			f->regions[i].path = "";
	}
	f->count = count;
	*ret = &f->mem;
	return 0;
}
