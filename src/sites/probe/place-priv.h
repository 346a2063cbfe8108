/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What place.c, leave.c and find.c share. */
#ifndef MEMWATCH_SITES_PROBE_PLACE_PRIV_H
#define MEMWATCH_SITES_PROBE_PLACE_PRIV_H

#include "sites/probe/probe.h"

/* One call in the target; the stop is charged to p->cost. */
must_check int probe_call_system(struct probe_place *p, long number, const uint64_t args[6], int64_t *ret,
				 struct err *err);
must_check int probe_call_blob(struct probe_place *p, uint32_t function, struct err *err);
void probe_charge(struct probe_place *p, const struct remote_result *result);
/*
 * Tells the blob a thread that lives, by which it reads its own memory: the first may have ended, and in a child after a fork nobody has told it yet.
 * 0; -ESRCH none lives, -errno.
 */
must_check int probe_set_thread(const struct probe_place *p);
/* Puts memwatch itself into p->header as the owner. */
must_check int probe_own(struct probe_place *p);
/* All of it is mapped, with these flags; in several mappings it may be (the kernel splits the state where its advice differs). */
bool probe_is_mapped(struct mem *mem, uint64_t start, uint64_t bytes, uint16_t flags);
must_check int probe_open_memory(struct probe_place *p, struct err *err);

/* The list in the target; malloc'ed, the caller's. */
must_check int probe_read_slots(struct probe_place *p, struct probe_slot **ret, size_t *ret_count);
must_check int probe_write_slots(const struct probe_place *p, const struct probe_slot *list, size_t count);

/*
 * leave.c: whether nothing can lead into the code any more, once no slot of the list does: 1 nothing; 0 something does or may, a slot of a module, a copy of its
 * value in memory or in a register; -ESRCH, -errno.
 */
must_check int probe_out_of_reach(struct probe_place *p, struct err *err);

/* find.c: takes over a probe that nobody uses. 1: adopted; 0: there is none, one placed by halves that was taken out, or one that cannot be adopted; -EBUSY. */
must_check int probe_adopt(struct probe_place *p, const struct slot_set *set, struct err *err);

#endif
