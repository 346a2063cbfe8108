/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	char msg[ERR_MSG_BYTES];
	va_list ap;

	/* A library that failed without setting errno must not turn its failure into a success. */
	if (code <= 0)
		code = EIO;
	if (!err)
		return -code;

	/* Formatted aside, because an argument may be err->msg itself. */
	va_start(ap, fmt);
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		snprintf(msg, sizeof(msg), "%s", strerror(code));
	va_end(ap);
	memcpy(err->msg, msg, sizeof(msg));
	err->code = code;
	return -code;
}

int err_prefix(struct err *err, const char *fmt, ...)
{
	char prefix[ERR_MSG_BYTES];
	char old[ERR_MSG_BYTES];
	size_t len;
	size_t room;
	va_list ap;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	if (vsnprintf(prefix, sizeof(prefix), fmt, ap) < 0)
		prefix[0] = '\0';
	va_end(ap);

	memcpy(old, err->msg, sizeof(old));
	old[sizeof(old) - 1] = '\0';
	snprintf(err->msg, sizeof(err->msg), "%s", prefix);
	len = strlen(err->msg);
	room = sizeof(err->msg) - len;
	snprintf(err->msg + len, room, ": %s", old);
	return err->code > 0 ? -err->code : -EIO;
}
