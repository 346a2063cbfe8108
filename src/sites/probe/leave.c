/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Taking the probe out: first nobody can come in any more, then everybody has left, then the memory goes. What cannot be taken out is inert: it passes
 * calls on, samples nothing, and its state holds no memory.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "memwatch/base/clock.h"
#include "sites/probe/place-priv.h"

#define EMPTY_NS (500 * NS_PER_MS) /* for threads to leave the slow path, and the code */
#define PAUSE_NS (2 * NS_PER_MS)
#define COPIES_PAUSE_NS (20 * NS_PER_MS) /* between two searches */
#define SCAN_WINDOW ((size_t)256 << 10)
#define SCAN_RANGES 256
#define SCAN_BYTES_MAX (4ULL << 30) /* about a second; beyond, the code rather stays */

/* A page that refuses to be written keeps its slot: then nothing of the probe may go. */
static int all_restored(struct probe_place *p, struct err *err)
{
	struct probe_slot *list = NULL;
	size_t count = 0, left = 0;
	int rc = probe_read_slots(p, &list, &count);

	for (size_t i = 0; rc >= 0 && i < count; i++)
		left += list[i].state == PROBE_SLOT_SWAPPED || list[i].state == PROBE_SLOT_UNWANTED ||
			list[i].state == PROBE_SLOT_WANTED;
	free(list);
	if (rc >= 0 && left == 0)
		return 0;
	return err_set(err, EBUSY,
		       "the probe stays in process %d, passing calls on: %zu of its slots could not be restored; "
		       "memwatch doctor %d --clean",
		       (int)p->pid, left, (int)p->pid);
}

/* What all slots that still lead here are to become. Those whose module is gone, or that hold something else by now, fail and need nothing. */
static int restore_slots(struct probe_place *p, struct err *err)
{
	struct probe_slot *list = NULL;
	size_t count = 0, unwanted = 0;
	int rc = probe_read_slots(p, &list, &count);

	for (size_t i = 0; rc >= 0 && i < count; i++) {
		if (list[i].state != PROBE_SLOT_SWAPPED && list[i].state != PROBE_SLOT_WANTED &&
		    list[i].state != PROBE_SLOT_UNWANTED)
			continue;
		list[i].state = PROBE_SLOT_UNWANTED;
		unwanted++;
	}
	if (rc >= 0 && unwanted > 0)
		rc = probe_set_thread(p);
	if (rc >= 0 && unwanted > 0)
		rc = probe_write_slots(p, list, count);
	free(list);
	if (rc < 0)
		return err_set(err, -rc, "cannot reach the probe's slots in process %d: %s", (int)p->pid,
			       strerror(-rc));
	rc = unwanted > 0 ? probe_call_blob(p, p->header.swap, err) : 0;
	return rc < 0 ? rc : all_restored(p, err);
}

/* Calls on their way through the slow path: 0 none; -EAGAIN some. */
static int nobody_inside(const struct probe_place *p)
{
	const size_t bytes = sizeof(((struct probe_state *)0)->threads);
	struct probe_thread *threads cleanup_free = malloc(bytes);
	int rc;

	if (!threads)
		return -ENOMEM;
	rc = mem_read_exact(p->mem, p->state + offsetof(struct probe_state, threads), threads, bytes);
	for (size_t i = 0; rc >= 0 && i < PROBE_THREADS; i++)
		if (threads[i].inside != 0)
			rc = -EAGAIN;
	return rc;
}

static int wait_until_empty(struct probe_place *p, struct err *err)
{
	const struct timespec pause = { 0, PAUSE_NS };
	const struct outside_query query = { p->text, p->text + p->text_bytes, NULL, 0, EMPTY_NS };
	uint64_t until = clock_now_ns() + EMPTY_NS;
	int rc;

	while ((rc = nobody_inside(p)) == -EAGAIN && clock_now_ns() < until)
		nanosleep(&pause, NULL);
	if (rc < 0)
		return rc;
	rc = tracer_threads_outside(p->tracer, p->pid, p->mem, &query, &p->cost, err);
	return rc == 0 ? -EAGAIN : rc < 0 ? rc : nobody_inside(p);
}

static int unmap(struct probe_place *p, uint64_t start, uint64_t bytes, struct err *err)
{
	const uint64_t args[6] = { start, bytes };
	int64_t value = 0;
	int rc = probe_call_system(p, SYS_munmap, args, &value, err);

	return rc < 0 ? rc : (int)value;
}

/* What stays is nobody's: the next memwatch may take it out. */
static void disown(struct probe_place *p)
{
	const uint64_t nobody[2] = { 0, 0 };

	(void)!probe_set(p, offsetof(struct probe_state, owner_pid), 0);
	(void)!probe_write(p, p->text + offsetof(struct probe_text, owner_pid), nobody, sizeof(nobody));
}

/* The state's memory goes back to the kernel: it reads as zero, so that nothing is sampled. The list of slots goes with it: none leads here any more. */
static int make_inert(struct probe_place *p, struct err *err)
{
	const uint64_t args[6] = { p->state, p->header.state_bytes, MADV_DONTNEED };
	int64_t value;

	disown(p);
	return probe_call_system(p, SYS_madvise, args, &value, err);
}

enum reached { REACHED_NOT, REACHED_PERHAPS, REACHED_UNKNOWN, REACHED_SURELY };

/*
 * Whether anything may still lead here, by the modules as they are now, whatever our list says. SURELY: a slot does, or it can never be told. PERHAPS: the code
 * of a module takes the value of a slot of ours: then it may lie anywhere by now. UNKNOWN: modules are being loaded or unloaded.
 */
static enum reached may_be_reached(const struct probe_place *p)
{
	struct slot_set set = { 0 };
	struct err ignored = ERR_INIT;
	enum reached reached = p->copied ? REACHED_PERHAPS : REACHED_NOT;
	int rc = slots_find(p->pid, p->mem, &set, &ignored);

	if (rc < 0)
		reached = rc == -EAGAIN ? REACHED_UNKNOWN : REACHED_SURELY;
	for (size_t i = 0; i < set.count; i++)
		if (set.slots[i].copied && p->header.real[set.slots[i].function] != 0 && rc >= 0)
			reached = REACHED_PERHAPS;
	for (size_t i = 0; i < set.stranger_count; i++)
		if (set.strangers[i].value - p->text < p->text_bytes)
			reached = REACHED_SURELY;
	slot_set_deinit(&set);
	return reached;
}

/* Whether a word is the address of one of our functions, as a copied slot would be. */
static bool is_thunk(const struct probe_place *p, uint64_t word)
{
	if (word - p->text >= p->text_bytes)
		return false;
	for (int i = 0; i < PROBE_FUNCTION_COUNT; i++)
		if (word - p->text == p->header.thunk[i])
			return true;
	return false;
}

static bool holds_thunk(const struct probe_place *p, const uint64_t *words, size_t count)
{
	uint64_t near = 0;

	for (size_t i = 0; i < count; i++) /* no branch in it: as fast as memory */
		near |= words[i] - p->text < p->text_bytes;
	for (size_t i = 0; near && i < count; i++)
		if (is_thunk(p, words[i]))
			return true;
	return false;
}

/* 1: a copy lies in the range; 0 none. */
static int search_range(const struct probe_place *p, const struct mem_range *range, uint64_t *words)
{
	for (uint64_t at = range->start; at < range->end;) {
		size_t want = range->end - at < SCAN_WINDOW ? (size_t)(range->end - at) : SCAN_WINDOW;
		ssize_t got = mem_read(p->mem, at, words, want);

		if (got == -ESRCH)
			return -ESRCH;
		if (got > 0 && holds_thunk(p, words, (size_t)got / sizeof(*words)))
			return 1;
		at += want;
	}
	return 0;
}

static int search_region(const struct probe_place *p, const struct region *r, uint64_t *words, uint64_t *left)
{
	struct mem_range ranges[SCAN_RANGES];
	uint64_t next = r->start;
	int rc = 0;

	while (rc == 0 && next < r->end) {
		uint64_t from = next;
		ssize_t count = mem_present(p->mem, from, r->end, ranges, SCAN_RANGES, &next);

		if (count < 0 || next <= from)
			return count == -ESRCH ? -ESRCH : 1; /* not known: as if there were one */
		for (ssize_t i = 0; rc == 0 && i < count; i++) {
			uint64_t bytes = ranges[i].end - ranges[i].start;

			if (bytes > *left)
				return 1;
			*left -= bytes;
			rc = search_range(p, &ranges[i], words);
		}
	}
	return rc;
}

/*
 * Whether a copy lies anywhere in the target's writable memory, stacks included: 1 yes, or it is too much to be searched; 0 no. No slot leads here any
 * more, so nobody can take a new copy meanwhile.
 */
static int search_copies(const struct probe_place *p)
{
	uint64_t *words cleanup_free = malloc(SCAN_WINDOW);
	const struct region *regions;
	ssize_t count = words ? mem_regions(p->mem, &regions) : -ENOMEM;
	uint64_t left = SCAN_BYTES_MAX;
	int rc = count < 0 ? (int)count : 0;

	for (ssize_t i = 0; rc == 0 && i < count; i++) {
		bool anonymous = regions[i].inode == 0 && !(regions[i].flags & REGION_EXEC);

		if ((!(regions[i].flags & REGION_WRITE) && !anonymous) || regions[i].class == REGION_SPECIAL ||
		    (regions[i].start >= p->state && regions[i].start < p->state + p->header.state_bytes))
			continue;
		rc = search_region(p, &regions[i], words, &left);
	}
	return rc;
}

/* Code may hold an address for its next calls in a register, or have saved that one on its stack: looked for before the rest of memory, where nothing moves. */
static int no_thread_holds_thunk(struct probe_place *p, struct err *err)
{
	uint64_t entries[PROBE_FUNCTION_COUNT];
	const struct outside_query query = { p->text, p->text + p->text_bytes, entries, PROBE_FUNCTION_COUNT,
					     EMPTY_NS };

	for (int i = 0; i < PROBE_FUNCTION_COUNT; i++)
		entries[i] = p->header.thunk[i] ? p->text + p->header.thunk[i] : 0;
	return tracer_threads_outside(p->tracer, p->pid, p->mem, &query, &p->cost, err);
}

/* Copies come and go: a register that is saved on a stack for the length of a call is one. So it is looked again, as long as that takes no time to speak of. */
int probe_out_of_reach(struct probe_place *p, struct err *err)
{
	const struct timespec pause = { 0, COPIES_PAUSE_NS };
	uint64_t until = clock_now_ns() + EMPTY_NS;
	enum reached reached;
	int rc = 0;

	for (;;) {
		reached = may_be_reached(p);
		if (reached == REACHED_NOT || reached == REACHED_SURELY)
			return reached == REACHED_NOT;
		if (reached == REACHED_PERHAPS)
			rc = no_thread_holds_thunk(p, err);
		if (rc > 0)
			rc = search_copies(p) == 0;
		if (rc != 0 || clock_now_ns() >= until)
			return rc;
		nanosleep(&pause, NULL);
	}
}

/* Where the process lives on after all, what is left behind must be said. */
static int has_ended(const struct probe_place *p, struct err *err)
{
	return err_set(err, ESRCH,
		       "process %d ended while the probe was taken out; if it lives, memwatch doctor %d --clean takes "
		       "out what is left",
		       (int)p->pid, (int)p->pid);
}

static int leave(struct probe_place *p, struct err *err)
{
	struct err why = ERR_INIT;
	int rc = probe_set(p, offsetof(struct probe_state, enabled), 0);

	if (rc >= 0)
		rc = restore_slots(p, err);
	if (rc < 0)
		return rc;
	rc = wait_until_empty(p, &why);
	if (rc == -ESRCH)
		return has_ended(p, err);
	if (rc < 0) { /* not its state either: a thread is on its way through it */
		disown(p);
		return err_set(
			err, EBUSY,
			"the probe's code (%llu KiB, passing calls on and nothing else) stays in process %d: a thread "
			"did not come out of it in time; memwatch doctor %d --clean",
			(unsigned long long)p->text_bytes >> 10, (int)p->pid, (int)p->pid);
	}
	rc = probe_out_of_reach(p, &why);
	if (rc == -ESRCH)
		return has_ended(p, err);
	if (rc <= 0) {
		rc = make_inert(p, err);
		return rc < 0 ? rc :
				err_set(err, EBUSY,
					"the probe's code (%llu KiB, passing calls on and nothing else) stays in "
					"process %d: the "
					"program may have copied the address of its allocator from a slot meanwhile; "
					"it is harmless",
					(unsigned long long)p->text_bytes >> 10, (int)p->pid);
	}
	rc = unmap(p, p->state, p->header.state_bytes, err);
	return rc < 0 ? rc : unmap(p, p->text, p->text_bytes, err);
}

int probe_leave(struct probe_place *p, struct err *err)
{
	int rc = leave(p, err);

	probe_place_close(p);
	return rc;
}
