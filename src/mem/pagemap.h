/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which pages are present, from a descriptor of /proc/PID/pagemap.
 *
 * Pages that only show the kernel's page of zeroes are left out where the kernel tells them apart (PAGEMAP_SCAN): they
 * are no memory of the process.
 */
#ifndef MEMWATCH_SRC_MEM_PAGEMAP_H
#define MEMWATCH_SRC_MEM_PAGEMAP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/mem.h"

/* A request to the kernel covers no more than this: it holds the target's mmap_lock meanwhile. */
#define PAGEMAP_STEP_BYTES ((uint64_t)64 << 20)

/* What is collected: ranges merge where they touch. */
struct pagemap_out {
	struct mem_range *ranges;
	size_t cap, count;
};

/*
 * Both look through [start, end), page-aligned, at most PAGEMAP_STEP_BYTES, until the output is full, and say how far
 * they came. 0 or -errno; scan: -ENOTTY where the kernel has no PAGEMAP_SCAN (before 6.7).
 */
must_check int pagemap_scan(int fd, uint64_t start, uint64_t end, struct pagemap_out *out, uint64_t *ret_next);
must_check int pagemap_entries(int fd, uint64_t start, uint64_t end, struct pagemap_out *out, uint64_t *ret_next);

#endif
