/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trace_internal.h"
#include "arch/arch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"

#define CAP_SYS_PTRACE_BIT 19
#define SELF_TEST_WAIT_NS (2 * NS_PER_S)

struct standing_facts {
	unsigned int uid[3]; /* real, effective, saved */
	int tracer, seccomp;
	unsigned long long capabilities;
	char kernel_thread, state;
};

static bool read_facts(const char *path, struct standing_facts *ret)
{
	struct standing_facts f = { .seccomp = -1 };
	char buf[4096];
	const char *line;
	int value;

	if (io_read_at(AT_FDCWD, path, buf, sizeof(buf)) <= 0)
		return false;
	line = strstr(buf, "\nState:\t");
	if (line)
		f.state = line[8];
	line = strstr(buf, "\nTracerPid:\t");
	if (line)
		f.tracer = atoi(line + 12);
	line = strstr(buf, "\nUid:\t");
	if (!line || sscanf(line + 6, "%u %u %u", &f.uid[0], &f.uid[1], &f.uid[2]) != 3)
		return false;
	line = strstr(buf, "\nCapEff:\t");
	if (line)
		f.capabilities = strtoull(line + 9, NULL, 16);
	line = strstr(buf, "\nSeccomp:\t");
	if (line)
		f.seccomp = atoi(line + 10);
	f.kernel_thread = strstr(buf, "\nVmSize:\t") == NULL;
	line = strstr(buf, "\nKthread:\t");
	if (line && sscanf(line + 10, "%d", &value) == 1)
		f.kernel_thread = value == 1;
	*ret = f;
	return true;
}

static int yama_scope(void)
{
	char buf[16];

	if (io_read_at(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", buf, sizeof(buf)) <= 0)
		return -1;
	return atoi(buf);
}

static void explain_tracer(pid_t pid, int tracer, struct err *err)
{
	char path[64], comm[64] = "?";
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/comm", tracer);
	len = io_read_at(AT_FDCWD, path, comm, sizeof(comm));
	if (len > 0)
		comm[strcspn(comm, "\n")] = '\0';
	err_set(err, EPERM,
		"process %d is traced already by process %d '%s' and can have one tracer only; end that one first",
		(int)pid, tracer, comm);
}

static void explain_yama(pid_t pid, int scope, struct err *err)
{
	const char *remedy = "run as root, or set kernel.yama.ptrace_scope=0, or start the program with 'memwatch run'";

	if (scope == 2)
		remedy = "run as root or with CAP_SYS_PTRACE";
	if (scope >= 3)
		remedy = "it can only be lifted by a reboot";
	err_set(err, EPERM, "ptrace of process %d is refused by Yama (kernel.yama.ptrace_scope is %d); %s", (int)pid,
		scope, remedy);
}

/* The owner of /proc/PID is root where the process is not dumpable, whoever runs it. */
static bool is_dumpable(pid_t pid, unsigned int euid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	return stat(path, &st) < 0 || st.st_uid == euid;
}

/* One thread may be traced where the leader is not. */
static int find_tracer(pid_t pid, const struct standing_facts *target)
{
	struct thread_list l __attribute__((cleanup(thread_list_deinit))) = THREAD_LIST_INIT;
	struct standing_facts f;
	char path[64];

	if (target->tracer > 0 && target->tracer != getpid())
		return target->tracer;
	if (thread_list_read(&l, pid) < 0)
		return 0;
	for (size_t i = 0; i < l.count; i++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)pid, (int)l.entries[i].tid);
		if (read_facts(path, &f) && f.tracer > 0 && f.tracer != getpid())
			return f.tracer;
	}
	return 0;
}

void trace_explain_refusal(pid_t pid, struct err *err)
{
	struct standing_facts me = { .seccomp = -1 }, it;
	int scope = yama_scope(), tracer;
	char path[64];
	bool capable;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (!read_facts("/proc/self/status", &me) || !read_facts(path, &it)) {
		err_set(err, ESRCH, "process %d has ended or is hidden (/proc mounted with hidepid?)", (int)pid);
		return;
	}
	capable = me.capabilities & (1ULL << CAP_SYS_PTRACE_BIT);
	tracer = find_tracer(pid, &it);
	if (pid == getpid())
		err_set(err, EPERM, "process %d is memwatch itself; name another one", (int)pid);
	else if (it.state == 'Z')
		err_set(err, EPERM, "process %d has ended (a zombie): it has no memory left", (int)pid);
	else if (it.kernel_thread)
		err_set(err, EPERM, "process %d is a kernel thread: it has no memory of its own", (int)pid);
	else if (tracer > 0)
		explain_tracer(pid, tracer, err);
	else if (scope >= 3 || (scope == 2 && !capable))
		explain_yama(pid, scope, err);
	else if (!capable && (it.uid[0] != me.uid[1] || it.uid[1] != me.uid[1] || it.uid[2] != me.uid[1]))
		err_set(err, EPERM,
			"process %d belongs to user %u, memwatch runs as user %u; run as that user or as root",
			(int)pid, it.uid[1], me.uid[1]);
	else if (!capable && scope == 1)
		explain_yama(pid, scope, err);
	else if (!capable && !is_dumpable(pid, it.uid[1]))
		err_set(err, EPERM,
			"process %d is not dumpable (a set-uid program or prctl(PR_SET_DUMPABLE)); "
			"run as root or with CAP_SYS_PTRACE",
			(int)pid);
	else if (me.seccomp == 2)
		err_set(err, EPERM,
			"ptrace of process %d is refused, probably by the seccomp filter memwatch runs under; "
			"in a container add --cap-add=SYS_PTRACE or run memwatch on the host",
			(int)pid);
	else if (capable)
		err_set(err, EPERM,
			"ptrace of process %d is refused although CAP_SYS_PTRACE is there: "
			"the process is in another user namespace or protected by a security module "
			"(SELinux, AppArmor); run memwatch outside the container",
			(int)pid);
	else
		err_set(err, EPERM,
			"ptrace of process %d is refused: it has capabilities that memwatch has not, "
			"or a security module protects it; run as root or with CAP_SYS_PTRACE",
			(int)pid);
}

/* The stopped child's registers and a word of its memory. */
static int try_reading(pid_t pid, struct err *err)
{
	static const uint64_t marker = 0x6d656d7761746368;
	struct arch_state state;
	uint64_t copy = 0;
	struct iovec local = { &copy, sizeof(copy) }, remote = { (void *)(uintptr_t)&marker, sizeof(marker) };
	int r = arch_read(pid, &state);

	if (r < 0)
		return err_set(err, -r, "registers of a stopped thread cannot be read: %s", strerror(-r));
	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(copy) || copy != marker)
		return err_set(err, errno ? errno : EIO,
			       "memory of another process cannot be read (process_vm_readv): %s", strerror(errno));
	return 0;
}

static int try_stopping(struct tracer *t, pid_t pid, struct err *err)
{
	uint64_t until = clock_now_ns() + SELF_TEST_WAIT_NS;
	struct tracee *x;
	int r = tracer_seize(t, pid, pid, false, 0, &x);

	if (r == -ENOSYS)
		return err_set(err, ENOSYS, "this kernel has no ptrace, or a seccomp filter hides it");
	if (r < 0) {
		trace_explain_refusal(pid, err);
		return r;
	}
	tracer_interrupt(x);
	while ((r = tracee_poll(t, x)) == 0 && clock_now_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 50 * (long)NS_PER_US }, NULL);
	if (r < 0)
		return err_set(err, -r, "the child of the ptrace test ended early");
	if (r == 0)
		return err_set(err, ETIMEDOUT, "a thread that was interrupted by ptrace does not stop");
	r = try_reading(pid, err);
	tracee_answer(t, x);
	return r;
}

int trace_self_test(struct err *err)
{
	struct tracer *t;
	int r = tracer_create(&t);
	pid_t pid;

	if (r < 0)
		return err_set(err, -r, "out of memory");
	pid = fork();
	if (pid < 0) {
		r = err_set(err, errno, "cannot start a process: %s", strerror(errno));
		tracer_destroy(t);
		return r;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	r = try_stopping(t, pid, err);
	tracer_destroy(t);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
		;
	return r;
}
