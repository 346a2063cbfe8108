/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_stack.h"

#include <check.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

void victim_path(const char *name, char *buf, size_t cap)
{
	const char *dir = getenv("MEMWATCH_VICTIMS");

	snprintf(buf, cap, "%s/%s", dir ? dir : "build/test/victims", name);
}

static pid_t start(char *const *argv, int *ret_out)
{
	int out[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		execv(argv[0], argv);
		_exit(127);
	}
	close(out[1]);
	*ret_out = out[0];
	return pid;
}

void blocked_start(struct blocked *b, char *const *argv)
{
	struct symbols_options options = { .debuginfod = false };
	struct err err = ERR_INIT;
	char text[64] = "";
	int out;

	memset(b, 0, sizeof(*b));
	b->pid = start(argv, &out);
	ck_assert_msg(read(out, text, sizeof(text) - 1) > 0, "'%s' does not start", argv[0]);
	ck_assert_str_eq(text, "ready\n");
	close(out);
	snprintf(text, sizeof(text), "/proc/%d", (int)b->pid);
	b->proc_fd = open(text, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(b->proc_fd, 0);
	ck_assert_msg(mem_live_create(b->pid, b->proc_fd, &b->mem, &err) == 0, "%s", err.msg);
	options.pid = b->pid;
	options.proc_fd = b->proc_fd;
	ck_assert_int_eq(symbols_create(&options, &b->symbols), 0);
	ck_assert_int_eq(symbols_update(b->symbols, b->mem), 0);
}

void blocked_end(struct blocked *b)
{
	symbols_destroy(b->symbols);
	mem_destroy(b->mem);
	close(b->proc_fd);
	free(b->slice);
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
}

/* "ready" is printed just before pause(): the thread must be inside, or the chain is another. */
static void await_sleep(const struct blocked *b)
{
	char state = 0;

	while (state != 'S') {
		char text[512] = "";
		int fd = openat(b->proc_fd, "stat", O_RDONLY | O_CLOEXEC);

		ck_assert_int_gt(read(fd, text, sizeof(text) - 1), 0);
		close(fd);
		state = strrchr(text, ')')[2];
		ck_assert_int_ne(state, 'Z');
		sched_yield();
	}
}

void blocked_capture(struct blocked *b, size_t slice_bytes)
{
	struct thread_stack *t = &b->stack;
	struct user_regs_struct r;
	ssize_t n;
	int status;

	await_sleep(b);
	ck_assert_int_eq(ptrace(PTRACE_SEIZE, b->pid, NULL, NULL), 0);
	ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, b->pid, NULL, NULL), 0);
	ck_assert_int_eq(waitpid(b->pid, &status, 0), b->pid);
	ck_assert_int_eq(ptrace(PTRACE_GETREGS, b->pid, NULL, &r), 0);
	*t = (struct thread_stack){
		.tid = b->pid,
		.condition = THREAD_CAPTURED,
		.regs = { .value = { r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8, r.r9, r.r10, r.r11,
				     r.r12, r.r13, r.r14, r.r15, r.rip },
			  .count = 17,
			  .pc = r.rip,
			  .sp = r.rsp,
			  .fp = r.rbp },
		.slice_address = r.rsp - 128,
	};
	free(b->slice);
	b->slice = malloc(slice_bytes);
	n = mem_read(b->mem, t->slice_address, b->slice, slice_bytes);
	ck_assert_int_gt(n, 0);
	t->slice = b->slice;
	t->slice_len = (size_t)n;
	t->slice_full = t->slice_len < slice_bytes;
	ck_assert_int_eq(ptrace(PTRACE_DETACH, b->pid, NULL, NULL), 0);
}

size_t blocked_frames(struct blocked *b, struct frame *frames, size_t cap, enum frame_note *ret_end)
{
	static struct unwind_stack stack;
	size_t n = 0;

	ck_assert_int_eq(unwind_thread(b->symbols, &b->stack, &stack), 0);
	for (size_t i = 0; i < stack.count && n < cap; i++)
		n += symbols_resolve(b->symbols, stack.pcs[i], i > 0, frames + n, cap - n);
	*ret_end = stack.end;
	return n;
}

size_t frame_index(const struct frame *frames, size_t count, size_t from, const char *function)
{
	for (size_t i = from; i < count; i++)
		if (strcmp(frames[i].function, function) == 0)
			return i;
	for (size_t i = 0; i < count; i++)
		fprintf(stderr, "#%zu %s %s:%u [%s]\n", i, frames[i].function, frames[i].file ? frames[i].file : "-",
			frames[i].line, frames[i].module ? frames[i].module : "-");
	ck_abort_msg("no frame '%s'", function);
	return count;
}
