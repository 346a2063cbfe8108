/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the blob needs of the processor and the kernel's calling convention: x86-64. No operation here touches errno or a vector register. */
#ifndef MEMWATCH_SITES_PROBE_BLOB_ARCH_X86_64_H
#define MEMWATCH_SITES_PROBE_BLOB_ARCH_X86_64_H

#include <stdbool.h>
#include <stdint.h>

/* System call numbers of x86-64: PROBE_SYSCALLS of blob.h lists the same. */
#define ARCH_MMAP 9
#define ARCH_MPROTECT 10
#define ARCH_MADVISE 28
#define ARCH_PROCESS_VM_READV 310

static inline int64_t arch_syscall(int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
				   uint64_t f)
{
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	int64_t value;

	__asm__ volatile("syscall"
			 : "=a"(value)
			 : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return value;
}

/* The ABI has the thread pointer in the first word that it points at. */
static inline uint64_t arch_thread_pointer(void)
{
	uint64_t pointer;

	__asm__ volatile("mov %%fs:0, %0" : "=r"(pointer));
	return pointer;
}

/*
 * One instruction, so that a signal handler of the same thread comes before or after it. *ret_below: negative now; returns whether it was
 * not before (unsigned borrow: an old value that was negative is larger than any size).
 */
static inline bool arch_count_down(int64_t *remaining, uint64_t size, bool *ret_below)
{
	bool below, borrow;

	__asm__ volatile("subq %3, %0" : "+m"(*remaining), "=@ccs"(below), "=@ccc"(borrow) : "r"(size) : "memory");
	*ret_below = below;
	return borrow;
}

/* high:0 / divisor, high < divisor: a fraction of 2^64. The compiler would call its library for it. */
static inline uint64_t arch_fraction(uint64_t high, uint64_t divisor)
{
	uint64_t quotient, rest;

	__asm__("divq %4" : "=a"(quotient), "=d"(rest) : "0"(0ULL), "1"(high), "r"(divisor) : "cc");
	return quotient;
}

#endif
