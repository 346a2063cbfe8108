/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The strings by which people know a process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "memwatch/base/arena.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/base/clock.h"
#include "memwatch/proc.h"

#define CMDLINE_BYTES ((size_t)64 << 10) /* what a report may hold of it; longer ones are cut */

/* Reads at most CMDLINE_BYTES into the arena; *ret_len counts the NULs. */
static int read_cmdline(int dir_fd, struct arena *arena, char **ret, size_t *ret_len)
{
	cleanup_close int fd = openat(dir_fd, "cmdline", O_RDONLY | O_CLOEXEC);
	char chunk[4096];
	struct str text = STR_INIT;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	while (text.len < CMDLINE_BYTES && (n = read(fd, chunk, sizeof(chunk))) > 0)
		str_addn(&text, chunk, (size_t)n);
	n = n < 0 ? -errno : str_status(&text);
	/* A program that writes its title over its arguments leaves NULs behind it. */
	while (text.len && text.data[text.len - 1] == '\0')
		text.len--;
	if (n == 0) {
		*ret_len = text.len;
		*ret = arena_strndup(arena, "", 0);
		if (text.len)
			*ret = arena_memdup(arena, text.data, text.len + 1);
		if (*ret)
			(*ret)[text.len] = '\0';
	}
	str_deinit(&text);
	return n < 0 ? (int)n : *ret ? 0 : -ENOMEM;
}

static int split_cmdline(char *text, size_t len, struct arena *arena, const char ***ret, size_t *ret_count)
{
	size_t count = 0, i = 0;
	const char **args;

	for (size_t pos = 0; pos < len; pos += strlen(text + pos) + 1)
		count++;
	args = arena_array(arena, count + 1, sizeof(*args));
	if (!args)
		return -ENOMEM;
	for (size_t pos = 0; pos < len; pos += strlen(text + pos) + 1)
		args[i++] = text + pos;
	*ret = args;
	*ret_count = count;
	return 0;
}

static const char *read_exe(int dir_fd, struct arena *arena)
{
	char path[PATH_MAX];
	ssize_t n = readlinkat(dir_fd, "exe", path, sizeof(path));

	return n <= 0 ? NULL : arena_strndup(arena, path, (size_t)n);
}

static const char *read_cgroup_path(int dir_fd, struct arena *arena)
{
	cleanup_str struct str text = STR_INIT;
	char path[PATH_MAX];
	int version;

	if (files_read_str(dir_fd, "cgroup", &text) < 0 ||
	    parse_proc_cgroup(str_text(&text), text.len, &version, path, sizeof(path)) < 0 || version == 0)
		return NULL;
	return arena_strdup(arena, path);
}

/* Wall time of the start: now, less the age by the boot clock, in which the kernel counts start times. */
static int64_t start_wall_ns(const struct proc *p)
{
	uint64_t tick_ns = NS_PER_S / (uint64_t)p->ticks_per_s;

	return clock_wall_ns() - ((int64_t)clock_boot_ns() - (int64_t)(p->id.start_ticks * tick_ns));
}

int proc_read_identity(struct proc *p, struct arena *arena, struct target_info *ret)
{
	struct target_info info = { .id = p->id, .exit_code = -1, .peak_rss_bytes = UNKNOWN_U64 };
	struct status status;
	char *cmdline = NULL;
	size_t len = 0;
	int r;

	r = proc_read_status(p, &status);
	if (r == 0)
		r = read_cmdline(p->dir_fd, arena, &cmdline, &len);
	if (r == 0)
		r = split_cmdline(cmdline, len, arena, &info.cmdline, &info.cmdline_count);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	info.comm = arena_strdup(arena, status.name);
	if (!info.comm)
		return -ENOMEM;
	info.exe = read_exe(p->dir_fd, arena);
	info.cgroup = read_cgroup_path(p->dir_fd, arena);
	info.uid = status.uid;
	info.threads = status.threads;
	info.peak_rss_bytes = status.vm_hwm_bytes;
	info.start_wall_ns = start_wall_ns(p);
	*ret = info;
	return 0;
}
