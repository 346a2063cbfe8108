/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Placing the blob in a target, and leading its slots there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"
#include "memwatch/base/vec.h"
#include "memwatch/proc.h"
#include "sites/probe/place-priv.h"

#define PAGE 4096ULL
#define ADVICE_POPULATE_WRITE 23 /* MADV_POPULATE_WRITE, Linux 5.14; not in every libc */
#define STATUS_BYTES 4096
#define GAP_BYTES (64 * PAGE) /* left free around the state */
#define SWAP_ROUNDS 3         /* a slot that the linker binds in between is found bound in the next round */
#define RANGE_NEAR (64 << 20) /* executable mappings so close together become one range */
#define LARGE_BYTES (1 << 20) /* before the source says otherwise */
#define MEAN_BYTES (8 << 10)
#define SLICE_BYTES (8 << 10)

static uint64_t pages(uint64_t bytes)
{
	return (bytes + PAGE - 1) & ~(PAGE - 1);
}

/* ---- writing and calling ---- */

int probe_write(const struct probe_place *p, uint64_t address, const void *data, size_t len)
{
	const unsigned char *from = data;

	while (len > 0) {
		ssize_t n = pwrite(p->mem_fd, from, len, (off_t)address);

		if (n == 0)
			return -ESRCH; /* the address space is gone */
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EIO ? -EFAULT : -errno;
		from += n;
		address += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int probe_set(const struct probe_place *p, size_t offset, uint64_t value)
{
	return probe_write(p, p->state + offset, &value, sizeof(value));
}

int probe_call_system(struct probe_place *p, long number, const uint64_t args[6], int64_t *ret, struct err *err)
{
	struct remote_call call = { .is_syscall = true, .number_or_address = (uint64_t)number };
	struct remote_result result = { 0 };
	int rc;

	memcpy(call.args, args, sizeof(call.args));
	rc = tracer_remote_call(p->tracer, p->pid, p->mem, &call, &result, err);
	probe_charge(p, &result);
	if (rc >= 0)
		*ret = result.value;
	return rc;
}

int probe_call_blob(struct probe_place *p, uint32_t function, struct err *err)
{
	static const long calls[] = PROBE_SYSCALLS;
	struct remote_call call = { .number_or_address = p->text + function,
				    .args = { ++p->requests },
				    .done_address = p->state + offsetof(struct probe_state, done),
				    .done_value = p->requests,
				    .waiting_address = p->state + offsetof(struct probe_state, waiting),
				    .calls = calls,
				    .call_count = sizeof(calls) / sizeof(calls[0]) };
	struct remote_result result = { 0 };
	int rc = tracer_remote_call(p->tracer, p->pid, p->mem, &call, &result, err);

	probe_charge(p, &result);
	return rc;
}

void probe_charge(struct probe_place *p, const struct remote_result *result)
{
	p->cost.stops += result->stops;
	p->cost.stopped_ns_total += result->stopped_ns_total;
	if (result->stopped_ns_max > p->cost.stopped_ns_max)
		p->cost.stopped_ns_max = result->stopped_ns_max;
}

int probe_open_memory(struct probe_place *p, struct err *err)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)p->pid);
	p->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	if (p->mem_fd >= 0)
		return 0;
	if (errno == ENOENT)
		return err_set(err, ESRCH, "process %d has ended", (int)p->pid);
	return err_set(err, errno,
		       "the memory of process %d cannot be written: %s; run memwatch as root or as its user",
		       (int)p->pid, strerror(errno));
}

/* Its number as it knows itself, the last of NSpid; 0: it has ended. */
static int64_t living_thread(const struct probe_place *p, const char *tid)
{
	char path[64], text[STATUS_BYTES];
	const char *state, *number;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)p->pid, tid);
	if (io_read_at(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	state = strstr(text, "\nState:\t");
	number = strstr(text, "\nNSpid:");
	if (!state || state[8] == 'Z' || state[8] == 'X')
		return 0;
	if (!number)
		return strtoll(tid, NULL, 10);
	number += strcspn(number + 1, "\n") + 1;
	while (number[-1] >= '0' && number[-1] <= '9')
		number--;
	return strtoll(number, NULL, 10);
}

int probe_set_thread(const struct probe_place *p)
{
	char path[64];
	const struct dirent *entry;
	int64_t tid = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)p->pid);
	tasks = opendir(path);
	if (!tasks)
		return -ESRCH;
	while (tid == 0 && (entry = readdir(tasks)) != NULL)
		if (entry->d_name[0] != '.')
			tid = living_thread(p, entry->d_name);
	closedir(tasks);
	return tid > 0 ? probe_set(p, offsetof(struct probe_state, pid), (uint64_t)tid) : -ESRCH;
}

void probe_place_close(struct probe_place *p)
{
	cleanup_closep(&p->mem_fd);
}

/* ---- placing ---- */

/* Where `bytes` are free, below `under` and as close to it as can be; 0: nowhere. */
static uint64_t free_below(const struct region *regions, size_t count, uint64_t under, uint64_t bytes)
{
	uint64_t end = under;

	for (size_t i = count; i-- > 0;) {
		if (regions[i].start >= under)
			continue;
		if (end > regions[i].end && end - regions[i].end >= bytes + 2 * GAP_BYTES)
			return (end - GAP_BYTES - bytes) & ~(PAGE - 1);
		if (regions[i].start < end)
			end = regions[i].start;
	}
	return 0;
}

bool probe_is_mapped(struct mem *mem, uint64_t start, uint64_t bytes, uint16_t flags)
{
	const struct region *regions, *at;
	ssize_t count = mem_regions(mem, &regions);
	uint64_t end = start + bytes;

	if (count <= 0 || bytes == 0 || end < start)
		return false;
	for (at = region_find(regions, (size_t)count, start); at && at < regions + count && at->start <= start; at++) {
		if ((at->flags & flags) != flags)
			return false;
		if (at->end >= end)
			return true;
		start = at->end;
	}
	return false;
}

static int map_text(struct probe_place *p, struct err *err)
{
	const uint64_t args[6] = {
		0, pages(probe_blob_bytes), PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, UINT64_MAX, 0
	};
	int64_t address;
	int rc = probe_call_system(p, SYS_mmap, args, &address, err);

	if (rc < 0)
		return rc;
	if (address < 0 && address > -4096)
		return err_set(err, EPERM,
			       "process %d may not map executable memory (%s): a security policy forbids it; "
			       "use --sites faults",
			       (int)p->pid, strerror((int)-address));
	p->text = (uint64_t)address;
	p->text_bytes = pages(probe_blob_bytes);
	return 0;
}

int probe_own(struct probe_place *p)
{
	struct proc self = PROC_INIT;
	struct err ignored = ERR_INIT;
	int rc = proc_open(getpid(), &self, &ignored);

	if (rc < 0)
		return rc;
	p->header.owner_pid = (uint64_t)self.id.pid;
	p->header.owner_start = self.id.start_ticks;
	proc_close(&self);
	return 0;
}

static int write_text(struct probe_place *p, const struct slot_set *set, struct err *err)
{
	unsigned char *copy cleanup_free = malloc(probe_blob_bytes);
	const struct region *regions;
	ssize_t count = mem_regions(p->mem, &regions);
	int rc;

	if (!copy)
		return err_set(err, ENOMEM, "out of memory");
	if (count < 0)
		return err_set(err, (int)-count, "cannot read the mappings of process %d", (int)p->pid);
	memcpy(copy, probe_blob, probe_blob_bytes);
	memcpy(&p->header, copy, sizeof(p->header));
	p->header.state_bytes = pages(sizeof(struct probe_state));
	p->header.state = free_below(regions, (size_t)count, p->text, p->header.state_bytes);
	if (p->header.state == 0)
		return err_set(err, ENOMEM, "no room for the probe in the address space of process %d", (int)p->pid);
	memcpy(p->header.real, set->real, sizeof(p->header.real));
	rc = probe_own(p);
	if (rc < 0)
		return err_set(err, -rc, "cannot read /proc/self: %s", strerror(-rc));
	memcpy(copy, &p->header, sizeof(p->header));
	p->state = p->header.state;
	rc = probe_write(p, p->text, copy, probe_blob_bytes);
	return rc < 0 ? err_set(err, -rc,
				"the kernel refuses writes into executable memory of process %d (%s); "
				"boot without proc_mem.force_override, or use --sites faults",
				(int)p->pid, strerror(-rc)) :
			rc;
}

/* What was placed by halves is taken out again; nothing leads there. */
static void undo(struct probe_place *p)
{
	struct err ignored = ERR_INIT;
	uint64_t args[6] = { p->text, p->text_bytes };
	int64_t value;

	if (p->text != 0 && probe_call_system(p, SYS_munmap, args, &value, &ignored) == 0 && p->state != 0 &&
	    probe_is_mapped(p->mem, p->state, p->header.state_bytes, REGION_WRITE)) {
		args[0] = p->state;
		args[1] = p->header.state_bytes;
		(void)!probe_call_system(p, SYS_munmap, args, &value, &ignored);
	}
}

int probe_populate(struct probe_place *p, bool sampling, struct err *err)
{
	const size_t from = offsetof(struct probe_state, filter), bytes = p->header.state_bytes - from;
	const uint64_t args[6] = { p->state, p->header.state_bytes, ADVICE_POPULATE_WRITE };
	cleanup_free void *zeros = sampling ? NULL : calloc(1, bytes);
	int64_t value;
	int rc;

	if (p->adopted)
		return 0; /* in use before: they are there */
	if (sampling)
		return probe_call_system(p, SYS_madvise, args, &value, err);
	rc = zeros ? probe_write(p, p->state + from, zeros, bytes) : -ENOMEM;
	return rc < 0 ? err_set(err, -rc, "cannot write into process %d: %s", (int)p->pid, strerror(-rc)) : 0;
}

static int place_new(struct probe_place *p, const struct slot_set *set, struct err *err)
{
	int rc = map_text(p, err);

	if (rc >= 0)
		rc = write_text(p, set, err);
	if (rc >= 0)
		rc = probe_call_blob(p, p->header.setup, err);
	if (rc < 0 && p->state != 0 && !probe_is_mapped(p->mem, p->state, p->header.state_bytes, REGION_WRITE))
		err_set(err, ENOMEM, "process %d could not map memory for the probe; is it at a limit (ulimit -v)?",
			(int)p->pid);
	if (rc < 0 &&
	    rc != -ETIME) /* a call that has not come through may still be made: then the next one cleans up */
		undo(p);
	return rc;
}

/* Executable memory in at most PROBE_RANGES ranges: the closest together are merged. */
static void find_ranges(struct probe_place *p, struct probe_state *ret)
{
	const struct region *regions;
	ssize_t count = mem_regions(p->mem, &regions);
	uint64_t n = 0;

	for (ssize_t i = 0; i < count; i++) {
		if (!(regions[i].flags & REGION_EXEC) || regions[i].class == REGION_SPECIAL ||
		    regions[i].start == p->text)
			continue;
		if (n > 0 && (regions[i].start - ret->ranges[n - 1].end < RANGE_NEAR || n == PROBE_RANGES)) {
			ret->ranges[n - 1].end = regions[i].end;
			continue;
		}
		ret->ranges[n].start = regions[i].start;
		ret->ranges[n++].end = regions[i].end;
	}
	ret->range_count = n;
}

/* The fields that memwatch gives, from `enabled` to the ranges: one write. */
static int write_settings(struct probe_place *p, struct err *err)
{
	cleanup_free struct probe_state *s = aligned_alloc(_Alignof(struct probe_state), sizeof(*s));
	struct proc self = PROC_INIT, target = PROC_INIT;
	struct status status = { 0 };
	int rc = s ? proc_open(getpid(), &self, err) : err_set(err, ENOMEM, "out of memory");

	if (rc >= 0)
		rc = proc_open(p->pid, &target, err);
	if (rc >= 0 && proc_read_status(&target, &status) < 0)
		rc = err_set(err, ESRCH, "process %d has ended", (int)p->pid);
	if (rc >= 0) {
		memset(s, 0, offsetof(struct probe_state, done));
		s->mean_bytes = MEAN_BYTES;
		s->large_bytes = LARGE_BYTES;
		s->slice_bytes = SLICE_BYTES;
		s->pid = status.ns_pid;
		s->owner_pid = (uint64_t)self.id.pid;
		s->owner_start = self.id.start_ticks;
		if (getrandom(&s->seed, sizeof(s->seed), GRND_NONBLOCK) < 0)
			s->seed = clock_now_ns(); /* early at boot: it need not be a secret */
		find_ranges(p, s);
		rc = probe_write(p, p->state, s, offsetof(struct probe_state, done));
		if (rc < 0)
			err_set(err, -rc, "cannot write into process %d: %s", (int)p->pid, strerror(-rc));
	}
	proc_close(&self);
	proc_close(&target);
	return rc;
}

static bool has_allocator(const struct slot_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		if (set->slots[i].function < PROBE_FREE)
			return true;
	return false;
}

static int no_allocator(pid_t pid, struct err *err)
{
	return err_set(err, ENOTSUP,
		       "no module of process %d calls an allocator through its GOT: it is linked statically, or "
		       "brings its own; use --sites faults",
		       (int)pid);
}

/* Slots that hold something else may lead to a probe that was left behind: whether they do is seen later, nothing is touched for that. */
static int find_slots(pid_t pid, struct mem *mem, struct slot_set *set, struct err *err)
{
	int rc = set->modules > 0 ? 0 : slots_find(pid, mem, set, err);

	return rc >= 0 && !has_allocator(set) && set->stranger_count == 0 ? no_allocator(pid, err) : rc;
}

/* A probe that cannot be taken over is there still: a second one would have nothing to lead to it. */
static int find_no_other(pid_t pid, struct mem *mem, const struct slot_set *set, struct err *err)
{
	struct probe_trace trace;
	int rc = probe_find(pid, mem, &trace, err);

	if (rc > 0)
		return err_set(err, EBUSY, "process %d holds the probe of another memwatch; memwatch doctor %d --clean",
			       (int)pid, (int)pid);
	return rc == 0 && !has_allocator(set) ? no_allocator(pid, err) : rc;
}

int probe_place_open(pid_t pid, struct tracer *tracer, struct mem *mem, struct slot_set *known, struct probe_place *ret,
		     struct err *err)
{
	const long of_blob[] = PROBE_SYSCALLS;
	long calls[sizeof(of_blob) / sizeof(of_blob[0]) + 1] = { SYS_munmap };
	struct probe_place p = { .pid = pid, .tracer = tracer, .mem = mem, .mem_fd = -1 };
	int rc = find_slots(pid, mem, known, err);

	memcpy(calls + 1, of_blob, sizeof(of_blob));
	if (rc >= 0)
		rc = tracer_remote_check(tracer, pid, mem, calls, sizeof(calls) / sizeof(calls[0]), err);
	if (rc >= 0)
		rc = probe_open_memory(&p, err);
	if (rc >= 0)
		rc = probe_adopt(&p, known, err);
	if (rc == 0)
		rc = find_no_other(pid, mem, known, err);
	if (rc == 0)
		rc = place_new(&p, known, err);
	if (rc >= 0)
		rc = write_settings(&p, err);
	if (rc < 0) {
		probe_place_close(&p);
		return rc;
	}
	*ret = p;
	return 0;
}

/* ---- slots ---- */

int probe_read_slots(struct probe_place *p, struct probe_slot **ret, size_t *ret_count)
{
	struct probe_slot *list;
	uint64_t count;
	int rc = mem_read_u64(p->mem, p->state + offsetof(struct probe_state, slot_count), &count);

	if (rc < 0)
		return rc;
	if (count > PROBE_SLOTS_MAX)
		return -EBADMSG;
	list = calloc(count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	rc = mem_read_exact(p->mem, p->state + offsetof(struct probe_state, slots), list, count * sizeof(*list));
	if (rc < 0) {
		free(list);
		return rc;
	}
	*ret = list;
	*ret_count = (size_t)count;
	return 0;
}

int probe_write_slots(const struct probe_place *p, const struct probe_slot *list, size_t count)
{
	int rc = probe_write(p, p->state + offsetof(struct probe_state, slots), list, count * sizeof(*list));

	return rc < 0 ? rc : probe_set(p, offsetof(struct probe_state, slot_count), count);
}

static bool thunk_serves(const struct probe_place *p, const struct slot *slot)
{
	return p->header.thunk[slot->function] != 0 && p->header.real[slot->function] != 0;
}

/* The entry for a slot: an old one of the same address, or a new one; NULL: no room, or it is swapped already. */
static struct probe_slot *entry_for(struct probe_slot *list, size_t *count, struct map *known, const struct slot *slot)
{
	uint64_t at;

	if (map_get(known, slot->address, &at))
		return &list[at];
	if (*count >= PROBE_SLOTS_MAX)
		return NULL;
	if (map_put(known, slot->address, *count) < 0)
		return NULL;
	return &list[(*count)++];
}

/* Fills the list with what is wanted; returns how many. */
static size_t want(struct probe_place *p, const struct slot_set *set, struct probe_slot *list, size_t *count)
{
	struct map known = MAP_INIT;
	size_t wanted = 0;

	for (size_t i = 0; i < *count; i++)
		if (map_put(&known, list[i].address, i) < 0)
			break;
	for (size_t i = 0; i < set->count; i++) {
		const struct slot *slot = &set->slots[i];
		struct probe_slot *entry = thunk_serves(p, slot) ? entry_for(list, count, &known, slot) : NULL;

		if (!entry)
			continue;
		*entry = (struct probe_slot){ .address = slot->address,
					      .original = slot->value,
					      .function = slot->function,
					      .state = PROBE_SLOT_WANTED,
					      .protect = slot->read_only };
		p->copied = p->copied || slot->copied;
		wanted++;
	}
	map_deinit(&known);
	return wanted;
}

/* Slots that lead to another allocator; not those that lead to the probe. */
static uint64_t count_foreign(const struct probe_place *p, const struct slot_set *set)
{
	uint64_t foreign = 0;

	for (size_t i = 0; i < set->stranger_count; i++)
		foreign += set->strangers[i].value - p->text >= p->text_bytes;
	return foreign;
}

static int want_slots(struct probe_place *p, const struct slot_set *set, size_t *ret_wanted, struct err *err)
{
	struct probe_slot *list = NULL, *grown;
	size_t count = 0, wanted = 0;
	int rc = probe_read_slots(p, &list, &count);

	p->link_maps = set->link_maps;
	p->unsettled = set->unsettled;
	p->foreign = count_foreign(p, set);
	p->static_copies = set->static_copies;
	grown = rc >= 0 ? realloc(list, (count + set->count + 1) * sizeof(*list)) : NULL;
	if (rc >= 0 && !grown)
		rc = -ENOMEM;
	list = grown ? grown : list;
	if (rc >= 0)
		wanted = want(p, set, list, &count);
	if (rc >= 0 && wanted > 0)
		rc = probe_set_thread(p);
	if (rc >= 0 && wanted > 0)
		rc = probe_write_slots(p, list, count);
	free(list);
	*ret_wanted = wanted;
	return rc < 0 ? err_set(err, -rc, "cannot write the list of slots into process %d: %s", (int)p->pid,
				strerror(-rc)) :
			0;
}

static int count_slots(struct probe_place *p)
{
	struct probe_slot *list = NULL;
	size_t count = 0;
	int rc = probe_read_slots(p, &list, &count);

	p->failed = p->slot_count = 0;
	for (size_t i = 0; rc >= 0 && i < count; i++) {
		p->failed += list[i].state == PROBE_SLOT_FAILED;
		p->slot_count += list[i].state == PROBE_SLOT_SWAPPED;
	}
	free(list);
	return rc;
}

static int swap_round(struct probe_place *p, const struct slot_set *known, struct err *err)
{
	struct slot_set found = { 0 };
	size_t wanted = 0;
	int rc = known ? 0 : slots_find(p->pid, p->mem, &found, err);

	if (rc >= 0)
		rc = want_slots(p, known ? known : &found, &wanted, err);
	slot_set_deinit(&found);
	if (rc >= 0 && wanted > 0)
		rc = probe_call_blob(p, p->header.swap, err);
	return rc < 0 ? rc : count_slots(p);
}

int probe_swap_slots(struct probe_place *p, const struct slot_set *known, struct err *err)
{
	int rc = 0;

	p->failed = 1;
	for (int round = 0; rc >= 0 && p->failed > 0 && round < SWAP_ROUNDS; round++)
		rc = swap_round(p, round == 0 ? known : NULL, err);
	return rc;
}
