/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memwatch/base/io.h"
#include "memwatch/proc.h"

static bool has_ptrace_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[CAP_TO_INDEX(CAP_SYS_PTRACE)].effective & CAP_TO_MASK(CAP_SYS_PTRACE);
}

static int yama_scope(void)
{
	char buf[16];

	return io_read_at(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", buf, sizeof(buf)) <= 0 ? -1 : atoi(buf);
}

/* Where the link cannot be read, nothing is claimed. */
static bool is_other_userns(int proc_fd)
{
	char ours[64] = "", theirs[64] = "";

	if (readlinkat(proc_fd, "ns/user", theirs, sizeof(theirs) - 1) <= 0 ||
	    readlink("/proc/self/ns/user", ours, sizeof(ours) - 1) <= 0)
		return false;
	return strcmp(ours, theirs) != 0;
}

void refusal_collect(pid_t pid, int proc_fd, struct refusal_facts *ret)
{
	cleanup_str struct str text = STR_INIT;
	cleanup_close int fd = openat(proc_fd, "status", O_RDONLY | O_CLOEXEC);
	struct status status;
	struct stat st;

	*ret = (struct refusal_facts){ .pid = pid, .our_uid = getuid(), .uid = getuid(), .euid = getuid() };
	ret->proc_uid = getuid();
	/* Files, unlike the directory itself, belong to root where the process is not dumpable. */
	if (fstatat(proc_fd, "mem", &st, 0) == 0)
		ret->proc_uid = st.st_uid;
	if (fd >= 0 && io_read_all(fd, (size_t)1 << 20, &text) == 0 &&
	    parse_status(str_text(&text), text.len, &status) == 0) {
		ret->uid = status.uid;
		ret->euid = status.euid;
	}
	ret->yama_scope = yama_scope();
	ret->capable = has_ptrace_capability();
	ret->other_userns = is_other_userns(proc_fd);
}

static int explain_capable(const struct refusal_facts *f, struct err *err)
{
	int pid = (int)f->pid;

	if (f->yama_scope == 3)
		return err_set(err, EPERM,
			       "cannot read the memory of process %d: Yama forbids it to everyone "
			       "(/proc/sys/kernel/yama/ptrace_scope is 3) until the next boot",
			       pid);
	if (f->other_userns)
		return err_set(err, EPERM,
			       "cannot read the memory of process %d: it is in another user namespace, where our "
			       "CAP_SYS_PTRACE does not count; run memwatch in its namespace or on the host",
			       pid);
	return err_set(
		err, EPERM,
		"cannot read the memory of process %d: a security module (SELinux, AppArmor) or a seccomp filter "
		"refuses; allow ptrace read access in its policy (Docker: --cap-add SYS_PTRACE)",
		pid);
}

int refusal_explain(const struct refusal_facts *f, struct err *err)
{
	int pid = (int)f->pid;

	if (f->capable || f->yama_scope == 3)
		return explain_capable(f, err);
	if (f->uid != f->our_uid || f->euid != f->our_uid)
		return err_set(
			err, EPERM,
			"cannot read the memory of process %d: it belongs to uid %u and memwatch runs as uid %u; "
			"run memwatch as root or with CAP_SYS_PTRACE",
			pid, f->uid != f->our_uid ? f->uid : f->euid, f->our_uid);
	if (f->proc_uid != f->euid)
		return err_set(err, EPERM,
			       "cannot read the memory of process %d: it is not dumpable "
			       "(it gained privileges at exec, or asked for this with prctl); run memwatch as root or "
			       "with CAP_SYS_PTRACE",
			       pid);
	if (f->yama_scope == 2)
		return err_set(err, EPERM,
			       "cannot read the memory of process %d: Yama allows it to administrators only "
			       "(/proc/sys/kernel/yama/ptrace_scope is 2); run memwatch as root or with CAP_SYS_PTRACE",
			       pid);
	if (f->yama_scope == 1)
		return err_set(
			err, EPERM,
			"cannot read the memory of process %d: Yama allows it to parents only "
			"(/proc/sys/kernel/yama/ptrace_scope is 1); run memwatch as root or with CAP_SYS_PTRACE, start "
			"the program with 'memwatch run', or set ptrace_scope to 0",
			pid);
	return err_set(err, EPERM,
		       "cannot read the memory of process %d: missing CAP_SYS_PTRACE (the process has privileges that "
		       "memwatch lacks, or a security module refuses); run memwatch as root or with CAP_SYS_PTRACE",
		       pid);
}
