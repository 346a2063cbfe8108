/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory of a running process.
 *
 * process_vm_readv() names its target by pid, which the kernel may give to another process: whether ours still lives is
 * asked before a read, so that no other process is touched, and after it, so that nothing read of another one counts.
 * Descriptors of /proc/PID/mem and pagemap stay with the memory that was there at open(); exec() replaces it. So they are
 * opened for each call.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/map.h"
#include "memwatch/mem.h"
#include "memwatch/proc.h"
#include "pagemap.h"
#include "refusal.h"

#define PIECES_AT_ONCE 1024 /* IOV_MAX: the kernel takes no more */

struct live {
	struct mem mem;
	pid_t pid;
	int proc_fd;  /* borrowed */
	int pid_fd;   /* -1: none */
	bool by_file; /* process_vm_readv is refused, missing, or would mean another process */
	bool no_scan; /* the kernel has no PAGEMAP_SCAN */
	struct intern *paths;
	struct region *regions;
};

static bool live_is_gone(const struct live *l)
{
	struct pollfd poll_fd = { .fd = l->pid_fd, .events = POLLIN };

	if (l->pid_fd >= 0)
		return poll(&poll_fd, 1, 0) > 0;
	return faccessat(l->proc_fd, "stat", F_OK, 0) < 0;
}

/* What an error of /proc/PID means here. The dead are refused too, before they are missing: their memory has no owner. */
static int refused(const struct live *l, int error)
{
	if (live_is_gone(l))
		return -ESRCH;
	return error == EACCES ? -EPERM : error == ENOENT ? -ENOTSUP : -error;
}

static int open_mem_file(const struct live *l)
{
	int fd = openat(l->proc_fd, "mem", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? refused(l, errno) : fd;
}

/* Count read before the first byte that cannot be, or -errno. */
static ssize_t read_file(const struct live *l, uint64_t address, void *buf, size_t len)
{
	cleanup_close int fd = open_mem_file(l);
	size_t done = 0;

	if (fd < 0)
		return fd;
	while (done < len && address + done <= INT64_MAX) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(address + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static ssize_t read_vm(const struct live *l, uint64_t address, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct iovec local = { (char *)buf + done, len - done };
		struct iovec remote = { (void *)(uintptr_t)(address + done), len - done };
		ssize_t n = process_vm_readv(l->pid, &local, 1, &remote, 1, 0);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0 || errno == EFAULT || errno == EINVAL || errno == ENOMEM)
			break;
		else if (done == 0)
			return -errno;
		else
			break;
	}
	return (ssize_t)done;
}

static ssize_t read_any(struct live *l, uint64_t address, void *buf, size_t len)
{
	ssize_t n = l->by_file ? read_file(l, address, buf, len) : read_vm(l, address, buf, len);

	if (l->by_file || (n != -EPERM && n != -ENOSYS))
		return n;
	/* A seccomp filter around memwatch may know the one way and not the other. */
	n = read_file(l, address, buf, len);
	l->by_file = n >= 0;
	return n;
}

static ssize_t live_read(struct mem *mem, uint64_t address, void *buf, size_t len)
{
	struct live *l = mem->arg;
	ssize_t n;

	if (live_is_gone(l))
		return -ESRCH;
	if (len > UINT64_MAX - address)
		len = (size_t)(UINT64_MAX - address);
	if (len > SSIZE_MAX)
		len = SSIZE_MAX;
	n = read_any(l, address, buf, len);
	return n >= 0 && live_is_gone(l) ? -ESRCH : n;
}

/* One call of the kernel over the first `count` pieces. Returns how many pieces are settled, at least one, or -errno. */
static ssize_t read_pieces(struct live *l, struct mem_piece *pieces, size_t count)
{
	struct iovec local[PIECES_AT_ONCE], remote[PIECES_AT_ONCE];
	ssize_t total, more;
	size_t i;

	if (l->by_file)
		count = 1;
	for (i = 0; i < count; i++) {
		local[i] = (struct iovec){ pieces[i].buf, pieces[i].len };
		remote[i] = (struct iovec){ (void *)(uintptr_t)pieces[i].address, pieces[i].len };
	}
	total = l->by_file ? 0 : process_vm_readv(l->pid, local, count, remote, count, 0);
	if (total < 0 && errno == ESRCH)
		return -ESRCH;
	for (i = 0; i < count && total > 0; i++) {
		pieces[i].done = (size_t)total < pieces[i].len ? (size_t)total : pieces[i].len;
		total -= (ssize_t)pieces[i].done;
		if (pieces[i].done < pieces[i].len)
			break;
	}
	if (i == count)
		return (ssize_t)count;
	/* The kernel stopped inside this piece, or refused all: this one is read alone, the next call goes on behind it. */
	more = read_any(l, pieces[i].address + pieces[i].done, (char *)pieces[i].buf + pieces[i].done,
			pieces[i].len - pieces[i].done);
	if (more < 0)
		return more;
	pieces[i].done += (size_t)more;
	return (ssize_t)i + 1;
}

static int live_read_batch(struct mem *mem, struct mem_piece *pieces, size_t count)
{
	struct live *l = mem->arg;
	size_t at = 0;

	if (live_is_gone(l))
		return -ESRCH;
	while (at < count) {
		size_t left = count - at;
		ssize_t n = read_pieces(l, pieces + at, left < PIECES_AT_ONCE ? left : PIECES_AT_ONCE);

		if (n < 0)
			return (int)n;
		at += (size_t)n;
	}
	return live_is_gone(l) ? -ESRCH : 0;
}

static int present_step(struct live *l, int fd, uint64_t start, uint64_t end, struct pagemap_out *out,
			uint64_t *ret_next)
{
	int r;

	if (!l->no_scan) {
		r = pagemap_scan(fd, start, end, out, ret_next);
		if (r != -ENOTTY && r != -EINVAL && r != -EPERM && r != -ENOSYS)
			return r;
		l->no_scan = true;
	}
	return pagemap_entries(fd, start, end, out, ret_next);
}

static ssize_t live_present(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
			    uint64_t *ret_next)
{
	struct live *l = mem->arg;
	uint64_t mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
	uint64_t at = start & ~mask, last = end > UINT64_MAX - mask ? end & ~mask : (end + mask) & ~mask;
	struct pagemap_out out = { ret, cap, 0 };
	cleanup_close int fd = openat(l->proc_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return refused(l, errno);
	while (at < last && out.count < cap && r == 0) {
		uint64_t step = last - at < PAGEMAP_STEP_BYTES ? last - at : PAGEMAP_STEP_BYTES;

		r = present_step(l, fd, at, at + step, &out, &at);
	}
	if (live_is_gone(l))
		return -ESRCH;
	if (r < 0)
		return r;
	*ret_next = at < last ? at : end;
	return (ssize_t)out.count;
}

/* A new interner each time: paths of mappings that are gone must not pile up over days. */
static ssize_t live_regions(struct mem *mem, const struct region **ret)
{
	struct live *l = mem->arg;
	struct intern *paths = NULL;
	struct region *regions = NULL;
	size_t cap = 0, count = 0;
	int r;

	r = intern_create(&paths);
	if (r == 0)
		r = proc_read_maps_at(l->proc_fd, paths, &regions, &cap, &count);
	if (r < 0) {
		intern_destroy(paths);
		free(regions);
		return refused(l, -r);
	}
	intern_destroy(l->paths);
	free(l->regions);
	l->paths = paths;
	l->regions = regions;
	*ret = regions;
	return (ssize_t)count;
}

static void live_destroy(struct mem *mem)
{
	struct live *l = mem->arg;

	if (l->pid_fd >= 0)
		close(l->pid_fd);
	intern_destroy(l->paths);
	free(l->regions);
	free(l);
}

static const struct mem_ops live_ops = {
	.name = "live",
	.read = live_read,
	.read_batch = live_read_batch,
	.present = live_present,
	.regions = live_regions,
	.destroy = live_destroy,
};

/* The first page is never mapped: reading it asks for permission and touches nothing. */
static int probe_access(struct live *l, struct err *err)
{
	struct refusal_facts facts;
	char byte;
	ssize_t n;

	n = live_is_gone(l) ? -ESRCH : read_any(l, 0, &byte, 1);
	if (n >= 0)
		return 0;
	if (n == -ESRCH)
		return err_set(err, ESRCH, "no process with pid %d", (int)l->pid);
	if (n != -EPERM)
		return err_set(err, (int)-n, "cannot read the memory of process %d: %s", (int)l->pid,
			       strerror((int)-n));
	refusal_collect(l->pid, l->proc_fd, &facts);
	return refusal_explain(&facts, err);
}

int mem_live_create(pid_t pid, int proc_fd, struct mem **ret, struct err *err)
{
	struct live *l = calloc(1, sizeof(*l));
	int r;

	if (!l)
		return err_set(err, ENOMEM, "out of memory");
	l->mem = (struct mem){ &live_ops, l };
	l->pid = pid;
	l->proc_fd = proc_fd;
	l->pid_fd = proc_pidfd(proc_fd, pid);
	l->by_file = !proc_pids_are_ours(proc_fd);
	r = probe_access(l, err);
	if (r < 0) {
		live_destroy(&l->mem);
		return r;
	}
	*ret = &l->mem;
	return 0;
}
