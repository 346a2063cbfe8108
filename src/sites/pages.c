/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/map.h"
#include "memwatch/base/vec.h"

#define GRANULE_PAGES_MAX 512 /* of 4 KiB */
#define NONE UINT32_MAX

#define ENTRY_PRESENT (1ULL << 63)
#define ENTRY_SWAPPED (1ULL << 62)
#define ENTRY_FILE (1ULL << 61)

/* The kernel's interface, spelled out because build hosts have older headers than the hosts watched. */
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
	SCAN_FILE = 1 << 2,
	SCAN_PRESENT = 1 << 3,
	SCAN_SWAPPED = 1 << 4,
	SCAN_ZERO_PAGE = 1 << 5,
	SCAN_HUGE = 1 << 6,
};

struct page {
	uint64_t address;
	double weight_bytes;
	uint32_t size_pages;
	uint32_t older; /* in the granule, or the next one that is free */
};

struct granule {
	uint64_t number; /* address / GRANULE_BYTES */
	uint32_t youngest, count;
};

struct pages {
	int fd;
	bool scan; /* PAGEMAP_SCAN works */
	uint64_t page_bytes;
	struct page *pool;
	size_t pool_count, pool_cap, live;
	uint32_t free;
	struct granule *granules;
	size_t granule_count, granule_cap;
	struct map by_number; /* granule number -> index */
	size_t turn;
	uint64_t round_ns; /* when this round began */
};

static bool scan_one(const struct pages *p, uint64_t start, struct page_info *ret)
{
	struct scan_region region = { 0 };
	struct scan_arg arg = { .size = sizeof(arg),
				.start = start,
				.end = start + p->page_bytes,
				.vec = (uint64_t)(uintptr_t)&region,
				.vec_len = 1,
				.return_mask = SCAN_FILE | SCAN_PRESENT | SCAN_SWAPPED | SCAN_ZERO_PAGE | SCAN_HUGE };
	int n = ioctl(p->fd, SCAN_REQUEST, &arg);

	if (n < 0)
		return false;
	*ret = (struct page_info){ 0 };
	if (n == 1) {
		ret->there = region.categories & (SCAN_PRESENT | SCAN_SWAPPED);
		ret->file = region.categories & SCAN_FILE;
		ret->zero = region.categories & SCAN_ZERO_PAGE;
		ret->huge = region.categories & SCAN_HUGE;
	}
	return true;
}

/* How many entries could be read: none where the target has ended. */
static size_t read_entries(const struct pages *p, uint64_t start, uint64_t *entries, size_t count)
{
	ssize_t n = pread(p->fd, entries, count * 8, (off_t)(start / p->page_bytes * 8));

	return n < 0 ? 0 : (size_t)n / 8;
}

static bool is_there(uint64_t entry)
{
	return entry & (ENTRY_PRESENT | ENTRY_SWAPPED);
}

int pages_create(pid_t pid, struct pages **ret)
{
	struct pages *p = calloc(1, sizeof(*p));
	struct page_info info;
	uint64_t entry;
	char path[64];

	if (!p)
		return -ENOMEM;
	p->free = NONE;
	p->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	p->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (p->fd < 0 || read_entries(p, 0, &entry, 1) != 1) {
		int rc = p->fd < 0 ? -errno : -EPERM;

		pages_destroy(p);
		return rc;
	}
	p->scan = scan_one(p, 0, &info);
	*ret = p;
	return 0;
}

void pages_destroy(struct pages *p)
{
	if (!p)
		return;
	cleanup_closep(&p->fd);
	map_deinit(&p->by_number);
	free(p->pool);
	free(p->granules);
	free(p);
}

bool pages_look(const struct pages *p, uint64_t address, struct page_info *ret)
{
	uint64_t entry;

	/* Nothing there may also mean that the whole process has ended: a read then gives no entries, a scan does not tell. */
	if (p->scan && scan_one(p, address, ret))
		return ret->there || ret->zero || read_entries(p, address, &entry, 1) == 1;
	if (read_entries(p, address, &entry, 1) != 1)
		return false;
	*ret = (struct page_info){ .there = is_there(entry), .file = entry & ENTRY_FILE };
	return true;
}

bool pages_sees_huge(const struct pages *p)
{
	return p->scan;
}

size_t pages_count(const struct pages *p)
{
	return p->live;
}

/* ---- the lists ---- */

static int new_page(struct pages *p, uint32_t *ret)
{
	if (p->free != NONE) {
		*ret = p->free;
		p->free = p->pool[p->free].older;
		return 0;
	}
	if (p->pool_count == NONE || vec_reserve(&p->pool, &p->pool_cap, p->pool_count + 1, sizeof(*p->pool)) < 0)
		return -ENOMEM;
	*ret = (uint32_t)p->pool_count++;
	return 0;
}

static int find_granule(struct pages *p, uint64_t number, struct granule **ret)
{
	uint64_t at;

	if (map_get(&p->by_number, number, &at)) {
		*ret = &p->granules[at];
		return 0;
	}
	if (vec_reserve(&p->granules, &p->granule_cap, p->granule_count + 1, sizeof(*p->granules)) < 0 ||
	    map_put(&p->by_number, number, p->granule_count) < 0)
		return -ENOMEM;
	p->granules[p->granule_count] = (struct granule){ .number = number, .youngest = NONE };
	*ret = &p->granules[p->granule_count++];
	return 0;
}

/* link: where the index of the page is written. */
static void unlink_page(struct pages *p, struct granule *g, uint32_t *link)
{
	uint32_t i = *link;

	*link = p->pool[i].older;
	p->pool[i].older = p->free;
	p->free = i;
	g->count--;
	p->live--;
}

/* The last one takes the place of a granule that is empty. */
static void drop_granule(struct pages *p, size_t at)
{
	struct granule *last = &p->granules[p->granule_count - 1];

	(void)map_remove(&p->by_number, p->granules[at].number);
	if (last != &p->granules[at]) {
		p->granules[at] = *last;
		(void)!map_put(&p->by_number, last->number, at); /* it is there: nothing is allocated */
	}
	p->granule_count--;
}

int pages_add(struct pages *p, uint64_t address, uint64_t size, double weight_bytes)
{
	struct granule *g;
	uint32_t at;

	if (new_page(p, &at) < 0)
		return -ENOMEM;
	if (find_granule(p, address / GRANULE_BYTES, &g) < 0) {
		p->pool[at].older = p->free;
		p->free = at;
		return -ENOMEM;
	}
	for (uint32_t *link = &g->youngest; *link != NONE; link = &p->pool[*link].older) {
		if (p->pool[*link].address == address) {
			unlink_page(p, g, link);
			break;
		}
	}
	p->pool[at] = (struct page){ .address = address,
				     .weight_bytes = weight_bytes,
				     .size_pages = (uint32_t)(size / p->page_bytes),
				     .older = g->youngest };
	g->youngest = at;
	g->count++;
	p->live++;
	return 0;
}

void pages_retain(struct pages *p, bool (*keep)(void *arg, uint64_t address), void *arg)
{
	for (size_t i = p->granule_count; i-- > 0;) {
		struct granule *g = &p->granules[i];
		uint32_t *link = &g->youngest;

		while (*link != NONE) {
			if (keep(arg, p->pool[*link].address))
				link = &p->pool[*link].older;
			else
				unlink_page(p, g, link);
		}
		if (g->count == 0)
			drop_granule(p, i);
	}
}

/* ---- following ---- */

/* A huge page may have been given back in part: it is there while half of it is. */
static bool still_there(const struct page *page, const uint64_t *entries, size_t first, size_t count)
{
	size_t n = page->size_pages, there = 0;

	if (first >= count)
		return false;
	if (n > count - first)
		n = count - first;
	for (size_t i = 0; i < n; i++)
		there += is_there(entries[first + i]);
	return there > 0 && 2 * there >= n;
}

/* False: nothing can be said. */
static bool check_granule(struct pages *p, struct granule *g, void (*gone)(void *arg, uint64_t address), void *arg)
{
	uint64_t entries[GRANULE_PAGES_MAX], start = g->number * GRANULE_BYTES;
	size_t count = (size_t)(GRANULE_BYTES / p->page_bytes), there = 0;
	uint32_t *link = &g->youngest;
	double younger_bytes = 0.0;

	if (count > GRANULE_PAGES_MAX)
		count = GRANULE_PAGES_MAX;
	if (g->count == 1 && p->pool[*link].size_pages == 1) { /* no neighbours: its own entry is enough */
		start = p->pool[*link].address;
		count = 1;
	}
	if (read_entries(p, start, entries, count) != count)
		return false;
	for (size_t i = 0; i < count; i++)
		there += is_there(entries[i]);
	while (*link != NONE) {
		const struct page *page = &p->pool[*link];
		size_t first = (size_t)((page->address - start) / p->page_bytes);
		double held = (double)(there * p->page_bytes);

		if (!still_there(page, entries, first, count) || (younger_bytes > 0.0 && younger_bytes >= held)) {
			uint64_t address = page->address;

			unlink_page(p, g, link);
			gone(arg, address);
			continue;
		}
		younger_bytes += page->weight_bytes;
		link = &p->pool[*link].older;
	}
	return true;
}

void pages_follow(struct pages *p, uint64_t until_ns, uint64_t round_ns, void (*gone)(void *arg, uint64_t address),
		  void *arg)
{
	uint64_t now = clock_now_ns();

	if (p->turn >= p->granule_count && now - p->round_ns >= round_ns) {
		p->turn = 0;
		p->round_ns = now;
	}
	while (p->turn < p->granule_count && clock_now_ns() < until_ns) {
		struct granule *g = &p->granules[p->turn];

		if (!check_granule(p, g, gone, arg))
			return;
		if (g->count == 0)
			drop_granule(p, p->turn);
		else
			p->turn++;
	}
}
