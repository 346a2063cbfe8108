/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tracer must know of a processor. One file per architecture; exactly one is compiled in. */
#ifndef MEMWATCH_TRACE_ARCH_H
#define MEMWATCH_TRACE_ARCH_H

#include "memwatch/trace.h"

#define ARCH_CALL_ARGS 6

struct arch_state {
	struct regs regs;
	bool native; /* of the tracer's own word size; else regs.count is 0 and calls are not decoded */
	/* valid in a stop at a system call */
	uint64_t call_number;
	uint64_t call_args[ARCH_CALL_ARGS];
	uint64_t call_result; /* as the kernel returns it: -4095..-1 is an error */
};

/* Registers of a stopped thread: 0, -ESRCH, -ENOTSUP. */
must_check int arch_read(pid_t tid, struct arch_state *ret);

/* Bytes below the stack pointer that belong to the innermost function. */
extern const uint64_t arch_red_zone;

/* AUDIT_ARCH_… of calls whose numbers and arguments arch_growth_call() knows. */
extern const uint32_t arch_audit;

/* bp_len of an execution breakpoint for perf_event_open. */
extern const uint64_t arch_breakpoint_len;

/*
 * Registers in perf's samples: the set to ask for, and how many that are, in perf's order, which decode() turns into ours. thread_base is
 * not among them: 0. wide: of a program of the tracer's own word size; others get pc, sp and fp alone.
 */
extern const uint64_t arch_perf_regs;
#define ARCH_PERF_REGS_MAX 64
extern const uint32_t arch_perf_count;
void arch_perf_decode(const uint64_t *values, bool wide, struct regs *ret);

/* Which growth call a number is; false for all others. */
bool arch_growth_call(uint64_t number, enum growth_call *ret);

/* Calls that fail with EINTR, instead of being restarted, where a thread that sleeps in them is interrupted: signal(7). */
bool arch_call_fragile(uint64_t number);
/*
 * The thread stands in the stop that was asked for, or at the end of a call. Where that made a fragile call fail, it is made again, with its whole timeout; or, where a
 * handler runs first, it fails as it should. Goes on as it is where nothing is to be done, or nothing can.
 */
void arch_mend_call(pid_t tid);

/* Whether the word at `at` of a stack slice is the program counter that the kernel saved in a signal frame. */
bool arch_is_saved_pc(const unsigned char *slice, size_t len, size_t at);

#endif
