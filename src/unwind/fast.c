/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "private.h"

#define WORD 8
#define HASH_FACTOR 0x9e3779b97f4a7c15ULL /* 2^64 by the golden ratio: neighbours go far apart */
#define PLT_ENTRY 16

/* The rule that a row of libdw's comes to, if it is one of the simple ones. */
static uint32_t packed(const struct arch *arch, const struct row *row)
{
	const uint32_t slow = compact_rule(COMPACT_SLOW, 0, 0);
	int32_t saved = row->value[arch->fp];
	uint32_t fp = COMPACT_FP_SAME;

	if (row->signal || row->cfa_kind != RULE_REGISTER || row->cfa_value % WORD ||
	    row->cfa_value / WORD < -COMPACT_OFFSET_UNITS || row->cfa_value / WORD >= COMPACT_OFFSET_UNITS ||
	    (row->cfa_register != arch->sp && row->cfa_register != arch->fp))
		return slow;
	if (row->kind[arch->pc] == RULE_UNDEFINED)
		return compact_rule(COMPACT_OUTERMOST, 0, 0);
	if (row->kind[arch->pc] != RULE_AT_CFA || row->value[arch->pc] != -WORD ||
	    (row->kind[arch->sp] != RULE_SAME && (row->kind[arch->sp] != RULE_VALUE_CFA || row->value[arch->sp] != 0)))
		return slow;
	if (row->kind[arch->fp] == RULE_UNDEFINED)
		fp = COMPACT_FP_UNKNOWN;
	else if (row->kind[arch->fp] == RULE_AT_CFA && saved % WORD == 0 && saved < 0 &&
		 saved >= -WORD * COMPACT_FP_SLOTS)
		fp = (uint32_t)(-saved / WORD);
	else if (row->kind[arch->fp] != RULE_SAME)
		return slow;
	return compact_rule(row->cfa_register == arch->sp ? COMPACT_SP : COMPACT_FP, fp, row->cfa_value / WORD);
}

static uint32_t find_rule(const struct walk *w, uint64_t at)
{
	const struct span *span = span_find(w->symbols, at);
	const struct row *row;
	uint32_t rule;

	if (!span)
		return compact_rule(COMPACT_NOWHERE, 0, 0);
	if (!span->module || span->stage != STAGE_READY)
		return compact_rule(COMPACT_GAP, 0, 0);
	rule = compact_lookup(w->symbols, span->module, at - span->bias);
	if (compact_kind(rule) != COMPACT_GAP)
		return rule;
	row = cfi_row(w->symbols, w->arch, at);
	return row && row->found ? packed(w->arch, row) : rule;
}

static uint32_t rule_at(struct unwind_cache *cache, const struct walk *w, uint64_t at)
{
	struct fast_slot *slot = &cache->fast[at * HASH_FACTOR >> (64 - FAST_BITS)];

	if (slot->at != at) {
		slot->rule = find_rule(w, at);
		slot->at = at;
	}
	return slot->rule;
}

/* What is followed of a frame. */
struct place {
	uint64_t pc, sp, fp;
	bool fp_known;
};

static inline bool word(const struct slice *slice, uint64_t address, uint64_t *ret)
{
	uint64_t at = address - slice->start;

	if (slice->len < WORD || at > slice->len - WORD) /* below the start: wrapped around */
		return false;
	memcpy(ret, slice->data + at, WORD);
	return true;
}

static bool find_cfa(const struct slice *slice, const struct place *p, uint32_t rule, uint64_t *ret)
{
	uint64_t offset = (uint64_t)compact_offset(rule), saved;

	switch (compact_kind(rule)) {
	case COMPACT_SP:
		*ret = p->sp + offset * WORD;
		return true;
	case COMPACT_FP:
		*ret = p->fp + offset * WORD;
		return p->fp_known;
	case COMPACT_PLT:
		*ret = p->sp + WORD + (p->pc % PLT_ENTRY >= offset ? WORD : 0);
		return true;
	case COMPACT_DEREF:
		if (!p->fp_known || !word(slice, p->fp + offset * WORD, &saved))
			return false;
		*ret = saved;
		return true;
	default: /* nothing that fast steps know */
		return false;
	}
}

static void find_fp(const struct slice *slice, struct place *p, uint32_t rule, uint64_t cfa)
{
	uint32_t slot = compact_fp(rule);

	if (compact_kind(rule) == COMPACT_DEREF)
		p->fp_known = word(slice, p->fp, &p->fp);
	else if (slot == COMPACT_FP_UNKNOWN)
		p->fp_known = false;
	else if (slot != COMPACT_FP_SAME)
		p->fp_known = word(slice, cfa - slot * WORD, &p->fp);
}

/* Hands the frame over to native.c. */
static void leave(struct walk *w, const struct place *p)
{
	const struct arch *arch = w->arch;
	uint64_t followed = 1ULL << arch->pc | 1ULL << arch->sp | 1ULL << arch->fp;

	w->state.value[arch->pc] = p->pc;
	w->state.value[arch->sp] = p->sp;
	w->state.value[arch->fp] = p->fp;
	w->state.known = followed & ~((uint64_t)!p->fp_known << arch->fp);
	w->state.lost = ((1ULL << arch->registers) - 1) & ~followed;
	w->exact = false;
}

enum step fast_walk(struct walk *w, struct unwind_stack *out)
{
	struct unwind_cache *cache = unwind_cache(w->symbols);
	const struct arch *arch = w->arch;
	struct place p = { w->state.value[arch->pc], w->state.value[arch->sp], w->state.value[arch->fp],
			   w->state.known >> arch->fp & 1 };
	enum step result = STEP_ASK;
	bool moved = false;
	uint32_t rule;

	if (!cache || w->state.lost >> arch->fp & 1)
		return STEP_ASK;
	rule = rule_at(cache, w, p.pc - !w->exact);
	while (out->count < UNWIND_MAX_FRAMES) {
		uint64_t cfa, pc;

		if (compact_kind(rule) == COMPACT_OUTERMOST)
			result = STEP_OUTERMOST;
		if (!find_cfa(&w->slice, &p, rule, &cfa))
			break;
		if (!word(&w->slice, cfa - WORD, &pc)) {
			result = walk_outside(w, cfa - WORD);
			break;
		}
		if (cfa <= p.sp) {
			result = STEP_BAD;
			break;
		}
		find_fp(&w->slice, &p, rule, cfa);
		p.pc = pc;
		p.sp = cfa;
		moved = true;
		rule = pc ? rule_at(cache, w, pc - 1) : compact_rule(COMPACT_NOWHERE, 0, 0);
		if (compact_kind(rule) == COMPACT_NOWHERE) {
			result = pc ? STEP_BAD : STEP_OUTERMOST; /* as threads start that have no CFI to say so */
			break;
		}
		if (compact_kind(rule) == COMPACT_GAP)
			pc = shown_return(w, pc);
		out->pcs[out->count++] = pc;
	}
	if (moved)
		leave(w, &p);
	return result;
}
