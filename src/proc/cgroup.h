/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pure parts of finding a cgroup's directory. */
#ifndef MEMWATCH_SRC_PROC_CGROUP_H
#define MEMWATCH_SRC_PROC_CGROUP_H

#include <limits.h>
#include <stdbool.h>

#include "memwatch/base/cleanup.h"
#include "text.h"

struct cgroup_mount {
	int version;          /* 1: of the memory controller; 2: unified */
	char root[PATH_MAX];  /* the cgroup that is mounted, as our cgroup namespace names it */
	char point[PATH_MAX]; /* where */
};

/* One line of /proc/self/mountinfo. false: some other mount. */
bool cgroup_mount_parse(struct text line, struct cgroup_mount *ret);

/*
 * Directory of cgroup `path` under mount m. -ENOENT where the mount does not show that cgroup: it lies beside the mounted
 * root, or outside of our cgroup namespace.
 */
must_check int cgroup_mount_resolve(const struct cgroup_mount *m, const char *path, char *ret, size_t cap);

/* "key number" lines (memory.events, memory.oom_control). */
bool cgroup_flat_value(const char *buf, size_t len, const char *key, uint64_t *ret);

#endif
