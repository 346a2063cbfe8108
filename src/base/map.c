/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/arena.h"

#define MAP_FIRST_SLOTS 16

/* Any key is valid, so the state stands beside it. SLOT_EMPTY is 0: calloc() and memset() make an empty table. */
enum slot_state { SLOT_EMPTY, SLOT_LIVE, SLOT_GONE };

struct map_slot {
	uint64_t key;
	uint64_t value;
	enum slot_state state;
};

/* Addresses differ in a few middle bits only: every bit of the key must reach the low ones (splitmix64's finaliser). */
static uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= 0xbf58476d1ce4e5b9ULL;
	x ^= x >> 27;
	x *= 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* Smallest power of two that holds `count` entries at most half full; 0 on overflow. */
static size_t slots_for(size_t count)
{
	size_t cap = MAP_FIRST_SLOTS;

	while (cap / 2 < count) {
		if (cap > SIZE_MAX / 2)
			return 0;
		cap *= 2;
	}
	return cap;
}

void map_init(struct map *m)
{
	*m = (struct map)MAP_INIT;
}

void map_deinit(struct map *m)
{
	if (!m)
		return;
	free(m->slots);
	map_init(m);
}

void map_clear(struct map *m)
{
	if (m->slots)
		memset(m->slots, 0, m->cap * sizeof(*m->slots));
	m->count = 0;
	m->used = 0;
}

static struct map_slot *map_find(const struct map *m, uint64_t key)
{
	if (m->cap == 0)
		return NULL;
	/* ends: a quarter of the slots is always empty */
	for (size_t i = mix(key) & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
		struct map_slot *slot = &m->slots[i];

		if (slot->state == SLOT_EMPTY)
			return NULL;
		if (slot->state == SLOT_LIVE && slot->key == key)
			return slot;
	}
}

bool map_get(const struct map *m, uint64_t key, uint64_t *ret_value)
{
	const struct map_slot *slot = map_find(m, key);

	if (!slot)
		return false;
	*ret_value = slot->value;
	return true;
}

/* Only for keys that are not in the table, and with a slot left empty. */
static void map_insert(struct map *m, uint64_t key, uint64_t value)
{
	size_t i = mix(key) & (m->cap - 1);

	while (m->slots[i].state == SLOT_LIVE)
		i = (i + 1) & (m->cap - 1);
	if (m->slots[i].state == SLOT_EMPTY)
		m->used++;
	m->slots[i] = (struct map_slot){ key, value, SLOT_LIVE };
	m->count++;
}

static int map_rehash(struct map *m)
{
	struct map grown = MAP_INIT;

	grown.cap = slots_for(m->count + 1);
	grown.slots = grown.cap > 0 ? calloc(grown.cap, sizeof(*grown.slots)) : NULL;
	if (!grown.slots)
		return -ENOMEM;
	for (size_t i = 0; i < m->cap; i++)
		if (m->slots[i].state == SLOT_LIVE)
			map_insert(&grown, m->slots[i].key, m->slots[i].value);
	free(m->slots);
	*m = grown;
	return 0;
}

int map_put(struct map *m, uint64_t key, uint64_t value)
{
	struct map_slot *slot = map_find(m, key);

	if (slot) {
		slot->value = value;
		return 0;
	}
	/* tombstones lengthen searches as live entries do, so both count */
	if (m->used + 1 > m->cap - m->cap / 4) {
		int r = map_rehash(m);

		if (r < 0)
			return r;
	}
	map_insert(m, key, value);
	return 0;
}

bool map_remove(struct map *m, uint64_t key)
{
	struct map_slot *slot = map_find(m, key);
	size_t i;

	if (!slot)
		return false;
	slot->state = SLOT_GONE;
	m->count--;
	/* No search passes through a slot before an empty one: a run of tombstones that ends there can go. */
	i = (size_t)(slot - m->slots);
	if (m->slots[(i + 1) & (m->cap - 1)].state != SLOT_EMPTY)
		return true;
	while (m->slots[i].state == SLOT_GONE) {
		m->slots[i].state = SLOT_EMPTY;
		m->used--;
		i = (i - 1) & (m->cap - 1);
	}
	return true;
}

bool map_next(const struct map *m, size_t *pos, uint64_t *ret_key, uint64_t *ret_value)
{
	while (*pos < m->cap) {
		const struct map_slot *slot = &m->slots[(*pos)++];

		if (slot->state == SLOT_LIVE) {
			*ret_key = slot->key;
			*ret_value = slot->value;
			return true;
		}
	}
	return false;
}

struct intern_slot {
	uint64_t hash;
	size_t len;
	const char *text; /* NULL: empty */
};

struct intern {
	struct arena arena;
	struct intern_slot *slots;
	size_t cap;
	size_t count;
};

int intern_create(struct intern **ret)
{
	struct intern *in = calloc(1, sizeof(*in));

	if (!in)
		return -ENOMEM;
	arena_init(&in->arena, 0, 0);
	*ret = in;
	return 0;
}

void intern_destroy(struct intern *in)
{
	if (!in)
		return;
	arena_deinit(&in->arena);
	free(in->slots);
	free(in);
}

/* FNV-1a, mixed so that the low bits are good enough for a power-of-two table. */
static uint64_t hash_text(const char *text, size_t len)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3ULL;
	return mix(hash);
}

/* The slot that holds the text, or the empty one where it belongs. */
static struct intern_slot *intern_find(struct intern_slot *slots, size_t cap, uint64_t hash, const char *text,
				       size_t len)
{
	size_t i = hash & (cap - 1);

	while (slots[i].text && (slots[i].hash != hash || slots[i].len != len || memcmp(slots[i].text, text, len) != 0))
		i = (i + 1) & (cap - 1);
	return &slots[i];
}

static int intern_grow(struct intern *in)
{
	size_t cap = slots_for(in->count + 1);
	struct intern_slot *slots = cap > 0 ? calloc(cap, sizeof(*slots)) : NULL;

	if (!slots)
		return -ENOMEM;
	for (size_t i = 0; i < in->cap; i++) {
		const struct intern_slot *old = &in->slots[i];

		if (old->text)
			*intern_find(slots, cap, old->hash, old->text, old->len) = *old;
	}
	free(in->slots);
	in->slots = slots;
	in->cap = cap;
	return 0;
}

const char *intern_str(struct intern *in, const char *text)
{
	return intern_strn(in, text, SIZE_MAX);
}

const char *intern_strn(struct intern *in, const char *text, size_t len)
{
	struct intern_slot *slot;
	const char *copy;
	uint64_t hash;

	if (!text)
		return NULL;
	/* strnlen() with SIZE_MAX trips fortified builds */
	len = len == SIZE_MAX ? strlen(text) : strnlen(text, len);
	if (in->count + 1 > in->cap - in->cap / 4 && intern_grow(in) < 0)
		return NULL;
	hash = hash_text(text, len);
	slot = intern_find(in->slots, in->cap, hash, text, len);
	if (slot->text)
		return slot->text;
	copy = arena_strndup(&in->arena, text, len);
	if (!copy)
		return NULL;
	*slot = (struct intern_slot){ hash, len, copy };
	in->count++;
	return copy;
}
