/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Text of cgroup v1 and v2: /proc/PID/cgroup, memory.stat, numbers, mounts. */
#include "cgroup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"

/* v1 prints "no limit" as the greatest page-aligned signed number; pages may be as large as 64 KiB. */
#define CGROUP_V1_UNLIMITED 0x7fffffffffff0000ULL

/* Whether word is one of the comma-separated items of list. */
static bool list_has(struct text list, const char *word)
{
	struct text item, rest;

	while (text_split(list, ',', &item, &rest)) {
		if (text_is(item, word))
			return true;
		list = rest;
	}
	return text_is(list, word);
}

/* "4:memory:/path": the path may hold colons of its own. */
static bool cgroup_line_split(struct text line, struct text *ret_hierarchy, struct text *ret_controllers,
			      struct text *ret_path)
{
	struct text rest;

	return text_split(line, ':', ret_hierarchy, &rest) && text_split(rest, ':', ret_controllers, ret_path) &&
	       ret_path->len && ret_path->data[0] == '/';
}

int parse_proc_cgroup(const char *buf, size_t len, int *ret_version, char *ret_path, size_t path_cap)
{
	struct text line, hierarchy, controllers, path, found = { "", 0 };
	struct cursor c;
	int version = 0;

	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		if (!cgroup_line_split(line, &hierarchy, &controllers, &path))
			return -EBADMSG;
		if (list_has(controllers, "memory")) {
			version = 1;
			found = path;
		} else if (version == 0 && text_is(hierarchy, "0") && !controllers.len) {
			/* A mixed host: only where no v1 hierarchy has the controller can the unified one have it. */
			version = 2;
			found = path;
		}
	}
	if (found.len >= path_cap)
		return -ENAMETOOLONG;
	text_copy(found, ret_path, path_cap);
	*ret_version = version;
	return 0;
}

#define FIELD(key, member)                                                                                             \
	{                                                                                                              \
		key, offsetof(struct cgroup_memory, member)                                                            \
	}

static const struct text_field own_fields[] = {
	FIELD("anon", anon_bytes),
	FIELD("rss", anon_bytes),
	FIELD("inactive_file", inactive_file_bytes),
	FIELD("swap", swap_bytes),
	FIELD("hierarchical_memory_limit", limit_bytes),
};

/* v1 counts a group alone in the plain keys and with its descendants, as v2 does, in these. */
static const struct text_field total_fields[] = {
	FIELD("total_rss", anon_bytes),
	FIELD("total_inactive_file", inactive_file_bytes),
	FIELD("total_swap", swap_bytes),
};

static uint64_t known_or(uint64_t value, uint64_t other)
{
	return value != UNKNOWN_U64 ? value : other;
}

static bool flat_line(struct text line, struct text *ret_key, uint64_t *ret)
{
	struct text value;

	return text_split(line, ' ', ret_key, &value) && text_u64(value, ret);
}

int parse_memory_stat(const char *buf, size_t len, struct cgroup_memory *ret)
{
	struct cgroup_memory own, total;
	struct text line, key;
	struct cursor c;
	uint64_t value;

	memset(&own, 0xff, sizeof(own)); /* every field UNKNOWN_U64 */
	total = own;
	cursor_init(&c, buf, len);
	if (!cursor_left(&c))
		return -EBADMSG;
	while (cursor_line(&c, &line.data, &line.len)) {
		const struct text_field *field;

		if (!flat_line(line, &key, &value))
			return -EBADMSG;
		field = text_find_field(own_fields, TEXT_COUNT(own_fields), key);
		if (field)
			text_store(field, &own, value);
		field = text_find_field(total_fields, TEXT_COUNT(total_fields), key);
		if (field)
			text_store(field, &total, value);
	}
	own.anon_bytes = known_or(total.anon_bytes, own.anon_bytes);
	own.inactive_file_bytes = known_or(total.inactive_file_bytes, own.inactive_file_bytes);
	own.swap_bytes = known_or(total.swap_bytes, own.swap_bytes);
	if (own.limit_bytes >= CGROUP_V1_UNLIMITED)
		own.limit_bytes = UINT64_MAX;
	*ret = own;
	return 0;
}

bool cgroup_flat_value(const char *buf, size_t len, const char *key, uint64_t *ret)
{
	struct text line, found;
	struct cursor c;
	uint64_t value;

	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		if (flat_line(line, &found, &value) && text_is(found, key)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

int parse_cgroup_number(const char *buf, size_t len, uint64_t *ret)
{
	struct text t = { buf, len };
	uint64_t value;

	while (t.len && (t.data[t.len - 1] == '\n' || t.data[t.len - 1] == ' '))
		t.len--;
	if (text_is(t, "max"))
		value = UINT64_MAX;
	else if (!text_u64(t, &value))
		return -EBADMSG;
	*ret = value >= CGROUP_V1_UNLIMITED ? UINT64_MAX : value;
	return 0;
}

static void copy_mount_path(struct text t, char ret[PATH_MAX])
{
	text_copy(t, ret, PATH_MAX);
	ret[text_unescape_octal(ret, strlen(ret), " \t\n\\")] = '\0';
}

/* "36 31 0:37 /root /mount/point rw,relatime shared:9 - cgroup cgroup rw,memory" */
bool cgroup_mount_parse(struct text line, struct cgroup_mount *ret)
{
	struct text word[5], type, source, options;
	struct cursor c;

	cursor_init(&c, line.data, line.len);
	for (size_t i = 0; i < TEXT_COUNT(word); i++) {
		if (!cursor_word(&c, &word[i].data, &word[i].len))
			return false;
	}
	do {
		if (!cursor_word(&c, &type.data, &type.len))
			return false;
	} while (!text_is(type, "-"));
	if (!cursor_word(&c, &type.data, &type.len) || !cursor_word(&c, &source.data, &source.len) ||
	    !cursor_word(&c, &options.data, &options.len))
		return false;
	if (word[3].len >= PATH_MAX || word[4].len >= PATH_MAX)
		return false;
	if (text_is(type, "cgroup2"))
		ret->version = 2;
	else if (text_is(type, "cgroup") && list_has(options, "memory"))
		ret->version = 1;
	else
		return false;
	copy_mount_path(word[3], ret->root);
	copy_mount_path(word[4], ret->point);
	return true;
}

static bool has_parent_step(const char *path)
{
	for (const char *p = strstr(path, "/.."); p; p = strstr(p + 1, "/..")) {
		if (p[3] == '\0' || p[3] == '/')
			return true;
	}
	return false;
}

int cgroup_mount_resolve(const struct cgroup_mount *m, const char *path, char *ret, size_t cap)
{
	size_t root_len = strcmp(m->root, "/") ? strlen(m->root) : 0;
	int n;

	if (strncmp(path, m->root, root_len) != 0 || (path[root_len] && path[root_len] != '/'))
		return -ENOENT;
	path += root_len;
	/* A step upwards would leave the mount for whatever directory it happens to stand in. */
	if (has_parent_step(path))
		return -ENOENT;
	n = snprintf(ret, cap, "%s%s", m->point, strcmp(path, "/") ? path : "");
	return n < 0 || (size_t)n >= cap ? -ENAMETOOLONG : 0;
}
