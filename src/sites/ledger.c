/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The ledger's books. Every sum over blocks is kept up to date as blocks settle and go, so that a look costs what has happened since the
 * last one and not what is live. History is the sums at LEDGER_MARKS times, spaced ever further apart.
 *
 * Invariants: each used entry is in the slots once; entries are settled or in the list of the young, which is by birth; the sums of a
 * stack and of a class are over its settled entries; with level n all entries pass kept() for n. Entries that are not used are free or in
 * graves: settled ones that were given back lately, for site_ledger_rewind(); where room is short, graves are given up first.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sites/ledger-priv.h"

#define FIRST_ENTRIES 256
#define FRONT_STEPS 4096 /* of a search among the young: blocks that go on with old ones are old themselves */
#define LEVEL_MAX 32     /* bits of the hash that thinning may use */
#define AGE_FIRST_S 0.125

int site_ledger_create(struct site_ledger **ret)
{
	struct site_ledger *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	site_stacks_init(&l->stacks, LEDGER_STACKS_MAX, LEDGER_PC_BYTES);
	l->free_first = l->young_first = l->young_last = l->grave_first = l->grave_last = LEDGER_NONE;
	*ret = l;
	return 0;
}

void site_ledger_destroy(struct site_ledger *l)
{
	if (!l)
		return;
	site_stacks_deinit(&l->stacks);
	free(l->of);
	free(l->entries);
	free(l->slots);
	free(l);
}

size_t site_ledger_count(const struct site_ledger *l)
{
	return l->live;
}

uint64_t site_ledger_events(const struct site_ledger *l)
{
	return l->events;
}

double ledger_settle_age(const struct site_ledger *l, double t_s)
{
	double age = LEDGER_SETTLED_SHARE * (t_s - l->opened_s);

	if (age < LEDGER_SETTLED_MIN_S)
		return LEDGER_SETTLED_MIN_S;
	return age < LEDGER_SETTLED_MAX_S ? age : LEDGER_SETTLED_MAX_S;
}

size_t ledger_age_bin(double age_s)
{
	int exponent;

	if (!(age_s > AGE_FIRST_S))
		return 0;
	frexp(age_s / AGE_FIRST_S, &exponent);
	return exponent < LEDGER_AGES ? (size_t)exponent : LEDGER_AGES - 1;
}

double ledger_age_start(size_t bin)
{
	return bin == 0 ? 0.0 : ldexp(AGE_FIRST_S, (int)bin - 1);
}

size_t ledger_class(uint64_t size)
{
	uint64_t chunk = size > UINT64_MAX - 24 ? UINT64_MAX : (size + 8 + 15) & ~15ULL;

	return heap_class_index(chunk < 32 ? 32 : chunk);
}

double ledger_var(const struct ledger_entry *e)
{
	return e->weight * (e->weight - (double)e->size);
}

int site_ledger_stack(struct site_ledger *l, const struct unwind_stack *stack, const char *source, uint32_t *ret)
{
	if (l->stacks.count == l->of_cap) {
		size_t cap = l->of_cap ? 2 * l->of_cap : 64;
		struct ledger_stack *of = realloc(l->of, cap * sizeof(*of));

		if (!of)
			return -ENOMEM;
		memset(of + l->of_cap, 0, (cap - l->of_cap) * sizeof(*of));
		l->of = of;
		l->of_cap = cap;
	}
	return site_stacks_find(&l->stacks, stack, source, ret);
}

/* ---- blocks by address ---- */

static uint64_t hash_address(uint64_t address)
{
	uint64_t x = address * 0x9e3779b97f4a7c15ULL;

	x = (x ^ x >> 32) * 0xd6e8feb86659fd93ULL;
	return x ^ x >> 29;
}

/* The upper half of the hash says who is kept, the lower half where. */
static bool kept(const struct site_ledger *l, uint64_t hash)
{
	return (hash >> 32 & ((1ULL << l->level) - 1)) == 0;
}

/* The slot of that address, or the empty one where it belongs. Ends: half of the slots are empty. */
static size_t find_slot(const struct site_ledger *l, uint64_t address, uint32_t hash)
{
	size_t i = hash & (l->slot_cap - 1);

	while (l->slots[i].entry && (l->slots[i].hash != hash || l->entries[l->slots[i].entry - 1].address != address))
		i = (i + 1) & (l->slot_cap - 1);
	return i;
}

/* Slots behind the gap move up, so that no search is cut off and none passes through graves. */
static void clear_slot(struct site_ledger *l, size_t gap)
{
	size_t mask = l->slot_cap - 1;

	for (size_t i = (gap + 1) & mask; l->slots[i].entry; i = (i + 1) & mask) {
		if (((i - l->slots[i].hash) & mask) >= ((i - gap) & mask)) {
			l->slots[gap] = l->slots[i];
			gap = i;
		}
	}
	l->slots[gap].entry = 0;
}

static int grow(struct site_ledger *l)
{
	size_t cap = l->entry_cap ? 2 * l->entry_cap : FIRST_ENTRIES;
	struct ledger_slot *slots = calloc(2 * cap, sizeof(*slots));
	struct ledger_entry *entries = slots ? realloc(l->entries, cap * sizeof(*entries)) : NULL;

	if (!entries) {
		free(slots);
		return -ENOMEM;
	}
	for (size_t i = 0; i < l->slot_cap; i++) {
		size_t at = l->slots[i].hash & (2 * cap - 1);

		if (!l->slots[i].entry)
			continue;
		while (slots[at].entry)
			at = (at + 1) & (2 * cap - 1);
		slots[at] = l->slots[i];
	}
	free(l->slots);
	l->slots = slots;
	l->slot_cap = 2 * cap;
	l->entries = entries;
	l->entry_cap = cap;
	return 0;
}

/* ---- the young and the settled ---- */

static void unlink_young(struct site_ledger *l, const struct ledger_entry *e)
{
	if (e->before != LEDGER_NONE)
		l->entries[e->before].after = e->after;
	else
		l->young_first = e->after;
	if (e->after != LEDGER_NONE)
		l->entries[e->after].before = e->before;
	else
		l->young_last = e->before;
}

/* By birth: threads' records come nearly in order, so the place is at the end or close to it; one that goes on with an old block belongs to the front. */
static void link_young(struct site_ledger *l, uint32_t index, bool is_old)
{
	struct ledger_entry *e = &l->entries[index];
	uint32_t before = l->young_last, next = l->young_first;

	for (int i = 0; !is_old && i < 8 && before != LEDGER_NONE && l->entries[before].t_s > e->t_s; i++)
		before = l->entries[before].before;
	if (is_old)
		before = LEDGER_NONE;
	for (int i = 0; is_old && i < FRONT_STEPS && next != LEDGER_NONE && l->entries[next].t_s < e->t_s; i++) {
		before = next;
		next = l->entries[next].after;
	}
	e->before = before;
	e->after = before == LEDGER_NONE ? l->young_first : l->entries[before].after;
	if (e->after != LEDGER_NONE)
		l->entries[e->after].before = index;
	else
		l->young_last = index;
	if (before != LEDGER_NONE)
		l->entries[before].after = index;
	else
		l->young_first = index;
}

void ledger_count_settled(struct site_ledger *l, const struct ledger_entry *e, double sign)
{
	struct ledger_stack *s = &l->of[e->stack];
	double var = sign * ledger_var(e);

	s->settled += sign * e->weight;
	s->var += var;
	s->samples += sign;
	if (s->samples < 0.5) /* what rounding has left over */
		s->settled = s->var = s->samples = 0.0;
	if (e->in_heap) {
		struct ledger_class *c = &l->classes[ledger_class(e->size)];

		c->settled += sign * e->weight;
		c->var += var;
	}
}

static uint32_t take_out(struct site_ledger *l, size_t slot)
{
	uint32_t index = l->slots[slot].entry - 1;
	struct ledger_entry *e = &l->entries[index];

	if (e->settled)
		ledger_count_settled(l, e, -1.0);
	else
		unlink_young(l, e);
	clear_slot(l, slot);
	e->used = false;
	l->live--;
	return index;
}

void ledger_set_free(struct site_ledger *l, uint32_t index)
{
	l->entries[index].after = l->free_first;
	l->free_first = index;
}

static void forget(struct site_ledger *l, size_t slot)
{
	ledger_set_free(l, take_out(l, slot));
}

static void bury(struct site_ledger *l, uint32_t index)
{
	l->entries[index].after = LEDGER_NONE;
	if (l->grave_last == LEDGER_NONE)
		l->grave_first = index;
	else
		l->entries[l->grave_last].after = index;
	l->grave_last = index;
}

static uint32_t pop_grave(struct site_ledger *l)
{
	uint32_t index = l->grave_first;

	l->grave_first = l->entries[index].after;
	if (l->grave_first == LEDGER_NONE)
		l->grave_last = LEDGER_NONE;
	return index;
}

static void give_back(struct site_ledger *l, size_t slot, double t_s)
{
	uint32_t index = take_out(l, slot);
	struct ledger_entry *e = &l->entries[index];

	if (!e->settled) {
		ledger_set_free(l, index);
		return;
	}
	l->of[e->stack].deaths[ledger_age_bin(t_s - e->t_s)] += 1.0F;
	e->gone_s = t_s;
	bury(l, index);
}

bool ledger_revive(struct site_ledger *l, uint32_t index)
{
	struct ledger_entry *e = &l->entries[index];
	uint32_t hash = (uint32_t)hash_address(e->address);
	size_t slot = find_slot(l, e->address, hash);

	if (l->slots[slot].entry) {
		ledger_set_free(l, index);
		return false;
	}
	l->slots[slot] = (struct ledger_slot){ hash, index + 1 };
	e->used = true;
	l->live++;
	ledger_count_settled(l, e, 1.0);
	return true;
}

/* ---- thinning ---- */

struct before { /* sums of a stack before it was thinned */
	double settled, var, samples;
};

static float scaled(float value, double now, double before)
{
	return before > 0.0 ? (float)((double)value * now / before) : 0.0F;
}

/* History is scaled as the present is: else the chance of who was forgotten would look like growth. */
static void rescale_marks(struct site_ledger *l, const struct before *before, struct ledger_stack *now)
{
	for (size_t i = 0; i < l->mark_count; i++) {
		struct ledger_sums *m = &now->marks[i];

		m->settled = before->settled > 0.0 ? m->settled * now->settled / before->settled : 0.0;
		m->var = scaled(m->var, now->var, before->var);
		m->samples = scaled(m->samples, now->samples, before->samples);
	}
	for (size_t i = 0; i < LEDGER_AGES; i++)
		now->deaths[i] *= 0.5F;
}

static void thin_graves(struct site_ledger *l)
{
	uint32_t next = l->grave_first;

	l->grave_first = l->grave_last = LEDGER_NONE;
	while (next != LEDGER_NONE) {
		uint32_t index = next;
		struct ledger_entry *e = &l->entries[index];

		next = e->after;
		e->weight *= 2.0;
		if (kept(l, hash_address(e->address)))
			bury(l, index);
		else
			ledger_set_free(l, index);
	}
}

static int thin(struct site_ledger *l)
{
	size_t count = l->stacks.count;
	cleanup_free struct before *before = calloc(count ? count : 1, sizeof(*before));
	struct ledger_class classes[HEAP_CLASS_COUNT];

	if (!before)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		before[i] = (struct before){ l->of[i].settled, l->of[i].var, l->of[i].samples };
	memcpy(classes, l->classes, sizeof(classes));
	l->level++;
	for (size_t i = 0; i < l->entry_top; i++) {
		struct ledger_entry *e = &l->entries[i];
		uint64_t hash = hash_address(e->address);

		if (!e->used)
			continue;
		if (!kept(l, hash)) {
			forget(l, find_slot(l, e->address, (uint32_t)hash));
			continue;
		}
		if (e->settled)
			ledger_count_settled(l, e, -1.0);
		e->weight *= 2.0;
		if (e->settled)
			ledger_count_settled(l, e, 1.0);
	}
	thin_graves(l);
	for (size_t i = 0; i < count; i++)
		rescale_marks(l, &before[i], &l->of[i]);
	for (size_t m = 0; m < l->mark_count; m++) {
		for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
			struct ledger_class *c = &l->class_marks[m][i];

			c->settled *= classes[i].settled > 0.0 ? l->classes[i].settled / classes[i].settled : 0.0;
			c->var *= classes[i].var > 0.0 ? l->classes[i].var / classes[i].var : 0.0;
		}
	}
	return 0;
}

/* ---- what happens ---- */

int site_ledger_taken(struct site_ledger *l, uint32_t stack, const struct ledger_block *b)
{
	uint64_t hash = hash_address(b->address);
	double size = (double)b->size,
	       weight = b->weight_bytes >= size && isfinite(b->weight_bytes) ? b->weight_bytes : size;
	size_t slot;
	uint32_t index;

	l->events++;
	l->of[stack].taken += weight;
	l->of[stack].taken_blocks += size > 0.0 ? weight / size : 1.0;
	if (!kept(l, hash))
		return 0;
	if (l->slot_cap > 0 && l->slots[slot = find_slot(l, b->address, (uint32_t)hash)].entry)
		give_back(l, slot, b->t_s);
	while (l->live >= LEDGER_BLOCKS_MAX) {
		if (l->level == LEVEL_MAX)
			return 0;
		if (thin(l) < 0)
			return -ENOMEM;
		if (!kept(l, hash))
			return 0;
	}
	if (l->free_first == LEDGER_NONE && l->entry_top == l->entry_cap) {
		if (l->entry_cap >= LEDGER_BLOCKS_MAX)
			ledger_set_free(l, pop_grave(l)); /* there is one: not all are live */
		else if (grow(l) < 0)
			return -ENOMEM;
	}
	slot = find_slot(l, b->address, (uint32_t)hash);
	index = l->free_first;
	if (index != LEDGER_NONE)
		l->free_first = l->entries[index].after;
	else
		index = (uint32_t)l->entry_top++;
	l->entries[index] = (struct ledger_entry){ .address = b->address,
						   .size = b->size,
						   .weight = ldexp(weight, (int)l->level),
						   .t_s = b->born_s > 0.0 ? b->born_s : b->t_s,
						   .moved_s = b->born_s > 0.0 ? b->t_s : 0.0,
						   .stack = stack,
						   .used = true,
						   .in_heap = b->in_heap };
	l->slots[slot] = (struct ledger_slot){ (uint32_t)hash, index + 1 };
	link_young(l, index, b->born_s > 0.0);
	l->live++;
	return 0;
}

void site_ledger_given_back(struct site_ledger *l, uint64_t address, double t_s)
{
	uint64_t hash = hash_address(address);
	size_t slot;

	if (l->live == 0 || !kept(l, hash))
		return;
	slot = find_slot(l, address, (uint32_t)hash);
	if (l->slots[slot].entry)
		give_back(l, slot, t_s);
}

bool site_ledger_lift(struct site_ledger *l, uint64_t address, double *ret_born_s)
{
	uint64_t hash = hash_address(address);
	size_t slot;

	if (l->live == 0 || !kept(l, hash))
		return false;
	slot = find_slot(l, address, (uint32_t)hash);
	if (!l->slots[slot].entry)
		return false;
	*ret_born_s = l->entries[l->slots[slot].entry - 1].t_s;
	forget(l, slot);
	return true;
}

static void take_mark(struct site_ledger *l)
{
	size_t m = l->mark_count;

	if (m > 0 && l->t_s - l->mark_t_s[m - 1] < l->spacing_s)
		return;
	if (m == LEDGER_MARKS) { /* every second one stays */
		m = LEDGER_MARKS / 2;
		for (size_t i = 1; i < m; i++) {
			l->mark_t_s[i] = l->mark_t_s[2 * i];
			memcpy(l->class_marks[i], l->class_marks[2 * i], sizeof(l->class_marks[i]));
			for (size_t s = 0; s < l->stacks.count; s++)
				l->of[s].marks[i] = l->of[s].marks[2 * i];
		}
		l->spacing_s = (l->t_s - l->mark_t_s[0]) / (double)m;
	}
	l->mark_t_s[m] = l->t_s;
	memcpy(l->class_marks[m], l->classes, sizeof(l->classes));
	for (size_t s = 0; s < l->stacks.count; s++) {
		const struct ledger_stack *now = &l->of[s];

		l->of[s].marks[m] = (struct ledger_sums){ now->settled, (float)now->var, (float)now->samples,
							  (float)now->taken, (float)now->taken_blocks };
	}
	l->mark_count = m + 1;
}

void site_ledger_tick(struct site_ledger *l, double t_s)
{
	double born;

	if (!l->ticked)
		l->opened_s = t_s;
	l->ticked = true;
	l->t_s = t_s;
	born = t_s - ledger_settle_age(l, t_s);
	while (l->young_first != LEDGER_NONE && l->entries[l->young_first].t_s <= born) {
		struct ledger_entry *e = &l->entries[l->young_first];

		unlink_young(l, e);
		e->settled = true;
		ledger_count_settled(l, e, 1.0);
	}
	while (l->grave_first != LEDGER_NONE && l->entries[l->grave_first].gone_s <= born)
		ledger_set_free(l, pop_grave(l));
	take_mark(l);
}

/* ---- truth from elsewhere ---- */

static int compare_block(const void *a, const void *b)
{
	const struct heap_block *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

size_t site_ledger_blocks(struct site_ledger *l, struct heap_block *ret, size_t cap)
{
	size_t count = 0;

	for (size_t i = 0; i < l->entry_top && count < cap; i++) {
		const struct ledger_entry *e;

		if (l->cursor >= l->entry_top)
			l->cursor = 0;
		e = &l->entries[l->cursor++];
		if (e->used && e->settled && e->in_heap)
			ret[count++] = (struct heap_block){ .address = e->address };
	}
	qsort(ret, count, sizeof(*ret), compare_block);
	return count;
}

void site_ledger_seen(struct site_ledger *l, const struct heap_block *blocks, size_t count, double t_s)
{
	for (size_t i = 0; i < count && l->live > 0; i++) {
		size_t slot = find_slot(l, blocks[i].address, (uint32_t)hash_address(blocks[i].address));

		const struct ledger_entry *e = l->slots[slot].entry ? &l->entries[l->slots[slot].entry - 1] : NULL;

		/* one that is young, or was moved here, took the place after the walk had begun */
		if (blocks[i].state == HEAP_BLOCK_FREE && e && e->settled && e->moved_s < t_s)
			give_back(l, slot, t_s);
	}
}

void site_ledger_each(struct site_ledger *l, bool (*gone)(void *arg, uint64_t address, uint64_t size), void *arg,
		      double t_s)
{
	for (size_t i = 0; i < l->entry_top; i++) {
		const struct ledger_entry *e = &l->entries[i];

		if (e->used && gone(arg, e->address, e->size))
			give_back(l, find_slot(l, e->address, (uint32_t)hash_address(e->address)), t_s);
	}
}
