/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_cpython_image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SMALL_ARENA (256ULL << 10)
#define LARGE_ARENA (1ULL << 20)
#define HEADER 48
#define TABLE_ENTRIES 16
#define STATE_TO_SLOT 512

const struct py_release py_releases[] = {
	{ 8, SMALL_ARENA, 4096, 32, 8, 344, 0, 0, 0, 240, 200, 128, 224, false, true },
	{ 9, SMALL_ARENA, 4096, 32, 8, 616, 0, 0, 0, 240, 200, 128, 224, false, false },
	{ 10, LARGE_ARENA, 16384, 32, 8, 616, 0, 0, 0, 240, 200, 128, 224, false, false },
	{ 11, LARGE_ARENA, 16384, 40, 16, 648, 0, 0, 0, 240, 200, 128, 224, false, false },
	{ 12, LARGE_ARENA, 16384, 40, 72, 112, 3960, 0, 0, 240, 200, 128, 224, true, false },
	{ 13, LARGE_ARENA, 16384, 632, 7344, 7400, 10800, 10, 71, 240, 200, 128, 224, false, false },
	{ 14, LARGE_ARENA, 16384, 808, 7344, 7408, 10904, 11, 81, 264, 192, 120, 240, false, false },
	{ 14, LARGE_ARENA, 16384, 808, 7344, 7408, 10872, 11, 81, 272, 192, 120, 216, false, false },
};
const int py_release_count = sizeof(py_releases) / sizeof(py_releases[0]);

uint8_t *py_at(struct py_image *im, uint64_t address)
{
	for (size_t i = 0; i < PY_PLACES; i++) {
		const struct mem_segment *s = &im->places[i];

		if (s->data && address >= s->region.start && address < s->region.end)
			return (uint8_t *)(uintptr_t)s->data + (address - s->region.start);
	}
	return NULL;
}

void py_put(struct py_image *im, uint64_t address, uint64_t value)
{
	memcpy(py_at(im, address), &value, sizeof(value));
}

void py_put32(struct py_image *im, uint64_t address, uint32_t value)
{
	memcpy(py_at(im, address), &value, sizeof(value));
}

uint64_t py_table(unsigned int interpreter)
{
	return PY_HEAP + 0x100 + 0x1000 * (uint64_t)interpreter;
}

uint64_t py_arena(const struct py_image *im, unsigned int i)
{
	/* the first half side by side, the rest apart */
	return PY_ARENAS + i * im->release->arena_bytes + (i < im->arena_count / 2 ? 0 : i * 0x5000ULL);
}

uint64_t py_first_pool(const struct py_image *im, unsigned int i)
{
	uint64_t step = im->release->pool_bytes;

	return (py_arena(im, i) + step - 1) & ~(step - 1);
}

/* Blocks of all 32 classes, full pools, nearly empty ones and, each seventh, free ones. */
static void make_pools(struct py_image *im, unsigned int i, uint32_t index, uint64_t carved)
{
	const struct py_release *r = im->release;
	unsigned int n = i;

	for (uint64_t at = py_first_pool(im, i); at < carved; at += r->pool_bytes, n++) {
		uint32_t size = 16 * (1 + n % 32), all = ((uint32_t)r->pool_bytes - HEADER) / size;
		uint32_t count = n % 7 == 6 ? 0 : n % 3 == 0 ? all : 1 + n % all;
		uint32_t given = count + (all - count) / 2;

		py_put32(im, at, count);
		py_put(im, at + 8, count == given ? 0 : at + HEADER + size);
		py_put(im, at + 16, at);
		py_put(im, at + 24, at);
		py_put32(im, at + 32, index);
		py_put32(im, at + 36, size / 16 - 1);
		py_put32(im, at + 40, HEADER + (given ? given : 1) * size);
		py_put32(im, at + 44, (uint32_t)r->pool_bytes - size);
		im->pools++;
		im->blocks += count;
		im->in_use_bytes += (uint64_t)count * size;
		im->pool_free_bytes += count ? (uint64_t)(all - count) * size : 0;
	}
}

/* Entries 1, 2, 3 ... are arenas, 0 and the rest are not: linked. */
static void make_table(struct py_image *im, unsigned int owner)
{
	uint64_t table = py_table(owner), last = 0;
	unsigned int first = owner * im->arena_count / im->interpreters, index = 1;
	unsigned int end = (owner + 1) * im->arena_count / im->interpreters;

	for (unsigned int i = first; i < end; i++, index++) {
		uint64_t at = table + 48 * (uint64_t)index, pools = py_first_pool(im, i),
			 step = im->release->pool_bytes;
		uint64_t total = (py_arena(im, i) + im->release->arena_bytes - pools) / step,
			 virgin = i == first ? 9 : 0;

		py_put(im, at, py_arena(im, i));
		py_put(im, at + 8, pools + (total - virgin) * step);
		py_put32(im, at + 16, (uint32_t)(virgin + 3));
		py_put32(im, at + 20, (uint32_t)total);
		make_pools(im, i, index, pools + (total - virgin) * step);
	}
	for (index = 0; index < TABLE_ENTRIES; index++) {
		uint64_t at = table + 48 * (uint64_t)index;

		if (index && index <= end - first)
			continue;
		if (last)
			py_put(im, last + 32, at);
		last = at;
	}
	/* what malloc put behind it */
	py_put(im, table + 48 * TABLE_ENTRIES + 8, 0x21);
	py_put(im, table + 48 * TABLE_ENTRIES + 16, 0x6161616161616161ULL);
}

static void make_interpreters(struct py_image *im)
{
	const struct py_release *r = im->release;

	for (unsigned int i = 0; i < im->interpreters; i++) {
		uint64_t at = im->interpreter[i], thread = PY_HEAP + 0x4000 + 0x1000 * (uint64_t)i;
		uint64_t gc = r->gc_in_runtime ? PY_RUNTIME + r->gc : at + r->gc;
		uint64_t next_offset = r->gc_index ? 7264 : 0;

		/* new ones stand in front */
		py_put(im, at + next_offset, i ? im->interpreter[i - 1] : 0);
		/* 3.13+: no thread stays in one that is not at work */
		im->tasks += i && r->gc_index ? 0 : 2;
		py_put(im, at + r->threads, i && r->gc_index ? 0 : thread);
		py_put(im, thread + 8, thread + 0x400);
		py_put(im, thread + 16, at);
		py_put(im, thread + 0x400 + 16, at);
		py_put(im, gc + r->stats + 48, PY_COLLECTIONS);
		py_put(im, gc + r->stats + 16, PY_UNCOLLECTABLE);
		py_put(im, gc + r->long_lived, PY_LONG_LIVED);
		if (r->obmalloc && r->inside)
			py_put(im, at + r->obmalloc + STATE_TO_SLOT, py_table(i));
		else if (r->obmalloc && i)
			py_put(im, at + r->obmalloc, PY_HEAP + 0x30000);
		else if (r->obmalloc)
			py_put(im, at + r->obmalloc, PY_SLOT - STATE_TO_SLOT);
		if (i && !r->inside)
			py_put(im, PY_HEAP + 0x30000 + STATE_TO_SLOT, py_table(i));
	}
	py_put(im, PY_RUNTIME + r->head, im->interpreter[im->interpreters - 1]);
}

static void make_debug_offsets(struct py_image *im)
{
	const struct py_release *r = im->release;

	memcpy(py_at(im, PY_RUNTIME), "xdebugpy", 8);
	py_put(im, PY_RUNTIME + 8, 0x030000f0ULL | r->minor << 16 | 5U << 8);
	py_put(im, PY_RUNTIME + 8 * 5ULL, r->head);
	py_put(im, PY_RUNTIME + 8 * 8ULL, 7264);
	py_put(im, PY_RUNTIME + 8 * 9ULL, r->threads);
	py_put(im, PY_RUNTIME + 8 * (uint64_t)r->gc_index, r->gc);
	py_put(im, PY_RUNTIME + 8 * (uint64_t)r->gc_size_index, r->gc_size);
	py_put(im, PY_RUNTIME + 8 * (uint64_t)(r->gc_size_index + 1), r->collecting);
}

static void *make_bytes(uint64_t len)
{
	void *bytes = calloc(1, len);

	if (!bytes)
		abort();
	return bytes;
}

static void make_places(struct py_image *im)
{
	static const char *const paths[] = {
		[8] = "/usr/lib/libpython3.8.so.1.0",   [9] = "/usr/lib/libpython3.9.so.1.0",
		[10] = "/usr/lib/libpython3.10.so.1.0", [11] = "/usr/lib/libpython3.11.so.1.0",
		[12] = "/usr/lib/libpython3.12.so.1.0", [13] = "/usr/lib/libpython3.13.so.1.0",
		[14] = "/usr/lib/libpython3.14.so.1.0",
	};
	const char *path = paths[im->release->minor];
	size_t n = 0;

	im->data = make_bytes(PY_DATA_BYTES);
	im->heap = make_bytes(PY_HEAP_BYTES);
	im->places[n++] = (struct mem_segment){ { .start = PY_DATA - 0x10000,
						  .end = PY_DATA,
						  .flags = REGION_READ,
						  .class = REGION_FILE,
						  .path = path },
						NULL };
	im->places[n++] = (struct mem_segment){ { .start = PY_DATA,
						  .end = PY_DATA + 0x10000,
						  .flags = REGION_READ | REGION_WRITE,
						  .class = REGION_FILE,
						  .path = path },
						im->data };
	im->places[n++] = (struct mem_segment){ { .start = PY_DATA + 0x10000,
						  .end = PY_DATA + PY_DATA_BYTES,
						  .flags = REGION_READ | REGION_WRITE,
						  .class = REGION_ANON,
						  .path = "" },
						im->data + 0x10000 };
	im->places[n++] = (struct mem_segment){ { .start = PY_HEAP,
						  .end = PY_HEAP + PY_HEAP_BYTES,
						  .flags = REGION_READ | REGION_WRITE,
						  .class = REGION_HEAP,
						  .path = "[heap]" },
						im->heap };
	for (unsigned int i = 0; i < im->arena_count; i++) {
		im->arenas[i] = make_bytes(im->release->arena_bytes);
		im->places[n++] = (struct mem_segment){ { .start = py_arena(im, i),
							  .end = py_arena(im, i) + im->release->arena_bytes,
							  .flags = REGION_READ | REGION_WRITE,
							  .class = REGION_ANON,
							  .path = "" },
							im->arenas[i] };
	}
}

void py_image_init(struct py_image *im, const struct py_release *release, unsigned int interpreters)
{
	*im = (struct py_image){ .release = release, .interpreters = interpreters, .has_symbols = true };
	im->arena_count = PY_ARENAS_MAX;
	/* 3.12+: the main interpreter is part of _PyRuntime */
	im->interpreter[0] = release->minor < 12 ? PY_HEAP + 0x8000 : PY_RUNTIME + 0x1000;
	im->interpreter[1] = PY_HEAP + 0x10000;
	make_places(im);
	for (unsigned int i = 0; i < interpreters; i++)
		make_table(im, i);
	if (!release->inside)
		py_put(im, PY_SLOT, py_table(0));
	/* usable_arenas: leads into the table */
	py_put(im, PY_SLOT + 0x40, py_table(0) + 48 * 2);
	make_interpreters(im);
	if (release->gc_index)
		make_debug_offsets(im);
	snprintf((char *)py_at(im, PY_DATA + 0x1c003), 64, "3.%u.5 (main, Jan  1 2024, 00:00:00) \n[GCC",
		 release->minor);
}

void py_image_deinit(struct py_image *im)
{
	free(im->data);
	free(im->heap);
	for (size_t i = 0; i < PY_ARENAS_MAX; i++)
		free(im->arenas[i]);
}

struct mem *py_mem(struct py_image *im)
{
	struct mem *mem = NULL;

	if (mem_fixture_create(im->places, PY_PLACES, &mem) < 0)
		abort();
	return mem;
}

int py_find(void *arg, const char *name, uint64_t *ret)
{
	const struct py_image *im = arg;

	if (!im->has_symbols || strcmp(name, "_PyRuntime") != 0)
		return -ENOENT;
	*ret = PY_RUNTIME;
	return 0;
}
