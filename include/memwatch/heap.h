/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Heap truth: allocators' own structures, read from outside, while the target runs.
 *
 * A walker sees only a struct mem, so a live process, a core file and a fixture run the same code. It takes no symbols, writes
 * nothing, stops nothing. It reads only pages that are present. Everything read may be torn: sizes and links are verified,
 * every loop is bounded by the mapping that it walks, a window whose chain broke is read again, then resynchronised at the next
 * address that must be a chunk, else counted in skipped_bytes.
 */
#ifndef MEMWATCH_HEAP_H
#define MEMWATCH_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/mem.h"
#include "memwatch/model.h"

#define HEAP_CLASS_COUNT 256 /* size classes, see heap_class_index() */

enum heap_block_state { HEAP_BLOCK_UNKNOWN, HEAP_BLOCK_IN_USE, HEAP_BLOCK_FREE };

struct heap_block {                  /* one address to be looked up while the walk passes it */
	uint64_t address;            /* in: anywhere inside the block */
	uint64_t start, size;        /* out: the chunk that holds it; untouched where the walk did not come by */
	enum heap_block_state state; /* out: free also in caches and top; UNKNOWN: the walk did not come by */
	uint64_t content; /* out of recheck: what the program keeps in its first words, see heap_content; 0 unknown */
};

/*
 * The content of a block is one byte of hash for each of its first eight words, so two looks at one address can be told apart: the
 * same; touched (a few words changed: a link, a counter, so still the same block); replaced (most words changed: another block has
 * taken the place). A block that was freed and taken again with the same words in it cannot be told from one that stayed.
 */
enum heap_content { HEAP_CONTENT_UNKNOWN, HEAP_CONTENT_SAME, HEAP_CONTENT_TOUCHED, HEAP_CONTENT_REPLACED };
enum heap_content heap_content_compare(uint64_t before, uint64_t now);

struct heap_pick { /* a block in use that a walk picked */
	uint64_t address, size, hash;
};

/*
 * Blocks picked during a walk: of each size class the `limit` blocks in use with the smallest hash of their address. That is a
 * uniform sample of the class, and the same blocks are picked by every walk with the same salt as long as they stay and the
 * class does not outgrow its limit: more exactly, the picks are all blocks whose hash is less than `below`. So a block that
 * was not picked by the walk before, though its hash was less than `below` then, was taken since.
 *
 * Blocks in thread caches and fastbins are free and are not picked; nor are blocks of windows that were read again. What the target
 * did while its memory was read may still leave a pick that is none: heap_recheck() tells.
 *
 *     heap_picks_begin(&picks, limits)     before each walk: empties it; 0 or -ENOMEM (then it picks nothing)
 *     options.picks = &picks; heap_walk(); of class c: picks.items[picks.first[c]] and the picks.count[c] - 1 behind it
 *
 * 24 bytes a pick. The order inside a class is arbitrary.
 */
struct heap_picks {
	uint64_t salt;
	uint64_t below[HEAP_CLASS_COUNT]; /* by heap_class_index(); UINT64_MAX: all; 0: the class is not picked from */
	uint16_t limit[HEAP_CLASS_COUNT], count[HEAP_CLASS_COUNT];
	uint32_t first[HEAP_CLASS_COUNT];
	struct heap_pick *items;
	size_t item_cap;
};

void heap_picks_init(struct heap_picks *p, uint64_t salt);
void heap_picks_deinit(struct heap_picks *p);
must_check int heap_picks_begin(struct heap_picks *p, const uint16_t limit[HEAP_CLASS_COUNT]);
/* For walkers. A block in use, of which hash < below[index], and that is not among the picks yet. */
void heap_picks_add(struct heap_picks *p, size_t index, uint64_t address, uint64_t size, uint64_t hash);
/* No block in use begins inside [start, end): what was read there was torn, or is free after all. */
void heap_picks_drop(struct heap_picks *p, uint64_t start, uint64_t end);
void heap_picks_drop_block(struct heap_picks *p, uint64_t address, uint64_t size);

/* In the hot loop of walks: two multiplications. */
static inline uint64_t heap_pick_hash(uint64_t address, uint64_t salt)
{
	uint64_t x = (address ^ salt) * 0x9e3779b97f4a7c15ULL;

	return (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
}

struct heap_walk_options {
	struct heap_block *blocks; /* ascending by address; NULL: none */
	size_t block_count;
	struct heap_picks *picks;   /* NULL: none; else begun by the caller */
	bool size_classes;          /* fill classes[] */
	bool resident;              /* look up which free bytes are resident (costs a page-table scan) */
	uint64_t deadline_ns;       /* CLOCK_MONOTONIC; 0: none. A walk that is not done by then ends with -ETIME */
	const volatile int *cancel; /* non-zero: end with -ECANCELED soon; may be NULL */
	uint64_t max_bytes;         /* 0: all; else stop after that many bytes: complete = false, skipped counted */
};

struct heap_headroom {         /* how far each arena is from asking the kernel for more: cheap, a few reads */
	uint64_t top_bytes;    /* least of the arenas that have ever grown; UNKNOWN_U64 where there is none */
	uint64_t in_use_hint;  /* system_mem - top over all arenas: moves with growth; UNKNOWN_U64 */
	uint64_t mapped_bytes; /* system_mem over all arenas + mmapped blocks */
	uint64_t main_end;     /* end of the main heap (the program break); 0 unknown */
};

struct heap_walker;

struct heap_walker_ops {
	const char *name; /* "glibc" */
	/* Looks whether the target uses this allocator. Runs at attach, after exec, and again when nothing was found yet. 1: found, *ret
	 * set; 0: not here (or not initialised yet); -errno. Does not block beyond its reads; target runs. The walker keeps no pointer to
	 * mem. */
	int (*probe)(struct mem *mem, struct heap_walker **ret, struct err *err);
	/* One walk. Result arrays in the arena. 0, -ESRCH, -EAGAIN (structures not consistent now: try later), -ETIME, -ECANCELED,
	 * -errno. */
	int (*walk)(struct heap_walker *w, struct mem *mem, const struct heap_walk_options *options,
		    struct arena *arena, struct heap_stats *ret);
	int (*headroom)(struct heap_walker *w, struct mem *mem, struct heap_headroom *ret); /* NULL: cannot */
	/* Blocks found before (start, size): state becomes FREE where the block is no more or lies in a bin, stays IN_USE otherwise (a
	 * block in a thread's cache looks in use: the next walk will tell). Cheap: two small reads a block, batched. NULL: cannot. */
	int (*recheck)(struct heap_walker *w, struct mem *mem, struct heap_block *blocks, size_t count);
	/* An arena has just grown beyond `end`: which of the candidates (words from the registers and the stack of the thread that made it
	 * grow) is the block that needed it? It is the one whose chunk reaches from before `end` to there or beyond. 1: *ret filled; 0:
	 * none. NULL: cannot. */
	int (*grown_block)(struct heap_walker *w, struct mem *mem, uint64_t end, const uint64_t *candidates,
			   size_t count, struct heap_block *ret);
	void (*describe)(struct heap_walker *w, struct arena *arena,
			 struct named_part *ret); /* name, version, found_by */
	void (*destroy)(struct heap_walker *w);
};

struct heap_walker {
	const struct heap_walker_ops *ops;
	void *arg; /* owned by the walker */
};

extern const struct heap_walker_ops *const heap_walkers[]; /* NULL-terminated, in the order in which they are tried */
extern const struct heap_walker_ops heap_glibc;

/* Tries every walker; 1 found, 0 none, -errno. */
must_check int heap_probe(struct mem *mem, struct heap_walker **ret, struct err *err);
must_check int heap_walk(struct heap_walker *w, struct mem *mem, const struct heap_walk_options *options,
			 struct arena *arena, struct heap_stats *ret);
must_check int heap_headroom(struct heap_walker *w, struct mem *mem, struct heap_headroom *ret); /* -ENOTSUP */
must_check int heap_grown_block(struct heap_walker *w, struct mem *mem, uint64_t end, const uint64_t *candidates,
				size_t count, struct heap_block *ret); /* 1, 0, -ENOTSUP */
must_check int heap_recheck(struct heap_walker *w, struct mem *mem, struct heap_block *blocks,
			    size_t count); /* -ENOTSUP */
void heap_describe(struct heap_walker *w, struct arena *arena, struct named_part *ret);
void heap_walker_destroy(struct heap_walker *w); /* NULL-safe */

/* Size classes: chunk sizes up to 1024 in steps of 16, then four per doubling. Index of the class that holds size. */
size_t heap_class_index(uint64_t size);
uint64_t heap_class_size(size_t index); /* upper bound of the class */

#endif
