/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Life of a session: open, the main loop, the end. */
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"
#include "session/private.h"
#include "session/units.h"

#define FIRST_TICK_NS (1 * NS_PER_MS)
#define FIRST_TICKS 60 /* at one millisecond each, so that a life of 50 ms gives 20 samples even on a busy machine */
#define TICK_GROWTH 1.1
#define DEFAULT_INTERVAL_NS (100 * NS_PER_MS)
#define DEFAULT_BUDGET 2.0
#define END_GRACE_NS (5 * NS_PER_S)
#define POLL_SLICE_NS (10 * NS_PER_MS)
#define POLL_FDS_MAX 512
#define LEFT_NS (500 * NS_PER_MS)

static int wait_for_exec(struct session *s, struct err *err)
{
	struct trace_event event = { .type = TRACE_NONE };

	for (;;) {
		struct timespec slice = { 0, 200000 };
		int rc = tracer_next_event(s->tracer, &event);

		if (rc < 0)
			return err_set(err, -rc, "cannot trace the child: %s", strerror(-rc));
		if (event.type == TRACE_EXEC)
			return 0;
		if (event.type == TRACE_ENDED)
			return err_set(err, ECHILD, "the child ended before it could be watched");
		if (event.type == TRACE_NONE)
			ppoll(NULL, 0, &slice, NULL);
	}
}

static int start_child(struct session *s, struct err *err)
{
	struct spawn_options options = { .argv = s->options.argv,
					 .follow_children = s->options.children,
					 .stdout_fd = units_stdout_fd(s->units) };
	int rc;

	if (s->options.children)
		prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	rc = tracer_spawn(s->tracer, &options, &s->child, err);
	if (rc < 0)
		return rc;
	rc = wait_for_exec(s, err);
	if (rc < 0)
		return rc;
	return session_add(s, s->child, true, getpid(), err);
}

static int open_target(struct session *s, struct err *err)
{
	int rc = units_open(&s->options, &s->units, err);

	if (rc < 0)
		return rc;
	rc = s->options.argv ? start_child(s, err) : session_add(s, s->options.pid, false, 0, err);
	if (rc >= 0)
		rc = units_attach(s, err);
	if (rc < 0 && s->child > 0)
		kill(s->child, SIGKILL); /* ours, and nothing of it has run */
	return rc;
}

static void fill_defaults(struct session_options *o)
{
	if (o->interval_ns == 0)
		o->interval_ns = DEFAULT_INTERVAL_NS;
	if (!(o->budget_percent > 0.0))
		o->budget_percent = DEFAULT_BUDGET;
}

int session_create(const struct session_options *options, const struct session_listener *listener, struct session **ret,
		   struct err *err)
{
	struct session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(err, ENOMEM, "out of memory");
	s->options = *options;
	fill_defaults(&s->options);
	if (listener)
		s->listener = *listener;
	s->wait_status = -1;
	s->cpu_begin_ns = clock_self_cpu_ns();
	s->begin_ns = clock_now_ns();
	s->begin_wall_ns = clock_wall_ns();
	arena_init(&s->gap_arena, 4 << 10, 1 << 20);
	rc = tracer_create(&s->tracer);
	if (rc >= 0)
		signals_catch_child();
	if (!options->argv)
		signals_second_leaves(); /* also in the middle of a long look */
	if (rc < 0)
		err_set(err, -rc, "cannot set up tracing: %s", strerror(-rc));
	else
		rc = open_target(s, err);
	if (rc < 0) {
		session_destroy(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void session_destroy(struct session *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->target_count; i++)
		target_close(s->targets[i]);
	free(s->targets);
	units_close(s->units);
	tracer_destroy(s->tracer);
	arena_deinit(&s->gap_arena);
	free(s->gaps);
	free(s);
}

int session_wait_status(const struct session *s)
{
	return s->wait_status;
}

/* ---- the loop ---- */

static void next_tick_length(struct session *s)
{
	if (s->samples < FIRST_TICKS)
		s->tick_ns = FIRST_TICK_NS;
	else
		s->tick_ns = (uint64_t)((double)s->tick_ns * TICK_GROWTH);
	if (s->tick_ns > s->options.interval_ns)
		s->tick_ns = s->options.interval_ns;
}

static void tick_all(struct session *s, uint64_t now)
{
	/* Children found in this round are looked at in the next one. */
	size_t count = s->target_count;

	for (size_t i = 0; i < count; i++) {
		struct target *t = s->targets[i];

		if (t->gone)
			continue;
		target_tick(t, now, false);
		look_children(s, t, now);
		look_verdict(t, now, false);
	}
	if (s->options.children)
		tree_add_up(s);
	next_tick_length(s);
	s->next_tick_ns += s->tick_ns;
	if (s->next_tick_ns < now)
		s->next_tick_ns = now + s->tick_ns / 2;
}

/* Whether the process goes on without its main thread (pthread_exit): then it has not ended, but can be watched no longer. */
static bool has_lost_sight(struct session *s, struct target *t)
{
	pid_t tid = proc_living_thread(&t->proc);
	char remedy[64];

	if (tid == 0)
		return false;
	if (t->left_ns == 0)
		t->left_ns = clock_now_ns();
	if (clock_now_ns() - t->left_ns < LEFT_NS) /* the others may be about to end too */
		return true;
	snprintf(remedy, sizeof(remedy), "memwatch --pid %d", (int)tid);
	session_gap(s, "observe",
		    "the main thread has ended, and the kernel shows the memory of the others under their own ids only",
		    remedy);
	target_leave(t);
	s->living--;
	return true;
}

/* Processes that are not our children are known to have ended by their pidfd. */
static void notice_ended(struct session *s)
{
	for (size_t i = 0; i < s->target_count; i++) {
		struct target *t = s->targets[i];

		if (!t->gone && !t->standing && !proc_alive(&t->proc) && !has_lost_sight(s, t))
			session_target_ended(s, t, -1);
	}
	/* run: the last one may have been reaped by a parent of its own, which told nobody */
	if ((s->child == 0 || s->wait_status >= 0) && session_all_gone(s))
		s->over = true;
}

static uint64_t wake_time(const struct session *s, uint64_t end_ns)
{
	uint64_t wake = s->next_tick_ns;

	for (size_t i = 0; i < s->target_count; i++) {
		uint64_t due = sources_due_ns(s->targets[i]);

		if (due < wake)
			wake = due;
	}
	return end_ns != 0 && end_ns < wake ? end_ns : wake;
}

static void sleep_until(struct session *s, uint64_t wake)
{
	struct pollfd fds[POLL_FDS_MAX];
	uint64_t now = clock_now_ns(), wait = wake > now ? wake - now : 0;
	struct timespec ts = { .tv_sec = (time_t)(wait / NS_PER_S), .tv_nsec = (long)(wait % NS_PER_S) };
	nfds_t n = 0;

	fds[n++] = (struct pollfd){ .fd = signals_wake_fd(), .events = POLLIN };
	for (size_t i = 0; i < s->target_count && n < POLL_FDS_MAX; i++)
		if (!s->targets[i]->gone && !s->targets[i]->standing)
			fds[n++] = (struct pollfd){ .fd = s->targets[i]->proc.pid_fd, .events = POLLIN };
	ppoll(fds, n, &ts, NULL);
}

static void begin(struct session *s)
{
	struct target *t = s->targets[0];

	s->begin_ns = clock_now_ns();
	s->begin_wall_ns = clock_wall_ns();
	s->next_tick_ns = s->begin_ns;
	t->opened_s = 0.0;
	if (s->listener.begin)
		s->listener.begin(s->listener.arg, &t->info, (double)s->options.interval_ns / 1e6);
	tick_all(s, s->begin_ns);
	if (s->child > 0)
		sources_before_main(t);
	if (s->child > 0 && tracer_resume(s->tracer, s->child) < 0)
		s->over = true;
}

static void finish(struct session *s)
{
	uint64_t now = clock_now_ns();

	signals_second_leaves();
	units_drain(s);
	for (size_t i = 0; i < s->target_count; i++) {
		struct target *t = s->targets[i];

		if (!t->gone) {
			target_tick(t, now, true);
			sources_refresh(t);
			sources_leave(t);
		}
		if (!t->standing || !t->gone)
			look_verdict(t, now, true);
	}
	s->exited_ns = clock_now_ns();
}

int session_run(struct session *s, struct err *err)
{
	uint64_t end_ns;

	(void)err;
	begin(s);
	end_ns = s->options.duration_ns ? s->begin_ns + s->options.duration_ns : 0;
	while (!s->over) {
		uint64_t now;

		session_drain_events(s);
		session_handle_signals(s);
		notice_ended(s);
		now = clock_now_ns();
		s->timed_out = end_ns != 0 && now >= end_ns;
		if (s->over || s->timed_out)
			break;
		if (now >= s->next_tick_ns) {
			tick_all(s, now);
			notice_ended(s); /* that took time: nothing may be stopped whose pid is free by now */
		}
		for (size_t i = 0; i < s->target_count; i++)
			if (!s->targets[i]->gone && !s->child_stopped)
				look_sites(s->targets[i], now);
		sleep_until(s, wake_time(s, end_ns));
	}
	s->over = true;
	finish(s);
	return 0;
}

int session_end_child(struct session *s, struct err *err)
{
	uint64_t begin_ns = clock_now_ns();
	bool killed = false;

	if (s->child <= 0 || s->wait_status >= 0 || !s->timed_out)
		return 0;
	s->listener = (struct session_listener){ 0 }; /* the stream has said bye */
	if (kill(s->child, SIGTERM) < 0 && errno != ESRCH)
		return err_set(err, errno, "cannot end process %d: %s", (int)s->child, strerror(errno));
	while (s->wait_status < 0) {
		session_drain_events(s);
		if (!killed && clock_now_ns() - begin_ns > END_GRACE_NS) {
			killed = true;
			kill(s->child, SIGKILL);
		}
		if (s->wait_status < 0)
			sleep_until(s, clock_now_ns() + POLL_SLICE_NS);
		signals_take();
	}
	units_drain(s);
	return 0;
}
