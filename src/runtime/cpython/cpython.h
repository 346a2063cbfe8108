/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CPython 3.8 to 3.14, read from outside. Private to runtime/cpython.
 *
 * Small objects (at most 512 bytes) come from pymalloc: arenas, cut into pools, each pool of one size class. The arenas stand in a table whose
 * entries and pools name each other:
 *
 *     module's data         table (malloc)              arena (mmap)
 *     arenas ------------>  [0] address ------------->  | pool | pool | pool |  free ...
 *                           [1] nfreepools, ...            |               ^
 *                           ...                            arenaindex 0    pool_address: nothing behind it was ever handed out
 *
 * That ring of evidence (an entry's address leads to a pool that names the entry's index) is how the table is found and checked, in any version and
 * without symbols; where offsets are known, they only make it quick. What sys._debugmallocstats() prints is a walk of the same pools.
 *
 * Offsets: struct definitions in CPython's headers (pycore_runtime.h, pycore_interp.h, pycore_gc.h, pycore_obmalloc.h, Objects/obmalloc.c), checked
 * with the debug information of 3.8.18, 3.9.18, 3.10.13, 3.11.7, 3.12.1, 3.13.0 and on running 3.13.5, 3.13.18, 3.14.10.
 */
#ifndef MEMWATCH_RUNTIME_CPYTHON_CPYTHON_H
#define MEMWATCH_RUNTIME_CPYTHON_CPYTHON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/runtime.h"

#define CPYTHON_PAGE 4096ULL
#define CPYTHON_INTERPRETERS 64 /* looked at */
#define CPYTHON_SLOTS 32        /* places where a table's address may stand */
#define CPYTHON_ARENAS 262144U  /* in one table: 256 GiB */
#define CPYTHON_ENTRY 48U       /* struct arena_object, all versions */
#define CPYTHON_TABLE_MIN 16U   /* INITIAL_ARENA_OBJECTS */
/* PyThreadState begins with prev, next, interp in all versions; PyInterpreterState with next up to 3.12. */
#define CPYTHON_THREAD_INTERPRETER 16
#define CPYTHON_DATA_MAX (16ULL << 20)

/* ---- layout.c: what differs between versions --------------------------------------------------------------------------- */

enum cpython_obmalloc {                  /* where an interpreter keeps its struct _obmalloc_state */
			OBMALLOC_STATIC, /* nowhere: static variables, one state for all */
			OBMALLOC_INSIDE,
			OBMALLOC_BEHIND_POINTER, /* the main interpreter's points to a static one */
};

struct cpython_layout { /* offsets in bytes */
	unsigned int minor;
	bool debug_offsets; /* the runtime says the next three itself (3.13+) */
	uint32_t interpreters_head;
	uint32_t threads_head;
	uint32_t gc;
	bool gc_in_runtime;     /* gc: in _PyRuntime, one for all interpreters */
	uint32_t gc_index;      /* words of _Py_DebugOffsets: interpreter_state.gc */
	uint32_t gc_size_index; /* gc.size, followed by gc.collecting */
	enum cpython_obmalloc obmalloc;
};

struct cpython_gc_layout { /* struct _gc_runtime_state */
	unsigned int minor_min, minor_max;
	uint32_t size, collecting; /* as the runtime says them, from 3.13 on; size 0: any */
	uint32_t stats;            /* generation_stats[3] */
	uint32_t long_lived;       /* long_lived_total, or the number of tracked objects where there is none */
};

struct cpython_geometry {
	uint64_t arena_bytes, pool_bytes;
};

extern const struct cpython_geometry cpython_geometries[2];
const struct cpython_layout *cpython_layout_of(unsigned int minor); /* NULL: not in the table */
const struct cpython_gc_layout *cpython_gc_layout_of(unsigned int minor, uint64_t size, uint64_t collecting);

/* ---- the reader's state -------------------------------------------------------------------------------------------------- */

struct cpython {
	uint64_t runtime; /* _PyRuntime; 0: not found */
	uint64_t anchor;  /* an address in the writable data of the module that holds it */
	uint32_t version; /* as PY_VERSION_HEX; 0: unknown; micro and level 0 where only the file name tells */
	char version_text[32];
	const char *found_by;
	bool free_threaded;
	/* Of the interpreters; gc_layout NULL: not known for this version. */
	const struct cpython_layout *layout; /* NULL: this version is not in the table, or its structures do not hold */
	const struct cpython_gc_layout *gc_layout;
	uint32_t interpreters_head, interpreters_next, threads_head, gc;
	/* Of pymalloc. */
	uint64_t slots[CPYTHON_SLOTS]; /* found by search */
	size_t slot_count;
	uint64_t obmalloc;            /* offset in an interpreter, learned from the main one; 0: not known */
	unsigned int fruitless, wait; /* searches without a find, looks until the next one */
};

struct cpython_view { /* of one look */
	struct mem *mem;
	const struct region *regions;
	size_t region_count;
	uint64_t interpreters[CPYTHON_INTERPRETERS];
	size_t interpreter_count;
	bool interpreters_cut;
	uint64_t threads; /* UNKNOWN_U64: not counted */
};

must_check int cpython_view_init(struct cpython_view *v, struct mem *mem);

/* ---- find.c ---------------------------------------------------------------------------------------------------------------- */

/* 1 found, 0 not here, -errno; -ENOTSUP a version that cannot be read. */
int cpython_find(struct cpython *p, const struct runtime_query *query, struct cpython_view *v, struct err *err);

/* ---- interpreters.c -------------------------------------------------------------------------------------------------------- */

/* Fills in offsets for the version; false where it is not in the table. */
bool cpython_learn_layout(struct cpython *p, struct mem *mem);
/* The interpreters, newest first, the main one last; none where no thread proves one. 0 or -errno. */
int cpython_list_interpreters(const struct cpython *p, struct cpython_view *v);
/* Could a structure of the interpreter stand there? */
bool cpython_is_writable(const struct cpython_view *v, uint64_t address);

struct cpython_gc { /* sums over interpreters */
	double full_collections, long_lived, uncollectable;
};
/* NaN where the layout is not known or says nonsense. */
void cpython_read_gc(const struct cpython *p, const struct cpython_view *v, struct cpython_gc *ret);

/* ---- data.c: the writable data of a module, copied ------------------------------------------------------------------------- */

struct cpython_span {
	uint64_t address;
	size_t offset, len;
};

struct cpython_data {
	uint8_t *bytes;
	size_t len, cap;
	struct cpython_span *spans;
	size_t span_count, span_cap;
};

/* Present pages of the module at anchor and of what follows it without a name (its zeroed data). 0 or -errno. */
must_check int cpython_data_init(struct cpython_data *d, const struct cpython_view *v, uint64_t anchor);
void cpython_data_deinit(struct cpython_data *d);
bool cpython_is_plain_memory(const struct region *r); /* private, readable, writable, of no file */

/* ---- arenas.c: the tables of arenas ---------------------------------------------------------------------------------------- */

struct cpython_arena {
	uint64_t address;
	uint64_t pools, carved; /* the first pool, and the end of those that were ever handed out */
	uint64_t end;
	uint32_t index;
};

struct cpython_arenas {
	struct cpython_arena *items;
	size_t count, cap;
	const struct cpython_geometry *geometry; /* NULL: no arena seen */
	size_t table_count;
	size_t torn; /* entries that said nonsense */
};

/* Every arena of every table. 0, also where none is found; -errno. */
must_check int cpython_list_arenas(struct cpython *p, const struct cpython_view *v, struct cpython_arenas *ret);
void cpython_arenas_deinit(struct cpython_arenas *a);

/* table.c: is there a table at address? Appends its arenas: 1, or 0: it is none, or -errno. */
int cpython_read_table(const struct cpython_view *v, uint64_t address, struct cpython_arenas *a);

/* ---- pools.c ------------------------------------------------------------------------------------------------------------------ */

struct cpython_pools {
	uint64_t mapped_bytes, resident_bytes; /* of arenas; resident UNKNOWN_U64 where the kernel does not say */
	uint64_t in_use_bytes, blocks;
	uint64_t pool_free_bytes; /* blocks that are free in pools with a block in use */
	uint64_t pools, torn, absent;
	uint64_t pinned, pinned_bytes; /* arenas kept by few blocks, and what they keep */
	bool valid;                    /* few enough were torn or paged out */
};

/* A header that holds; arena NULL: any index. */
struct cpython_pool {
	uint32_t count, size, capacity, index;
};
/* 1: in use; 0: no block of it is in use; -1: it is not the header of a pool at address. */
int cpython_parse_pool(const uint8_t header[48], uint64_t address, const struct cpython_geometry *g,
		       struct cpython_pool *ret);
int cpython_read_pools(const struct cpython_view *v, struct cpython_arenas *a, struct cpython_pools *ret);

static inline uint64_t cpython_load64(const void *p)
{
	uint64_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint32_t cpython_load32(const void *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return v;
}

static inline uint64_t cpython_align_up(uint64_t v, uint64_t to)
{
	return (v + to - 1) & ~(to - 1);
}

#endif
