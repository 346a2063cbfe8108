/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A probe that an earlier memwatch has left in a target: found by its magic, adopted or taken out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "memwatch/base/clock.h"
#include "memwatch/proc.h"
#include "sites/probe/place-priv.h"

#define PAGE 4096ULL
#define SCAN_PAGES (64 << 10) /* of executable anonymous memory that are looked at, at most: a large JIT's */
#define BATCH 512
#define OUTSIDE_NS (500 * NS_PER_MS)
#define SETTLE_NS (2 * NS_PER_MS) /* a release that had found its block in the table has changed the filter by then */

/* The page of these that begins with the magic; 0 none. */
static uint64_t find_page(struct mem *mem, uint64_t start, size_t count)
{
	struct mem_piece pieces[BATCH];
	uint64_t words[BATCH][2];

	memset(words, 0, sizeof(words));
	for (size_t i = 0; i < count; i++)
		pieces[i] = (struct mem_piece){ .address = start + i * PAGE, .buf = words[i], .len = sizeof(words[i]) };
	if (mem_read_batch(mem, pieces, count) < 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (pieces[i].done == sizeof(words[i]) && words[i][0] == PROBE_MAGIC_0 && words[i][1] == PROBE_MAGIC_1)
			return start + i * PAGE;
	return 0;
}

static bool may_hold_it(const struct region *r)
{
	return (r->flags & REGION_EXEC) && !(r->flags & (REGION_WRITE | REGION_SHARED)) && r->inode == 0 &&
	       r->class != REGION_SPECIAL && r->path[0] == '\0';
}

/* 1: its header; 0: none; -errno. What lies at `after` or below is passed over. */
static int find_text(struct mem *mem, uint64_t after, uint64_t *ret_address, struct probe_text *ret)
{
	const struct region *regions;
	ssize_t count = mem_regions(mem, &regions);
	size_t left = SCAN_PAGES;

	for (ssize_t i = 0; i < count; i++) {
		if (!may_hold_it(&regions[i]))
			continue;
		for (uint64_t at = regions[i].start; at < regions[i].end && left > 0;) {
			size_t n = (size_t)((regions[i].end - at) / PAGE);
			uint64_t found;

			n = n < BATCH ? n : BATCH;
			n = n < left ? n : left;
			found = find_page(mem, at, n);
			if (found > after && mem_read_exact(mem, found, ret, sizeof(*ret)) >= 0) {
				*ret_address = found;
				return 1;
			}
			left -= n;
			at += n * PAGE;
		}
	}
	return count < 0 ? (int)count : 0;
}

static bool state_is_there(struct mem *mem, const struct probe_text *header)
{
	if (header->state == 0 || header->state_bytes < sizeof(struct probe_state) || header->state % PAGE)
		return false;
	return probe_is_mapped(mem, header->state, header->state_bytes, REGION_READ | REGION_WRITE);
}

/* The memwatch that uses it, if it lives; 0 none. */
static pid_t living_owner_at(struct mem *mem, uint64_t pid_at, uint64_t start_at)
{
	struct proc owner = PROC_INIT;
	struct err ignored = ERR_INIT;
	uint64_t pid, start;
	bool lives;

	if (mem_read_u64(mem, pid_at, &pid) < 0 || mem_read_u64(mem, start_at, &start) < 0 || pid == 0 ||
	    pid > INT32_MAX)
		return 0;
	lives = proc_open((pid_t)pid, &owner, &ignored) >= 0 && owner.id.start_ticks == start;
	proc_close(&owner);
	return lives ? (pid_t)pid : 0;
}

/* The state's, or the code's: that one is there first, and holds until the state's is written. */
static pid_t living_owner(struct mem *mem, uint64_t text, uint64_t state)
{
	pid_t owner = living_owner_at(mem, text + offsetof(struct probe_text, owner_pid),
				      text + offsetof(struct probe_text, owner_start));

	if (owner == 0 && state != 0)
		owner = living_owner_at(mem, state + offsetof(struct probe_state, owner_pid),
					state + offsetof(struct probe_state, owner_start));
	return owner;
}

static uint64_t slots_leading_in(struct probe_place *p)
{
	struct probe_slot *list = NULL;
	size_t count = 0;
	uint64_t leading = 0, value;

	if (probe_read_slots(p, &list, &count) < 0)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (mem_read_u64(p->mem, list[i].address, &value) >= 0 && value >= p->text &&
		    value < p->text + p->text_bytes)
			leading++;
	free(list);
	return leading;
}

/* From a header that was found to a place: fields of the target's memory, checked. */
static void take_place(struct probe_place *p, uint64_t address, const struct probe_text *header)
{
	uint64_t done = 0;

	p->header = *header;
	p->text = address;
	p->text_bytes = (header->text_bytes + PAGE - 1) & ~(PAGE - 1);
	p->state = state_is_there(p->mem, header) ? header->state : 0;
	if (p->state != 0 && mem_read_u64(p->mem, p->state + offsetof(struct probe_state, done), &done) >= 0)
		p->requests = done;
}

int probe_find(pid_t pid, struct mem *mem, struct probe_trace *ret, struct err *err)
{
	struct probe_place p = { .pid = pid, .mem = mem, .mem_fd = -1 };
	struct probe_trace trace = { 0 };
	struct probe_text header;
	uint64_t address, enabled = 0;
	int rc = find_text(mem, 0, &address, &header);

	if (rc < 0)
		return err_set(err, -rc, "cannot read the mappings of process %d: %s", (int)pid, strerror(-rc));
	if (rc == 0)
		return 0;
	take_place(&p, address, &header);
	trace.address = address;
	trace.bytes = p.text_bytes;
	trace.version = header.version;
	trace.inert = true;
	if (p.state != 0 && header.version == PROBE_VERSION) {
		trace.owner = living_owner(mem, p.text, p.state);
		trace.slots = slots_leading_in(&p);
		trace.inert = mem_read_u64(mem, p.state + offsetof(struct probe_state, enabled), &enabled) < 0 ||
			      enabled == 0;
	}
	*ret = trace;
	return 1;
}

/* Ours, of this very build: the code is the same to the byte. */
static bool is_same_build(const struct probe_place *p)
{
	struct probe_text ours;
	unsigned char *code cleanup_free = malloc(probe_blob_bytes);

	memcpy(&ours, probe_blob, sizeof(ours));
	return code && p->header.version == ours.version && p->header.text_bytes == ours.text_bytes && p->state != 0 &&
	       mem_read_exact(p->mem, p->text, code, probe_blob_bytes) >= 0 &&
	       memcmp(code + ours.code_start, probe_blob + ours.code_start, probe_blob_bytes - ours.code_start) == 0;
}

/* Functions that were not there when it was placed are added; one that is another now makes it useless. */
static bool merge_real(struct probe_place *p, const struct slot_set *set)
{
	for (int i = 0; i < PROBE_FUNCTION_COUNT; i++) {
		if (set->real[i] != 0 && p->header.real[i] != 0 && set->real[i] != p->header.real[i])
			return false;
		if (p->header.real[i] == 0)
			p->header.real[i] = set->real[i];
	}
	return true;
}

/* Samples of long ago are forgotten: first the table, then the filter, so that a release in between takes nothing off the new filter. */
static int forget_samples(struct probe_place *p)
{
	const size_t table = sizeof(((struct probe_state *)0)->table), keys = sizeof(((struct probe_state *)0)->keys);
	const struct timespec settle = { 0, SETTLE_NS };
	unsigned char *zero cleanup_free = calloc(1, table);
	uint64_t head;
	int rc = zero ? probe_write(p, p->state + offsetof(struct probe_state, table), zero, table) : -ENOMEM;

	nanosleep(&settle, NULL);
	if (rc >= 0)
		rc = probe_write(p, p->state + offsetof(struct probe_state, filter), zero, PROBE_FILTER);
	if (rc >= 0)
		rc = probe_write(p, p->state + offsetof(struct probe_state, keys), zero, keys);
	if (rc >= 0)
		rc = mem_read_u64(p->mem, p->state + offsetof(struct probe_state, head), &head);
	return rc < 0 ? rc : probe_set(p, offsetof(struct probe_state, tail), head);
}

/* 1: p is it now; 0: it is of no use. */
static int take_over(struct probe_place *p, const struct slot_set *set, struct err *err)
{
	int rc;

	if (!is_same_build(p) || !merge_real(p, set))
		return 0;
	rc = probe_own(p);
	if (rc >= 0)
		rc = probe_write(p, p->text + offsetof(struct probe_text, owner_pid), &p->header.owner_pid,
				 2 * sizeof(p->header.owner_pid));
	if (rc >= 0)
		rc = probe_set(p, offsetof(struct probe_state, enabled), 0);
	if (rc >= 0)
		rc = forget_samples(p);
	if (rc >= 0)
		rc = probe_write(p, p->text + offsetof(struct probe_text, real), p->header.real,
				 sizeof(p->header.real));
	if (rc < 0)
		return err_set(err, -rc,
			       "cannot take over the probe that an earlier memwatch has left in process %d: %s",
			       (int)p->pid, strerror(-rc));
	p->adopted = true;
	return 1;
}

/* Placed by halves, or its state is gone: it goes only where nothing leads there and no thread is about to set it up. */
static int remove_text(struct probe_place *p, struct err *err)
{
	const uint64_t args[6] = { p->text, p->text_bytes };
	const struct outside_query query = { p->text, p->text + p->text_bytes, NULL, 0, OUTSIDE_NS };
	int64_t value;
	int rc = probe_out_of_reach(p, err);

	if (rc > 0)
		rc = tracer_threads_outside(p->tracer, p->pid, p->mem, &query, &p->cost, err);
	if (rc == 0)
		return err_set(err, EBUSY,
			       "the probe's code in process %d has lost its state and is still in use, or may be; it "
			       "passes calls "
			       "on, and stays",
			       (int)p->pid);
	return rc < 0 ? rc : probe_call_system(p, SYS_munmap, args, &value, err);
}

static int remove_found(struct probe_place *p, struct err *err)
{
	if (p->state == 0 && p->header.version == PROBE_VERSION)
		return remove_text(p, err);
	if (p->header.version != PROBE_VERSION)
		return err_set(err, ENOTSUP,
			       "process %d holds a probe of another version of memwatch (%u); clean it with that one",
			       (int)p->pid, p->header.version);
	return probe_leave(p, err);
}

int probe_adopt(struct probe_place *p, const struct slot_set *set, struct err *err)
{
	struct probe_place old = *p;
	struct probe_text header;
	uint64_t address = 0;
	pid_t owner;
	int rc;

	while ((rc = find_text(p->mem, address, &address, &header)) > 0) {
		take_place(&old, address, &header);
		owner = header.version == PROBE_VERSION ? living_owner(p->mem, old.text, old.state) : 0;
		if (owner > 0)
			return err_set(err, EBUSY,
				       "the probe in process %d belongs to memwatch %d, which is at work; end it first",
				       (int)p->pid, (int)owner);
		if (old.state == 0 && header.version == PROBE_VERSION)
			rc = remove_text(&old, err); /* memwatch was killed while it placed it */
		else
			rc = take_over(&old, set, err);
		if (rc != 0)
			break;
	}
	if (rc > 0)
		*p = old;
	return rc;
}

int probe_clean(pid_t pid, struct tracer *tracer, struct mem *mem, struct err *err)
{
	struct probe_place p = { .pid = pid, .tracer = tracer, .mem = mem, .mem_fd = -1 };
	struct probe_text header;
	uint64_t address;
	pid_t owner;
	int rc = find_text(mem, 0, &address, &header);

	if (rc <= 0)
		return rc < 0 ? err_set(err, -rc, "cannot read the mappings of process %d: %s", (int)pid,
					strerror(-rc)) :
				0;
	take_place(&p, address, &header);
	owner = header.version == PROBE_VERSION ? living_owner(mem, p.text, p.state) : 0;
	if (owner > 0)
		return err_set(err, EBUSY,
			       "the probe in process %d belongs to memwatch %d, which is at work; end it first",
			       (int)pid, (int)owner);
	rc = probe_open_memory(&p, err);
	if (rc >= 0)
		rc = remove_found(&p, err);
	probe_place_close(&p);
	return rc;
}
