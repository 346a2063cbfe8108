/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Building JSON with cJSON. A failed allocation sets `failed` and everything after it does nothing, so it is checked once.
 * Keys must be string constants: cJSON does not copy them. key NULL: the parent is an array.
 *
 * Numbers and strings are given to cJSON as ready text: its own number printer turns 2^53 - 1 into 9.00719925474099e+15, and its
 * string printer lets bad UTF-8 and C1 control characters through.
 */
#ifndef MEMWATCH_SRC_REPORT_JSON_BUILD_H
#define MEMWATCH_SRC_REPORT_JSON_BUILD_H

#include <cjson/cJSON.h>

#include "private.h"

struct json {
	cJSON *root;
	struct str scratch;
	bool failed;
};

void json_init(struct json *j); /* an empty object as root */
void json_deinit(struct json *j);
/* Appends the document; formatted: indented, else one line. A newline behind it. 0 or -ENOMEM */
must_check int json_finish(struct json *j, bool formatted, struct str *out);

cJSON *json_object(struct json *j, cJSON *parent, const char *key);
cJSON *json_array(struct json *j, cJSON *parent, const char *key);
void json_null(struct json *j, cJSON *parent, const char *key);
void json_raw(struct json *j, cJSON *parent, const char *key, const char *json_text);
void json_u64(struct json *j, cJSON *parent, const char *key, uint64_t value);
void json_double(struct json *j, cJSON *parent, const char *key, double value);
void json_text(struct json *j, cJSON *parent, const char *key, const char *value);
void json_fields(struct json *j, cJSON *object, const struct field *fields, const void *base);

/* Parts that report and stream share (json.c). */
void json_target(struct json *j, cJSON *parent, const struct target_info *t);
void json_exit(struct json *j, cJSON *parent, const struct target_info *t);
void json_verdict(struct json *j, cJSON *object, const struct verdict *v);

#endif
