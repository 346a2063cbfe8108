/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Arena: allocations that are freed all at once. Chunks grow geometrically from `first_bytes`; a limit bounds the sum.
 * Memory is zeroed. Pointers stay valid until arena_reset() or arena_deinit().
 */
#ifndef MEMWATCH_BASE_ARENA_H
#define MEMWATCH_BASE_ARENA_H

#include <stddef.h>

#include "memwatch/base/cleanup.h"

struct arena_chunk;
struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t used_bytes;          /* handed out */
	size_t limit_bytes;         /* 0: none */
	size_t first_bytes;
};

void arena_init(struct arena *a, size_t first_bytes, size_t limit_bytes);
void arena_deinit(struct arena *a);
void arena_reset(struct arena *a);                           /* keeps the largest chunk for reuse */
must_check int arena_prepare(struct arena *a, size_t bytes); /* one chunk of that size, pages touched: no fault later */
void *arena_alloc(struct arena *a, size_t bytes);            /* 16-aligned; NULL on out of memory or limit */
void *arena_array(struct arena *a, size_t count, size_t elem_size); /* overflow-checked */
void *arena_memdup(struct arena *a, const void *data, size_t bytes);
char *arena_strdup(struct arena *a, const char *text); /* NULL for NULL */
char *arena_strndup(struct arena *a, const char *text, size_t len);
char *arena_printf(struct arena *a, const char *fmt, ...) printf_like(2, 3);

#endif
