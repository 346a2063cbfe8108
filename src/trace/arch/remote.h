/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What remote calls must know of a processor: registers, the kernel's signal frame, the two pieces of code that they lean on.
 * The thread is stopped at a PTRACE_EVENT_STOP or at the exit of a system call whenever one of these is called.
 */
#ifndef MEMWATCH_TRACE_ARCH_REMOTE_H
#define MEMWATCH_TRACE_ARCH_REMOTE_H

#include "memwatch/trace.h"

#define ARCH_GP_WORDS 32
#define ARCH_XSTATE_MAX ((size_t)16 << 10) /* vector registers, as the kernel hands them out: 11 KiB with AMX */
#define ARCH_FRAME_MAX (ARCH_XSTATE_MAX + ((size_t)2 << 10))
#define ARCH_CALL_CODE 7   /* bytes of an instruction that loads the number, and the system call behind it */
#define ARCH_PATTERN_MAX 9 /* bytes of the longest piece of code looked for */

/* All that a thread has, at the moment it was stopped. */
struct arch_saved {
	uint64_t sp, pc, thread_base;
	bool in_call;     /* interrupted inside, or just behind, a system call: not in the middle of user code */
	uint64_t blocked; /* signal mask: filled in by the caller */
	/* interrupted for a second time in one call: its number is no longer in the registers (see arch_remote_number()) */
	bool number_lost;
	uint64_t call_number;
	uint64_t gp[ARCH_GP_WORDS];
	size_t gp_len, xstate_len;
	unsigned char xstate[ARCH_XSTATE_MAX];
};

struct arch_gadgets {
	uint64_t call;    /* a system call instruction, and a return behind it */
	uint64_t way_out; /* the C library's return from a signal handler */
};

struct arch_look { /* at a stop of a system call */
	uint64_t number, result;
	bool leaving; /* it is the return from our frame */
};

/* 0, -ESRCH, -ENOTSUP (not a 64-bit thread, or its vector registers cannot be read). */
must_check int arch_remote_read(pid_t tid, struct arch_saved *ret);
/* Finds the lost number in the ARCH_CALL_CODE bytes before pc; false where they do not tell. */
bool arch_remote_number(struct arch_saved *s, const unsigned char *code);
/*
 * The frame that brings the thread back to what was saved: its bytes, and where they belong. An interrupted system call is made again
 * from its start: the kernel's own way to go on with one (restart_syscall) does not outlive a return from a signal frame.
 */
size_t arch_remote_frame(const struct arch_saved *s, uint64_t way_out, unsigned char *buf, uint64_t *ret_address);
/* Sends the thread off: it makes the call, returns into way_out, and from there to what the frame says. */
must_check int arch_remote_enter(pid_t tid, const struct arch_saved *s, uint64_t frame, const struct arch_gadgets *g,
				 const struct remote_call *call);
must_check int arch_remote_look(pid_t tid, uint64_t frame, struct arch_look *ret);
/* At the entry of the return from our frame: it is not made now, but (were memwatch killed) made again. */
must_check int arch_remote_stay(pid_t tid, const struct arch_gadgets *g);
/*
 * Puts back all that was saved, as it was when the thread stopped: the kernel itself then goes on with an interrupted call, as after any
 * stop. Only in a PTRACE_EVENT_STOP or a stop at a signal.
 */
must_check int arch_remote_restore(pid_t tid, const struct arch_saved *s, bool with_xstate);
/* Looks for the code in bytes that lie at address; fills in what ret lacks (0). */
void arch_remote_find(const unsigned char *buf, size_t len, uint64_t address, struct arch_gadgets *ret);
/* A program file of the tracer's own kind, by the first 20 bytes of it. */
bool arch_remote_native(const unsigned char *header, size_t len);
extern const uint64_t arch_sigreturn; /* number of the system call in way_out */

#endif
