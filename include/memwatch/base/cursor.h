/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Bounds-checked reader over bytes that cannot be trusted. A read past the end returns false, leaves *ret untouched
 * and sets `overrun`; nothing is ever read outside [data, data + len). Little-endian unless named otherwise.
 */
#ifndef MEMWATCH_BASE_CURSOR_H
#define MEMWATCH_BASE_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	const unsigned char *data;
	size_t len;
	size_t pos;
	bool overrun;
};

void cursor_init(struct cursor *c, const void *data, size_t len);
size_t cursor_left(const struct cursor *c);
bool cursor_seek(struct cursor *c, size_t pos);
bool cursor_skip(struct cursor *c, size_t bytes);
bool cursor_u8(struct cursor *c, uint8_t *ret);
bool cursor_u16(struct cursor *c, uint16_t *ret);
bool cursor_u32(struct cursor *c, uint32_t *ret);
bool cursor_u64(struct cursor *c, uint64_t *ret);
bool cursor_bytes(struct cursor *c, void *ret, size_t bytes);

/*
 * Text side, for /proc: numbers and fields of one line, never past `len`, no locale. Where they return false the
 * position is unchanged, and `overrun` is not touched: the end of a text is nothing unexpected.
 */
bool cursor_line(struct cursor *c, const char **ret_line, size_t *ret_len); /* without the newline; false at the end */
bool cursor_dec(struct cursor *c, uint64_t *ret); /* skips blanks first; false where no digit stands or it overflows */
bool cursor_hex(struct cursor *c, uint64_t *ret); /* same, no 0x */
bool cursor_lit(struct cursor *c, const char *literal);                     /* consumes it or stays */
void cursor_blanks(struct cursor *c);                                       /* skips spaces and tabs */
bool cursor_word(struct cursor *c, const char **ret_word, size_t *ret_len); /* skips blanks; up to a blank or newline */

#endif
