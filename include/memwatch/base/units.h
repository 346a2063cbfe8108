/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sizes, durations and times as people write and read them.
 */
#ifndef MEMWATCH_BASE_UNITS_H
#define MEMWATCH_BASE_UNITS_H

#include <stdint.h>

#include "memwatch/base/err.h"
#include "memwatch/base/str.h"

/* "90", "90s", "1.5m", "100ms", "2h", "1d" → ns. Negative, empty, overflow and trailing text are errors that quote it. */
must_check int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err);

/* "512", "64K", "1.5M", "2G", "1T" (binary; also KiB MiB GiB TiB), "100KB", "5MB", "2GB" (decimal) → bytes.
 * Upper and lower case are the same. Zero is a valid size and duration here; options refuse it. Results never exceed
 * INT64_MAX, so that the sum with a clock or an offset does not wrap around. */
must_check int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *err);

/* The same without composing a message: on failure *ret_reason is a constant such as "must be positive". */
must_check int units_scan_duration(const char *text, uint64_t *ret_ns, const char **ret_reason);
must_check int units_scan_size(const char *text, uint64_t *ret_bytes, const char **ret_reason);

/* 1069548 → "1.02 MiB"; three significant digits, "999 B" below one KiB; negative values keep their sign. */
void units_add_bytes(struct str *out, double bytes);

/* Seconds → "0.21 ms", "26 s", "26 min", "3.2 h", "4.1 d"; two or three significant digits. */
void units_add_duration(struct str *out, double seconds);

/* Nanoseconds since the epoch → "2026-11-20T12:10:25.123Z" (RFC 3339, UTC). */
void units_add_rfc3339(struct str *out, int64_t wall_ns);

#endif
