/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Listening for growth; and what is left when the tracer dies. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support_trace.h"

static bool was_noted(uint64_t start, uint64_t end)
{
	for (unsigned long i = 0; i < atomic_load(&board->growths); i++)
		if (atomic_load(&board->start[i]) == start && atomic_load(&board->end[i]) == end)
			return true;
	return false;
}

/*
 * The growers grow and shrink until they are told to stop, because nobody can tell them when the tracer has begun to listen; they
 * note what they got.
 */
static void note_growth(uintptr_t start, uintptr_t end)
{
	unsigned long n = atomic_load(&board->growths);

	if (n == GROWTHS || was_noted(start, end))
		return;
	atomic_store(&board->start[n], start);
	atomic_store(&board->end[n], end);
	atomic_store(&board->growths, n + 1);
}

static void *grow_brk(void *arg)
{
	(void)arg;
	atomic_store(&board->tid, gettid());
	atomic_store(&board->ready, 1);
	while (!atomic_load(&board->stop)) {
		uintptr_t start = (uintptr_t)sbrk(1 << 20);

		note_growth(start, (uintptr_t)sbrk(0));
		sbrk(-(1 << 20));
		short_sleep();
	}
	return NULL;
}

static void brk_grower(void)
{
	pthread_t id;

	pthread_create(&id, NULL, grow_brk, NULL);
	pthread_join(id, NULL);
}

static void *grow_mmap(void *arg)
{
	const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS;
	volatile uint64_t marker[2] = { MARKER, ~MARKER };

	(void)arg;
	atomic_store(&board->tid, gettid());
	atomic_store(&board->ready, 1);
	while (!atomic_load(&board->stop)) {
		void *small = mmap(NULL, 4096, protection, flags, -1, 0); /* too small to count */
		void *large = mmap(NULL, (3 << 20) - 5, protection, flags, -1, 0);

		note_growth((uintptr_t)large, (uintptr_t)large + (3 << 20));
		munmap(small, 4096);
		munmap(large, 3 << 20);
		short_sleep();
	}
	__asm__ volatile("" ::"r"(marker) : "memory");
	return NULL;
}

static void mmap_grower(void)
{
	pthread_t id;

	pthread_create(&id, NULL, grow_mmap, NULL);
	pthread_join(id, NULL);
}

START_TEST(catch_finds_heap_growth_and_its_thread)
{
	const struct catch_options o = {
		.deadline_ns = WAIT_NS, .max_calls = 100000, .max_events = 1, .min_bytes = 1 << 19
	};
	struct err err = ERR_INIT;
	struct catch_result r;
	struct fixture f;

	fixture_start(&f, brk_grower, 1);
	ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(r.event_count, 1);
	ck_assert_int_eq(r.events[0].call, GROWTH_BRK);
	ck_assert_int_eq(r.events[0].stack.tid, atomic_load(&board->tid));
	await(was_noted(r.events[0].start, r.events[0].end));
	ck_assert_uint_gt(r.events[0].stack.slice_len, 0);
	fixture_check_untraced(&f);
	fixture_finish(&f);
}
END_TEST

START_TEST(catch_finds_mapping_growth_exactly)
{
	const struct catch_options o = {
		.deadline_ns = WAIT_NS, .max_calls = 100000, .max_events = 1, .min_bytes = 65536
	};
	struct err err = ERR_INIT;
	struct catch_result r;
	struct fixture f;

	fixture_start(&f, mmap_grower, 1);
	ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(r.event_count, 1);
	ck_assert_int_eq(r.events[0].call, GROWTH_MMAP);
	ck_assert_int_eq(r.events[0].stack.tid, atomic_load(&board->tid));
	await(was_noted(r.events[0].start, r.events[0].end));
	ck_assert(slice_has_marker(&r.events[0].stack));
	ck_assert(r.events[0].stack.slice_full);
	ck_assert(!r.gave_up);
	fixture_check_untraced(&f);
	fixture_finish(&f);
}
END_TEST

static void *call_much(void *arg)
{
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->stop)) {
		getppid();
		atomic_fetch_add(&board->rounds, 1);
	}
	return arg;
}

static void heavy_caller(void)
{
	pthread_t id;

	pthread_create(&id, NULL, call_much, NULL);
	call_much(NULL);
}

START_TEST(catch_gives_up_after_its_calls)
{
	const struct catch_options o = { .deadline_ns = WAIT_NS, .max_calls = 500, .max_events = 4 };
	struct err err = ERR_INIT;
	struct catch_result r;
	struct fixture f;
	unsigned long rounds;

	fixture_start(&f, heavy_caller, 2);
	ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
	ck_assert(r.gave_up);
	ck_assert_uint_eq(r.event_count, 0);
	ck_assert_uint_ge(r.calls_seen, 500);
	ck_assert_uint_lt(r.calls_seen, 600);
	ck_assert_uint_lt(r.listened_ns, o.deadline_ns);
	ck_assert_uint_ge(r.stops, 1000);
	fixture_check_untraced(&f);
	rounds = atomic_load(&board->rounds);
	await(atomic_load(&board->rounds) > rounds + 1000);
	fixture_finish(&f);
}
END_TEST

START_TEST(catch_leaves_at_once_when_cancelled)
{
	volatile int cancel = 1;
	const struct catch_options o = {
		.deadline_ns = WAIT_NS, .max_calls = 1u << 30, .max_events = 4, .cancel = &cancel
	};
	struct err err = ERR_INIT;
	struct catch_result r;
	struct fixture f;

	fixture_start(&f, signalled, RT_THREADS);
	for (int i = 0; i < 20; i++) {
		ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
		ck_assert_uint_lt(r.listened_ns, o.deadline_ns);
	}
	fixture_check_untraced(&f);
	fixture_finish(&f);
}
END_TEST

START_TEST(catch_loses_no_signal)
{
	const struct catch_options o = { .deadline_ns = 30 * NS_PER_MS, .max_calls = 1u << 30, .max_events = 4 };
	struct err err = ERR_INIT;
	struct catch_result r;
	uint64_t until = clock_now_ns() + WAIT_NS, stops = 0;
	struct fixture f;
	int status;

	fixture_start(&f, signalled, RT_THREADS);
	for (int i = 0; i < 20 || (stops < 1000 && clock_now_ns() < until); i++) {
		ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
		stops += r.stops;
	}
	ck_assert_uint_ge(stops, 1000);
	fixture_check_untraced(&f);
	atomic_store(&board->stop, true);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	for (int i = 0; i < RT_THREADS; i++)
		ck_assert_uint_eq(atomic_load(&board->sent[i]), atomic_load(&board->got[i]));
	fixture_finish(&f);
}
END_TEST

START_TEST(catch_beside_births_and_forks)
{
	const struct catch_options o = {
		.deadline_ns = 50 * NS_PER_MS, .max_calls = 1u << 30, .max_events = 1000, .slice_bytes = 1024
	};
	struct err err = ERR_INIT;
	struct catch_result r;
	struct fixture f;
	unsigned long rounds;
	int status;

	fixture_start(&f, restless, 1);
	for (int i = 0; i < 10; i++) {
		arena_reset(&f.arena);
		ck_assert_msg(tracer_catch_growth(f.t, f.pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
		tracer_settle(f.t);
	}
	fixture_check_untraced(&f);
	rounds = atomic_load(&board->rounds);
	await(atomic_load(&board->rounds) > rounds + 3);
	atomic_store(&board->stop, true);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(WEXITSTATUS(status), 6);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	fixture_finish(&f);
}
END_TEST

START_TEST(catch_on_a_standing_process_gives_it_back)
{
	const char *argv[] = { "sh", "-c", "while :; do kill -0 $$; done", NULL };
	const struct catch_options o = { .deadline_ns = WAIT_NS, .max_calls = 50, .max_events = 4 };
	struct err err = ERR_INIT;
	struct catch_result r;
	struct trace_event e;
	struct fixture f;
	struct tracer *t;
	pid_t pid;

	ck_assert_int_eq(tracer_create(&t), 0);
	pid = spawn(t, false, argv);
	e = next_event(t);
	let_go(t, e.tid);
	fixture_open(&f, pid);
	for (int i = 0; i < 5; i++) {
		ck_assert_msg(tracer_catch_growth(t, pid, f.mem, &o, &f.arena, &r, &err) == 0, "%s", err.msg);
		ck_assert_uint_gt(r.calls_seen, 0);
	}
	ck_assert_int_eq(tracer_next_event(t, &e), 0);
	ck_assert_int_eq(e.type, TRACE_NONE);
	kill(pid, SIGTERM);
	e = next_event(t);
	ck_assert_int_eq(e.type, TRACE_EXIT_STOP);
	let_go(t, e.tid);
	ck_assert_int_eq(next_event(t).type, TRACE_ENDED);
	tracer_destroy(t);
	fixture_close(&f);
}
END_TEST

/* ---- the tracer's death ---- */

static void trace_for_ever(pid_t pid, bool catching)
{
	const struct catch_options o = { .deadline_ns = NS_PER_S, .max_calls = 1u << 30, .max_events = 8 };
	struct catch_result r;
	struct fixture f;
	struct capture c;

	fixture_open(&f, pid);
	atomic_store(&board->go, true);
	for (;;) {
		int result = catching ? tracer_catch_growth(f.t, pid, f.mem, &o, &f.arena, &r, NULL) :
					fixture_capture(&f, &c, NULL);

		if (result < 0)
			_exit(1);
		arena_reset(&f.arena);
	}
}

START_TEST(target_outlives_a_killed_tracer)
{
	struct fixture f;
	int status;

	fixture_start(&f, signalled, RT_THREADS);
	for (int i = 0; i < 20; i++) {
		unsigned long got;
		pid_t tracer;

		atomic_store(&board->go, false);
		tracer = fork();
		if (tracer == 0)
			trace_for_ever(f.pid, i % 2 == 1);
		await(atomic_load(&board->go));
		nanosleep(&(struct timespec){ .tv_nsec = 1000003L * (i + 3) }, NULL);
		kill(tracer, SIGKILL);
		ck_assert_int_eq(waitpid(tracer, &status, 0), tracer);
		ck_assert(WIFSIGNALED(status));
		got = board_sum(board->got);
		await(board_sum(board->got) > got + 50);
		ck_assert_int_eq(status_field(f.pid, "TracerPid:"), 0);
	}
	atomic_store(&board->stop, true);
	ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(atomic_load(&board->wrong), 0);
	ck_assert_uint_eq(board_sum(board->sent),
			  board_sum(board->got)); /* not even the signals of those instants are lost */
	fixture_finish(&f);
}
END_TEST

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		catch_finds_heap_growth_and_its_thread,
		catch_finds_mapping_growth_exactly,
		catch_gives_up_after_its_calls,
		catch_leaves_at_once_when_cancelled,
		catch_loses_no_signal,
		catch_beside_births_and_forks,
		catch_on_a_standing_process_gives_it_back,
		target_outlives_a_killed_tracer,
	};
	const struct trace_test suite = { "trace-catch", tests, sizeof(tests) / sizeof(tests[0]), NULL };

	return trace_test_main(&suite, argc, argv);
}
