/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "perf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define RECORD_MAX (64 << 10) /* header.size has 16 bits */

static int open_owner(int cpu)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_SOFTWARE,
					.config = PERF_COUNT_SW_DUMMY,
					.size = sizeof(attr),
					.sample_period = 1,
					.disabled = 1,
					.exclude_kernel = 1,
					.exclude_hv = 1,
					.use_clockid = 1,
					.clockid = CLOCK_MONOTONIC };
	long fd = syscall(SYS_perf_event_open, &attr, 0, cpu, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

static struct perf_event_mmap_page *map_ring(int fd, size_t bytes)
{
	void *p = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE) + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int perf_ring_open(struct perf_ring *r, int cpu, size_t bytes, size_t bytes_min)
{
	int rc = open_owner(cpu);

	*r = (struct perf_ring){ .fd = rc, .cpu = cpu, .bytes = bytes };
	if (rc < 0) {
		r->fd = -1;
		return rc;
	}
	for (; r->bytes >= bytes_min; r->bytes /= 2) {
		r->page = map_ring(r->fd, r->bytes);
		if (r->page)
			break;
		rc = -errno;
		if (rc != -EPERM && rc != -ENOMEM)
			break;
	}
	if (r->page)
		r->copy = malloc(RECORD_MAX);
	if (r->copy)
		return 0;
	if (r->page || rc >= 0)
		rc = -ENOMEM;
	perf_ring_close(r);
	return rc;
}

void perf_ring_close(struct perf_ring *r)
{
	if (r->page)
		munmap(r->page, (size_t)sysconf(_SC_PAGESIZE) + r->bytes);
	cleanup_closep(&r->fd);
	free(r->copy);
	*r = (struct perf_ring){ .fd = -1 };
}

void perf_ring_begin(struct perf_ring *r)
{
	r->at = r->end = 0;
	if (!r->page)
		return;
	r->end = __atomic_load_n(&r->page->data_head, __ATOMIC_ACQUIRE);
	r->at = r->page->data_tail;
}

const struct perf_event_header *perf_ring_peek(struct perf_ring *r)
{
	const unsigned char *data = (const unsigned char *)r->page + sysconf(_SC_PAGESIZE);
	const struct perf_event_header *header;
	size_t offset, first;

	if (r->end - r->at < sizeof(*header))
		return NULL;
	offset = (size_t)(r->at & (r->bytes - 1)); /* records are multiples of 8 bytes: a header is never torn */
	header = (const struct perf_event_header *)(data + offset);
	if (header->size < sizeof(*header) || header->size > r->end - r->at) {
		r->at = r->end; /* never seen; but it would not end */
		return NULL;
	}
	if (offset + header->size <= r->bytes)
		return header;
	first = r->bytes - offset;
	memcpy(r->copy, header, first);
	memcpy(r->copy + first, data, header->size - first);
	return (const struct perf_event_header *)r->copy;
}

void perf_ring_skip(struct perf_ring *r, const struct perf_event_header *record)
{
	r->at += record->size;
}

void perf_ring_done(struct perf_ring *r)
{
	if (r->page)
		__atomic_store_n(&r->page->data_tail, r->at, __ATOMIC_RELEASE);
}
