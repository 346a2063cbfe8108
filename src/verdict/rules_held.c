/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory that is held though nothing in the program needs it: by the allocator or by a garbage collector. */
#include <math.h>

#include "verdict-priv.h"

/* Retention below this is not worth an action, whatever its share: an allocator's normal stock. */
#define HELD_MIN (8 * MIB)
#define HELD_SHARE_MIN 0.25
#define GIVEN_BACK 2.0    /* times what is held: then most was given back */
#define FREE_EXPLAINS 0.6 /* of the growth of RSS */
#define TRIM_MOST 0.5

bool rule_gc(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	const struct trend *live = &f->truth;
	double level = f->rss.level_last, drop = live->high.v - live->level_last;
	bool dropped =
		fmin(drop, f->gc_gap) >= fmax(HELD_MIN, HELD_SHARE_MIN * level) && f->rss.high.v - level < drop / 2;
	/* the runtime must hold what grew: it may be malloc's, or anybody's mappings */
	bool growing = f->rss.rising && live->rise < f->rss.rise / 4 && f->gc_gap >= f->rss.rise / 2 &&
		       !(f->split.in_use + fmax(0, f->split.free_inside) > f->rss.rise / 2);

	if (!f->truth_is_live || !f->rss.known || live->rising || !(dropped || growing))
		return false;
	ret->class = VERDICT_RETENTION;
	ret->cause = CAUSE_GC;
	ret->where = WHERE_RUNTIME;
	ret->confidence = confidence_cap(confidence_logistic(1 + fmin(1.5, log2(fmax(1, f->gc_gap / HELD_MIN)) / 2)),
					 f->span_s, SETTLED_SECONDS, f->rss.trough_count);
	*ret_subject = &f->rss;
	return true;
}

static enum verdict_cause retention_cause(const struct features *f)
{
	/* without a walk nothing speaks for pinned pages, and the allocator is the one that can be asked */
	return f->trimmable_share < TRIM_MOST ? CAUSE_FRAGMENTATION : CAUSE_ALLOCATOR;
}

bool rule_retention(const struct features *f, struct verdict *ret, const struct trend **ret_subject)
{
	bool held = f->held_free >= HELD_MIN && f->held_share >= f->held_needed &&
		    !(f->peak_seen && f->rss.high.v - f->rss.level_last > GIVEN_BACK * f->held_free);
	bool given_back = f->rss.rise >= f->rss.material && f->truth.rise < f->rss.rise / 4 && f->peak_seen &&
			  f->truth.high.v - f->truth.level_last >= FREE_EXPLAINS * f->rss.rise &&
			  f->held_free >= FREE_EXPLAINS * f->rss.rise;
	bool growing = course_grows(&f->rss) && course_grows(&f->free_inside) && f->split.free_inside >= HELD_MIN / 2 &&
		       f->split.free_inside >= FREE_EXPLAINS * f->split.rss;

	if (!f->has_truth || f->truth_is_live || !f->rss.known || f->truth.rising || !(held || growing || given_back))
		return false;
	ret->class = VERDICT_RETENTION;
	ret->cause = retention_cause(f);
	ret->where = WHERE_HEAP;
	ret->confidence = confidence_cap(
		confidence_logistic(0.8 + fmin(1.5, log2(fmax(1, f->held_free / HELD_MIN)) / 2) +
				    fmin(1.5, 4 * fmax(0, f->held_share - f->held_needed)) + f->peak_seen),
		f->span_s, SETTLED_SECONDS, f->rss.trough_count);
	*ret_subject = growing && !held && !given_back ? &f->free_inside : &f->rss;
	return true;
}
