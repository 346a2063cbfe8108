/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "memwatch/base/vec.h"
#include "private.h"

#define VDSO_MAX (1U << 20)
#define HASH_START 0xcbf29ce484222325ULL
#define HASH_PRIME 0x100000001b3ULL

static uint64_t hash_add(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * HASH_PRIME;
	return hash ^ (hash >> 29);
}

static bool is_vdso(const struct region *r)
{
	return strcmp(r->path, "[vdso]") == 0;
}

static bool is_file(const struct region *r)
{
	return r->inode && r->path[0] == '/';
}

/* Only executable mappings count: the heap's growth must not cost anything here. */
static uint64_t hash_regions(const struct region *regions, size_t count)
{
	uint64_t hash = HASH_START;

	for (size_t i = 0; i < count; i++) {
		const struct region *r = &regions[i];

		if (!(r->flags & REGION_EXEC))
			continue;
		hash = hash_add(hash, r->start);
		hash = hash_add(hash, r->end);
		hash = hash_add(hash, r->offset);
		hash = hash_add(hash, r->flags & REGION_DELETED); /* from then on its path names another file */
		hash = hash_add(hash, r->inode);
		hash = hash_add(hash, ((uint64_t)r->dev_major << 32) | r->dev_minor);
	}
	return hash;
}

static bool system_path(const char *path)
{
	static const char *const prefixes[] = { "/lib/", "/lib64/", "/lib32/", "/usr/lib/", "/usr/lib64/", NULL };

	for (size_t i = 0; prefixes[i]; i++)
		if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

static void read_vdso(struct mem *mem, const struct region *r, struct module *m)
{
	size_t len = (size_t)(r->end - r->start);
	unsigned char *map;

	if (!mem || len > VDSO_MAX)
		return;
	map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return;
	if (mem_read_exact(mem, r->start, map, len) < 0 || image_take(map, len, &m->main) < 0)
		munmap(map, len);
}

static bool module_is(const struct module *m, const struct region *r)
{
	if (is_vdso(r) || m->vdso)
		return is_vdso(r) && m->vdso && m->map_start == r->start;
	return m->inode == r->inode && m->dev_major == r->dev_major && m->dev_minor == r->dev_minor &&
	       strcmp(m->path, r->path) == 0;
}

static struct module *module_for(struct symbols *s, struct mem *mem, const struct region *r)
{
	struct module *m;

	for (size_t i = s->module_count; i-- > 0;)
		if (module_is(s->modules[i], r)) {
			m = s->modules[i];
			goto found;
		}
	if (vec_reserve(&s->modules, &s->module_cap, s->module_count + 1, sizeof(struct module *)) < 0)
		return NULL;
	m = module_create();
	if (!m)
		return NULL;
	m->path = intern_str(s->strings, r->path);
	if (!m->path) {
		module_destroy(s, m);
		return NULL;
	}
	m->inode = r->inode;
	m->dev_major = r->dev_major;
	m->dev_minor = r->dev_minor;
	m->vdso = is_vdso(r);
	m->system = system_path(r->path);
	if (m->vdso)
		read_vdso(mem, r, m);
	s->modules[s->module_count++] = m;
found:
	m->deleted = r->flags & REGION_DELETED;
	m->map_start = r->start;
	m->map_end = r->end;
	m->used = true;
	return m;
}

/* Text that was copied to huge pages stands between mappings of its file: before is the nearest one below. */
static int add_span(struct symbols *s, struct mem *mem, const struct region *r, const struct region *before)
{
	struct span *span;
	struct module *m = NULL;
	bool anonymous = !is_file(r) && !is_vdso(r);
	const struct region *owner = anonymous ? before : r;

	if (owner) {
		m = module_for(s, mem, owner);
		if (!m)
			return -ENOMEM;
	}
	if (vec_reserve(&s->spans, &s->span_cap, s->span_count + 1, sizeof(*s->spans)) < 0)
		return -ENOMEM;
	span = &s->spans[s->span_count++];
	*span = (struct span){ .start = r->start, .end = r->end, .module = m, .anonymous = anonymous };
	span->base = owner ? owner->start : r->start;
	span->offset = owner ? owner->offset : 0;
	return 0;
}

static void drop_unused(struct symbols *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->module_count; i++) {
		struct module *m = s->modules[i];

		if (m->used) {
			s->modules[kept++] = m;
			continue;
		}
		if (s->executable == m)
			s->executable = NULL;
		module_destroy(s, m);
	}
	s->module_count = kept;
}

int spans_update(struct symbols *s, struct mem *mem, bool *ret_changed)
{
	const struct region *regions, *before = NULL;
	ssize_t n = mem_regions(mem, &regions);
	uint64_t hash;
	int r = 0;

	if (n < 0)
		return (int)n;
	hash = hash_regions(regions, (size_t)n);
	*ret_changed = hash != s->mappings_hash || !s->span_count;
	if (!*ret_changed)
		return 0;
	s->span_count = 0;
	for (size_t i = 0; i < s->module_count; i++)
		s->modules[i]->used = false;
	for (size_t i = 0; i < (size_t)n && r == 0; i++) {
		const struct region *region = &regions[i];

		if (is_file(region))
			before = region;
		if (region->flags & REGION_EXEC)
			r = add_span(s, mem, region, before);
	}
	s->mappings_hash = r == 0 ? hash : 0;
	if (r == 0)
		drop_unused(s);
	return r;
}

static void settle(struct symbols *s, struct span *span)
{
	struct module *m = span->module;

	span->stage = STAGE_FAILED;
	if (m && module_load(s, m) == 0 &&
	    module_bias(m, span->base, span->offset, !span->anonymous, &span->bias) == 0 &&
	    (!span->anonymous || module_in_text(m, span->start - span->bias)))
		span->stage = STAGE_READY;
	else if (span->anonymous)
		span->module = NULL; /* no copied text: a JIT's */
}

struct span *span_find(struct symbols *s, uint64_t address)
{
	size_t low = 0, high = s->span_count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct span *span = &s->spans[middle];

		if (address < span->start) {
			high = middle;
		} else if (address >= span->end) {
			low = middle + 1;
		} else {
			if (span->stage == STAGE_NEW)
				settle(s, span);
			return span;
		}
	}
	return NULL;
}
