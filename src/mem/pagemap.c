/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pagemap.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* The kernel's interface, spelled out here because build hosts have older headers than the hosts watched. */
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg { /* 96 bytes: part of the request's number */
	uint64_t size, flags;
	uint64_t start, end, walk_end;
	uint64_t vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_REQUEST _IOWR('f', 16, struct scan_arg)

enum {
	SCAN_PRESENT = 1 << 3,
	SCAN_ZERO_PAGE = 1 << 5,
};

#define SCAN_REGIONS 256
#define ENTRIES_AT_ONCE 2048 /* of 8 bytes: 8 MiB of address space a read */
#define ENTRY_PRESENT (1ULL << 63)

static bool out_is_full(const struct pagemap_out *out)
{
	return out->count == out->cap;
}

static bool out_add(struct pagemap_out *out, uint64_t start, uint64_t end)
{
	if (out->count && out->ranges[out->count - 1].end == start) {
		out->ranges[out->count - 1].end = end;
		return true;
	}
	if (out_is_full(out))
		return false;
	out->ranges[out->count++] = (struct mem_range){ start, end };
	return true;
}

int pagemap_scan(int fd, uint64_t start, uint64_t end, struct pagemap_out *out, uint64_t *ret_next)
{
	struct scan_region regions[SCAN_REGIONS];
	size_t room = out->cap - out->count;
	struct scan_arg arg = {
		.size = sizeof(arg),
		.start = start,
		.end = end,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = room < SCAN_REGIONS ? room : SCAN_REGIONS,
		.category_inverted = SCAN_ZERO_PAGE,
		.category_mask = SCAN_PRESENT | SCAN_ZERO_PAGE,
		.return_mask = SCAN_PRESENT,
	};
	int n;

	do {
		n = ioctl(fd, SCAN_REQUEST, &arg);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EFAULT) {
		*ret_next = end; /* beyond the address space of programs: nothing there is readable */
		return 0;
	}
	if (n < 0)
		return -errno;
	if ((size_t)n > arg.vec_len || arg.walk_end <= start || arg.walk_end > end)
		return -EIO;
	for (int i = 0; i < n; i++) {
		if (!out_add(out, regions[i].start, regions[i].end))
			return -EIO;
	}
	*ret_next = arg.walk_end;
	return 0;
}

int pagemap_entries(int fd, uint64_t start, uint64_t end, struct pagemap_out *out, uint64_t *ret_next)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t entries[ENTRIES_AT_ONCE];
	uint64_t at = start;

	while (at < end && !out_is_full(out)) {
		uint64_t pages = (end - at) / page;
		size_t want = pages < ENTRIES_AT_ONCE ? (size_t)pages : ENTRIES_AT_ONCE;
		ssize_t n = pread(fd, entries, want * sizeof(entries[0]), (off_t)(at / page * sizeof(entries[0])));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n < (ssize_t)sizeof(entries[0])) {
			at = end; /* beyond the address space of programs */
			break;
		}
		for (size_t i = 0; i < (size_t)n / sizeof(entries[0]); i++, at += page) {
			if ((entries[i] & ENTRY_PRESENT) && !out_add(out, at, at + page))
				break;
		}
	}
	*ret_next = at;
	return 0;
}
