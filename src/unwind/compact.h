/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Compact unwind tables: what .eh_frame says, in 8 bytes for each place where it changes.
 *
 *   fde.c         reads CIEs and FDEs: bytes of a file, which may be hostile
 *   cfa.c         runs their instructions; one state becomes one rule
 *   compact.c     the table of one module: built at its first frame, or read from the cache
 *   cache_file.c  tables on disk
 *   fast.c        walks a stack by them
 *
 * Only the stack pointer and the frame pointer are followed, and the return address is taken to lie just below the CFA. What does
 * not fit into that is RULE_SLOW: libdw is asked (cfi.c), and the outcome is the same as if it had been asked throughout.
 */
#ifndef MEMWATCH_UNWIND_COMPACT_H
#define MEMWATCH_UNWIND_COMPACT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/cleanup.h"

enum compact_kind {
	COMPACT_NOWHERE,   /* not executable; in no table */
	COMPACT_GAP,       /* no CFI */
	COMPACT_SP,        /* CFA = sp + offset */
	COMPACT_FP,        /* CFA = fp + offset */
	COMPACT_PLT,       /* CFA = sp + 8, and 8 more from byte `offset` of the 16-byte entry on */
	COMPACT_DEREF,     /* CFA = *(fp + offset), the caller's fp at *fp: functions that realign their stack */
	COMPACT_OUTERMOST, /* nobody called this */
	COMPACT_SLOW,      /* something else */
	COMPACT_KINDS
};

/* Where the caller's frame pointer is: a number n of 1 to FP_SLOTS says at CFA - 8n. */
#define COMPACT_FP_SAME 0
#define COMPACT_FP_UNKNOWN 255
#define COMPACT_FP_SLOTS 254

/* kind: 4 bits; fp: 8 bits; offset: 20 bits with sign, in units of 8 bytes (PLT: of 1 byte). */
#define COMPACT_OFFSET_UNITS (1 << 19)

struct compact_row { /* true from start on, up to the next row */
	uint32_t start;
	uint32_t rule;
};

struct compact {
	struct compact_row *rows; /* strictly ascending */
	size_t count;
	uint64_t base; /* vaddr of start 0 */
};

static inline uint32_t compact_rule(enum compact_kind kind, uint32_t fp, int32_t offset)
{
	return (uint32_t)kind | fp << 4 | (uint32_t)offset << 12;
}

static inline enum compact_kind compact_kind(uint32_t rule)
{
	return (enum compact_kind)(rule & 15);
}

static inline uint32_t compact_fp(uint32_t rule)
{
	return rule >> 4 & 255;
}

static inline int64_t compact_offset(uint32_t rule) /* in units */
{
	return (int32_t)rule >> 12;
}

/* The rule at an offset from base; COMPACT_GAP where no row reaches. */
uint32_t compact_find(const struct compact *table, uint32_t offset);
/* What every reader relies on: ascending rows of known kinds. */
bool compact_valid(const struct compact_row *rows, size_t count);

/* A section of call frame information as it stands in a file. */
struct frame_section {
	const unsigned char *data;
	size_t len;
	uint64_t address; /* vaddr of data[0] */
	bool debug;       /* .debug_frame, else .eh_frame */
};

/*
 * Reads all of a section. Rows cover [base, base + 4 GiB). *ret_rows is malloc'd. -EINVAL: not to be understood; -E2BIG: more
 * than max_rows; -ENOMEM. An FDE that cannot be understood becomes COMPACT_SLOW and is no error.
 */
must_check int frame_rows(const struct frame_section *section, uint64_t base, size_t max_rows,
			  struct compact_row **ret_rows, size_t *ret_count);

/* What a table on disk was made of: it serves for nothing else. */
struct cache_key {
	const unsigned char *id; /* build-id */
	size_t id_len;
	uint64_t base, address, section_len;
	uint64_t section_hash; /* of the section's bytes: a hostile program may carry another's build-id */
	bool debug;
};
uint64_t cache_hash(const void *data, size_t len);
/*
 * Tables below $XDG_CACHE_HOME/memwatch/unwind, else ~/.cache. Every defect of a file, its owner, or its folder means that there is
 * none; what cannot be written is not. Neither is an error.
 */
bool cache_read(const struct cache_key *key, struct compact *ret);
void cache_write(const struct cache_key *key, const struct compact *table);
/* The checks of cache_read() on the file's bytes: rows are malloc'd. */
bool cache_parse(const void *data, size_t len, const struct cache_key *key, struct compact *ret);

#endif
