/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A synthesised CPython: a module's data, a heap with tables, interpreters and threads, and arenas, with the truth of it. */
#ifndef MEMWATCH_TEST_SUPPORT_CPYTHON_IMAGE_H
#define MEMWATCH_TEST_SUPPORT_CPYTHON_IMAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "memwatch/mem.h"
#include "memwatch/runtime.h"

#define PY_DATA 0x7f0000100000ULL
#define PY_DATA_BYTES 0x20000ULL
#define PY_RUNTIME (PY_DATA + 0x1000)
#define PY_SLOT (PY_DATA + 0x18000) /* static `arenas`; less 512: obmalloc_state_main */
#define PY_HEAP 0x555500000000ULL
#define PY_HEAP_BYTES 0x40000ULL
#define PY_ARENAS 0x7f1000003000ULL /* aligned to pages only, as mmap does */
#define PY_ARENAS_MAX 8
#define PY_PLACES (4 + PY_ARENAS_MAX)

struct py_release {
	unsigned int minor;
	uint64_t arena_bytes, pool_bytes;
	uint32_t head, threads, gc, obmalloc; /* obmalloc 0: static */
	uint32_t gc_index, gc_size_index;     /* words of the debug offsets; 0: none */
	uint32_t gc_size, collecting;
	uint32_t stats, long_lived;
	bool inside;        /* obmalloc is part of the interpreter */
	bool gc_in_runtime; /* not in the interpreter */
};
extern const struct py_release py_releases[];
extern const int py_release_count;

struct py_image {
	const struct py_release *release;
	struct mem_segment places[PY_PLACES];
	uint8_t *data, *heap, *arenas[PY_ARENAS_MAX];
	unsigned int interpreters, arena_count;
	uint64_t interpreter[2];
	bool has_symbols;
	/* the truth */
	uint64_t in_use_bytes, pool_free_bytes, blocks, pools, tasks;
};

#define PY_COLLECTIONS 17
#define PY_LONG_LIVED 4711
#define PY_UNCOLLECTABLE 3

/* interpreters: 1 or 2, the second with arenas of its own (3.12+). */
void py_image_init(struct py_image *im, const struct py_release *release, unsigned int interpreters);
void py_image_deinit(struct py_image *im);
uint8_t *py_at(struct py_image *im, uint64_t address); /* NULL: nowhere */
void py_put(struct py_image *im, uint64_t address, uint64_t value);
void py_put32(struct py_image *im, uint64_t address, uint32_t value);
uint64_t py_table(unsigned int interpreter);
uint64_t py_arena(const struct py_image *im, unsigned int i);
uint64_t py_first_pool(const struct py_image *im, unsigned int i);
struct mem *py_mem(struct py_image *im);
/* The `find` of a runtime_query; arg: the image. */
int py_find(void *arg, const char *name, uint64_t *ret);

#endif
