/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Call sites by short ptrace stops, taken when memory grows.
 *
 * A heap grows in steps: the allocator hands out its reserve ("top") without asking anybody, and asks the kernel for more when it
 * is used up. The stack of that very call names who grew the heap, weighted by bytes. So a look waits, without touching the
 * target, until the reserve is nearly gone (headroom of the heap walker, a few bytes read from outside), and only then listens to
 * system calls for some milliseconds. Growth that needs no system call (first touch of memory reserved long ago) is attributed
 * statistically: the threads that run while it grows. Such sites are marked as not exact.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memwatch/base/clock.h"
#include "memwatch/sites.h"

#define RETRY_MIN_NS (1 * NS_PER_MS)
#define RETRY_MAX_NS (200 * NS_PER_MS)
#define RESERVE_LOW_BYTES 4096.0
#define AHEAD_FIRST_S 0.02 /* listen this long before the reserve is expected to end; */
#define AHEAD_MIN_S 0.002  /* shorter where too many other calls are made meanwhile, */
#define AHEAD_MAX_S 0.06   /* longer where the end came sooner than expected: memory is taken in bursts */
#define CALLS_RECENT_NS (30 * NS_PER_S)
#define CALLS_FIRST_NS (3 * NS_PER_S) /* of watching before the first statistical look */
#define SYMBOLS_FRESH_NS (2 * NS_PER_S)
#define LOOK_BYTES (192 << 10) /* copied in one look */
#define ELSEWHERE_BYTES (256 << 10)
#define BURST_FADE 0.95
#define MISSED_BYTES (32 << 10)       /* a reserve that is larger than before by so much was renewed behind our back */
#define STOP_COST_NS (40 * NS_PER_US) /* of one system call that is let pass: two stops of one thread */
#define EVENTS_MAX 8 /* of one look, and not long after the first: they are looked at while they are fresh */
#define LINGER_NS (5 * NS_PER_MS)
#define SETTLE_NS (1500 * NS_PER_US) /* in which the program fills the block that it has just got */
#define CANDIDATE_WORDS 192
#define LISTEN_MAX_NS (60 * NS_PER_MS)
#define TOUCH_BYTES (1 << 20) /* growth without any call that is worth a statistical look */

struct stacks {
	struct site_context context;
	struct arena arena;  /* copies of one look */
	uint64_t caught_ns;  /* when growth by a call was seen last; at first, when this began */
	uint64_t symbols_ns; /* when the mappings were read last */
	double ahead_s;
	double burst_bytes; /* by how much a reserve has fallen between two looks, the larger ones remembered longer */
	uint64_t hint;      /* bytes handed out of all arenas at the last look, about */
	double idle_bytes;  /* growth expected while listening in vain: it needs no calls */
	double arenas_grew; /* by how much that rose while carried_bytes built up */
	uint64_t top_bytes, top_ns; /* the smallest reserve at the last look; top_ns 0: none */
	double carried_bytes;       /* growth that no look has attributed yet */
};

static int stacks_open(const struct site_context *context, struct site_source **ret, struct err *err)
{
	struct stacks *s = calloc(1, sizeof(*s));
	struct site_source *source = calloc(1, sizeof(*source));

	if (!s || !source) {
		free(s);
		free(source);
		return err_set(err, ENOMEM, "out of memory");
	}
	s->context = *context;
	s->ahead_s = AHEAD_FIRST_S;
	s->caught_ns = clock_now_ns() - CALLS_RECENT_NS + CALLS_FIRST_NS;
	arena_init(&s->arena, 64 << 10, 4 << 20);
	source->ops = &sites_stacks;
	source->arg = s;
	*ret = source;
	return 0;
}

static void stacks_close(struct site_source *source)
{
	struct stacks *s = source->arg;

	arena_deinit(&s->arena);
	free(s);
	free(source);
}

/*
 * Whether the smallest reserve is about to end: 1 yes, or not known; 0 not yet, and *ret_retry_ns says when to ask again; -errno.
 * *ret_brk is the end of the main heap, 0 unknown.
 */
static int reserve_ends(struct stacks *s, double rate, uint64_t *ret_brk, uint64_t *ret_retry_ns)
{
	struct heap_headroom room;
	uint64_t now = clock_now_ns();
	double fastest = rate, eta;
	int rc;

	if (!s->context.walker)
		return 1;
	rc = heap_headroom(s->context.walker, s->context.mem, &room);
	if (rc == -ENOTSUP || rc == -EAGAIN)
		return 1;
	if (rc < 0)
		return rc;
	*ret_brk = room.main_end;
	if (room.top_bytes == UNKNOWN_U64)
		return 1;
	if (s->top_ns != 0 && room.in_use_hint > s->hint)
		s->arenas_grew += (double)(room.in_use_hint - s->hint);
	s->hint = room.in_use_hint;
	if (s->carried_bytes >= ELSEWHERE_BYTES && s->arenas_grew < 0.5 * s->carried_bytes)
		return 1; /* it is not the arenas that grow: mapped blocks, or mappings of the program's own */
	if (s->top_ns != 0 && room.top_bytes < s->top_bytes && now > s->top_ns) {
		double drop = (double)(s->top_bytes - room.top_bytes), seen = drop * 1e9 / (double)(now - s->top_ns);

		fastest = seen > fastest ? seen : fastest;
		s->burst_bytes = drop > s->burst_bytes ? drop : s->burst_bytes * BURST_FADE + drop * (1.0 - BURST_FADE);
	}
	if (s->top_ns != 0 && room.top_bytes > s->top_bytes + MISSED_BYTES && s->ahead_s < AHEAD_MAX_S)
		s->ahead_s *= 1.5;
	s->top_ns = now;
	s->top_bytes = room.top_bytes;
	if ((double)room.top_bytes <= rate * s->ahead_s + s->burst_bytes + RESERVE_LOW_BYTES)
		return 1;
	eta = fastest > 0.0 ? (double)room.top_bytes / fastest : 1.0;
	*ret_retry_ns = (uint64_t)(eta * 0.3e9);
	if (*ret_retry_ns < RETRY_MIN_NS)
		*ret_retry_ns = RETRY_MIN_NS;
	if (*ret_retry_ns > RETRY_MAX_NS)
		*ret_retry_ns = RETRY_MAX_NS;
	return 0;
}

static void nap(uint64_t ns)
{
	struct timespec ts = { .tv_sec = 0, .tv_nsec = (long)ns };

	ppoll(NULL, 0, &ts, NULL);
}

static int add_stack(struct stacks *s, const struct thread_stack *stack, const struct site_event *event)
{
	struct unwind_stack unwound;
	int rc = unwind_thread(s->context.symbols, stack, &unwound);

	/* Reading the mappings costs as much as all the rest: only when a stack leads into something unknown, or now and then. */
	if (rc >= 0 && (unwound.end != FRAME_OK || clock_now_ns() - s->symbols_ns > SYMBOLS_FRESH_NS)) {
		s->symbols_ns = clock_now_ns();
		rc = symbols_update(s->context.symbols, s->context.mem);
		if (rc >= 0)
			rc = unwind_thread(s->context.symbols, stack, &unwound);
	}
	if (rc < 0)
		return rc;
	return site_table_add(s->context.table, &unwound, event);
}

/*
 * Finds the block for which an arena grew, and notes what it holds, before the program has had time to give it back: words of the
 * stack near its end, and registers, are candidates that the walker checks.
 */
static void find_block(struct stacks *s, const struct growth_event *e, struct site_event *event)
{
	uint64_t candidates[REGS_MAX + CANDIDATE_WORDS];
	struct heap_block block;
	size_t n = 0;

	if (!event->in_heap || !s->context.walker)
		return;
	for (uint32_t i = 0; i < e->stack.regs.count; i++)
		candidates[n++] = e->stack.regs.value[i];
	for (size_t at = 0; at + 8 <= e->stack.slice_len && n < REGS_MAX + CANDIDATE_WORDS; at += 8)
		memcpy(&candidates[n++], e->stack.slice + at, 8);
	if (heap_grown_block(s->context.walker, s->context.mem, e->start, candidates, n, &block) != 1 ||
	    heap_recheck(s->context.walker, s->context.mem, &block, 1) < 0 || block.state != HEAP_BLOCK_IN_USE)
		return;
	event->block_start = block.start;
	event->block_size = block.size;
	event->content = block.content;
}

/* Events of one look share the growth since the last one, in proportion to what each asked for. */
static int add_events(struct stacks *s, const struct catch_result *caught, double t_s)
{
	struct site_event events[EVENTS_MAX];
	double asked = 0.0, weight;
	int rc = 0;

	for (size_t i = 0; i < caught->event_count; i++)
		asked += (double)(caught->events[i].end - caught->events[i].start);
	weight = s->carried_bytes > asked ? s->carried_bytes : asked;
	s->carried_bytes = s->arenas_grew = 0.0;
	s->idle_bytes = 0.0;
	for (size_t i = 0; i < caught->event_count; i++) {
		const struct growth_event *e = &caught->events[i];

		events[i] = (struct site_event){
			.start = e->start,
			.end = e->end,
			.exact = true,
			.t_s = t_s,
			.source = sites_stacks.name,
			.weight_bytes = (uint64_t)(weight * (double)(e->end - e->start) / asked),
			.in_heap = e->call == GROWTH_BRK || e->call == GROWTH_MPROTECT,
		};
		if (i == 0 && events[i].in_heap)
			nap(SETTLE_NS);
		find_block(s, e, &events[i]);
	}
	for (size_t i = 0; rc >= 0 && i < caught->event_count; i++)
		rc = add_stack(s, &caught->events[i].stack, &events[i]);
	return rc;
}

static void charge(struct site_budget *budget, uint64_t stops, uint64_t total_ns, uint64_t max_ns)
{
	budget->stops += stops;
	budget->spent_stall_ns += total_ns;
	if (max_ns > budget->stopped_ns_max)
		budget->stopped_ns_max = max_ns;
}

static bool seen_running(const struct thread_stack *stack)
{
	return stack->condition == THREAD_CAPTURED && stack->was_running;
}

static int look_at_running(struct stacks *s, double t_s, struct site_budget *budget, struct err *err)
{
	struct capture_options options = { .deadline_ns = budget->stop_max_ns,
					   .running_only = true,
					   .max_threads = 16 };
	struct site_event event = { .t_s = t_s, .source = sites_stacks.name };
	struct capture capture;
	size_t usable = 0;
	int rc;

	arena_reset(&s->arena);
	rc = arena_prepare(&s->arena, LOOK_BYTES);
	if (rc < 0)
		return rc;
	rc = tracer_capture(s->context.tracer, s->context.pid, s->context.mem, &options, &s->arena, &capture, err);
	if (rc < 0)
		return rc;
	charge(budget, 1, capture.stopped_ns, capture.stopped_ns);
	for (size_t i = 0; i < capture.thread_count; i++)
		usable += seen_running(&capture.threads[i]);
	if (usable == 0)
		return 0;
	event.weight_bytes = (uint64_t)(s->carried_bytes / (double)usable);
	for (size_t i = 0; rc >= 0 && i < capture.thread_count; i++)
		if (seen_running(&capture.threads[i]))
			rc = add_stack(s, &capture.threads[i], &event);
	s->carried_bytes = s->arenas_grew = s->idle_bytes = 0.0;
	return rc;
}

static int stacks_look(struct site_source *source, double t_s, uint64_t grew_bytes, double rate,
		       struct site_budget *budget, struct err *err)
{
	struct stacks *s = source->arg;
	uint64_t deadline = clock_now_ns() + budget->max_ns, calls = budget->max_stall_ns / STOP_COST_NS;
	struct catch_options options = {
		.max_events = EVENTS_MAX, .linger_ns = LINGER_NS, .min_bytes = 4096, .cancel = s->context.cancel
	};
	struct catch_result caught = { 0 };
	int rc;

	s->carried_bytes += (double)grew_bytes;
	rc = reserve_ends(s, rate, &options.brk_now, &budget->retry_ns);
	if (rc <= 0)
		return rc;
	arena_reset(&s->arena);
	rc = arena_prepare(&s->arena, LOOK_BYTES);
	if (rc < 0)
		return rc;
	options.max_calls = (uint32_t)(calls < 16 ? 16 : calls > 4096 ? 4096 : calls);
	options.deadline_ns = deadline > clock_now_ns() ? deadline - clock_now_ns() : 0;
	if (options.deadline_ns < 2 * NS_PER_MS)
		options.deadline_ns = 2 * NS_PER_MS;
	if (options.deadline_ns > LISTEN_MAX_NS)
		options.deadline_ns = LISTEN_MAX_NS;
	rc = tracer_catch_growth(s->context.tracer, s->context.pid, s->context.mem, &options, &s->arena, &caught, err);
	if (rc < 0)
		return rc;
	charge(budget, caught.stops, caught.stopped_ns_total, caught.stopped_ns_max);
	s->top_ns = 0; /* what comes next is another reserve */
	if (caught.gave_up && s->ahead_s > AHEAD_MIN_S)
		s->ahead_s *= 0.5;
	if (caught.event_count > 0) {
		s->caught_ns = clock_now_ns();
		return add_events(s, &caught, t_s);
	}
	if (!caught.gave_up)
		s->idle_bytes += rate * (double)caught.listened_ns * 1e-9;
	/* Never beside growth by calls: who merely runs would then be blamed for what others take. */
	if (s->carried_bytes >= TOUCH_BYTES && s->idle_bytes >= TOUCH_BYTES &&
	    clock_now_ns() - s->caught_ns > CALLS_RECENT_NS)
		return look_at_running(s, t_s, budget, err);
	return 0;
}

const struct site_source_ops sites_stacks = {
	.name = "stacks", .open = stacks_open, .look = stacks_look, .close = stacks_close
};
