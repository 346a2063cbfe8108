/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A tree: an idle child, a child named "leaker" that leaks 1 MiB/s, a program by vfork and exec, and a daemon by double fork whose
 * parent is gone. The truth names the pids. fork_tree [SECONDS]
 */
#include "victim.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#define LEAK_BYTES 4099
#define LEAK_RATE (double)MIB

static double seconds;
static void **leaked_blocks;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void child_leak(void)
{
	void **block = must(malloc(LEAK_BYTES));

	memset(block, 1, LEAK_BYTES);
	*block = leaked_blocks;
	leaked_blocks = block;
}

static pid_t start_child(const char *name, double rate)
{
	pid_t pid = fork();
	double start = now_s(), leaked = 0;

	if (pid != 0)
		return pid;
	prctl(PR_SET_NAME, name);
	while (now_s() - start < seconds) {
		for (; leaked < (now_s() - start) * rate; leaked += LEAK_BYTES)
			child_leak();
		nap_ms(10);
	}
	_exit(0);
}

static pid_t start_program(char *seconds_text)
{
	char *argv[] = { "sleep", seconds_text, NULL };
	pid_t pid = vfork();

	if (pid == 0) {
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static pid_t start_daemon(void)
{
	int ends[2];
	pid_t middle, daemon = -1;

	if (pipe(ends) != 0)
		return -1;
	middle = fork();
	if (middle == 0) {
		setsid();
		daemon = start_child("daemon", 0);
		_exit(write(ends[1], &daemon, sizeof(daemon)) == sizeof(daemon) ? 0 : 1);
	}
	close(ends[1]);
	if (read(ends[0], &daemon, sizeof(daemon)) != sizeof(daemon))
		daemon = -1;
	close(ends[0]);
	waitpid(middle, NULL, 0);
	return daemon;
}

int main(int argc, char **argv)
{
	char details[256], seconds_text[32];
	pid_t idle, leaker, program, daemon;

	seconds = seconds_arg(argc, argv);
	snprintf(seconds_text, sizeof(seconds_text), "%.3f", seconds);
	idle = start_child("idle", 0);
	leaker = start_child("leaker", LEAK_RATE);
	program = start_program(seconds_text);
	daemon = start_daemon();
	snprintf(details, sizeof(details),
		 ", \"function\": \"child_leak\", \"line\": %d, \"idle\": %d, \"leaker\": %d, \"program\": %d, "
		 "\"daemon\": %d",
		 LEAK_LINE, idle, leaker, program, daemon);
	print_truth("fork_tree", "\"stable\"", details);
	while (waitpid(-1, NULL, 0) > 0)
		;
	return 0;
}
