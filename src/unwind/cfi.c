/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"
#include "private.h"

#define ROWS_MAX 4096

static void cache_forget(struct unwind_cache *cache)
{
	map_clear(&cache->by_pc);
	cache->row_count = 0;
	cache->expression_count = 0;
	arena_reset(&cache->arena);
}

static void cache_destroy(void *arg)
{
	struct unwind_cache *cache = arg;

	map_deinit(&cache->by_pc);
	free(cache->rows);
	free(cache->expressions);
	arena_deinit(&cache->arena);
	free(cache);
}

struct unwind_cache *unwind_cache(struct symbols *s)
{
	struct unwind_cache *cache = s->unwind;

	if (!cache) {
		cache = calloc(1, sizeof(*cache));
		if (!cache)
			return NULL;
		map_init(&cache->by_pc);
		arena_init(&cache->arena, 4096, 0);
		cache->generation = s->generation;
		s->unwind = cache;
		s->unwind_destroy = cache_destroy;
	}
	if (cache->generation != s->generation) {
		cache_forget(cache);
		memset(cache->fast, 0, sizeof(cache->fast));
		cache->generation = s->generation;
	}
	return cache;
}

const struct expression *cfi_expression(const struct symbols *s, int32_t number)
{
	const struct unwind_cache *cache = s->unwind;

	return &cache->expressions[number];
}

/* libdw's operations live no longer than the frame: they are copied. */
static bool keep_expression(struct unwind_cache *cache, const Dwarf_Op *ops, size_t count, int32_t *ret)
{
	struct expression e = { .count = count };

	if (vec_reserve(&cache->expressions, &cache->expression_cap, cache->expression_count + 1, sizeof(e)) < 0)
		return false;
	e.ops = arena_memdup(&cache->arena, ops, count * sizeof(*ops));
	if (!e.ops)
		return false;
	cache->expressions[cache->expression_count] = e;
	*ret = (int32_t)cache->expression_count++;
	return true;
}

static uint64_t needs_of(const Dwarf_Op *ops, size_t count)
{
	uint64_t needs = 0;

	for (size_t i = 0; i < count; i++) {
		uint64_t reg = REGS_MAX;

		if (ops[i].atom >= DW_OP_breg0 && ops[i].atom <= DW_OP_breg31)
			reg = (uint64_t)ops[i].atom - DW_OP_breg0;
		else if (ops[i].atom >= DW_OP_reg0 && ops[i].atom <= DW_OP_reg31)
			reg = (uint64_t)ops[i].atom - DW_OP_reg0;
		else if (ops[i].atom == DW_OP_bregx || ops[i].atom == DW_OP_regx)
			reg = ops[i].number;
		if (reg < REGS_MAX)
			needs |= 1ULL << reg;
	}
	return needs;
}

static bool fits(uint64_t number)
{
	return (int64_t)number >= INT32_MIN && (int64_t)number <= INT32_MAX;
}

static bool read_cfa(struct unwind_cache *cache, Dwarf_Frame *frame, struct row *row)
{
	Dwarf_Op *ops;
	size_t count;

	if (dwarf_frame_cfa(frame, &ops, &count) != 0 || count == 0)
		return false;
	row->cfa_kind = RULE_REGISTER;
	row->needs |= needs_of(ops, count);
	if (count == 1 && ops[0].atom >= DW_OP_breg0 && ops[0].atom <= DW_OP_breg31 && fits(ops[0].number)) {
		row->cfa_register = (uint8_t)(ops[0].atom - DW_OP_breg0);
		row->cfa_value = (int32_t)ops[0].number;
		return true;
	}
	if (count == 1 && ops[0].atom == DW_OP_bregx && ops[0].number < REGS_MAX && fits(ops[0].number2)) {
		row->cfa_register = (uint8_t)ops[0].number;
		row->cfa_value = (int32_t)ops[0].number2;
		return true;
	}
	row->cfa_kind = RULE_EXPRESSION;
	return keep_expression(cache, ops, count, &row->cfa_value);
}

/* The common shapes in short form: "CFA + n" as a place or as a value, and "in another register". */
static bool short_rule(const Dwarf_Op *ops, size_t count, struct row *row, uint32_t reg)
{
	bool value = count && ops[count - 1].atom == DW_OP_stack_value;
	size_t n = value ? count - 1 : count;

	if (count == 1 && ops[0].atom >= DW_OP_reg0 && ops[0].atom <= DW_OP_reg31) {
		row->kind[reg] = RULE_REGISTER;
		row->value[reg] = ops[0].atom - DW_OP_reg0;
		return true;
	}
	if (n == 0 || n > 2 || ops[0].atom != DW_OP_call_frame_cfa)
		return false;
	if (n == 2 && (ops[1].atom != DW_OP_plus_uconst || !fits(ops[1].number)))
		return false;
	row->kind[reg] = value ? RULE_VALUE_CFA : RULE_AT_CFA;
	row->value[reg] = n == 2 ? (int32_t)ops[1].number : 0;
	return true;
}

static bool read_rule(struct unwind_cache *cache, Dwarf_Frame *frame, struct row *row, uint32_t reg)
{
	Dwarf_Op memory[3], *ops = NULL;
	size_t count = 0;

	if (dwarf_frame_register(frame, (int)reg, memory, &ops, &count) != 0)
		return false;
	if (count == 0) {
		row->kind[reg] = ops ? RULE_UNDEFINED : RULE_SAME;
		return true;
	}
	if (short_rule(ops, count, row, reg))
		return true;
	row->kind[reg] = RULE_EXPRESSION;
	row->needs |= needs_of(ops, count);
	return keep_expression(cache, ops, count, &row->value[reg]);
}

static bool read_row(struct unwind_cache *cache, const struct arch *arch, Dwarf_Frame *frame, struct row *row)
{
	Dwarf_Addr start, end;
	int column = dwarf_frame_info(frame, &start, &end, &row->signal);

	if (column < 0 || !read_cfa(cache, frame, row))
		return false;
	for (uint32_t reg = 0; reg < arch->registers; reg++)
		if (!read_rule(cache, frame, row, reg))
			return false;
	row->found = true;
	return true;
}

/* .eh_frame first: it is loaded with the program and complete on x86-64; Go and some assembler have only .debug_frame. */
static Dwarf_Frame *frame_at(struct symbols *s, struct module *m, uint64_t vaddr)
{
	Dwarf_Frame *frame = NULL;
	Dwarf_CFI *cfi = module_cfi(m);
	GElf_Shdr shdr;
	Dwarf *dwarf;

	if (cfi && dwarf_cfi_addrframe(cfi, vaddr, &frame) == 0)
		return frame;
	if (m->frame_stage == STAGE_FAILED)
		return NULL;
	if (m->frame_stage == STAGE_NEW) {
		m->frame_stage = STAGE_FAILED;
		if (!image_section(&m->main, ".debug_frame", &shdr) && !image_section(&m->main, ".zdebug_frame", &shdr))
			return NULL;
	}
	dwarf = module_dwarf(s, m);
	cfi = dwarf ? dwarf_getcfi(dwarf) : NULL;
	m->frame_stage = cfi ? STAGE_READY : STAGE_FAILED;
	return cfi && dwarf_cfi_addrframe(cfi, vaddr, &frame) == 0 ? frame : NULL;
}

const struct row *cfi_row(struct symbols *s, const struct arch *arch, uint64_t at)
{
	struct unwind_cache *cache = unwind_cache(s);
	const struct span *span;
	Dwarf_Frame *frame;
	struct row *row;
	uint64_t index;

	if (!cache)
		return NULL;
	if (map_get(&cache->by_pc, at, &index))
		return &cache->rows[index];
	if (cache->row_count >= ROWS_MAX)
		cache_forget(cache);
	if (vec_reserve(&cache->rows, &cache->row_cap, cache->row_count + 1, sizeof(*row)) < 0)
		return NULL;
	row = &cache->rows[cache->row_count];
	memset(row, 0, sizeof(*row));
	span = span_find(s, at);
	if (span && span->module && span->stage == STAGE_READY) {
		row->bias = span->bias;
		frame = frame_at(s, span->module, at - span->bias);
		if (frame && !read_row(cache, arch, frame, row))
			memset(row, 0, sizeof(*row));
		free(frame);
	}
	if (map_put(&cache->by_pc, at, cache->row_count) < 0)
		return NULL;
	cache->row_count++;
	return row;
}
