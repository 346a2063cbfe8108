/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What memwatch has called in the target: the state's memory, and the slots. */
#include "sites/probe/blob/arch/x86_64.h"
#include "sites/probe/blob/inner.h"

/* The kernel's numbers, as in its headers, which are not all as new as this. */
#define READ_ONLY 1
#define READ_WRITE 3
/* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE; memwatch populates it, in its own time */
#define MAP_FLAGS 0x100022
#define WIPE_WORDS 60     /* more than the frames of swap_all() and what it calls take */
#define WAIT_ROUNDS 20000 /* of some 40 cycles and more: about a millisecond */
#define ADVICE_DONTDUMP 16
#define ADVICE_WIPEONFORK 18
#define ADVICE_POPULATE_WRITE 23
#define ERROR_INVALID (-22)

/*
 * Done: but the thread waits a little, so that memwatch, where it lives, stops it here and gives it back what it had to the bit. Whoever is the
 * first to take `waiting` away, memwatch or this, decides.
 */
static void finish(struct probe_state *s, int64_t result, uint64_t request)
{
	s->result = result;
	__atomic_store_n(&s->waiting, request, __ATOMIC_RELEASE);
	__atomic_store_n(&s->done, request, __ATOMIC_RELEASE);
	for (int i = 0; i < WAIT_ROUNDS && __atomic_load_n(&s->waiting, __ATOMIC_ACQUIRE) == request; i++)
		__builtin_ia32_pause();
	__atomic_store_n(&s->waiting, 0, __ATOMIC_RELEASE);
}

static int64_t advise(uint64_t start, uint64_t end, uint64_t advice)
{
	return arch_syscall(ARCH_MADVISE, start, end - start, advice, 0, 0, 0);
}

void probe_setup(uint64_t request)
{
	uint64_t start = probe_text.state, end = start + probe_text.state_bytes;
	int64_t rc = arch_syscall(ARCH_MMAP, start, probe_text.state_bytes, READ_WRITE, MAP_FLAGS, UINT64_MAX, 0);

	if (rc < 0 || (uint64_t)rc != start)
		return;
	rc = advise(start, start + offsetof(struct probe_state, slot_count), ADVICE_WIPEONFORK);
	if (rc == 0)
		rc = advise(start + offsetof(struct probe_state, ring), end, ADVICE_WIPEONFORK);
	advise(start, end, ADVICE_DONTDUMP);
	finish(probe_state(), rc, request);
}

static int64_t read_word(const struct probe_state *s, uint64_t address, uint64_t *ret)
{
	uint64_t value = 0;
	struct {
		uint64_t base, bytes;
	} local = { (uint64_t)(uintptr_t)&value, 8 }, remote = { address, 8 };
	int64_t rc = arch_syscall(ARCH_PROCESS_VM_READV, (uint64_t)s->pid, (uint64_t)(uintptr_t)&local, 1,
				  (uint64_t)(uintptr_t)&remote, 1, 0);

	if (rc == 8)
		*ret = value;
	return rc == 8 ? 0 : rc < 0 ? rc : ERROR_INVALID;
}

static int64_t protect(uint64_t address, uint64_t protection)
{
	return arch_syscall(ARCH_MPROTECT, address & ~(PROBE_PAGE - 1), PROBE_PAGE, protection, 0, 0, 0);
}

/* A store to a page that memwatch's view of has become wrong would end the target: so the kernel is asked first, where it can tell. */
static bool is_writable(uint64_t address, bool can_tell)
{
	uint64_t page = address & ~(PROBE_PAGE - 1);

	return !can_tell || advise(page, page + PROBE_PAGE, ADVICE_POPULATE_WRITE) == 0;
}

/* Whether the slot could be written; *ret_swapped: it held `from`, and holds `to` now. */
static bool exchange(const struct probe_slot *slot, uint64_t from, uint64_t to, bool can_tell, bool *ret_swapped)
{
	bool writable;

	if (slot->protect && protect(slot->address, READ_WRITE) < 0)
		return false;
	writable = is_writable(slot->address, can_tell);
	if (writable)
		*ret_swapped = __atomic_compare_exchange_n((uint64_t *)(uintptr_t)slot->address, &from, to, false,
							   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	if (slot->protect)
		protect(slot->address, READ_ONLY);
	return writable;
}

static uint32_t swap(const struct probe_state *s, const struct probe_slot *slot, bool can_tell)
{
	uint64_t thunk, value;
	bool swapped = false;

	if (slot->function >= PROBE_FUNCTION_COUNT || slot->address % 8 || read_word(s, slot->address, &value) < 0)
		return slot->state == PROBE_SLOT_WANTED ? PROBE_SLOT_FAILED : PROBE_SLOT_RESTORED;
	thunk = (uint64_t)(uintptr_t)&probe_text + probe_text.thunk[slot->function];
	if (slot->state == PROBE_SLOT_WANTED) {
		if (value != slot->original || !exchange(slot, value, thunk, can_tell, &swapped))
			return PROBE_SLOT_FAILED;
		return swapped ? PROBE_SLOT_SWAPPED : PROBE_SLOT_FAILED;
	}
	if (value != thunk)
		return PROBE_SLOT_RESTORED; /* the linker bound it, or another module is there now: nothing leads here */
	return exchange(slot, thunk, slot->original, can_tell, &swapped) ? PROBE_SLOT_RESTORED : PROBE_SLOT_UNWANTED;
}

static int64_t __attribute__((noinline)) swap_all(struct probe_state *s)
{
	uint64_t count = s->slot_count < PROBE_SLOTS_MAX ? s->slot_count : PROBE_SLOTS_MAX, unused;
	bool can_tell = is_writable((uint64_t)(uintptr_t)s, true);
	int64_t rc =
		read_word(s, (uint64_t)(uintptr_t)s, &unused); /* what cannot be read here cannot be read anywhere */

	for (uint64_t i = 0; rc == 0 && i < count; i++) {
		struct probe_slot *slot = &s->slots[i];

		if (slot->state == PROBE_SLOT_WANTED || slot->state == PROBE_SLOT_UNWANTED)
			__atomic_store_n(&slot->state, swap(s, slot, can_tell), __ATOMIC_RELEASE);
	}
	return rc;
}

/* Addresses of thunks that swap_all() left on the stack would look like copies that the program has made of a slot. */
static void __attribute__((noinline)) wipe_stack(void)
{
	uint64_t words[WIPE_WORDS];

	for (int i = 0; i < WIPE_WORDS; i++)
		words[i] = 0;
	__asm__ volatile("" : : "r"(words) : "memory"); /* or the compiler would leave the stores out */
}

void probe_swap(uint64_t request)
{
	struct probe_state *s = probe_state();
	int64_t rc = swap_all(s);

	wipe_stack();
	finish(s, rc, request);
}

int64_t probe_idle(void)
{
	return 0;
}
