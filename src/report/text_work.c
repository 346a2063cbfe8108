/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The lines of memory against work and of cycles, and the size classes that tell most. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/units.h"
#include "private.h"

#define CLASSES_SHOWN 5
#define UNIT_COLUMNS 40 /* the unit's name comes from a command line or a recording */
#define COUNT_COMMAS_MAX 1e15

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

void report_add_count(struct str *out, double count)
{
	cleanup_str struct str digits = STR_INIT;
	size_t whole;

	if (!isfinite(count) || fabs(count) > COUNT_COMMAS_MAX) {
		report_add_fixed(out, count, 0);
		return;
	}
	report_add_fixed(&digits, fabs(count), count == trunc(count) ? 0 : 1);
	str_add(out, count < 0 ? "-" : "");
	whole = strcspn(str_text(&digits), ".");
	for (size_t i = 0; i < digits.len; i++) {
		if (i > 0 && i < whole && (whole - i) % 3 == 0)
			str_addc(out, ',');
		str_addc(out, str_text(&digits)[i]);
	}
}

/* " (95 %: 130 to 142)", in the unit of the value; nothing where it is not known. */
static void add_bounds(struct str *out, const struct interval *i)
{
	struct scale s = scale_bytes(i->value);
	double widest = fmax(fabs(i->low), fabs(i->high)) / s.divisor;
	int decimals = s.divisor > 1 || widest < 10 ? report_decimals(i->value / s.divisor) : 0;

	if (!isfinite(i->low) || !isfinite(i->high))
		return;
	str_add(out, " (95 %: ");
	report_add_fixed(out, i->low / s.divisor, decimals);
	str_add(out, " to ");
	report_add_fixed(out, i->high / s.divisor, decimals);
	str_addc(out, ')');
}

static void add_signed_bytes(struct str *out, double bytes)
{
	str_add(out, bytes >= 0 ? "+" : "");
	units_add_bytes(out, bytes);
}

/* Whether the interval is known and lies on one side of nothing. */
static bool is_beyond_doubt(const struct interval *i)
{
	return isfinite(i->value) && isfinite(i->low) && isfinite(i->high) && (i->low > 0 || i->high < 0);
}

static void flow_take(struct flow *f, const char *separator, struct str *item)
{
	flow_add(f, separator, 0, str_text(item));
	f->out->failed |= item->failed;
	str_reset(item);
}

/* ---- work ------------------------------------------------------------------------------------------------------------- */

static void add_rate_of_work(struct str *out, const struct work_fit *w, const char *unit)
{
	bool curved = w->model && strcmp(w->model, "constant") != 0 && strcmp(w->model, "linear") != 0 &&
		      strcmp(w->model, "step") != 0;

	units_add_bytes(out, w->bytes_per_unit.value); /* "unknown" where it is */
	str_addf(out, " per %s%s", unit, curved ? " on average" : "");
	add_bounds(out, &w->bytes_per_unit);
}

static void add_model(struct str *out, const struct work_fit *w, const struct report_style *style)
{
	report_add_clean(out, w->model ? w->model : "model unknown", style->unicode);
	if (w->model && strcmp(w->model, "power") == 0 && isfinite(w->exponent.value)) {
		str_add(out, " of ");
		report_add_fixed(out, w->exponent.value, 2);
	}
	if (isfinite(w->r2)) {
		str_add(out, ", r2 ");
		report_add_fixed(out, w->r2, 2);
	}
}

/* The one that looks farthest ahead. */
static void add_prediction(struct flow *f, const struct work_fit *w, const char *unit)
{
	const struct work_prediction *p = w->prediction_count > 0 ? &w->predictions[w->prediction_count - 1] : NULL;
	cleanup_str struct str text = STR_INIT;

	if (!p || !isfinite(p->units) || !isfinite(p->bytes.value))
		return;
	str_addf(&text, "at %s ", unit);
	report_add_count(&text, p->units);
	str_add(&text, ": ");
	units_add_bytes(&text, p->bytes.value);
	add_bounds(&text, &p->bytes);
	flow_take(f, "; ", &text);
}

void report_add_work(const struct work_fit *w, const struct report_style *style, struct str *out)
{
	cleanup_str struct str unit = STR_INIT;
	cleanup_str struct str text = STR_INIT;
	struct flow f;

	if (!w->known)
		return;
	report_add_cut(&unit, w->unit && *w->unit ? w->unit : "unit", UNIT_COLUMNS, style->unicode);
	flow_begin(&f, out, style, "  work:   ", BLOCK_INDENT);
	add_rate_of_work(&text, w, str_text(&unit));
	flow_take(&f, "", &text);
	if (isfinite(w->fixed_bytes.value)) {
		str_add(&text, "fixed ");
		units_add_bytes(&text, w->fixed_bytes.value);
		flow_take(&f, ", ", &text);
	}
	add_model(&text, w, style);
	flow_take(&f, ", ", &text);
	if (is_beyond_doubt(&w->bytes_per_s)) {
		str_add(&text, "without work ");
		add_signed_bytes(&text, w->bytes_per_s.value);
		str_add(&text, "/s");
		add_bounds(&text, &w->bytes_per_s);
		flow_take(&f, "; ", &text);
	}
	add_prediction(&f, w, str_text(&unit));
	flow_end(&f);
}

/* ---- cycles ----------------------------------------------------------------------------------------------------------- */

void report_add_cycles(const struct cycle_fit *c, const struct report_style *style, struct str *out)
{
	cleanup_str struct str text = STR_INIT;
	struct flow f;

	if (!c->known)
		return;
	flow_begin(&f, out, style, "  cycles: ", BLOCK_INDENT);
	report_add_count(&text, c->count == UNKNOWN_U64 ? NAN : (double)c->count);
	str_add(&text, ": ");
	units_add_bytes(&text, c->first_mean_bytes);
	str_add(&text, " in the first");
	if (c->edge != UNKNOWN_U64) {
		str_addc(&text, ' ');
		report_add_count(&text, (double)c->edge);
	}
	flow_take(&f, "", &text);
	units_add_bytes(&text, c->last_mean_bytes);
	str_add(&text, " in the last");
	flow_take(&f, ", ", &text);
	if (isfinite(c->growth_per_cycle.value)) {
		add_signed_bytes(&text, c->growth_per_cycle.value);
		str_add(&text, " a cycle");
		add_bounds(&text, &c->growth_per_cycle);
		flow_take(&f, ", ", &text);
	}
	if (isfinite(c->duration_first_s) && isfinite(c->duration_last_s)) {
		str_add(&text, "cycle time ");
		units_add_duration(&text, c->duration_first_s);
		str_add(&text, " -> ");
		units_add_duration(&text, c->duration_last_s);
		if (isfinite(c->duration_ratio)) {
			str_add(&text, " (");
			report_add_fixed(&text, c->duration_ratio, c->duration_ratio < 9.95 ? 1 : 0);
			str_add(&text, "x)");
		}
		flow_take(&f, "; ", &text);
	}
	flow_end(&f);
}

/* ---- size classes ----------------------------------------------------------------------------------------------------- */

static double growth_of(const struct heap_size_class *c)
{
	return isfinite(c->growth_per_s) ? c->growth_per_s : 0;
}

static void add_size_class(const struct heap_size_class *c, struct str *out)
{
	str_addf(out, "  size class %" PRIu64 ": ", c->size);
	if (isfinite(c->growth_per_s)) {
		add_signed_bytes(out, c->growth_per_s);
		str_add(out, "/s, ");
	}
	units_add_bytes(out, c->in_use_bytes == UNKNOWN_U64 ? NAN : (double)c->in_use_bytes);
	str_add(out, " in use");
	if (c->tracked_blocks > 0 && c->freed_blocks <= c->tracked_blocks) {
		str_addf(out, ", %" PRIu32 " of %" PRIu32 " blocks followed survive",
			 c->tracked_blocks - c->freed_blocks, c->tracked_blocks);
		if (isfinite(c->leak_probability)) {
			str_add(out, ", leak probability ");
			report_add_fixed(out, c->leak_probability, 2);
		}
		if (isfinite(c->age_s)) {
			str_add(out, ", median age ");
			units_add_duration(out, c->age_s);
		}
	}
	str_addc(out, '\n');
}

/* Those that grow, the fastest first; a block that was followed makes a class worth a line that does not grow. */
void report_add_size_classes(const struct heap_stats *h, struct str *out)
{
	const struct heap_size_class *before = NULL;

	for (size_t shown = 0; shown < CLASSES_SHOWN; shown++) {
		const struct heap_size_class *best = NULL;

		for (size_t i = 0; i < h->class_count; i++) {
			const struct heap_size_class *c = &h->classes[i];
			bool shown_already = before && (growth_of(c) > growth_of(before) ||
							(growth_of(c) == growth_of(before) && c <= before));

			if (!shown_already && (growth_of(c) > 0 || c->tracked_blocks > 0) &&
			    (!best || growth_of(c) > growth_of(best)))
				best = c;
		}
		if (!best)
			return;
		add_size_class(best, out);
		before = best;
	}
}
