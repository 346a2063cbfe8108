/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Whole reads and writes: retries EINTR and short transfers, never loses an error.
 */
#ifndef MEMWATCH_BASE_IO_H
#define MEMWATCH_BASE_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/err.h"
#include "memwatch/base/str.h"

/* Reads from the start of fd (pread, so a /proc file may be kept open) until the end or cap - 1 bytes, and puts a NUL
 * behind them. Returns the count or -errno. */
must_check ssize_t io_pread_text(int fd, char *buf, size_t cap);

/* Same for a path relative to dirfd (AT_FDCWD allowed). */
must_check ssize_t io_read_at(int dirfd, const char *path, char *buf, size_t cap);

/* Appends all of fd from the current position; at most limit bytes, -EFBIG beyond. */
must_check int io_read_all(int fd, size_t limit, struct str *out);

must_check int io_write_all(int fd, const void *data, size_t len);

/* Writes a whole file: "-" is standard output; a regular file is replaced in one step (temporary file beside it, fsync
 * not needed, rename); anything else (fifo, device) is opened and written. The message names path and cause. */
must_check int io_write_file(const char *path, const void *data, size_t len, struct err *err);

/* Whether io_write_file(path) is likely to succeed, without changing anything: for checks before a long run. */
must_check int io_check_writable(const char *path, struct err *err);

#endif
