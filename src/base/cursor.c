/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/cursor.h"

#include <string.h>

void cursor_init(struct cursor *c, const void *data, size_t len)
{
	*c = (struct cursor){ .data = data, .len = len };
}

size_t cursor_left(const struct cursor *c)
{
	return c->len - c->pos;
}

bool cursor_seek(struct cursor *c, size_t pos)
{
	if (pos > c->len) {
		c->overrun = true;
		return false;
	}
	c->pos = pos;
	return true;
}

/* Compared with what is left, never added to pos first: a hostile length must not wrap around. */
static const unsigned char *take(struct cursor *c, size_t bytes)
{
	const unsigned char *at;

	if (bytes > cursor_left(c)) {
		c->overrun = true;
		return NULL;
	}
	at = c->data + c->pos;
	c->pos += bytes;
	return at;
}

bool cursor_skip(struct cursor *c, size_t bytes)
{
	if (bytes > cursor_left(c)) {
		c->overrun = true;
		return false;
	}
	c->pos += bytes;
	return true;
}

bool cursor_u8(struct cursor *c, uint8_t *ret)
{
	const unsigned char *at = take(c, 1);

	if (!at)
		return false;
	*ret = at[0];
	return true;
}

static bool take_le(struct cursor *c, size_t bytes, uint64_t *ret)
{
	const unsigned char *at = take(c, bytes);
	uint64_t value = 0;

	if (!at)
		return false;
	for (size_t i = bytes; i-- > 0;)
		value = value << 8 | at[i];
	*ret = value;
	return true;
}

bool cursor_u16(struct cursor *c, uint16_t *ret)
{
	uint64_t value;

	if (!take_le(c, sizeof(*ret), &value))
		return false;
	*ret = (uint16_t)value;
	return true;
}

bool cursor_u32(struct cursor *c, uint32_t *ret)
{
	uint64_t value;

	if (!take_le(c, sizeof(*ret), &value))
		return false;
	*ret = (uint32_t)value;
	return true;
}

bool cursor_u64(struct cursor *c, uint64_t *ret)
{
	return take_le(c, sizeof(*ret), ret);
}

bool cursor_bytes(struct cursor *c, void *ret, size_t bytes)
{
	const unsigned char *at;

	if (bytes == 0)
		return true;
	at = take(c, bytes);
	if (!at)
		return false;
	memcpy(ret, at, bytes);
	return true;
}

static bool is_blank(unsigned char c)
{
	return c == ' ' || c == '\t';
}

bool cursor_line(struct cursor *c, const char **ret_line, size_t *ret_len)
{
	const unsigned char *line;
	const unsigned char *end;

	if (cursor_left(c) == 0)
		return false;
	line = c->data + c->pos;
	end = memchr(line, '\n', cursor_left(c));
	*ret_line = (const char *)line;
	*ret_len = end ? (size_t)(end - line) : cursor_left(c);
	c->pos += *ret_len + (end ? 1 : 0);
	return true;
}

/* The value of a digit, or 16. */
static unsigned int digit_value(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - (unsigned int)'0';
	if (c >= 'a' && c <= 'f')
		return c - (unsigned int)'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - (unsigned int)'A' + 10;
	return 16;
}

static bool take_number(struct cursor *c, unsigned int base, uint64_t *ret)
{
	uint64_t value = 0;
	size_t start;
	size_t pos = c->pos;

	while (pos < c->len && is_blank(c->data[pos]))
		pos++;
	start = pos;
	for (; pos < c->len; pos++) {
		unsigned int digit = digit_value(c->data[pos]);

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(value, (uint64_t)base, &value) ||
		    __builtin_add_overflow(value, (uint64_t)digit, &value))
			return false;
	}
	if (pos == start)
		return false;
	c->pos = pos;
	*ret = value;
	return true;
}

bool cursor_dec(struct cursor *c, uint64_t *ret)
{
	return take_number(c, 10, ret);
}

bool cursor_hex(struct cursor *c, uint64_t *ret)
{
	return take_number(c, 16, ret);
}

bool cursor_lit(struct cursor *c, const char *literal)
{
	size_t len = strlen(literal);

	if (len > cursor_left(c) || (len > 0 && memcmp(c->data + c->pos, literal, len) != 0))
		return false;
	c->pos += len;
	return true;
}

void cursor_blanks(struct cursor *c)
{
	while (c->pos < c->len && is_blank(c->data[c->pos]))
		c->pos++;
}

bool cursor_word(struct cursor *c, const char **ret_word, size_t *ret_len)
{
	size_t pos = c->pos;
	size_t start;

	while (pos < c->len && is_blank(c->data[pos]))
		pos++;
	start = pos;
	while (pos < c->len && !is_blank(c->data[pos]) && c->data[pos] != '\n')
		pos++;
	if (pos == start)
		return false;
	*ret_word = (const char *)c->data + start;
	*ret_len = pos - start;
	c->pos = pos;
	return true;
}
