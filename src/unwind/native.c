/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>

#include "private.h"

#define SCAN_WORDS 128 /* how far above sp a return address is looked for */
#define CALL_BYTES 8   /* enough for the longest call instruction */

bool slice_u64(const struct slice *slice, uint64_t address, uint64_t *ret)
{
	uint64_t at = address - slice->start;

	if (address < slice->start || slice->len < 8 || at > slice->len - 8)
		return false;
	memcpy(ret, slice->data + at, 8);
	return true;
}

static uint64_t reg(const struct walk *w, uint32_t number)
{
	return w->state.value[number];
}

static bool known(const struct walk *w, uint32_t number)
{
	return w->state.known >> number & 1;
}

static bool executable(const struct walk *w, uint64_t address)
{
	return span_find(w->symbols, address);
}

static size_t code_at(const struct walk *w, uint64_t address, unsigned char *buf, size_t len)
{
	const struct span *span = span_find(w->symbols, address);

	if (!span || !span->module || span->stage != STAGE_READY)
		return 0;
	return module_code(span->module, address - span->bias, buf, len);
}

/* Only a file's code can be looked at: a JIT's is believed where `trusting`. */
static bool behind_call(const struct walk *w, uint64_t address, bool trusting)
{
	unsigned char code[CALL_BYTES];
	const struct span *span = address > CALL_BYTES ? span_find(w->symbols, address - 1) : NULL;

	if (!span)
		return false;
	if (!span->module)
		return trusting;
	if (code_at(w, address - CALL_BYTES, code, CALL_BYTES) != CALL_BYTES)
		return trusting && span->stage != STAGE_READY;
	return w->arch->ends_in_call(code, CALL_BYTES);
}

enum step walk_outside(const struct walk *w, uint64_t address)
{
	return address >= w->slice.start + w->slice.len && !w->slice_full ? STEP_OUTSIDE : STEP_BAD;
}

/* The one place where a frame is left: the stack must shrink, but for the way out of a signal handler. */
static enum step take(struct walk *w, const struct cursor_state *next, bool signal)
{
	uint64_t sp = next->value[w->arch->sp];

	if (!signal && sp <= reg(w, w->arch->sp))
		return STEP_BAD;
	w->state = *next;
	w->exact = signal;

	return STEP_ON;
}

static bool apply_rule(const struct walk *w, const struct row *row, uint32_t number, uint64_t cfa,
		       struct cursor_state *next, uint64_t *ret_bad)
{
	uint64_t at = cfa + (uint64_t)(int64_t)row->value[number], value;
	bool is_value = false;

	switch (row->kind[number]) {
	case RULE_SAME:
		if (!known(w, number))
			return true;
		value = reg(w, number);
		is_value = true;
		break;
	case RULE_UNDEFINED:
		return true;
	case RULE_VALUE_CFA:
		value = at;
		is_value = true;
		break;
	case RULE_REGISTER:
		if ((uint32_t)row->value[number] >= w->arch->registers || !known(w, (uint32_t)row->value[number]))
			return true;
		value = reg(w, (uint32_t)row->value[number]);
		is_value = true;
		break;
	case RULE_AT_CFA:
		break;
	default:
		if (!expression_run(cfi_expression(w->symbols, row->value[number]), &w->state, &w->slice, &cfa,
				    row->bias, &at, &is_value))
			return true;
		value = at;
		break;
	}
	if (!is_value && !slice_u64(&w->slice, at, &value)) {
		*ret_bad = at;
		return number != w->arch->pc; /* the others may never be needed */
	}
	next->value[number] = value;
	next->known |= 1ULL << number;
	return true;
}

/* What only moved, or stayed where it was, is as unknown as before. */
static uint64_t still_lost(const struct walk *w, const struct row *row)
{
	uint64_t lost = 0;

	for (uint32_t i = 0; w->state.lost && i < w->arch->registers; i++) {
		uint32_t from = row->kind[i] == RULE_REGISTER ? (uint32_t)row->value[i] : i;

		if ((row->kind[i] == RULE_SAME || row->kind[i] == RULE_REGISTER) && from < w->arch->registers)
			lost |= (w->state.lost >> from & 1) << i;
	}
	return lost;
}

static enum step step_cfi(struct walk *w)
{
	uint64_t pc = reg(w, w->arch->pc), cfa, bad = 0;
	const struct row *row = cfi_row(w->symbols, w->arch, w->exact ? pc : pc - 1);
	struct cursor_state next = { .known = 0 };
	bool is_value;

	if (!row || !row->found)
		return STEP_NO_CFI;
	if (row->kind[w->arch->pc] == RULE_UNDEFINED)
		return STEP_OUTERMOST;
	if (row->needs & w->state.lost)
		return STEP_RESTART;
	if (row->cfa_kind == RULE_REGISTER) {
		if (row->cfa_register >= w->arch->registers || !known(w, row->cfa_register))
			return STEP_NO_CFI;
		cfa = reg(w, row->cfa_register) + (uint64_t)(int64_t)row->cfa_value;
	} else if (!expression_run(cfi_expression(w->symbols, row->cfa_value), &w->state, &w->slice, NULL, row->bias,
				   &cfa, &is_value)) {
		return STEP_NO_CFI;
	}
	next.value[w->arch->sp] = cfa;
	next.known = 1ULL << w->arch->sp;
	for (uint32_t i = 0; i < w->arch->registers; i++)
		if ((i != w->arch->sp || row->kind[i] != RULE_SAME) && !apply_rule(w, row, i, cfa, &next, &bad))
			return walk_outside(w, bad);
	if (!(next.known >> w->arch->pc & 1))
		return STEP_NO_CFI;
	next.lost = still_lost(w, row);
	return take(w, &next, row->signal);
}

/* musl and Go leave signal handlers by code without CFI: the kernel's frame is then at sp. */
static enum step step_sigreturn(struct walk *w)
{
	unsigned char code[16];
	size_t len = code_at(w, reg(w, w->arch->pc), code, sizeof(code));
	struct cursor_state next = { .known = 0 };

	if (!w->arch->is_sigreturn(code, len))
		return STEP_NO_CFI;
	for (uint32_t i = 0; i < w->arch->registers; i++) {
		uint64_t at = reg(w, w->arch->sp) + w->arch->signal_offsets[i];

		if (!slice_u64(&w->slice, at, &next.value[i]))
			return walk_outside(w, at);
		next.known |= 1ULL << i;
	}
	return take(w, &next, true);
}

static enum step return_to(struct walk *w, uint64_t pc, uint64_t sp, uint64_t fp)
{
	struct cursor_state next = w->state;

	next.value[w->arch->pc] = pc;
	next.value[w->arch->sp] = sp;
	next.value[w->arch->fp] = fp;
	return take(w, &next, false);
}

static enum step step_frame_pointer(struct walk *w)
{
	uint64_t fp = reg(w, w->arch->fp), saved, pc;

	if (!known(w, w->arch->fp) || fp % 8 || fp < reg(w, w->arch->sp))
		return STEP_NO_CFI;
	if (!slice_u64(&w->slice, fp, &saved) || !slice_u64(&w->slice, fp + 8, &pc))
		return STEP_NO_CFI;
	if (!pc && !saved)
		return STEP_OUTERMOST; /* as Go and old thread starts end */
	/* The caller may use the register for something else. Then only a call in a file's code is proof enough. */
	return behind_call(w, pc, !saved || saved > fp) ? return_to(w, pc, fp + 16, saved) : STEP_NO_CFI;
}

static enum step step_scan(struct walk *w, size_t words)
{
	uint64_t sp = reg(w, w->arch->sp), pc;

	for (size_t i = 0; i < words && slice_u64(&w->slice, sp + 8 * i, &pc); i++)
		if (behind_call(w, pc, false))
			return return_to(w, pc, sp + 8 * (i + 1), reg(w, w->arch->fp));
	return STEP_NO_CFI;
}

/* A function's first instruction: its caller's address is still on top. Of a function without CFI only the symbol tells. */
static bool at_entry(const struct walk *w)
{
	uint64_t pc = reg(w, w->arch->pc), start;
	const struct span *span = span_find(w->symbols, pc);
	char buf[512];

	if (!span) /* a call through a null or wild pointer */
		return true;
	return span->module && span->stage == STAGE_READY &&
	       module_symbol(w->symbols, span->module, pc - span->bias, buf, sizeof(buf), &start) &&
	       start == pc - span->bias;
}

static enum step step(struct walk *w)
{
	bool innermost = w->exact; /* or interrupted by a signal: no call has brought the thread here */
	enum step result = step_cfi(w);

	if (result != STEP_NO_CFI)
		return result;
	result = step_sigreturn(w);
	if (result != STEP_NO_CFI)
		return result;
	if (innermost && at_entry(w) && step_scan(w, 1) == STEP_ON)
		return STEP_ON;
	result = step_frame_pointer(w);
	if (result == STEP_NO_CFI && innermost)
		result = step_scan(w, SCAN_WORDS);
	return result;
}

static enum frame_note note_of(const struct walk *w, enum step result)
{
	const struct span *span = span_find(w->symbols, reg(w, w->arch->pc) - !w->exact);

	switch (result) {
	case STEP_OUTERMOST:
		return FRAME_OK;
	case STEP_OUTSIDE:
		return FRAME_TRUNCATED;
	case STEP_NO_CFI:
		return span && span->module ? FRAME_NO_CFI : FRAME_NO_MODULE;
	default:
		return FRAME_BAD_POINTER;
	}
}

/* Who names the frames takes pcs[1..] for return addresses and looks one byte before. An interrupted place, or the first byte of a
 * way out of a signal handler, which nobody called, is therefore given one byte further on. */
uint64_t shown_return(const struct walk *w, uint64_t pc)
{
	const struct row *row = cfi_row(w->symbols, w->arch, pc - 1);
	unsigned char code[16];
	bool way_out = row && !row->found && w->arch->is_sigreturn(code, code_at(w, pc, code, sizeof(code)));

	return way_out ? pc + 1 : pc;
}

static uint64_t shown_pc(const struct walk *w)
{
	uint64_t pc = reg(w, w->arch->pc);

	return w->exact ? pc + 1 : shown_return(w, pc);
}

/* One step of the general kind, and what it led to. STEP_ON: out has a frame more. */
static enum step walk_on(struct walk *w, struct unwind_stack *out)
{
	enum step result = step(w);
	uint64_t pc = reg(w, w->arch->pc);

	if (result != STEP_ON)
		return result;
	if (!w->exact && !pc) /* as threads start that have no CFI to say so */
		return STEP_OUTERMOST;
	if (!w->exact && !executable(w, pc - 1)) /* an interrupted place may be anywhere: a call through NULL */
		return STEP_BAD;
	out->pcs[out->count++] = shown_pc(w);
	return STEP_ON;
}

static void walk_stack(struct walk *w, struct unwind_stack *out)
{
	const struct cursor_state begin = w->state;
	enum step result = STEP_ON;

	for (int pass = 0; pass < 2; pass++) {
		w->state = begin;
		w->exact = true;
		w->slow = pass > 0;
		out->count = 0;
		out->pcs[out->count++] = reg(w, w->arch->pc);
		do {
			result = w->slow ? STEP_ASK : fast_walk(w, out);
			if (result == STEP_ASK && out->count < UNWIND_MAX_FRAMES)
				result = walk_on(w, out);
		} while (result == STEP_ON && out->count < UNWIND_MAX_FRAMES);
		if (result != STEP_RESTART)
			break;
	}
	out->end = result == STEP_ON || result == STEP_ASK ? FRAME_TRUNCATED : note_of(w, result);
}

static int native_unwind(struct symbols *symbols, const struct thread_stack *stack, struct unwind_stack *ret)
{
	const struct arch *arch = &arch_x86_64;
	struct walk w = { .symbols = symbols, .arch = arch, .slice_full = stack->slice_full, .exact = true };

	if (stack->condition != THREAD_CAPTURED || stack->regs.count < arch->registers)
		return -EINVAL;
	w.slice = (struct slice){ stack->slice, stack->slice_address, stack->slice_len };
	memcpy(w.state.value, stack->regs.value, arch->registers * sizeof(uint64_t));
	w.state.known = (1ULL << arch->registers) - 1;
	w.state.value[arch->pc] = stack->regs.pc;
	w.state.value[arch->sp] = stack->regs.sp;
	w.state.value[arch->fp] = stack->regs.fp;
	walk_stack(&w, ret);
	return 0;
}

const struct unwinder_ops unwind_native = { .name = "native", .unwind = native_unwind };
