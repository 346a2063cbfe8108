/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_slots.h"

#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

void victim_open(struct victim *v)
{
	struct err err = ERR_INIT;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", (int)v->pid);
	v->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)v->pid);
	v->mem_fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(v->mem_fd, 0);
	ck_assert_msg(mem_live_create(v->pid, v->dir_fd, &v->mem, &err) == 0, "%s", err.msg);
}

struct victim victim_start(const char *name, const char *preload, bool traced)
{
	struct victim v = { .pid = 0 };
	int in[2], out[2];
	char path[256];

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	snprintf(path, sizeof(path), SLOTS_VICTIMS "%s", name);
	v.pid = fork();
	ck_assert_int_ge(v.pid, 0);
	if (v.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		if (preload)
			setenv("LD_PRELOAD", preload, 1);
		if (traced)
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		execl(path, path, SLOTS_VICTIMS "slots_plugin", (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	v.to = in[1];
	v.from = fdopen(out[0], "r");
	return v;
}

void victim_listen(struct victim *v)
{
	char line[128], name[64];
	uint64_t address;

	for (;;) {
		ck_assert_ptr_nonnull(fgets(line, sizeof(line), v->from));
		if (sscanf(line, "real %63s %" SCNx64, name, &address) == 2)
			v->real[slots_name_find(name)] = address;
		else
			break;
	}
	ck_assert_int_eq(strncmp(line, "ready", 5), 0);
	sscanf(line, "ready %" SCNx64 " %" SCNx64, &v->count_malloc, &v->count_free);
}

struct victim victim_ready(const char *name, const char *preload)
{
	struct victim v = victim_start(name, preload, false);

	victim_listen(&v);
	victim_open(&v);
	return v;
}

void victim_end(struct victim *v)
{
	mem_destroy(v->mem);
	close(v->dir_fd);
	close(v->mem_fd);
	fclose(v->from);
	close(v->to);
	kill(v->pid, SIGKILL);
	waitpid(v->pid, NULL, 0);
}

void victim_command(struct victim *v, char c, int *ret_mallocs, int *ret_frees)
{
	char line[128];

	ck_assert_int_eq(write(v->to, &c, 1), 1);
	ck_assert_msg(fgets(line, sizeof(line), v->from) != NULL, "it ended at command %c", c);
	ck_assert_int_eq(sscanf(line, "%d %d", ret_mallocs, ret_frees), 2);
}

struct slot_set victim_slots(const struct victim *v)
{
	struct slot_set set = { .slots = NULL };
	struct err err = ERR_INIT;

	ck_assert_msg(slots_find(v->pid, v->mem, &set, &err) == 0, "%s", err.msg);
	return set;
}

void victim_put(const struct victim *v, uint64_t address, uint64_t value)
{
	ck_assert_int_eq(pwrite(v->mem_fd, &value, sizeof(value), (off_t)address), sizeof(value));
}

uint64_t victim_counter(const struct victim *v, uint32_t function)
{
	if (function == PROBE_MALLOC || function == PROBE_NEW || function == PROBE_NEW_ARRAY)
		return v->count_malloc;
	if (function == PROBE_FREE || function == PROBE_DELETE || function == PROBE_DELETE_ARRAY ||
	    function == PROBE_DELETE_SIZED)
		return v->count_free;
	return 0;
}

size_t victim_lead(const struct victim *v, const struct slot_set *set)
{
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++) {
		uint64_t counter = victim_counter(v, set->slots[i].function);

		if (counter)
			victim_put(v, set->slots[i].address, counter);
		count += counter != 0;
	}
	return count;
}
