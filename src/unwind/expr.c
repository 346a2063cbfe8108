/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>

#include "private.h"

#define STACK_MAX 32
#define STEPS_MAX 256 /* branches may loop */

struct machine {
	uint64_t stack[STACK_MAX];
	size_t depth;
	const struct cursor_state *registers;
	const struct slice *slice;
	const uint64_t *cfa;
	uint64_t bias;
	bool failed;
};

static void push(struct machine *m, uint64_t value)
{
	if (m->depth == STACK_MAX)
		m->failed = true;
	else
		m->stack[m->depth++] = value;
}

static uint64_t pop(struct machine *m)
{
	if (m->depth == 0) {
		m->failed = true;
		return 0;
	}
	return m->stack[--m->depth];
}

static uint64_t register_value(struct machine *m, uint64_t number)
{
	if (number >= REGS_MAX || !(m->registers->known >> number & 1)) {
		m->failed = true;
		return 0;
	}
	return m->registers->value[number];
}

static void dereference(struct machine *m, uint64_t size)
{
	uint64_t word = 0;

	if (!slice_u64(m->slice, pop(m), &word) || size == 0 || size > 8)
		m->failed = true;
	push(m, size < 8 ? word & ((1ULL << (size * 8)) - 1) : word);
}

static uint64_t divided(struct machine *m, uint64_t a, uint64_t b, bool remainder)
{
	if (b == 0 || (!remainder && (int64_t)a == INT64_MIN && (int64_t)b == -1)) {
		m->failed = true;
		return 0;
	}
	return remainder ? a % b : (uint64_t)((int64_t)a / (int64_t)b);
}

static uint64_t shifted(uint8_t op, uint64_t a, uint64_t b)
{
	if (b > 63)
		return op == DW_OP_shra && (int64_t)a < 0 ? UINT64_MAX : 0;
	return op == DW_OP_shl ? a << b : op == DW_OP_shr ? a >> b : (uint64_t)((int64_t)a >> b);
}

static bool binary(struct machine *m, uint8_t op)
{
	uint64_t b = pop(m), a = pop(m);

	switch (op) {
	case DW_OP_and:
		push(m, a & b);
		return true;
	case DW_OP_or:
		push(m, a | b);
		return true;
	case DW_OP_xor:
		push(m, a ^ b);
		return true;
	case DW_OP_plus:
		push(m, a + b);
		return true;
	case DW_OP_minus:
		push(m, a - b);
		return true;
	case DW_OP_mul:
		push(m, a * b);
		return true;
	case DW_OP_div:
	case DW_OP_mod:
		push(m, divided(m, a, b, op == DW_OP_mod));
		return true;
	case DW_OP_shl:
	case DW_OP_shr:
	case DW_OP_shra:
		push(m, shifted(op, a, b));
		return true;
	case DW_OP_eq:
		push(m, a == b);
		return true;
	case DW_OP_ne:
		push(m, a != b);
		return true;
	case DW_OP_lt:
		push(m, (int64_t)a < (int64_t)b);
		return true;
	case DW_OP_le:
		push(m, (int64_t)a <= (int64_t)b);
		return true;
	case DW_OP_gt:
		push(m, (int64_t)a > (int64_t)b);
		return true;
	case DW_OP_ge:
		push(m, (int64_t)a >= (int64_t)b);
		return true;
	default:
		return false;
	}
}

static bool constant(struct machine *m, const Dwarf_Op *op)
{
	switch (op->atom) {
	case DW_OP_addr:
		push(m, op->number + m->bias);
		return true;
	case DW_OP_const1u:
	case DW_OP_const1s:
	case DW_OP_const2u:
	case DW_OP_const2s:
	case DW_OP_const4u:
	case DW_OP_const4s:
	case DW_OP_const8u:
	case DW_OP_const8s:
	case DW_OP_constu:
	case DW_OP_consts:
		push(m, op->number); /* libdw has extended the sign */
		return true;
	case DW_OP_bregx:
		push(m, register_value(m, op->number) + op->number2);
		return true;
	case DW_OP_call_frame_cfa:
		m->failed |= !m->cfa;
		push(m, m->cfa ? *m->cfa : 0);
		return true;
	default:
		break;
	}
	if (op->atom >= DW_OP_lit0 && op->atom <= DW_OP_lit31) {
		push(m, (uint64_t)(op->atom - DW_OP_lit0));
		return true;
	}
	if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
		push(m, register_value(m, (uint64_t)(op->atom - DW_OP_breg0)) + op->number);
		return true;
	}
	return false;
}

static void pick(struct machine *m, uint64_t index)
{
	if (index >= m->depth)
		m->failed = true;
	else
		push(m, m->stack[m->depth - 1 - index]);
}

static bool stacked(struct machine *m, const Dwarf_Op *op)
{
	uint64_t a, b, c;

	switch (op->atom) {
	case DW_OP_dup:
		pick(m, 0);
		return true;
	case DW_OP_over:
		pick(m, 1);
		return true;
	case DW_OP_pick:
		pick(m, op->number);
		return true;
	case DW_OP_drop:
		(void)pop(m);
		return true;
	case DW_OP_swap:
		a = pop(m);
		b = pop(m);
		push(m, a);
		push(m, b);
		return true;
	case DW_OP_rot:
		a = pop(m);
		b = pop(m);
		c = pop(m);
		push(m, a);
		push(m, c);
		push(m, b);
		return true;
	case DW_OP_deref:
		dereference(m, 8);
		return true;
	case DW_OP_deref_size:
		dereference(m, op->number);
		return true;
	case DW_OP_plus_uconst:
		push(m, pop(m) + op->number);
		return true;
	case DW_OP_neg:
		push(m, 0 - pop(m));
		return true;
	case DW_OP_not:
		push(m, ~pop(m));
		return true;
	case DW_OP_abs:
		a = pop(m);
		push(m, (int64_t)a < 0 ? 0 - a : a);
		return true;
	case DW_OP_nop:
		return true;
	default:
		return false;
	}
}

/* Branches name bytes; operations carry theirs. 3 is the length of a branch itself. */
static size_t branch_target(const struct expression *e, size_t at)
{
	uint64_t offset = e->ops[at].offset + 3 + (uint64_t)(int64_t)(int16_t)e->ops[at].number;

	for (size_t i = 0; i < e->count; i++)
		if (e->ops[i].offset == offset)
			return i;
	return e->count;
}

static bool is_register(const Dwarf_Op *op, uint64_t *ret_number)
{
	if (op->atom != DW_OP_regx && (op->atom < DW_OP_reg0 || op->atom > DW_OP_reg31))
		return false;
	*ret_number = op->atom == DW_OP_regx ? op->number : (uint64_t)(op->atom - DW_OP_reg0);
	return true;
}

bool expression_run(const struct expression *e, const struct cursor_state *registers, const struct slice *slice,
		    const uint64_t *cfa, uint64_t bias, uint64_t *ret, bool *ret_is_value)
{
	struct machine m = { .registers = registers, .slice = slice, .cfa = cfa, .bias = bias };
	bool is_value = false;
	uint64_t number;
	size_t at = 0;

	for (int steps = 0; at < e->count && !m.failed; steps++) {
		const Dwarf_Op *op = &e->ops[at++];

		if (steps == STEPS_MAX)
			return false;
		if (op->atom == DW_OP_stack_value) {
			is_value = true;
			break;
		}
		if (is_register(op, &number)) {
			push(&m, register_value(&m, number));
			is_value = true;
			break;
		}
		if (op->atom == DW_OP_skip || (op->atom == DW_OP_bra && pop(&m)))
			at = branch_target(e, at - 1);
		else if (op->atom != DW_OP_bra && !constant(&m, op) && !stacked(&m, op) && !binary(&m, op->atom))
			return false;
	}
	number = pop(&m);
	if (m.failed)
		return false;
	*ret = number;
	*ret_is_value = is_value;
	return true;
}
