/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/arena.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARENA_ALIGN ((size_t)16)
#define ARENA_FIRST_BYTES ((size_t)4096)
#define ARENA_PAGE_BYTES ((size_t)4096) /* the smallest page size there is: touches every page of a larger one too */

struct arena_chunk {
	struct arena_chunk *next;
	unsigned char *data; /* aligned */
	size_t size;
	size_t used;
	size_t dirty; /* bytes [used, dirty) hold old contents and are zeroed when handed out */
};

void arena_init(struct arena *a, size_t first_bytes, size_t limit_bytes)
{
	*a = (struct arena){ .limit_bytes = limit_bytes, .first_bytes = first_bytes };
}

void arena_deinit(struct arena *a)
{
	if (!a)
		return;
	while (a->chunks) {
		struct arena_chunk *next = a->chunks->next;

		free(a->chunks);
		a->chunks = next;
	}
	a->used_bytes = 0;
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *keep = a->chunks;
	struct arena_chunk *c = a->chunks;

	for (; c; c = c->next)
		if (c->size > keep->size)
			keep = c;
	c = a->chunks;
	while (c) {
		struct arena_chunk *next = c->next;

		if (c != keep)
			free(c);
		c = next;
	}
	a->chunks = keep;
	a->used_bytes = 0;
	if (!keep)
		return;
	keep->next = NULL;
	if (keep->dirty < keep->used)
		keep->dirty = keep->used;
	keep->used = 0;
}

static bool align_up(size_t bytes, size_t *ret)
{
	if (bytes == 0)
		bytes = 1;
	if (bytes > PTRDIFF_MAX)
		return false;
	*ret = (bytes + ARENA_ALIGN - 1) & ~(ARENA_ALIGN - 1);
	return true;
}

/* What may still be allocated from the system under the limit. */
static size_t room_left(const struct arena *a)
{
	size_t sum = 0;

	if (a->limit_bytes == 0)
		return SIZE_MAX;
	for (const struct arena_chunk *c = a->chunks; c; c = c->next)
		sum += c->size;
	return a->limit_bytes > sum ? a->limit_bytes - sum : 0;
}

static struct arena_chunk *chunk_create(size_t bytes)
{
	struct arena_chunk *c;
	size_t total;

	if (__builtin_add_overflow(bytes, sizeof(*c) + ARENA_ALIGN, &total))
		return NULL;
	c = calloc(1, total);
	if (!c)
		return NULL;
	c->data = (unsigned char *)(c + 1);
	c->data += (ARENA_ALIGN - (uintptr_t)c->data % ARENA_ALIGN) % ARENA_ALIGN;
	c->size = bytes;
	return c;
}

/* A chunk with room for `need` bytes, as large as geometric growth wants it and as the limit allows. */
static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
	size_t room = room_left(a);
	size_t bytes = a->first_bytes > 0 ? a->first_bytes : ARENA_FIRST_BYTES;
	struct arena_chunk *head = a->chunks;
	struct arena_chunk *c;

	if (need > room)
		return NULL;
	if (head && head->size <= PTRDIFF_MAX / 2 && head->size * 2 > bytes)
		bytes = head->size * 2;
	if (bytes < need)
		bytes = need;
	if (bytes > room)
		bytes = room;
	c = chunk_create(bytes);
	if (!c)
		return NULL;
	if (head && head->size - head->used > c->size - need) {
		/* a large block: what is left of the chunk in use serves the next small ones */
		c->next = head->next;
		head->next = c;
	} else {
		c->next = head;
		a->chunks = c;
	}
	return c;
}

int arena_prepare(struct arena *a, size_t bytes)
{
	struct arena_chunk *c = a->chunks;
	size_t need;

	if (!align_up(bytes, &need))
		return -ENOMEM;
	if (!c || c->size - c->used < need) {
		if (need > room_left(a))
			return -ENOMEM;
		c = chunk_create(need);
		if (!c)
			return -ENOMEM;
		c->next = a->chunks;
		a->chunks = c;
	}
	if (c->dirty > c->used)
		memset(c->data + c->used, 0, c->dirty - c->used);
	c->dirty = 0;
	/* volatile: the compiler knows that calloc() returns zeros and drops plain stores of them */
	for (size_t at = c->used; at < c->size; at += ARENA_PAGE_BYTES)
		((volatile unsigned char *)c->data)[at] = 0;
	((volatile unsigned char *)c->data)[c->size - 1] = 0;
	return 0;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	struct arena_chunk *c = a->chunks;
	unsigned char *ptr;
	size_t need;

	if (!align_up(bytes, &need))
		return NULL;
	if (!c || c->size - c->used < need) {
		c = chunk_add(a, need);
		if (!c)
			return NULL;
	}
	ptr = c->data + c->used;
	if (c->dirty > c->used)
		memset(ptr, 0, c->dirty - c->used < need ? c->dirty - c->used : need);
	c->used += need;
	a->used_bytes += need;
	return ptr;
}

void *arena_array(struct arena *a, size_t count, size_t elem_size)
{
	size_t bytes;

	if (__builtin_mul_overflow(count, elem_size, &bytes))
		return NULL;
	return arena_alloc(a, bytes);
}

void *arena_memdup(struct arena *a, const void *data, size_t bytes)
{
	void *copy = arena_alloc(a, bytes);

	if (copy && bytes > 0)
		memcpy(copy, data, bytes);
	return copy;
}

char *arena_strdup(struct arena *a, const char *text)
{
	return text ? arena_memdup(a, text, strlen(text) + 1) : NULL;
}

char *arena_strndup(struct arena *a, const char *text, size_t len)
{
	char *copy;

	if (!text)
		return NULL;
	len = strnlen(text, len);
	copy = arena_alloc(a, len + 1); /* zeroed: the NUL is there */
	if (copy)
		memcpy(copy, text, len);
	return copy;
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list ap;
	char *text;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len < 0)
		return NULL;
	text = arena_alloc(a, (size_t)len + 1);
	if (!text)
		return NULL;
	va_start(ap, fmt);
	vsnprintf(text, (size_t)len + 1, fmt, ap);
	va_end(ap);
	return text;
}
