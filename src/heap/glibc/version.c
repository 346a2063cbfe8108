/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The version, for people only: nothing in the walk depends on it. Whatever of libc's own pages is present is looked at. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "glibc.h"

#define LOOK_MAX (4ULL << 20)

static bool take_number(const char *text, size_t len, char *ret, size_t cap)
{
	size_t n = 0;

	while (n < len && n + 1 < cap && ((text[n] >= '0' && text[n] <= '9') || text[n] == '.'))
		n++;
	while (n > 0 && text[n - 1] == '.')
		n--;
	if (n < 3 || text[0] != '2' || text[1] != '.')
		return false;
	memcpy(ret, text, n);
	ret[n] = '\0';
	return true;
}

/* The banner names the release; the newest symbol version ("GLIBC_2.36") is the next best. */
static bool look_into(const char *buf, size_t len, char *ret, size_t cap, unsigned int *newest)
{
	static const char banner[] = "release version ", symbol[] = "GLIBC_2.";
	const char *at = buf, *end = buf + len;

	at = memmem(buf, len, banner, sizeof(banner) - 1);
	if (at && take_number(at + sizeof(banner) - 1, (size_t)(end - at) - (sizeof(banner) - 1), ret, cap))
		return true;
	for (at = buf; (at = memmem(at, (size_t)(end - at), symbol, sizeof(symbol) - 1)) != NULL;) {
		unsigned int minor = 0;

		at += sizeof(symbol) - 1;
		for (int i = 0; i < 3 && at < end && *at >= '0' && *at <= '9'; i++, at++)
			minor = minor * 10 + (unsigned int)(*at - '0');
		if (minor > *newest && minor < 200)
			*newest = minor;
	}
	return false;
}

static bool look_at_region(struct mem *mem, const struct region *r, char *ret, size_t cap, unsigned int *newest)
{
	struct mem_range ranges[64];
	uint64_t at = r->start, end = r->end - r->start > LOOK_MAX ? r->start + LOOK_MAX : r->end, next = 0;
	bool found = false;

	while (at < end && !found) {
		ssize_t n = mem_present(mem, at, end, ranges, 64, &next);

		if (n < 0 || next <= at)
			return false;
		for (ssize_t i = 0; i < n && !found; i++) {
			size_t len = (size_t)(ranges[i].end - ranges[i].start);
			char *buf = malloc(len);
			ssize_t got = buf ? mem_read(mem, ranges[i].start, buf, len) : 0;

			found = got > 0 && look_into(buf, (size_t)got, ret, cap, newest);
			free(buf);
		}
		at = next;
	}
	return found;
}

void glibc_find_version(struct glibc *g, struct mem *mem, const struct region *regions, size_t count)
{
	const struct region *own = region_find(regions, count, g->main_arena);
	const char *base;
	unsigned int newest = 0;

	while (own && own > regions && own->inode == 0 && own[-1].end == own->start)
		own--; /* from .bss to the file that it belongs to */
	if (!own || own->inode == 0)
		return;
	base = strrchr(own->path, '/');
	base = base ? base + 1 : own->path;
	if (strncmp(base, "libc-", 5) == 0 && take_number(base + 5, strlen(base + 5), g->version, sizeof(g->version)))
		return;
	for (size_t i = 0; i < count; i++) {
		const struct region *r = &regions[i];

		if (r->inode == own->inode && r->dev_major == own->dev_major && r->dev_minor == own->dev_minor &&
		    (r->flags & (REGION_READ | REGION_WRITE)) == REGION_READ && !(r->flags & REGION_EXEC) &&
		    look_at_region(mem, r, g->version, sizeof(g->version), &newest))
			return;
	}
	if (newest)
		snprintf(g->version, sizeof(g->version), "2.%u", newest);
}
