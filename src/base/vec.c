/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/vec.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define VEC_FIRST_ELEMS 8

int vec_reserve(void *data, size_t *cap, size_t need, size_t elem_size)
{
	size_t new_cap = *cap + *cap / 2;
	size_t bytes;
	void *array;

	if (need <= *cap)
		return 0;
	if (new_cap < VEC_FIRST_ELEMS)
		new_cap = VEC_FIRST_ELEMS;
	if (new_cap < need)
		new_cap = need;
	if (__builtin_mul_overflow(new_cap, elem_size, &bytes) || bytes > PTRDIFF_MAX) {
		new_cap = need;
		if (__builtin_mul_overflow(new_cap, elem_size, &bytes) || bytes > PTRDIFF_MAX)
			return -ENOMEM;
	}

	/* memcpy: *data is a T *, which may not be read or written as a void * */
	memcpy(&array, data, sizeof(array));
	array = realloc(array, bytes > 0 ? bytes : 1);
	if (!array)
		return -ENOMEM;
	memcpy(data, &array, sizeof(array));
	*cap = new_cap;
	return 0;
}
