/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_BYTES 4096

static enum log_level log_level = LOG_NOTE;

void log_set_level(enum log_level level)
{
	log_level = level;
}

/* Names and paths come from targets: an escape sequence in one of them must not reach the terminal. */
static void defuse(char *line, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)line[i];

		if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
			line[i] = '?';
	}
}

/* One write(2) per line, so that lines of several processes on one terminal or journal do not mix. */
static void log_line(enum log_level level, const char *fmt, va_list ap)
{
	static const char prefix[] = "memwatch: ";
	char line[LOG_LINE_BYTES];
	size_t len = sizeof(prefix) - 1;
	size_t room = sizeof(line) - len - 1; /* the newline's place */
	int saved = errno;
	int text_len;

	if (level > log_level)
		return;
	memcpy(line, prefix, len);
	text_len = vsnprintf(line + len, room, fmt, ap);
	if (text_len > 0)
		len += (size_t)text_len < room ? (size_t)text_len : room - 1;
	defuse(line, len);
	line[len++] = '\n';
	while (write(STDERR_FILENO, line, len) < 0 && errno == EINTR)
		;
	errno = saved;
}

void log_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_ERROR, fmt, ap);
	va_end(ap);
}

void log_warning(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_WARNING, fmt, ap);
	va_end(ap);
}

void log_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_NOTE, fmt, ap);
	va_end(ap);
}

void log_debug(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_line(LOG_DEBUG, fmt, ap);
	va_end(ap);
}
