/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define IO_CHUNK_BYTES 16384
#define IO_LINKS_MAX 40 /* the kernel's own limit */
#define IO_TEMP_TRIES 100

ssize_t io_pread_text(int fd, char *buf, size_t cap)
{
	size_t len = 0;

	if (cap == 0)
		return -EINVAL;
	while (len < cap - 1) {
		ssize_t n = pread(fd, buf + len, cap - 1 - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		len += (size_t)n;
	}
	buf[len] = '\0';
	return (ssize_t)len;
}

ssize_t io_read_at(int dirfd, const char *path, char *buf, size_t cap)
{
	cleanup_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return io_pread_text(fd, buf, cap);
}

/* Waits for a descriptor that somebody else made non-blocking (a shared terminal, a pipe from node). */
static int wait_for(int fd, short events)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	if (poll(&pfd, 1, -1) < 0 && errno != EINTR)
		return -errno;
	return 0;
}

static int read_chunks(int fd, size_t limit, struct str *out)
{
	char buf[IO_CHUNK_BYTES];
	size_t total = 0;

	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));

		if (n < 0 && errno == EAGAIN) {
			int r = wait_for(fd, POLLIN);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return str_status(out);
		if ((size_t)n > limit - total)
			return -EFBIG;
		total += (size_t)n;
		str_addn(out, buf, (size_t)n);
		if (str_status(out) < 0)
			return -ENOMEM;
	}
}

int io_read_all(int fd, size_t limit, struct str *out)
{
	size_t len = out->len;
	int r = read_chunks(fd, limit, out);

	if (r < 0 && out->data) {
		out->len = len;
		out->data[len] = '\0';
	}
	return r;
}

int io_write_all(int fd, const void *data, size_t len)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = write(fd, at, len);

		if (n < 0 && errno == EAGAIN) {
			int r = wait_for(fd, POLLOUT);

			if (r < 0)
				return r;
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int refuse(struct err *err, const char *path, int code)
{
	if (strcmp(path, "-") == 0)
		return err_set(err, code, "cannot write to standard output: %s", strerror(code));
	return err_set(err, code, "cannot write '%s': %s", path, strerror(code));
}

/*
 * The descriptor that a path stands for, or -1. Opening /dev/stdout again would give a second file offset (and
 * overwrite what was printed before), replacing its target would take the file away from under the shell's redirection,
 * and a socket cannot be opened at all: so such a path is written through the descriptor itself.
 */
static int path_fd(const char *path)
{
	static const char *const dirs[] = { "/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/" };

	if (strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0)
		return STDOUT_FILENO;
	if (strcmp(path, "/dev/stderr") == 0)
		return STDERR_FILENO;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		const char *digits = path + strlen(dirs[i]);
		size_t len;

		if (strncmp(path, dirs[i], strlen(dirs[i])) != 0)
			continue;
		len = strlen(digits);
		if (len > 0 && len < 10 && strspn(digits, "0123456789") == len)
			return atoi(digits);
	}
	return -1;
}

/* Length of the directory part with its slash; 0 where there is none. */
static size_t dir_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) + 1 : 0;
}

/*
 * Follows the links of the last component, so that the file is replaced and not the link, also where the file does not
 * exist yet (realpath() refuses that). Links in the directory part need no care.
 */
static int resolve_links(const char *path, char ret[PATH_MAX])
{
	char at[PATH_MAX];
	char link[PATH_MAX];
	char next[PATH_MAX];

	if (strlen(path) >= sizeof(at))
		return -ENAMETOOLONG;
	strcpy(at, path);
	for (int i = 0; i < IO_LINKS_MAX; i++) {
		ssize_t n = readlink(at, link, sizeof(link));
		size_t dir = dir_len(at);

		if (n < 0) { /* EINVAL: no link; anything else shows when the file is opened */
			strcpy(ret, at);
			return 0;
		}
		if (link[0] == '/')
			dir = 0;
		if (dir + (size_t)n >= sizeof(next))
			return -ENAMETOOLONG;
		memcpy(next, at, dir);
		memcpy(next + dir, link, (size_t)n);
		next[dir + (size_t)n] = '\0';
		strcpy(at, next);
	}
	return -ELOOP;
}

static int close_written(int *fd, int r)
{
	/* A network file system reports a full disk here. */
	if (close(take_fd(fd)) < 0 && r == 0 && errno != EINTR)
		return -errno;
	return r;
}

/* Without O_CREAT: the kernel refuses that for other people's files and fifos in /tmp, even if they exist. */
static int write_in_place(const char *path, const void *data, size_t len)
{
	cleanup_close int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	return close_written(&fd, io_write_all(fd, data, len));
}

/* Creates a temporary file beside `path`; its name goes into ret_name. */
static int open_temp(const char *path, char ret_name[PATH_MAX])
{
	char name[PATH_MAX];
	int dir = (int)dir_len(path);

	for (int i = 0; i < IO_TEMP_TRIES; i++) {
		int n = snprintf(name, sizeof(name), "%.*s.memwatch-%ld-%d.tmp", dir, path, (long)getpid(), i);
		int fd;

		if (n < 0 || (size_t)n >= sizeof(name))
			return -ENAMETOOLONG;
		fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0) {
			strcpy(ret_name, name);
			return fd;
		}
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* Whether an error of the temporary file or of the rename leaves writing the file itself as a way: a directory that
 * may not be written, a sticky one, a file that is a mount point of its own. */
static bool in_place_may_work(int code)
{
	return code == EACCES || code == EPERM || code == EROFS || code == EBUSY || code == EXDEV ||
	       code == ENAMETOOLONG || code == EEXIST;
}

/* Writes a file that is then renamed to `path`. `old` is NULL where `path` does not exist. */
static int replace_file(const char *path, const struct stat *old, const void *data, size_t len)
{
	char temp[PATH_MAX];
	cleanup_close int fd = open_temp(path, temp);
	int r = 0;

	if (fd < 0)
		return fd;
	/* a report that was made private stays private, from the first byte on */
	if (old && fchmod(fd, old->st_mode & 0777) < 0)
		r = -errno;
	if (r == 0)
		r = io_write_all(fd, data, len);
	r = close_written(&fd, r);
	if (r == 0 && rename(temp, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(temp);
	return r;
}

static int write_regular(const char *path, const struct stat *old, const void *data, size_t len)
{
	char file[PATH_MAX];
	int r = resolve_links(path, file);

	if (r < 0)
		return r;
	r = replace_file(file, old, data, len);
	if (r < 0 && old && in_place_may_work(-r))
		r = write_in_place(file, data, len);
	return r;
}

int io_write_file(const char *path, const void *data, size_t len, struct err *err)
{
	struct stat st;
	int fd = path_fd(path);
	int r;

	if (fd >= 0)
		r = io_write_all(fd, data, len);
	else if (stat(path, &st) < 0)
		r = errno == ENOENT ? write_regular(path, NULL, data, len) : -errno;
	else if (S_ISDIR(st.st_mode))
		r = -EISDIR;
	else if (!S_ISREG(st.st_mode))
		r = write_in_place(path, data, len);
	else if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
		r = -errno; /* rename() would replace a write-protected file all the same */
	else
		r = write_regular(path, &st, data, len);
	return r < 0 ? refuse(err, path, -r) : 0;
}

/* Whether a file can be created at `path`, which does not exist. */
static int check_creatable(const char *path, struct err *err)
{
	char dir[PATH_MAX];
	size_t len;
	int r = resolve_links(path, dir);

	if (r < 0)
		return refuse(err, path, -r);
	len = dir_len(dir);
	if (dir[len] == '\0')
		return refuse(err, path, len > 0 ? EISDIR : ENOENT);
	if (strlen(dir + len) > NAME_MAX)
		return refuse(err, path, ENAMETOOLONG);
	strcpy(dir + len, len > 0 ? "" : ".");
	if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS) == 0)
		return 0;
	if (errno == ENOENT)
		return err_set(err, ENOENT, "cannot write '%s': directory '%s' does not exist", path, dir);
	if (errno == EACCES || errno == EROFS)
		return err_set(err, errno, "cannot write '%s': directory '%s' is not writable", path, dir);
	return refuse(err, path, errno);
}

int io_check_writable(const char *path, struct err *err)
{
	struct stat st;
	int fd = path_fd(path);

	if (fd >= 0) {
		int flags = fcntl(fd, F_GETFL);

		if (flags < 0)
			return refuse(err, path, errno);
		return (flags & O_ACCMODE) == O_RDONLY ? refuse(err, path, EBADF) : 0;
	}
	if (stat(path, &st) < 0)
		return errno == ENOENT ? check_creatable(path, err) : refuse(err, path, errno);
	if (S_ISDIR(st.st_mode))
		return refuse(err, path, EISDIR);
	if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
		return refuse(err, path, errno);
	return 0;
}
