/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "memwatch/base/io.h"

#define FILE_LIMIT_BYTES ((size_t)4 << 20)
#define STAT_BYTES 2048 /* 52 numbers of at most 20 digits, and the name */

bool files_state_is_dead(char state)
{
	return state == 'Z' || state == 'X' || state == 'x';
}

int files_pread_stat(int stat_fd, struct stat_line *ret)
{
	char buf[STAT_BYTES];
	ssize_t n = pread(stat_fd, buf, sizeof(buf), 0);

	return n < 0 ? -errno : parse_stat(buf, (size_t)n, ret);
}

int files_read_thread_stat(int dir_fd, pid_t tid, struct stat_line *ret)
{
	char path[48], buf[STAT_BYTES];
	ssize_t n;

	snprintf(path, sizeof(path), "task/%d/stat", (int)tid);
	n = io_read_at(dir_fd, path, buf, sizeof(buf));
	return n < 0 ? (int)n : parse_stat(buf, (size_t)n, ret);
}

int files_read_str(int dir_fd, const char *path, struct str *out)
{
	cleanup_close int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : io_read_all(fd, FILE_LIMIT_BYTES, out);
}
