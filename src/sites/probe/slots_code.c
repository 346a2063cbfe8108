/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What code does with the slots that hold an address for it to use. Code is read from its file where that can be had: reading it from the target would make
 * pages of it resident there that were not. Only modules with such slots are looked at.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/vec.h"
#include "slots_private.h"

#define PORTION (256U << 10)
#define PATH_BYTES 4200

struct uses {
	struct slots_use *items;
	size_t count, cap;
	bool unread; /* some code could not be looked at */
};

static bool is_file_of(int fd, const struct region *region)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == region->inode &&
	       major(st.st_dev) == region->dev_major && minor(st.st_dev) == region->dev_minor;
}

/* The file of a mapping, -1 none. What stands at a path is first looked at without opening it: it may be a device by now. */
static int open_code(const struct slots_look *l, const struct region *region)
{
	char path[PATH_BYTES];
	int place, fd;

	if (l->dir_fd < 0 || region->inode == 0)
		return -1;
	snprintf(path, sizeof(path), "map_files/%llx-%llx", (unsigned long long)region->start,
		 (unsigned long long)region->end);
	place = openat(l->dir_fd, path, O_PATH | O_CLOEXEC);
	if (place < 0 && (size_t)snprintf(path, sizeof(path), "root/%s", region->path) < sizeof(path))
		place = openat(l->dir_fd, path, O_PATH | O_CLOEXEC);
	if (place < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", place);
	fd = is_file_of(place, region) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	close(place);
	return fd;
}

/* Up to len bytes of code at address, by the file or from memory. Count or -errno. */
static ssize_t read_code(struct slots_look *l, int fd, const struct region *region, uint64_t address, void *buf,
			 size_t len)
{
	ssize_t n = -1;

	if (len > l->code_left)
		return 0;
	l->code_left -= len;
	if (fd >= 0)
		n = pread(fd, buf, len, (off_t)(region->offset + (address - region->start)));
	return n > 0 ? n : mem_read(l->mem, address, buf, len);
}

static int scan_region(struct slots_look *l, const struct region *region, uint64_t from, uint64_t to, struct uses *uses)
{
	cleanup_free uint8_t *buf = malloc(PORTION);
	cleanup_close int fd = open_code(l, region);
	ssize_t n;

	if (!buf)
		return -ENOMEM;
	while (from < to) {
		size_t len = to - from < PORTION ? (size_t)(to - from) : PORTION;

		n = read_code(l, fd, region, from, buf, len);
		if (n < 0)
			return (int)n;
		slots_arch_scan(buf, (size_t)n, from, uses->items, uses->count);
		if ((size_t)n < len && n <= SLOTS_SCAN_OVERLAP) {
			uses->unread = true;
			return 0;
		}
		from += (uint64_t)n;
		if (from < to)
			from -= SLOTS_SCAN_OVERLAP;
	}
	return 0;
}

static int scan_module(struct slots_look *l, const struct slots_module *m, struct uses *uses)
{
	for (size_t i = 0; i < m->exec_count; i++) {
		uint64_t at = m->exec[i].start, end = m->exec[i].end;

		while (at < end) {
			const struct region *r = region_find(l->regions, l->region_count, at);
			uint64_t to;
			int result;

			if (!r) {
				uses->unread = true;
				break;
			}
			to = r->end < end ? r->end : end;
			result = scan_region(l, r, at, to, uses);
			if (result < 0)
				return result;
			at = to;
		}
	}
	return 0;
}

/* Candidates are in ascending order of modules, then of addresses: so are the uses. */
static int scan_slots(struct slots_look *l, size_t from, size_t to)
{
	const struct slots_module *m = &l->modules[l->candidates[from].module];
	struct uses uses = { NULL, 0, 0, false };
	size_t next = 0;
	int r = 0;

	for (size_t i = from; i < to; i++) {
		if (!l->candidates[i].listed || l->candidates[i].kind != SLOTS_DATA)
			continue;
		if (vec_reserve(&uses.items, &uses.cap, uses.count + 1, sizeof(*uses.items)) < 0)
			r = -ENOMEM;
		else
			uses.items[uses.count++] = (struct slots_use){ l->candidates[i].slot.address, false, false };
	}
	if (r == 0 && uses.count)
		r = scan_module(l, m, &uses);
	for (size_t i = from; r == 0 && next < uses.count && i < to; i++)
		if (l->candidates[i].slot.address == uses.items[next].address) {
			/* No use at all: code of another model, which reaches it in ways that are not known here. */
			l->candidates[i].slot.copied =
				uses.unread || uses.items[next].copied || !uses.items[next].called;
			next++;
		}
	free(uses.items);
	return r;
}

int slots_scan_code(struct slots_look *l)
{
	int r = 0;

	for (size_t from = 0, to; r == 0 && from < l->candidate_count; from = to) {
		for (to = from + 1; to < l->candidate_count && l->candidates[to].module == l->candidates[from].module;)
			to++;
		r = scan_slots(l, from, to);
	}
	return r;
}
