/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The native unwinder's parts.
 *
 *   native.c   one step after the other: CFI, frame pointer, scan; why the stack ends
 *   cfi.c      the row of call frame information for one pc, kept by pc: libdw reads each row once
 *   expr.c     DWARF expressions
 *   arch/      what depends on the CPU
 */
#ifndef MEMWATCH_UNWIND_PRIVATE_H
#define MEMWATCH_UNWIND_PRIVATE_H

#include "../symbol/private.h"
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
	uint8_t kind[REGS_MAX];
	int32_t value[REGS_MAX];
};

struct unwind_cache {
	struct map by_pc; /* pc * 2 + exact -> rows[] */
	struct row *rows;
	size_t row_count, row_cap;
	struct expression *expressions;
	size_t expression_count, expression_cap;
	struct arena arena; /* of the operations */
	uint64_t generation;
};

/* The row for the code at `at`; NULL: no memory. Valid until the next call. */
const struct row *cfi_row(struct symbols *s, const struct arch *arch, uint64_t at);
const struct expression *cfi_expression(const struct symbols *s, int32_t number);

/* Evaluates; *ret_is_value: the result is the value itself, not where it lies. cfa may be NULL: unknown yet. */
bool expression_run(const struct expression *e, const struct cursor_state *registers, const struct slice *slice,
		    const uint64_t *cfa, uint64_t bias, uint64_t *ret, bool *ret_is_value);

#endif
