/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The slow path: whether a block is sampled, and the real call where its result is needed. */
#include "sites/probe/blob/arch/x86_64.h"
#include "sites/probe/blob/inner.h"

#define GAP_MAX (INT64_MAX / 2)
/* Fixed point of 2^-57 (the largest -ln is 64 ln 2 = 44.4), and of 2^-64. */
#define LN_POINT 57
#define LN2_57 0x162e42fefa39ef3ULL /* ln 2 * 2^57 */
#define ROOT_HALF 0xb504f333f9de6484ULL
#define THIRD 0x5555555555555555ULL
#define FIFTH 0x3333333333333333ULL
#define SEVENTH 0x2492492492492492ULL
#define NINTH 0x1c71c71c71c71c71ULL
/* splitmix64 (Steele, Lea, Flood 2014): the state moves by one addition, so that threads and signal handlers never draw the same number. */
#define RANDOM_STEP 0x9e3779b97f4a7c15ULL

#define MAPPING_FAILED UINT64_MAX
#define MREMAP_KEEPS_OLD 4 /* MREMAP_DONTUNMAP */

__extension__ typedef unsigned __int128 wide; /* the one type here that has no name of its own in C17 */

uint64_t probe_mix(uint64_t value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

static uint64_t high(uint64_t a, uint64_t b)
{
	return (uint64_t)((wide)a * b >> 64);
}

/*
 * -ln(u / 2^64) * 2^57, to about 1e-8 of itself: u = 2^-k m with m nearest to 1, and ln m = 2 artanh z, z = (m - 1)/(m + 1), |z| < 0.172, by its
 * series: so it is exact where u is near 1, too.
 */
static uint64_t minus_ln(uint64_t u)
{
	unsigned int shift = (unsigned int)__builtin_clzll(u | 1);
	uint64_t m = (u | 1) << shift, z, z2, sum, part;
	bool doubled = m < ROOT_HALF; /* then twice m is nearer to 1, and above it */

	if (doubled)
		z = arch_fraction((m - (1ULL << 63)) >> 1, (m >> 1) + (1ULL << 62));
	else
		z = arch_fraction(-m >> 1, (m >> 1) + (1ULL << 63));
	z2 = high(z, z);
	sum = THIRD + high(z2, FIFTH + high(z2, SEVENTH + high(z2, NINTH)));
	part = (z + high(z, high(z2, sum)) + 32) >> 6; /* of artanh z * 2^64, twice that * 2^57 */
	return doubled ? (shift + 1) * LN2_57 - part : shift * LN2_57 + part;
}

/* floor(Exp(mean)) */
static int64_t draw_gap(struct probe_thread *t, uint64_t mean)
{
	uint64_t random = probe_mix(__atomic_fetch_add(&t->random, RANDOM_STEP, __ATOMIC_RELAXED));
	wide gap = (wide)minus_ln(random) * mean >> LN_POINT;

	return mean == 0 || gap > GAP_MAX ? GAP_MAX : (int64_t)gap; /* no mean: only the large ones */
}

static void claimed(struct probe_state *s, struct probe_thread *t, uint64_t pointer)
{
	uint64_t mean = __atomic_load_n(&s->mean_bytes, __ATOMIC_RELAXED);

	t->random = probe_mix(s->seed ^ probe_mix(pointer) ^ (uint64_t)(uintptr_t)t ^ s->counters.slow_calls);
	t->stack_top = 0;
	t->mean = mean;
	t->remaining = draw_gap(t, mean);
	__atomic_store_n(&t->owner, pointer, __ATOMIC_RELEASE);
}

/* The thread's entry; *ret_own false: there is none, it is somebody else's. A handler that comes while one is claimed finds it taken, and claims another. */
static struct probe_thread *find_thread(struct probe_state *s, bool claim, bool *ret_own)
{
	uint64_t pointer = arch_thread_pointer(), at = pointer * PROBE_THREAD_FACTOR >> PROBE_THREAD_SHIFT;
	struct probe_thread *t = NULL;

	*ret_own = true;
	for (uint64_t i = 0; i < PROBE_THREAD_TRIES; i++) {
		t = &s->threads[(at + i) & (PROBE_THREADS - 1)];
		if (__atomic_load_n(&t->owner, __ATOMIC_RELAXED) == pointer)
			return t;
	}
	for (uint64_t i = 0; claim && i < PROBE_THREAD_TRIES; i++) {
		uint64_t nobody = 0;

		t = &s->threads[(at + i) & (PROBE_THREADS - 1)];
		if (__atomic_compare_exchange_n(&t->owner, &nobody, PROBE_CLAIMING, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED)) {
			claimed(s, t, pointer);
			return t;
		}
	}
	*ret_own = false;
	return t;
}

/* Whether the block is sampled, and with which mean. */
static bool is_chosen(struct probe_state *s, struct probe_thread *t, bool own, const struct probe_call *call,
		      uint64_t *ret_mean)
{
	uint64_t mean = __atomic_load_n(&s->mean_bytes, __ATOMIC_RELAXED), drawn_with = t->mean;
	uint32_t how = call->how & (HOW_CROSSED | HOW_BELOW);
	bool chosen, below;

	if (call->size >= s->large_bytes) {
		*ret_mean = 0;
		return true;
	}
	if (!own) {
		*ret_mean = mean;
		return draw_gap(t, mean) < (int64_t)call->size;
	}
	if (how == HOW_UNCOUNTED) {
		bool before = arch_count_down(&t->remaining, call->size, &below);

		if (!below)
			return false;
		how = before ? HOW_CROSSED : HOW_BELOW;
	}
	*ret_mean = how == HOW_CROSSED ? drawn_with : mean;
	chosen = how == HOW_CROSSED || draw_gap(t, mean) < (int64_t)call->size;
	t->mean = mean;
	__atomic_store_n(&t->remaining, draw_gap(t, mean), __ATOMIC_RELEASE);
	return chosen;
}

static uint64_t call_real(uint32_t function, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	typedef uint64_t real_function(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

	return ((real_function *)(uintptr_t)probe_text.real[function])(a, b, c, d, e, f);
}

/* The form of operator new that returns NULL, or 0: this one does not throw. */
static uint32_t nothrow_form(uint32_t function)
{
	switch (function) {
	case PROBE_NEW:
		return PROBE_NEW_NOTHROW;
	case PROBE_NEW_ARRAY:
		return PROBE_NEW_ARRAY_NOTHROW;
	case PROBE_NEW_ALIGNED:
		return PROBE_NEW_ALIGNED_NOTHROW;
	case PROBE_NEW_ARRAY_ALIGNED:
		return PROBE_NEW_ARRAY_ALIGNED_NOTHROW;
	default:
		return 0;
	}
}

/* The block, 0 on failure. The argument std::nothrow of the nothrow forms is an empty object that nobody reads: any address that is there. */
static uint64_t call_and_take(struct probe_call *call)
{
	const uint64_t *a = call->args;
	uint32_t nothrow = nothrow_form(call->function);
	uint64_t object = (uint64_t)(uintptr_t)&probe_text;

	if (nothrow == PROBE_NEW_NOTHROW || nothrow == PROBE_NEW_ARRAY_NOTHROW)
		call->result = call_real(nothrow, a[0], object, 0, 0, 0, 0);
	else if (nothrow)
		call->result = call_real(nothrow, a[0], a[1], object, 0, 0, 0);
	else
		call->result = call_real(call->function, a[0], a[1], a[2], a[3], a[4], a[5]);
	switch (call->function) {
	case PROBE_POSIX_MEMALIGN:
		return (uint32_t)call->result == 0 ? *(uint64_t *)(uintptr_t)a[0] : 0;
	case PROBE_MMAP:
	case PROBE_MREMAP:
	case PROBE_SBRK:
		return call->result == MAPPING_FAILED ? 0 : call->result;
	default:
		return call->result;
	}
}

/* The block at args[0] was taken out of the table for this call: whether it is there all the same. */
static bool is_kept(const struct probe_call *call, uint64_t block)
{
	switch (call->function) {
	case PROBE_REALLOC:
		return block == 0 && call->args[1] != 0;
	case PROBE_REALLOCARRAY:
		return block == 0 && call->args[1] != 0 && call->args[2] != 0;
	case PROBE_MREMAP:
		return block == 0;
	case PROBE_MUNMAP:
		return (uint32_t)call->result != 0;
	default:
		return false;
	}
}

static bool takes(uint32_t function)
{
	return function <= PROBE_REALLOCARRAY || (function >= PROBE_MEMALIGN && function < PROBE_DELETE) ||
	       function >= PROBE_MREMAP || function == PROBE_MMAP;
}

static int go_through(struct probe_state *s, struct probe_thread *t, bool own, struct probe_call *call)
{
	bool out = false, chosen = false, is_mremap = call->function == PROBE_MREMAP;
	uint64_t mean = 0, block;

	if (call->how & HOW_RELEASE || (is_mremap && call->args[1] != 0 && !(call->args[3] & MREMAP_KEEPS_OLD)))
		out = probe_give_back(s, call);
	if (takes(call->function) && __atomic_load_n(&s->enabled, __ATOMIC_RELAXED) &&
	    !(is_mremap && call->args[1] >= s->large_bytes && !out))
		chosen = is_chosen(s, t, own, call, &mean);
	if (chosen && nothrow_form(call->function) && probe_text.real[nothrow_form(call->function)] == 0) {
		probe_count(&s->counters.unsampled);
		return PROBE_PASS;
	}
	/* After free there is nothing more to do than to jump to it; else the result is needed. */
	if (!chosen && !(out && (takes(call->function) || call->function == PROBE_MUNMAP)))
		return PROBE_PASS;
	block = call_and_take(call);
	if (out && is_kept(call, block))
		probe_keep(s, call);
	if (block == 0 && nothrow_form(call->function))
		return PROBE_PASS; /* the throwing one fails as it should, or finds memory after all */
	/* A child after a fork within the real call has a state of zeros. */
	if (chosen && block != 0 && __atomic_load_n(&s->enabled, __ATOMIC_RELAXED))
		probe_take(s, own ? t : NULL, call, block, mean);
	return PROBE_RETURN;
}

int probe_slow(struct probe_call *call)
{
	struct probe_state *s = probe_state();
	bool own;
	struct probe_thread *t = find_thread(s, __atomic_load_n(&s->enabled, __ATOMIC_RELAXED) != 0, &own);
	int next;

	__atomic_fetch_add(&t->inside, 1, __ATOMIC_SEQ_CST);
	probe_count(&s->counters.slow_calls);
	next = go_through(s, t, own, call);
	__atomic_fetch_sub(&t->inside, 1, __ATOMIC_SEQ_CST);
	return next;
}
