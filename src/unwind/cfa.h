/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Private to fde.c and cfa.c: the state that CFA instructions change. */
#ifndef MEMWATCH_UNWIND_CFA_H
#define MEMWATCH_UNWIND_CFA_H

#include "compact.h"
#include "memwatch/base/cursor.h"

/* What the CPU's ABI adds; see arch/. */
struct cfa_arch {
	uint64_t sp, fp, pc; /* DWARF numbers; pc: the return address's column */
	/* Whether an expression is the linker's for .plt: CFA = sp + 8, and 8 more from that byte of an entry on. */
	bool (*plt)(const unsigned char *expression, size_t len, int64_t *ret_from);
	/* CFA = *(fp + offset) */
	bool (*deref)(const unsigned char *expression, size_t len, int64_t *ret_offset);
	/* the place that fp points to */
	bool (*at_fp)(const unsigned char *expression, size_t len);
};
extern const struct cfa_arch cfa_x86_64;

enum cfa_kind { CFA_REGISTER, CFA_PLT, CFA_DEREF, CFA_OTHER };
enum saved_kind { SAVED_UNSET, SAVED_SAME, SAVED_UNDEFINED, SAVED_AT, SAVED_AT_FP, SAVED_OTHER };

struct saved {
	enum saved_kind kind;
	int64_t offset; /* from the CFA */
};

struct cfa_state {
	enum cfa_kind kind;
	uint64_t reg;
	int64_t offset;
	struct saved fp, ra, sp;
};

struct cie {
	size_t at; /* in the section */
	uint64_t code_align;
	int64_t data_align;
	uint64_t ra;
	uint8_t encoding; /* of addresses in its FDEs */
	bool sized;       /* its FDEs have augmentation data */
	bool slow;        /* signal frame, or not understood: its FDEs are for libdw */
	struct cfa_state initial;
};

/* Collects rows: emit() is called with ascending places. */
struct row_sink {
	struct compact_row *rows;
	size_t count, cap, max;
	int error;
};
void row_emit(struct row_sink *sink, uint32_t start, uint32_t rule);

struct cfa_run {
	const struct cie *cie;
	struct cursor code; /* the instructions */
	uint64_t start;     /* vaddr where they begin to hold */
	uint64_t base;      /* of the rows */
	uint32_t limit;     /* offset at which the next FDE begins, or this one ends */
	struct row_sink *sink;
};

bool cursor_uleb(struct cursor *c, uint64_t *ret);
bool cursor_sleb(struct cursor *c, int64_t *ret);
/* An address in one of the encodings of DWARF: absolute, or relative to where it stands. */
/* section_address: of data[0] */
bool cursor_encoded(struct cursor *c, uint8_t encoding, uint64_t section_address, uint64_t *ret);

/* Runs a CIE's own instructions from the ABI's state. False: not understood. */
bool cfa_initial(const struct cie *cie, struct cursor code, struct cfa_state *ret);
/* Runs an FDE's; emits its rows from start on. False: not understood, what was emitted must be thrown away. */
bool cfa_rows(struct cfa_run *run);

#endif
