/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Threads, children and descriptors of a process: directories and lists of ids. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "files.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/base/cursor.h"
#include "memwatch/base/io.h"
#include "memwatch/base/vec.h"
#include "memwatch/proc.h"
#include "text.h"

struct id_list {
	pid_t **ids;
	size_t *cap;
	size_t count;
};

static void close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define cleanup_dir __attribute__((cleanup(close_dir)))

static DIR *open_dir_at(int dir_fd, const char *path)
{
	cleanup_close int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (dir)
		(void)take_fd(&fd);
	return dir;
}

static int add_id(struct id_list *list, pid_t id)
{
	if (vec_reserve(list->ids, list->cap, list->count + 1, sizeof(pid_t)) < 0)
		return -ENOMEM;
	(*list->ids)[list->count++] = id;
	return 0;
}

/* A name that is a number, else 0. */
static pid_t id_of_name(const char *name)
{
	long value;
	char *end;

	if (name[0] < '1' || name[0] > '9')
		return 0;
	value = strtol(name, &end, 10);
	return *end || value > INT_MAX ? 0 : (pid_t)value;
}

/* Numeric names in path, filtered by `wanted` where it is given. */
static int list_ids(int dir_fd, const char *path, bool (*wanted)(int fd, pid_t id, pid_t arg), pid_t arg,
		    struct id_list *list)
{
	cleanup_dir DIR *dir = open_dir_at(dir_fd, path);
	const struct dirent *entry;

	if (!dir)
		return -errno;
	while (errno = 0, (entry = readdir(dir)) != NULL) {
		pid_t id = id_of_name(entry->d_name);

		if (!id || (wanted && !wanted(dirfd(dir), id, arg)))
			continue;
		if (add_id(list, id) < 0)
			return -ENOMEM;
	}
	return -errno;
}

int proc_read_threads(struct proc *p, pid_t **tids, size_t *cap, size_t *ret_count)
{
	struct id_list list = { tids, cap, 0 };
	int r;

	r = list_ids(p->dir_fd, "task", NULL, 0, &list);
	if (r == -ENOENT || (r == 0 && list.count == 0))
		return -ESRCH;
	if (r == 0)
		*ret_count = list.count;
	return r;
}

static int compare_ids(const void *a, const void *b)
{
	pid_t x, y;

	x = *(const pid_t *)a;
	y = *(const pid_t *)b;
	return (x > y) - (x < y);
}

/* A child moves to another thread when its own parent thread ends: it may be met twice. */
static void sort_unique(struct id_list *list)
{
	pid_t *ids = *list->ids;
	size_t out = 0;

	if (!list->count)
		return;
	qsort(ids, list->count, sizeof(*ids), compare_ids);
	for (size_t i = 0; i < list->count; i++) {
		if (out == 0 || ids[out - 1] != ids[i])
			ids[out++] = ids[i];
	}
	list->count = out;
}

static int add_children_of_thread(struct proc *p, pid_t tid, struct id_list *list)
{
	cleanup_str struct str text = STR_INIT;
	struct cursor c;
	char path[48];
	uint64_t id;
	int r;

	snprintf(path, sizeof(path), "task/%d/children", (int)tid);
	r = files_read_str(p->dir_fd, path, &text);
	if (r == -ENOENT || r == -ESRCH)
		return 0; /* this thread has just ended */
	if (r < 0)
		return r;
	cursor_init(&c, str_text(&text), text.len);
	while (cursor_dec(&c, &id)) {
		if (id == 0 || id > INT_MAX)
			return -EBADMSG;
		if (add_id(list, (pid_t)id) < 0)
			return -ENOMEM;
	}
	return 0;
}

static bool is_child(int proc_fd, pid_t pid, pid_t parent)
{
	char path[32], buf[2048];
	struct stat_line stat;
	ssize_t n;

	snprintf(path, sizeof(path), "%d/stat", (int)pid);
	n = io_read_at(proc_fd, path, buf, sizeof(buf));
	return n > 0 && parse_stat(buf, (size_t)n, &stat) == 0 && stat.ppid == parent;
}

int proc_read_children(struct proc *p, pid_t **pids, size_t *cap, size_t *ret_count)
{
	cleanup_free pid_t *tids = NULL;
	struct id_list list = { pids, cap, 0 };
	size_t tid_cap = 0, tid_count = 0;
	char path[48];
	int r;

	r = proc_read_threads(p, &tids, &tid_cap, &tid_count);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "task/%d/children", (int)p->id.pid);
	if (faccessat(p->dir_fd, path, F_OK, 0) == 0) {
		for (size_t i = 0; i < tid_count && r == 0; i++)
			r = add_children_of_thread(p, tids[i], &list);
	} else {
		r = list_ids(p->dir_fd, "..", is_child, p->id.pid, &list);
	}
	if (r < 0)
		return r;
	sort_unique(&list);
	*ret_count = list.count;
	return 0;
}

int proc_count_fds(struct proc *p, uint64_t *ret)
{
	cleanup_dir DIR *dir = NULL;
	const struct dirent *entry;
	uint64_t count = 0;
	struct stat st;

	/* Since 6.2 the size of the directory is the count, and needs no permission. */
	if (fstatat(p->dir_fd, "fd", &st, 0) == 0 && st.st_size > 0) {
		*ret = (uint64_t)st.st_size;
		return 0;
	}
	dir = open_dir_at(p->dir_fd, "fd");
	if (!dir)
		return errno == ENOENT ? -ESRCH : -errno;
	while (errno = 0, (entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	if (errno)
		return -errno;
	*ret = count;
	return 0;
}
