/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The directory of a process's memory cgroup, and what stands in it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cgroup.h"
#include "files.h"
#include "lines.h"
#include "memwatch/base/io.h"
#include "memwatch/proc.h"

#define CGROUP_DEPTH_MAX 64 /* deeper than any real tree: the walk to the root is bounded */

struct cgroup_files {
	const char *usage, *limit, *peak, *swap, *events; /* NULL: the version has none */
};

static const struct cgroup_files files_of_version[] = {
	[1] = { "memory.usage_in_bytes", "memory.limit_in_bytes", "memory.max_usage_in_bytes", NULL,
		"memory.oom_control" },
	[2] = { "memory.current", "memory.max", "memory.peak", "memory.swap.current", "memory.events" },
};

static int open_in_mount(const struct cgroup_mount *m, const struct cgroup *c)
{
	char dir[PATH_MAX];

	if (m->version != c->version || cgroup_mount_resolve(m, c->path, dir, sizeof(dir)) < 0)
		return -1;
	return open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* There may be several mounts, and some show only a part of the tree: the first that shows this group serves. */
static int find_directory(struct cgroup *c)
{
	cleanup_free struct cgroup_mount *mount = malloc(sizeof(*mount));
	struct lines lines;
	struct text line;
	int r;

	if (!mount)
		return -ENOMEM;
	r = lines_open(&lines, AT_FDCWD, "/proc/self/mountinfo");
	while (c->dir_fd < 0 && r >= 0 && (r = lines_next(&lines, &line)) > 0) {
		if (cgroup_mount_parse(line, mount))
			c->dir_fd = open_in_mount(mount, c);
	}
	lines_close(&lines);
	return r < 0 ? r : 0;
}

int cgroup_open(struct proc *p, struct cgroup *ret)
{
	cleanup_str struct str text = STR_INIT;
	struct cgroup c = { .version = 0, .dir_fd = -1, .path = "" };
	int r;

	r = files_read_str(p->dir_fd, "cgroup", &text);
	if (r == 0)
		r = parse_proc_cgroup(str_text(&text), text.len, &c.version, c.path, sizeof(c.path));
	else if (r == -ENOENT && proc_alive(p))
		r = 0; /* a kernel without cgroups */
	if (r == 0 && c.version)
		r = find_directory(&c);
	if (r < 0)
		return r == -ENAMETOOLONG ? -ENOTSUP : r;
	if (c.dir_fd < 0)
		c.version = 0;
	*ret = c;
	return 0;
}

void cgroup_close(struct cgroup *c)
{
	if (!c)
		return;
	if (c->dir_fd > 0)
		close(c->dir_fd);
	c->dir_fd = -1;
	c->version = 0;
}

/* 0 also where there is no such file (the root of v2 has none, old kernels lack some). */
static int read_number(int dir_fd, const char *name, uint64_t *ret)
{
	char buf[64];
	ssize_t n;

	if (!name)
		return 0;
	n = io_read_at(dir_fd, name, buf, sizeof(buf));
	if (n == -ENOENT || n == -EACCES || n == -EOPNOTSUPP)
		return 0;
	return n < 0 ? (int)n : parse_cgroup_number(buf, (size_t)n, ret);
}

static bool is_cgroup_dir(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == CGROUP_SUPER_MAGIC || fs.f_type == CGROUP2_SUPER_MAGIC);
}

/* The parent group, or -1 at the root of the mount: above it another file system begins. */
static int open_parent(int fd)
{
	cleanup_close int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat here, there;

	if (parent < 0 || !is_cgroup_dir(parent) || fstat(fd, &here) < 0 || fstat(parent, &there) < 0)
		return -1;
	if (here.st_dev != there.st_dev || here.st_ino == there.st_ino)
		return -1;
	return take_fd(&parent);
}

static int nearest_limit(const struct cgroup *c, uint64_t *ret)
{
	cleanup_close int fd = fcntl(c->dir_fd, F_DUPFD_CLOEXEC, 3);
	uint64_t limit = UINT64_MAX;

	if (fd < 0)
		return -errno;
	for (int depth = 0; depth < CGROUP_DEPTH_MAX && fd >= 0; depth++) {
		uint64_t own = UINT64_MAX;
		int parent, r;

		r = read_number(fd, files_of_version[c->version].limit, &own);
		if (r < 0)
			return r;
		if (own < limit)
			limit = own;
		parent = open_parent(fd);
		close(fd);
		fd = parent;
	}
	*ret = limit;
	return 0;
}

/* v1 counts its limits only where memory.use_hierarchy is set; its own "hierarchical" figure knows that, and knows the
 * groups above the mount as well. */
static int read_stat(const struct cgroup *c, struct cgroup_memory *m)
{
	char buf[16384];
	ssize_t n = io_read_at(c->dir_fd, "memory.stat", buf, sizeof(buf));

	if (n == -ENOENT || n == -EACCES)
		return 0;
	return n < 0 ? (int)n : parse_memory_stat(buf, (size_t)n, m);
}

int cgroup_read(struct cgroup *c, struct cgroup_memory *ret)
{
	struct cgroup_memory m;
	const struct cgroup_files *files;
	uint64_t limit = UINT64_MAX;
	char buf[1024];
	ssize_t n;
	int r;

	if (c->version == 0 || c->dir_fd < 0)
		return -ENOENT;
	files = &files_of_version[c->version];
	memset(&m, 0xff, sizeof(m)); /* every field UNKNOWN_U64 */
	r = read_stat(c, &m);
	if (r == 0)
		r = nearest_limit(c, &limit);
	if (r == 0)
		r = read_number(c->dir_fd, files->usage, &m.usage_bytes);
	if (r == 0)
		r = read_number(c->dir_fd, files->peak, &m.peak_bytes);
	if (r == 0)
		r = read_number(c->dir_fd, files->swap, &m.swap_bytes);
	if (r < 0)
		return r;
	if (limit < m.limit_bytes)
		m.limit_bytes = limit;
	n = io_read_at(c->dir_fd, files->events, buf, sizeof(buf));
	if (n > 0)
		(void)cgroup_flat_value(buf, (size_t)n, "oom_kill", &m.oom_kills);
	*ret = m;
	return 0;
}

int psi_read(struct cgroup *c, struct psi *ret)
{
	ssize_t n = -ENOENT;
	char buf[512];

	if (c && c->version == 2 && c->dir_fd >= 0)
		n = io_read_at(c->dir_fd, "memory.pressure", buf, sizeof(buf));
	if (n <= 0)
		n = io_read_at(AT_FDCWD, "/proc/pressure/memory", buf, sizeof(buf));
	if (n == -EOPNOTSUPP)
		n = -ENOENT; /* built in, and switched off at boot */
	return n < 0 ? (int)n : parse_psi(buf, (size_t)n, ret);
}
