/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "memwatch/base/str.h"
#include "private.h"

/* A fifo or a device in a hostile root must neither block nor act. */
#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
#define CRC_POLYNOMIAL 0xedb88320U

static int regular(int fd)
{
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return -ENOENT;
}

int open_in_target(const struct symbols *s, const char *path)
{
	struct open_how how = { .flags = OPEN_FLAGS, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	cleanup_close int root = openat(s->proc_fd, "root", O_PATH | O_CLOEXEC | O_DIRECTORY);
	int fd;

	if (root < 0)
		return -errno;
	while (*path == '/')
		path++;
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (fd < 0 && (errno == ENOSYS || errno == EPERM)) /* before 5.6, or a filter that does not know the call */
		fd = openat(root, path, OPEN_FLAGS);
	return regular(fd);
}

static bool same_file(int fd, const struct module *m)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_ino == m->inode && major(st.st_dev) == m->dev_major &&
	       minor(st.st_dev) == m->dev_minor;
}

int open_module_file(const struct symbols *s, const struct module *m)
{
	char link[64];
	int fd = m->deleted ? -ENOENT : open_in_target(s, m->path);
	int other;
	struct stat st;

	if (fd >= 0 && same_file(fd, m))
		return fd;
	snprintf(link, sizeof(link), "map_files/%llx-%llx", (unsigned long long)m->map_start,
		 (unsigned long long)m->map_end);
	other = regular(openat(s->proc_fd, link, OPEN_FLAGS));
	if (other < 0) { /* map_files wants a capability; exe does not */
		other = regular(openat(s->proc_fd, "exe", OPEN_FLAGS));
		if (other >= 0 && (fstat(other, &st) < 0 || st.st_ino != m->inode)) {
			close(other);
			other = -ENOENT;
		}
	}
	if (other <
	    0) { /* overlay and btrfs show another device in maps; on the same one another inode is another file */
		if (fd < 0 || fstat(fd, &st) < 0 || major(st.st_dev) != m->dev_major ||
		    minor(st.st_dev) != m->dev_minor)
			return fd;
		close(fd);
		return -ESTALE;
	}
	if (fd >= 0)
		close(fd);
	return other;
}

static bool build_id_matches(const struct image *image, const unsigned char *id, size_t len)
{
	const void *found;
	ssize_t n = dwelf_elf_gnu_build_id(image->elf, &found);

	return n > 0 && (size_t)n == len && memcmp(found, id, len) == 0;
}

static uint32_t crc32_of(const unsigned char *data, size_t len)
{
	uint32_t table[256], crc = ~0U;

	for (uint32_t i = 0; i < 256; i++) {
		table[i] = i;
		for (int bit = 0; bit < 8; bit++)
			table[i] = (table[i] >> 1) ^ (table[i] & 1 ? CRC_POLYNOMIAL : 0);
	}
	for (size_t i = 0; i < len; i++)
		crc = table[(crc ^ data[i]) & 0xff] ^ (crc >> 8);
	return ~crc;
}

/* Takes fd over. Whether it is the right file is for the build-id to say, or the checksum where there is none. */
static bool try_image(int fd, const struct module *m, const unsigned char *id, size_t id_len, const uint32_t *crc,
		      struct image *ret)
{
	struct image image;
	int r;

	if (fd < 0)
		return false;
	r = image_map(fd, &image);
	close(fd);
	if (r < 0)
		return false;
	if (m && image.ino == m->main.ino && image.dev == m->main.dev)
		goto wrong;
	if (id_len ? !build_id_matches(&image, id, id_len) : !crc || crc32_of(image.map, image.len) != *crc)
		goto wrong;
	*ret = image;
	return true;
wrong:
	image_close(&image);
	return false;
}

static bool try_path(const struct symbols *s, const char *path, const struct module *m, const uint32_t *crc,
		     struct image *ret)
{
	if (try_image(open_in_target(s, path), m, m->build_id, m->build_id_len, crc, ret))
		return true;
	return try_image(regular(open(path, OPEN_FLAGS)), m, m->build_id, m->build_id_len, crc, ret);
}

void open_build_id(const struct symbols *s, const unsigned char *id, size_t len, struct image *ret)
{
	char path[64 + 2 * BUILD_ID_MAX];
	size_t n;

	if (len < 2 || len > BUILD_ID_MAX)
		return;
	n = (size_t)snprintf(path, sizeof(path), "/usr/lib/debug/.build-id/%02x/", id[0]);
	for (size_t i = 1; i < len; i++)
		n += (size_t)snprintf(path + n, sizeof(path) - n, "%02x", id[i]);
	snprintf(path + n, sizeof(path) - n, ".debug");
	if (!try_image(open_in_target(s, path), NULL, id, len, NULL, ret))
		(void)try_image(regular(open(path, OPEN_FLAGS)), NULL, id, len, NULL, ret);
}

void open_debug_image(const struct symbols *s, const struct module *m, struct image *ret)
{
	cleanup_str struct str path = STR_INIT;
	const char *slash = strrchr(m->path, '/');
	int dir_len = slash ? (int)(slash - m->path) : 0;
	const char *servers = getenv("DEBUGINFOD_URLS");
	GElf_Word crc_word = 0;
	const char *link = dwelf_elf_gnu_debuglink(m->main.elf, &crc_word);
	const char *const forms[] = { "", "/.debug", NULL };
	uint32_t crc = crc_word;

	open_build_id(s, m->build_id, m->build_id_len, ret);
	if (ret->map)
		return;
	if (link && slash && !strchr(link, '/')) {
		for (size_t i = 0; forms[i]; i++) {
			str_reset(&path);
			str_addf(&path, "%.*s%s/%s", dir_len, m->path, forms[i], link);
			if (str_status(&path) == 0 && try_path(s, str_text(&path), m, &crc, ret))
				return;
		}
		str_reset(&path);
		str_addf(&path, "/usr/lib/debug%.*s/%s", dir_len, m->path, link);
		if (str_status(&path) == 0 && try_path(s, str_text(&path), m, &crc, ret))
			return;
	}
	if (s->debuginfod && servers && *servers && m->build_id_len)
		(void)try_image(debuginfod_open(m->build_id, m->build_id_len), m, m->build_id, m->build_id_len, NULL,
				ret);
}
