/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening a process, and the small files of /proc/PID. */
#include "memwatch/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "files.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/base/io.h"

#define KTHREADD_PID 2

/* Why /proc/PID cannot be opened. */
static int explain_missing(pid_t pid, const char *path, int error, struct err *err)
{
	struct stat st;

	if (error == EMFILE || error == ENFILE || error == ENOMEM)
		return err_set(err, error, "cannot open '%s': %s", path, strerror(error));
	if (stat(path, &st) == 0)
		return err_set(err, EPERM,
			       "process %d belongs to uid %u: /proc hides it from other users (hidepid); "
			       "run memwatch as that user or as root",
			       (int)pid, st.st_uid);
	if (access("/proc/self/stat", R_OK) < 0)
		return err_set(err, ENOENT, "no process information in '/proc': mount it (mount -t proc proc /proc)");
	/* Signal 0 sends nothing; it tells a hidden process from none. */
	if (kill(pid, 0) == 0 || errno == EPERM)
		return err_set(err, EPERM,
			       "process %d is hidden in /proc (hidepid): it belongs to another user; "
			       "run memwatch as that user or as root",
			       (int)pid);
	return err_set(err, ESRCH, "no process with pid %d", (int)pid);
}

bool proc_pids_are_ours(int dir_fd)
{
	char text[32];
	ssize_t n = readlinkat(dir_fd, "../self", text, sizeof(text) - 1);

	if (n <= 0)
		return false;
	text[n] = '\0';
	return strtol(text, NULL, 10) == (long)getpid();
}

int proc_pidfd(int dir_fd, pid_t pid)
{
	cleanup_close int fd = -1;

	if (!proc_pids_are_ours(dir_fd))
		return -1;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* The directory was open before the pidfd was taken, and its process lives after it: both mean the same one. */
	if (fd < 0 || faccessat(dir_fd, "stat", F_OK, 0) < 0)
		return -1;
	return take_fd(&fd);
}

static int open_files(pid_t pid, struct proc *p, struct err *err)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	p->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return explain_missing(pid, path, errno, err);
	p->pid_fd = proc_pidfd(p->dir_fd, pid);
	p->stat_fd = openat(p->dir_fd, "stat", O_RDONLY | O_CLOEXEC);
	p->statm_fd = p->stat_fd < 0 ? -1 : openat(p->dir_fd, "statm", O_RDONLY | O_CLOEXEC);
	if (p->stat_fd < 0 || p->statm_fd < 0)
		return explain_missing(pid, path, errno, err);
	if (fstat(p->dir_fd, &st) < 0)
		return explain_missing(pid, path, errno, err);
	p->uid = st.st_uid;
	return 0;
}

static pid_t any_living_thread(struct proc *p)
{
	cleanup_free pid_t *tids = NULL;
	size_t cap = 0, count = 0;

	if (proc_read_threads(p, &tids, &cap, &count) < 0)
		return 0;
	for (size_t i = 0; i < count; i++) {
		struct stat_line stat;

		if (files_read_thread_stat(p->dir_fd, tids[i], &stat) == 0 && !files_state_is_dead(stat.state))
			return tids[i];
	}
	return 0;
}

pid_t proc_living_thread(struct proc *p)
{
	char path[48], buf[64];
	pid_t tid = any_living_thread(p);

	if (tid == 0)
		return 0;
	/* One that is being taken down with its process has no memory any more. */
	snprintf(path, sizeof(path), "task/%d/statm", (int)tid);
	return io_read_at(p->dir_fd, path, buf, sizeof(buf)) > 0 && strncmp(buf, "0 ", 2) != 0 ? tid : 0;
}

/* Refuses what memwatch cannot watch: a zombie, a kernel thread, a thread that is no process. */
static int check_kind(struct proc *p, const struct stat_line *stat, struct err *err)
{
	int pid = (int)p->id.pid;
	struct status status;
	int r;

	if (files_state_is_dead(stat->state)) {
		pid_t tid = any_living_thread(p);

		if (tid)
			return err_set(
				err, ESRCH,
				"the main thread of process %d has ended, and the kernel shows the memory of the "
				"others under their own ids only: give %d instead",
				pid, (int)tid);
		return err_set(err, ESRCH, "process %d is a zombie: it has ended and its parent has not waited for it",
			       pid);
	}
	r = proc_read_status(p, &status);
	if (r == -ESRCH)
		return err_set(err, ESRCH, "no process with pid %d", pid);
	if (r < 0)
		return err_set(err, -r, "cannot read '/proc/%d/status': %s", pid, strerror(-r));
	if (status.kernel_thread && (pid == KTHREADD_PID || stat->ppid == KTHREADD_PID || stat->ppid == 0))
		return err_set(err, EINVAL, "process %d is a kernel thread: it has no memory of its own", pid);
	if (status.tgid != p->id.pid) {
		struct stat_line leader;

		r = files_read_thread_stat(p->dir_fd, status.tgid, &leader);
		if (r < 0 || !files_state_is_dead(leader.state))
			return err_set(err, EINVAL, "'%d' is a thread, not a process: give %d, its process", pid,
				       (int)status.tgid);
	}
	return 0;
}

int proc_open(pid_t pid, struct proc *ret, struct err *err)
{
	struct proc p = PROC_INIT;
	struct stat_line stat;
	int r;

	if (pid <= 0)
		return err_set(err, ESRCH, "no process with pid %d", (int)pid);
	p.page_bytes = sysconf(_SC_PAGESIZE);
	p.ticks_per_s = sysconf(_SC_CLK_TCK);
	p.id.pid = pid;
	r = open_files(pid, &p, err);
	if (r == 0) {
		r = proc_read_stat(&p, &stat);
		if (r < 0)
			r = err_set(err, -r,
				    r == -ESRCH ? "no process with pid %d" :
						  "cannot read '/proc/%d/stat': unknown format",
				    (int)pid);
	}
	if (r == 0) {
		p.id.start_ticks = stat.start_ticks;
		r = check_kind(&p, &stat, err);
	}
	if (r < 0) {
		proc_close(&p);
		return r;
	}
	*ret = p;
	return 0;
}

static void close_fd(int *fd)
{
	/* 0 is standard input and never ours: a zeroed struct closes nothing. */
	if (*fd > 0)
		close(*fd);
	*fd = -1;
}

void proc_close(struct proc *p)
{
	if (!p)
		return;
	close_fd(&p->dir_fd);
	close_fd(&p->pid_fd);
	close_fd(&p->statm_fd);
	close_fd(&p->stat_fd);
}

bool proc_alive(const struct proc *p)
{
	struct pollfd poll_fd = { .fd = p->pid_fd, .events = POLLIN };
	struct stat_line stat;

	if (p->pid_fd >= 0 && poll(&poll_fd, 1, 0) > 0)
		return false;
	if (files_pread_stat(p->stat_fd, &stat) < 0)
		return false;
	return !files_state_is_dead(stat.state) && stat.start_ticks == p->id.start_ticks;
}

int proc_read_statm(struct proc *p, struct statm *ret)
{
	struct statm statm;
	char buf[256];
	ssize_t n;
	int r;

	n = pread(p->statm_fd, buf, sizeof(buf), 0);
	if (n < 0)
		return -errno;
	r = parse_statm(buf, (size_t)n, &statm);
	if (r < 0)
		return r;
	if (statm.size_pages == 0)
		return -ESRCH; /* a zombie, or on its way there */
	*ret = statm;
	return 0;
}

int proc_read_stat(struct proc *p, struct stat_line *ret)
{
	return files_pread_stat(p->stat_fd, ret);
}

int proc_read_status(struct proc *p, struct status *ret)
{
	cleanup_str struct str text = STR_INIT;
	int r;

	r = files_read_str(p->dir_fd, "status", &text);
	return r < 0 ? r : parse_status(str_text(&text), text.len, ret);
}

int proc_read_io(struct proc *p, struct proc_io *ret)
{
	char buf[1024];
	ssize_t n;

	n = io_read_at(p->dir_fd, "io", buf, sizeof(buf));
	return n < 0 ? (int)n : parse_io(buf, (size_t)n, ret);
}

int proc_read_limits(struct proc *p, uint64_t *ret_as, uint64_t *ret_data)
{
	char buf[8192];
	ssize_t n;

	n = io_read_at(p->dir_fd, "limits", buf, sizeof(buf));
	return n < 0 ? (int)n : parse_limits(buf, (size_t)n, ret_as, ret_data);
}

int proc_ns_pid(struct proc *p, pid_t *ret)
{
	struct status status;
	int r;

	r = proc_read_status(p, &status);
	if (r == 0)
		*ret = status.ns_pid;
	return r;
}
