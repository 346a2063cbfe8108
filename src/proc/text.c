/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "text.h"

#include <string.h>

#include "memwatch/base/cursor.h"

bool text_is(struct text t, const char *literal)
{
	size_t len = strlen(literal);

	return t.len == len && memcmp(t.data, literal, len) == 0;
}

bool text_starts(struct text t, const char *prefix)
{
	size_t len = strlen(prefix);

	return t.len >= len && memcmp(t.data, prefix, len) == 0;
}

bool text_split(struct text line, char sep, struct text *ret_key, struct text *ret_rest)
{
	const char *at = line.len ? memchr(line.data, sep, line.len) : NULL;
	struct text rest;

	if (!at)
		return false;
	rest.data = at + 1;
	rest.len = line.len - (size_t)(at - line.data) - 1;
	while (rest.len && (*rest.data == ' ' || *rest.data == '\t')) {
		rest.data++;
		rest.len--;
	}
	ret_key->data = line.data;
	ret_key->len = (size_t)(at - line.data);
	*ret_rest = rest;
	return true;
}

bool text_first_u64(struct text t, uint64_t *ret)
{
	struct cursor c;

	cursor_init(&c, t.data, t.len);
	return cursor_dec(&c, ret);
}

bool text_u64(struct text t, uint64_t *ret)
{
	struct cursor c;
	uint64_t value;

	cursor_init(&c, t.data, t.len);
	if (!cursor_dec(&c, &value))
		return false;
	cursor_blanks(&c);
	(void)cursor_lit(&c, "\n");
	if (cursor_left(&c))
		return false;
	*ret = value;
	return true;
}

bool text_bytes(struct text t, uint64_t *ret)
{
	struct cursor c;
	uint64_t value;

	cursor_init(&c, t.data, t.len);
	if (!cursor_dec(&c, &value))
		return false;
	cursor_blanks(&c);
	if (cursor_lit(&c, "kB") && __builtin_mul_overflow(value, (uint64_t)1024, &value))
		return false;
	*ret = value;
	return true;
}

bool text_decimal(struct text t, double *ret)
{
	struct cursor c;
	uint64_t whole, part = 0;
	double scale = 1;

	cursor_init(&c, t.data, t.len);
	if (!cursor_dec(&c, &whole))
		return false;
	if (cursor_lit(&c, ".")) {
		size_t before = c.pos;

		if (!cursor_dec(&c, &part))
			return false;
		for (size_t i = before; i < c.pos; i++)
			scale *= 10;
	}
	*ret = (double)whole + (double)part / scale;
	return true;
}

const struct text_field *text_find_field(const struct text_field *fields, size_t count, struct text key)
{
	for (size_t i = 0; i < count; i++) {
		if (text_is(key, fields[i].key))
			return &fields[i];
	}
	return NULL;
}

void text_store(const struct text_field *field, void *base, uint64_t value)
{
	memcpy((char *)base + field->offset, &value, sizeof(value));
}

void text_copy(struct text t, char *ret, size_t cap)
{
	size_t len = t.len < cap ? t.len : cap - 1;

	if (len)
		memcpy(ret, t.data, len);
	ret[len] = '\0';
}

static bool octal_escape(const char *p, size_t left, char *ret)
{
	if (left < 4 || p[0] != '\\' || p[1] < '0' || p[1] > '3' || p[2] < '0' || p[2] > '7' || p[3] < '0' ||
	    p[3] > '7')
		return false;
	*ret = (char)((p[1] - '0') * 64 + (p[2] - '0') * 8 + (p[3] - '0'));
	return true;
}

size_t text_unescape_octal(char *data, size_t len, const char *set)
{
	size_t out = 0;

	for (size_t i = 0; i < len;) {
		char c;

		if (octal_escape(data + i, len - i, &c) && c && strchr(set, c)) {
			data[out++] = c;
			i += 4;
		} else {
			data[out++] = data[i++];
		}
	}
	return out;
}
