/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "perf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "memwatch/base/io.h"

#define PARANOID_USER 2    /* highest kernel.perf_event_paranoid that lets users count their own processes */
#define CAP_PERFMON_BIT 38 /* linux/capability.h; CAP_SYS_ADMIN serves as well */
#define CAP_SYS_ADMIN_BIT 21

bool perf_privileged(void)
{
	char buf[4096];
	const char *line;
	uint64_t caps;

	if (io_read_at(AT_FDCWD, "/proc/self/status", buf, sizeof(buf)) <= 0)
		return false;
	line = strstr(buf, "\nCapEff:\t");
	caps = line ? strtoull(line + 9, NULL, 16) : 0;
	return caps & ((1ULL << CAP_PERFMON_BIT) | (1ULL << CAP_SYS_ADMIN_BIT));
}

long perf_paranoid(void)
{
	char buf[32];

	if (io_read_at(AT_FDCWD, "/proc/sys/kernel/perf_event_paranoid", buf, sizeof(buf)) <= 0)
		return -1;
	return strtol(buf, NULL, 10);
}

static int explain_refused(pid_t pid, int code, const char *what, struct err *err)
{
	long paranoid = perf_paranoid();

	if (paranoid > PARANOID_USER && !perf_privileged())
		return err_set(err, code,
			       "%s: kernel.perf_event_paranoid is %ld, which refuses perf to users; "
			       "sysctl kernel.perf_event_paranoid=%d, or run memwatch as root or with CAP_PERFMON",
			       what, paranoid, PARANOID_USER);
	return err_set(err, code,
		       "%s: perf_event_open is refused for process %d, by a seccomp filter (of a "
		       "container) or because the process is not yours; allow perf_event_open there, or run memwatch "
		       "as root outside of it",
		       what, (int)pid);
}

int perf_explain(pid_t pid, int code, const char *what, struct err *err)
{
	switch (code) {
	case EACCES:
	case EPERM:
		return explain_refused(pid, code, what, err);
	case EMFILE:
	case ENFILE:
		return err_set(err, code,
			       "%s: a descriptor for each thread is needed, and there are too few; raise 'ulimit -n'",
			       what);
	case ESRCH:
		return err_set(err, code, "no process with pid %d", (int)pid);
	case ENOMEM:
		return err_set(err, code, "out of memory");
	default:
		return err_set(err, code, "%s: %s", what, strerror(code));
	}
}

uint64_t perf_allow_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	if (limit.rlim_cur < limit.rlim_max) {
		struct rlimit raised = { limit.rlim_max, limit.rlim_max };

		if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
			return raised.rlim_cur;
	}
	return limit.rlim_cur;
}

bool perf_has_newborn(const struct thread_list *before, const struct thread_list *after)
{
	size_t k = 0;

	for (size_t i = 0; i < after->count; i++) {
		while (k < before->count && before->entries[k].tid != after->entries[i].tid)
			k++;
		if (k++ >= before->count)
			return true;
	}
	return false;
}
