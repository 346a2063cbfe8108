/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "glibc.h"

#define RANGE_CAP 512
#define AHEAD_MIN (1ULL << 20)
#define AHEAD_MAX (64ULL << 20) /* the kernel holds the target's mmap_lock while it looks */
#define JUMP_BYTES (32ULL << 10)
#define LINE_COUNT 256U
#define NEAR_PAGES 16ULL
#define PRESENCE_COUNT 2048U /* groups of 64 pages: 512 MiB of address space are remembered */
#define GROUP_BYTES (64 * GLIBC_PAGE)

int glibc_reader_init(struct glibc_reader *r, struct mem *mem)
{
	memset(r, 0, sizeof(*r));
	r->mem = mem;
	r->ranges = malloc(RANGE_CAP * sizeof(*r->ranges));
	r->buf = malloc(GLIBC_WINDOW_BYTES);
	r->lines = malloc(LINE_COUNT * GLIBC_PAGE);
	r->tags = malloc(LINE_COUNT * sizeof(*r->tags));
	r->presence = malloc(PRESENCE_COUNT * sizeof(*r->presence));
	if (!r->ranges || !r->buf || !r->lines || !r->tags || !r->presence) {
		glibc_reader_deinit(r);
		return -ENOMEM;
	}
	r->want = GLIBC_WINDOW_BYTES;
	for (size_t i = 0; i < PRESENCE_COUNT; i++)
		r->presence[i].group = UINT64_MAX;
	glibc_reader_forget(r);
	return 0;
}

void glibc_reader_deinit(struct glibc_reader *r)
{
	free(r->ranges);
	free(r->buf);
	free(r->lines);
	free(r->tags);
	free(r->presence);
	memset(r, 0, sizeof(*r));
}

void glibc_reader_forget(struct glibc_reader *r)
{
	for (size_t i = 0; i < LINE_COUNT; i++)
		r->tags[i] = UINT64_MAX;
}

/* Looks ahead from page on: far where the walk goes on where the last look ended, near after a jump. */
static int look(struct glibc_reader *r, uint64_t page, uint64_t limit)
{
	uint64_t to, next = 0;
	ssize_t n;

	if (page == r->known_to && r->ahead)
		r->ahead = r->ahead * 2 < AHEAD_MAX ? r->ahead * 2 : AHEAD_MAX;
	else
		r->ahead = AHEAD_MIN;
	limit = glibc_align_up(limit, GLIBC_PAGE);
	to = limit - page > r->ahead ? page + r->ahead : limit;
	n = mem_present(r->mem, page, to, r->ranges, RANGE_CAP, &next);
	r->known_from = r->known_to = 0;
	if (n == -ENOTSUP || n == -EPERM) { /* no page table to be seen: the reads themselves decide */
		r->ranges[0] = (struct mem_range){ page, to };
		n = 1;
		next = to;
	}
	if (n < 0)
		return (int)n;
	if (next <= page || (size_t)n > RANGE_CAP)
		return -EFAULT;
	r->known_from = page;
	r->known_to = next < to ? next : to;
	r->range_count = (size_t)n;
	r->range_at = 0;
	return 0;
}

int glibc_reader_present(struct glibc_reader *r, uint64_t address, uint64_t limit, uint64_t *ret_end)
{
	uint64_t page = address & ~(GLIBC_PAGE - 1);

	if (address >= limit)
		return -EFAULT;
	if (address < r->known_from || address >= r->known_to) {
		int rc = look(r, page, limit);

		if (rc < 0)
			return rc;
	}
	if (r->range_at && r->ranges[r->range_at - 1].end > address)
		r->range_at = 0;
	while (r->range_at < r->range_count && r->ranges[r->range_at].end <= address)
		r->range_at++;
	if (r->range_at == r->range_count) {
		*ret_end = r->known_to < limit ? r->known_to : limit;
		return 0;
	}
	if (address < r->ranges[r->range_at].start) {
		*ret_end = r->ranges[r->range_at].start < limit ? r->ranges[r->range_at].start : limit;
		return 0;
	}
	*ret_end = r->ranges[r->range_at].end < limit ? r->ranges[r->range_at].end : limit;
	return 1;
}

int glibc_reader_window(struct glibc_reader *r, uint64_t address, uint64_t limit, size_t cap)
{
	uint64_t end = 0, gap = address + CHUNK_HEADER - (r->base + r->len); /* wraps inside the old window */
	size_t len;
	ssize_t n;
	int rc;

	/* Behind a jump only the header matters; but a call costs as much as copying some 20 KiB, so small gaps are read over. */
	if (gap > JUMP_BYTES)
		r->want = GLIBC_PAGE;
	else
		r->want = r->want * 4 < GLIBC_WINDOW_BYTES ? r->want * 4 : GLIBC_WINDOW_BYTES;
	rc = glibc_reader_present(r, address, limit, &end);
	if (rc <= 0)
		return rc < 0 ? rc : -EFAULT;
	len = r->want < cap ? r->want : cap;
	if (end - address < len)
		len = (size_t)(end - address);
	if (len < CHUNK_HEADER)
		return -EFAULT;
	n = mem_read(r->mem, address, r->buf, len);
	r->base = address;
	r->len = n > 0 ? (size_t)n & ~(size_t)7 : 0;
	if (n < 0)
		return (int)n;
	return r->len >= CHUNK_HEADER ? 0 : -EFAULT;
}

/* A look at the page table costs more than a small read: 64 pages are asked for at once and remembered for the walk. */
static uint64_t group_pages(struct glibc_reader *r, uint64_t page)
{
	uint64_t group = page / GROUP_BYTES, start = group * GROUP_BYTES, next = 0;
	struct glibc_presence *p = &r->presence[group % PRESENCE_COUNT];
	struct mem_range some[64];
	ssize_t n;

	if (p->group == group)
		return p->pages;
	n = mem_present(r->mem, start, start + GROUP_BYTES, some, 64, &next);
	p->group = UINT64_MAX;
	if (n < 0)
		return n == -ENOTSUP || n == -EPERM ? UINT64_MAX : 0;
	p->group = group;
	p->pages = 0;
	for (ssize_t i = 0; i < n; i++)
		for (uint64_t at = some[i].start; at < some[i].end && at - start < GROUP_BYTES; at += GLIBC_PAGE)
			p->pages |= 1ULL << (at - start) / GLIBC_PAGE;
	return p->pages;
}

/* Reads count pages, a power of two of them and aligned to it, into their lines. */
static bool fill(struct glibc_reader *r, uint64_t page, uint64_t count)
{
	uint64_t start = page & ~(count * GLIBC_PAGE - 1), mask = (1ULL << count) - 1;
	size_t line = (size_t)(start / GLIBC_PAGE) % LINE_COUNT;
	size_t len = (size_t)(count * GLIBC_PAGE);

	mask <<= start % GROUP_BYTES / GLIBC_PAGE;
	if ((group_pages(r, page) & mask) != mask)
		return false;
	for (size_t i = 0; i < count; i++)
		r->tags[line + i] = UINT64_MAX;
	if (mem_read(r->mem, start, r->lines + line * GLIBC_PAGE, len) != (ssize_t)len)
		return false;
	for (size_t i = 0; i < count; i++)
		r->tags[line + i] = start + i * GLIBC_PAGE;
	return true;
}

bool glibc_reader_cached(const struct glibc_reader *r, uint64_t address)
{
	uint64_t page = address & ~(GLIBC_PAGE - 1);

	return r->tags[(size_t)(page / GLIBC_PAGE) % LINE_COUNT] == page;
}

const uint8_t *glibc_reader_peek(struct glibc_reader *r, uint64_t address, size_t len)
{
	uint64_t page = address & ~(GLIBC_PAGE - 1);
	size_t line = (size_t)(page / GLIBC_PAGE) % LINE_COUNT;
	bool near;

	if (address - page + len > GLIBC_PAGE || page == 0 || page >> 47 != 0)
		return NULL;
	if (r->tags[line] != page) {
		/* one miss beside another: lists often run through memory in order */
		near = page - r->last_miss + NEAR_PAGES * GLIBC_PAGE < 2 * NEAR_PAGES * GLIBC_PAGE;
		r->last_miss = page;
		r->misses++;
		if (!(near && fill(r, page, NEAR_PAGES)) && !fill(r, page, 1))
			return NULL;
	}
	return r->lines + line * GLIBC_PAGE + (address - page);
}

bool glibc_reader_peek_u64(struct glibc_reader *r, uint64_t address, uint64_t *ret)
{
	const uint8_t *p = glibc_reader_peek(r, address, sizeof(*ret));

	if (!p)
		return false;
	*ret = glibc_load(p);
	return true;
}

uint64_t glibc_reader_present_bytes(struct glibc_reader *r, uint64_t start, uint64_t end)
{
	struct mem_range some[32];
	uint64_t sum = 0;

	while (start < end) {
		uint64_t to = end - start > AHEAD_MAX ? start + AHEAD_MAX : end, next = 0;
		ssize_t n = mem_present(r->mem, start, to, some, sizeof(some) / sizeof(some[0]), &next);

		if (n < 0 || next <= start)
			return sum + (end - start); /* cannot be told: counts as resident */
		for (ssize_t i = 0; i < n; i++)
			sum += some[i].end - some[i].start;
		start = next;
	}
	return sum;
}
