/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the site table and the ledger share: stacks kept once each, and their names in a report. */
#ifndef MEMWATCH_SITES_NAMES_H
#define MEMWATCH_SITES_NAMES_H

#include "memwatch/base/map.h"
#include "memwatch/sites.h"

struct site_stack {
	uint64_t *pcs; /* in the arena; none: "everything else" */
	size_t count;
	enum frame_note end;
	const char *source;
};

struct site_stacks {
	struct arena arena;
	struct map by_hash; /* hash of pcs -> index of the newest stack with that hash */
	struct site_stack *items;
	size_t count, cap;
	size_t max, bytes_max; /* of stacks and of their addresses: beyond, one more stack stands for all others */
	size_t other;          /* its index; SIZE_MAX: none yet */
};

void site_stacks_init(struct site_stacks *s, size_t max, size_t bytes_max);
void site_stacks_deinit(struct site_stacks *s);
/* Index of the stack, added if new. 0 or -ENOMEM. */
must_check int site_stacks_find(struct site_stacks *s, const struct unwind_stack *stack, const char *source,
				uint32_t *ret);
/* Fills the frames of a site, in the arena. 0 or -ENOMEM. */
must_check int site_stack_name(const struct site_stack *stack, struct symbols *symbols, struct arena *arena,
			       struct site *ret);
/* The one among the sites that reads the same as that site; NULL: none. */
struct site *site_find_same(struct site *sites, size_t count, const struct site *site);

#endif
