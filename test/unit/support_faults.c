/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_faults.h"
#include "support_stack.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAMES_MAX 64

static void await_answer(struct stepper *s)
{
	char c = 0;

	ck_assert_int_eq(read(s->from, &c, 1), 1);
	ck_assert_int_eq(c, 'r');
}

void stepper_start(struct stepper *s, const char *victim)
{
	struct symbols_options options = { .debuginfod = false };
	struct err err = ERR_INIT;
	int in[2], out[2];
	char path[256];

	memset(s, 0, sizeof(*s));
	victim_path(victim, path, sizeof(path));
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	s->pid = fork();
	ck_assert_int_ge(s->pid, 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execl(path, path, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	s->to = in[1];
	s->from = out[0];
	await_answer(s);
	snprintf(path, sizeof(path), "/proc/%d", (int)s->pid);
	s->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(s->proc_fd, 0);
	ck_assert_msg(mem_live_create(s->pid, s->proc_fd, &s->mem, &err) == 0, "%s", err.msg);
	options.pid = s->pid;
	options.proc_fd = s->proc_fd;
	ck_assert_int_eq(symbols_create(&options, &s->symbols), 0);
	ck_assert_int_eq(symbols_update(s->symbols, s->mem), 0);
}

void stepper_step(struct stepper *s, char step)
{
	ck_assert_int_eq(write(s->to, &step, 1), 1);
	await_answer(s);
}

void stepper_end(struct stepper *s)
{
	symbols_destroy(s->symbols);
	mem_destroy(s->mem);
	close(s->proc_fd);
	close(s->to);
	close(s->from);
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
}

bool stack_has(struct symbols *symbols, const struct unwind_stack *stack, const char *function)
{
	struct frame frames[FRAMES_MAX];

	for (size_t i = 0; i < stack->count; i++) {
		size_t n = symbols_resolve(symbols, stack->pcs[i], i > 0, frames, FRAMES_MAX);

		for (size_t k = 0; k < n; k++)
			if (strcmp(frames[k].function, function) == 0)
				return true;
	}
	return false;
}
