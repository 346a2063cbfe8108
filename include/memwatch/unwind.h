/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From copied registers and stack bytes to return addresses. Runs after the target was resumed; touches only the copy and, for
 * read-only code and CFI, the files.
 *
 * The unwinders are a const table; the native one follows CFI (.eh_frame, .debug_frame) by compact tables of its own, 8 bytes a row,
 * built at the first frame in a module and kept by build-id below $XDG_CACHE_HOME/memwatch/unwind, else ~/.cache (0700; 256 MiB at
 * most; checked before use; where that cannot be written, not kept). A place met before costs some 50 ns, mostly of memory. What does not
 * fit such a row is asked of libdw, frame by frame, with the same outcome. Without CFI: a checked frame pointer (code made by a JIT
 * too), then, only where the innermost function has no CFI, a scan for a return address. Later unwinders (python) replace runs of native frames.
 *
 * Memory: 32 MiB of tables a module, 64 MiB a process at most; beyond that libdw serves alone.
 */
#ifndef MEMWATCH_UNWIND_H
#define MEMWATCH_UNWIND_H

#include <stddef.h>
#include <stdint.h>

#include "memwatch/model.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"

#define UNWIND_MAX_FRAMES 256

struct unwind_stack {
	/* Innermost first; [0] is the pc, the others are return addresses. Where a signal interrupted it is the pc + 1, so that all
	 * are looked up alike: symbols_resolve(…, call = index > 0, …). */
	uint64_t pcs[UNWIND_MAX_FRAMES];
	size_t count;
	enum frame_note end; /* FRAME_OK: reached the thread's outermost frame; else why it stopped */
};

struct unwinder_ops {
	const char *name;
	/* Unwinds one copied stack; never blocks but on reading files; the target runs. 0 or -errno; a short stack is not an error. */
	int (*unwind)(struct symbols *symbols, const struct thread_stack *stack, struct unwind_stack *ret);
};

extern const struct unwinder_ops unwind_native;

/* The table's entry: for now native. */
must_check int unwind_thread(struct symbols *symbols, const struct thread_stack *stack, struct unwind_stack *ret);

#endif
