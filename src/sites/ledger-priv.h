/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The ledger's own memory, shared by its book-keeping (ledger.c) and its report (ledger_report.c). */
#ifndef MEMWATCH_SITES_LEDGER_PRIV_H
#define MEMWATCH_SITES_LEDGER_PRIV_H

#include "sites/names.h"

#define LEDGER_MARKS 16
#define LEDGER_AGES 24 /* powers of two: age bin i holds [2^(i-3), 2^(i-2)) s, the first all below, the last a month */
#define LEDGER_PC_BYTES (1920 << 10) /* of all stacks: what the arena's chunks of 64 KiB to 1 MiB hold */
#define LEDGER_NONE UINT32_MAX

struct ledger_entry { /* one sampled block */
	uint64_t address, size;
	double weight, t_s;
	double moved_s; /* it goes on with a block that was lifted: since when it is this one; 0: it does not */
	double gone_s;  /* of one in a grave: when it was given back */
	uint32_t stack;
	uint32_t before, after; /* unsettled ones by birth; `after` links graves and free entries too */
	bool used, settled, in_heap;
};

struct ledger_slot {
	uint32_t hash, entry; /* entry + 1; 0 empty */
};

struct ledger_sums { /* of one stack */
	double settled;
	float var, samples;        /* of the settled ones: sum of weight * (weight - size); how many */
	float taken, taken_blocks; /* ever */
};

struct ledger_class { /* settled in_heap blocks of one size class */
	double settled, var;
};

struct ledger_stack {
	double settled, var, samples, taken, taken_blocks;
	struct ledger_sums marks[LEDGER_MARKS];
	float deaths[LEDGER_AGES]; /* settled blocks that were given back, by age */
};

struct site_ledger {
	struct site_stacks stacks;
	struct ledger_stack *of; /* by stack */
	size_t of_cap;
	struct ledger_entry *entries;
	size_t entry_cap, entry_top; /* entries beyond entry_top were never used */
	uint32_t free_first;
	struct ledger_slot *slots;
	size_t slot_cap; /* power of two, at least 2 * entry_cap */
	size_t live;
	uint32_t young_first, young_last;
	uint32_t grave_first,
		grave_last; /* settled ones that were given back within the last settle age, by that time */
	unsigned int level; /* blocks whose hash has a one in that many bits are not kept */
	size_t cursor;      /* of site_ledger_blocks() */
	uint64_t events;
	bool ticked;
	double opened_s, t_s, spacing_s;
	double mark_t_s[LEDGER_MARKS];
	size_t mark_count;
	struct ledger_class classes[HEAP_CLASS_COUNT];
	struct ledger_class class_marks[LEDGER_MARKS][HEAP_CLASS_COUNT];
};

/* How long a block must have lived at that time. */
double ledger_settle_age(const struct site_ledger *l, double t_s);
size_t ledger_age_bin(double age_s);
double ledger_age_start(size_t bin);
void ledger_count_settled(struct site_ledger *l, const struct ledger_entry *e, double sign);
/* An entry that is in no list any more. */
void ledger_set_free(struct site_ledger *l, uint32_t index);
/* Puts an entry of the graves, taken out of their list, among the settled; false: another block has its address by now, it is free. */
bool ledger_revive(struct site_ledger *l, uint32_t index);
/* The chunk of glibc that holds a block of that size; other allocators' are close enough. */
size_t ledger_class(uint64_t size);
double ledger_var(const struct ledger_entry *e);

#endif
