/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A file: struct header, the build-id (padded to 8 bytes), the rows; in this machine's byte order, which no other shares the cache of.
 * Files are read whole, not mapped: another process may cut them short at any time.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compact.h"
#include "memwatch/base/io.h"
#include "memwatch/base/str.h"

#define MAGIC 0x317472776d77756dULL /* "muwmwrt1": with the format's version at its end */
#define ID_MAX 64
#define FILE_MAX (64U << 20)
#define CACHE_MAX ((off_t)256 << 20) /* of all files */
#define NAMES_MAX 4096
#define HASH_START 0x9e3779b97f4a7c15ULL
#define HASH_FACTOR 0xff51afd7ed558ccdULL /* of MurmurHash3's finaliser */

struct header {
	uint64_t magic;
	uint64_t id_len;
	uint64_t base, address, section_len, section_hash;
	uint64_t debug;
	uint64_t row_count;
	uint64_t rows_hash;
};

static uint64_t mix(uint64_t hash, uint64_t word)
{
	hash = (hash ^ word) * HASH_FACTOR;
	return hash ^ (hash >> 32);
}

/* Four lanes: one multiplication would wait for the other. */
uint64_t cache_hash(const void *data, size_t len)
{
	uint64_t lanes[4] = { HASH_START, HASH_START + 1, HASH_START + 2, HASH_START + 3 }, word;
	const unsigned char *bytes = data;
	uint64_t hash = mix(HASH_START, len);
	size_t at = 0;

	for (; len - at >= 32; at += 32)
		for (size_t i = 0; i < 4; i++) {
			memcpy(&word, bytes + at + 8 * i, 8);
			lanes[i] = mix(lanes[i], word);
		}
	for (; at < len; at += 8) {
		word = 0;
		memcpy(&word, bytes + at, len - at < 8 ? len - at : 8);
		hash = mix(hash, word);
	}
	for (size_t i = 0; i < 4; i++)
		hash = mix(hash, lanes[i]);
	return hash;
}

static size_t padded(size_t len)
{
	return (len + 7) & ~(size_t)7;
}

static struct header header_of(const struct cache_key *key)
{
	return (struct header){
		.magic = MAGIC,
		.id_len = key->id_len,
		.base = key->base,
		.address = key->address,
		.section_len = key->section_len,
		.section_hash = key->section_hash,
		.debug = key->debug,
	};
}

bool cache_parse(const void *data, size_t len, const struct cache_key *key, struct compact *ret)
{
	const unsigned char *bytes = data;
	struct header wanted = header_of(key), found;
	size_t rows_at = sizeof(found) + padded(key->id_len), row_bytes;
	struct compact_row *rows;

	if (!key->id_len || key->id_len > ID_MAX || len <= rows_at)
		return false;
	memcpy(&found, bytes, sizeof(found));
	wanted.row_count = found.row_count;
	wanted.rows_hash = found.rows_hash;
	row_bytes = len - rows_at;
	if (memcmp(&found, &wanted, sizeof(found)) != 0 || memcmp(bytes + sizeof(found), key->id, key->id_len) != 0 ||
	    row_bytes % sizeof(*rows) || found.row_count != row_bytes / sizeof(*rows) ||
	    found.rows_hash != cache_hash(bytes + rows_at, row_bytes))
		return false;
	rows = malloc(row_bytes);
	if (!rows)
		return false;
	memcpy(rows, bytes + rows_at, row_bytes);
	if (!compact_valid(rows, (size_t)found.row_count)) {
		free(rows);
		return false;
	}
	*ret = (struct compact){ .rows = rows, .count = (size_t)found.row_count, .base = key->base };
	return true;
}

/* Ours, and nobody else may write there. */
static bool own(int fd, mode_t type)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == type && st.st_uid == geteuid() &&
	       !(st.st_mode & (S_IWGRP | S_IWOTH));
}

static int open_below(int dir, const char *name, bool make)
{
	int fd;

	if (make && mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0 && !own(fd, S_IFDIR)) {
		close(fd);
		return -EPERM;
	}
	return fd < 0 ? -errno : fd;
}

/* A home of somebody else's (sudo keeps HOME) is left alone: its files would belong to root. */
static int open_base(bool make)
{
	const char *cache = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	cleanup_close int home_fd = -1;
	int fd;

	if (cache && cache[0] == '/') {
		if (make)
			(void)mkdir(cache, 0700);
		fd = open(cache, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && !own(fd, S_IFDIR)) {
			close(fd);
			return -EPERM;
		}
		return fd < 0 ? -errno : fd;
	}
	if (!home || home[0] != '/')
		return -ENOENT;
	home_fd = open(home, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (home_fd < 0 || !own(home_fd, S_IFDIR))
		return -EPERM;
	return open_below(home_fd, ".cache", make);
}

static int open_folder(bool make)
{
	cleanup_close int base = open_base(make), mine = -1;

	if (base < 0)
		return base;
	mine = open_below(base, "memwatch", make);
	if (mine < 0)
		return mine;
	return open_below(mine, "unwind", make);
}

/* Two files may be of one build-id: its .eh_frame and its .debug_frame. */
static bool name_of(const struct cache_key *key, char *buf, size_t cap)
{
	size_t n = 0;

	if (!key->id_len || key->id_len > ID_MAX || cap < 2 * ID_MAX + 8)
		return false;
	for (size_t i = 0; i < key->id_len; i++)
		n += (size_t)snprintf(buf + n, cap - n, "%02x", key->id[i]);
	snprintf(buf + n, cap - n, key->debug ? ".debug" : ".eh");
	return true;
}

bool cache_read(const struct cache_key *key, struct compact *ret)
{
	cleanup_close int dir = open_folder(false);
	cleanup_close int fd = -1;
	cleanup_free unsigned char *data = NULL;
	char name[2 * ID_MAX + 8];
	struct stat st;
	size_t got = 0;

	if (dir < 0 || !name_of(key, name, sizeof(name)))
		return false;
	fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || !own(fd, S_IFREG) || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > FILE_MAX)
		return false;
	data = malloc((size_t)st.st_size);
	while (data && got < (size_t)st.st_size) {
		ssize_t n = read(fd, data + got, (size_t)st.st_size - got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		got += (size_t)n;
	}
	return data && cache_parse(data, got, key, ret);
}

static int write_file(int fd, const struct cache_key *key, const struct compact *table)
{
	static const unsigned char zeros[8];
	struct header header = header_of(key);
	size_t row_bytes = table->count * sizeof(*table->rows);
	int r;

	header.row_count = table->count;
	header.rows_hash = cache_hash(table->rows, row_bytes);
	r = io_write_all(fd, &header, sizeof(header));
	if (r == 0)
		r = io_write_all(fd, key->id, key->id_len);
	if (r == 0)
		r = io_write_all(fd, zeros, padded(key->id_len) - key->id_len);
	return r < 0 ? r : io_write_all(fd, table->rows, row_bytes);
}

struct entry {
	char *name;
	off_t size;
	struct timespec time;
};

static int oldest_first(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->time.tv_sec != y->time.tv_sec)
		return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
	return (x->time.tv_nsec > y->time.tv_nsec) - (x->time.tv_nsec < y->time.tv_nsec);
}

static size_t list(DIR *dir, struct entry *entries, off_t *ret_sum)
{
	struct dirent *d;
	size_t count = 0;

	*ret_sum = 0;
	while (count < NAMES_MAX && (d = readdir(dir))) {
		struct stat st;
		char *name;

		if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
			continue;
		name = strdup(d->d_name);
		if (!name)
			break;
		entries[count++] = (struct entry){ name, st.st_size, st.st_mtim };
		*ret_sum += st.st_size;
	}
	return count;
}

/* Temporary files that a killed memwatch left are files like others: they grow old. */
static void bound(int folder)
{
	struct entry *entries = calloc(NAMES_MAX, sizeof(*entries));
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	size_t count = 0;
	off_t sum = 0;

	if (!dir && fd >= 0)
		close(fd);
	if (dir && entries) {
		count = list(dir, entries, &sum);
		qsort(entries, count, sizeof(*entries), oldest_first);
	}
	for (size_t i = 0; i < count; i++) {
		if ((sum > CACHE_MAX || count - i == NAMES_MAX) && unlinkat(folder, entries[i].name, 0) == 0)
			sum -= entries[i].size;
		free(entries[i].name);
	}
	if (dir)
		closedir(dir);
	free(entries);
}

void cache_write(const struct cache_key *key, const struct compact *table)
{
	cleanup_close int dir = -1;
	cleanup_close int fd = -1;
	char name[2 * ID_MAX + 8], temporary[64];
	int r;

	if (!table->count || !name_of(key, name, sizeof(name)))
		return;
	dir = open_folder(true);
	if (dir < 0)
		return;
	snprintf(temporary, sizeof(temporary), ".new-%d-%d", (int)getpid(), (int)key->debug);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		if (errno == EEXIST) /* of a killed one with this number: the next time goes well */
			(void)unlinkat(dir, temporary, 0);
		return;
	}
	r = write_file(fd, key, table);
	if (r < 0 || renameat(dir, temporary, dir, name) < 0)
		(void)unlinkat(dir, temporary, 0);
	else
		bound(dir);
}
