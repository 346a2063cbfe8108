/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A growing string. Invariants: data is NULL or NUL-terminated at data[len]; after an allocation failure
 * `failed` is set, further appends do nothing, and str_status() says -ENOMEM: check once, at the end.
 */
#ifndef MEMWATCH_BASE_STR_H
#define MEMWATCH_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

#include "memwatch/base/cleanup.h"

struct str {
	char *data;
	size_t len;
	size_t cap;
	bool failed;
};

#define STR_INIT                                                                                                       \
	{                                                                                                              \
		NULL, 0, 0, false                                                                                      \
	}

void str_init(struct str *s);
void str_deinit(struct str *s); /* NULL-safe; leaves a usable empty string */
void str_reset(struct str *s);  /* empties, keeps the memory */
void str_add(struct str *s, const char *text);
void str_addn(struct str *s, const char *text, size_t len);
void str_addc(struct str *s, char c);
void str_addf(struct str *s, const char *fmt, ...) printf_like(2, 3);
void str_pad(struct str *s, char c, size_t count); /* appends c count times */
const char *str_text(const struct str *s);         /* never NULL */
int str_status(const struct str *s);               /* 0 or -ENOMEM */
#define cleanup_str __attribute__((cleanup(str_deinit)))

#endif
