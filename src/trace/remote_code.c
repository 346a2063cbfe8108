/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Finds the code that remote calls lean on, in the executable mappings of files and the vDSO. Nothing is stopped meanwhile. */
#include "remote.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cleanup.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define SCAN_BYTES_MAX                                                                                                 \
	((uint64_t)256 << 20) /* of one look: a bound for strange targets; the C library has it in 2 MB */
#define RANGES 64

struct scan {
	struct mem *mem;
	unsigned char *buf;
	struct arch_gadgets found;
	uint64_t read_bytes;
	int error; /* of the last read that failed altogether */
};

static bool is_done(const struct scan *s)
{
	return (s->found.call && s->found.way_out) || s->read_bytes > SCAN_BYTES_MAX;
}

static void scan_range(struct scan *s, uint64_t start, uint64_t end)
{
	while (start < end && !is_done(s)) {
		size_t len = end - start < CHUNK_BYTES ? (size_t)(end - start) : CHUNK_BYTES;
		ssize_t got = mem_read(s->mem, start, s->buf, len);

		if (got < 0)
			s->error = (int)got;
		if (got <= 0)
			return;
		arch_remote_find(s->buf, (size_t)got, start, &s->found);
		s->read_bytes += (uint64_t)got;
		if ((size_t)got < len || start + len == end)
			return;
		start += len - (ARCH_PATTERN_MAX - 1); /* a piece of code may lie across the border */
	}
}

/* present_only: reading a page that the target has not touched would count as resident from then on. */
static void scan_region(struct scan *s, const struct region *region, bool present_only)
{
	struct mem_range ranges[RANGES];
	uint64_t at = region->start;

	if (!present_only) {
		scan_range(s, region->start, region->end);
		return;
	}
	while (at < region->end && !is_done(s)) {
		uint64_t next = region->end;
		ssize_t n = mem_present(s->mem, at, region->end, ranges, RANGES, &next);

		for (ssize_t i = 0; i < n; i++)
			scan_range(s, ranges[i].start, ranges[i].end);
		if (n < 0 || next <= at)
			return;
		at = next;
	}
}

static bool looks_like_libc(const char *path)
{
	const char *name = strrchr(path, '/');

	name = name ? name + 1 : path;
	return strncmp(name, "libc", 4) == 0 || strncmp(name, "ld-", 3) == 0 || strcmp(name, "[vdso]") == 0;
}

static bool is_code(const struct region *region)
{
	return (region->flags & REGION_EXEC) && (region->flags & REGION_READ) && !(region->flags & REGION_WRITE) &&
	       (region->class == REGION_FILE || strcmp(region->path, "[vdso]") == 0);
}

int remote_find_gadgets(pid_t pid, struct mem *mem, struct arch_gadgets *ret, struct err *err)
{
	cleanup_free unsigned char *buf = malloc(CHUNK_BYTES);
	struct scan s = { .mem = mem, .buf = buf };
	const struct region *regions;
	ssize_t count = mem_regions(mem, &regions);

	if (!buf)
		return err_set(err, ENOMEM, "out of memory to look for code in process %d", (int)pid);
	for (int pass = 0; pass < 4 && count > 0; pass++) /* resident, then all; likely places first */
		for (ssize_t i = 0; i < count && !is_done(&s); i++)
			if (is_code(&regions[i]) && looks_like_libc(regions[i].path) == (pass % 2 == 0))
				scan_region(&s, &regions[i], pass < 2);
	if (count == -ESRCH || s.error == -ESRCH)
		return err_set(err, ESRCH, "process %d has ended", (int)pid);
	if (count < 0 || (s.read_bytes == 0 && s.error < 0)) {
		trace_explain_refusal(pid, err);
		return -EPERM;
	}
	if (!s.found.call || !s.found.way_out)
		return err_set(err, ENOTSUP,
			       "process %d has no code for a %s that a remote call could use: it is without a usual C "
			       "library; use another source of "
			       "call sites",
			       (int)pid, s.found.call ? "return from a signal handler" : "system call");
	*ret = s.found;
	return 0;
}
