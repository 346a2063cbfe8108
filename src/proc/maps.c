/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lines of /proc/PID/maps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "maps.h"
#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

static const struct {
	const char *prefix;
	enum region_class class;
} name_classes[] = {
	/* the first match decides */
	{ "[heap]", REGION_HEAP },         { "[stack", REGION_STACK },       { "[anon:stack", REGION_STACK },
	{ "[anon:", REGION_ANON },         { "[anon_shmem:", REGION_SHMEM }, /* 6.2: named shared anonymous memory */
	{ "[", REGION_SPECIAL },           { "/dev/shm/", REGION_SHMEM },    { "/run/shm/", REGION_SHMEM },
	{ "/memfd:", REGION_SHMEM },       { "/SYSV", REGION_SHMEM },        { "/drm mm object", REGION_SHMEM },
	{ "anon_inode:", REGION_SPECIAL }, /* rings of perf and io_uring: the kernel's pages */
};

enum region_class region_classify(const char *path, uint16_t flags, uint64_t inode)
{
	if (!path[0]) {
		if (inode)
			return REGION_FILE;
		return flags & REGION_SHARED ? REGION_SHMEM : REGION_ANON;
	}
	/* A private mapping of /dev/zero, and of anonymous huge pages, is anonymous memory with a name. */
	if (!strcmp(path, "/dev/zero") || !strcmp(path, "/anon_hugepage"))
		return flags & REGION_SHARED ? REGION_SHMEM : REGION_ANON;
	for (size_t i = 0; i < TEXT_COUNT(name_classes); i++) {
		if (!strncmp(path, name_classes[i].prefix, strlen(name_classes[i].prefix)))
			return name_classes[i].class;
	}
	return REGION_FILE;
}

static bool parse_flags(struct cursor *c, uint16_t *ret)
{
	struct text word;
	unsigned int flags = 0;

	if (!cursor_word(c, &word.data, &word.len) || word.len != 4)
		return false;
	flags |= word.data[0] == 'r' ? REGION_READ : 0U;
	flags |= word.data[1] == 'w' ? REGION_WRITE : 0U;
	flags |= word.data[2] == 'x' ? REGION_EXEC : 0U;
	flags |= word.data[3] == 's' ? REGION_SHARED : 0U;
	if (word.data[3] != 's' && word.data[3] != 'p')
		return false;
	*ret = (uint16_t)flags;
	return true;
}

bool maps_header(struct text line, struct region *ret, struct text *ret_path)
{
	struct region r = { .path = "" };
	uint64_t major, minor;
	struct cursor c;

	cursor_init(&c, line.data, line.len);
	if (!cursor_hex(&c, &r.start) || !cursor_lit(&c, "-") || !cursor_hex(&c, &r.end) || r.start >= r.end)
		return false;
	cursor_blanks(&c);
	if (!parse_flags(&c, &r.flags) || !cursor_hex(&c, &r.offset))
		return false;
	if (!cursor_hex(&c, &major) || !cursor_lit(&c, ":") || !cursor_hex(&c, &minor) || !cursor_dec(&c, &r.inode))
		return false;
	if (major > UINT32_MAX || minor > UINT32_MAX)
		return false;
	r.dev_major = (uint32_t)major;
	r.dev_minor = (uint32_t)minor;
	cursor_blanks(&c);
	*ret = r;
	*ret_path = (struct text){ line.data + c.pos, cursor_left(&c) };
	return true;
}

void maps_cut_deleted(struct text *path, uint16_t *flags)
{
	static const char suffix[] = " (deleted)";
	size_t len = sizeof(suffix) - 1;

	if (path->len > len && !memcmp(path->data + path->len - len, suffix, len)) {
		path->len -= len;
		*flags = (uint16_t)(*flags | REGION_DELETED);
	}
}

static const char *intern_path(struct intern *paths, struct text path)
{
	cleanup_free char *copy = NULL;
	size_t len;

	/* The kernel escapes the newline and nothing else here: a backslash is a backslash. */
	if (!path.len || !memmem(path.data, path.len, "\\012", 4))
		return intern_strn(paths, path.len ? path.data : "", path.len);
	copy = malloc(path.len);
	if (!copy)
		return NULL;
	memcpy(copy, path.data, path.len);
	len = text_unescape_octal(copy, path.len, "\n");
	return intern_strn(paths, copy, len);
}

int parse_maps_line(const char *line, size_t len, struct intern *paths, struct region *ret)
{
	struct region r;
	struct text path;

	if (!maps_header((struct text){ line, len }, &r, &path))
		return -EBADMSG;
	maps_cut_deleted(&path, &r.flags);
	r.path = intern_path(paths, path);
	if (!r.path)
		return -ENOMEM;
	r.class = (uint8_t)region_classify(r.path, r.flags, r.inode);
	*ret = r;
	return 0;
}
