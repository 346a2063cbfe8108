/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /proc/PID/limits and /proc/meminfo. */
#include <errno.h>

#include "memwatch/base/cursor.h"
#include "memwatch/base/io.h"
#include "memwatch/proc.h"
#include "text.h"

#include <fcntl.h>
#include <string.h>

static bool limit_value(struct text line, const char *name, uint64_t *ret)
{
	struct text word;
	struct cursor c;

	cursor_init(&c, line.data + strlen(name), line.len - strlen(name));
	if (!cursor_word(&c, &word.data, &word.len))
		return false;
	if (!text_is(word, "unlimited"))
		return text_u64(word, ret);
	*ret = UINT64_MAX;
	return true;
}

int parse_limits(const char *buf, size_t len, uint64_t *ret_as, uint64_t *ret_data)
{
	static const char as_name[] = "Max address space", data_name[] = "Max data size";
	uint64_t as = 0, data = 0;
	bool has_as = false, has_data = false;
	struct text line;
	struct cursor c;

	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		if (text_starts(line, as_name))
			has_as = limit_value(line, as_name, &as);
		else if (text_starts(line, data_name))
			has_data = limit_value(line, data_name, &data);
	}
	if (!has_as || !has_data)
		return -EBADMSG;
	*ret_as = as;
	*ret_data = data;
	return 0;
}

struct meminfo {
	uint64_t total, available, free, buffers, cached;
};

static const struct text_field meminfo_fields[] = {
	{ "MemTotal", offsetof(struct meminfo, total) }, { "MemAvailable", offsetof(struct meminfo, available) },
	{ "MemFree", offsetof(struct meminfo, free) },   { "Buffers", offsetof(struct meminfo, buffers) },
	{ "Cached", offsetof(struct meminfo, cached) },
};

int parse_meminfo(const char *buf, size_t len, uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	struct meminfo m = { UNKNOWN_U64, UNKNOWN_U64, 0, 0, 0 };
	struct text line, key, value;
	struct cursor c;

	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		const struct text_field *field;
		uint64_t bytes;

		if (!text_split(line, ':', &key, &value))
			return -EBADMSG;
		field = text_find_field(meminfo_fields, TEXT_COUNT(meminfo_fields), key);
		if (field && !text_bytes(value, &bytes))
			return -EBADMSG;
		if (field)
			text_store(field, &m, bytes);
	}
	if (m.total == UNKNOWN_U64)
		return -EBADMSG;
	/* Before 3.14 there is no estimate; this is what it replaced. */
	if (m.available == UNKNOWN_U64)
		m.available = m.free + m.buffers + m.cached;
	*ret_total_bytes = m.total;
	*ret_available_bytes = m.available;
	return 0;
}

int machine_memory(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes)
{
	char buf[8192];
	ssize_t n;

	n = io_read_at(AT_FDCWD, "/proc/meminfo", buf, sizeof(buf));
	return n < 0 ? (int)n : parse_meminfo(buf, (size_t)n, ret_total_bytes, ret_available_bytes);
}
