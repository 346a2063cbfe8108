/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Survivors: which size class grows, and do the blocks by which it grows stay? Answered from heap walks alone, without stacks.
 *
 * Growth, see growth.h: a class grows where a Mann-Kendall test over the walks past the warm-up says so beyond doubt, by a material
 * sum, and still does so in the last third of the time.
 *
 * Survival. Whenever the heap has reached a new maximum, blocks are picked of the classes that grow most, and followed from walk
 * to walk: by address, size and content (see heap_content), so that a block that was freed and its place taken by another of its
 * class is not mistaken for one that stayed. Only blocks are followed that were taken since the last maximum: a large table that
 * was there before says nothing about growth. The samples of two walks are comparable, see struct heap_picks.
 *
 *              found gone: what was expected to stay, and did not, counts as freed
 *             .--------------------------------------------------------------------.
 *     picked: YOUNG --- 15 % of the time watched old, and another maximum: SETTLED --- found gone: freed
 *     PROBE: any block of the class; tells by the next maximum how much turns over
 *
 * Most blocks of a busy class die young, leak or no leak. So a young block's death alone says nothing; but by how much the class
 * grew, and how much of it turns over, says how many of the young ones must stay if the growth stays; and of all its blocks, probes,
 * at least the part must stay that the class has grown by. Where far fewer do, as in a queue that grows while its blocks pass
 * through, the missing ones count as freed. Of a class: tracked = settled blocks that are followed, and those freed; old evidence
 * fades with a half-life of an eighth of the time watched, ten seconds at least.
 *
 * Not told apart: a leak from a cache that fills (it stops), and a block from its successor that was given the same first words.
 *
 * Pure: it sees what walks found, never the target. Bounded: some 300 KB a target at most. One walk:
 *
 *     options.picks = survivors_picks(s); options.blocks = survivors_blocks(s, …); heap_walk(…)
 *     survivors_seen(s, blocks, …); heap_recheck(survivors_due(s, …)) and survivors_seen() again, for their content
 *     n = survivors_walked(s, t_s, &heap, fresh, SURVIVORS_FRESH); heap_recheck(fresh, n); survivors_follow(s, fresh, n)
 *     survivors_fill(s, &heap)
 */
#ifndef MEMWATCH_SESSION_SURVIVORS_H
#define MEMWATCH_SESSION_SURVIVORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/heap.h"
#include "session/growth.h"

#define SURVIVORS_CLASSES CLASS_GROWTH_TOP /* followed at a time: those that grow most */
#define SURVIVORS_YOUNG 32                 /* of one class … */
#define SURVIVORS_SETTLED 32               /* … enough for a probability of 0.97 */
#define SURVIVORS_PROBES 8
#define SURVIVORS_MAX (SURVIVORS_CLASSES * (SURVIVORS_YOUNG + SURVIVORS_SETTLED + SURVIVORS_PROBES))
#define SURVIVORS_COHORT 16 /* young blocks of one class picked at one maximum */
#define SURVIVORS_FRESH (SURVIVORS_CLASSES * (SURVIVORS_COHORT + SURVIVORS_PROBES))

struct survivors;
/* opened_s: when the watching began, in the time of the walks. 0 or -ENOMEM. */
must_check int survivors_create(double opened_s, struct survivors **ret);
void survivors_destroy(struct survivors *s); /* NULL-safe */

/* What the coming walk is to pick; NULL: nothing (yet, or out of memory). Good until survivors_walked(). */
struct heap_picks *survivors_picks(struct survivors *s);
/* The blocks that are followed, ascending, as they were last seen: start and size known, in use. At most cap. */
size_t survivors_blocks(const struct survivors *s, struct heap_block *ret, size_t cap);
/* Those of them whose content is to be read now, ascending: the turn goes round, for reading costs some microseconds a block. */
#define SURVIVORS_RECHECKED 256
size_t survivors_due(struct survivors *s, struct heap_block *ret, size_t cap);
/* What a walk (or heap_recheck()) found of them; others may be among them. complete: a block that the walk did not come by is no more. */
void survivors_seen(struct survivors *s, double t_s, const struct heap_block *blocks, size_t count, bool complete);
/* The walk's figures. Blocks that should be followed from now on: to be rechecked, then handed to survivors_follow() in this order. */
size_t survivors_walked(struct survivors *s, double t_s, const struct heap_stats *heap, struct heap_block *ret,
			size_t cap);
void survivors_follow(struct survivors *s, const struct heap_block *blocks, size_t count);
/* tracked_blocks, freed_blocks, leak_probability and age_s of every class. */
void survivors_fill(const struct survivors *s, struct heap_stats *heap);
/* The size class to name: it grows beyond doubt, most of all that do, and its blocks are not known to be freed. 0: none. */
uint64_t survivors_hot_class(const struct survivors *s);

#endif
