/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Tells the blob how far it may read each thread's stack. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "sites/probe/probe.h"

#define REFRESH_NS (2 * NS_PER_S) /* of what was told; new threads at once */

static uint64_t field(const struct probe_place *p, size_t index, size_t offset)
{
	return p->state + offsetof(struct probe_state, threads) + index * sizeof(struct probe_thread) + offset;
}

/* Its own stack up to its control block: the rule of remote calls, see trace/. Without a guard below, other memory may be a part of the mapping. */
static bool stack_of_thread(const struct region *regions, const struct region *at, uint64_t pointer)
{
	const uint16_t access = REGION_READ | REGION_WRITE | REGION_EXEC;

	return (at->flags & REGION_WRITE) && !(at->flags & REGION_SHARED) && at->inode == 0 && pointer > at->start &&
	       at > regions && at[-1].end == at->start && (at[-1].flags & access) == 0;
}

/* At no moment may the two be true of different stacks: the upper one is taken away first, and given last. */
static int write_bounds(const struct probe_place *p, uint64_t low_at, uint64_t top_at, uint64_t low, uint64_t top)
{
	const uint64_t none = 0;
	int rc = probe_write(p, top_at, &none, sizeof(none));

	if (rc >= 0)
		rc = probe_write(p, low_at, &low, sizeof(low));
	return rc < 0 ? rc : probe_write(p, top_at, &top, sizeof(top));
}

static int tell_main(struct probe_threads *t, const struct probe_place *p, const struct region *regions, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(regions[i].path, "[stack]") != 0)
			continue;
		if (regions[i].start == t->main_low)
			return 0;
		t->main_low = regions[i].start;
		t->changed = true;
		return write_bounds(p, p->state + offsetof(struct probe_state, main_low),
				    p->state + offsetof(struct probe_state, main_top), regions[i].start,
				    regions[i].end);
	}
	return 0;
}

static int tell_thread(struct probe_threads *t, const struct probe_place *p, size_t index,
		       const struct probe_thread *thread, const struct region *regions, size_t count)
{
	const struct region *at = region_find(regions, count, thread->owner);
	uint64_t low = 0, top = 0, nobody = 0;

	if (!at && thread->inside == 0) /* it has ended, and its stack is gone: the entry is for others */
		return probe_write(p, field(p, index, offsetof(struct probe_thread, owner)), &nobody, sizeof(nobody));
	if (at && stack_of_thread(regions, at, thread->owner)) {
		low = at->start;
		top = thread->owner;
	}
	if (low == thread->stack_low && top == thread->stack_top)
		return 0;
	t->changed = true;
	return write_bounds(p, field(p, index, offsetof(struct probe_thread, stack_low)),
			    field(p, index, offsetof(struct probe_thread, stack_top)), low, top);
}

static bool is_news(const struct probe_threads *t, const struct probe_thread *threads)
{
	for (size_t i = 0; i < PROBE_THREADS; i++)
		if (threads[i].owner != t->owners[i])
			return true;
	return false;
}

/* Before anything has been sampled: the first thread's is all that there is. */
static int tell_first(struct probe_threads *t, const struct probe_place *p)
{
	const struct region *regions;
	ssize_t count = mem_regions(p->mem, &regions);

	t->told = true;
	return count < 0 ? (int)count : tell_main(t, p, regions, (size_t)count);
}

static int tell_all(struct probe_threads *t, const struct probe_place *p)
{
	const size_t bytes = sizeof(((struct probe_state *)0)->threads), keys = sizeof(((struct probe_state *)0)->keys);
	struct probe_thread *threads cleanup_free = malloc(bytes);
	unsigned char *zero cleanup_free = calloc(1, keys);
	const struct region *regions;
	uint64_t now = clock_now_ns();
	ssize_t count;
	int rc = threads && zero ?
			 mem_read_exact(p->mem, p->state + offsetof(struct probe_state, threads), threads, bytes) :
			 -ENOMEM;

	if (rc < 0 || (t->told_ns != 0 && now - t->told_ns < REFRESH_NS && !is_news(t, threads)))
		return rc;
	t->told_ns = now;
	t->changed = false;
	count = mem_regions(p->mem, &regions);
	rc = count < 0 ? (int)count : tell_main(t, p, regions, (size_t)count);
	for (size_t i = 0; rc >= 0 && i < PROBE_THREADS; i++) {
		t->owners[i] = threads[i].owner;
		if (threads[i].owner > PROBE_CLAIMING)
			rc = tell_thread(t, p, i, &threads[i], regions, (size_t)count);
	}
	/* stacks that were cut are asked for again */
	if (rc >= 0 && t->changed)
		rc = probe_write(p, p->state + offsetof(struct probe_state, keys), zero, keys);
	return rc;
}

int probe_tell_stacks(struct probe_threads *t, const struct probe_place *p)
{
	return t->told ? tell_all(t, p) : tell_first(t, p);
}
