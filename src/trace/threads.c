/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trace_internal.h"
#include "arch/arch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memwatch/base/vec.h"

void thread_list_deinit(struct thread_list *l)
{
	free(l->entries);
	cleanup_closep(&l->dir_fd);
	*l = (struct thread_list)THREAD_LIST_INIT;
}

static int open_task_dir(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	return errno == ENOENT ? -ESRCH : -errno;
}

int thread_list_read(struct thread_list *l, pid_t pid)
{
	struct dirent *d;
	DIR *dir;
	int fd;

	if (l->dir_fd < 0) {
		fd = open_task_dir(pid);
		if (fd < 0)
			return fd;
		l->dir_fd = fd;
	}
	l->count = 0;
	/* a descriptor of its own: closedir() closes it, and the position starts at 0 */
	fd = openat(l->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((d = readdir(dir)) != NULL) {
		long tid = strtol(d->d_name, NULL, 10);

		if (tid <= 0)
			continue;
		if (vec_reserve(&l->entries, &l->cap, l->count + 1, sizeof(*l->entries)) < 0) {
			closedir(dir);
			return -ENOMEM;
		}
		l->entries[l->count++] = (struct thread_entry){ .tid = (pid_t)tid };
	}
	closedir(dir);
	return l->count > 0 ? 0 : -ESRCH;
}

static ssize_t read_entry(const struct thread_list *l, pid_t tid, const char *name, char *buf, size_t cap)
{
	char path[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "%d/%s", (int)tid, name);
	fd = openat(l->dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	len = read(fd, buf, cap - 1);
	if (len < 0)
		len = -errno;
	else
		buf[len] = '\0';
	close(fd);
	return len;
}

void thread_entry_read(const struct thread_list *l, struct thread_entry *e)
{
	char buf[512];
	const char *after;
	int ppid = 0;
	char state = 'Z';

	e->state = 'Z';
	e->ppid = 0;
	e->fragile = false;
	if (read_entry(l, e->tid, "stat", buf, sizeof(buf)) <= 0)
		return;
	after = strrchr(buf, ')'); /* the name may hold anything, parentheses included */
	if (!after || sscanf(after + 1, " %c %d", &state, &ppid) != 2)
		return;
	e->state = state;
	e->ppid = (pid_t)ppid;
	if (state != 'S' || read_entry(l, e->tid, "syscall", buf, sizeof(buf)) <= 0)
		return;
	/* "running", "-1 …" outside a call, else the number first */
	if (buf[0] >= '0' && buf[0] <= '9')
		e->fragile = arch_call_fragile(strtoul(buf, NULL, 10));
}

/* The link count of the directory is the number of threads and two: one call instead of a listing. */
bool thread_list_current(const struct thread_list *l, size_t known)
{
	struct stat st;

	return fstat(l->dir_fd, &st) == 0 && st.st_nlink == known + 2;
}

int thread_tgid(pid_t tid, pid_t *ret)
{
	char path[64], line[128];
	cleanup_fclose FILE *f = NULL;
	int tgid;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	f = fopen(path, "re");
	if (!f)
		return -ESRCH;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Tgid: %d", &tgid) == 1) {
			*ret = (pid_t)tgid;
			return 0;
		}
	}
	return -ESRCH;
}
