/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /proc/PID/io. */
#include <errno.h>
#include <stddef.h>

#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

static const struct text_field io_fields[] = {
	{ "rchar", offsetof(struct proc_io, rchar) },
	{ "wchar", offsetof(struct proc_io, wchar_bytes) },
	{ "syscr", offsetof(struct proc_io, syscr) },
	{ "syscw", offsetof(struct proc_io, syscw) },
	{ "read_bytes", offsetof(struct proc_io, read_bytes) },
	{ "write_bytes", offsetof(struct proc_io, write_bytes) },
};

int parse_io(const char *buf, size_t len, struct proc_io *ret)
{
	struct proc_io io;
	struct text line, key, value;
	struct cursor c;
	size_t found = 0;

	for (size_t i = 0; i < TEXT_COUNT(io_fields); i++)
		text_store(&io_fields[i], &io, UNKNOWN_U64);
	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		const struct text_field *field;
		uint64_t number;

		if (!text_split(line, ':', &key, &value))
			return -EBADMSG;
		field = text_find_field(io_fields, TEXT_COUNT(io_fields), key);
		if (!field)
			continue;
		if (!text_u64(value, &number))
			return -EBADMSG;
		text_store(field, &io, number);
		found++;
	}
	if (!found)
		return -EBADMSG;
	*ret = io;
	return 0;
}
