/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading checked values out of a cJSON tree. Nothing throws away the first error: it sets `status`, names the place, and whatever
 * is read after it is unknown. Unknown (missing or null) is UNKNOWN_U64, NaN, NULL.
 */
#ifndef MEMWATCH_SRC_REPORT_JSON_READ_H
#define MEMWATCH_SRC_REPORT_JSON_READ_H

#include <cjson/cJSON.h>

#include "private.h"

#define PLACE_BYTES 128

struct reader {
	struct arena *arena;
	struct err *err;
	int status; /* 0 or the first failure; nothing is done after it */
	char place[PLACE_BYTES];
	size_t place_len;
};

/* The place is where the reader stands, and key. */
void reader_fail(struct reader *r, const char *key, const char *what);
/* Steps into a member, or into an element where key is NULL; the result goes to reader_leave(). */
size_t reader_enter(struct reader *r, const char *key, size_t index);
void reader_leave(struct reader *r, size_t before);

/* NULL where the member is missing or null. */
const cJSON *member(const cJSON *object, const char *key);
const cJSON *member_of(struct reader *r, const cJSON *object, const char *key, bool array);

const char *read_text(struct reader *r, const cJSON *item, const char *key);
/* A whole number up to max; fallback where it is unknown. */
uint64_t read_u64(struct reader *r, const cJSON *item, const char *key, uint64_t max, uint64_t fallback);
double read_double(struct reader *r, const cJSON *item, const char *key);
void read_fields(struct reader *r, const cJSON *object, const struct field *fields, void *base);

/* `size` zero bytes for each element of an array; *ret_count 0 where it is missing or empty. */
void *read_array(struct reader *r, const cJSON *array, size_t size, size_t *ret_count);
const char **read_texts(struct reader *r, const cJSON *object, const char *key, size_t *ret_count);

/* ret: the element or part to fill, all zero or as its owner prepared it. */
typedef void read_part(struct reader *r, const cJSON *object, void *ret);
/* A member that is an array of objects. */
void *read_objects(struct reader *r, const cJSON *parent, const char *key, size_t size, read_part *read,
		   size_t *ret_count);
/* A member that is an object; not touched where it is missing. Whether it was there. */
bool read_object(struct reader *r, const cJSON *parent, const char *key, read_part *read, void *ret);

#endif
