/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A victim that blocks in a known chain of calls, and its main thread's stack: for the tests of symbol/ and unwind/. Checks inside:
 * a failure ends the test.
 */
#ifndef MEMWATCH_TEST_SUPPORT_STACK_H
#define MEMWATCH_TEST_SUPPORT_STACK_H

#include <stddef.h>

#include "memwatch/base/arena.h"
#include "memwatch/mem.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"
#include "memwatch/unwind.h"

struct blocked {
	pid_t pid;
	int proc_fd;
	struct mem *mem;
	struct symbols *symbols;
	struct thread_stack stack;
	unsigned char *slice;
};

/* Path of a victim beside the test programs. */
void victim_path(const char *name, char *buf, size_t cap);

/* Starts argv[0] and waits for its "ready"; it dies with the test. */
void blocked_start(struct blocked *b, char *const *argv);
void blocked_end(struct blocked *b);

/* Copies registers and at most slice_bytes of the stack. */
void blocked_capture(struct blocked *b, size_t slice_bytes);

/* Every frame of the captured stack, inlined ones included, innermost first. */
size_t blocked_frames(struct blocked *b, struct frame *frames, size_t cap, enum frame_note *ret_end);

/* Index of the first frame with that function from `from` on; the test fails where there is none. */
size_t frame_index(const struct frame *frames, size_t count, size_t from, const char *function);

#endif
