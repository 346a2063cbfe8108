/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the tests of the tracer share: targets that run until they are told to stop, and a board in shared memory on which targets
 * and tests tell each other how far they are. Nothing here waits for a time to pass: only for something to become true.
 */
#ifndef MEMWATCH_TEST_SUPPORT_TRACE_H
#define MEMWATCH_TEST_SUPPORT_TRACE_H

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/clock.h"
#include "memwatch/mem.h"
#include "memwatch/trace.h"

/* Where this is up, something is wrong; it is no measure of how long anything takes. */
#define WAIT_NS (30 * NS_PER_S)
#define RT_THREADS 16
#define MARKER 0x5741544348454421ULL
#define GROWTHS 256

/* ---- what targets and tests tell each other ---- */

struct board {
	atomic_bool go, stop, quit;
	atomic_int ready, wrong, tid;
	atomic_ulong rounds, sent[RT_THREADS], got[RT_THREADS];
	atomic_ulong growths; /* how many of start[] and end[] are valid */
	_Atomic uintptr_t start[GROWTHS], end[GROWTHS];
};
extern struct board *board;

void board_setup(void); /* the fixture of every test case */
void board_teardown(void);
unsigned long board_sum(const atomic_ulong *values); /* of RT_THREADS values */

void short_sleep(void);

/* Waits for a condition of the world; the test fails where it never comes true. */
#define await(condition)                                                                                               \
	do {                                                                                                           \
		uint64_t until_ = clock_now_ns() + WAIT_NS;                                                            \
		while (!(condition)) {                                                                                 \
			ck_assert_msg(clock_now_ns() < until_, #condition);                                            \
			short_sleep();                                                                                 \
		}                                                                                                      \
	} while (0)

char thread_state(pid_t pid, pid_t tid);        /* as in /proc; 0: gone */
long status_field(pid_t pid, const char *name); /* "VmRSS:"; -1: gone */

/* ---- a target that is attached to in passing ---- */

struct fixture {
	struct tracer *t;
	struct mem *mem;
	struct arena arena;
	pid_t pid;
	int dir;
};

/* Forks body, and waits until that many of its threads have said on the board that they are ready. */
void fixture_start(struct fixture *f, void (*body)(void), int threads);
void fixture_open(struct fixture *f, pid_t pid); /* of a process that runs already */
int fixture_capture(struct fixture *f, struct capture *ret,
		    struct err *err);           /* waits for all threads, however long it takes */
void fixture_check_untraced(struct fixture *f); /* nothing of the tracer is left, and it runs */
void fixture_close(struct fixture *f);
void fixture_finish(struct fixture *f); /* ends the process too */

/* ---- a standing target ---- */

pid_t spawn(struct tracer *t, bool follow, const char *const *argv);
struct trace_event next_event(struct tracer *t);
struct trace_event run_to(struct tracer *t, enum trace_event_type type);
void let_go(struct tracer *t, pid_t tid);

/* ---- bodies ---- */

void spin_with_marker(void); /* in a frame that holds MARKER, ~MARKER */
void spinners(void);         /* 4 threads, which spin_with_marker() */
void signalled(void); /* RT_THREADS threads, which get numbered real-time signals: none may be lost, or come twice */
void restless(void);  /* births and ends of threads and children; ends with 6 */
bool slice_has_marker(const struct thread_stack *s);

/* The main() of each: a victim, where it has an argument, else the suite of one test case. */
struct trace_test {
	const char *name;
	const TTest *const *tests;
	size_t count;
	int (*victim)(int argc, char **argv);
};
int trace_test_main(const struct trace_test *suite, int argc, char **argv);

#endif
