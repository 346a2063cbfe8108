/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was seen, one table entry per id. The order is that of the report: what carries the verdict first, then what
 * was ruled out, then what limits it.
 */
#include <inttypes.h>
#include <math.h>

#include "memwatch/base/units.h"
#include "verdict-priv.h"

#define NOISE_OF_RISE 0.1
#define DRIFT_SURE 3.3 /* twice the gate */

static bool is(const struct judgement *j, enum verdict_class c)
{
	return j->v.class == c;
}

bool evidence_rises(const struct judgement *j)
{
	return is(j, VERDICT_LEAK) || is(j, VERDICT_GROWTH) || is(j, VERDICT_SCALING);
}

/* Closes the text that j->text holds into one piece of evidence. */
struct evidence *evidence_add(struct judgement *j, const char *id, double value, const char *unit, double threshold)
{
	struct evidence *e = &j->evidence[j->v.evidence_count];

	if (j->v.evidence_count == EVIDENCE_MAX) {
		str_reset(&j->text);
		return &j->evidence[EVIDENCE_MAX - 1];
	}
	*e = (struct evidence){ id, text_take(j), value, unit, threshold, false };
	j->v.evidence_count++;
	return e;
}

const char *evidence_subject(const struct judgement *j)
{
	switch (j->subject->metric) {
	case METRIC_HEAP_IN_USE:
		return "in-use heap";
	case METRIC_HEAP_FREE:
		return "free memory inside the allocator";
	case METRIC_RUNTIME_LIVE:
		return "live memory of the runtime";
	default:
		return "RSS";
	}
}

static void say_short(struct judgement *j, const char *id)
{
	const struct features *f = &j->f;

	if (!is(j, VERDICT_INSUFFICIENT_DATA))
		return;
	if (f->samples >= VERDICT_MIN_SAMPLES && (f->observed_s >= VERDICT_MIN_SECONDS || f->in->counted_time)) {
		str_add(&j->text, "neither RSS nor the heap was read often enough to judge them");
		evidence_add(j, id, NAN, NULL, NAN);
	} else if (f->samples < VERDICT_MIN_SAMPLES) {
		str_addf(&j->text, "%" PRIu64 " samples: at least %d are needed", f->samples, VERDICT_MIN_SAMPLES);
		evidence_add(j, id, (double)f->samples, "count", VERDICT_MIN_SAMPLES);
	} else {
		str_add(&j->text, "watched for ");
		units_add_duration(&j->text, f->observed_s);
		str_add(&j->text, ": at least 3 s are needed");
		evidence_add(j, id, f->observed_s, "s", VERDICT_MIN_SECONDS);
	}
}

static void add_troughs(struct str *out, const struct trend *t)
{
	if (t->higher + 1 == t->trough_count)
		str_add(out, "each trough higher than the one before");
	else
		str_addf(out, "%zu of %zu troughs higher than the one before", t->higher, t->trough_count - 1);
}

/* "linear", where that is what it is; else the shape that fits, or none. */
static void add_shape(struct str *out, const struct trend *t)
{
	if (t->shape.shape == SHAPE_LINEAR)
		str_add(out, "linear ");
	else if (t->shape.shape == SHAPE_DOUBLING)
		str_add(out, "by jumps that double ");
	else if (t->shape.shape == SHAPE_LOG)
		str_add(out, "more slowly with time ");
}

static void add_course(struct judgement *j, bool interval)
{
	const struct trend *t = j->subject;

	str_addf(&j->text, "%s grows ", evidence_subject(j));
	text_rate(&j->text, t->slope.value);
	if (interval) {
		str_addc(&j->text, ' ');
		text_interval(&j->text, t->slope);
	}
	str_add(&j->text, ", ");
	add_shape(&j->text, t);
	str_add(&j->text, "over ");
	units_add_duration(&j->text, t->from_s + t->span_s - t->onset_s);
	str_add(&j->text, ", ");
	add_troughs(&j->text, t);
}

static void add_no_trend(struct judgement *j)
{
	const struct trend *t = j->subject;

	if (t->rise < -t->material) {
		str_addf(&j->text, "%s falls: from ", evidence_subject(j));
		units_add_bytes(&j->text, t->level_first);
		str_add(&j->text, " to ");
		units_add_bytes(&j->text, t->level_last);
	} else {
		str_addf(&j->text, "%s shows no steady growth: ", evidence_subject(j));
		units_add_bytes(&j->text, t->level_first);
		str_add(&j->text, " at the beginning, ");
		units_add_bytes(&j->text, t->level_last);
		str_add(&j->text, " at the end");
	}
	str_add(&j->text, ", over ");
	units_add_duration(&j->text, t->span_s);
}

static void say_trend(struct judgement *j, const char *id)
{
	if (evidence_rises(j)) {
		add_course(j, true);
		evidence_add(j, id, j->subject->slope.value, "bytes/s", 0);
	} else if (is(j, VERDICT_STABLE)) {
		add_no_trend(j);
		evidence_add(j, id, j->subject->rise, "bytes", j->subject->material);
	}
}

static void add_plateau(struct judgement *j)
{
	const struct trend *t = j->subject;

	str_addf(&j->text, "%s grew by ", evidence_subject(j));
	units_add_bytes(&j->text, t->rise);
	if (t->saturates && t->flat_tail_s < t->span_s / 5) {
		str_add(&j->text, " and levels off towards ");
		units_add_bytes(&j->text, t->shape.ceiling);
	} else {
		str_add(&j->text, " and has stayed at ");
		units_add_bytes(&j->text, t->level_last);
		str_add(&j->text, " for ");
		units_add_duration(&j->text, t->flat_tail_s);
	}
}

static void say_plateau(struct judgement *j, const char *id)
{
	if (!is(j, VERDICT_WARMUP))
		return;
	add_plateau(j);
	evidence_add(j, id, j->subject->flat_tail_s, "s", NAN);
}

static void add_held(struct judgement *j)
{
	const struct features *f = &j->f;

	if (j->v.cause == CAUSE_GC) {
		units_add_bytes(&j->text, f->gc_gap);
		str_add(&j->text, " of RSS are not live objects: live memory is ");
		units_add_bytes(&j->text, f->truth.level_last);
	} else {
		units_add_bytes(&j->text, f->held_free);
		str_addf(&j->text, " stay free inside the allocator, %.0f %% of RSS", 100 * f->held_share);
		if (f->peak_seen && f->truth.high.v > f->truth.level_last + f->truth.material) {
			str_add(&j->text, ", after in-use heap fell from ");
			units_add_bytes(&j->text, f->truth.high.v);
			str_add(&j->text, " to ");
			units_add_bytes(&j->text, f->truth.level_last);
		} else {
			str_add(&j->text, ", while in-use heap is flat at ");
			units_add_bytes(&j->text, f->truth.level_last);
		}
	}
}

static void say_peak_held(struct judgement *j, const char *id)
{
	const struct features *f = &j->f;

	if (!is(j, VERDICT_RETENTION))
		return;
	add_held(j);
	if (j->v.cause == CAUSE_GC)
		evidence_add(j, id, f->gc_gap, "bytes", NAN);
	else
		evidence_add(j, id, f->held_share, "ratio", f->held_needed);
}

static void add_burst(struct judgement *j)
{
	const struct trend *t = j->subject;

	str_addf(&j->text, "%s rose to ", evidence_subject(j));
	units_add_bytes(&j->text, t->high.v);
	str_add(&j->text, " for ");
	units_add_duration(&j->text, t->burst_share * t->span_s);
	str_add(&j->text, " and came back to ");
	units_add_bytes(&j->text, t->level_last);
}

static void say_burst(struct judgement *j, const char *id)
{
	if (!is(j, VERDICT_SPIKE))
		return;
	add_burst(j);
	evidence_add(j, id, j->subject->high.v - fmax(j->subject->level_first, j->subject->level_last), "bytes",
		     2 * j->subject->material);
}

static void add_step(struct judgement *j)
{
	const struct trend *t = j->subject;

	str_addf(&j->text, "%s rose once, by ", evidence_subject(j));
	units_add_bytes(&j->text, t->rise);
	str_add(&j->text, " after ");
	units_add_duration(&j->text, t->shape.step_at_s);
	str_add(&j->text, ", and is flat before and since");
}

static void say_step(struct judgement *j, const char *id)
{
	if (!is(j, VERDICT_STEP))
		return;
	add_step(j);
	evidence_add(j, id, j->subject->shape.step_size / j->subject->rise, "ratio", 0.8);
}

static void say_gate(struct judgement *j, const char *id)
{
	const struct trend *t = j->subject;

	if (!evidence_rises(j))
		return;
	str_add(&j->text, "the trend is significant (Mann-Kendall z ");
	text_tenths(&j->text, t->z);
	str_addf(&j->text, " on %zu troughs) and material: ", t->trough_count);
	units_add_bytes(&j->text, t->rise);
	str_add(&j->text, ", where ");
	units_add_bytes(&j->text, t->material);
	str_add(&j->text, " would count");
	evidence_add(j, id, t->z, "z", GATE_Z);
}

static void say_shape(struct judgement *j, const char *id)
{
	const struct trend *t = j->subject;
	enum shape s = t->shape.shape;

	if (is(j, VERDICT_INSUFFICIENT_DATA) || s == SHAPE_CONST || (s == SHAPE_UNDECIDED && !evidence_rises(j)) ||
	    is(j, VERDICT_SPIKE))
		return;
	if (s == SHAPE_UNDECIDED)
		str_add(&j->text, "its shape is not decided yet: no model fits clearly best");
	else
		str_addf(&j->text, "its shape is %s: BIC %.0f better than the next model", shape_names[s],
			 t->shape.margin);
	evidence_add(j, id, s == SHAPE_UNDECIDED ? NAN : t->shape.margin, "bic", 2)->against =
		evidence_rises(j) && s != SHAPE_LINEAR && s != SHAPE_UNDECIDED;
}

static void say_new_maximum(struct judgement *j, const char *id)
{
	if (!evidence_rises(j))
		return;
	str_add(&j->text, "the highest trough lies in the last third of the time");
	evidence_add(j, id, j->subject->level_last, "bytes", NAN);
}

/* The split of RSS: what the free memory inside the allocator did meanwhile. */
static void say_free_inside(struct judgement *j, const char *id)
{
	const struct trend *t = &j->f.free_inside;
	bool grew = t->known && t->rise >= fmax(t->material, j->subject->rise / 4);

	if (!t->known || is(j, VERDICT_INSUFFICIENT_DATA) || is(j, VERDICT_RETENTION))
		return;
	if (evidence_rises(j))
		str_add(&j->text, grew ? "retention too: " : "not retention: ");
	str_addf(&j->text, "bytes free inside the allocator %s (",
		 grew                   ? "grew by" :
		 t->rise < -t->material ? "fell" :
					  "are flat");
	units_add_bytes(&j->text, grew ? t->rise : t->level_last);
	str_addc(&j->text, ')');
	evidence_add(j, id, t->level_last, "bytes", NAN)->against = evidence_rises(j) && grew;
}

static void say_rest(struct judgement *j, const char *id)
{
	const struct split *d = &j->f.split;
	bool grew = d->rest >= fmax(j->f.rss.material, j->subject->rise / 4);

	if (isnan(d->rest) || !evidence_rises(j) || !j->f.rss.known)
		return;
	if (grew) {
		str_addf(&j->text, "%s: the rest of RSS grew by ",
			 j->v.where == WHERE_HEAP ? "mappings too" : "not the heap alone");
		units_add_bytes(&j->text, d->rest);
	} else {
		str_add(&j->text, "not mappings: the rest of RSS is flat");
	}
	evidence_add(j, id, d->rest, "bytes", j->f.rss.material)->against = grew && j->v.where == WHERE_HEAP;
}

static void say_where(struct judgement *j, const char *id)
{
	if (!evidence_rises(j) || is(j, VERDICT_LEAK) || j->f.where == WHERE_NONE)
		return;
	str_addf(&j->text, "most of it is %s: ", verdict_where_names[j->f.where]);
	units_add_bytes(&j->text, j->f.where_rise);
	if (!isnan(j->f.split.rss)) {
		str_add(&j->text, " of ");
		units_add_bytes(&j->text, j->f.split.rss);
	}
	evidence_add(j, id, j->f.where_rise, "bytes", NAN);
}

static void say_trimmable(struct judgement *j, const char *id)
{
	const struct heap_stats *heap = j->f.in->heap;

	if (!is(j, VERDICT_RETENTION) || j->v.cause == CAUSE_GC || !heap || isnan(j->f.trimmable_share))
		return;
	units_add_bytes(&j->text, (double)heap->trimmable_bytes);
	str_addf(&j->text, ", %.0f %% of it, are whole pages that a trim could give back", 100 * j->f.trimmable_share);
	evidence_add(j, id, j->f.trimmable_share, "ratio", 0.5);
}

static void say_pinned(struct judgement *j, const char *id)
{
	const struct heap_stats *heap = j->f.in->heap;

	if (!is(j, VERDICT_RETENTION) || j->v.cause != CAUSE_FRAGMENTATION || !heap)
		return;
	units_add_bytes(&j->text, (double)heap->pinned_bytes);
	str_addf(&j->text, " share a page with a block in use; %" PRIu64 " free blocks lie between %" PRIu64 " in use",
		 heap->free_blocks, heap->in_use_blocks);
	evidence_add(j, id, (double)heap->pinned_bytes, "bytes", NAN);
}

static void say_startup(struct judgement *j, const char *id)
{
	if (!j->f.startup_cut || is(j, VERDICT_INSUFFICIENT_DATA))
		return;
	str_add(&j->text, "the first ");
	units_add_duration(&j->text, j->f.from_s - (j->f.to_s - j->f.observed_s));
	str_add(&j->text, " were taken as start-up and left out");
	evidence_add(j, id, j->f.from_s, "s", NAN);
}

static void say_no_truth(struct judgement *j, const char *id)
{
	if (j->f.has_truth || !evidence_rises(j))
		return;
	str_add(&j->text, "what the program holds was not read: RSS alone cannot tell a leak from a cache or an "
			  "allocator's stock");
	evidence_add(j, id, NAN, NULL, NAN)->against = true;
}

static void say_runtime(struct judgement *j, const char *id)
{
	if (!j->f.in->runtime || j->f.truth_is_live || !evidence_rises(j))
		return;
	str_addf(&j->text, "%s manages its heap itself: garbage not yet collected looks the same", j->f.in->runtime);
	evidence_add(j, id, NAN, NULL, NAN)->against = true;
}

static void say_foreign(struct judgement *j, const char *id)
{
	if (!j->f.in->foreign_heap || is(j, VERDICT_INSUFFICIENT_DATA))
		return;
	str_add(&j->text, "most anonymous memory lies outside the known allocator: its heap figures cover a part only");
	evidence_add(j, id, NAN, NULL, NAN)->against = true;
}

static void say_noise(struct judgement *j, const char *id)
{
	const struct trend *t = j->subject;
	double noise = fmax(t->noise, t->metric == METRIC_RSS ? j->f.in->rss_noise_bytes : 0);

	if (!evidence_rises(j) || noise < NOISE_OF_RISE * t->rise)
		return;
	str_add(&j->text, "the troughs scatter by ");
	units_add_bytes(&j->text, noise);
	str_addf(&j->text, ", %.0f %% of the growth seen", 100 * noise / t->rise);
	evidence_add(j, id, noise, "bytes", NAN)->against = true;
}

static void say_walk(struct judgement *j, const char *id)
{
	const struct trend *t = j->subject;

	if (!evidence_rises(j) || (t->drift_t >= DRIFT_SURE && !t->wanders))
		return;
	str_add(&j->text, t->wanders ? "it wanders about the line (drift t " : "its increments are uneven (drift t ");
	text_tenths(&j->text, t->drift_t);
	str_add(&j->text, "): a random walk may look the same");
	evidence_add(j, id, t->drift_t, "t", DRIFT_SURE)->against = true;
}

static void say_early(struct judgement *j, const char *id)
{
	const struct trend *t = j->subject;

	if (!evidence_rises(j) || (t->span_s >= 2 * SURE_SECONDS && t->trough_count >= SURE_TROUGHS))
		return;
	str_add(&j->text, "watched for ");
	units_add_duration(&j->text, t->span_s);
	str_addf(&j->text, " and %zu troughs: a cache that still fills looks the same", t->trough_count);
	evidence_add(j, id, t->span_s, "s", 2 * SURE_SECONDS)->against = true;
}

static void say_limit(struct judgement *j, const char *id)
{
	const struct forecast *fc = &j->v.forecast;

	if (!fc->known)
		return;
	str_addf(&j->text, "the limit of ");
	units_add_bytes(&j->text, (double)fc->limit_bytes);
	str_addf(&j->text, " (%s) ", fc->limit_source);
	if (fc->eta_s.value <= 0) {
		str_add(&j->text, "has been reached");
	} else if (!isfinite(fc->eta_s.low)) {
		str_add(&j->text, "is not reached at this rate");
	} else {
		bool open = !isfinite(fc->eta_s.high);

		str_add(&j->text, open ? "is not reached before " : "is reached in ");
		units_add_duration(&j->text, open ? fc->eta_s.low : fc->eta_s.value);
		str_add(&j->text, " at this rate");
	}
	evidence_add(j, id, fc->eta_s.value, "s", NAN);
}

static void say_asides(struct judgement *j, const char *id)
{
	struct verdict other = { 0 };
	const struct trend *subject = NULL;
	bool behind = false;

	if (is(j, VERDICT_RETENTION)) /* that RSS grew or stopped to grow is part of it */
		return;
	for (const struct verdict_rule *r = verdict_rules; r->name; r++) {
		bool holds = r->applies(&j->f, &other, &subject);

		if (behind && holds && r->aside && !(evidence_rises(j) && other.class == VERDICT_GROWTH)) {
			str_add(&j->text, r->aside);
			evidence_add(j, id, NAN, NULL, NAN)->against = true;
			return;
		}
		behind = behind || holds;
	}
}

static void summarize(struct judgement *j)
{
	switch (j->v.class) {
	case VERDICT_WARMUP:
		add_plateau(j);
		break;
	case VERDICT_RETENTION:
		add_held(j);
		break;
	case VERDICT_SPIKE:
		add_burst(j);
		break;
	case VERDICT_STEP:
		add_step(j);
		break;
	case VERDICT_STABLE:
		if (j->v.cycles.known && j->v.cycles.slows)
			add_slower(j);
		else
			add_no_trend(j);
		break;
	case VERDICT_SCALING:
		add_per_unit(j);
		break;
	case VERDICT_INSUFFICIENT_DATA:
		str_add(&j->text, j->v.evidence_count ? j->evidence[0].text : "too little was seen");
		break;
	default:
		add_course(j, false);
		break;
	}
	j->v.summary = text_take(j);
}

const struct evidence_rule evidence_rules[] = {
	{ "short", say_short },
	{ "trend", say_trend },
	{ "work", say_work },
	{ "first-unit", say_first_unit },
	{ "transient", say_transient },
	{ "cycles", say_cycles },
	{ "cycle-time", say_cycle_time },
	{ "survivors", say_survivors },
	{ "sites", say_sites },
	{ "teeth", say_teeth },
	{ "plateau", say_plateau },
	{ "peak-held", say_peak_held },
	{ "burst", say_burst },
	{ "step", say_step },
	{ "free-inside", say_free_inside },
	{ "rest-of-rss", say_rest },
	{ "where", say_where },
	{ "trimmable", say_trimmable },
	{ "pinned", say_pinned },
	{ "trend-gate", say_gate },
	{ "shape", say_shape },
	{ "new-maximum", say_new_maximum },
	{ "limit", say_limit },
	{ "startup", say_startup },
	{ "no-heap-truth", say_no_truth },
	{ "runtime", say_runtime },
	{ "foreign-heap", say_foreign },
	{ "noise", say_noise },
	{ "uneven", say_walk },
	{ "early", say_early },
	{ "also", say_asides },
	{ "units", say_units },
	{ NULL, NULL },
};

void evidence_build(struct judgement *j)
{
	for (const struct evidence_rule *r = evidence_rules; r->id; r++)
		r->say(j, r->id);
	summarize(j);
}
