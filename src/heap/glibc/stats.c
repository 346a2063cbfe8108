/* SPDX-License-Identifier: GPL-3.0-or-later */
/* From what the walk counted to struct heap_stats. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "glibc.h"

/* What of an arena was never reached is neither overhead nor anything else that is known. */
static void skip_unreached(struct glibc_walk *w)
{
	for (size_t i = 0; i < w->arena_count; i++) {
		struct glibc_arena *a = &w->arenas[i];
		uint64_t known = a->in_use_bytes + a->free_bytes + a->skipped_bytes;

		if (!a->top || a->reached_top)
			continue;
		w->stats.complete = false;
		if (a->system_mem > known) {
			w->stats.skipped_bytes += a->system_mem - known;
			a->skipped_bytes += a->system_mem - known;
		}
	}
}

static int fill_arenas(const struct glibc_walk *w, struct arena *arena, struct heap_stats *s)
{
	s->arenas = arena_array(arena, w->arena_count, sizeof(*s->arenas));
	if (!s->arenas && w->arena_count)
		return -ENOMEM;
	for (size_t i = 0; i < w->arena_count; i++) {
		const struct glibc_arena *a = &w->arenas[i];
		uint64_t known = a->in_use_bytes + a->free_bytes + a->skipped_bytes;

		s->arenas[i] = (struct heap_arena){
			.address = a->address,
			.is_main = a->is_main,
			.in_use_bytes = a->in_use_bytes,
			.in_use_blocks = a->in_use_blocks,
			.free_bytes = a->free_bytes,
			.free_blocks = a->free_blocks,
			.top_bytes = a->top_bytes,
			/* a target that ran meanwhile may hold more than it held when its sum was read */
			.mapped_bytes = a->system_mem > known ? a->system_mem : known,
			.heap_count = a->heap_count,
		};
	}
	s->arena_count = w->arena_count;
	return 0;
}

static int fill_classes(const struct glibc_walk *w, struct arena *arena, struct heap_stats *s)
{
	size_t used = 0;

	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		used += w->total.blocks[0][i] != 0 || w->total.blocks[1][i] != 0;
	if (!used)
		return 0;
	s->classes = arena_array(arena, used, sizeof(*s->classes));
	if (!s->classes)
		return -ENOMEM;
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		bool small = i < HEAP_SMALL_CLASSES;

		if (w->total.blocks[0][i] == 0 && w->total.blocks[1][i] == 0)
			continue;
		s->classes[s->class_count++] = (struct heap_size_class){
			.size = heap_class_size(i),
			.in_use_blocks = w->total.blocks[1][i],
			.in_use_bytes = small ? w->total.blocks[1][i] * i * 16 : w->total.bytes[1][i],
			.free_blocks = w->total.blocks[0][i],
			.free_bytes = small ? w->total.blocks[0][i] * i * 16 : w->total.bytes[0][i],
			.growth_per_s = NAN,
			.leak_probability = NAN,
			.age_s = NAN,
		};
	}
	return 0;
}

/* Whole pages of a top, as the trim of the break would give them back: it keeps the least chunk. */
static uint64_t top_pages(const struct glibc_arena *a)
{
	return a->top_bytes > CHUNK_MIN + 1 ? (a->top_bytes - CHUNK_MIN - 1) & ~(GLIBC_PAGE - 1) : 0;
}

static void add_arenas(const struct glibc_walk *w, struct heap_stats *s)
{
	uint64_t whole = w->total.whole_pages_bytes, absent = w->total.absent_bytes;

	s->trimmable_bytes = whole;
	for (size_t i = 0; i < w->arena_count; i++) {
		const struct glibc_arena *a = &w->arenas[i];

		s->in_use_bytes += a->in_use_bytes;
		s->in_use_blocks += a->in_use_blocks;
		s->free_bytes += a->free_bytes;
		s->free_blocks += a->free_blocks;
		s->top_bytes += a->top_bytes;
		s->mapped_bytes += s->arenas[i].mapped_bytes;
		whole += top_pages(a);
		if (a->is_main) /* malloc_trim() lowers the break; the tops of thread heaps stay */
			s->trimmable_bytes += top_pages(a);
	}
	s->in_use_bytes += s->mmapped_bytes;
	s->in_use_blocks += s->mmapped_blocks;
	s->mapped_bytes += s->mmapped_bytes;
	s->pinned_bytes = s->free_bytes > whole ? s->free_bytes - whole : 0;
	s->free_resident_bytes = !w->options->resident  ? UNKNOWN_U64 :
				 s->free_bytes > absent ? s->free_bytes - absent :
							  0;
}

int glibc_finish(struct glibc_walk *w, struct arena *arena, struct heap_stats *ret)
{
	struct heap_stats s;
	uint64_t known;
	int rc;

	skip_unreached(w);
	s = w->stats;
	rc = fill_arenas(w, arena, &s);
	if (rc == 0 && w->options->size_classes)
		rc = fill_classes(w, arena, &s);
	if (rc < 0)
		return rc;
	if (w->options->resident) {
		for (size_t i = 0; i < w->arena_count; i++) {
			const struct glibc_arena *a = &w->arenas[i];
			uint64_t start = glibc_align_up(a->top, GLIBC_PAGE),
				 end = (a->top + a->top_bytes) & ~(GLIBC_PAGE - 1);

			if (a->top && start < end)
				w->total.absent_bytes +=
					end - start - glibc_reader_present_bytes(&w->reader, start, end);
		}
	}
	add_arenas(w, &s);
	s.largest_free_bytes = w->total.largest_free_bytes;
	if (w->arenas_cut)
		s.complete = false;
	known = s.in_use_bytes + s.free_bytes + s.skipped_bytes;
	if (known > s.mapped_bytes)
		s.mapped_bytes = known;
	s.overhead_bytes = s.mapped_bytes - known;
	s.fragmentation = s.mapped_bytes ? 1.0 - (double)s.in_use_bytes / (double)s.mapped_bytes : 0;
	s.source = "signature";
	*ret = s;
	return 0;
}
