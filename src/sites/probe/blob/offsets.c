/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Never linked: the Makefile compiles it to assembly and makes of its "->" lines the constants that arch/x86_64.S needs. */
#include <stddef.h>

#include "sites/probe/blob/inner.h"

#define DEFINE(name, value) __asm__ volatile("\n.ascii \"->" #name " %0\"" : : "i"(value))

void offsets(void);

void offsets(void)
{
	DEFINE(N_COUNT, PROBE_FUNCTION_COUNT);
	DEFINE(MAGIC_0, PROBE_MAGIC_0);
	DEFINE(MAGIC_1, PROBE_MAGIC_1);
	DEFINE(VERSION, PROBE_VERSION);
	DEFINE(TEXT_REAL, offsetof(struct probe_text, real));
	DEFINE(TEXT_STATE, offsetof(struct probe_text, state));
	DEFINE(TEXT_SIZE, sizeof(struct probe_text));

	DEFINE(ENABLED, offsetof(struct probe_state, enabled));
	DEFINE(LARGE, offsetof(struct probe_state, large_bytes));
	DEFINE(FILTER, offsetof(struct probe_state, filter));
	DEFINE(FILTER_SHIFT, PROBE_FILTER_SHIFT);
	DEFINE(TABLE, offsetof(struct probe_state, table));
	DEFINE(BUCKET_SHIFT, PROBE_BUCKET_SHIFT);
	DEFINE(BUCKET_MASK, PROBE_BUCKETS - 1);
	DEFINE(ADDRESS_FACTOR, PROBE_ADDRESS_FACTOR);
	DEFINE(OWNER, offsetof(struct probe_state, threads) + offsetof(struct probe_thread, owner));
	DEFINE(REMAINING, offsetof(struct probe_state, threads) + offsetof(struct probe_thread, remaining));
	DEFINE(THREAD_FACTOR, PROBE_THREAD_FACTOR);
	DEFINE(THREAD_SHIFT, PROBE_THREAD_SHIFT);
	DEFINE(THREAD_MASK, (PROBE_THREADS - 1) * sizeof(struct probe_thread));

	DEFINE(CALL_RBX, offsetof(struct probe_call, rbx));
	DEFINE(CALL_RBP, offsetof(struct probe_call, rbp));
	DEFINE(CALL_R12, offsetof(struct probe_call, r12));
	DEFINE(CALL_R13, offsetof(struct probe_call, r13));
	DEFINE(CALL_R14, offsetof(struct probe_call, r14));
	DEFINE(CALL_R15, offsetof(struct probe_call, r15));
	DEFINE(CALL_PC, offsetof(struct probe_call, pc));
	DEFINE(CALL_SP, offsetof(struct probe_call, sp));
	DEFINE(CALL_ARGS, offsetof(struct probe_call, args));
	DEFINE(CALL_RESULT, offsetof(struct probe_call, result));
	DEFINE(CALL_SIZE, offsetof(struct probe_call, size));
	DEFINE(CALL_FUNCTION, offsetof(struct probe_call, function));
	DEFINE(CALL_BYTES, sizeof(struct probe_call));
	DEFINE(HOW_UNCOUNTED, HOW_UNCOUNTED << HOW_SHIFT);
	DEFINE(HOW_CROSSED, HOW_CROSSED << HOW_SHIFT);
	DEFINE(HOW_BELOW, HOW_BELOW << HOW_SHIFT);
	DEFINE(HOW_RELEASE, HOW_RELEASE << HOW_SHIFT);

	DEFINE(N_MALLOC, PROBE_MALLOC);
	DEFINE(N_CALLOC, PROBE_CALLOC);
	DEFINE(N_REALLOC, PROBE_REALLOC);
	DEFINE(N_REALLOCARRAY, PROBE_REALLOCARRAY);
	DEFINE(N_FREE, PROBE_FREE);
	DEFINE(N_CFREE, PROBE_CFREE);
	DEFINE(N_MEMALIGN, PROBE_MEMALIGN);
	DEFINE(N_ALIGNED_ALLOC, PROBE_ALIGNED_ALLOC);
	DEFINE(N_POSIX_MEMALIGN, PROBE_POSIX_MEMALIGN);
	DEFINE(N_VALLOC, PROBE_VALLOC);
	DEFINE(N_PVALLOC, PROBE_PVALLOC);
	DEFINE(N_NEW_FIRST, PROBE_NEW);
	DEFINE(N_NEW_LAST, PROBE_NEW_ARRAY_ALIGNED_NOTHROW);
	DEFINE(N_DELETE_FIRST, PROBE_DELETE);
	DEFINE(N_DELETE_LAST, PROBE_DELETE_ARRAY_SIZED_ALIGNED);
	DEFINE(N_MMAP, PROBE_MMAP);
	DEFINE(N_MUNMAP, PROBE_MUNMAP);
	DEFINE(N_MREMAP, PROBE_MREMAP);
	DEFINE(N_SBRK, PROBE_SBRK);
}
