/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Unwinds captured stacks of running programs by memwatch and by libdwfl: frames a second, and whether they agree.
 *
 *     bench_unwind [-n STACKS] [-v] [PID | COMMAND]...     default: 2,000 stacks of a Python program and of test victims
 *
 * A COMMAND is for the shell; it should be busy for half a minute. -v shows the stacks on which the two differ.
 * Stacks are taken over some seconds, then each unwinder goes through all of them: once cold, then for a second or more.
 */
#include <elfutils/libdwfl.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/mem.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"
#include "memwatch/unwind.h"

#define STACKS_MAX 100000
#define SLICE (60U << 10)
#define WARM_NS (1 * NS_PER_S)
#define TAKE_NS (20 * NS_PER_S)
#define PAUSE_NS 1500000 /* between captures: odd enough not to beat with the program */
#define SHOWN 5
#define REPORT_STACKS 20

static const char *const defaults[] = {
	"exec python3 -c 'import json\n"
	"def f(n):\n return sorted([json.loads(json.dumps({\"a\":[n]})) for i in range(9)], key=lambda d: str(d)) if n "
	"< 1 "
	"else f(n - 1)\nwhile True: f(20)'",
	"exec build/test/victims/unwind_cxx 40",
};

struct bench {
	pid_t pid;
	int dir;
	struct mem *mem;
	struct symbols *symbols;
	struct arena arena;
	struct thread_stack *stacks;
	size_t count, wanted;
	Dwfl *dwfl;
	size_t current; /* that libdwfl works on */
	struct unwind_stack theirs;
	bool verbose;
};

static void capture(struct bench *b)
{
	struct capture_options o = { .slice_bytes = SLICE, .fragile_too = true };
	uint64_t end = clock_now_ns() + TAKE_NS;
	struct err err = ERR_INIT;
	struct tracer *t;

	if (tracer_create(&t) < 0)
		return;
	while (b->count < b->wanted && clock_now_ns() < end) {
		struct arena arena;
		struct capture c;

		arena_init(&arena, 0, 0);
		if (tracer_capture(t, b->pid, b->mem, &o, &arena, &c, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			arena_deinit(&arena);
			break;
		}
		for (size_t i = 0; i < c.thread_count && b->count < b->wanted; i++) {
			struct thread_stack *s = &b->stacks[b->count];

			/* the same place again, asleep: one is enough */
			if (c.threads[i].condition != THREAD_CAPTURED || (!c.threads[i].was_running && b->count > 50))
				continue;
			*s = c.threads[i];
			s->slice = arena_memdup(&b->arena, s->slice, s->slice_len);
			b->count += s->slice != NULL;
		}
		arena_deinit(&arena);
		while (tracer_settle(t) > 0)
			;
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
	}
	tracer_destroy(t);
}

/* ---- libdwfl, over the same captures ---- */

static pid_t next_thread(Dwfl *dwfl, void *arg, void **thread_arg)
{
	struct bench *b = arg;

	(void)dwfl;
	if (*thread_arg)
		return 0;
	*thread_arg = b;
	return b->stacks[b->current].tid;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **thread_arg)
{
	(void)dwfl;
	(void)tid;
	*thread_arg = arg;
	return true;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *result, void *arg)
{
	struct bench *b = arg;
	const struct thread_stack *s = &b->stacks[b->current];
	uint64_t at = address - s->slice_address;

	(void)dwfl;
	if (address < s->slice_address || s->slice_len < 8 || at > s->slice_len - 8)
		return false;
	memcpy(result, s->slice + at, 8);
	return true;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
	struct bench *b = arg;
	const struct regs *r = &b->stacks[b->current].regs;
	Dwarf_Word values[17];

	for (size_t i = 0; i < 17; i++)
		values[i] = r->value[i];
	values[16] = r->pc;
	values[7] = r->sp;
	values[6] = r->fp;
	return dwfl_thread_state_registers(thread, 0, 17, values);
}

static int take_frame(Dwfl_Frame *frame, void *arg)
{
	struct bench *b = arg;
	struct unwind_stack *s = &b->theirs;
	Dwarf_Addr pc;
	bool activation;

	if (s->count == UNWIND_MAX_FRAMES || !dwfl_frame_pc(frame, &pc, &activation))
		return DWARF_CB_ABORT;
	s->pcs[s->count] = pc + (s->count && activation);
	s->count++;
	return DWARF_CB_OK;
}

static void unwind_theirs(struct bench *b, size_t index)
{
	b->current = index;
	b->theirs.count = 0;
	b->theirs.end =
		dwfl_getthread_frames(b->dwfl, b->stacks[index].tid, take_frame, b) == 0 ? FRAME_OK : FRAME_TRUNCATED;
}

static int open_dwfl(struct bench *b)
{
	static char *debug_path;
	static const Dwfl_Callbacks callbacks = { .find_elf = dwfl_linux_proc_find_elf,
						  .find_debuginfo = dwfl_standard_find_debuginfo,
						  .debuginfo_path = &debug_path };
	static const Dwfl_Thread_Callbacks threads = { .next_thread = next_thread,
						       .get_thread = get_thread,
						       .memory_read = read_word,
						       .set_initial_registers = set_registers };

	unsetenv("DEBUGINFOD_URLS");
	b->dwfl = dwfl_begin(&callbacks);
	if (!b->dwfl || dwfl_linux_proc_report(b->dwfl, b->pid) != 0 || dwfl_report_end(b->dwfl, NULL, NULL) != 0 ||
	    !dwfl_attach_state(b->dwfl, NULL, b->pid, &threads, b)) {
		fprintf(stderr, "libdwfl: %s\n", dwfl_errmsg(-1));
		return -1;
	}
	return 0;
}

/* ---- figures ---- */

static void show(struct bench *b, const struct unwind_stack *ours)
{
	const struct unwind_stack *theirs = &b->theirs;
	size_t n = ours->count > theirs->count ? ours->count : theirs->count;

	printf("  stack %zu: ours %zu frames (%s), theirs %zu (%s)\n", b->current, ours->count,
	       frame_note_names[ours->end], theirs->count, theirs->end == FRAME_OK ? "whole" : dwfl_errmsg(-1));
	for (size_t i = 0; i < n && i < 40; i++) {
		struct frame f;
		uint64_t a = i < ours->count ? ours->pcs[i] : 0, c = i < theirs->count ? theirs->pcs[i] : 0;

		memset(&f, 0, sizeof(f));
		(void)symbols_resolve(b->symbols, a ? a : c, i > 0, &f, 1);
		printf("    %c %2zu %16llx %16llx %s\n", a == c ? ' ' : '*', i, (unsigned long long)a,
		       (unsigned long long)c, f.function);
	}
}

/* libdwfl hands out what it found before it sees that no code is there: memwatch leaves such a last frame out. */
static bool last_is_no_code(const struct bench *b)
{
	const struct unwind_stack *s = &b->theirs;
	struct frame f;

	if (s->end == FRAME_OK || s->count < 2)
		return false;
	(void)symbols_resolve(b->symbols, s->pcs[s->count - 1], true, &f, 1);
	return f.note == FRAME_NO_MODULE;
}

static void compare(struct bench *b)
{
	size_t same = 0, no_code = 0, longer = 0, shorter = 0, differ = 0, whole = 0;

	for (size_t i = 0; i < b->count; i++) {
		struct unwind_stack ours;
		size_t n = 0;

		if (unwind_thread(b->symbols, &b->stacks[i], &ours) < 0)
			continue;
		unwind_theirs(b, i);
		whole += ours.end == FRAME_OK;
		while (n < ours.count && n < b->theirs.count && ours.pcs[n] == b->theirs.pcs[n])
			n++;
		if (n == ours.count && n == b->theirs.count) {
			same++;
			continue;
		}
		if (n == ours.count && n + 1 == b->theirs.count && last_is_no_code(b)) {
			no_code++;
			continue;
		}
		longer += n == b->theirs.count;
		shorter += n == ours.count;
		differ += n < ours.count && n < b->theirs.count;
		if (b->verbose && longer + shorter + differ <= SHOWN)
			show(b, &ours);
	}
	printf("  same frames %.2f %% of %zu stacks, and %.2f %% but for a last one of libdwfl's that is no code;\n"
	       "  else ours go further %zu, end sooner %zu, differ %zu; ours reach the outermost frame %.1f %%\n",
	       100.0 * (double)same / (double)b->count, b->count, 100.0 * (double)no_code / (double)b->count, longer,
	       shorter, differ, 100.0 * (double)whole / (double)b->count);
}

static double rate(struct bench *b, bool theirs, uint64_t at_least_ns, size_t *ret_frames)
{
	uint64_t start = clock_self_cpu_ns(), took; /* of one core: the program that was looked at is busy too */
	size_t frames = 0, rounds = 0;

	do {
		for (size_t i = 0; i < b->count; i++) {
			struct unwind_stack ours = { .count = 0 };

			if (theirs)
				unwind_theirs(b, i);
			else if (unwind_thread(b->symbols, &b->stacks[i], &ours) < 0)
				continue;
			frames += theirs ? b->theirs.count : ours.count;
		}
		rounds++;
		took = clock_self_cpu_ns() - start;
	} while (took < at_least_ns);
	*ret_frames = frames / rounds;
	return (double)frames * 1e9 / (double)took;
}

static void measure(struct bench *b)
{
	size_t frames;
	double cold = rate(b, false, 0, &frames), warm = rate(b, false, WARM_NS, &frames);
	double their_cold, theirs;

	printf("  %zu stacks, %.1f frames each\n", b->count, (double)frames / (double)b->count);
	their_cold = rate(b, true, 0, &frames);
	theirs = rate(b, true, WARM_NS, &frames);
	printf("  frames/s: memwatch %.2f M (first pass %.2f M), libdwfl %.2f M (first pass %.2f M)\n", warm / 1e6,
	       cold / 1e6, theirs / 1e6, their_cold / 1e6);
	compare(b);
}

static long peak_kib(void)
{
	char line[256];
	long kib = -1;
	FILE *file = fopen("/proc/self/status", "r");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "VmHWM: %ld", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib;
}

/* From nothing to the names, files and lines of so many stacks: as the first report needs them. */
static int first_report(struct bench *b)
{
	uint64_t start, cpu;
	size_t frames = 0, lines = 0;

	b->wanted = REPORT_STACKS;
	capture(b);
	start = clock_now_ns();
	cpu = clock_self_cpu_ns();
	if (symbols_update(b->symbols, b->mem) < 0)
		return 1;
	for (size_t i = 0; i < b->count; i++) {
		struct unwind_stack s;

		if (unwind_thread(b->symbols, &b->stacks[i], &s) < 0)
			continue;
		for (size_t k = 0; k < s.count; k++) {
			struct frame f[64];
			size_t n = symbols_resolve(b->symbols, s.pcs[k], k > 0, f, 64);

			frames += n;
			lines += n && f[0].file;
		}
	}
	(void)symbols_language(b->symbols);
	printf("  first report: %zu stacks, %zu frames, %zu with a line: %.3f s (CPU %.3f s), peak %.1f MiB\n",
	       b->count, frames, lines, (double)(clock_now_ns() - start) / 1e9,
	       (double)(clock_self_cpu_ns() - cpu) / 1e9, (double)peak_kib() / 1024);
	return fflush(stdout);
}

static int bench_pid(struct bench *b, bool report)
{
	struct symbols_options options = { .pid = b->pid };
	struct err err = ERR_INIT;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d", (int)b->pid);
	b->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	options.proc_fd = b->dir;
	if (b->dir < 0 || mem_live_create(b->pid, b->dir, &b->mem, &err) < 0) {
		fprintf(stderr, "process %d: %s\n", (int)b->pid, b->dir < 0 ? strerror(errno) : err.msg);
		return 1;
	}
	arena_init(&b->arena, 1U << 20, 0);
	b->count = 0;
	b->stacks = calloc(b->wanted > REPORT_STACKS ? b->wanted : REPORT_STACKS, sizeof(*b->stacks));
	if (!b->stacks || symbols_create(&options, &b->symbols) < 0)
		return 1;
	if (report)
		_exit(first_report(b));
	capture(b);
	if (b->count && symbols_update(b->symbols, b->mem) == 0 && open_dwfl(b) == 0)
		measure(b);
	dwfl_end(b->dwfl);
	b->dwfl = NULL;
	symbols_destroy(b->symbols);
	mem_destroy(b->mem);
	arena_deinit(&b->arena);
	free(b->stacks);
	close(b->dir);
	return b->count ? 0 : 1;
}

/* In a process of its own, whose memory is then that of the report. */
static int bench_both(struct bench *b)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (child == 0)
		_exit(bench_pid(b, true));
	if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
		return 1;
	return bench_pid(b, false);
}

static int bench_command(struct bench *b, const char *command)
{
	int r;

	b->pid = fork();
	if (b->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	nanosleep(&(struct timespec){ .tv_sec = 1 }, NULL); /* to be past its start; nothing depends on it */
	r = bench_both(b);
	kill(b->pid, SIGKILL);
	waitpid(b->pid, NULL, 0);
	return r;
}

int main(int argc, char **argv)
{
	struct bench b = { .wanted = 2000 };
	int option, failed = 0;

	while ((option = getopt(argc, argv, "n:v")) != -1) {
		if (option == 'n')
			b.wanted = strtoul(optarg, NULL, 10);
		else if (option == 'v')
			b.verbose = true;
		else
			return 2;
	}
	if (b.wanted < 1 || b.wanted > STACKS_MAX)
		return 2;
	if (optind == argc)
		for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]); i++) {
			printf("%.40s\n", defaults[i]);
			failed |= bench_command(&b, defaults[i]);
		}
	for (int i = optind; i < argc; i++) {
		char *end;

		printf("%.60s\n", argv[i]);
		b.pid = (pid_t)strtol(argv[i], &end, 10);
		failed |= *end ? bench_command(&b, argv[i]) : bench_both(&b);
	}
	return failed;
}
