/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Where growth comes from: sources behind one interface, and the table that ranks what they saw.
 *
 * A source says (stack, address range or weight); the table keeps one entry a distinct stack, follows which ranges are still
 * there, and ranks by surviving bytes. Stacks are kept as return addresses; names are resolved for the report only.
 * Bounded: at most SITES_MAX stacks and SITES_RANGES_MAX ranges; beyond that the smallest are merged into "other".
 */
#ifndef MEMWATCH_SITES_H
#define MEMWATCH_SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/heap.h"
#include "memwatch/mem.h"
#include "memwatch/model.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"
#include "memwatch/unwind.h"

#define SITES_MAX 4096
#define SITES_RANGES_MAX 16384

struct site_table;
must_check int site_table_create(struct site_table **ret);
void site_table_destroy(struct site_table *t);

struct site_event {
	uint64_t start, end;   /* the range that was taken; equal: none, weight only */
	uint64_t weight_bytes; /* the growth that this event stands for */
	bool exact;            /* see struct site */
	bool in_heap;          /* an arena grew: the block that lies across `start` is the one that was asked for */
	uint64_t block_start, block_size; /* in_heap: that block, where it was found at once; size 0: not yet */
	uint64_t content;                 /* hash of what the block holds, see struct heap_block; 0 unknown */
	double t_s;
	const char *source; /* static text */
};

/* This stack caused that event. 0 or -ENOMEM. */
must_check int site_table_add(struct site_table *t, const struct unwind_stack *stack, const struct site_event *event);

/*
 * Survival of in_heap events: an arena also grows because of blocks that live for a moment only, so the very block that made it
 * grow is followed from look to look. Its bytes count once it has been found in use for a while, and never again once it was found
 * free or replaced by another. A block whose content was seen early and never changed since is beyond doubt the same; one whose
 * content changed may be another block of that size in the same place, and counts only for stacks whose blocks mostly stay.
 * blocks(): addresses to look up in the next walk, ascending, at most cap, the newest ones; start and size are filled in where a walk
 * has found them (known_only: these alone, for heap_recheck()). seen(): what was found.
 */
#define SITES_FOLLOWED 256
size_t site_table_blocks(const struct site_table *t, bool known_only, struct heap_block *ret, size_t cap);
void site_table_seen(struct site_table *t, const struct heap_block *blocks, size_t count);
/* Exact events since since_s, and how many of them were found to have been given back. */
void site_table_given_back(const struct site_table *t, double since_s, uint64_t *ret_events, uint64_t *ret_given_back);

/* Drops what is no longer there: ranges outside the current writable mappings lose their bytes. */
void site_table_refresh(struct site_table *t, const struct region *regions, size_t count);

/*
 * Ranks by the surviving bytes of events at since_s or later (what was built up before says nothing about growth), names the
 * frames and merges stacks that read the same. Where exact events explain a material part, statistical ones are left out.
 * With heap truth (heap, classes with growth_per_s) the in_heap events are joined to it: those of a size class share what that
 * class grew by, so that a class that only churns weighs next to nothing; and `share` is of all growth, of classes without any
 * event too. Sites below SITES_SHARE_MIN are left out. Sites and their frames in the arena; at most max sites.
 * until_s - since_s is the time base of bytes_per_s.
 */
#define SITES_SHARE_MIN 0.02
struct site_query {
	struct symbols *symbols;
	double since_s, until_s;
	const struct heap_stats *heap; /* NULL: none */
	size_t max;
};
must_check int site_table_report(struct site_table *t, const struct site_query *query, struct arena *arena,
				 struct site **ret, size_t *ret_count);
uint64_t site_table_events(const struct site_table *t);

struct site_context { /* what a source may use; borrowed */
	pid_t pid;
	struct tracer *tracer;
	struct mem *mem;
	struct heap_walker *walker; /* NULL: none */
	struct symbols *symbols;
	struct site_table *table;
	volatile const int *cancel;
};

struct site_budget {                                    /* what the session allows this look, and what it cost */
	uint64_t max_ns;                                /* wall time that the look may take */
	uint64_t retry_ns;                              /* out: nothing to see yet, call again in so long; 0: no wish */
	uint64_t max_stall_ns;                          /* time that threads of the target may be held, in sum */
	uint64_t stop_max_ns;                           /* one stop */
	uint64_t spent_stall_ns, stops, stopped_ns_max; /* out */
};

struct site_source;
struct site_source_ops {
	const char *name; /* "stacks" */
	/* Once per target; 0 or -errno with the cause (refusal). Nothing stopped afterwards. */
	int (*open)(const struct site_context *context, struct site_source **ret, struct err *err);
	/* A look while memory grows: grew_bytes since the last look, rate in bytes/s (0 unknown). May stop threads within the
	 * budget; none is stopped on return. Blocks up to max_ns. 0, -ESRCH, -errno with the cause. */
	int (*look)(struct site_source *s, double t_s, uint64_t grew_bytes, double rate, struct site_budget *budget,
		    struct err *err);
	void (*close)(struct site_source *s);
};

struct site_source {
	const struct site_source_ops *ops;
	void *arg;
};

extern const struct site_source_ops sites_stacks;

#endif
