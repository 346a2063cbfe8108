/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Listening for growth: every thread is let run from system call to system call.
 *
 *   attached --(EVENT_STOP)--> PTRACE_SYSCALL --> entry stop --> PTRACE_SYSCALL --> exit stop --> …    until `ending` is set;
 *   then each thread is interrupted and answered by tracee_answer(): detached, or, standing, back to plain PTRACE_CONT.
 *
 * Threads never wait for each other: each is let go on as soon as its stop is seen.
 */
#include "trace_internal.h"
#include "arch/arch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

#define DEFAULT_SLICE_BYTES ((size_t)16 << 10)
#define DEFAULT_MAX_CALLS 1000
#define DEFAULT_MAX_EVENTS 16
#define BATCH 64                          /* threads interrupted at once */
#define PAUSE_NS NS_PER_MS                /* a stop ends it earlier; bounds the answer to *cancel */
#define RELIST_NS (2 * NS_PER_MS)         /* between two looks at threads that were left asleep */
#define FRAGILE_GRACE_NS (10 * NS_PER_MS) /* to come out by themselves of calls that an interruption would break */
#define DISARM_NS (30 * NS_PER_MS)

struct listener {
	struct listener *next;
	uint64_t resumed_ns;
	bool in_call, fragile; /* between entry and exit; of a call that fails with EINTR when interrupted */
	bool watched;          /* a growth call: its result matters */
	bool copied;           /* event holds the stack at its entry */
	enum growth_call call;
	uint64_t args[ARCH_CALL_ARGS];
	struct growth_event event;
	unsigned char *slice; /* slice_bytes, reused until an event takes it */
};

struct catching {
	struct tracer *t;
	pid_t pid;
	struct mem *mem;
	const struct catch_options *o;
	struct arena *arena;
	struct catch_result result;
	struct listener *listeners;
	struct thread_list list;
	/* mappings of files, and those that are writable already: mprotect there is no growth */
	struct mem_range *usable;
	size_t usable_count, usable_cap;
	size_t slice_bytes;
	uint32_t max_calls, max_events;
	uint64_t linger_until; /* 0: no event yet, or none to leave for */
	uint64_t brk_now, page_bytes;
	/* start of this round, 0 after a pause; no thread answered now stopped before the latter */
	uint64_t round_ns, seen_ns;
	uint64_t relist_ns;
	bool ending, refused, info_missing;
};

static bool is_ours(const struct catching *c, const struct tracee *x)
{
	return x->pid == c->pid;
}

static size_t attached(const struct catching *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->t->count; i++)
		n += is_ours(c, c->t->tracees[i]) ? 1 : 0;
	return n;
}

/* ---- what counts as growth ---- */

static void note_regions(struct catching *c)
{
	const struct region *regions;
	ssize_t count = c->mem ? mem_regions(c->mem, &regions) : 0;

	for (ssize_t i = 0; i < count; i++) {
		if (regions[i].class == REGION_HEAP && c->brk_now == 0)
			c->brk_now = regions[i].end;
		if (!(regions[i].flags & REGION_WRITE) && regions[i].class != REGION_FILE)
			continue;
		if (vec_reserve(&c->usable, &c->usable_cap, c->usable_count + 1, sizeof(*c->usable)) < 0)
			return;
		c->usable[c->usable_count++] = (struct mem_range){ regions[i].start, regions[i].end };
	}
}

static bool was_usable(const struct catching *c, uint64_t address)
{
	for (size_t i = 0; i < c->usable_count; i++)
		if (address >= c->usable[i].start && address < c->usable[i].end)
			return true;
	return false;
}

/* Bytes that a call asks for beyond what there is; 0: no growth. */
static uint64_t bytes_asked(const struct catching *c, enum growth_call call, const uint64_t *args)
{
	switch (call) {
	case GROWTH_BRK:
		return c->brk_now && args[0] > c->brk_now ? args[0] - c->brk_now : 0;
	case GROWTH_MMAP:
		return (args[3] & MAP_ANONYMOUS) && args[2] != PROT_NONE ? args[1] : 0;
	case GROWTH_MREMAP:
		return args[2] > args[1] ? args[2] - args[1] : 0;
	case GROWTH_MPROTECT:
		return (args[2] & PROT_WRITE) && !was_usable(c, args[0]) ? args[1] : 0;
	}
	return 0;
}

static uint64_t page_up(const struct catching *c, uint64_t bytes)
{
	return (bytes + c->page_bytes - 1) & ~(c->page_bytes - 1);
}

static bool grown_range(const struct catching *c, const struct listener *l, uint64_t result, uint64_t *ret_start,
			uint64_t *ret_end)
{
	if (result > (uint64_t)-4096)
		return false;
	switch (l->call) {
	case GROWTH_BRK:
		*ret_start = c->brk_now;
		*ret_end = result;
		break;
	case GROWTH_MMAP:
		*ret_start = result;
		*ret_end = result + page_up(c, l->args[1]);
		break;
	case GROWTH_MREMAP:
		*ret_start = result + page_up(c, l->args[1]);
		*ret_end = result + page_up(c, l->args[2]);
		break;
	case GROWTH_MPROTECT:
		*ret_start = l->args[0];
		*ret_end = l->args[0] + page_up(c, l->args[1]);
		break;
	}
	return *ret_end > *ret_start;
}

/* ---- one system call ---- */

static void copy_stack(struct catching *c, struct tracee *x, struct listener *l)
{
	struct thread_stack *s = &l->event.stack;
	struct arch_state state;
	ssize_t done;

	if (!l->slice)
		l->slice = arena_alloc(c->arena, c->slice_bytes);
	if (!l->slice || arch_read(x->tid, &state) < 0)
		return;
	*s = (struct thread_stack){
		.tid = x->tid, .condition = THREAD_CAPTURED, .was_running = true, .slice = l->slice
	};
	s->regs = state.regs;
	stack_slice(c->t, &s->regs, c->slice_bytes, &s->slice_address, &s->slice_len, &s->slice_full);
	done = c->mem && s->slice_len > 0 ? mem_read(c->mem, s->slice_address, l->slice, s->slice_len) : 0;
	if (done < 0)
		done = 0;
	if ((size_t)done < s->slice_len)
		s->slice_full = false;
	s->slice_len = (size_t)done;
	l->copied = true;
}

static void call_entry(struct catching *c, struct tracee *x, struct listener *l, uint64_t number, const uint64_t *args)
{
	uint64_t asked;

	c->result.calls_seen++;
	l->in_call = true;
	l->fragile = arch_call_fragile(number);
	l->copied = false;
	l->watched = arch_growth_call(number, &l->call);
	if (!l->watched)
		return;
	memcpy(l->args, args, sizeof(l->args));
	asked = bytes_asked(c, l->call, args);
	if (asked > 0 && asked >= c->o->min_bytes && c->result.event_count < c->max_events)
		copy_stack(c, x, l);
}

static void call_exit(struct catching *c, struct listener *l, uint64_t result)
{
	struct growth_event *e = &l->event;

	l->in_call = l->fragile = false;
	if (l->copied && c->result.event_count < c->max_events && grown_range(c, l, result, &e->start, &e->end)) {
		e->call = l->call;
		c->result.events[c->result.event_count++] = *e;
		if (c->o->linger_ns && !c->linger_until)
			c->linger_until = clock_now_ns() + c->o->linger_ns;
		l->slice = NULL; /* the event's now */
	}
	if (l->watched && l->call == GROWTH_BRK)
		c->brk_now = result;
	l->watched = l->copied = false;
}

/* Kernels before 5.3 do not say what kind of stop this is: entry and exit alternate. */
static void call_by_registers(struct catching *c, struct tracee *x, struct listener *l)
{
	struct arch_state state;

	if (arch_read(x->tid, &state) < 0 || !state.native)
		return;
	if (l->in_call)
		call_exit(c, l, state.call_result);
	else
		call_entry(c, x, l, state.call_number, state.call_args);
}

static void call_stop(struct catching *c, struct tracee *x, struct listener *l)
{
	struct __ptrace_syscall_info info;
	uint64_t args[ARCH_CALL_ARGS];

	if (!c->info_missing && ptrace(PTRACE_GET_SYSCALL_INFO, x->tid, (void *)sizeof(info), &info) < 0)
		c->info_missing = errno == EIO || errno == EINVAL;
	else if (!c->info_missing) {
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY && info.arch == arch_audit) {
			for (size_t i = 0; i < ARCH_CALL_ARGS; i++)
				args[i] = info.entry.args[i];
			call_entry(c, x, l, info.entry.nr, args);
		} else if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
			call_exit(c, l, (uint64_t)info.exit.rval);
		} else if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			c->result.calls_seen++; /* of another word size */
		}
		return;
	}
	if (c->info_missing)
		call_by_registers(c, x, l);
}

/* ---- one stop ---- */

static struct listener *listener_of(struct catching *c, struct tracee *x)
{
	if (!x->listener) {
		x->listener = calloc(1, sizeof(*x->listener));
		if (!x->listener)
			return NULL;
		x->listener->next = c->listeners;
		c->listeners = x->listener;
	}
	return x->listener;
}

static void go_to_next_call(struct tracee *x, int sig)
{
	long options = x->options | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;

	if (x->options_now != options && ptrace(PTRACE_SETOPTIONS, x->tid, NULL, (void *)options) == 0)
		x->options_now = options;
	x->state = TRACEE_RUNNING;
	ptrace(PTRACE_SYSCALL, x->tid, NULL, (void *)(uintptr_t)sig); /* ESRCH: killed, its end will be reported */
}

/* Stops that the catch has no business with: job control, and what is held for the caller. */
static bool is_foreign(const struct tracee *x)
{
	int event = stop_event(x->status);

	if (stop_is_group(x->status) || (x->standing && (x->group_stopped || x->newborn)))
		return true;
	return event == PTRACE_EVENT_EXEC || event == PTRACE_EVENT_EXIT || event == PTRACE_EVENT_FORK ||
	       event == PTRACE_EVENT_VFORK;
}

/* An upper bound: from when the thread was last known to run. */
static void account(struct catching *c, uint64_t resumed_ns, uint64_t now)
{
	uint64_t stopped = now - (resumed_ns > c->seen_ns ? resumed_ns : c->seen_ns);

	c->result.stops++;
	c->result.stopped_ns_total += stopped;
	if (stopped > c->result.stopped_ns_max)
		c->result.stopped_ns_max = stopped;
}

/* What is held for the caller waits for the end of the listening: so it ends now. */
static void answer_foreign(struct catching *c, struct tracee *x)
{
	bool standing = x->standing; /* one in passing may be gone afterwards */

	tracee_answer(c->t, x);
	if (standing && x->state == TRACEE_HELD)
		c->ending = true;
}

static void one_stop(struct catching *c, struct tracee *x)
{
	struct listener *l = listener_of(c, x);
	uint64_t resumed_ns = l ? l->resumed_ns : 0, now;
	int event = stop_event(x->status);

	if (event == PTRACE_EVENT_EXEC)
		c->ending = true; /* another program: nothing known of it */
	if (l && event == 0 && WSTOPSIG(x->status) == SYSCALL_TRAP)
		call_stop(c, x, l);
	if (c->ending || !l || is_foreign(x)) {
		if (l)
			l->in_call = l->fragile = false;
		answer_foreign(c, x);
	} else {
		if (event == PTRACE_EVENT_CLONE)
			tracer_expect_clone(c->t, x);
		go_to_next_call(x, stop_signal(x->status));
	}
	now = clock_now_ns();
	if (l)
		l->resumed_ns = now; /* the catch owns it: it outlives the thread */
	account(c, resumed_ns, now);
}

static bool enough(const struct catching *c)
{
	return !c->ending && (c->result.calls_seen >= c->max_calls || c->result.event_count >= c->max_events);
}

/* Of any thread: finds those without a record too, and tells whether a round is worth it. False where nothing waits. */
static bool answer_any(struct catching *c)
{
	struct rusage usage;
	struct tracee *x;
	int status;
	pid_t tid = tracer_wait(-1, &status, &usage);

	if (tid <= 0)
		return false;
	x = tracer_note(c->t, tid, status, &usage);
	if (x && is_ours(c, x))
		one_stop(c, x);
	else if (x)
		answer_foreign(c, x);
	return true;
}

/*
 * Answers what has stopped, each thread once; false where none had. In rounds, because the kernel names the same thread first
 * again and again while it keeps stopping, and the others would stand.
 */
static bool drain(struct catching *c)
{
	uint64_t now = clock_now_ns();

	/* a thread may have stopped behind the last round's back; but where nothing waited, a stop has just ended the pause */
	c->seen_ns = c->round_ns ? c->round_ns : now;
	c->round_ns = now;
	if (!answer_any(c)) {
		c->round_ns = 0;
		return false;
	}
	for (size_t i = c->t->count; i-- > 0 && !enough(c);) { /* downwards: a removal moves only what was seen */
		struct tracee *x = c->t->tracees[i];

		if (is_ours(c, x) && x->state == TRACEE_RUNNING && tracee_poll(c->t, x) > 0)
			one_stop(c, x);
	}
	return true;
}

/* ---- arming and disarming ---- */

/* Seizes and interrupts threads that are not listened to yet. Those asleep in a fragile call wait until they are seen awake. */
static int arm(struct catching *c)
{
	size_t armed = 0, alive = 0;
	int r = thread_list_read(&c->list, c->pid);

	for (size_t i = 0; r == 0 && i < c->list.count && armed < BATCH; i++) {
		struct thread_entry *e = &c->list.entries[i];
		struct tracee *x = tracer_find(c->t, e->tid);

		alive += x ? 1 : 0;
		if (x && (x->listener || x->state != TRACEE_RUNNING))
			continue;
		thread_entry_read(&c->list, e);
		if (e->state == 'Z' || e->state == 'X')
			continue;
		alive += x ? 0 : 1;
		if (e->fragile)
			continue;
		if (!x) {
			r = tracer_seize(c->t, e->tid, c->pid, e->ppid == c->t->self,
					 PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE, &x);
			if (r == -EPERM || r == -ESRCH) {
				c->refused = c->refused || r == -EPERM;
				r = 0;
				continue;
			}
			if (r < 0)
				break;
			x->options = 0; /* what is right outside the catch */
		}
		if (!listener_of(c, x))
			r = -ENOMEM;
		tracer_interrupt(x);
		armed++;
	}
	/* more than a batch: the next one at the next turn, else when sleepers may have woken */
	c->relist_ns = clock_now_ns() + (armed == BATCH ? 0 : RELIST_NS);
	return r == 0 && alive == 0 ? -ESRCH : r;
}

static bool finished(struct catching *c, uint64_t now, uint64_t until)
{
	if (c->result.calls_seen >= c->max_calls)
		c->result.gave_up = c->result.event_count < c->max_events;
	return c->ending || now >= until || (c->linger_until && now >= c->linger_until) ||
	       (c->o->cancel && *c->o->cancel) || c->result.calls_seen >= c->max_calls ||
	       c->result.event_count >= c->max_events;
}

static int listen(struct catching *c, uint64_t until)
{
	int r = arm(c);

	while (r == 0) {
		uint64_t now = clock_now_ns(), wait;

		if (finished(c, now, until))
			break;
		if (now >= c->relist_ns) {
			r = arm(c);
			if (r < 0 || (attached(c) == 0 && c->refused))
				break;
		}
		if (drain(c))
			continue;
		wait = until - now < PAUSE_NS ? until - now : PAUSE_NS;
		pause_for(c->t, wait);
	}
	return r;
}

/* Interrupts up to a batch of those still listened to; fragile ones only when their time is up. */
static void interrupt_batch(struct catching *c, bool fragile_too)
{
	size_t n = 0;

	for (size_t i = 0; i < c->t->count && n < BATCH; i++) {
		struct tracee *x = c->t->tracees[i];

		if (!is_ours(c, x) || !x->listener || x->state != TRACEE_RUNNING ||
		    (x->listener->fragile && !fragile_too))
			continue;
		tracer_interrupt(x);
		n++;
	}
}

/* Threads that still run from call to call. A standing one that is back to plain running has lost its options. */
static size_t still_armed(const struct catching *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->t->count; i++) {
		const struct tracee *x = c->t->tracees[i];

		if (is_ours(c, x) && x->state == TRACEE_RUNNING && x->options_now != x->options)
			n++;
	}
	return n;
}

static void disarm(struct catching *c)
{
	uint64_t start = clock_now_ns(), now = start, again = 0;

	c->ending = true;
	while (still_armed(c) > 0 && now < start + DISARM_NS) {
		if (now >= again) {
			interrupt_batch(c, now >= start + FRAGILE_GRACE_NS);
			again = now + NS_PER_MS;
		}
		if (!drain(c))
			pause_for(c->t, PAUSE_NS);
		now = clock_now_ns();
	}
	/* whoever did not stop: awaited, tracer_settle() or the next event answers it */
	for (size_t i = 0; i < c->t->count; i++)
		c->t->tracees[i]->listener = NULL;
	while (c->listeners) {
		struct listener *next = c->listeners->next;

		free(c->listeners);
		c->listeners = next;
	}
}

static int explain(struct catching *c, int r, struct err *err)
{
	if (r == -ESRCH && c->result.stops > 0)
		return 0; /* ended while it was listened to */
	if (r == -ESRCH)
		return err_set(err, ESRCH, "no process with pid %d", (int)c->pid);
	if (r < 0)
		return err_set(err, -r, "cannot listen to process %d: %s", (int)c->pid, strerror(-r));
	if (c->refused && c->result.stops == 0) {
		trace_explain_refusal(c->pid, err);
		return -EPERM;
	}
	return 0;
}

static int run(struct catching *c)
{
	struct priority priority;
	struct pause_state pause;
	uint64_t start;
	int r;

	pause_begin(&pause);
	(void)priority_raise(&priority);
	start = clock_now_ns();
	r = listen(c, start + c->o->deadline_ns);
	disarm(c);
	c->result.listened_ns = clock_now_ns() - start;
	priority_restore(&priority);
	pause_end(c->t, &pause);
	return r;
}

int tracer_catch_growth(struct tracer *t, pid_t pid, struct mem *mem, const struct catch_options *o,
			struct arena *arena, struct catch_result *ret, struct err *err)
{
	struct catching c = { .t = t, .pid = pid, .mem = mem, .o = o, .arena = arena, .list = THREAD_LIST_INIT };
	int r;

	c.slice_bytes = o->slice_bytes ? o->slice_bytes : DEFAULT_SLICE_BYTES;
	c.max_calls = o->max_calls ? o->max_calls : DEFAULT_MAX_CALLS;
	c.max_events = o->max_events ? o->max_events : DEFAULT_MAX_EVENTS;
	c.brk_now = o->brk_now;
	c.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	/* room in advance; where the arena's limit forbids it, events that do not fit are left out */
	r = arena_prepare(arena, c.max_events * (sizeof(struct growth_event) + c.slice_bytes + sizeof(max_align_t)));
	c.result.events = arena_array(arena, c.max_events, sizeof(struct growth_event));
	if (!c.result.events)
		return err_set(err, ENOMEM, "out of memory to listen to process %d", (int)pid);
	stacks_refresh(t, pid, mem);
	note_regions(&c);
	r = explain(&c, run(&c), err);
	thread_list_deinit(&c.list);
	free(c.usable);
	if (r == 0)
		*ret = c.result;
	return r;
}
