/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The blob's own parts: nothing here is seen by memwatch.
 *
 *   arch/x86_64.S  header, thunks (the fast path), the way into the slow path
 *   slow.c         countdown, realloc and its like, the real call
 *   record.c       table of live samples, ring, fingerprint, stack
 *   setup.c        probe_setup(), probe_swap()
 *   offsets.c      constants for the assembler
 *
 * Re-entrancy. A signal handler may run on top of any instruction here and allocate. Of what threads share, every word is changed by one
 * atomic instruction and says all on its own (table ways, filter counters, ring head, counters); a record under way is private to its
 * writer until seq is stored. Of what belongs to a thread: the countdown is changed by one instruction, see arch_count_down(), a negative one
 * is recognised by a handler; `random` moves by one atomic addition; mean is a single word, and a handler that comes between
 * two of them leaves values as good as the ones it found (one block's record may carry the mean before or after, where memwatch has just changed it).
 */
#ifndef MEMWATCH_SITES_PROBE_BLOB_INNER_H
#define MEMWATCH_SITES_PROBE_BLOB_INNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sites/probe/blob/blob.h"

#define PROBE_PAGE 4096ULL

/* Hash of a thread pointer, by a multiplication: the high bits of the product. */
#define PROBE_THREAD_FACTOR 0x9e3779b97f4a7c15ULL /* 2^64 over the golden ratio */
#define PROBE_THREAD_SHIFT 52
_Static_assert(1ULL << (64 - PROBE_THREAD_SHIFT) == PROBE_THREADS, "the shift is the one of PROBE_THREADS");
_Static_assert(1ULL << (64 - PROBE_FILTER_SHIFT) == PROBE_FILTER, "the shift is the one of PROBE_FILTER");
_Static_assert(sizeof(struct probe_thread) == 64 && sizeof(struct probe_record) == PROBE_CELL &&
		       sizeof(struct probe_stack) == PROBE_CELL && PROBE_BUCKET_WAYS * sizeof(uint64_t) == 64,
	       "one cache line each");
_Static_assert(offsetof(struct probe_text, state) % 8 == 0, "the header is read by aligned loads");

/* How the slow path was entered: the byte above the function's number. */
#define HOW_SHIFT 8
enum {
	HOW_UNCOUNTED = 0, /* the countdown has not been touched */
	HOW_CROSSED = 1,   /* this block made it negative */
	HOW_BELOW = 2,     /* it was negative already */
	HOW_RELEASE = 4,   /* args[0] is in the table */
};

/* On the stack of the caller: as it was at the thunk's entry. */
struct probe_call {
	uint64_t rbx, rbp, r12, r13, r14, r15;
	uint64_t pc, sp; /* return address; stack pointer after the return */
	uint64_t args[6];
	uint64_t size; /* asked for, at least 1 */
	uint32_t function, how;
	uint64_t result; /* for PROBE_RETURN */
	uint64_t reserved;
};
_Static_assert(sizeof(struct probe_call) % 16 == 0, "the stack stays aligned for the real function");

extern const struct probe_text probe_text __attribute__((visibility("hidden")));

static inline struct probe_state *probe_state(void)
{
	return (struct probe_state *)(uintptr_t)probe_text.state; /* another address space's word, until it runs here */
}

static inline void probe_count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* slow.c. What the stub does next: jump to the real function with the arguments as they were, or return `result`. */
enum { PROBE_PASS, PROBE_RETURN };
int probe_slow(struct probe_call *call);

/* record.c. Whether args[0] was in the table; then it is not any more, and its record is on its way. */
bool probe_give_back(struct probe_state *s, const struct probe_call *call);
void probe_keep(struct probe_state *s, const struct probe_call *call);
/* thread: NULL where the thread has no entry of its own. mean: as in the record. */
void probe_take(struct probe_state *s, struct probe_thread *thread, const struct probe_call *call, uint64_t address,
		uint64_t mean);
uint64_t probe_mix(uint64_t value);

/* setup.c, see blob.h */
void probe_setup(uint64_t request);
void probe_swap(uint64_t request);
int64_t probe_idle(void);

#endif
