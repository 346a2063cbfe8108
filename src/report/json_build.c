/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "json_build.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/units.h"

void json_init(struct json *j)
{
	str_init(&j->scratch);
	j->root = cJSON_CreateObject();
	j->failed = !j->root;
}

void json_deinit(struct json *j)
{
	cJSON_Delete(j->root);
	j->root = NULL;
	str_deinit(&j->scratch);
}

int json_finish(struct json *j, bool formatted, struct str *out)
{
	char *text;

	if (j->failed)
		return -ENOMEM;
	text = formatted ? cJSON_Print(j->root) : cJSON_PrintUnformatted(j->root);
	if (!text)
		return -ENOMEM;
	str_add(out, text);
	str_addc(out, '\n');
	cJSON_free(text);
	return str_status(out);
}

static cJSON *json_put(struct json *j, cJSON *parent, const char *key, cJSON *item)
{
	bool put = item && !j->failed &&
		   (key ? cJSON_AddItemToObjectCS(parent, key, item) : cJSON_AddItemToArray(parent, item));

	if (put)
		return item;
	cJSON_Delete(item);
	j->failed = true;
	return NULL;
}

cJSON *json_object(struct json *j, cJSON *parent, const char *key)
{
	return json_put(j, parent, key, cJSON_CreateObject());
}

cJSON *json_array(struct json *j, cJSON *parent, const char *key)
{
	return json_put(j, parent, key, cJSON_CreateArray());
}

void json_null(struct json *j, cJSON *parent, const char *key)
{
	json_put(j, parent, key, cJSON_CreateNull());
}

void json_raw(struct json *j, cJSON *parent, const char *key, const char *json_text)
{
	json_put(j, parent, key, cJSON_CreateRaw(json_text));
}

/* What stands in the scratch string becomes the value. */
static void json_scratch(struct json *j, cJSON *parent, const char *key)
{
	j->failed |= j->scratch.failed;
	json_raw(j, parent, key, str_text(&j->scratch));
	str_reset(&j->scratch);
}

void json_u64(struct json *j, cJSON *parent, const char *key, uint64_t value)
{
	if (value == UNKNOWN_U64)
		str_add(&j->scratch, "null");
	else
		str_addf(&j->scratch, "%" PRIu64, value);
	json_scratch(j, parent, key);
}

void json_double(struct json *j, cJSON *parent, const char *key, double value)
{
	report_add_number(&j->scratch, value);
	json_scratch(j, parent, key);
}

void json_text(struct json *j, cJSON *parent, const char *key, const char *value)
{
	report_add_json_text(&j->scratch, value);
	json_scratch(j, parent, key);
}

static void json_interval(struct json *j, cJSON *parent, const char *key, const char *middle, const struct interval *i)
{
	cJSON *object = json_object(j, parent, key);

	json_double(j, object, middle, i->value);
	json_double(j, object, "low", i->low);
	json_double(j, object, "high", i->high);
}

static void json_wall(struct json *j, cJSON *parent, const char *key, int64_t wall_ns)
{
	cleanup_str struct str text = STR_INIT;

	if (wall_ns > 0)
		units_add_rfc3339(&text, wall_ns);
	j->failed |= text.failed;
	json_text(j, parent, key, text.len > 0 ? str_text(&text) : NULL);
}

static void json_address(struct json *j, cJSON *parent, const char *key, uint64_t value)
{
	if (value == UNKNOWN_U64)
		str_add(&j->scratch, "null");
	else
		str_addf(&j->scratch, "\"0x%" PRIx64 "\"", value);
	json_scratch(j, parent, key);
}

static const char *enum_name(const struct field *f, uint32_t value)
{
	return value >= f->name_count || (f->type == FIELD_ENUM_0 && value == 0) ? NULL : f->names[value];
}

static void json_field(struct json *j, cJSON *object, const struct field *f, const void *base)
{
	const void *at = (const char *)base + f->offset;
	uint32_t u32;

	switch (f->type) {
	case FIELD_U64:
		json_u64(j, object, f->key, *(const uint64_t *)at);
		break;
	case FIELD_U32:
		u32 = *(const uint32_t *)at;
		json_u64(j, object, f->key, u32 == UINT32_MAX ? UNKNOWN_U64 : u32);
		break;
	case FIELD_LINE:
		u32 = *(const uint32_t *)at;
		json_u64(j, object, f->key, u32 == 0 ? UNKNOWN_U64 : u32);
		break;
	case FIELD_PID: {
		pid_t pid = *(const pid_t *)at;

		json_u64(j, object, f->key, pid > 0 ? (uint64_t)pid : UNKNOWN_U64);
		break;
	}
	case FIELD_DOUBLE:
		json_double(j, object, f->key, *(const double *)at);
		break;
	case FIELD_TEXT:
		json_text(j, object, f->key, *(const char *const *)at);
		break;
	case FIELD_BOOL:
		json_raw(j, object, f->key, *(const bool *)at ? "true" : "false");
		break;
	case FIELD_ADDRESS:
		json_address(j, object, f->key, *(const uint64_t *)at);
		break;
	case FIELD_INTERVAL:
		json_interval(j, object, f->key, "value", at);
		break;
	case FIELD_RANGE:
		json_interval(j, object, f->key, "mid", at);
		break;
	case FIELD_WALL:
		json_wall(j, object, f->key, *(const int64_t *)at);
		break;
	case FIELD_NS: {
		uint64_t ns = *(const uint64_t *)at;

		json_double(j, object, f->key, ns == UNKNOWN_U64 ? NAN : (double)ns / (double)NS_PER_S);
		break;
	}
	case FIELD_ENUM:
	case FIELD_ENUM_0:
		json_text(j, object, f->key, enum_name(f, *(const uint32_t *)at));
		break;
	case FIELD_METRIC:
		u32 = *(const uint32_t *)at;
		json_text(j, object, f->key, u32 < METRIC_COUNT ? metric_table[u32].name : NULL);
		break;
	}
}

void json_fields(struct json *j, cJSON *object, const struct field *fields, const void *base)
{
	_Static_assert(sizeof(enum verdict_class) == sizeof(uint32_t), "enums are read through uint32_t");
	for (const struct field *f = fields; f->key; f++)
		json_field(j, object, f, base);
}
