/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The readers of language runtimes over images with lies in them. Input: one byte chooses the image (a release of CPython, or a JVM's counters in either
 * byte order), one whether there are symbols; then records of 12 bytes, each a place (1), an operation (1), an offset in words (2) and a value (8) that is
 * stored, added or xored there; those of odd places only after the first look. What is read in all must stay within bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "../fixtures/hsperf_image.h"
#include "../unit/support_cpython_image.h"
#include "memwatch/runtime.h"

#define RECORD 12
#define READ_MAX (256ULL << 20) /* bytes of one input: an image has at most 9 MiB */
#define CALLS_MAX 1000000U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct counted { /* what a reader asks of the image */
	struct mem mem;
	struct mem *image;
	uint64_t bytes, calls;
};

static ssize_t counted_read(struct mem *mem, uint64_t address, void *buf, size_t len)
{
	struct counted *c = mem->arg;

	c->bytes += len;
	if (c->bytes > READ_MAX || ++c->calls > CALLS_MAX)
		abort();
	return mem_read(c->image, address, buf, len);
}

static ssize_t counted_present(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
			       uint64_t *ret_next)
{
	struct counted *c = mem->arg;

	if (++c->calls > CALLS_MAX)
		abort();
	return mem_present(c->image, start, end, ret, cap, ret_next);
}

static ssize_t counted_regions(struct mem *mem, const struct region **ret)
{
	return mem_regions(((struct counted *)mem->arg)->image, ret);
}

static const struct mem_ops counted_ops = {
	.name = "counted", .read = counted_read, .present = counted_present, .regions = counted_regions
};

static void lie(const struct mem_segment *places, size_t count, const uint8_t *data, size_t size, bool late)
{
	for (size_t at = 2; at + RECORD <= size; at += RECORD) {
		const struct mem_segment *p = &places[data[at] / 2 % count];
		uint64_t value, old, bytes = p->region.end - p->region.start;
		unsigned char *word;
		uint16_t offset;

		if ((data[at] & 1) != late || !p->data || bytes < 8)
			continue;
		memcpy(&offset, data + at + 2, sizeof(offset));
		memcpy(&value, data + at + 4, sizeof(value));
		word = (unsigned char *)(uintptr_t)p->data + offset * 8ULL % (bytes & ~7ULL);
		memcpy(&old, word, sizeof(old));
		if (data[at + 1] % 3 == 1)
			value += old;
		else if (data[at + 1] % 3 == 2)
			value ^= old;
		memcpy(word, &value, sizeof(value));
	}
}

/* A runtime that is there is read twice, with other lies the second time. */
static void look(struct counted *c, struct runtime_query *query, const struct mem_segment *places, size_t count,
		 const uint8_t *data, size_t size)
{
	struct runtime *runtime = NULL;
	struct runtime_stats stats;
	struct named_part part;
	struct arena arena;

	c->mem = (struct mem){ &counted_ops, c };
	query->mem = &c->mem;
	arena_init(&arena, 4096, 0);
	lie(places, count, data, size, false);
	if (runtime_probe(query, &runtime, NULL) == 1) {
		for (int i = 0; i < 2; i++) {
			if (runtime_read(runtime, &c->mem, &arena, &stats, NULL) == 0 &&
			    (stats.in_use_bytes < 0 || stats.free_bytes < 0 || stats.live_bytes < 0 ||
			     stats.committed_bytes < 0))
				abort();
			lie(places, count, data, size, true);
		}
		runtime_describe(runtime, &arena, &part);
		runtime_destroy(runtime);
	}
	arena_deinit(&arena);
}

static void look_at_cpython(const uint8_t *data, size_t size, int release)
{
	struct runtime_query query = { 0 };
	struct counted c = { 0 };
	struct py_image im;

	py_image_init(&im, &py_releases[release], py_releases[release].minor >= 12 ? 2 : 1);
	c.image = py_mem(&im);
	if (data[1] & 1) {
		query.find = py_find;
		query.arg = &im;
	}
	look(&c, &query, im.places, PY_PLACES, data, size);
	mem_destroy(c.image);
	py_image_deinit(&im);
}

static void fill_counters(struct hsperf_image *im)
{
	static const char *const longs[] = { "sun.gc.generation.0.space.0.used",
					     "sun.gc.generation.0.capacity",
					     "sun.gc.generation.1.space.0.used",
					     "sun.gc.generation.1.capacity",
					     "sun.gc.collector.0.invocations",
					     "sun.gc.collector.1.invocations",
					     "sun.gc.metaspace.used",
					     "sun.gc.metaspace.capacity",
					     "java.threads.live",
					     "sun.os.hrt.frequency" };

	hsperf_text(im, "sun.gc.policy.name", "Copy:MSC");
	hsperf_text(im, "java.property.java.version", "17.0.15");
	for (size_t i = 0; i < sizeof(longs) / sizeof(*longs); i++)
		hsperf_long(im, longs[i], (i + 1) << 20);
}

static void look_at_hotspot(const uint8_t *data, size_t size, bool little)
{
	struct runtime_query query = { 0 };
	struct counted c = { 0 };
	struct hsperf_image *im = malloc(sizeof(*im));
	struct mem_segment place = { .region = { .start = HSPERF_AT,
						 .end = HSPERF_AT + HSPERF_BYTES,
						 .path = HSPERF_PATH,
						 .flags = REGION_READ | REGION_WRITE | REGION_SHARED } };

	if (!im)
		abort();
	hsperf_init(im, little);
	fill_counters(im);
	place.data = im->data;
	if (mem_fixture_create(&place, 1, &c.image) < 0)
		abort();
	look(&c, &query, &place, 1, data, size);
	mem_destroy(c.image);
	free(im);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int which;

	if (size < 2)
		return 0;
	which = data[0] % (py_release_count + 2);
	if (which < py_release_count)
		look_at_cpython(data, size, which);
	else
		look_at_hotspot(data, size, which > py_release_count);
	return 0;
}
