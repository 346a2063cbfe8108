/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * main_arena without symbols: an empty bin's two links point 16 bytes before themselves, and malloc_state holds 127 such bins in a
 * row. From one of them the whole row is found; the ring of arenas behind it must close, and with which offsets it does tells
 * the layout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "glibc.h"

#define SCAN_BYTES (64U << 10)
#define REGION_MAX (64ULL << 20)
#define TRIES_MAX 4096
#define RING_MAX GLIBC_ARENAS_MAX

/* Relative to the first bin; the same in all layouts. */
#define TOP_BEFORE 16
#define NEXT_BEHIND 2048
#define SYSTEM_BEHIND 2072
#define ROW_BYTES (SYSTEM_BEHIND + 16)

struct search {
	struct mem *mem;
	uint8_t *buf;
	unsigned int tries;
	/* the best so far */
	bool found;
	uint64_t main_arena, system_mem;
	const struct glibc_layout *layout;
};

/* 127 bins, each empty or with two aligned links; one may be in flux. */
static bool is_row(const uint8_t *row, uint64_t address)
{
	unsigned int bad = 0, empty = 0;

	for (uint64_t i = 0; i < GLIBC_BINS; i++) {
		uint64_t fd = glibc_load(row + 16 * i), bk = glibc_load(row + 16 * i + 8), self = address + 16 * i - 16;

		if (fd == self && bk == self)
			empty++;
		else if (fd == self || bk == self || fd % 16 || bk % 16 || fd < GLIBC_PAGE || bk < GLIBC_PAGE)
			bad++;
		if (bad > 1)
			return false;
	}
	return empty > 0 && glibc_load(row + SYSTEM_BEHIND) <= glibc_load(row + SYSTEM_BEHIND + 8) &&
	       glibc_load(row + NEXT_BEHIND) != 0 && glibc_load(row + NEXT_BEHIND) % 8 == 0;
}

static bool ring_closes(struct mem *mem, const struct glibc_layout *l, uint64_t arena, uint64_t *ret_system_mem)
{
	uint64_t at = arena, sum = 0;

	for (size_t i = 0; i < RING_MAX; i++) {
		uint64_t tail[4]; /* next, next_free, attached_threads, system_mem */

		if (mem_read_exact(mem, at + l->next, tail, sizeof(tail)) < 0 || tail[0] % 8 != 0)
			return false;
		sum += tail[3];
		if (tail[0] == arena) {
			*ret_system_mem = sum;
			return true;
		}
		at = tail[0];
	}
	return false;
}

static bool try_row(struct search *s, uint64_t row)
{
	for (size_t i = 0; i < glibc_layout_count; i++) {
		const struct glibc_layout *l = &glibc_layouts[i];
		uint64_t sum = 0;

		if (!ring_closes(s->mem, l, row - l->bins, &sum))
			continue;
		if (!s->found || sum > s->system_mem) {
			s->found = true;
			s->main_arena = row - l->bins;
			s->system_mem = sum;
			s->layout = l;
		}
		return true;
	}
	return false;
}

/* An empty bin at address: which of the 127 is it? True where a row was found; *ret_end is its end. */
static bool try_bin(struct search *s, uint64_t address, uint64_t region_start, uint64_t *ret_end)
{
	uint8_t around[16 * (GLIBC_BINS - 1) + ROW_BYTES];
	uint64_t first = address - 16 * (GLIBC_BINS - 1);
	ssize_t n;

	if (first > address || first < region_start)
		first = region_start + (address - region_start) % 16;
	if (s->tries++ >= TRIES_MAX)
		return false;
	n = mem_read(s->mem, first, around, sizeof(around));
	for (uint64_t row = first; row <= address && n > 0 && row - first + ROW_BYTES <= (uint64_t)n; row += 16) {
		/* top and last_remainder look like one more bin: only a ring that closes tells where the row begins */
		if (!is_row(around + (row - first), row) || !try_row(s, row))
			continue;
		*ret_end = row + ROW_BYTES;
		return true;
	}
	return false;
}

static int scan_region(struct search *s, uint64_t start, uint64_t end)
{
	uint64_t at = start, done = start;

	if (end - start > REGION_MAX)
		end = start + REGION_MAX;
	while (at < end) {
		struct mem_range ranges[64];
		uint64_t next = 0;
		ssize_t count = mem_present(s->mem, at, end, ranges, 64, &next);

		if (count == -ENOTSUP || count == -EPERM) {
			ranges[0] = (struct mem_range){ at, end };
			count = 1;
			next = end;
		}
		if (count < 0)
			return (int)count;
		for (ssize_t i = 0; i < count; i++) {
			for (uint64_t from = ranges[i].start; from < ranges[i].end; from += SCAN_BYTES) {
				uint64_t left = ranges[i].end - from;
				ssize_t n = mem_read(s->mem, from, s->buf, left < SCAN_BYTES ? left : SCAN_BYTES);

				if (n == -ESRCH)
					return (int)n;
				for (ssize_t o = 0; o + 16 <= n; o += 8) {
					uint64_t v = glibc_load(s->buf + o);

					if (v != from + (uint64_t)o - 16 || from + (uint64_t)o < done ||
					    glibc_load(s->buf + o + 8) != v)
						continue;
					(void)try_bin(s, from + (uint64_t)o, start, &done);
				}
			}
		}
		if (next <= at)
			break;
		at = next;
	}
	return 0;
}

static bool names_libc(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	return strncmp(base, "libc.", 5) == 0 || strncmp(base, "libc-", 5) == 0;
}

/* Data of files: private writable mappings of them, and the anonymous rest (.bss) that follows. */
static int scan_files(struct search *s, const struct region *regions, size_t count, bool libc)
{
	bool after = false;

	for (size_t i = 0; i < count; i++) {
		const struct region *r = &regions[i];
		bool writable =
			(r->flags & (REGION_READ | REGION_WRITE | REGION_SHARED)) == (REGION_READ | REGION_WRITE);
		bool joined = i > 0 && regions[i - 1].end == r->start;
		int rc;

		if (r->inode != 0 || r->class == REGION_FILE)
			after = names_libc(r->path) == libc;
		else if (!joined || r->class != REGION_ANON)
			after = false;
		if (!after || !writable)
			continue;
		rc = scan_region(s, r->start, r->end);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int glibc_find(struct glibc *g, struct mem *mem)
{
	struct search s = { .mem = mem };
	struct glibc_arena main_arena;
	const struct region *regions;
	ssize_t count = mem_regions(mem, &regions);
	int rc;

	if (count < 0)
		return (int)count;
	s.buf = malloc(SCAN_BYTES);
	if (!s.buf)
		return -ENOMEM;
	rc = scan_files(&s, regions, (size_t)count, true);
	if (rc == 0 && !s.found) /* static, renamed or another allocator: look everywhere */
		rc = scan_files(&s, regions, (size_t)count, false);
	free(s.buf);
	if (rc < 0 || !s.found)
		return rc < 0 ? rc : 0;
	g->main_arena = s.main_arena;
	g->layout = s.layout;
	rc = glibc_read_arena(mem, g, g->main_arena, &main_arena);
	if (rc < 0)
		return rc == -EAGAIN ? 0 : rc;
	rc = glibc_find_par(g, mem, regions, (size_t)count, &main_arena);
	if (rc < 0)
		return rc;
	if (s.system_mem == 0) { /* initialised and never used, unless all of it was mmapped */
		uint32_t n_mmaps = 0;

		if (!g->par || mem_read_exact(mem, g->par_address + g->par->n_mmaps, &n_mmaps, 4) < 0 || n_mmaps == 0)
			return 0;
	}
	glibc_find_version(g, mem, regions, (size_t)count);
	return 1;
}
