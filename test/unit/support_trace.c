/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CASE_TIMEOUT_S 240

struct board *board;

void board_setup(void)
{
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(board, MAP_FAILED);
}

void board_teardown(void)
{
	munmap(board, sizeof(*board));
}

unsigned long board_sum(const atomic_ulong *values)
{
	unsigned long total = 0;

	for (int i = 0; i < RT_THREADS; i++)
		total += atomic_load(&values[i]);
	return total;
}

void short_sleep(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

char thread_state(pid_t pid, pid_t tid)
{
	char path[64], buf[512];
	const char *after;
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0)
		return 0;
	buf[len] = '\0';
	after = strrchr(buf, ')');
	return after ? after[2] : 0;
}

long status_field(pid_t pid, const char *name)
{
	char path[64], line[256];
	long value = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, strlen(name)) == 0)
			value = strtol(line + strlen(name), NULL, 10);
	if (f)
		fclose(f);
	return value;
}

/* ---- a target that is attached to in passing ---- */

void fixture_open(struct fixture *f, pid_t pid)
{
	struct err err = ERR_INIT;
	char path[64];

	f->pid = pid;
	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	f->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(tracer_create(&f->t), 0);
	ck_assert_msg(mem_live_create(pid, f->dir, &f->mem, &err) == 0, "%s", err.msg);
	arena_init(&f->arena, 0, 0);
}

void fixture_start(struct fixture *f, void (*body)(void), int threads)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		body();
		_exit(0);
	}
	await(atomic_load(&board->ready) >= threads);
	fixture_open(f, pid);
}

int fixture_capture(struct fixture *f, struct capture *ret, struct err *err)
{
	const struct capture_options o = { .deadline_ns = WAIT_NS };

	arena_reset(&f->arena);
	return tracer_capture(f->t, f->pid, f->mem, &o, &f->arena, ret, err);
}

void fixture_check_untraced(struct fixture *f)
{
	await(tracer_settle(f->t) == 0);
	ck_assert_int_eq(status_field(f->pid, "TracerPid:"), 0);
	await(thread_state(f->pid, f->pid) != 't' && thread_state(f->pid, f->pid) != 'T');
}

void fixture_close(struct fixture *f)
{
	tracer_destroy(f->t);
	mem_destroy(f->mem);
	arena_deinit(&f->arena);
	close(f->dir);
}

void fixture_finish(struct fixture *f)
{
	fixture_close(f);
	kill(f->pid, SIGKILL);
	while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* ---- a standing target ---- */

void let_go(struct tracer *t, pid_t tid)
{
	ck_assert_int_eq(tracer_resume(t, tid), 0);
}

struct trace_event next_event(struct tracer *t)
{
	struct trace_event e;

	for (uint64_t until = clock_now_ns() + WAIT_NS; clock_now_ns() < until; short_sleep()) {
		ck_assert_int_eq(tracer_next_event(t, &e), 0);
		if (e.type != TRACE_NONE)
			return e;
	}
	ck_abort_msg("no event");
}

pid_t spawn(struct tracer *t, bool follow, const char *const *argv)
{
	struct spawn_options o = { .argv = (char *const *)(uintptr_t)argv, .follow_children = follow };
	struct err err = ERR_INIT;
	pid_t pid = 0;

	ck_assert_msg(tracer_spawn(t, &o, &pid, &err) == 0, "%s", err.msg);
	return pid;
}

struct trace_event run_to(struct tracer *t, enum trace_event_type type)
{
	for (;;) {
		struct trace_event e = next_event(t);

		if (e.type == type)
			return e;
		ck_assert_int_ne(e.type, TRACE_ENDED);
		ck_assert_int_eq(tracer_resume(t, e.tid), 0);
	}
}

/* ---- bodies ---- */

__attribute__((noinline)) void spin_with_marker(void)
{
	volatile uint64_t marker[4] = { MARKER, ~MARKER, MARKER, 1 };

	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->stop))
		marker[3]++;
	__asm__ volatile("" ::"r"(marker) : "memory");
}

static void *spin_thread(void *arg)
{
	(void)arg;
	spin_with_marker();
	return NULL;
}

void spinners(void)
{
	pthread_t id;

	for (int i = 0; i < 3; i++)
		pthread_create(&id, NULL, spin_thread, NULL);
	spin_with_marker();
}

bool slice_has_marker(const struct thread_stack *s)
{
	const uint64_t want[2] = { MARKER, ~MARKER };

	return memmem(s->slice, s->slice_len, want, sizeof(want)) != NULL;
}

static void on_numbered(int sig, siginfo_t *info, void *context)
{
	int index = info->si_value.sival_int >> 20;
	unsigned long number = (unsigned long)(info->si_value.sival_int & 0xfffff);

	(void)sig;
	(void)context;
	if (number != atomic_load(&board->got[index]) + 1)
		atomic_fetch_add(&board->wrong, 1);
	atomic_store(&board->got[index], number);
}

static void *count_rounds(void *arg)
{
	(void)arg;
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->quit)) {
		atomic_fetch_add(&board->rounds, 1);
		if (arg)
			nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
	}
	return NULL;
}

/* A thread that ends takes no more signals: first all of them must arrive; those that were lost never do. */
static void await_arrivals(void)
{
	uint64_t until = clock_now_ns() + WAIT_NS;

	while (board_sum(board->sent) != board_sum(board->got) && clock_now_ns() < until)
		short_sleep();
}

/* Numbered real-time signals to each of the threads, most of which sleep and some of which spin. */
void signalled(void)
{
	struct sigaction action = { .sa_sigaction = on_numbered, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct itimerval every = { { 0, 1000 }, { 0, 1000 } };
	pthread_t ids[RT_THREADS];

	sigaction(SIGRTMIN, &action, NULL);
	signal(SIGALRM, SIG_IGN);
	setitimer(ITIMER_REAL, &every, NULL);
	for (intptr_t i = 0; i < RT_THREADS; i++)
		pthread_create(&ids[i], NULL, count_rounds, (void *)(i % 4));
	while (!atomic_load(&board->stop)) {
		for (int i = 0; i < RT_THREADS; i++) {
			unsigned long n = atomic_load(&board->sent[i]);

			if (n - atomic_load(&board->got[i]) < 4 &&
			    pthread_sigqueue(ids[i], SIGRTMIN,
					     (union sigval){ .sival_int = (i << 20) | (int)(n + 1) }) == 0)
				atomic_store(&board->sent[i], n + 1);
		}
		sched_yield();
	}
	await_arrivals();
	atomic_store(&board->quit, true);
	for (int i = 0; i < RT_THREADS; i++)
		pthread_join(ids[i], NULL);
}

static void *return_at_once(void *arg)
{
	return arg;
}

void restless(void)
{
	atomic_store(&board->ready, 1);
	while (!atomic_load(&board->stop)) {
		pthread_t id[8];
		pid_t child = fork();

		if (child == 0)
			execl("/bin/true", "true", (char *)NULL);
		for (int i = 0; i < 8; i++)
			if (pthread_create(&id[i], NULL, return_at_once, NULL) != 0)
				_exit(3);
		for (int i = 0; i < 8; i++)
			pthread_join(id[i], NULL);
		if (child > 0 && (waitpid(child, NULL, 0) != child))
			atomic_fetch_add(&board->wrong, 1);
		atomic_fetch_add(&board->rounds, 1);
	}
	_exit(6);
}

/* ---- main ---- */

int trace_test_main(const struct trace_test *suite, int argc, char **argv)
{
	SRunner *sr;
	TCase *tc;
	Suite *s;
	int failures;

	if (argc > 1)
		return suite->victim ? suite->victim(argc, argv) : 1;
	tc = tcase_create(suite->name);
	s = suite_create(suite->name);
	tcase_set_timeout(tc, CASE_TIMEOUT_S);
	tcase_add_checked_fixture(tc, board_setup, board_teardown);
	for (size_t i = 0; i < suite->count; i++)
		tcase_add_test(tc, suite->tests[i]);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
