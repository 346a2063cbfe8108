/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Targets that have confined themselves, or whose memory is shared with another process. site_guest [SECONDS] KIND: nobody (gives up root),
 * seccomp (killed by any call beyond a few), vfork (starts children by vfork all the time), clone_vm (a child with its memory and without
 * its threads). Leaks 256 KiB/s beside churn; checks its data and its children, and ends with status 0 and a line { "right": 1 } where all was right.
 */
#include "victim.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LEAK_BYTES 521
#define LEAK_RATE (256.0 * KIB)
#define NOBODY 65534
#define STACK_BYTES (256 * KIB)

struct kept {
	struct kept *next;
	unsigned char bytes[LEAK_BYTES - sizeof(void *)];
};

static struct kept *kept;
static struct churn churn;
static volatile int child_stop, child_rounds, child_wrong;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void keep(unsigned char value)
{
	struct kept *k = must(malloc(sizeof(*k)));

	memset(k->bytes, value, sizeof(k->bytes));
	k->next = kept;
	kept = k;
}

static bool kept_right(void)
{
	for (const struct kept *k = kept; k; k = k->next)
		for (size_t i = 1; i < sizeof(k->bytes); i++)
			if (k->bytes[i] != k->bytes[0])
				return false;
	return true;
}

static bool become_nobody(void)
{
	return setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

static bool confine(void)
{
	static const int allowed[] = {
		SYS_read,   SYS_write,      SYS_futex,  SYS_clock_nanosleep, SYS_nanosleep,
		SYS_brk,    SYS_mmap,       SYS_munmap, SYS_mremap,          SYS_clock_gettime,
		SYS_getpid, SYS_exit_group, SYS_exit,   SYS_newfstatat,      SYS_restart_syscall
	};
	struct sock_filter code[2 * sizeof(allowed) / sizeof(*allowed) + 2];
	struct sock_fprog program = { 0, code };

	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < sizeof(allowed) / sizeof(*allowed); i++) {
		code[program.len++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)allowed[i], 0, 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static bool vfork_right(void)
{
	int status = -1;
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(9);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Shares memory, not the thread group: it computes and writes, and takes no memory (its libc state would be the parent's). */
static int share_memory(void *arg)
{
	volatile unsigned char *page = arg;

	while (!child_stop) {
		for (unsigned int i = 0; i < 4096; i++)
			page[i] = (unsigned char)(i + (unsigned int)child_rounds);
		for (unsigned int i = 0; i < 4096; i++)
			if (page[i] != (unsigned char)(i + (unsigned int)child_rounds))
				child_wrong = 1;
		child_rounds++;
		nap_ms(2);
	}
	return child_wrong;
}

static pid_t start_sharer(void)
{
	char *stack = must(malloc(STACK_BYTES));

	return clone(share_memory, stack + STACK_BYTES, CLONE_VM | SIGCHLD, must(malloc(4096)));
}

static bool sharer_right(pid_t pid)
{
	int status = -1;

	child_stop = 1;
	return waitpid(pid, &status, 0) == pid && status == 0 && child_rounds > 0;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 2 ? argv[2] : "nobody";
	double seconds = seconds_arg(argc, argv), start = now_s(), leaked = 0;
	bool right = true, vforks = strcmp(kind, "vfork") == 0;
	pid_t sharer = -1;

	if (strcmp(kind, "nobody") == 0)
		right = become_nobody();
	else if (strcmp(kind, "clone_vm") == 0)
		right = (sharer = start_sharer()) > 0;
	churn_fill(&churn, 4099);
	print_leak_truth("site_guest", "\"leak\"", "heap", "keep", LEAK_LINE, LEAK_RATE);
	if (strcmp(kind, "seccomp") == 0)
		right = confine();
	for (double now = start; right && now - start < seconds; now = now_s()) {
		churn_turn(&churn, 500);
		for (; leaked < (now - start) * LEAK_RATE; leaked += LEAK_BYTES)
			keep((unsigned char)(now - start));
		if (vforks)
			right = vfork_right();
		nap_ms(5);
	}
	right = right && kept_right() && (sharer < 0 || sharer_right(sharer));
	printf("{ \"right\": %d }\n", right);
	return right ? 0 : 1;
}
