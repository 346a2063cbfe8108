/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/survivors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/series.h"

#define STEP_SHARE 0.001   /* what makes a maximum a new one: more than CLASS_GROWTH_MIN_BYTES and than this share */
#define MAXIMUM_MIN_S 10.0 /* a maximum of longer ago, and longer than this share of the time watched, is forgotten */
#define MAXIMUM_SHARE 0.25

#define MANY_CLASSES 8 /* of SURVIVORS_CLASSES: those that grow most are picked from more densely */
#define PICKS_MANY 256
#define PICKS_FEW 64

#define YOUNG_MIN_S 0.3
#define YOUNG_SHARE 0.15 /* of the time watched: what stays so long has outlived nearly all that is short-lived */
#define YOUNG_MAX_S 600.0
#define HALF_LIFE_MIN_S 10.0
#define HALF_LIFE_SHARE 0.125
/* How much turns over is an estimate: that half of the expected ones is missing must be beyond chance. */
#define EXPECTED_SURE 0.5
#define NAMED_MIN_TRACKED 8
#define NAMED_MIN_PROBABILITY 0.5

enum role { ROLE_PROBE, ROLE_YOUNG, ROLE_SETTLED };

struct followed {
	uint64_t address, size, content;
	double since_s, checked_s; /* picked; content compared last */
	double stay;               /* the probability that it stays if the growth of its class does */
	uint64_t maximum;          /* at which it was picked */
	uint16_t index;            /* of its class */
	uint8_t role;
};

struct class_tally {              /* all fade */
	double expected, settled; /* young ones whose fate is known: how many should have settled, and did */
	double freed;             /* settled ones */
	double probes, turned;    /* since one maximum, at the next: looked at, and gone */
	double probes_expected;   /* how many of the probes should have stayed */
};

struct survivors {
	struct class_growth growth;
	uint64_t hot;
	/* survival */
	uint64_t maximum_bytes, maxima;
	double maximum_t_s;
	struct heap_picks now, before; /* of the coming walk; of the last maximum */
	double before_t_s;             /* NaN: none */
	bool picking;
	struct class_tally tally[HEAP_CLASS_COUNT];
	struct followed *followed; /* ascending by address */
	size_t followed_count;
	uint64_t due_address;   /* whose turn it is */
	struct followed *fresh; /* handed out by survivors_walked() */
	size_t fresh_count;
};

int survivors_create(double opened_s, struct survivors **ret)
{
	struct survivors *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->followed = calloc(SURVIVORS_MAX, sizeof(*s->followed));
	s->fresh = calloc(SURVIVORS_FRESH, sizeof(*s->fresh));
	if (!s->followed || !s->fresh) {
		survivors_destroy(s);
		return -ENOMEM;
	}
	s->growth.opened_s = s->growth.t_s = opened_s;
	s->before_t_s = NAN;
	heap_picks_init(&s->now, 0);
	heap_picks_init(&s->before, 0);
	*ret = s;
	return 0;
}

void survivors_destroy(struct survivors *s)
{
	if (!s)
		return;
	heap_picks_deinit(&s->now);
	heap_picks_deinit(&s->before);
	free(s->followed);
	free(s->fresh);
	free(s);
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

/* ---- what is known of a class ---- */

struct standing {
	double tracked, freed;
};

static size_t count_role(const struct survivors *s, size_t index, enum role role)
{
	size_t n = 0;

	for (size_t i = 0; i < s->followed_count; i++)
		n += s->followed[i].index == index && s->followed[i].role == role;
	return n;
}

/* How many are missing of those that should have stayed, where that is beyond chance. */
static double missing(double expected, double stayed)
{
	double sure = EXPECTED_SURE * expected;

	return sure - stayed > 2.0 * sqrt(sure + 1.0) ? expected - stayed : 0.0;
}

static struct standing standing_of(const struct class_tally *t, size_t settled)
{
	double freed = t->freed + missing(t->expected, t->settled) + missing(t->probes_expected, t->probes - t->turned);

	return (struct standing){ .tracked = round((double)settled + freed), .freed = round(freed) };
}

/* Laplace's rule of succession, as in struct heap_size_class. */
static double probability(struct standing st)
{
	return st.tracked > 0.0 ? larger(1.0 - (st.freed + 1.0) / (st.tracked - st.freed + 2.0), 0.0) : NAN;
}

static void find_hot(struct survivors *s)
{
	const struct class_growth *g = &s->growth;

	s->hot = 0;
	for (size_t i = 0; i < g->top_count && !s->hot; i++) {
		struct standing st = standing_of(&s->tally[g->top[i]], count_role(s, g->top[i], ROLE_SETTLED));

		if (class_growth_is_sure(g, g->top[i]) &&
		    !(st.tracked >= NAMED_MIN_TRACKED && probability(st) < NAMED_MIN_PROBABILITY))
			s->hot = heap_class_size(g->top[i]);
	}
}

uint64_t survivors_hot_class(const struct survivors *s)
{
	return s->hot;
}

/* ---- survival ---- */

struct heap_picks *survivors_picks(struct survivors *s)
{
	uint16_t limit[HEAP_CLASS_COUNT] = { 0 };

	for (size_t i = 0; i < s->growth.top_count; i++)
		limit[s->growth.top[i]] = i < MANY_CLASSES ? PICKS_MANY : PICKS_FEW;
	s->picking = s->growth.top_count > 0 && heap_picks_begin(&s->now, limit) >= 0;
	return s->picking ? &s->now : NULL;
}

static struct heap_block block_of(const struct followed *f)
{
	return (struct heap_block){
		.address = f->address, .start = f->address, .size = f->size, .state = HEAP_BLOCK_IN_USE
	};
}

size_t survivors_blocks(const struct survivors *s, struct heap_block *ret, size_t cap)
{
	size_t count = s->followed_count < cap ? s->followed_count : cap;

	for (size_t i = 0; i < count; i++)
		ret[i] = block_of(&s->followed[i]);
	return count;
}

size_t survivors_due(struct survivors *s, struct heap_block *ret, size_t cap)
{
	size_t count = 0, from = 0, at;

	if (s->followed_count <= cap)
		return survivors_blocks(s, ret, cap);
	while (from < s->followed_count && s->followed[from].address < s->due_address)
		from++;
	for (at = from; count < cap && at < s->followed_count; at++)
		ret[count++] = block_of(&s->followed[at]);
	s->due_address = at < s->followed_count ? s->followed[at].address : 0;
	return count;
}

static int compare_block(const void *a, const void *b)
{
	const struct heap_block *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static int compare_followed(const void *a, const void *b)
{
	const struct followed *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static bool is_gone(const struct followed *f, const struct heap_block *b, bool complete)
{
	if (b->state == HEAP_BLOCK_UNKNOWN)
		return complete;
	return b->state == HEAP_BLOCK_FREE || b->start != f->address || b->size != f->size ||
	       heap_content_compare(f->content, b->content) == HEAP_CONTENT_REPLACED;
}

static void bury(struct survivors *s, const struct followed *f)
{
	struct class_tally *t = &s->tally[f->index];

	switch ((enum role)f->role) {
	case ROLE_PROBE:
		t->probes += 1.0;
		t->turned += 1.0;
		t->probes_expected += f->stay;
		break;
	case ROLE_YOUNG:
		t->expected += f->stay;
		break;
	case ROLE_SETTLED:
		t->freed += 1.0;
		break;
	}
}

void survivors_seen(struct survivors *s, double t_s, const struct heap_block *blocks, size_t count, bool complete)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->followed_count; i++) {
		struct followed *f = &s->followed[i];
		struct heap_block key = { .address = f->address };
		const struct heap_block *found = bsearch(&key, blocks, count, sizeof(*blocks), compare_block);

		if (found && is_gone(f, found, complete)) {
			bury(s, f);
			continue;
		}
		if (found && found->content) {
			f->content = found->content; /* many small changes one after the other are none at once */
			f->checked_s = t_s;
		}
		s->followed[kept++] = *f;
	}
	s->followed_count = kept;
}

static void fade(struct survivors *s, double t_s)
{
	double half_life = larger(HALF_LIFE_MIN_S, HALF_LIFE_SHARE * (t_s - s->growth.opened_s));
	double keep = exp2(-larger(t_s - s->growth.t_s, 0.0) / half_life);

	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++) {
		struct class_tally *t = &s->tally[i];

		t->expected *= keep;
		t->settled *= keep;
		t->freed *= keep;
		t->probes *= keep;
		t->turned *= keep;
		t->probes_expected *= keep;
	}
}

static void drop_followed(struct survivors *s, size_t at)
{
	s->followed_count--;
	memmove(&s->followed[at], &s->followed[at + 1], (s->followed_count - at) * sizeof(*s->followed));
}

/* One settled block of the class makes room for a younger one: any of them, so that those that stay are of all ages. */
static void retire_one(struct survivors *s, size_t index)
{
	size_t nth = (size_t)(heap_pick_hash(s->maxima * HEAP_CLASS_COUNT + index, s->followed_count) >> 32) %
		     SURVIVORS_SETTLED;

	for (size_t i = 0; i < s->followed_count; i++) {
		const struct followed *f = &s->followed[i];

		if (f->index == index && f->role == ROLE_SETTLED && nth-- == 0) {
			drop_followed(s, i);
			return;
		}
	}
}

static void settle(struct survivors *s)
{
	double old = YOUNG_SHARE * (s->growth.t_s - s->growth.opened_s);
	size_t settled[HEAP_CLASS_COUNT] = { 0 };

	old = larger(YOUNG_MIN_S, old < YOUNG_MAX_S ? old : YOUNG_MAX_S);
	for (size_t i = 0; i < s->followed_count; i++) {
		struct followed *f = &s->followed[i];

		if (f->role == ROLE_YOUNG && f->checked_s - f->since_s >= old && f->maximum < s->maxima) {
			s->tally[f->index].expected += f->stay;
			s->tally[f->index].settled += 1.0;
			f->role = ROLE_SETTLED;
		}
		settled[f->index] += f->role == ROLE_SETTLED;
	}
	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		for (; settled[i] > SURVIVORS_SETTLED; settled[i]--)
			retire_one(s, i);
}

/* ---- a new maximum ---- */

/* A spike of long ago must not hide for ever what grows below it. */
static void forget_spike(struct survivors *s, uint64_t in_use_bytes)
{
	double forget = larger(MAXIMUM_MIN_S, MAXIMUM_SHARE * (s->growth.t_s - s->growth.opened_s));

	if (in_use_bytes < s->maximum_bytes && s->growth.t_s - s->maximum_t_s > forget) {
		s->maximum_bytes = in_use_bytes;
		s->maximum_t_s = s->growth.t_s;
	}
}

static bool new_maximum(struct survivors *s, uint64_t in_use_bytes)
{
	double step = larger(CLASS_GROWTH_MIN_BYTES, STEP_SHARE * (double)s->maximum_bytes);

	forget_spike(s, in_use_bytes);
	if ((double)in_use_bytes <= (double)s->maximum_bytes + step)
		return false;
	s->maximum_bytes = in_use_bytes;
	s->maximum_t_s = s->growth.t_s;
	s->maxima++;
	return true;
}

/* Probes have done their service; classes that no longer grow make room where it is needed. */
static void make_room(struct survivors *s)
{
	bool crowded = s->followed_count + SURVIVORS_FRESH > SURVIVORS_MAX;
	size_t kept = 0;

	for (size_t i = 0; i < s->followed_count; i++) {
		const struct followed *f = &s->followed[i];

		if (f->role == ROLE_PROBE) {
			s->tally[f->index].probes += 1.0;
			s->tally[f->index].probes_expected += f->stay;
		} else if (!crowded || s->growth.is_top[f->index]) {
			s->followed[kept++] = *f;
		}
	}
	s->followed_count = kept;
}

static bool is_followed(const struct survivors *s, uint64_t address)
{
	struct followed key = { .address = address };

	return bsearch(&key, s->followed, s->followed_count, sizeof(key), compare_followed) != NULL;
}

/* The probability that a block taken since the last maximum stays, if all that the class grew by since then does. */
static double stay_of(const struct survivors *s, size_t index)
{
	const struct class_tally *t = &s->tally[index];
	double block = s->growth.blocks[index] ? (double)s->growth.bytes[index] / (double)s->growth.blocks[index] : 1.0;
	double grown = larger(s->growth.rate[index], 0.0) * (s->growth.t_s - s->before_t_s) / block;
	double turned = t->probes >= 1.0 ? t->turned / t->probes * (double)s->growth.blocks[index] :
					   (double)s->growth.blocks[index];

	return grown > 0.0 ? grown / (grown + turned) : 0.0;
}

/* The part of the class by which it grew since the watching began: if that stays, so does this part of all its blocks. */
static double grown_share(const struct survivors *s, size_t index)
{
	double now = (double)s->growth.bytes[index], then = (double)s->growth.marks[0][index];

	return now > then ? (now - then) / now : 0.0;
}

static void want(struct survivors *s, const struct heap_pick *p, size_t index, enum role role, double stay)
{
	if (s->fresh_count < SURVIVORS_FRESH)
		s->fresh[s->fresh_count++] = (struct followed){ .address = p->address,
								.size = p->size,
								.since_s = s->growth.t_s,
								.stay = stay,
								.maximum = s->maxima,
								.index = (uint16_t)index,
								.role = (uint8_t)role };
}

#define SLOTS (4 * PICKS_MANY)

/* A small set of the addresses picked at the last maximum. */
static bool slot_of(const uint64_t slots[SLOTS], uint64_t address, uint64_t hash, size_t *ret)
{
	size_t at = (size_t)(hash % SLOTS);

	while (slots[at] && slots[at] != address)
		at = (at + 1) % SLOTS;
	*ret = at;
	return slots[at] != 0;
}

static void choose(struct survivors *s, size_t index)
{
	const struct heap_pick *before = s->before.items + s->before.first[index];
	const struct heap_pick *now = s->now.items + s->now.first[index];
	size_t young = count_role(s, index, ROLE_YOUNG), cohort = 0, probes = 0, slot;
	double stay = isnan(s->before_t_s) ? 0.0 : stay_of(s, index);
	double grown = grown_share(s, index);
	uint64_t slots[SLOTS] = { 0 };

	for (size_t i = 0; !isnan(s->before_t_s) && i < s->before.count[index]; i++)
		if (!slot_of(slots, before[i].address, before[i].hash, &slot))
			slots[slot] = before[i].address;
	for (size_t i = 0; i < s->now.count[index]; i++) {
		const struct heap_pick *p = &now[i];
		bool taken_since = !isnan(s->before_t_s) && p->hash < s->before.below[index] &&
				   !slot_of(slots, p->address, p->hash, &slot);

		if (is_followed(s, p->address))
			continue;
		if (probes < SURVIVORS_PROBES && i % (size_t)(s->now.count[index] / SURVIVORS_PROBES + 1) == 0) {
			want(s, p, index, ROLE_PROBE, grown);
			probes++;
		} else if (taken_since && cohort < SURVIVORS_COHORT && young + cohort < SURVIVORS_YOUNG) {
			want(s, p, index, ROLE_YOUNG, stay);
			cohort++;
		}
	}
}

static void keep_picks(struct survivors *s)
{
	struct heap_picks spare = s->before;

	s->before = s->now;
	s->now = spare;
	s->before_t_s = s->growth.t_s;
}

static void new_cohort(struct survivors *s)
{
	make_room(s);
	for (size_t i = 0; i < s->growth.top_count; i++)
		if (s->now.limit[s->growth.top[i]] > 0)
			choose(s, s->growth.top[i]);
	keep_picks(s);
}

size_t survivors_walked(struct survivors *s, double t_s, const struct heap_stats *heap, struct heap_block *ret,
			size_t cap)
{
	size_t count;

	fade(s, t_s);
	class_growth_take(&s->growth, t_s, heap);
	settle(s);
	s->fresh_count = 0;
	if (new_maximum(s, heap->in_use_bytes) && s->picking)
		new_cohort(s);
	else if (isnan(s->before_t_s) && s->picking)
		keep_picks(s); /* to tell at the first maximum what is new */
	s->picking = false;
	find_hot(s);
	count = s->fresh_count < cap ? s->fresh_count : cap;
	for (size_t i = 0; i < count; i++)
		ret[i] = block_of(&s->fresh[i]);
	return count;
}

void survivors_follow(struct survivors *s, const struct heap_block *blocks, size_t count)
{
	for (size_t i = 0; i < count && i < s->fresh_count && s->followed_count < SURVIVORS_MAX; i++) {
		struct followed f = s->fresh[i];

		if (blocks[i].state != HEAP_BLOCK_IN_USE || blocks[i].content == 0 || blocks[i].start != f.address)
			continue; /* gone by now, or its first words are not in memory */
		f.content = blocks[i].content;
		s->followed[s->followed_count++] = f;
	}
	s->fresh_count = 0;
	qsort(s->followed, s->followed_count, sizeof(*s->followed), compare_followed);
}

/* ---- the report ---- */

static double median_age(const struct survivors *s, size_t index)
{
	double ages[SURVIVORS_YOUNG + SURVIVORS_SETTLED];
	size_t n = 0;

	for (size_t i = 0; i < s->followed_count && n < sizeof(ages) / sizeof(ages[0]); i++)
		if (s->followed[i].index == index && s->followed[i].role != ROLE_PROBE)
			ages[n++] = s->growth.t_s - s->followed[i].since_s;
	return values_median(ages, n);
}

void survivors_fill(const struct survivors *s, struct heap_stats *heap)
{
	for (size_t i = 0; i < heap->class_count; i++) {
		struct heap_size_class *c = &heap->classes[i];
		size_t index = heap_class_index(c->size);
		struct standing st = standing_of(&s->tally[index], count_role(s, index, ROLE_SETTLED));

		c->tracked_blocks = (uint32_t)st.tracked;
		c->freed_blocks = (uint32_t)st.freed;
		c->leak_probability = probability(st);
		c->age_s = median_age(s, index);
	}
}
