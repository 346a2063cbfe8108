/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Diagnostics on standard error, "memwatch: text\n". For cmd/ and daemon/ only: library code returns a struct err.
 * The level is one of the project's two mutable globals (the other is the signal flag).
 */
#ifndef MEMWATCH_BASE_LOG_H
#define MEMWATCH_BASE_LOG_H

#include "memwatch/base/cleanup.h"

enum log_level { LOG_ERROR, LOG_WARNING, LOG_NOTE, LOG_DEBUG };

void log_set_level(enum log_level level); /* default LOG_NOTE */
void log_error(const char *fmt, ...) printf_like(1, 2);
void log_warning(const char *fmt, ...) printf_like(1, 2);
void log_note(const char *fmt, ...) printf_like(1, 2);
void log_debug(const char *fmt, ...) printf_like(1, 2);

#endif
