/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "cfa.h"

#include <dwarf.h>
#include <errno.h>
#include <string.h>

#include "memwatch/base/vec.h"

#define REMEMBER_MAX 16 /* compilers use one */
#define WORD 8

struct machine {
	const struct cie *cie;
	const struct cfa_arch *arch;
	struct cfa_state state, remembered[REMEMBER_MAX];
	size_t depth;
	const struct cfa_state *initial; /* NULL: these are the CIE's own instructions */
	uint64_t location;
};

void row_emit(struct row_sink *sink, uint32_t start, uint32_t rule)
{
	if (sink->count && sink->rows[sink->count - 1].start == start)
		sink->count--; /* nothing lies between: the later one holds */
	if (sink->count && sink->rows[sink->count - 1].rule == rule)
		return;
	if (sink->count >= sink->max)
		sink->error = -E2BIG;
	else if (vec_reserve(&sink->rows, &sink->cap, sink->count + 1, sizeof(*sink->rows)) < 0)
		sink->error = -ENOMEM;
	else
		sink->rows[sink->count++] = (struct compact_row){ start, rule };
}

static bool in_units(int64_t offset)
{
	return offset % WORD == 0 && offset / WORD >= -COMPACT_OFFSET_UNITS && offset / WORD < COMPACT_OFFSET_UNITS;
}

static bool fp_slot(const struct saved *fp, uint32_t *ret)
{
	if (fp->kind == SAVED_SAME) {
		*ret = COMPACT_FP_SAME;
	} else if (fp->kind == SAVED_UNDEFINED) {
		*ret = COMPACT_FP_UNKNOWN;
	} else if (fp->kind == SAVED_AT && fp->offset % WORD == 0 && fp->offset < 0 &&
		   fp->offset >= -WORD * COMPACT_FP_SLOTS) {
		*ret = (uint32_t)(-fp->offset / WORD);
	} else {
		return false;
	}
	return true;
}

static uint32_t rule_of(const struct cfa_arch *arch, const struct cfa_state *s)
{
	const uint32_t slow = compact_rule(COMPACT_SLOW, 0, 0);
	uint32_t fp = 0;

	if (s->ra.kind == SAVED_UNDEFINED && s->kind != CFA_OTHER)
		return compact_rule(COMPACT_OUTERMOST, 0, 0);
	if (s->ra.kind != SAVED_AT || s->ra.offset != -WORD || s->sp.kind != SAVED_UNSET)
		return slow;
	if (s->kind == CFA_DEREF)
		return s->fp.kind == SAVED_AT_FP && in_units(s->offset) ?
			       compact_rule(COMPACT_DEREF, 0, (int32_t)(s->offset / WORD)) :
			       slow;
	if (!fp_slot(&s->fp, &fp))
		return slow;
	if (s->kind == CFA_PLT)
		return compact_rule(COMPACT_PLT, fp, (int32_t)s->offset);
	if (s->kind != CFA_REGISTER || !in_units(s->offset))
		return slow;
	if (s->reg == arch->sp)
		return compact_rule(COMPACT_SP, fp, (int32_t)(s->offset / WORD));
	return s->reg == arch->fp ? compact_rule(COMPACT_FP, fp, (int32_t)(s->offset / WORD)) : slow;
}

static struct saved *saved_of(struct machine *m, struct cfa_state *s, uint64_t reg)
{
	return reg == m->arch->fp ? &s->fp : reg == m->cie->ra ? &s->ra : reg == m->arch->sp ? &s->sp : NULL;
}

static void set(struct machine *m, uint64_t reg, enum saved_kind kind, uint64_t units, int64_t sign)
{
	struct saved *saved = saved_of(m, &m->state, reg);

	if (saved)
		*saved = (struct saved){ kind, (int64_t)(units * (uint64_t)m->cie->data_align * (uint64_t)sign) };
}

static void restore(struct machine *m, uint64_t reg)
{
	struct saved *saved = saved_of(m, &m->state, reg);
	struct cfa_state initial;

	if (!saved || !m->initial)
		return;
	initial = *m->initial;
	*saved = *saved_of(m, &initial, reg);
}

/* The block of an expression; its bytes stay in the section. */
static bool block(struct cursor *c, const unsigned char **ret, size_t *ret_len)
{
	uint64_t len;

	if (!cursor_uleb(c, &len) || len > cursor_left(c))
		return false;
	*ret = c->data + c->pos;
	*ret_len = (size_t)len;
	return cursor_skip(c, (size_t)len);
}

static bool cfa_expression(struct machine *m, struct cursor *c)
{
	const unsigned char *e;
	size_t len;

	if (!block(c, &e, &len))
		return false;
	m->state.kind = m->arch->plt(e, len, &m->state.offset)   ? CFA_PLT :
			m->arch->deref(e, len, &m->state.offset) ? CFA_DEREF :
								   CFA_OTHER;
	return true;
}

static bool register_expression(struct machine *m, struct cursor *c, bool place)
{
	const unsigned char *e;
	uint64_t reg;
	size_t len;

	if (!cursor_uleb(c, &reg) || !block(c, &e, &len))
		return false;
	set(m, reg, place && m->arch->at_fp(e, len) ? SAVED_AT_FP : SAVED_OTHER, 0, 1);
	return true;
}

/* What names a register, and how it is saved. */
static bool register_rule(struct machine *m, uint8_t op, struct cursor *c)
{
	uint64_t reg, units = 0;
	int64_t factored = 0;

	switch (op) {
	case DW_CFA_expression:
		return register_expression(m, c, true);
	case DW_CFA_val_expression:
		return register_expression(m, c, false);
	case DW_CFA_offset_extended:
	case DW_CFA_GNU_negative_offset_extended:
		if (!cursor_uleb(c, &reg) || !cursor_uleb(c, &units))
			return false;
		set(m, reg, SAVED_AT, units, op == DW_CFA_offset_extended ? 1 : -1);
		return true;
	case DW_CFA_offset_extended_sf:
		if (!cursor_uleb(c, &reg) || !cursor_sleb(c, &factored))
			return false;
		set(m, reg, SAVED_AT, (uint64_t)factored, 1);
		return true;
	case DW_CFA_restore_extended:
		if (!cursor_uleb(c, &reg))
			return false;
		restore(m, reg);
		return true;
	case DW_CFA_undefined:
	case DW_CFA_same_value:
		if (!cursor_uleb(c, &reg))
			return false;
		set(m, reg, op == DW_CFA_undefined ? SAVED_UNDEFINED : SAVED_SAME, 0, 1);
		return true;
	case DW_CFA_register:
	case DW_CFA_val_offset:
		if (!cursor_uleb(c, &reg) || !cursor_uleb(c, &units))
			return false;
		set(m, reg, SAVED_OTHER, 0, 1);
		return true;
	case DW_CFA_val_offset_sf:
		if (!cursor_uleb(c, &reg) || !cursor_sleb(c, &factored))
			return false;
		set(m, reg, SAVED_OTHER, 0, 1);
		return true;
	default:
		return false;
	}
}

static bool cfa_rule(struct machine *m, uint8_t op, struct cursor *c)
{
	struct cfa_state *s = &m->state;
	uint64_t reg = s->reg, offset = 0;
	int64_t factored = 0;
	bool names = op != DW_CFA_def_cfa_offset && op != DW_CFA_def_cfa_offset_sf;

	if (op == DW_CFA_def_cfa_expression)
		return cfa_expression(m, c);
	if (!names && s->kind != CFA_REGISTER)
		return false;
	if (op == DW_CFA_def_cfa_register && s->kind != CFA_REGISTER)
		return false;
	if (names && !cursor_uleb(c, &reg))
		return false;
	switch (op) {
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_offset:
		if (!cursor_uleb(c, &offset))
			return false;
		s->offset = (int64_t)offset;
		break;
	case DW_CFA_def_cfa_sf:
	case DW_CFA_def_cfa_offset_sf:
		if (!cursor_sleb(c, &factored))
			return false;
		s->offset = (int64_t)((uint64_t)factored * (uint64_t)m->cie->data_align);
		break;
	case DW_CFA_def_cfa_register:
		break;
	default:
		return false;
	}
	s->kind = CFA_REGISTER;
	s->reg = reg;
	return true;
}

/* DW_CFA_advance_loc in its lengths. *ret_to: the place where what follows begins to hold. */
static bool advance(struct machine *m, uint8_t op, struct cursor *c, uint64_t *ret_to)
{
	uint64_t delta = 0;
	uint8_t d8 = 0;
	uint16_t d16 = 0;
	uint32_t d32 = 0;
	bool ok = true;

	if (op >> 6 == DW_CFA_advance_loc >> 6)
		delta = op & 0x3f;
	else if (op == DW_CFA_advance_loc1)
		ok = cursor_u8(c, &d8);
	else if (op == DW_CFA_advance_loc2)
		ok = cursor_u16(c, &d16);
	else if (op == DW_CFA_advance_loc4)
		ok = cursor_u32(c, &d32);
	else if (op == DW_CFA_MIPS_advance_loc8)
		ok = cursor_u64(c, &delta);
	else
		return false;
	delta += (uint64_t)d8 + d16 + d32;
	*ret_to = m->location + delta * m->cie->code_align;
	return ok && *ret_to >= m->location;
}

static bool remember(struct machine *m)
{
	if (m->depth == REMEMBER_MAX)
		return false;
	m->remembered[m->depth++] = m->state;
	return true;
}

static bool recall(struct machine *m)
{
	if (m->depth == 0)
		return false;
	m->state = m->remembered[--m->depth];
	return true;
}

static bool state_change(struct machine *m, uint8_t op, struct cursor *c)
{
	uint64_t units;

	if (op >> 6 == DW_CFA_offset >> 6) {
		if (!cursor_uleb(c, &units))
			return false;
		set(m, op & 0x3f, SAVED_AT, units, 1);
		return true;
	}
	if (op >> 6 == DW_CFA_restore >> 6) {
		restore(m, op & 0x3f);
		return true;
	}
	switch (op) {
	case DW_CFA_nop:
		return true;
	case DW_CFA_GNU_args_size: /* for exceptions only */
		return cursor_uleb(c, &units);
	case DW_CFA_remember_state:
		return remember(m);
	case DW_CFA_restore_state:
		return recall(m);
	case DW_CFA_def_cfa:
	case DW_CFA_def_cfa_sf:
	case DW_CFA_def_cfa_offset:
	case DW_CFA_def_cfa_offset_sf:
	case DW_CFA_def_cfa_register:
	case DW_CFA_def_cfa_expression:
		return cfa_rule(m, op, c);
	default:
		return register_rule(m, op, c);
	}
}

bool cfa_initial(const struct cie *cie, struct cursor code, struct cfa_state *ret)
{
	struct machine m = { .cie = cie, .arch = &cfa_x86_64 };
	uint8_t op;

	m.state.fp.kind = SAVED_SAME;
	m.state.kind = CFA_OTHER; /* until it is said */
	while (cursor_u8(&code, &op))
		if (!state_change(&m, op, &code)) /* a CIE has no places: an advance is a defect */
			return false;
	*ret = m.state;
	return true;
}

/* Rows lie within 4 GiB of base; what lies before it is left out. */
static bool put_row(const struct cfa_run *run, const struct machine *m)
{
	uint64_t start = m->location - run->base;

	if (m->location < run->base || start >= run->limit)
		return false;
	row_emit(run->sink, (uint32_t)start, rule_of(m->arch, &m->state));
	return true;
}

bool cfa_rows(struct cfa_run *run)
{
	struct machine m = { .cie = run->cie, .arch = &cfa_x86_64, .location = run->start };
	struct cursor *c = &run->code;
	uint8_t op;

	m.state = run->cie->initial;
	m.initial = &run->cie->initial;
	while (cursor_u8(c, &op)) {
		bool moves = op >> 6 == DW_CFA_advance_loc >> 6 || op == DW_CFA_advance_loc1 ||
			     op == DW_CFA_advance_loc2 || op == DW_CFA_advance_loc4 || op == DW_CFA_MIPS_advance_loc8;
		uint64_t to;

		if (!moves) {
			if (!state_change(&m, op, c)) /* DW_CFA_set_loc too, which nobody writes */
				return false;
			continue;
		}
		if (!advance(&m, op, c, &to))
			return false;
		if (to == m.location)
			continue;
		if (!put_row(run, &m))
			return true; /* behind the end: nothing more holds */
		m.location = to;
	}
	(void)put_row(run, &m);
	return true;
}
