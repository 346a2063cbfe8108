/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The stop window: list, seize (which stops nothing), interrupt all, wait, copy, resume all.
 *
 * Between the first INTERRUPT and the last resume nothing is read from /proc but the thread count, nothing is allocated but from
 * the prepared arena, and nothing is written anywhere.
 */
#include "trace_internal.h"
#include "arch/arch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <time.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

#define DEFAULT_DEADLINE_NS NS_PER_MS
#define DEFAULT_SLICE_BYTES ((size_t)16 << 10)
#define DEFAULT_MAX_THREADS ((size_t)64)
#define LIST_PASSES 4             /* of listing until no new thread turns up */
#define LOOK_AHEAD 8              /* awaited threads looked at in one round: each look is a system call */
#define SPARE_SLICES 8            /* for threads born meanwhile */
#define LATE_NS (5 * NS_PER_MS)   /* the tracer stays with those that stop late */
#define PAUSE_NS (40 * NS_PER_US) /* between two looks where nothing had stopped */

struct member {
	pid_t tid;
	struct tracee *x; /* NULL: gone or refused */
	bool stopped;
	struct thread_stack stack;
};

struct window {
	struct tracer *t;
	pid_t pid;
	size_t slice_bytes, max_threads;
	uint64_t deadline_ns, start;
	/* whole: not cut off at max_threads; new threads belong to the window too */
	bool running_only, sleeping_only, fragile_too, whole;
	struct mem *mem;
	struct arena *arena;
	struct thread_list list;
	struct member *members;
	size_t count, cap, stopped;
	struct mem_piece *pieces; /* of one round of copying, and whose they are */
	struct member **owners;
	size_t piece_count, piece_cap, owner_cap;
	pid_t *skipped; /* known and left alone */
	size_t skipped_count, skipped_cap;
};

static bool is_known(const struct window *w, pid_t tid)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->members[i].tid == tid)
			return true;
	for (size_t i = 0; i < w->skipped_count; i++)
		if (w->skipped[i] == tid)
			return true;
	return false;
}

/* Room for one more member and its piece. Only called between two rounds of copying: it may move the members. */
static int add_member(struct window *w, const struct thread_entry *e)
{
	struct member *m;
	int r;

	if (vec_reserve(&w->members, &w->cap, w->count + 1, sizeof(*w->members)) < 0 ||
	    vec_reserve(&w->pieces, &w->piece_cap, w->count + 1, sizeof(*w->pieces)) < 0 ||
	    vec_reserve(&w->owners, &w->owner_cap, w->count + 1, sizeof(struct member *)) < 0)
		return -ENOMEM;
	m = &w->members[w->count];
	*m = (struct member){ .tid = e->tid };
	m->stack = (struct thread_stack){ .tid = e->tid, .was_running = e->state == 'R', .condition = THREAD_GONE };
	m->x = tracer_find(w->t, e->tid);
	if (!m->x) {
		r = tracer_seize(w->t, e->tid, w->pid, e->ppid == w->t->self, 0, &m->x);
		if (r == -ENOMEM)
			return r;
		if (r == -EPERM) { /* also the answer for a thread that is ending */
			struct thread_entry now = *e;

			thread_entry_read(&w->list, &now);
			if (now.state != 'Z' && now.state != 'X')
				m->stack.condition = THREAD_REFUSED;
		}
		if (r < 0)
			m->x = NULL;
	}
	w->count++;
	return 0;
}

static bool eligible(const struct window *w, const struct thread_entry *e, bool running)
{
	if (e->state == 'Z' || e->state == 'X')
		return false;
	if (running)
		return e->state == 'R' && !w->sleeping_only;
	return e->state != 'R' && !w->running_only && (w->fragile_too || !e->fragile);
}

/* Takes threads of one kind in turn, starting behind the last one taken. */
static int choose(struct window *w, bool running)
{
	struct tracer *t = w->t;
	size_t n = w->list.count, first = 0;
	int r;

	while (t->turn_pid == w->pid && first < n && w->list.entries[first].tid <= t->turn_tid)
		first++;
	for (size_t i = 0; i < n && w->count < w->max_threads; i++) {
		const struct thread_entry *e = &w->list.entries[(first + i) % n];

		if (!eligible(w, e, running))
			continue;
		r = add_member(w, e);
		if (r < 0)
			return r;
		if (w->count == w->max_threads) {
			t->turn_pid = w->pid;
			t->turn_tid = e->tid;
		}
	}
	return 0;
}

static int seize_new(struct window *w, size_t *ret_new)
{
	size_t before = w->count;
	int r = thread_list_read(&w->list, w->pid);

	for (size_t i = 0; r == 0 && i < w->list.count && w->count < w->max_threads; i++) {
		struct thread_entry *e = &w->list.entries[i];

		if (is_known(w, e->tid))
			continue;
		e->state = 'R'; /* just born */
		r = add_member(w, e);
	}
	*ret_new = w->count - before;
	return r;
}

/* Those that are left alone are remembered, so that they are not taken for newborn. */
static int skip_rest(struct window *w)
{
	for (size_t i = 0; i < w->list.count; i++) {
		if (is_known(w, w->list.entries[i].tid))
			continue;
		if (vec_reserve(&w->skipped, &w->skipped_cap, w->skipped_count + 1, sizeof(*w->skipped)) < 0)
			return -ENOMEM;
		w->skipped[w->skipped_count++] = w->list.entries[i].tid;
	}
	return 0;
}

static int seize_all(struct window *w)
{
	size_t new_count = 1, alive = 0;
	int r = thread_list_read(&w->list, w->pid);

	for (size_t i = 0; r == 0 && i < w->list.count; i++) {
		struct thread_entry *e = &w->list.entries[i];

		thread_entry_read(&w->list, e);
		alive += e->state != 'Z' && e->state != 'X';
	}
	if (r == 0 && alive == 0)
		r = -ESRCH; /* a zombie */
	if (r == 0)
		r = choose(w, true);
	if (r == 0)
		r = choose(w, false);
	w->whole = w->count < w->max_threads;
	if (r == 0 && w->whole)
		r = skip_rest(w);
	for (int pass = 0; r == 0 && w->whole && new_count > 0 && pass < LIST_PASSES; pass++) {
		if (thread_list_current(&w->list, w->count + w->skipped_count))
			break;
		r = seize_new(w, &new_count);
	}
	return r;
}

static void interrupt_from(struct window *w, size_t first)
{
	for (size_t i = first; i < w->count; i++)
		if (w->members[i].x)
			tracer_interrupt(w->members[i].x); /* one that is held stands already, and goes on standing */
}

/* The old program is gone, or all of it is about to go: nothing to be learnt from this stack. */
static bool stack_is_void(const struct tracee *x)
{
	int event = stop_event(x->status);

	return x->state == TRACEE_STOPPED && (event == PTRACE_EVENT_EXEC || event == PTRACE_EVENT_EXIT);
}

/* Registers of a thread that has just stopped, and room for its slice. */
static void copy_registers(struct window *w, struct member *m)
{
	struct thread_stack *s = &m->stack;
	struct arch_state state;
	void *buf;

	if (stack_is_void(m->x) || arch_read(m->tid, &state) < 0)
		return;
	s->condition = THREAD_CAPTURED;
	s->regs = state.regs;
	stack_slice(w->t, &s->regs, w->slice_bytes, &s->slice_address, &s->slice_len, &s->slice_full);
	buf = s->slice_len > 0 && w->mem ? arena_alloc(w->arena, s->slice_len) : NULL;
	s->slice = buf;
	if (!buf) {
		s->slice_len = 0;
		s->slice_full = false;
		return;
	}
	w->pieces[w->piece_count] = (struct mem_piece){ .address = s->slice_address, .buf = buf, .len = s->slice_len };
	w->owners[w->piece_count++] = m;
}

static void copy_slices(struct window *w)
{
	bool failed = w->piece_count > 0 && mem_read_batch(w->mem, w->pieces, w->piece_count) < 0;

	for (size_t i = 0; i < w->piece_count; i++) {
		struct thread_stack *s = &w->owners[i]->stack;
		size_t done = failed ? 0 : w->pieces[i].done;

		s->slice_full = s->slice_full && done == s->slice_len;
		s->slice_len = done;
	}
	w->piece_count = 0;
}

/* One look at a thread that is awaited: whether it is settled (stopped or gone) now. */
static bool look(struct window *w, struct member *m)
{
	int r = m->x->state == TRACEE_STOPPED || m->x->state == TRACEE_HELD ? 1 : tracee_poll(w->t, m->x);

	if (r < 0)
		m->x = NULL;
	if (r > 0) {
		m->stopped = true;
		w->stopped++;
		copy_registers(w, m);
	}
	return r != 0;
}

/* When waiting must end so that all that have stopped are resumed by the deadline; at least half of the time is for waiting. */
static uint64_t wait_end(const struct window *w, size_t stopped)
{
	uint64_t keep_ns = stopped * w->t->resume_ns + w->deadline_ns / 8; /* and the last round of copying */

	return w->start + w->deadline_ns - (keep_ns < w->deadline_ns / 2 ? keep_ns : w->deadline_ns / 2);
}

/* Copies while it waits: what has stopped is read while the others are still on their way. */
static void wait_stopped(struct window *w)
{
	struct timespec pause = { 0 };
	size_t awaited = 1;

	while (awaited > 0) {
		size_t before = w->stopped;
		uint64_t now, until;

		awaited = 0;
		for (size_t i = 0; i < w->count && awaited < LOOK_AHEAD; i++) {
			struct member *m = &w->members[i];

			if (m->x && !m->stopped && !look(w, m))
				awaited++;
		}
		copy_slices(w);
		now = clock_now_ns();
		until = wait_end(w, w->stopped);
		if (awaited == 0 || now >= until)
			break;
		if (w->stopped == before) {
			pause.tv_nsec = (long)(until - now < PAUSE_NS ? until - now : PAUSE_NS);
			nanosleep(&pause, NULL);
		}
	}
}

/* Threads born while the first ones were still being stopped, by those that were not. */
static void catch_newborns(struct window *w)
{
	for (int pass = 0; w->whole && pass < LIST_PASSES && clock_now_ns() < wait_end(w, w->stopped); pass++) {
		size_t first = w->count, known = w->skipped_count, new_count;

		for (size_t i = 0; i < w->count; i++)
			known += w->members[i].x ? 1 : 0;
		if (thread_list_current(&w->list, known) || seize_new(w, &new_count) < 0 || new_count == 0)
			break;
		interrupt_from(w, first);
		wait_stopped(w);
	}
}

static void resume_all(struct window *w)
{
	for (size_t i = 0; i < w->count; i++) {
		struct member *m = &w->members[i];

		if (m->x && m->stopped)
			tracee_answer(w->t, m->x);
	}
}

/*
 * Threads that did not stop in time do so when they next get a CPU, and would then stand until the next tracer_settle(). So the
 * tracer stays with them for a while, and lets each go on as soon as it stops.
 */
static void see_off_late(struct window *w)
{
	uint64_t until = clock_now_ns() + LATE_NS;

	while (tracer_settle(w->t) > 0 && clock_now_ns() < until)
		pause_for(w->t, NS_PER_MS);
}

/* From the first INTERRUPT to the last resume. */
static void stop_copy_resume(struct window *w, struct capture *c)
{
	struct priority priority;
	struct pause_state pause;
	uint64_t resume_start, cost;

	pause_begin(&pause);
	c->outranked = priority_raise(&priority);
	w->start = clock_now_ns();
	interrupt_from(w, 0);
	wait_stopped(w);
	catch_newborns(w);
	resume_start = clock_now_ns();
	resume_all(w);
	c->stopped_ns = clock_now_ns() - w->start;
	if (w->stopped > 0) { /* learns quickly that it takes longer, slowly that it takes less */
		cost = (w->start + c->stopped_ns - resume_start) / w->stopped;
		w->t->resume_ns = cost > w->t->resume_ns ? cost : (w->t->resume_ns * 15 + cost) / 16;
	}
	see_off_late(w);
	priority_restore(&priority);
	pause_end(w->t, &pause);
}

/* What to say where no thread was captured: 0 where there was none to capture. */
static int explain_nothing(const struct window *w, const struct capture *c, struct err *err)
{
	bool refused = false;

	for (size_t i = 0; i < c->thread_count; i++) {
		enum thread_condition condition = c->threads[i].condition;

		if (condition == THREAD_CAPTURED || condition == THREAD_LATE)
			return 0;
		refused = refused || condition == THREAD_REFUSED;
	}
	if (refused) {
		trace_explain_refusal(w->pid, err);
		return -EPERM;
	}
	return c->thread_count > 0 ? err_set(err, ESRCH, "process %d has ended", (int)w->pid) : 0;
}

static void window_deinit(struct window *w)
{
	thread_list_deinit(&w->list);
	free(w->members);
	free(w->pieces);
	free(w->owners);
	free(w->skipped);
}

static int window_open(struct window *w, struct err *err)
{
	int r = seize_all(w);

	if (r == 0)
		return 0;
	for (size_t i = 0; i < w->count; i++) { /* seized, never interrupted: let go as soon as they stop */
		if (w->members[i].x)
			tracer_interrupt(w->members[i].x);
	}
	(void)tracer_settle(w->t);
	if (r == -ESRCH)
		return err_set(err, ESRCH, "no process with pid %d, or it has ended", (int)w->pid);
	return err_set(err, -r, "cannot list the threads of process %d: %s", (int)w->pid, strerror(-r));
}

/* The results in the arena: what the window found, in the order of the threads. */
static int hand_over(const struct window *w, struct capture *c)
{
	c->threads = arena_array(w->arena, w->count, sizeof(*c->threads));
	if (!c->threads)
		return -ENOMEM;
	for (size_t i = 0; i < w->count; i++) {
		const struct member *m = &w->members[i];

		c->threads[i] = m->stack;
		if (m->x && !m->stopped)
			c->threads[i].condition = THREAD_LATE;
	}
	c->thread_count = w->count;
	return 0;
}

int tracer_capture(struct tracer *t, pid_t pid, struct mem *mem, const struct capture_options *o, struct arena *arena,
		   struct capture *ret, struct err *err)
{
	struct window w = { .t = t, .pid = pid, .mem = mem, .arena = arena, .list = THREAD_LIST_INIT };
	struct capture c = { .threads = NULL };
	int r;

	w.slice_bytes = o->slice_bytes ? o->slice_bytes : DEFAULT_SLICE_BYTES;
	w.max_threads = o->max_threads ? o->max_threads : DEFAULT_MAX_THREADS;
	w.deadline_ns = o->deadline_ns ? o->deadline_ns : DEFAULT_DEADLINE_NS;
	w.running_only = o->running_only;
	w.sleeping_only = o->sleeping_only;
	w.fragile_too = o->fragile_too;
	stacks_refresh(t, pid, mem);
	r = window_open(&w, err);
	if (r < 0) {
		window_deinit(&w);
		return r;
	}
	/* room in advance; where the arena's limit forbids it, the slices that do not fit are left out */
	r = arena_prepare(arena, (w.count + SPARE_SLICES) * (w.slice_bytes + sizeof(max_align_t)));
	stop_copy_resume(&w, &c);
	r = hand_over(&w, &c);
	r = r < 0 ? err_set(err, -r, "out of memory for a capture of process %d", (int)pid) :
		    explain_nothing(&w, &c, err);
	window_deinit(&w);
	if (r == 0)
		*ret = c;
	return r;
}
