/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "sites/names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"

void site_stacks_init(struct site_stacks *s, size_t max, size_t bytes_max)
{
	*s = (struct site_stacks){ .max = max, .bytes_max = bytes_max, .other = SIZE_MAX };
	arena_init(&s->arena, 64 << 10, 0);
	map_init(&s->by_hash);
}

void site_stacks_deinit(struct site_stacks *s)
{
	arena_deinit(&s->arena);
	map_deinit(&s->by_hash);
	free(s->items);
	s->items = NULL;
}

static uint64_t hash_pcs(const uint64_t *pcs, size_t count)
{
	uint64_t hash = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < count; i++) {
		hash ^= pcs[i];
		hash *= 0x100000001b3ULL;
		hash ^= hash >> 29;
	}
	return hash;
}

int site_stacks_find(struct site_stacks *s, const struct unwind_stack *stack, const char *source, uint32_t *ret)
{
	size_t count = stack->count, bytes = count * sizeof(*stack->pcs);
	uint64_t hash = hash_pcs(stack->pcs, count), index;
	struct site_stack *entry;
	bool full;

	if (map_get(&s->by_hash, hash, &index)) {
		entry = &s->items[index];
		if (entry->count == count && memcmp(entry->pcs, stack->pcs, bytes) == 0) {
			*ret = (uint32_t)index;
			return 0;
		}
	}
	full = count == 0 || s->count >= s->max - 1 || s->arena.used_bytes + bytes > s->bytes_max;
	if (full && s->other != SIZE_MAX) {
		*ret = (uint32_t)s->other;
		return 0;
	}
	if (vec_reserve(&s->items, &s->cap, s->count + 1, sizeof(*s->items)) < 0)
		return -ENOMEM;
	entry = &s->items[s->count];
	*entry = (struct site_stack){ .end = stack->end, .source = source };
	if (full) {
		s->other = s->count;
	} else {
		entry->pcs = arena_memdup(&s->arena, stack->pcs, bytes);
		entry->count = count;
		if (!entry->pcs || map_put(&s->by_hash, hash, s->count) < 0)
			return -ENOMEM;
	}
	*ret = (uint32_t)s->count++;
	return 0;
}

int site_stack_name(const struct site_stack *stack, struct symbols *symbols, struct arena *arena, struct site *ret)
{
	struct frame frames[UNWIND_MAX_FRAMES];
	size_t count = 0;

	for (size_t i = 0; i < stack->count && count < UNWIND_MAX_FRAMES; i++)
		count += symbols_resolve(symbols, stack->pcs[i], i > 0, frames + count, UNWIND_MAX_FRAMES - count);
	if (stack->count == 0)
		frames[count++] = (struct frame){ .function = "(other stacks)", .note = FRAME_TRUNCATED };
	else if (count > 0 && stack->end != FRAME_OK && frames[count - 1].note == FRAME_OK)
		frames[count - 1].note = stack->end;
	ret->frames = arena_memdup(arena, frames, count * sizeof(*frames));
	ret->frame_count = count;
	return count == 0 || ret->frames ? 0 : -ENOMEM;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_frames(const struct site *a, const struct site *b)
{
	if (a->frame_count != b->frame_count)
		return false;
	for (size_t i = 0; i < a->frame_count; i++) {
		const struct frame *x = &a->frames[i], *y = &b->frames[i];

		if (x->line != y->line || !same_text(x->function, y->function) || !same_text(x->file, y->file))
			return false;
	}
	return true;
}

struct site *site_find_same(struct site *sites, size_t count, const struct site *site)
{
	for (size_t i = 0; i < count; i++)
		if (same_frames(&sites[i], site))
			return &sites[i];
	return NULL;
}
