/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The blob's header, its thunks, and the way into the slow path. Constants: offsets.c.
 *
 * A thunk runs in the place of a function: the arguments must stay, and only rax, r10 and r11 are free (in those with few arguments the other argument
 * registers too). r11 is the state all along. Where memwatch is not at work (enabled 0, or all is zero in a child after fork) it costs a few compares.
 */
#include "offsets.h"

	.section .probe.header, "ax", @progbits
	.globl	probe_text
	.hidden	probe_text
probe_text:
	.quad	MAGIC_0, MAGIC_1
	.long	VERSION
	.long	probe_text_end - probe_text
	.long	probe_setup - probe_text, probe_swap - probe_text, probe_idle - probe_text
	.long	probe_code - probe_text
	.altmacro
	.macro	entry number
	.long	thunk_\number - probe_text
	.endm
	.set	n, 0
	.rept	N_COUNT
	entry	%n
	.set	n, n + 1
	.endr
	.noaltmacro
	.balign	8
	.zero	TEXT_SIZE - (. - probe_text)	/* state, state_bytes, real[]: filled in by memwatch */

	.text
#define STATE probe_text + TEXT_STATE(%rip)
#define REAL(number) *(probe_text + TEXT_REAL + 8 * (number))(%rip)

/* Whether %rdi is in the table: jumps to `yes`, else to `no` or falls through to it. r11: the state. Uses rax, r10. */
	.macro	look_up yes, no
	movabs	$ADDRESS_FACTOR, %rax
	imul	%rdi, %rax
	mov	%rax, %r10
	shr	$FILTER_SHIFT, %r10
	cmpb	$0, FILTER(%r11, %r10)
	je	\no
	test	%rdi, %rdi			/* 0 is what free ways hold */
	jz	\no
	shr	$BUCKET_SHIFT, %rax
	and	$BUCKET_MASK, %eax
	shl	$6, %eax
	lea	TABLE(%r11, %rax), %rax
	.set	way, 0
	.rept	8
	cmp	%rdi, way * 8(%rax)
	je	\yes
	.set	way, way + 1
	.endr
	.endm

/* The size asked for into rax, at least 1. A product may not be one: to `overflow`. */
	.macro	size_of kind, overflow
	.ifc	\kind, product_1_2
	mov	%rdi, %rax
	mul	%rsi				/* rdx is no argument of calloc */
	jo	\overflow
	.else
	.ifc	\kind, product_2_3
	mov	%rdx, %r8			/* r8 is no argument of reallocarray */
	mov	%rsi, %rax
	mul	%rdx
	mov	%r8, %rdx
	jo	\overflow
	.else
	mov	%\kind, %rax
	.endif
	.endif
	cmp	$1, %rax
	adc	$0, %rax
	.endm

/* Counts a block and jumps to the real function. r11: the state. */
	.macro	count number, kind
	mov	%fs:0, %rax
	movabs	$THREAD_FACTOR, %r10
	imul	%rax, %r10
	shr	$THREAD_SHIFT, %r10
	shl	$6, %r10d
	cmp	%rax, OWNER(%r11, %r10)
	jne	.Lother_\number
.Lmine_\number:
	size_of	\kind, .Lpass_\number
	cmp	LARGE(%r11), %rax
	jae	.Luncounted_\number
	sub	%rax, REMAINING(%r11, %r10)	/* one instruction: see arch_count_down() */
	js	.Lbelow_\number
.Lpass_\number:
	jmp	REAL(\number)
.Lother_\number:
	cmpq	$0, ENABLED(%r11)
	je	.Lpass_\number
	.rept	3				/* PROBE_THREAD_TRIES - 1 */
	add	$64, %r10d
	and	$THREAD_MASK, %r10d
	cmp	%rax, OWNER(%r11, %r10)
	je	.Lmine_\number
	.endr
	size_of	\kind, .Lpass_\number
.Luncounted_\number:
	cmpq	$0, ENABLED(%r11)
	je	.Lpass_\number
	mov	$(\number + HOW_UNCOUNTED), %r10d
	jmp	slow
.Lbelow_\number:
	jnc	.Lbelow_before_\number
	cmpq	$0, ENABLED(%r11)
	je	.Luncount_\number
	mov	$(\number + HOW_CROSSED), %r10d
	jmp	slow
.Lbelow_before_\number:
	cmpq	$0, ENABLED(%r11)
	je	.Luncount_\number
	mov	$(\number + HOW_BELOW), %r10d
	jmp	slow
.Luncount_\number:				/* so that the next one comes to the end anew, once memwatch is back */
	add	%rax, REMAINING(%r11, %r10)
	jmp	.Lpass_\number
	.endm

	.macro	thunk number
	.balign	32
thunk_\number:
	mov	STATE, %r11
	.endm

	.macro	takes number, kind
	thunk	\number
	count	\number, \kind
	.endm

/* realloc and its like: the block in %rdi, too. */
	.macro	changes number, kind
	thunk	\number
	look_up	.Lin_table_\number, .Lcount_\number
.Lcount_\number:
	count	\number, \kind
.Lin_table_\number:
	size_of	\kind, .Lpass_\number
	mov	$(\number + HOW_UNCOUNTED + HOW_RELEASE), %r10d
	jmp	slow
	.endm

	.macro	gives_back number
	thunk	\number
	look_up	.Lin_table_\number, .Lpass_\number
.Lpass_\number:
	jmp	REAL(\number)
.Lin_table_\number:
	mov	$(\number + HOW_RELEASE), %r10d
	jmp	slow
	.endm

	.globl	probe_code
	.hidden	probe_code
probe_code:

	.altmacro
	takes	%N_MALLOC, rdi
	takes	%N_CALLOC, product_1_2
	changes	%N_REALLOC, rsi
	changes	%N_REALLOCARRAY, product_2_3
	gives_back %N_FREE
	gives_back %N_CFREE
	takes	%N_MEMALIGN, rsi
	takes	%N_ALIGNED_ALLOC, rsi
	takes	%N_POSIX_MEMALIGN, rdx
	takes	%N_VALLOC, rdi
	takes	%N_PVALLOC, rdi
	.set	n, N_NEW_FIRST
	.rept	N_NEW_LAST - N_NEW_FIRST + 1
	takes	%n, rdi
	.set	n, n + 1
	.endr
	.set	n, N_DELETE_FIRST
	.rept	N_DELETE_LAST - N_DELETE_FIRST + 1
	gives_back %n
	.set	n, n + 1
	.endr
	gives_back %N_MUNMAP

/* mmap(address, length, protection, flags, ...): private and anonymous, and not only a reservation. */
	.macro	maps number
	thunk	\number
	mov	%ecx, %eax
	and	$0x2f, %eax			/* MAP_TYPE and MAP_ANONYMOUS */
	cmp	$0x22, %eax			/* MAP_PRIVATE and MAP_ANONYMOUS */
	jne	.Lpass_\number
	test	%edx, %edx			/* PROT_NONE */
	jz	.Lpass_\number
	count	\number, rsi
	.endm
	maps	%N_MMAP

	.macro	grows number
	thunk	\number
	test	%rdi, %rdi
	jle	.Lpass_\number
	count	\number, rdi
	.endm
	grows	%N_SBRK

/* mremap(address, old length, length, ...) is rare: all of it is judged in slow.c. */
	.macro	moves number
	thunk	\number
	cmpq	$0, ENABLED(%r11)
	jne	.Lmoves_\number
	look_up	.Lmoves_\number, .Lmoves_pass_\number
.Lmoves_pass_\number:
	jmp	REAL(\number)
.Lmoves_\number:
	size_of	rdx, .Lmoves_pass_\number
	mov	$(\number + HOW_UNCOUNTED), %r10d
	jmp	slow
	.endm
	moves	%N_MREMAP
	.noaltmacro

/*
 * rax: the size, r10d: function and how. Everything as it was at the thunk's entry. rbp makes a frame, so that whoever walks frame pointers, from within the
 * real function or a signal handler, comes through.
 */
	.balign	32
slow:
	push	%rbp
	mov	%rsp, %rbp
	sub	$CALL_BYTES, %rsp		/* a multiple of 16: aligned if the caller was */
	mov	%rbx, CALL_RBX(%rsp)
	mov	(%rbp), %r11
	mov	%r11, CALL_RBP(%rsp)
	mov	%r12, CALL_R12(%rsp)
	mov	%r13, CALL_R13(%rsp)
	mov	%r14, CALL_R14(%rsp)
	mov	%r15, CALL_R15(%rsp)
	mov	8(%rbp), %r11
	mov	%r11, CALL_PC(%rsp)
	lea	16(%rbp), %r11
	mov	%r11, CALL_SP(%rsp)
	mov	%rdi, CALL_ARGS(%rsp)
	mov	%rsi, CALL_ARGS + 8(%rsp)
	mov	%rdx, CALL_ARGS + 16(%rsp)
	mov	%rcx, CALL_ARGS + 24(%rsp)
	mov	%r8, CALL_ARGS + 32(%rsp)
	mov	%r9, CALL_ARGS + 40(%rsp)
	mov	%rax, CALL_SIZE(%rsp)
	movzbl	%r10b, %eax
	mov	%eax, CALL_FUNCTION(%rsp)
	shr	$8, %r10d
	mov	%r10d, CALL_FUNCTION + 4(%rsp)	/* how */
	mov	%rsp, %rdi
	call	probe_slow
	test	%eax, %eax
	mov	CALL_RESULT(%rsp), %rax
	jnz	1f				/* PROBE_RETURN */
	mov	CALL_ARGS(%rsp), %rdi
	mov	CALL_ARGS + 8(%rsp), %rsi
	mov	CALL_ARGS + 16(%rsp), %rdx
	mov	CALL_ARGS + 24(%rsp), %rcx
	mov	CALL_ARGS + 32(%rsp), %r8
	mov	CALL_ARGS + 40(%rsp), %r9
	mov	CALL_FUNCTION(%rsp), %r10d
	lea	probe_text + TEXT_REAL(%rip), %r11
	mov	(%r11, %r10, 8), %r11
	leave
	jmp	*%r11
1:	leave
	ret

	.section .note.GNU-stack, "", @progbits
