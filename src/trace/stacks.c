/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trace_internal.h"
#include "arch/arch.h"

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

/* The list may be this many times as old as it was dear: reading it then costs 2 % of the time at most. */
#define STACKS_AGE_FACTOR 50

void stacks_refresh(struct tracer *t, pid_t pid, struct mem *mem)
{
	const struct region *regions;
	uint64_t now = clock_now_ns();
	ssize_t count;

	if (t->stacks_pid == pid && !t->stacks_stale && now - t->stacks_ns < t->stacks_cost_ns * STACKS_AGE_FACTOR)
		return;
	count = mem ? mem_regions(mem, &regions) : 0;
	t->stack_count = 0;
	t->stacks_pid = pid;
	t->stacks_stale = false;
	for (ssize_t i = 0; i < count; i++) {
		if (!(regions[i].flags & REGION_WRITE))
			continue;
		if (vec_reserve(&t->stacks, &t->stack_cap, t->stack_count + 1, sizeof(*t->stacks)) < 0)
			break;
		t->stacks[t->stack_count++] = (struct stack_range){ regions[i].start, regions[i].end };
	}
	t->stacks_ns = clock_now_ns();
	t->stacks_cost_ns = t->stacks_ns - now;
}

static const struct stack_range *find_range(const struct tracer *t, uint64_t address)
{
	size_t low = 0, high = t->stack_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (address < t->stacks[mid].start)
			high = mid;
		else if (address >= t->stacks[mid].end)
			low = mid + 1;
		else
			return &t->stacks[mid];
	}
	return NULL;
}

void stack_slice(struct tracer *t, const struct regs *regs, size_t slice_bytes, uint64_t *ret_address, size_t *ret_len,
		 bool *ret_whole)
{
	const struct stack_range *range = find_range(t, regs->sp);
	uint64_t start, end;

	*ret_address = regs->sp;
	*ret_len = 0;
	*ret_whole = false;
	if (!range) {
		t->stacks_stale = true; /* a stack younger than the list: known at the next capture */
		return;
	}
	start = regs->sp - range->start > arch_red_zone ? regs->sp - arch_red_zone : range->start;
	end = range->end;
	/* a thread's control block lies on top of its stack; above it there may be another mapping that the kernel merged */
	if (regs->thread_base > regs->sp && regs->thread_base < end)
		end = regs->thread_base;
	*ret_address = start;
	*ret_whole = end - start <= slice_bytes;
	*ret_len = *ret_whole ? (size_t)(end - start) : slice_bytes;
}
