/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Heap walks of a still target: speed, time, and the walker's own memory.
 *
 *     bench_heap [MEBIBYTES]     default 1024
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/heap.h"

#define WALKS 9

struct target {
	pid_t pid;
	int in, proc_fd;
};

static int target_start(struct target *t, const char *mebibytes, const char *least, const char *most)
{
	const char *dir = getenv("MEMWATCH_VICTIMS");
	int in[2], out[2];
	char path[512], line[1024];

	snprintf(path, sizeof(path), "%s/heap_big", dir ? dir : "build/test/victims");
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		return -1;
	t->pid = fork();
	if (t->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(path, path, mebibytes, least, most, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	t->in = in[1];
	if (t->pid < 0 || read(out[0], line, sizeof(line)) <= 0)
		return -1;
	close(out[0]);
	snprintf(path, sizeof(path), "/proc/%d", (int)t->pid);
	t->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return t->proc_fd < 0 ? -1 : 0;
}

static long peak_kb(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : usage.ru_maxrss;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int measure(struct mem *mem, const char *name)
{
	const struct heap_walk_options options = { .size_classes = true };
	uint64_t times[WALKS], begun = clock_now_ns(), probe_ns, room_ns;
	struct heap_walker *w = NULL;
	struct heap_headroom room;
	struct heap_stats s;
	struct arena arena;
	long before = peak_kb();

	if (heap_probe(mem, &w, NULL) != 1)
		return -1;
	probe_ns = clock_now_ns() - begun;
	arena_init(&arena, 65536, 0);
	for (size_t i = 0; i < WALKS; i++) {
		if (heap_walk(w, mem, &options, &arena, &s) < 0)
			return -1;
		times[i] = s.walk_ns;
	}
	qsort(times, WALKS, sizeof(times[0]), by_value);
	begun = clock_now_ns();
	for (int i = 0; i < 100; i++)
		if (heap_headroom(w, mem, &room) < 0)
			return -1;
	room_ns = (clock_now_ns() - begun) / 100;
	printf("%-28s %8.1f MiB %9" PRIu64
	       " blocks  median %7.2f ms %6.2f GB/s  best %7.2f ms  probe %.2f ms  headroom %.1f us  "
	       "+%ld kB\n",
	       name, (double)s.walked_bytes / 1048576, s.in_use_blocks, (double)times[WALKS / 2] / 1e6,
	       (double)s.walked_bytes / (double)times[WALKS / 2], (double)times[0] / 1e6, (double)probe_ns / 1e6,
	       (double)room_ns / 1e3, peak_kb() - before);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	return 0;
}

int main(int argc, char **argv)
{
	static const char *const cases[][3] = {
		{ "64 to 512 bytes", "64", "512" },
		{ "16 to 128 bytes", "16", "128" },
		{ "512 bytes to 16 KiB", "512", "16384" },
		{ "64 KiB to 256 KiB", "65536", "262144" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = ERR_INIT;
		struct mem *mem = NULL;
		struct target t;

		if (target_start(&t, argc > 1 ? argv[1] : "1024", cases[i][1], cases[i][2]) < 0 ||
		    mem_live_create(t.pid, t.proc_fd, &mem, &err) < 0 || measure(mem, cases[i][0]) < 0) {
			fprintf(stderr, "bench_heap: no figures: %s\n", err.msg);
			return 1;
		}
		mem_destroy(mem);
		close(t.proc_fd);
		close(t.in);
		waitpid(t.pid, NULL, 0);
	}
	return 0;
}
