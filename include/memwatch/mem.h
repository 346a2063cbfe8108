/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory of a target, from wherever it is: a live process, a fixture, later a core file. {ops, arg}, so that walkers and
 * readers run on all of them alike.
 *
 * Nothing here stops the target or writes into it. Bytes are hostile: what is read may be torn and means nothing until checked.
 * Not thread safe. A dead target gives -ESRCH from every call; a page that cannot be read ends a read short.
 */
#ifndef MEMWATCH_MEM_H
#define MEMWATCH_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/err.h"
#include "memwatch/model.h"

struct mem_range {
	uint64_t start, end; /* [start, end), page-aligned */
};

struct mem_piece { /* one element of a batched read */
	uint64_t address;
	void *buf;
	size_t len;
	size_t done; /* out: bytes read, from the start of the piece */
};

struct mem;

struct mem_ops {
	const char *name;
	/* Reads up to len bytes; returns the count read before the first unreadable byte (0 allowed) or -errno (-ESRCH target
	 * gone, -EPERM refused). May block only as long as the kernel copies. */
	ssize_t (*read)(struct mem *mem, uint64_t address, void *buf, size_t len);
	/* Many small reads at once; fills piece->done each; 0 or -errno. NULL: done by read in a loop. */
	int (*read_batch)(struct mem *mem, struct mem_piece *pieces, size_t count);
	/* Present (resident) ranges inside [start, end), ascending, merged, at most cap; *ret_next is where to go on (== end
	 * when done). Returns the count or -errno (-ENOTSUP, -EPERM). NULL: every page counts as present. */
	ssize_t (*present)(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
			   uint64_t *ret_next);
	/* Current mappings, ascending; *ret stays owned by mem, valid until the next call of regions. Returns the count or -errno. */
	ssize_t (*regions)(struct mem *mem, const struct region **ret);
	void (*destroy)(struct mem *mem); /* NULL-safe is mem_destroy's business */
};

struct mem {
	const struct mem_ops *ops;
	void *arg;
};

ssize_t mem_read(struct mem *mem, uint64_t address, void *buf, size_t len);
must_check int mem_read_exact(struct mem *mem, uint64_t address, void *buf, size_t len); /* 0, -EFAULT short, -errno */
must_check int mem_read_u64(struct mem *mem, uint64_t address, uint64_t *ret);
must_check int mem_read_batch(struct mem *mem, struct mem_piece *pieces, size_t count);
ssize_t mem_present(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
		    uint64_t *ret_next);
ssize_t mem_regions(struct mem *mem, const struct region **ret);
void mem_destroy(struct mem *mem);

/* Finds the region that holds address in an ascending list; NULL none. */
const struct region *region_find(const struct region *regions, size_t count, uint64_t address);

/*
 * Live process: process_vm_readv, /proc/PID/mem where that is refused, PAGEMAP_SCAN (6.7+, else pagemap) in ranges of at
 * most 64 MiB a call, because the kernel holds the target's mmap_lock meanwhile.
 * proc_fd: an O_DIRECTORY descriptor of /proc/PID, borrowed for the life of mem.
 * regions() goes to the kernel each time. After exec() the new image is read. Present ranges leave out pages that only show
 * the kernel's page of zeroes where it tells them apart (PAGEMAP_SCAN). /proc/PID/mem reads through protections (PROT_NONE).
 * Refusal (-EPERM) names Yama, another user, dumpable or the missing capability.
 */
must_check int mem_live_create(pid_t pid, int proc_fd, struct mem **ret, struct err *err);

/*
 * Fixture: segments in memory. The caller keeps the bytes. For tests and, later, saved images.
 */
struct mem_segment {
	struct region region;
	const void *data; /* region.end - region.start bytes; NULL: mapped but not present */
};
must_check int mem_fixture_create(const struct mem_segment *segments, size_t count, struct mem **ret);

#endif
