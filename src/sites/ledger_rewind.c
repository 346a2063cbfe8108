/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a program gives back in its last moments. For each stack the course of its settled bytes over the last settle age is made out from the
 * births of those that settled and the graves of those that went. A burst at the end is told from a population that is replaced all the time by the
 * deaths before it.
 */
#include <stdlib.h>

#include "sites/ledger-priv.h"

#define BINS 32
#define QUIET_BINS 4 /* before a burst, so that there is something to compare it with */
#define LOST_SHARE 0.5
#define BURST_RATE 10.0 /* deaths in a burst, over those before it in the same time */

struct last_moments { /* of one stack */
	float gained[BINS], lost[BINS], deaths[BINS];
	size_t burst; /* the bin in which it began; BINS: there was none */
};

static size_t bin_of(const struct site_ledger *l, double t_s)
{
	double age = ledger_settle_age(l, l->t_s), at = (t_s - (l->t_s - age)) / age * BINS;

	return at < 0.0 ? 0 : at < BINS ? (size_t)at : BINS - 1;
}

static void count_gain(const struct site_ledger *l, const struct ledger_entry *e, struct last_moments *of)
{
	double settled_s = e->t_s + ledger_settle_age(l, l->t_s);

	if (settled_s > l->t_s - ledger_settle_age(l, l->t_s))
		of[e->stack].gained[bin_of(l, settled_s)] += (float)e->weight;
}

static void find_burst(const struct ledger_stack *s, struct last_moments *of)
{
	double level = s->settled, peak = level, before = 0.0, after = 0.0;

	of->burst = BINS;
	for (size_t bin = BINS; bin-- > 0;) {
		level += (double)of->lost[bin] - (double)of->gained[bin];
		if (level > peak) {
			peak = level;
			of->burst = bin;
		}
	}
	for (size_t bin = 0; bin < BINS; bin++)
		*(bin < of->burst ? &before : &after) += (double)of->deaths[bin];
	if (of->burst < QUIET_BINS || s->settled > (1.0 - LOST_SHARE) * peak ||
	    after * (double)of->burst < BURST_RATE * before * (double)(BINS - of->burst))
		of->burst = BINS;
}

static void rewrite_history(struct site_ledger *l, const struct ledger_entry *e)
{
	for (size_t m = l->mark_count; m-- > 0 && l->mark_t_s[m] >= e->gone_s;) {
		struct ledger_sums *sums = &l->of[e->stack].marks[m];
		struct ledger_class *class = &l->class_marks[m][ledger_class(e->size)];

		sums->settled += e->weight;
		sums->var += (float)ledger_var(e);
		sums->samples += 1.0F;
		if (e->in_heap) {
			class->settled += e->weight;
			class->var += ledger_var(e);
		}
	}
}

bool site_ledger_rewind(struct site_ledger *l)
{
	cleanup_free struct last_moments *of = calloc(l->stacks.count ? l->stacks.count : 1, sizeof(*of));
	uint32_t next = l->grave_first;
	bool any = false;

	if (!of || next == LEDGER_NONE)
		return false;
	for (size_t i = 0; i < l->entry_top; i++)
		if (l->entries[i].used && l->entries[i].settled)
			count_gain(l, &l->entries[i], of);
	for (uint32_t i = next; i != LEDGER_NONE; i = l->entries[i].after) {
		struct last_moments *m = &of[l->entries[i].stack];
		size_t bin = bin_of(l, l->entries[i].gone_s);

		count_gain(l, &l->entries[i], of);
		m->lost[bin] += (float)l->entries[i].weight;
		m->deaths[bin] += 1.0F;
	}
	for (size_t i = 0; i < l->stacks.count; i++)
		find_burst(&l->of[i], &of[i]);
	l->grave_first = l->grave_last = LEDGER_NONE;
	while (next != LEDGER_NONE) {
		uint32_t index = next;
		struct ledger_entry *e = &l->entries[index];
		struct ledger_stack *s = &l->of[e->stack];

		next = e->after;
		if (bin_of(l, e->gone_s) < of[e->stack].burst) {
			ledger_set_free(l, index);
			continue;
		}
		if (!ledger_revive(l, index))
			continue;
		s->deaths[ledger_age_bin(e->gone_s - e->t_s)] -= 1.0F;
		rewrite_history(l, e);
		any = true;
	}
	return any;
}
