/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Hash table from u64 to u64 (open addressing, linear probing), and an interner of strings. Not thread safe.
 */
#ifndef MEMWATCH_BASE_MAP_H
#define MEMWATCH_BASE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/cleanup.h"

struct map_slot;
struct map {
	struct map_slot *slots;
	size_t cap;   /* power of two or 0 */
	size_t count; /* live entries */
	size_t used;  /* live entries and tombstones */
};

#define MAP_INIT                                                                                                       \
	{                                                                                                              \
		NULL, 0, 0, 0                                                                                          \
	}

void map_init(struct map *m);
void map_deinit(struct map *m);
void map_clear(struct map *m); /* empties, keeps the memory */
bool map_get(const struct map *m, uint64_t key, uint64_t *ret_value);
must_check int map_put(struct map *m, uint64_t key, uint64_t value); /* replaces; 0 or -ENOMEM */
bool map_remove(struct map *m, uint64_t key);
/* Walks in no order: start with *pos = 0; false at the end. The map must not change meanwhile. */
bool map_next(const struct map *m, size_t *pos, uint64_t *ret_key, uint64_t *ret_value);

/* Strings kept once; pointers stay valid until intern_deinit(). */
struct intern;
must_check int intern_create(struct intern **ret);
void intern_destroy(struct intern *in);
const char *intern_str(struct intern *in, const char *text);              /* NULL on out of memory */
const char *intern_strn(struct intern *in, const char *text, size_t len); /* NULL on out of memory */

#endif
