/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR_FIRST_BYTES 64

void str_init(struct str *s)
{
	*s = (struct str)STR_INIT;
}

void str_deinit(struct str *s)
{
	if (!s)
		return;
	free(s->data);
	str_init(s);
}

void str_reset(struct str *s)
{
	s->len = 0;
	s->failed = false;
	if (s->data)
		s->data[0] = '\0';
}

/* Room for `more` bytes and the NUL. */
static bool str_grow(struct str *s, size_t more)
{
	size_t need;
	size_t cap;
	char *data;

	if (s->failed)
		return false;
	if (__builtin_add_overflow(s->len, more, &need) || need >= PTRDIFF_MAX) {
		s->failed = true;
		return false;
	}
	need++;
	if (need <= s->cap)
		return true;
	cap = s->cap < STR_FIRST_BYTES ? STR_FIRST_BYTES : s->cap * 2;
	if (cap < need)
		cap = need;
	data = realloc(s->data, cap);
	if (!data) {
		s->failed = true;
		return false;
	}
	if (!s->data)
		data[0] = '\0';
	s->data = data;
	s->cap = cap;
	return true;
}

void str_add(struct str *s, const char *text)
{
	str_addn(s, text, strlen(text));
}

void str_addn(struct str *s, const char *text, size_t len)
{
	if (!str_grow(s, len))
		return;
	if (len > 0)
		memcpy(s->data + s->len, text, len);
	s->len += len;
	s->data[s->len] = '\0';
}

void str_addc(struct str *s, char c)
{
	str_addn(s, &c, 1);
}

void str_addf(struct str *s, const char *fmt, ...)
{
	va_list ap;
	va_list again;
	int len;

	if (!str_grow(s, STR_FIRST_BYTES))
		return;
	va_start(ap, fmt);
	va_copy(again, ap);
	len = vsnprintf(s->data + s->len, s->cap - s->len, fmt, ap);
	va_end(ap);
	if (len < 0) {
		s->failed = true;
	} else if ((size_t)len >= s->cap - s->len && str_grow(s, (size_t)len)) {
		len = vsnprintf(s->data + s->len, s->cap - s->len, fmt, again);
		s->failed = len < 0;
	}
	va_end(again);
	if (!s->failed)
		s->len += (size_t)len;
	s->data[s->len] = '\0'; /* cuts off what a failed attempt wrote */
}

void str_pad(struct str *s, char c, size_t count)
{
	if (!str_grow(s, count))
		return;
	memset(s->data + s->len, c, count);
	s->len += count;
	s->data[s->len] = '\0';
}

const char *str_text(const struct str *s)
{
	return s->data ? s->data : "";
}

int str_status(const struct str *s)
{
	return s->failed ? -ENOMEM : 0;
}
