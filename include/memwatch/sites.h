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

/* Of the growth since since_s that was seen, the part of which the call is known that asked for it; NaN: none was seen. */
double site_table_exact_share(const struct site_table *t, double since_s);

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

/*
 * The ledger: for sources that see single blocks taken and given back (probe), or pages (faults). Each sampled block stands for
 * weight_bytes of the like (its size over the probability that it was sampled); sums over blocks are unbiased estimates, their variance is the sum of
 * weight_bytes * (weight_bytes - size).
 *
 * Ranked is what grows, not what is large: a block counts as settled once it has lived for LEDGER_SETTLED_SHARE of the time watched
 * (between LEDGER_SETTLED_MIN_S and _MAX_S). A site's growth is its settled bytes now, less those at the start of the window that the query
 * names. So churn weighs nothing however fast it is, a table that was filled before weighs nothing however large, and one whose entries
 * are replaced weighs what it grew by. Young blocks count for `allocated` and `survival` only.
 *
 * Bounded: LEDGER_BLOCKS_MAX live blocks; beyond, every second one (by a hash of its address) is forgotten and the others count double, which keeps the sums
 * unbiased; LEDGER_STACKS_MAX stacks, beyond which new ones are merged into "other".
 * Pure: no I/O; time is the session's, in seconds, and never goes back.
 */
#define LEDGER_BLOCKS_MAX (128 << 10)
#define LEDGER_STACKS_MAX 8192
#define LEDGER_SETTLED_SHARE 0.1
#define LEDGER_SETTLED_MIN_S 0.3
#define LEDGER_SETTLED_MAX_S 60.0

struct site_ledger;
must_check int site_ledger_create(struct site_ledger **ret);
void site_ledger_destroy(struct site_ledger *l); /* NULL-safe */
/* The number of a stack, the same for the same return addresses. source: static text. 0 or -ENOMEM. */
must_check int site_ledger_stack(struct site_ledger *l, const struct unwind_stack *stack, const char *source,
				 uint32_t *ret);
struct ledger_block {
	uint64_t address, size; /* as the program asked for it */
	double weight_bytes;    /* >= size */
	double t_s;
	double born_s; /* it goes on with a block that was lifted: when that one was taken; 0: it is new */
	bool in_heap;  /* from an allocator: the heap walk can tell whether it is still there */
};
/* A block at an address that is already there takes its place: the one before was given back unseen. 0 or -ENOMEM. */
must_check int site_ledger_taken(struct site_ledger *l, uint32_t stack, const struct ledger_block *block);
void site_ledger_given_back(struct site_ledger *l, uint64_t address, double t_s); /* unknown addresses are ignored */
/*
 * Takes a block out without calling it given back: realloc() goes on with it, under the same or another address. True: it was there, *ret_born_s says
 * since when. So a buffer that grows all the time grows old all the same.
 */
bool site_ledger_lift(struct site_ledger *l, uint64_t address, double *ret_born_s);
/* The time goes on: blocks settle, history is kept. Call at every look. */
void site_ledger_tick(struct site_ledger *l, double t_s);
/* Truth from elsewhere. blocks(): settled in_heap blocks to be looked up in the next heap walk, ascending, at most cap, in turn; seen(): what was
 * found, by a walk that began at t_s: FREE ones were given back unseen. What the source has sampled meanwhile is to be taken in before. each(): every live block, for a source to check (pages that are resident no more). */
size_t site_ledger_blocks(struct site_ledger *l, struct heap_block *ret, size_t cap);
void site_ledger_seen(struct site_ledger *l, const struct heap_block *blocks, size_t count, double t_s);
void site_ledger_each(struct site_ledger *l, bool (*gone)(void *arg, uint64_t address, uint64_t size), void *arg,
		      double t_s);
/*
 * The target has ended. A program that ends gives back what it held: a map goes out of scope, a runtime is taken down. That is not what it did
 * while it ran. Where a stack lost most of its settled bytes in one go at the very end, after a time with hardly any such loss, its
 * blocks are taken as live again, in history too. Returns whether there were any: then a heap walk of the end is no truth about them. To be called
 * after the last tick; blocks reported later are taken in as ever. false also where memory is short.
 */
bool site_ledger_rewind(struct site_ledger *l);
size_t site_ledger_count(const struct site_ledger *l);    /* live blocks */
uint64_t site_ledger_events(const struct site_ledger *l); /* blocks ever taken */
struct site_query;
/* As site_table_report(): sites by growth between query.since_s and until_s; with query.heap, settled in_heap growth of each size class is scaled down to what
 * the class really grew by, where the estimate is significantly above that. Sites whose growth is within its noise are left out. */
must_check int site_ledger_report(struct site_ledger *l, const struct site_query *query, struct arena *arena,
				  struct site **ret, size_t *ret_count);

/*
 * The course between two times, for the verdict: high survival everywhere speaks for scaling with work; few sites that grow (top_share
 * near 1) amid churn for a leak. Cheap: names nothing. 0 or -ENOMEM.
 */
must_check int site_ledger_course(struct site_ledger *l, double since_s, double until_s, struct sites_course *ret);

struct site_context { /* what a source may use; borrowed */
	pid_t pid;
	struct tracer *tracer;
	struct mem *mem;
	struct heap_walker *walker; /* NULL: none */
	struct symbols *symbols;
	struct site_table *table;   /* stacks */
	struct site_ledger *ledger; /* faults, probe */
	volatile const int *cancel;
	double cpu_share; /* of one core: what the source and the target together may use for it, 0.01 = 1 % */
	bool from_start;  /* the target is memwatch's own child and has not begun to run its program */
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
	/*
	 * Whether looks are due all the time (retry_ns says how often), not only while memory grows: faults, probe. A look then takes what
	 * has been sampled, and ends with site_ledger_tick().
	 */
	bool continuous;
	/* A look while memory grows: grew_bytes since the last look, rate in bytes/s (0 unknown). May stop threads within the
	 * budget; none is stopped on return. Blocks up to max_ns. 0, -ESRCH, -errno with the cause. */
	int (*look)(struct site_source *s, double t_s, uint64_t grew_bytes, double rate, struct site_budget *budget,
		    struct err *err);
	/*
	 * Takes everything back out of the target, if anything was put there; the target lives. 0, or -errno with what was left behind and why it is
	 * harmless (a gap in the report). Called once, before close(), never after an exec or the target's end. NULL: nothing to do.
	 */
	int (*leave)(struct site_source *s, struct site_budget *budget, struct err *err);
	/* What the source could not see, for session.gaps: the i-th reason "what; remedy", or NULL at the end. Lives until close(). NULL: none. */
	const char *(*gap)(struct site_source *s, size_t i);
	void (*close)(struct site_source *s);
};

struct site_source {
	const struct site_source_ops *ops;
	void *arg;
};

extern const struct site_source_ops sites_stacks, sites_faults, sites_probe;

/*
 * A probe that an earlier memwatch left in the target (killed, or told why it could not be removed).
 * find: 1 there is one, 0 none, -errno. clean: takes it out; 0, -EBUSY a living memwatch uses it or a thread is inside (err says which), -errno.
 */
struct probe_trace {
	uint64_t address, bytes; /* of the code */
	uint32_t version;
	uint64_t slots; /* that still lead into it */
	pid_t owner;    /* memwatch that lives and uses it; 0 none */
	bool inert;     /* it passes calls on and samples nothing */
};
must_check int probe_find(pid_t pid, struct mem *mem, struct probe_trace *ret, struct err *err);
must_check int probe_clean(pid_t pid, struct tracer *tracer, struct mem *mem, struct err *err);

#endif
