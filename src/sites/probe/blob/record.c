/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Live samples, and the records of them. */
#include "sites/probe/blob/arch/x86_64.h"
#include "sites/probe/blob/inner.h"

#define FILTER_STUCK 255      /* a counter that came here stays: how many it stands for is not known any more */
#define FINGERPRINT_BYTES 512 /* of stack: the callers of a few frames */

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void filter_move(struct probe_state *s, uint64_t address, int step)
{
	uint8_t *counter = &s->filter[PROBE_FILTER_OF(address)];
	uint8_t old = __atomic_load_n(counter, __ATOMIC_RELAXED);

	while (old != FILTER_STUCK && !(old == 0 && step < 0))
		if (__atomic_compare_exchange_n(counter, &old, (uint8_t)(old + step), false, __ATOMIC_SEQ_CST,
						__ATOMIC_RELAXED))
			return;
}

/*
 * The filter goes up before the address is in, and down after it is out: whoever frees the block finds both. *ret_replaced: it was there still. Nobody else
 * puts in or takes out this address meanwhile: the block is the caller's.
 */
static bool table_put(struct probe_state *s, uint64_t address, bool *ret_replaced)
{
	uint64_t *ways = s->table[PROBE_BUCKET_OF(address)];

	*ret_replaced = false;
	for (int i = 0; i < PROBE_BUCKET_WAYS; i++)
		if (__atomic_load_n(&ways[i], __ATOMIC_RELAXED) == address) {
			*ret_replaced = true;
			return true;
		}
	filter_move(s, address, 1);
	for (int i = 0; i < PROBE_BUCKET_WAYS; i++) {
		uint64_t nothing = 0;

		if (__atomic_compare_exchange_n(&ways[i], &nothing, address, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			return true;
	}
	filter_move(s, address, -1);
	return false;
}

static bool table_take_out(struct probe_state *s, uint64_t address)
{
	uint64_t *ways = s->table[PROBE_BUCKET_OF(address)];

	for (int i = 0; address != 0 && i < PROBE_BUCKET_WAYS; i++) {
		uint64_t found = address;

		if (__atomic_compare_exchange_n(&ways[i], &found, 0, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
			filter_move(s, address, -1);
			return true;
		}
	}
	return false;
}

static struct probe_record *cell_at(struct probe_state *s, uint64_t position)
{
	return (struct probe_record *)(void *)(s->ring + (position & (PROBE_CELLS - 1)) * PROBE_CELL);
}

/* From here on the reader may read it, and soon after others may write there. */
static void ring_commit(struct probe_record *record, uint64_t position)
{
	__atomic_store_n(&record->seq, position + 1, __ATOMIC_RELEASE);
}

/* NULL: no room. Its seq is an older one until ring_commit(). */
static struct probe_record *ring_reserve(struct probe_state *s, uint32_t cells, uint64_t *ret_position)
{
	uint64_t head = __atomic_load_n(&s->head, __ATOMIC_RELAXED), left, pad, used;

	do {
		left = PROBE_CELLS - (head & (PROBE_CELLS - 1));
		pad = cells > left ? left : 0;
		used = head - __atomic_load_n(&s->tail, __ATOMIC_ACQUIRE);
		if (used > PROBE_CELLS || PROBE_CELLS - used < pad + cells)
			return NULL;
	} while (!__atomic_compare_exchange_n(&s->head, &head, head + pad + cells, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_RELAXED));
	if (pad > 0) {
		struct probe_record *padding = cell_at(s, head);

		padding->cells = (uint32_t)pad;
		padding->kind = PROBE_PAD;
		ring_commit(padding, head);
	}
	*ret_position = head + pad;
	return cell_at(s, head + pad);
}

static void fill(struct probe_record *record, uint32_t cells, uint8_t kind, uint32_t function, uint64_t address)
{
	record->cells = cells;
	record->kind = kind;
	record->function = (uint8_t)function;
	record->reserved = 0;
	record->address = address;
	record->size = record->mean = record->fingerprint = record->pc = record->sp = 0;
}

static bool send_address(struct probe_state *s, uint8_t kind, const struct probe_call *call)
{
	uint64_t position;
	struct probe_record *record = ring_reserve(s, 1, &position);

	if (!record)
		return false;
	fill(record, 1, kind, call->function, call->args[0]);
	record->pc = call->pc;
	record->sp = call->sp;
	ring_commit(record, position);
	return true;
}

bool probe_give_back(struct probe_state *s, const struct probe_call *call)
{
	if (!table_take_out(s, call->args[0]))
		return false;
	probe_count(&s->counters.given_back);
	if (!send_address(s, PROBE_GIVEN_BACK, call))
		probe_count(&s->counters.dropped_given_back);
	return true;
}

void probe_keep(struct probe_state *s, const struct probe_call *call)
{
	bool replaced;

	if (!table_put(s, call->args[0], &replaced)) {
		probe_count(&s->counters.dropped_table);
	} else if (!send_address(s, PROBE_KEPT, call)) {
		table_take_out(s, call->args[0]);
		probe_count(&s->counters.dropped_ring);
	} else {
		probe_count(&s->counters.kept);
	}
}

/*
 * Where the memory ends of which the return address is a part: all up to there can be read, as far as anybody can know without a system call. sp
 * itself may be the first byte after a stack.
 */
static uint64_t end_of_page(uint64_t sp)
{
	return ((sp - 8) | (PROBE_PAGE - 1)) + 1;
}

static uint64_t fingerprint_of(const struct probe_state *s, const struct probe_call *call)
{
	uint64_t end = min(call->sp + FINGERPRINT_BYTES, end_of_page(call->sp)), low = UINT64_MAX, top = 0;
	uint64_t count = min(s->range_count, PROBE_RANGES), hash = probe_mix(call->pc) ^ call->sp;

	for (uint64_t i = 0; i < count; i++) {
		low = min(low, s->ranges[i].start);
		top = s->ranges[i].end > top ? s->ranges[i].end : top;
	}
	for (uint64_t at = call->sp; at + 8 <= end; at += 8) {
		uint64_t word = *(const uint64_t *)(uintptr_t)at;

		if (word < low || word >= top)
			continue;
		for (uint64_t i = 0; i < count; i++)
			if (word >= s->ranges[i].start && word < s->ranges[i].end) {
				hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
				hash ^= hash >> 32;
				break;
			}
	}
	hash = probe_mix(hash);
	return hash ? hash : 1;
}

static struct probe_key *key_of(struct probe_state *s, uint64_t fingerprint)
{
	return &s->keys[fingerprint % PROBE_KEYS];
}

static bool wants_stack(struct probe_state *s, uint64_t fingerprint)
{
	struct probe_key *key = key_of(s, fingerprint);

	if (__atomic_load_n(&key->fingerprint, __ATOMIC_RELAXED) != fingerprint)
		return true;
	return __atomic_add_fetch(&key->uses, 1, __ATOMIC_RELAXED) % PROBE_RESEND == 0;
}

struct bounds {
	uint64_t end; /* how far to read; not below sp */
	bool whole;   /* it is the end of the stack */
	bool cut;     /* it is the end of the page, and the stack may go on */
};

/* The end of the published range that sp lies in; 0: it does not. memwatch may write a new one meanwhile: it takes away *top first, and gives it last. */
static uint64_t end_of_range(const uint64_t *low, const uint64_t *top, uint64_t sp)
{
	uint64_t end = __atomic_load_n(top, __ATOMIC_ACQUIRE), start = __atomic_load_n(low, __ATOMIC_ACQUIRE);

	return sp >= start && sp < end && __atomic_load_n(top, __ATOMIC_RELAXED) == end ? end : 0;
}

/*
 * As struct probe_thread says: the entry, or its thread pointer, may be another thread's by now, and memory between here and there be gone. tid first: where it
 * is ours, so is the range, which was written before it.
 */
static uint64_t end_of_own_stack(const struct probe_thread *t, uint64_t sp)
{
	uint64_t pointer = arch_thread_pointer(), end;
	uint32_t at;

	if (__atomic_load_n(&t->stack_top, __ATOMIC_ACQUIRE) != pointer)
		return 0;
	at = __atomic_load_n(&t->tid_at, __ATOMIC_ACQUIRE);
	if (at != 0 &&
	    *(const volatile uint32_t *)(uintptr_t)(pointer + at) != __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE))
		return 0;
	end = end_of_range(&t->stack_low, &t->stack_top, sp);
	return end == pointer ? end : 0;
}

/*
 * How far the stack can be read without a doubt: to its end where memwatch has seen that [sp, end) is this thread's own stack; else to the end of the
 * page. No system call that would tell: a program may confine itself (seccomp) at any time, and would be killed for it.
 */
static struct bounds bounds_of(const struct probe_state *s, const struct probe_thread *t, uint64_t sp)
{
	uint64_t slice = min(__atomic_load_n(&s->slice_bytes, __ATOMIC_RELAXED), PROBE_SLICE_MAX) & ~7ULL;
	uint64_t end = end_of_range(&s->main_low, &s->main_top, sp);
	struct bounds b;
	bool known;

	if (end == 0 && t)
		end = end_of_own_stack(t, sp);
	known = end != 0;
	end = (known ? end : end_of_page(sp)) & ~7ULL;
	end = end > sp ? end : sp;
	b.end = min(end, sp + slice);
	b.whole = b.end == end && known;
	b.cut = b.end == end && !known;
	return b;
}

static void read_slice(uint64_t sp, const struct bounds *b, struct probe_stack *stack)
{
	uint64_t *to = (uint64_t *)(void *)(stack + 1), count = b->end > sp ? (b->end - sp) / 8 : 0;

	for (uint64_t i = 0; i < count; i++)
		to[i] = ((const volatile uint64_t *)(uintptr_t)sp)[i];
	stack->slice_bytes = (uint32_t)(count * 8);
	stack->whole = b->whole;
}

static void fill_stack(const struct probe_call *call, const struct bounds *b, struct probe_stack *stack)
{
	stack->rbx = call->rbx;
	stack->rbp = call->rbp;
	stack->r12 = call->r12;
	stack->r13 = call->r13;
	stack->r14 = call->r14;
	stack->r15 = call->r15;
	stack->thread_base = arch_thread_pointer();
	read_slice(call->sp, b, stack);
}

static bool send_sample(struct probe_state *s, struct probe_thread *t, const struct probe_call *call, uint64_t address,
			uint64_t mean)
{
	uint64_t fingerprint = fingerprint_of(s, call), position;
	bool with_stack = wants_stack(s, fingerprint);
	struct bounds b = { 0 };
	struct probe_record *record;
	uint32_t cells = 1;

	if (with_stack) {
		b = bounds_of(s, t, call->sp);
		cells = 2 + (uint32_t)((b.end - call->sp + PROBE_CELL - 1) / PROBE_CELL);
	}
	record = ring_reserve(s, cells, &position);
	if (!record)
		return false;
	fill(record, cells, PROBE_TAKEN, call->function, address);
	record->size = call->size;
	record->mean = mean;
	record->fingerprint = fingerprint;
	record->pc = call->pc;
	record->sp = call->sp;
	if (with_stack)
		fill_stack(call, &b, (struct probe_stack *)(void *)(record + 1));
	ring_commit(record, position);
	if (with_stack) {
		__atomic_store_n(&key_of(s, fingerprint)->fingerprint, fingerprint, __ATOMIC_RELEASE);
		probe_count(&s->counters.slices);
		if (b.cut)
			probe_count(&s->counters.cut_stacks);
	}
	return true;
}

void probe_take(struct probe_state *s, struct probe_thread *thread, const struct probe_call *call, uint64_t address,
		uint64_t mean)
{
	bool replaced;

	if (!table_put(s, address, &replaced)) {
		probe_count(&s->counters.dropped_table);
		return;
	}
	if (replaced)
		probe_count(&s->counters.replaced);
	if (send_sample(s, thread, call, address, mean)) {
		probe_count(&s->counters.samples);
		return;
	}
	probe_count(&s->counters.dropped_ring);
	if (table_take_out(s, address) && replaced) /* no sample took its place: it was given back, unseen */
		probe_count(&s->counters.given_back), __atomic_fetch_sub(&s->counters.replaced, 1, __ATOMIC_RELAXED);
}
