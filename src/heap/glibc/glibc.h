/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * glibc's malloc (ptmalloc), versions 2.26 to 2.42 and the 2.43 layout, read from outside. Private to heap/glibc.
 *
 * What is known about the target is evidence found in its memory, never a version string: main_arena by its self-linked bins, the
 * layout of malloc_state by the ring of arenas that must close, heap headers by the arena that they name, mp_ by the break that it
 * remembers, tcaches by counts and lists that agree.
 *
 * Accounting, exact on a target that stands still (checked against mallinfo2 by the tests):
 *
 *     mapped   = sum of system_mem over all arenas + mmapped                      mallinfo2: arena + hblkhd
 *     mapped   = in use + free + overhead + skipped                               always, by construction
 *     fordblks = free - tcache_bytes                                              fastbins, bins and every arena's top
 *     uordblks = in use - mmapped + tcache_bytes + overhead + skipped             system_mem - fordblks
 *     hblks, hblkhd = mmapped_blocks, mmapped_bytes                               whole mappings: padding of memalign included
 *     keepcost = top of the main arena
 *
 * Overhead is what mallinfo2 counts as used though no program holds it: heap_info and malloc_state at the start of thread heaps,
 * fenceposts (32 bytes where a heap or a stretch of the break ended; up to 48 in thread heaps), alignment at the start of the main
 * heap, and what foreign code took by sbrk() between two stretches of the main heap (glibc adds that to system_mem, too).
 * A thread's tcache struct is a block in use, as it is for mallinfo2. Blocks are chunk sizes, headers included.
 */
#ifndef MEMWATCH_HEAP_GLIBC_GLIBC_H
#define MEMWATCH_HEAP_GLIBC_GLIBC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/heap.h"

#define CHUNK_PREV_IN_USE 1ULL
#define CHUNK_MMAPPED 2ULL
#define CHUNK_NON_MAIN 4ULL
#define CHUNK_FLAGS 7ULL
#define CHUNK_MIN 32ULL
#define CHUNK_HEADER 16ULL /* of the next chunk's header: prev_size and size */

#define GLIBC_NONCONTIGUOUS 2U /* flags: the break is not, or no longer, what the main heap grows by */
#define GLIBC_PAGE 4096ULL
#define GLIBC_BINS 127
#define GLIBC_FASTBINS 10
#define GLIBC_ARENAS_MAX 8192
#define GLIBC_HEADROOM_ARENAS 64
#define GLIBC_STRETCHES 128
#define GLIBC_WINDOW_BYTES (256U << 10)

/* ---- layout.c: what differs between versions -------------------------------------------------------------------------- */

struct glibc_layout { /* struct malloc_state; offsets in bytes */
	const char *versions;
	int fastbins; /* fastbinsY; -1: none */
	uint32_t top, bins, next, system_mem, size;
	uint32_t mmap_extra; /* bytes of a mapping beyond prev_size + size */
};

struct glibc_par_layout { /* struct malloc_par: mp_ */
	const char *versions;
	uint32_t hp_pagesize; /* 0: none */
	uint32_t n_mmaps, no_dyn_threshold, mmapped_mem, sbrk_base, tcache_bins, tcache_max_bytes, tcache_count, size;
};

struct glibc_tcache_layout { /* struct tcache_perthread_struct */
	const char *versions;
	uint32_t chunk_bytes; /* of the chunk that holds it */
	uint32_t count_bytes, bins, small_bins, entries;
	bool counts_free_slots; /* counts fall from mp_.tcache_count */
};

extern const struct glibc_layout glibc_layouts[];
extern const size_t glibc_layout_count;
extern const struct glibc_par_layout glibc_par_layouts[];
extern const size_t glibc_par_layout_count;
extern const struct glibc_tcache_layout glibc_tcache_layouts[];
extern const size_t glibc_tcache_layout_count;
extern const uint32_t glibc_heap_headers[2]; /* sizeof(heap_info) */
extern const uint64_t glibc_heap_maxima[3];  /* alignment of thread heaps, likeliest first */

/* ---- the walker's memory between walks ---------------------------------------------------------------------------------- */

enum glibc_linking { LINK_UNKNOWN, LINK_PLAIN, LINK_SAFE };

struct glibc {
	const struct glibc_layout *layout;
	const struct glibc_par_layout *par;       /* NULL: mp_ not found */
	const struct glibc_tcache_layout *tcache; /* NULL: none seen yet */
	uint64_t main_arena, par_address;
	uint64_t heap_max;    /* 0: no thread arena seen yet */
	uint32_t heap_header; /* sizeof(heap_info), with heap_max */
	enum glibc_linking linking;
	char version[32];                     /* "": unknown */
	uint64_t ring[GLIBC_HEADROOM_ARENAS]; /* the first arenas, for headroom */
	size_t ring_count;
	uint64_t *blocks; /* where mmapped blocks were found last, ascending: hints */
	size_t block_count;
};

/* ---- read.c: bounded reading of present pages ---------------------------------------------------------------------------- */

struct glibc_presence { /* of 64 pages */
	uint64_t group, pages;
};

struct glibc_reader {
	struct mem *mem;
	struct mem_range *ranges; /* present ranges inside [known_from, known_to) */
	size_t range_count, range_at;
	uint64_t known_from, known_to, ahead;
	uint8_t *buf; /* the window */
	uint64_t base;
	size_t len, want;
	uint8_t *lines; /* single pages, direct mapped */
	uint64_t *tags;
	struct glibc_presence *presence;
	uint64_t misses, last_miss;
};

must_check int glibc_reader_init(struct glibc_reader *r, struct mem *mem);
void glibc_reader_deinit(struct glibc_reader *r);
/* 1: address is present, *ret_end where its range ends; 0: absent, *ret_end the next present address or limit; -errno. */
int glibc_reader_present(struct glibc_reader *r, uint64_t address, uint64_t limit, uint64_t *ret_end);
/* Fills the window from address on: at least one header, at most cap bytes or up to limit. 0, -EFAULT absent, -errno. */
must_check int glibc_reader_window(struct glibc_reader *r, uint64_t address, uint64_t limit, size_t cap);
/* len bytes (at most 16, inside one page) from the page cache; NULL: absent or unreadable. Good until the next call. */
const uint8_t *glibc_reader_peek(struct glibc_reader *r, uint64_t address, size_t len);
bool glibc_reader_cached(const struct glibc_reader *r, uint64_t address); /* a peek there costs nothing */
bool glibc_reader_peek_u64(struct glibc_reader *r, uint64_t address, uint64_t *ret);
void glibc_reader_forget(struct glibc_reader *r); /* drops cached pages: the target may have written */
/* Present bytes inside [start, end). */
uint64_t glibc_reader_present_bytes(struct glibc_reader *r, uint64_t start, uint64_t end);

/* ---- one walk ------------------------------------------------------------------------------------------------------------- */

struct glibc_tally { /* what the chunk loop counts; copied per window, so that a torn window can be taken back */
	uint64_t blocks[2][HEAP_CLASS_COUNT]; /* [in use][class] */
	uint64_t bytes[2][HEAP_CLASS_COUNT];  /* only above HEAP_SMALL_CLASSES: below, the class is the size */
	uint64_t whole_pages_bytes;           /* free whole pages */
	uint64_t absent_bytes;                /* free and not resident */
	uint64_t largest_free_bytes;
	size_t candidate_count; /* possible tcache structs */
	size_t link_count;      /* possible members of fastbins */
};

#define HEAP_SMALL_CLASSES 65 /* class index == size / 16 below this */

struct glibc_arena {
	uint64_t address, top, top_bytes, system_mem;
	uint64_t fastbins[GLIBC_FASTBINS];
	uint64_t in_use_bytes, in_use_blocks, free_bytes, free_blocks, skipped_bytes;
	uint32_t heap_count;
	bool is_main, noncontiguous;
	bool reached_top;
};

struct glibc_block { /* an mmapped chunk */
	uint64_t address, bytes;
	bool strong; /* the chain from the start of the mapping led to its end */
};

struct glibc_link { /* a block in whose first word a fastbin's link could stand; both in one heap: 32 bits of address / 16 do */
	uint32_t chunk, next; /* equal: was followed */
};

struct glibc_walk {
	struct glibc *g;
	struct mem *mem;
	const struct heap_walk_options *options;
	struct glibc_reader reader;
	const struct region *regions;
	size_t region_count;
	struct glibc_arena *arenas; /* ascending by address */
	size_t arena_count, arena_cap;
	bool arenas_cut;
	struct glibc_tally tally; /* of the arena being walked */
	struct glibc_tally total;
	uint64_t *candidates;
	size_t candidate_cap;
	struct glibc_link
		*links; /* seen by the chunk loop while the bytes were at hand: reading them one by one is slow */
	size_t link_cap;
	uint64_t list_misses; /* pages read for fastbins */
	struct glibc_block *blocks;
	size_t block_count, block_cap;
	uint64_t n_mmaps, mmapped_mem, sbrk_base, tcache_count; /* of mp_, at the start of the walk */
	uint64_t main_covered;                       /* bytes of the main arena's system_mem that were found */
	struct mem_range stretches[GLIBC_STRETCHES]; /* mmapped parts of the main heap that were walked */
	size_t stretch_count;
	struct heap_stats stats;
};

struct glibc_span {          /* a stretch of chunks */
	uint64_t start, end; /* end: nothing of this heap lies there or behind */
	struct glibc_arena *arena;
	bool has_top;    /* ends with the arena's top */
	uint64_t finish; /* out: where the chain ended (end of a fencepost or of top) */
};

/* find.c */
int glibc_find(struct glibc *g, struct mem *mem); /* 1 found, 0 not here, -errno */
int glibc_find_par(struct glibc *g, struct mem *mem, const struct region *regions, size_t count,
		   const struct glibc_arena *main_arena);
void glibc_read_par(struct glibc_walk *w); /* what mp_ says now */
/* version.c */
void glibc_find_version(struct glibc *g, struct mem *mem, const struct region *regions, size_t count);

/* arenas.c */
/* Reads one arena; -EAGAIN where it is no arena (now). */
int glibc_read_arena(struct mem *mem, const struct glibc *g, uint64_t address, struct glibc_arena *ret);
int glibc_refresh_top(struct glibc_walk *w, struct glibc_arena *a); /* top, top_bytes, system_mem */
int glibc_list_arenas(struct glibc_walk *w);
struct glibc_arena *glibc_arena_at(struct glibc_walk *w, uint64_t address); /* NULL: no arena */
struct glibc_arena *glibc_arena_of_chunk(struct glibc_walk *w, uint64_t chunk, uint64_t head);
int glibc_walk_heaps(struct glibc_walk *w, struct glibc_arena *a);
int glibc_walk_main(struct glibc_walk *w, struct glibc_arena *a);
void glibc_close_arena(struct glibc_walk *w, struct glibc_arena *a); /* folds the tally into arena and total */

/* walk.c, resync.c */
int glibc_walk_span(struct glibc_walk *w, struct glibc_span *s);
bool glibc_chain_holds(struct glibc_walk *w, const struct glibc_span *s, uint64_t address);
uint64_t glibc_resync(struct glibc_walk *w, const struct glibc_span *s, uint64_t from); /* 0: nothing found */
bool glibc_is_fence(struct glibc_walk *w, const struct glibc_span *s, uint64_t address, uint64_t *ret_end);

/* mapped.c */
int glibc_walk_mappings(struct glibc_walk *w, struct glibc_arena *main_arena);

/* blocks.c: addresses that the caller wants to know about */
uint64_t glibc_next_wanted(const struct glibc_walk *w,
			   uint64_t from); /* the first at from or behind; UINT64_MAX: none */
int glibc_grown_block(struct heap_walker *walker, struct mem *mem, uint64_t end, const uint64_t *candidates,
		      size_t count, struct heap_block *ret);
int glibc_recheck(struct heap_walker *walker, struct mem *mem, struct heap_block *blocks, size_t count);
void glibc_found_block(struct glibc_walk *w, uint64_t start, uint64_t size, bool in_use);

/* cached.c */
void glibc_learn_linking(struct glibc_walk *w);                         /* from fastbins, before the chunk loop */
void glibc_count_fastbins(struct glibc_walk *w, struct glibc_arena *a); /* after its chunk loop */
void glibc_count_tcaches(struct glibc_walk *w);
bool glibc_tcache_plausible(const struct glibc_tcache_layout *l, const uint8_t *data, uint64_t slots);

/* stats.c */
int glibc_finish(struct glibc_walk *w, struct arena *arena, struct heap_stats *ret);

static inline uint64_t glibc_load(const void *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t glibc_load32(const void *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

/* What a link that stands at field leads to. */
static inline uint64_t glibc_follow(uint64_t field, uint64_t stored, enum glibc_linking linking)
{
	return linking == LINK_SAFE ? stored ^ (field >> 12) : stored;
}

static inline uint64_t glibc_align_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) & ~(to - 1);
}

#endif
