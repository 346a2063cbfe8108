/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pieces of /proc text, shared by the parsers of this folder. No I/O. Texts are borrowed, never NUL-terminated.
 */
#ifndef MEMWATCH_SRC_PROC_TEXT_H
#define MEMWATCH_SRC_PROC_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/cleanup.h"

struct text {
	const char *data;
	size_t len;
};

/* One u64 field of a struct, found by the key that stands before it. */
struct text_field {
	const char *key;
	size_t offset;
};

#define TEXT_COUNT(array) (sizeof(array) / sizeof((array)[0]))

bool text_is(struct text t, const char *literal);
bool text_starts(struct text t, const char *prefix);
/* Splits at the first sep; the rest comes without leading blanks. false: no sep, nothing stored. */
bool text_split(struct text line, char sep, struct text *ret_key, struct text *ret_rest);
/* The whole of t but blanks around it is one decimal number. */
bool text_u64(struct text t, uint64_t *ret);
/* The first number of t, whatever follows. */
bool text_first_u64(struct text t, uint64_t *ret);
/* "12 kB" → 12288; a number without unit stays as it is. Overflow: false. */
bool text_bytes(struct text t, uint64_t *ret);
/* "12.34" → 12.34, without the locale's decimal point. */
bool text_decimal(struct text t, double *ret);
/* Field with that key, NULL for none. */
const struct text_field *text_find_field(const struct text_field *fields, size_t count, struct text key);
/* Stores value in the field of base. */
void text_store(const struct text_field *field, void *base, uint64_t value);
/* Copies with a NUL behind it, truncated to cap - 1. */
void text_copy(struct text t, char *ret, size_t cap);
/* Undoes octal escapes (\012) of the characters in `set` only, in place; returns the new length. */
size_t text_unescape_octal(char *data, size_t len, const char *set);

#endif
