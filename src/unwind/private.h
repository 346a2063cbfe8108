/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The native unwinder's parts.
 *
 *   native.c   one step after the other: CFI, frame pointer, scan; why the stack ends
 *   fast.c     most steps: by compact tables (compact.h), each place's rule kept by pc
 *   cfi.c      the row of call frame information for one pc, kept by pc: libdw reads each row once
 *   expr.c     DWARF expressions
 *   arch/      what depends on the CPU
 */
#ifndef MEMWATCH_UNWIND_PRIVATE_H
#define MEMWATCH_UNWIND_PRIVATE_H

#include "../symbol/private.h"
#include "compact.h"
#include "memwatch/unwind.h"

struct arch {
	uint32_t registers; /* by DWARF number, pc's column included */
	uint32_t sp, fp, pc;
	/* Whether the len bytes before an address end in a call instruction. */
	bool (*ends_in_call)(const unsigned char *code, size_t len);
	/* Whether the code is the C library's way out of a signal handler; the saved registers' place relative to sp. */
	bool (*is_sigreturn)(const unsigned char *code, size_t len);
	const uint16_t *signal_offsets; /* from sp at the sigreturn, by DWARF number */
};

extern const struct arch arch_x86_64;

/* The state of one frame. */
struct cursor_state {
	uint64_t value[REGS_MAX];
	uint64_t known; /* bit set of registers that hold something */
	uint64_t lost;  /* those that fast steps did not follow: they would be known if libdw's rows had been used */
};

/* Reads words of the copied stack. */
struct slice {
	const unsigned char *data;
	uint64_t start;
	size_t len;
};
bool slice_u64(const struct slice *slice, uint64_t address, uint64_t *ret);

enum rule_kind {
	RULE_SAME,
	RULE_UNDEFINED,
	RULE_AT_CFA,    /* saved at CFA + value */
	RULE_VALUE_CFA, /* is CFA + value */
	RULE_REGISTER,  /* in register `value` */
	RULE_EXPRESSION /* exprs[value] says where, or what */
};

struct expression {
	Dwarf_Op *ops;
	size_t count;
};

/* What is true at one pc. */
struct row {
	uint64_t bias;     /* of the module: expressions may hold addresses */
	int32_t cfa_value; /* CFA = register + value, or expression number */
	uint8_t cfa_kind;  /* RULE_REGISTER or RULE_EXPRESSION */
	uint8_t cfa_register;
	bool found, signal; /* found: there is CFI for this pc */
	uint64_t needs;     /* registers that the CFA and expressions are made of */
	uint8_t kind[REGS_MAX];
	int32_t value[REGS_MAX];
};

/* The rule for code at one place. at 0 is nowhere, as the zero of `rule` says. */
struct fast_slot {
	uint64_t at;
	uint32_t rule;
};
#define FAST_BITS 13
#define FAST_SLOTS (1U << FAST_BITS) /* 128 KiB: what a processor keeps near */

struct unwind_cache {
	struct map by_pc; /* pc -> rows[] */
	struct row *rows;
	size_t row_count, row_cap;
	struct expression *expressions;
	size_t expression_count, expression_cap;
	struct arena arena; /* of the operations */
	uint64_t generation;
	struct fast_slot fast[FAST_SLOTS];
};

enum step {
	STEP_ON,
	STEP_OUTERMOST,
	STEP_NO_CFI,
	STEP_OUTSIDE,
	STEP_BAD,
	STEP_ASK,    /* a fast step is not possible here */
	STEP_RESTART /* a register is needed that fast steps did not follow */
};

struct walk {
	struct symbols *symbols;
	const struct arch *arch;
	struct slice slice;
	bool slice_full;
	struct cursor_state state;
	bool exact; /* pc is where the thread was, not a return address: it may be a function's first byte */
	bool slow;  /* no fast steps: they were not enough */
};

/* The cache of this process, empty where its mappings have changed; NULL: no memory. */
struct unwind_cache *unwind_cache(struct symbols *s);

/* compact.c: what the module's tables say; COMPACT_GAP where they say nothing. */
uint32_t compact_lookup(struct symbols *s, struct module *m, uint64_t vaddr);

/*
 * fast.c: goes on as long as rules are simple, and adds the frames to out. STEP_ASK: the frame in w->state is for native.c's step().
 * Any other result ends the stack.
 */
enum step fast_walk(struct walk *w, struct unwind_stack *out);
uint64_t shown_return(const struct walk *w, uint64_t pc);       /* the return address, as it is given out */
enum step walk_outside(const struct walk *w, uint64_t address); /* why a word cannot be read */

/* The row for the code at `at`; NULL: no memory. Valid until the next call. */
const struct row *cfi_row(struct symbols *s, const struct arch *arch, uint64_t at);
const struct expression *cfi_expression(const struct symbols *s, int32_t number);

/* Evaluates; *ret_is_value: the result is the value itself, not where it lies. cfa may be NULL: unknown yet. */
bool expression_run(const struct expression *e, const struct cursor_state *registers, const struct slice *slice,
		    const uint64_t *cfa, uint64_t bias, uint64_t *ret, bool *ret_is_value);

#endif
