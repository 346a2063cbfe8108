/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "json_read.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"

void reader_fail(struct reader *r, const char *key, const char *what)
{
	if (r->status == 0)
		r->status = err_set(r->err, EBADMSG, "not a memwatch report: '%s%s%s' %s", r->place,
				    r->place_len > 0 && *key ? "." : "", key, what);
}

size_t reader_enter(struct reader *r, const char *key, size_t index)
{
	size_t before = r->place_len;
	size_t left = PLACE_BYTES - before;
	int n = key ? snprintf(r->place + before, left, "%s%s", before > 0 ? "." : "", key) :
		      snprintf(r->place + before, left, "[%zu]", index);

	r->place_len += n < 0 ? 0 : (size_t)n < left ? (size_t)n : left - 1;
	return before;
}

void reader_leave(struct reader *r, size_t before)
{
	r->place_len = before;
	r->place[before] = '\0';
}

const cJSON *member(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNull(item) ? NULL : item;
}

const cJSON *member_of(struct reader *r, const cJSON *object, const char *key, bool array)
{
	const cJSON *item = member(object, key);

	if (!item || (array ? cJSON_IsArray(item) : cJSON_IsObject(item)))
		return item;
	reader_fail(r, key, array ? "is not an array" : "is not an object");
	return NULL;
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

const char *read_text(struct reader *r, const cJSON *item, const char *key)
{
	const char *text;

	if (!item)
		return NULL;
	if (!cJSON_IsString(item)) {
		reader_fail(r, key, "is not a string");
		return NULL;
	}
	text = arena_strdup(r->arena, item->valuestring);
	if (!text && r->status == 0)
		r->status = err_set(r->err, ENOMEM, "out of memory while reading a report");
	return text;
}

uint64_t read_u64(struct reader *r, const cJSON *item, const char *key, uint64_t max, uint64_t fallback)
{
	if (!item)
		return fallback;
	if (!cJSON_IsNumber(item)) {
		reader_fail(r, key, "is not a number");
		return fallback;
	}
	/* 2^64 itself is the first double beyond. */
	if (!(item->valuedouble >= 0) || item->valuedouble >= 0x1p64 || item->valuedouble != trunc(item->valuedouble) ||
	    (uint64_t)item->valuedouble > max) {
		reader_fail(r, key, "is not a whole number of the range that can be");
		return fallback;
	}
	return (uint64_t)item->valuedouble;
}

double read_double(struct reader *r, const cJSON *item, const char *key)
{
	if (!item)
		return NAN;
	if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble)) {
		reader_fail(r, key, "is not a finite number");
		return NAN;
	}
	return item->valuedouble;
}

static bool read_bool(struct reader *r, const cJSON *item, const char *key)
{
	if (item && !cJSON_IsBool(item))
		reader_fail(r, key, "is not true or false");
	return cJSON_IsTrue(item);
}

static uint64_t read_address(struct reader *r, const cJSON *item, const char *key)
{
	const char *text = cJSON_IsString(item) ? item->valuestring : "";
	size_t digits;

	if (!item)
		return UNKNOWN_U64;
	digits = strncmp(text, "0x", 2) == 0 ? strspn(text + 2, "0123456789abcdefABCDEF") : 0;
	if (digits < 1 || digits > 16 || text[2 + digits] != '\0') {
		reader_fail(r, key, "is not an address such as \"0x7f00\"");
		return UNKNOWN_U64;
	}
	return strtoull(text + 2, NULL, 16);
}

static struct interval read_interval(struct reader *r, const cJSON *item, const char *key, const char *middle)
{
	struct interval i = { NAN, NAN, NAN };
	size_t before;

	if (!item)
		return i;
	if (!cJSON_IsObject(item)) {
		reader_fail(r, key, "is not an object");
		return i;
	}
	before = reader_enter(r, key, 0);
	i.value = read_double(r, member(item, middle), middle);
	i.low = read_double(r, member(item, "low"), "low");
	i.high = read_double(r, member(item, "high"), "high");
	reader_leave(r, before);
	return i;
}

static int64_t read_wall(struct reader *r, const cJSON *item, const char *key)
{
	int64_t ns = 0;

	if (item && (!cJSON_IsString(item) || !report_parse_rfc3339(item->valuestring, &ns)))
		reader_fail(r, key, "is not a time such as \"2026-11-20T12:10:25.123Z\"");
	return ns;
}

static uint64_t read_ns(struct reader *r, const cJSON *item, const char *key)
{
	double seconds = read_double(r, item, key);

	if (isnan(seconds))
		return UNKNOWN_U64;
	if (seconds < 0 || seconds > 1e9) {
		reader_fail(r, key, "is not a time in seconds");
		return UNKNOWN_U64;
	}
	return (uint64_t)(seconds * (double)NS_PER_S + 0.5);
}

static uint32_t read_enum(struct reader *r, const cJSON *item, const struct field *f)
{
	if (!item && f->type == FIELD_ENUM_0)
		return 0;
	for (uint32_t i = 0; cJSON_IsString(item) && i < f->name_count; i++)
		if (f->names[i] && strcmp(f->names[i], item->valuestring) == 0)
			return i;
	reader_fail(r, f->key, item ? "is none of the names that it can have" : "is missing");
	return 0;
}

static uint32_t read_metric(struct reader *r, const cJSON *item, const char *key)
{
	if (!item)
		return METRIC_RSS;
	for (uint32_t i = 0; cJSON_IsString(item) && i < METRIC_COUNT; i++)
		if (strcmp(metric_table[i].name, item->valuestring) == 0)
			return i;
	reader_fail(r, key, "is not the name of a metric");
	return METRIC_RSS;
}

static void read_field(struct reader *r, const cJSON *item, const struct field *f, void *at)
{
	switch (f->type) {
	case FIELD_U64:
		*(uint64_t *)at = read_u64(r, item, f->key, UINT64_MAX - 1, UNKNOWN_U64);
		break;
	case FIELD_U32:
		*(uint32_t *)at = (uint32_t)read_u64(r, item, f->key, UINT32_MAX - 1, UINT32_MAX);
		break;
	case FIELD_LINE:
		*(uint32_t *)at = (uint32_t)read_u64(r, item, f->key, UINT32_MAX, 0);
		break;
	case FIELD_PID:
		*(pid_t *)at = (pid_t)read_u64(r, item, f->key, INT32_MAX, 0);
		break;
	case FIELD_DOUBLE:
		*(double *)at = read_double(r, item, f->key);
		break;
	case FIELD_TEXT:
		*(const char **)at = read_text(r, item, f->key);
		break;
	case FIELD_BOOL:
		*(bool *)at = read_bool(r, item, f->key);
		break;
	case FIELD_ADDRESS:
		*(uint64_t *)at = read_address(r, item, f->key);
		break;
	case FIELD_INTERVAL:
		*(struct interval *)at = read_interval(r, item, f->key, "value");
		break;
	case FIELD_RANGE:
		*(struct interval *)at = read_interval(r, item, f->key, "mid");
		break;
	case FIELD_WALL:
		*(int64_t *)at = read_wall(r, item, f->key);
		break;
	case FIELD_NS:
		*(uint64_t *)at = read_ns(r, item, f->key);
		break;
	case FIELD_ENUM:
	case FIELD_ENUM_0:
		*(uint32_t *)at = read_enum(r, item, f);
		break;
	case FIELD_METRIC:
		*(uint32_t *)at = read_metric(r, item, f->key);
		break;
	}
}

void read_fields(struct reader *r, const cJSON *object, const struct field *fields, void *base)
{
	for (const struct field *f = fields; f->key && r->status == 0; f++)
		read_field(r, member(object, f->key), f, (char *)base + f->offset);
}

/* ---- arrays ----------------------------------------------------------------------------------------------------------- */

void *read_array(struct reader *r, const cJSON *array, size_t size, size_t *ret_count)
{
	int count = cJSON_GetArraySize(array);
	void *elements;

	*ret_count = 0;
	if (count <= 0 || r->status != 0)
		return NULL;
	elements = arena_array(r->arena, (size_t)count, size);
	if (!elements)
		r->status = err_set(r->err, ENOMEM, "out of memory while reading a report");
	else
		*ret_count = (size_t)count;
	return elements;
}

const char **read_texts(struct reader *r, const cJSON *object, const char *key, size_t *ret_count)
{
	const cJSON *array = member_of(r, object, key, true);
	const char **texts = read_array(r, array, sizeof(*texts), ret_count);
	const cJSON *item = array ? array->child : NULL;

	for (size_t i = 0; i < *ret_count && item; i++, item = item->next) {
		texts[i] = read_text(r, item, key);
		if (!texts[i])
			texts[i] = "";
	}
	return texts;
}

void *read_objects(struct reader *r, const cJSON *parent, const char *key, size_t size, read_part *read,
		   size_t *ret_count)
{
	const cJSON *array = member_of(r, parent, key, true);
	char *elements = read_array(r, array, size, ret_count);
	size_t before = reader_enter(r, key, 0);
	const cJSON *item = array ? array->child : NULL;

	for (size_t i = 0; i < *ret_count && item && r->status == 0; i++, item = item->next) {
		size_t inner = reader_enter(r, NULL, i);

		if (cJSON_IsObject(item))
			read(r, item, elements + i * size);
		else
			reader_fail(r, "", "is not an object");
		reader_leave(r, inner);
	}
	reader_leave(r, before);
	return elements;
}

bool read_object(struct reader *r, const cJSON *parent, const char *key, read_part *read, void *ret)
{
	const cJSON *object = member_of(r, parent, key, false);
	size_t before;

	if (!object || r->status != 0)
		return false;
	before = reader_enter(r, key, 0);
	read(r, object, ret);
	reader_leave(r, before);
	return true;
}
