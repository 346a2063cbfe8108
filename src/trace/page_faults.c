/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Page faults by perf: one event a thread and processor, because inherited events may write into a ring only where they are bound to a
 * processor; all of a processor write into one ring.
 */
#include "arch/arch.h"
#include "perf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"
#include "memwatch/base/vec.h"

#define ROUNDS 4            /* of listing and opening, until no thread was born in between */
#define FILES_KEPT 256      /* descriptors left for the rest of memwatch */
#define RING_MAX (4 << 20)  /* a second of samples at a few hundred a second */
#define RING_MIN (64 << 10) /* holds one sample of the largest size, never more than needed */
#define WHAT "page faults cannot be sampled"
#define GAP_BYTES 256

/* The body of a sample, in the order of the bits of sample_type. */
struct head {
	uint32_t pid, tid;
	uint64_t time, address, abi;
};

struct fault_sampler {
	pid_t pid;
	struct perf_ring *rings;
	size_t ring_count;
	int *fds;
	size_t count, cap;
	size_t slice_bytes;
	uint64_t period, period_before, started_ns; /* samples of before then may still wait */
	bool no_kernel;                             /* faults of system calls are hidden from this user */
	bool with_children;                         /* before 5.13 child processes inherit too */
	bool newborn;
	size_t threads, threads_left; /* that are sampled; that are not, for want of descriptors */
	size_t cpus_left;
	uint64_t faults_first, faults_last, lost;
	char gap_threads[GAP_BYTES], gap_cpus[GAP_BYTES];
};

/* ---- events ---- */

static int open_once(const struct fault_sampler *s, pid_t tid, int cpu)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_PAGE_FAULTS_MIN,
					.size = sizeof(attr),
					.sample_period = s->period,
					.sample_type = PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_ADDR |
						       PERF_SAMPLE_REGS_USER | PERF_SAMPLE_STACK_USER,
					.sample_regs_user = arch_perf_regs,
					.sample_stack_user = (uint32_t)s->slice_bytes,
					.disabled = 1,
					.inherit = 1,
					.inherit_thread = !s->with_children,
					.exclude_kernel = s->no_kernel,
					.exclude_hv = 1,
					.use_clockid = 1,
					.clockid = CLOCK_MONOTONIC };
	long fd = syscall(SYS_perf_event_open, &attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

/* A disabled event; learns what this kernel and user do not allow. */
static int open_event(struct fault_sampler *s, pid_t tid, int cpu)
{
	int fd = open_once(s, tid, cpu);

	if (fd == -EINVAL && !s->with_children) {
		s->with_children = true;
		fd = open_once(s, tid, cpu);
	}
	if ((fd == -EACCES || fd == -EPERM) && !s->no_kernel) {
		s->no_kernel = true;
		fd = open_once(s, tid, cpu);
	}
	return fd;
}

static void close_events(struct fault_sampler *s)
{
	for (size_t i = 0; i < s->count; i++)
		close(s->fds[i]);
	s->count = 0;
	s->threads = s->threads_left = 0;
}

/* A thread that has ended meanwhile is no error. */
static int add_thread(struct fault_sampler *s, pid_t tid)
{
	for (size_t i = 0; i < s->ring_count; i++) {
		int fd;

		if (vec_reserve(&s->fds, &s->cap, s->count + 1, sizeof(*s->fds)) < 0)
			return -ENOMEM;
		fd = open_event(s, tid, s->rings[i].cpu);
		if (fd == -ESRCH)
			return 0;
		if (fd == -ENODEV)
			continue; /* that processor has been switched off */
		if (fd < 0)
			return fd;
		s->fds[s->count++] = fd;
		if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, s->rings[i].fd) < 0)
			return -errno;
	}
	s->threads++;
	return 0;
}

/* All threads, the eldest first, as far as descriptors go. */
static int add_threads(struct fault_sampler *s, const struct thread_list *list)
{
	uint64_t files = perf_allow_files(), room = files > 2 * FILES_KEPT ? files - FILES_KEPT : files / 2;
	int rc = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (s->ring_count + s->count + s->ring_count > room) {
			s->threads_left = list->count - i;
			break;
		}
		rc = add_thread(s, list->entries[i].tid);
		if (rc == -EMFILE && s->threads > 0) { /* others in this process have taken more than was kept */
			s->threads_left = list->count - i;
			rc = 0;
			break;
		}
		if (rc < 0)
			break;
	}
	if (rc == 0 && s->threads == 0 && s->threads_left > 0)
		rc = -EMFILE;
	return rc;
}

/* As for counted calls: nothing is enabled until no thread was born in between, which may or may not have inherited. */
static int open_events(struct fault_sampler *s)
{
	for (int round = 0; round < ROUNDS; round++) {
		cleanup_threads struct thread_list before = THREAD_LIST_INIT, after = THREAD_LIST_INIT;
		int rc;

		close_events(s);
		rc = thread_list_read(&before, s->pid);
		if (rc == 0)
			rc = add_threads(s, &before);
		if (rc == 0)
			rc = thread_list_read(&after, s->pid);
		if (rc < 0)
			return rc;
		s->newborn = perf_has_newborn(&before, &after);
		if (!s->newborn || s->threads_left > 0)
			break;
	}
	if (s->count == 0)
		return -ESRCH;
	for (size_t i = 0; i < s->count; i++)
		if (ioctl(s->fds[i], PERF_EVENT_IOC_ENABLE, 0) < 0)
			return -errno;
	return 0;
}

static size_t round_slice(size_t bytes)
{
	if (bytes > SAMPLER_SLICE_MAX)
		bytes = SAMPLER_SLICE_MAX;
	return bytes < 8 ? 8 : bytes & ~(size_t)7;
}

/* Minor faults, the tenth field of stat; those of reaped children are another. -ESRCH once it has ended. */
static int read_faults(pid_t pid, uint64_t *ret)
{
	char path[64], buf[1024];
	unsigned long long faults;
	const char *after;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (io_read_at(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return -ESRCH;
	after = strrchr(buf, ')'); /* the name may hold anything */
	if (!after || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %llu", &faults) != 1)
		return -ESRCH;
	*ret = faults;
	return 0;
}

/* ---- opening ---- */

static size_t ring_bytes(long cpus)
{
	size_t bytes = RING_MAX;

	while (bytes > RING_MIN && bytes * (size_t)cpus > SAMPLER_RING_BYTES)
		bytes /= 2;
	return bytes;
}

static int open_rings(struct fault_sampler *s)
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF), online = sysconf(_SC_NPROCESSORS_ONLN);
	size_t bytes = ring_bytes(online > 0 ? online : 1);

	s->rings = calloc(cpus > 0 ? (size_t)cpus : 1, sizeof(*s->rings));
	if (!s->rings)
		return -ENOMEM;
	for (int cpu = 0; cpu < cpus; cpu++) {
		int rc = perf_ring_open(&s->rings[s->ring_count], cpu, bytes, RING_MIN);

		if (rc == -ENODEV)
			continue;
		if ((rc == -EPERM || rc == -ENOMEM) && s->ring_count > 0) {
			s->cpus_left = (size_t)cpus - (size_t)cpu;
			break;
		}
		if (rc < 0)
			return rc;
		s->ring_count++;
	}
	return s->ring_count > 0 ? 0 : -ENODEV;
}

static int explain(pid_t pid, int code, struct err *err)
{
	switch (code) {
	case EMFILE:
	case ENFILE:
		return err_set(err, code,
			       WHAT ": a descriptor for each thread and processor is needed, and there are too few; "
				    "raise 'ulimit -n'");
	case EINVAL:
	case ENOENT:
	case ENODEV:
	case ENOSYS:
	case EOPNOTSUPP:
		return err_set(err, EOPNOTSUPP,
			       WHAT ": this kernel has no perf events with registers and stacks of user programs (%s); "
				    "--sites stacks needs none",
			       strerror(code));
	default:
		return perf_explain(pid, code, WHAT, err);
	}
}

static void note_gaps(struct fault_sampler *s)
{
	s->gap_threads[0] = s->gap_cpus[0] = '\0';
	if (s->threads_left > 0)
		snprintf(s->gap_threads, sizeof(s->gap_threads),
			 "page faults of %zu of %zu threads are not seen: each needs a descriptor for each processor; "
			 "raise 'ulimit -n'",
			 s->threads_left, s->threads + s->threads_left);
	if (s->cpus_left > 0)
		snprintf(s->gap_cpus, sizeof(s->gap_cpus),
			 "page faults on %zu processors are not seen: no more memory may be locked; raise "
			 "kernel.perf_event_mlock_kb or 'ulimit -l'",
			 s->cpus_left);
}

static int start(struct fault_sampler *s, uint64_t period, size_t slice_bytes)
{
	int rc;

	close_events(s);
	s->started_ns = clock_now_ns();
	s->period_before = s->period;
	s->period = period > 0 ? period : 1;
	s->slice_bytes = round_slice(slice_bytes);
	rc = open_events(s);
	if (rc < 0)
		close_events(s);
	note_gaps(s);
	return rc;
}

int fault_sampler_open(pid_t pid, uint64_t period, size_t slice_bytes, struct fault_sampler **ret, struct err *err)
{
	struct fault_sampler *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return explain(pid, ENOMEM, err);
	s->pid = pid;
	rc = read_faults(pid, &s->faults_first);
	s->faults_last = s->faults_first;
	if (rc == 0)
		rc = open_rings(s);
	if (rc == 0)
		rc = start(s, period, slice_bytes);
	if (rc < 0) {
		fault_sampler_close(s);
		return explain(pid, -rc, err);
	}
	*ret = s;
	return 0;
}

int fault_sampler_restart(struct fault_sampler *s, uint64_t period, size_t slice_bytes, struct err *err)
{
	int rc = start(s, period, slice_bytes);

	return rc < 0 ? explain(s->pid, -rc, err) : 0;
}

void fault_sampler_close(struct fault_sampler *s)
{
	if (!s)
		return;
	close_events(s);
	for (size_t i = 0; i < s->ring_count; i++)
		perf_ring_close(&s->rings[i]);
	free(s->rings);
	free(s->fds);
	free(s);
}

/* Of one in the ring: the whole slice is set aside, however little of it is valid. */
static size_t sample_bytes(const struct fault_sampler *s)
{
	return sizeof(struct perf_event_header) + sizeof(struct head) + 8 * (size_t)arch_perf_count + 8 +
	       s->slice_bytes + 8;
}

size_t fault_sampler_room(const struct fault_sampler *s)
{
	size_t least = SIZE_MAX;

	for (size_t i = 0; i < s->ring_count; i++)
		least = s->rings[i].bytes < least ? s->rings[i].bytes : least;
	return least / sample_bytes(s);
}

const char *fault_sampler_gap(const struct fault_sampler *s, size_t i)
{
	const char *all[5];
	size_t n = 0;

	if (s->no_kernel)
		all[n++] =
			"page faults inside of system calls (read() into new memory) are not seen: kernel.perf_event_"
			"paranoid hides them from users; set it to 1, or run memwatch as root or with CAP_PERFMON";
	if (s->gap_threads[0])
		all[n++] = s->gap_threads;
	if (s->gap_cpus[0])
		all[n++] = s->gap_cpus;
	if (s->newborn)
		all[n++] = "threads were born faster than they could be listed: page faults of some may not be seen; "
			   "nothing to be done but to watch for longer";
	return i < n ? all[i] : NULL;
}

/* ---- reading ---- */

static bool decode(const struct perf_event_header *header, const struct fault_sampler *s, struct head *ret_head,
		   struct page_fault *ret)
{
	const unsigned char *p = (const unsigned char *)(header + 1),
			    *end = (const unsigned char *)header + header->size;
	uint64_t regs[ARCH_PERF_REGS_MAX], size, valid = 0;

	if ((size_t)(end - p) < sizeof(*ret_head))
		return false;
	memcpy(ret_head, p, sizeof(*ret_head));
	p += sizeof(*ret_head);
	if (ret_head->abi == PERF_SAMPLE_REGS_ABI_NONE || (size_t)(end - p) < 8 * (size_t)arch_perf_count + 8)
		return false;
	memcpy(regs, p, 8 * (size_t)arch_perf_count);
	p += 8 * (size_t)arch_perf_count;
	memcpy(&size, p, 8);
	p += 8;
	if (size > 0) { /* a length of what is valid follows only then */
		if (size > (size_t)(end - p) || (size_t)(end - p) - size < 8)
			return false;
		memcpy(&valid, p + size, 8);
	}
	*ret = (struct page_fault){ .address = ret_head->address,
				    .period = ret_head->time < s->started_ns ? s->period_before : s->period,
				    .time_ns = ret_head->time };
	arch_perf_decode(regs, ret_head->abi == PERF_SAMPLE_REGS_ABI_64, &ret->stack.regs);
	ret->stack.tid = (pid_t)ret_head->tid;
	ret->stack.condition = THREAD_CAPTURED;
	ret->stack.was_running = true;
	ret->stack.slice = p;
	ret->stack.slice_address = ret->stack.regs.sp;
	ret->stack.slice_len = (size_t)(valid < size ? valid : size);
	ret->stack.slice_full = ret->stack.slice_len < s->slice_bytes;
	return true;
}

/* The next sample of a ring; records of other kinds are taken on the way. NULL: none. */
static const struct perf_event_header *next_sample(struct fault_sampler *s, struct perf_ring *r, uint64_t *ret_time)
{
	const struct perf_event_header *h;
	struct head head;
	uint64_t lost[2];

	while ((h = perf_ring_peek(r)) != NULL) {
		if (h->type == PERF_RECORD_SAMPLE && h->size >= sizeof(*h) + sizeof(head)) {
			memcpy(&head, h + 1, sizeof(head));
			*ret_time = head.time;
			return h;
		}
		if (h->type == PERF_RECORD_LOST && h->size >= sizeof(*h) + sizeof(lost)) {
			memcpy(lost, h + 1, sizeof(lost)); /* id, count */
			s->lost += lost[1];
		} else if (h->type == PERF_RECORD_THROTTLE) {
			s->lost++; /* some: how many the kernel does not say */
		}
		perf_ring_skip(r, h);
	}
	return NULL;
}

static struct perf_ring *oldest(struct fault_sampler *s, const struct perf_event_header **ret)
{
	struct perf_ring *found = NULL;
	uint64_t least = 0, t;

	for (size_t i = 0; i < s->ring_count; i++) {
		const struct perf_event_header *h = next_sample(s, &s->rings[i], &t);

		if (h && (!found || t < least)) {
			found = &s->rings[i];
			least = t;
			*ret = h;
		}
	}
	return found;
}

/* A ring without room has dropped samples, which the kernel tells only once it writes again. */
static bool begin_full(const struct fault_sampler *s, struct perf_ring *r)
{
	perf_ring_begin(r);
	return r->page && r->bytes - (r->end - r->at) < sample_bytes(s);
}

ssize_t fault_sampler_read(struct fault_sampler *s, int (*take)(void *arg, const struct page_fault *fault), void *arg,
			   uint64_t *ret_lost, uint64_t *ret_faults)
{
	const struct perf_event_header *header = NULL;
	struct perf_ring *ring;
	ssize_t count = 0;
	int rc = 0;

	for (size_t i = 0; i < s->ring_count; i++)
		s->lost += begin_full(s, &s->rings[i]);
	while (rc >= 0 && (ring = oldest(s, &header)) != NULL) {
		struct page_fault fault;
		struct head head;

		if (decode(header, s, &head, &fault) && (pid_t)head.pid == s->pid) {
			rc = take(arg, &fault);
			count++;
		}
		perf_ring_skip(ring, header);
		perf_ring_done(ring); /* at once: the kernel has need of the room */
	}
	for (size_t i = 0; i < s->ring_count; i++)
		perf_ring_done(&s->rings[i]);
	(void)!read_faults(s->pid, &s->faults_last); /* ended: the last figure stands */
	*ret_lost = s->lost;
	s->lost = 0;
	*ret_faults = s->faults_last - s->faults_first;
	return rc < 0 ? rc : count;
}
