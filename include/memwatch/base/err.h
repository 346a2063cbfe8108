/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The one error idiom.
 *
 * A function that can fail returns int: 0 (or a count) or -errno. At module boundaries it also takes a
 * caller-owned `struct err *`, which may be NULL: untouched on success; on failure it holds a message that is
 * printable as it is: lowercase, error first, subject quoted, cause and remedy named, no newline.
 *
 *     struct err err = ERR_INIT;
 *     if (proc_open(pid, &proc, &err) < 0)
 *             fprintf(stderr, "memwatch: %s\n", err.msg);
 */
#ifndef MEMWATCH_BASE_ERR_H
#define MEMWATCH_BASE_ERR_H

#include "memwatch/base/cleanup.h"

#define ERR_MSG_BYTES 512

struct err {
	int code;                /* positive errno; 0: no error */
	char msg[ERR_MSG_BYTES]; /* truncated, never unterminated */
};

#define ERR_INIT                                                                                                       \
	{                                                                                                              \
		.code = 0, .msg = ""                                                                                   \
	}

/* Stores code (positive errno) and message; returns -code. err may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) printf_like(3, 4);

/* Puts "prefix: " before the message that err holds; returns -err->code, or -EIO where err is NULL. */
int err_prefix(struct err *err, const char *fmt, ...) printf_like(2, 3);

#endif
