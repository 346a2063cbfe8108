/* SPDX-License-Identifier: GPL-3.0-or-later */
/* cgroup text, and mount lines: a resolved directory never leaves its mount. */
#include <stdlib.h>
#include <string.h>

#include "../../src/proc/cgroup.h"
#include "memwatch/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_resolved(const struct cgroup_mount *m, const char *path)
{
	char dir[PATH_MAX];

	if (cgroup_mount_resolve(m, path, dir, sizeof(dir)) < 0)
		return;
	if (strncmp(dir, m->point, strlen(m->point)) != 0 || strstr(dir + strlen(m->point), "/../"))
		abort();
}

static void check_mounts(const char *text, size_t size, const char *path)
{
	static struct cgroup_mount mount;

	while (size) {
		const char *end = memchr(text, '\n', size);
		size_t len = end ? (size_t)(end - text) : size;

		if (cgroup_mount_parse((struct text){ text, len }, &mount)) {
			check_resolved(&mount, path);
			check_resolved(&mount, "/a/../../b");
		}
		len += end != NULL;
		text += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct cgroup_memory memory;
	char path[128] = "/a/b";
	struct psi psi;
	uint64_t number;
	int version = 0;

	if (parse_proc_cgroup(text, size, &version, path, sizeof(path)) == 0 && version && path[0] != '/')
		abort();
	check_mounts(text, size, path);
	if (parse_memory_stat(text, size, &memory) == 0 && memory.usage_bytes != UNKNOWN_U64)
		abort();
	if (parse_cgroup_number(text, size, &number) == 0 && size == 0)
		abort();
	if (parse_psi(text, size, &psi) == 0 && psi.some_avg10 < 0)
		abort();
	if (cgroup_flat_value(text, size, "oom_kill", &number) && size < 10)
		abort();
	return 0;
}
