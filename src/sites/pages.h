/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pages that were sampled at their first touch, and whether they are still there: private to the `faults` source.
 *
 * A page is followed by /proc/PID/pagemap, 2 MiB of address space ("granule") at a time, in turn. It is gone when it is neither present nor
 * swapped out. Where only some faults were sampled, a page that was given back and taken anew looks as if it had never gone; but then
 * the samples of its granule stand for more memory than is there, and so the oldest of them are gone: those whose younger neighbours
 * account for all that the granule holds.
 */
#ifndef MEMWATCH_SRC_SITES_PAGES_H
#define MEMWATCH_SRC_SITES_PAGES_H

#include "memwatch/sites.h"

#define GRANULE_BYTES ((uint64_t)2 << 20) /* of a huge page too */

struct pages;
/* -errno where pagemap is refused or missing. */
must_check int pages_create(pid_t pid, struct pages **ret);
void pages_destroy(struct pages *p); /* NULL-safe */

/* One page as the kernel shows it now. Huge and zero are known since Linux 6.7 only, else false. */
struct page_info {
	bool there; /* present or swapped out */
	bool file;  /* of a file or of shared memory: not copied, nor anonymous */
	bool zero;  /* the kernel's page of zeroes: no memory yet */
	bool huge;
};
/* False where nothing can be said: the target has ended. */
bool pages_look(const struct pages *p, uint64_t address, struct page_info *ret);
bool pages_sees_huge(const struct pages *p);

/* Follows a block from now on, the youngest of its granule; one at the same address is replaced. 0 or -ENOMEM. */
must_check int pages_add(struct pages *p, uint64_t address, uint64_t size, double weight_bytes);
/*
 * Looks at granules in turn, until it is `until_ns` (CLOCK_MONOTONIC) or all have been looked at since round_ns ago. Each block that is
 * gone is told once and forgotten.
 */
void pages_follow(struct pages *p, uint64_t until_ns, uint64_t round_ns, void (*gone)(void *arg, uint64_t address),
		  void *arg);
size_t pages_count(const struct pages *p);
/* Forgets all blocks of which keep() says no. */
void pages_retain(struct pages *p, bool (*keep)(void *arg, uint64_t address), void *arg);

#endif
