/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What was seen of the work done, of cycles, and of the blocks that stay. */
#include <inttypes.h>
#include <math.h>

#include "memwatch/base/units.h"
#include "verdict-priv.h"

#define IDLE_SHARE 0.05       /* of the time: more is worth telling */
#define STEADY_VARIATION 0.25 /* of the work rate: below, work cannot be told from time */
#define SLOWER 1.5
#define SURVIVES 0.95
#define DIES 0.5
#define TOP_SHARE 0.5 /* of the growth of all call sites, in one of them */
#define MANY_SITES 3
#define STAYS 0.9 /* of all that was taken */

static const char *unit_name(const struct judgement *j)
{
	return j->v.work.unit ? j->v.work.unit : "unit";
}

/* What should leave nothing behind: nobody thinks of CPU seconds so. */
const char *work_piece(const struct judgement *j)
{
	return j->v.work.cooperative ? unit_name(j) : "piece of work";
}

static void add_each(struct judgement *j)
{
	units_add_bytes(&j->text, j->v.work.bytes_per_unit.value);
	str_addf(&j->text, " per %s ", unit_name(j));
	text_interval(&j->text, j->v.work.bytes_per_unit);
}

void add_per_unit(struct judgement *j)
{
	str_addf(&j->text, "%s grows with the work: ", evidence_subject(j));
	add_each(j);
	str_add(&j->text, ", over ");
	units_add_duration(&j->text, j->f.span_s);
}

static void add_percent(struct str *out, double share)
{
	str_addf(out, "%.0f %%", 100 * share);
}

static void say_idle(struct judgement *j, const char *id)
{
	str_add(&j->text, "memory grows while the process is idle: ");
	add_percent(&j->text, j->v.work.idle_share);
	str_addf(&j->text, " of the time without work (%s)", j->v.work.source);
	evidence_add(j, id, j->v.work.idle_share, "ratio", IDLE_SHARE)->against = j->v.class == VERDICT_SCALING;
}

static void say_steady(struct judgement *j, const char *id)
{
	str_addf(&j->text, "the work is steady (%s, its rate varies by ", j->v.work.source);
	add_percent(&j->text, j->v.work.rate_variation);
	str_add(&j->text, "): it is not the load that grows");
	evidence_add(j, id, j->v.work.rate_variation, "ratio", STEADY_VARIATION);
}

static void say_with_time(struct judgement *j, const char *id)
{
	str_addf(&j->text, "memory grows with time, %s the work (%s) varies: ",
		 j->f.relation == WORK_TIME ? "though" : "and with work too, while", j->v.work.source);
	text_rate(&j->text, j->v.work.bytes_per_s.value);
	str_addc(&j->text, ' ');
	text_interval(&j->text, j->v.work.bytes_per_s);
	evidence_add(j, id, j->v.work.bytes_per_s.value, "bytes/s", 0);
}

static void say_explained(struct judgement *j, const char *id)
{
	str_add(&j->text, "memory grows with the work: ");
	add_each(j);
	str_addf(&j->text, ", r2 %.2f", j->v.work.r2);
	evidence_add(j, id, j->v.work.bytes_per_unit.value, "bytes/unit", 0);
}

void say_work(struct judgement *j, const char *id)
{
	if (!evidence_rises(j))
		return;
	switch (j->f.relation) {
	case WORK_IDLE:
		say_idle(j, id);
		break;
	case WORK_STEADY:
		say_steady(j, id);
		break;
	case WORK_TIME:
	case WORK_MIXED:
		say_with_time(j, id);
		break;
	case WORK_EXPLAINS:
		say_explained(j, id);
		break;
	case WORK_UNKNOWN:
	default:
		str_add(&j->text, j->v.work.known ? "the work was counted (" : "the work done is not known");
		if (j->v.work.known)
			str_addf(&j->text, "%s) and does not decide", j->v.work.source);
		str_add(&j->text, ": growth with the load cannot be told from growth with time");
		evidence_add(j, id, NAN, NULL, NAN)->against = true;
		break;
	}
}

void say_first_unit(struct judgement *j, const char *id)
{
	const struct work_fit *w = &j->v.work;

	if (!w->known || !w->cooperative || isnan(w->fixed_bytes.value) || !(w->bytes_per_unit.low > 0) ||
	    !evidence_rises(j))
		return;
	str_addf(&j->text, "beside what each %s adds, ", unit_name(j));
	units_add_bytes(&j->text, w->fixed_bytes.value);
	str_add(&j->text, " are fixed");
	evidence_add(j, id, w->fixed_bytes.value, "bytes", NAN);
}

void say_transient(struct judgement *j, const char *id)
{
	if (!j->f.in->transient || j->v.class != VERDICT_LEAK)
		return;
	str_addf(&j->text, "a %s should leave nothing behind, as you said", work_piece(j));
	if (j->v.work.known && !isnan(j->v.work.bytes_per_unit.value)) {
		str_add(&j->text, "; it leaves ");
		add_each(j);
		evidence_add(j, id, j->v.work.bytes_per_unit.value, "bytes/unit", 0);
	} else {
		evidence_add(j, id, NAN, NULL, NAN);
	}
}

void say_cycles(struct judgement *j, const char *id)
{
	const struct cycle_fit *c = &j->v.cycles;

	if (!c->known || j->v.class == VERDICT_INSUFFICIENT_DATA)
		return;
	str_addf(&j->text, "%" PRIu64 " cycles: ", c->count);
	units_add_bytes(&j->text, c->first_mean_bytes);
	str_addf(&j->text, " between the first %" PRIu64 ", ", c->edge);
	units_add_bytes(&j->text, c->last_mean_bytes);
	str_add(&j->text, " between the last; per cycle ");
	units_add_bytes(&j->text, c->growth_per_cycle.value);
	str_addc(&j->text, ' ');
	text_interval(&j->text, c->growth_per_cycle);
	evidence_add(j, id, c->growth_per_cycle.value, "bytes/cycle", 0)->against =
		evidence_rises(j) && c->growth_per_cycle.low <= 0;
}

void add_slower(struct judgement *j)
{
	const struct cycle_fit *c = &j->v.cycles;

	str_addf(&j->text, "no leak: memory flat at ");
	units_add_bytes(&j->text, c->last_mean_bytes);
	str_addf(&j->text, " over %" PRIu64 " cycles, but cycle time degrades: ", c->count);
	units_add_duration(&j->text, c->duration_first_s);
	str_add(&j->text, " at first, ");
	units_add_duration(&j->text, c->duration_last_s);
	str_add(&j->text, " at last, ");
	text_tenths(&j->text, c->duration_ratio);
	str_add(&j->text, " times as long");
}

void say_cycle_time(struct judgement *j, const char *id)
{
	const struct cycle_fit *c = &j->v.cycles;

	if (!c->known || !c->slows || j->v.class == VERDICT_INSUFFICIENT_DATA)
		return;
	str_add(&j->text, "the cycles get slower: ");
	units_add_duration(&j->text, c->duration_first_s);
	str_add(&j->text, " at first, ");
	units_add_duration(&j->text, c->duration_last_s);
	str_add(&j->text, " at last");
	evidence_add(j, id, c->duration_ratio, "ratio", SLOWER);
}

/* The class that grows most, where its blocks were followed. */
static const struct heap_size_class *followed_class(const struct verdict_input *in)
{
	for (size_t i = 0; in->heap && i < in->heap->class_count; i++) {
		const struct heap_size_class *c = &in->heap->classes[i];

		if (c->size == in->hot_class_size && c->tracked_blocks > 0)
			return c;
	}
	return NULL;
}

void say_survivors(struct judgement *j, const char *id)
{
	const struct heap_size_class *c = followed_class(j->f.in);

	if (!c || !evidence_rises(j) || isnan(c->leak_probability))
		return;
	str_addf(&j->text,
		 "of the blocks of up to %" PRIu64 " bytes, the size that grows most, %" PRIu32 " of %" PRIu32
		 " followed from one maximum to the next stayed",
		 c->size, c->tracked_blocks - c->freed_blocks, c->tracked_blocks);
	if (c->age_s > 0) {
		str_add(&j->text, ", for ");
		units_add_duration(&j->text, c->age_s);
		str_add(&j->text, " so far");
	}
	evidence_add(j, id, c->leak_probability, "probability", SURVIVES)->against = c->leak_probability < DIES;
}

/* A leak is a few places whose blocks stay amid others that give theirs back; data that is built up stays wherever it was taken. */
void say_sites(struct judgement *j, const char *id)
{
	const struct sites_course *c = j->f.in->sites;

	if (!c || !evidence_rises(j) || c->growing_sites == 0 || isnan(c->top_share) || isnan(c->survival))
		return;
	if (c->churning_sites > 0 && c->top_share >= TOP_SHARE) {
		str_addf(&j->text,
			 "of %zu stacks by which memory is taken %zu grow%s, and %zu give most of theirs back",
			 c->growing_sites + c->churning_sites, c->growing_sites, c->growing_sites == 1 ? "s" : "",
			 c->churning_sites);
		evidence_add(j, id, c->top_share, "ratio", TOP_SHARE);
	} else if (c->growing_sites >= MANY_SITES && c->survival >= STAYS) {
		str_addf(&j->text,
			 "%.0f %% of all that was taken is still there, by %zu stacks: so looks data that is "
			 "built up",
			 100 * c->survival, c->growing_sites);
		evidence_add(j, id, c->survival, "ratio", STAYS)->against = j->v.class == VERDICT_LEAK;
	}
}

void say_teeth(struct judgement *j, const char *id)
{
	if (!evidence_rises(j) || j->subject->teeth == 0)
		return;
	str_addf(&j->text, "it swings, and what is left after each of %zu falls rises: %zu of %zu higher than before",
		 j->subject->teeth, j->subject->higher, j->subject->trough_count - 1);
	evidence_add(j, id, (double)j->subject->teeth, "count", 4);
}

void say_units(struct judgement *j, const char *id)
{
	const struct work_fit *w = &j->v.work;

	if (j->v.class == VERDICT_SCALING) {
		str_addf(&j->text,
			 "a leak in each %s looks the same: if it should leave nothing behind, say --expect transient",
			 work_piece(j));
	} else if (j->v.class == VERDICT_LEAK && !w->cooperative && !j->f.in->transient) {
		str_add(&j->text,
			"data that is loaded on purpose, at an even pace, looks the same: its units of work were "
			"not counted (--unit-func, --unit-stdout, --unit-file)");
	} else {
		return;
	}
	evidence_add(j, id, NAN, NULL, NAN)->against = true;
}
