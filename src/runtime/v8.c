/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * V8 (Node.js, Electron, Deno …). It keeps no counters outside its heap object, whose layout is of each version its own. What it does keep is a header at the
 * start of each page of its heap: src/heap/memory-chunk.h, BasicMemoryChunk, here as words of 8 bytes. A page is aligned to 256 KiB; one that holds a
 * large object is longer.
 *
 * The header proves itself: the size, the area inside the page, the page's own address and size once more (its reservation), and an owner, a space, that
 * points to the same heap. No other memory looks so, so V8 is found without symbols. The sum of the sizes is what
 * v8.getHeapStatistics() calls total_heap_size, to the byte (V8 10.2, 11.3).
 *
 * What is in use is known of the old generation only: a page's allocated bytes are what was not swept away, plus the open allocation area of its space.
 * In the young generation they say nothing. What was live after the last collection V8 tells nobody: live bytes stay unknown.
 * Newer pages (V8 12 on, by the sources; run on 10 and 11) have no such header: those versions are recognised by symbol, and named.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/runtime.h"

#define CHUNK 0x40000ULL
#define PAGE 4096ULL

enum {
	SIZE,
	FLAGS,
	HEAP,
	AREA_START,
	AREA_END,
	ALLOCATED,
	OWNER = 8,
	RESERVED_START = 10,
	RESERVED_SIZE,
	HEADER_WORDS
};

enum {
	AREA_MAX_OFFSET = 0x10000,
	LARGE_MAX_CHUNKS = 1 << 16, /* 16 GiB in one object */
	POSITIONS_MAX = 1 << 15,    /* 8 GiB of candidates in a look */
	PROBE_POSITIONS = 256,      /* starts of mappings looked at to tell whether V8 is there at all */
	PROBE_PAGES = 3,            /* and of these pages of one heap */
	SPACES_MAX = 64,
};

/* The flags that mark a page of the young generation: FROM_PAGE, TO_PAGE (memory-chunk.h). By version, major * 1000 + minor. */
static const struct layout {
	unsigned int from, to;
	uint64_t young_flags;
} layouts[] = {
	{ 10002, 11003, 1 << 3 | 1 << 4 },
};

/* Files that may contain V8, where no page shows it: only then are symbols asked for. */
static const char *const files[] = { "node*", "libnode*.so*", "libv8*.so*", "electron*", "deno*" };

static const char *const version_symbols[] = {
	"_ZN2v88internal7Version6major_E",
	"_ZN2v88internal7Version6minor_E",
	"_ZN2v88internal7Version6build_E",
	"_ZN2v88internal7Version6patch_E",
};

struct v8 {
	char version[32];
	const char *found_by;
	const struct layout *layout; /* NULL: of this version only the sum is known */
};

struct space {
	uint64_t address, heap;
	bool sound;
};

struct scan {
	struct mem *mem;
	struct space spaces[SPACES_MAX];
	size_t space_count;
	size_t positions; /* left */
	bool gone;
};

/* ---- pages ------------------------------------------------------------------------------------------------------------- */

/* A space is an object with virtual functions; the pointer to its heap follows that to its table. */
static bool space_is_sound(struct scan *s, uint64_t address, uint64_t heap)
{
	uint64_t word = 0;

	for (size_t i = 0; i < s->space_count; i++) {
		if (s->spaces[i].address == address && s->spaces[i].heap == heap)
			return s->spaces[i].sound;
	}
	if (address > UINT64_MAX - 16 || mem_read_u64(s->mem, address + 8, &word) < 0)
		word = 0;
	if (s->space_count < SPACES_MAX)
		s->spaces[s->space_count++] = (struct space){ address, heap, word == heap };
	return word == heap;
}

/* Reads no page that the target has not touched: that would cost it page tables. */
static bool read_page(struct scan *s, uint64_t at, uint64_t w[HEADER_WORDS])
{
	struct mem_range present;
	uint64_t next, size;
	ssize_t n = mem_present(s->mem, at, at + PAGE, &present, 1, &next);
	int rc;

	if (n == 0)
		return false;
	rc = n == -ESRCH ? -ESRCH : mem_read_exact(s->mem, at, w, HEADER_WORDS * sizeof(*w));
	s->gone = s->gone || rc == -ESRCH;
	if (rc < 0)
		return false;
	size = w[SIZE];
	if (size < PAGE || size % PAGE || size / CHUNK >= LARGE_MAX_CHUNKS || w[RESERVED_START] != at ||
	    w[RESERVED_SIZE] != size)
		return false;
	if (w[AREA_START] < at + HEADER_WORDS * sizeof(*w) || w[AREA_START] - at > AREA_MAX_OFFSET ||
	    w[AREA_END] <= w[AREA_START] || w[AREA_END] - at > size || w[ALLOCATED] > w[AREA_END] - w[AREA_START])
		return false;
	return w[HEAP] && w[HEAP] % 8 == 0 && w[OWNER] && w[OWNER] % 8 == 0 && space_is_sound(s, w[OWNER], w[HEAP]);
}

/* Bytes of virtual address space that a page takes: the next one begins behind. */
static uint64_t stride(uint64_t size)
{
	return (size + CHUNK - 1) / CHUNK * CHUNK;
}

static bool may_hold_pages(const struct region *r)
{
	return !*r->path && (r->flags & (REGION_READ | REGION_WRITE | REGION_SHARED)) == (REGION_READ | REGION_WRITE);
}

/* ---- finding it ---------------------------------------------------------------------------------------------------------- */

/* Pages lie in mappings of their own, at random addresses; so their starts suffice. */
static bool shows_pages(struct mem *mem, const struct region *regions, ssize_t count)
{
	struct scan s = { .mem = mem, .positions = PROBE_POSITIONS };
	uint64_t w[HEADER_WORDS], heap = 0;
	int pages = 0;

	for (ssize_t i = 0; i < count && s.positions && !s.gone; i++) {
		if (regions[i].start % CHUNK || !may_hold_pages(&regions[i]))
			continue;
		s.positions--;
		if (!read_page(&s, regions[i].start, w))
			continue;
		pages = w[HEAP] == heap ? pages + 1 : 1; /* those of a worker's heap may lie between */
		heap = w[HEAP];
		if (pages == PROBE_PAGES)
			return true;
	}
	return false;
}

static bool may_hold_v8(const struct region *regions, ssize_t count)
{
	for (ssize_t i = 0; i < count; i++) {
		const char *slash = strrchr(regions[i].path, '/');

		for (size_t k = 0; slash && k < sizeof(files) / sizeof(files[0]); k++) {
			if (fnmatch(files[k], slash + 1, 0) == 0)
				return true;
		}
	}
	return false;
}

static void find_version(struct v8 *v, const struct runtime_query *query)
{
	uint32_t n[4];

	for (int i = 0; i < 4; i++) {
		uint64_t address = 0;

		if (!query->find || query->find(query->arg, version_symbols[i], &address) < 0 ||
		    mem_read_exact(query->mem, address, &n[i], sizeof(n[i])) < 0 || n[i] > 9999)
			return;
	}
	if (n[0] == 0)
		return;
	snprintf(v->version, sizeof(v->version), "%u.%u.%u.%u", n[0], n[1], n[2], n[3]);
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
		unsigned int version = n[0] * 1000 + n[1];

		if (version >= layouts[i].from && version <= layouts[i].to)
			v->layout = &layouts[i];
	}
}

static int v8_probe(const struct runtime_query *query, void **ret_state, struct err *err)
{
	const struct region *regions;
	ssize_t count = mem_regions(query->mem, &regions);
	struct v8 found = { .version = "", .found_by = "signature" }, *v;
	bool pages;

	if (count < 0)
		return err_set(err, (int)-count, "cannot read the mappings");
	pages = shows_pages(query->mem, regions, count);
	if (!pages && !may_hold_v8(regions, count))
		return 0;
	find_version(&found, query);
	if (!pages && !found.version[0])
		return 0;
	if (!pages)
		found.found_by = "symbol";
	v = malloc(sizeof(*v));
	if (!v)
		return err_set(err, ENOMEM, "out of memory");
	*v = found;
	*ret_state = v;
	return 1;
}

/* ---- figures ------------------------------------------------------------------------------------------------------------- */

struct sums {
	uint64_t pages, committed, young, old, old_in_use;
};

/* False: more than a look may cost. */
static bool add_region(struct scan *s, const struct region *r, uint64_t young_flags, uint64_t *from, struct sums *sums)
{
	uint64_t w[HEADER_WORDS];
	uint64_t at = r->start > UINT64_MAX - 2 * CHUNK ? UINT64_MAX : stride(r->start);

	if (at < *from)
		at = *from;
	while (at < r->end && r->end - at >= PAGE && !s->gone) {
		if (s->positions == 0)
			return false;
		s->positions--;
		if (!read_page(s, at, w)) {
			at += CHUNK;
			continue;
		}
		sums->pages++;
		sums->committed += w[SIZE];
		if (w[FLAGS] & young_flags) {
			sums->young += w[SIZE];
		} else {
			sums->old += w[SIZE];
			sums->old_in_use += w[ALLOCATED];
		}
		at += stride(w[SIZE]);
		*from = at; /* protections may split a page into several mappings */
	}
	return true;
}

static int v8_read(void *state, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err)
{
	const struct v8 *v = state;
	const struct region *regions;
	ssize_t count = mem_regions(mem, &regions);
	struct scan s = { .mem = mem, .positions = POSITIONS_MAX };
	struct sums sums = { 0 };
	uint64_t from = 0;
	bool whole = true;

	if (count < 0)
		return err_set(err, (int)-count, "cannot read the mappings");
	for (ssize_t i = 0; i < count && whole && !s.gone; i++) {
		if (may_hold_pages(&regions[i]))
			whole = add_region(&s, &regions[i], v->layout ? v->layout->young_flags : 0, &from, &sums);
	}
	if (s.gone)
		return err_set(err, ESRCH, "the process is gone");
	if (whole && sums.pages == 0)
		return err_set(err, ENOTSUP, "the heap of V8 %s is not known: its pages have another header",
			       v->version[0] ? v->version : "of an unknown version");
	ret->live_is_stale = true;
	if (!whole)
		return 0;
	ret->committed_bytes = (double)sums.committed;
	if (!v->layout)
		return 0;
	ret->figures = arena_array(arena, 4, sizeof(*ret->figures));
	if (!ret->figures)
		return err_set(err, ENOMEM, "out of memory");
	ret->figures[0] = (struct runtime_figure){ "young_committed_bytes", RUNTIME_BYTES, (double)sums.young };
	ret->figures[1] = (struct runtime_figure){ "old_committed_bytes", RUNTIME_BYTES, (double)sums.old };
	ret->figures[2] = (struct runtime_figure){ "old_in_use_bytes", RUNTIME_BYTES, (double)sums.old_in_use };
	ret->figures[3] = (struct runtime_figure){ "pages", RUNTIME_COUNT, (double)sums.pages };
	ret->figure_count = 4;
	return 0;
}

static const char *v8_version(const void *state)
{
	const struct v8 *v = state;

	return v->version[0] ? v->version : NULL;
}

static const char *v8_found_by(const void *state)
{
	return ((const struct v8 *)state)->found_by;
}

const struct runtime_ops runtime_v8 = {
	.name = "v8",
	.probe = v8_probe,
	.read = v8_read,
	.version = v8_version,
	.found_by = v8_found_by,
	.destroy = free,
};
