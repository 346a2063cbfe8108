/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The source `probe`: takes what the blob has sampled into the ledger, and sets the pace.
 *
 * Pace: the mean of the sampling is kept where it costs memwatch what the session allows (measured), or the target TARGET_SHARE (reckoned),
 * whichever is more. It goes up at once when there are too many, down by halves when there is room: a gap that was drawn with a large mean is used up before a
 * smaller one counts, so beginning fine is better than beginning coarse.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/map.h"
#include "sites/probe/probe.h"

#define LOOK_NS (100 * NS_PER_MS)
#define MEAN_MIN 256ULL
#define MEAN_MAX (64ULL << 20)
#define TARGET_NS_PER_SAMPLE 250 /* taken and given back, measured by bench_probe */
#define TARGET_NS_PER_SLICE 1500
#define TARGET_SHARE 0.01            /* of one core, in the target */
#define PACE_SLACK 1.25              /* the mean stays where the cost is within this of what is allowed */
#define MODULES_NS (200 * NS_PER_MS) /* between two questions after newly loaded modules */
#define VERIFY_NS (5 * NS_PER_S)     /* between two comparisons with the table of live samples */
#define SYMBOLS_FRESH_NS (2 * NS_PER_S)
#define START_NS (5 * NS_PER_S) /* for the run-time linker of our own child */
#define START_CALLS 200000
#define POPULATE_S 0.1 /* a look before is the last one, of a program that ends */
#define KEYS_MAX 65536 /* fingerprints remembered */
#define DEEP_SHARE 4   /* one truncated stack in so many: longer slices from now on */
#define GAPS_MAX 4
#define LIFTED 64 /* calls of realloc() under way */

struct probe {
	struct site_context context;
	struct probe_place place;
	struct slot_set slots; /* as found at the opening, until they are swapped */
	struct probe_ring ring;
	struct probe_threads threads;
	struct map stacks; /* fingerprint -> stack of the ledger */
	struct probe_counters seen;
	uint64_t mean, slice_bytes;
	uint64_t modules_ns, verify_ns, symbols_ns, pace_ns;
	double t_s;
	uint64_t unwound, truncated;
	struct lifted { /* by realloc(): its record is followed by that of the new block, of the same call */
		uint64_t pc, sp;
		double born_s;
	} lifted[LIFTED];
	size_t lifted_next;
	char gaps[GAPS_MAX][ERR_MSG_BYTES];
	size_t gap_count;
};

static void note(struct probe *s, const char *text)
{
	for (size_t i = 0; i < s->gap_count; i++)
		if (strcmp(s->gaps[i], text) == 0)
			return;
	if (s->gap_count < GAPS_MAX)
		snprintf(s->gaps[s->gap_count++], sizeof(s->gaps[0]), "%s", text);
}

/* ---- opening ---- */

static int linker_is_done(void *arg)
{
	struct probe *s = arg;
	struct err ignored = ERR_INIT;
	uint64_t generation;
	int rc = slots_generation(s->context.pid, s->context.mem,
				  &generation); /* a few reads say no, most of the time */

	if (rc >= 0)
		rc = slots_find(s->context.pid, s->context.mem, &s->slots, &ignored);
	if (rc < 0)
		slot_set_deinit(&s->slots);
	return rc == -EAGAIN ? 0 : rc < 0 ? rc : 1;
}

static void charge(struct probe *s, struct site_budget *budget)
{
	if (!budget)
		return;
	budget->stops += s->place.cost.stops;
	budget->spent_stall_ns += s->place.cost.stopped_ns_total;
	if (s->place.cost.stopped_ns_max > budget->stopped_ns_max)
		budget->stopped_ns_max = s->place.cost.stopped_ns_max;
	s->place.cost = (struct remote_result){ 0 };
}

static void probe_source_close(struct site_source *source)
{
	struct probe *s = source->arg;

	probe_place_close(&s->place);
	probe_ring_deinit(&s->ring);
	slot_set_deinit(&s->slots);
	map_deinit(&s->stacks);
	free(s);
	free(source);
}

/* Held at its exec, a child is let run until its modules are linked: nothing of its own has run by then. */
static int wait_for_linker(struct probe *s, struct err *err)
{
	int rc = tracer_run_until(s->context.tracer, s->context.pid, linker_is_done, s, START_NS, START_CALLS, err);

	return rc;
}

static int begin_sampling(struct probe *s, struct err *err)
{
	struct err why = ERR_INIT;
	int rc = 0;

	/* first of all: it writes over what the state holds. A program that begins may end at once: there it is done at the first look */
	if (!s->context.from_start)
		rc = probe_populate(&s->place, false, &why);
	if (rc >= 0)
		rc = probe_swap_slots(&s->place, &s->slots, &why);
	if (rc == -EAGAIN) /* the linker is at work: look_for_modules() will come to it */
		rc = 0;
	else if (rc < 0)
		return err_set(err, -rc, "%s", why.msg);
	rc = mem_read_u64(s->context.mem, s->place.state + offsetof(struct probe_state, tail), &s->ring.tail);
	if (rc >= 0)
		rc = probe_tell_stacks(&s->threads, &s->place);
	if (rc >= 0)
		rc = probe_set(&s->place, offsetof(struct probe_state, enabled), 1);
	if (rc < 0)
		err_set(err, -rc, "cannot start the probe in process %d: %s", (int)s->context.pid, strerror(-rc));
	return rc;
}

static int probe_source_open(const struct site_context *context, struct site_source **ret, struct err *err)
{
	struct site_source *source = calloc(1, sizeof(*source));
	struct probe *s = calloc(1, sizeof(*s));
	struct err why = ERR_INIT;
	int rc = 0;

	if (!source || !s) {
		free(source);
		free(s);
		return err_set(err, ENOMEM, "out of memory");
	}
	s->context = *context;
	s->place = (struct probe_place)PROBE_PLACE_INIT;
	map_init(&s->stacks);
	*source = (struct site_source){ .ops = &sites_probe, .arg = s };
	if (context->from_start)
		rc = wait_for_linker(s, err);
	if (rc >= 0)
		rc = probe_place_open(context->pid, context->tracer, context->mem, &s->slots, &s->place, err);
	if (rc >= 0) {
		rc = begin_sampling(s, err);
		if (rc < 0 && probe_leave(&s->place, &why) < 0 && why.code != ESRCH)
			rc = err_set(err, why.code, "%s", why.msg);
	}
	if (rc < 0) {
		probe_source_close(source);
		return rc;
	}
	s->pace_ns = s->verify_ns = clock_now_ns();
	s->mean = 8 << 10;
	s->slice_bytes = 8 << 10;
	*ret = source;
	return 0;
}

/* ---- records ---- */

static int unwind_slice(struct probe *s, const struct probe_event *e, struct unwind_stack *ret)
{
	const struct probe_stack *from = e->stack;
	struct thread_stack stack = { .condition = THREAD_CAPTURED,
				      .slice_address = e->record->sp,
				      .slice = e->slice,
				      .slice_len = from->slice_bytes,
				      .slice_full = from->whole != 0 };
	/* By DWARF number. The caller's other registers are lost in the call. pc: the call itself, so that it is looked up as its line. */
	const uint64_t values[17] = {
		[3] = from->rbx,  [6] = from->rbp,  [7] = e->record->sp, [12] = from->r12,
		[13] = from->r13, [14] = from->r14, [15] = from->r15,    [16] = e->record->pc - 1
	};
	uint64_t now = clock_now_ns();
	int rc;

	memcpy(stack.regs.value, values, sizeof(values));
	stack.regs.count = 17;
	stack.regs.pc = e->record->pc - 1;
	stack.regs.sp = e->record->sp;
	stack.regs.fp = from->rbp;
	stack.regs.thread_base = from->thread_base;
	rc = unwind_thread(s->context.symbols, &stack, ret);
	if (rc >= 0 && ret->end != FRAME_OK && now - s->symbols_ns > SYMBOLS_FRESH_NS) {
		s->symbols_ns = now;
		rc = symbols_update(s->context.symbols, s->context.mem);
		if (rc >= 0)
			rc = unwind_thread(s->context.symbols, &stack, ret);
	}
	s->unwound++;
	s->truncated += rc >= 0 && ret->end == FRAME_TRUNCATED && !stack.slice_full;
	return rc;
}

/* The stack of a record: unwound, or known by its fingerprint; else the caller alone. */
static int stack_of(struct probe *s, const struct probe_event *e, uint32_t *ret)
{
	struct unwind_stack stack = { .pcs = { e->record->pc - 1 }, .count = 1, .end = FRAME_TRUNCATED };
	uint64_t known;
	int rc = 0;

	if (!e->stack && map_get(&s->stacks, e->record->fingerprint, &known)) {
		*ret = (uint32_t)known;
		return 0;
	}
	if (e->stack && e->stack->slice_bytes > 0)
		rc = unwind_slice(s, e, &stack);
	if (rc >= 0)
		rc = site_ledger_stack(s->context.ledger, &stack, sites_probe.name, ret);
	if (rc < 0 || !e->stack || s->stacks.count >= KEYS_MAX)
		return rc;
	return map_put(&s->stacks, e->record->fingerprint, *ret);
}

static double weight_of(const struct probe_record *r)
{
	double size = r->size > 0 ? (double)r->size : 1.0;

	return r->mean > 0 ? size / -expm1(-size / (double)r->mean) : size;
}

static bool goes_on(uint8_t function)
{
	return function == PROBE_REALLOC || function == PROBE_REALLOCARRAY || function == PROBE_MREMAP;
}

/* realloc() moves a block: what it goes on as keeps its age. */
static void lift(struct probe *s, const struct probe_record *r)
{
	struct lifted *l = &s->lifted[s->lifted_next % LIFTED];
	double born_s;

	if (!site_ledger_lift(s->context.ledger, r->address, &born_s))
		return;
	*l = (struct lifted){ r->pc, r->sp, born_s };
	s->lifted_next++;
}

static double born_of(struct probe *s, const struct probe_record *r)
{
	for (size_t i = 0; goes_on(r->function) && i < LIFTED; i++) {
		struct lifted *l = &s->lifted[i];

		if (l->pc == r->pc && l->sp == r->sp && l->pc != 0) {
			l->pc = 0;
			return l->born_s;
		}
	}
	return 0.0;
}

static int take(void *arg, const struct probe_event *e)
{
	struct probe *s = arg;
	const struct probe_record *r = e->record;
	struct ledger_block block = { .address = r->address, .size = r->size, .t_s = s->t_s };
	uint32_t stack;
	int rc;

	switch (r->kind) {
	case PROBE_TAKEN:
		rc = stack_of(s, e, &stack);
		if (rc < 0)
			return rc;
		block.weight_bytes = weight_of(r);
		block.born_s = born_of(s, r);
		block.in_heap = r->function < PROBE_MMAP;
		return site_ledger_taken(s->context.ledger, stack, &block);
	case PROBE_GIVEN_BACK:
		if (goes_on(r->function))
			lift(s, r);
		else
			site_ledger_given_back(s->context.ledger, r->address, s->t_s);
		return 0;
	default:
		return 0;
	}
}

/* ---- pace ---- */

static double events_cost_ns(const struct probe_counters *now, const struct probe_counters *before)
{
	return (double)(now->samples - before->samples) * TARGET_NS_PER_SAMPLE +
	       (double)(now->slices - before->slices) * TARGET_NS_PER_SLICE;
}

static int set_pace(struct probe *s, uint64_t now_ns, uint64_t own_ns)
{
	struct probe_counters now;
	double span, ratio, target_ratio;
	uint64_t mean = s->mean;
	int rc = mem_read_exact(s->context.mem, s->place.state + offsetof(struct probe_state, counters), &now,
				sizeof(now));

	if (rc < 0)
		return rc;
	span = (double)(now_ns - s->pace_ns);
	ratio = span > 0.0 ? (double)own_ns / (span * s->context.cpu_share) : 1.0;
	target_ratio = span > 0.0 ? events_cost_ns(&now, &s->seen) / (span * TARGET_SHARE) : 1.0;
	ratio = ratio > target_ratio ? ratio : target_ratio;
	if (now.dropped_ring > s->seen.dropped_ring || now.dropped_table > s->seen.dropped_table)
		ratio = ratio > 2.0 ? ratio : 2.0;
	if (now.dropped_given_back > s->seen.dropped_given_back)
		s->verify_ns = 0;
	s->seen = now;
	s->pace_ns = now_ns;
	if (ratio > PACE_SLACK)
		mean = (uint64_t)((double)mean * (ratio < 16.0 ? ratio : 16.0));
	else if (ratio < 1.0 / PACE_SLACK)
		mean = (uint64_t)((double)mean * (ratio > 0.5 ? ratio : 0.5));
	mean = mean < MEAN_MIN ? MEAN_MIN : mean > MEAN_MAX ? MEAN_MAX : mean;
	if (mean == s->mean)
		return 0;
	s->mean = mean;
	return probe_set(&s->place, offsetof(struct probe_state, mean_bytes), mean);
}

/* Stacks that were cut short often: longer slices. */
static int set_slices(struct probe *s)
{
	if (s->unwound < 64)
		return 0;
	bool deep = s->truncated > s->unwound / DEEP_SHARE && s->slice_bytes < PROBE_SLICE_MAX;

	s->unwound = s->truncated = 0;
	if (!deep)
		return 0;
	s->slice_bytes *= 2;
	return probe_set(&s->place, offsetof(struct probe_state, slice_bytes), s->slice_bytes);
}

/* ---- truth ---- */

static bool is_not_in(void *arg, uint64_t address, uint64_t size)
{
	uint64_t there;

	(void)size;
	return !map_get(arg, address, &there);
}

/* Releases for which the ring had no room are in no record: what is not in the table of live samples has been given back. */
static int compare_with_table(struct probe *s)
{
	const size_t bytes = sizeof(((struct probe_state *)0)->table);
	uint64_t *table cleanup_free = malloc(bytes);
	struct map there = MAP_INIT;
	int rc = table ? mem_read_exact(s->context.mem, s->place.state + offsetof(struct probe_state, table), table,
					bytes) :
			 -ENOMEM;

	for (size_t i = 0; rc >= 0 && i < bytes / sizeof(*table); i++)
		if (table[i] != 0)
			rc = map_put(&there, table[i], 1);
	if (rc >= 0)
		site_ledger_each(s->context.ledger, is_not_in, &there, s->t_s);
	map_deinit(&there);
	return rc;
}

static int look_for_modules(struct probe *s, struct err *err)
{
	uint64_t generation;
	int rc = slots_generation(s->context.pid, s->context.mem, &generation);

	if (rc == -EAGAIN || (rc >= 0 && generation == s->place.link_maps && s->place.unsettled == 0))
		return 0;
	if (rc >= 0)
		rc = probe_swap_slots(&s->place, NULL, err);
	if (rc >= 0)
		rc = symbols_update(s->context.symbols, s->context.mem);
	map_clear(&s->stacks); /* what was unwound without knowing the new modules */
	return rc == -EAGAIN || rc == -ETIME ? 0 : rc;
}

static void note_gaps(struct probe *s)
{
	char text[ERR_MSG_BYTES];

	if (s->place.foreign > 0) {
		snprintf(text, sizeof(text),
			 "%llu slots of modules lead to another allocator than the rest: what passes there is not "
			 "seen; --sites faults",
			 (unsigned long long)s->place.foreign);
		note(s, text);
	}
	if (s->seen.dropped_ring + s->seen.dropped_table > 0)
		note(s, "samples came faster than they could be kept, and were dropped while the pace was set; raise "
			"--budget");
}

/* A program that ends at once is not to pay for a whole look. */
static bool nothing_sampled(const struct probe *s)
{
	uint64_t head;

	return mem_read_u64(s->context.mem, s->place.state + offsetof(struct probe_state, head), &head) >= 0 &&
	       head == s->ring.tail;
}

static int probe_source_look(struct site_source *source, double t_s, uint64_t grew_bytes, double rate,
			     struct site_budget *budget, struct err *err)
{
	struct probe *s = source->arg;
	uint64_t begin = clock_self_cpu_ns(), now = clock_now_ns();
	ssize_t taken;
	int rc = 0;

	(void)grew_bytes;
	(void)rate;
	budget->retry_ns = LOOK_NS;
	s->t_s = t_s;
	if (t_s < POPULATE_S && nothing_sampled(s)) {
		site_ledger_tick(s->context.ledger, t_s);
		charge(s, budget);
		return 0;
	}
	if (now - s->modules_ns > MODULES_NS) {
		s->modules_ns = now;
		rc = look_for_modules(s, err);
	}
	if (s->symbols_ns == 0) {
		s->symbols_ns = now;
		if (s->context.from_start && t_s > POPULATE_S) {
			struct err ignored = ERR_INIT; /* then it grows by them */

			(void)!probe_populate(&s->place, true, &ignored);
		}
		rc = rc < 0 ? rc : symbols_update(s->context.symbols, s->context.mem);
	}
	if (rc >= 0)
		rc = probe_tell_stacks(&s->threads, &s->place);
	taken = rc < 0 ? rc : probe_ring_read(&s->ring, &s->place, take, s);
	if (taken >= 0 && now - s->verify_ns > VERIFY_NS) {
		s->verify_ns = now;
		rc = compare_with_table(s);
	}
	site_ledger_tick(s->context.ledger, t_s);
	if (taken >= 0 && rc >= 0)
		rc = set_pace(s, now, clock_self_cpu_ns() - begin);
	if (taken >= 0 && rc >= 0)
		rc = set_slices(s);
	note_gaps(s);
	charge(s, budget);
	return taken < 0 ? (int)taken : rc;
}

static int probe_source_leave(struct site_source *source, struct site_budget *budget, struct err *err)
{
	struct probe *s = source->arg;
	int rc = probe_leave(&s->place, err);

	charge(s, budget);
	return rc;
}

static const char *probe_source_gap(struct site_source *source, size_t i)
{
	const struct probe *s = source->arg;

	return i < s->gap_count ? s->gaps[i] : NULL;
}

const struct site_source_ops sites_probe = { .name = "probe",
					     .continuous = true,
					     .open = probe_source_open,
					     .look = probe_source_look,
					     .leave = probe_source_leave,
					     .gap = probe_source_gap,
					     .close = probe_source_close };
