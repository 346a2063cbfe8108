/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Growth of plain arrays: pointer, count and capacity stay visible in the owner's struct.
 *
 *     if (vec_reserve(&list->items, &list->cap, list->count + 1, sizeof(*list->items)) < 0)
 *             return -ENOMEM;
 *     list->items[list->count++] = item;
 */
#ifndef MEMWATCH_BASE_VEC_H
#define MEMWATCH_BASE_VEC_H

#include <stddef.h>

#include "memwatch/base/cleanup.h"

/* Grows *(T **)data so that it holds at least `need` elements of `elem_size` bytes. 0 or -ENOMEM (array unchanged).
 * Overflow of need * elem_size is -ENOMEM. New elements are not initialised. Growth is geometric. */
must_check int vec_reserve(void *data, size_t *cap, size_t need, size_t elem_size);

#endif
