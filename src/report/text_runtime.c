/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The section of a language runtime's own accounts. */
#include <math.h>
#include <string.h>

#include "memwatch/base/units.h"
#include "private.h"

#define VALUES_END 34 /* where the column of values ends, as in the heap's section; more where a name is longer */

static bool ends_with(const char *text, const char *end)
{
	size_t len = strlen(text), tail = strlen(end);

	return len >= tail && strcmp(text + len - tail, end) == 0;
}

/* In the JSON a figure's unit is its name's ending. */
enum runtime_unit report_figure_unit(const char *name)
{
	return ends_with(name, "_bytes") ? RUNTIME_BYTES : ends_with(name, "_s") ? RUNTIME_SECONDS : RUNTIME_COUNT;
}

/* What is not known is left out: no runtime says all of it. */
static void add_row(struct str *out, const char *name, enum runtime_unit unit, double value)
{
	cleanup_str struct str cell = STR_INIT;
	size_t used = 2 + text_columns(name);

	if (!isfinite(value))
		return;
	if (unit == RUNTIME_BYTES)
		units_add_bytes(&cell, value);
	else if (unit == RUNTIME_COUNT)
		report_add_count(&cell, value);
	else
		units_add_duration(&cell, value);
	used += text_columns(str_text(&cell));
	str_addf(out, "  %s", name);
	str_pad(out, ' ', used < VALUES_END ? VALUES_END - used : 1);
	str_add(out, str_text(&cell));
}

static void add_line(struct str *out, const char *name, enum runtime_unit unit, double value)
{
	size_t before = out->len;

	add_row(out, name, unit, value);
	if (out->len > before)
		str_addc(out, '\n');
}

static void add_live(const struct runtime_stats *s, struct str *out)
{
	size_t before = out->len;

	add_row(out, "live after collection", RUNTIME_BYTES, s->live_bytes);
	if (out->len > before)
		str_add(out, s->live_is_stale ? "  this collector does not keep it up to date\n" : "\n");
}

/* "pymalloc_pinned_bytes" is shown as "pymalloc pinned": the value has its unit. */
static void add_figure(const struct runtime_figure *f, const struct report_style *style, struct str *out)
{
	static const char *const endings[] = { [RUNTIME_BYTES] = "_bytes", [RUNTIME_SECONDS] = "_s" };
	cleanup_str struct str plain = STR_INIT;
	cleanup_str struct str name = STR_INIT;
	enum runtime_unit unit = report_figure_unit(f->name);
	size_t len = strlen(f->name) - (unit == RUNTIME_COUNT ? 0 : strlen(endings[unit]));

	for (size_t i = 0; i < len; i++)
		str_addc(&plain, f->name[i] == '_' ? ' ' : f->name[i]);
	report_add_clean(&name, str_text(&plain), style->unicode);
	out->failed |= plain.failed || name.failed;
	add_line(out, str_text(&name), unit, f->value);
}

static void add_head(const struct named_part *p, const struct report_style *style, struct str *out)
{
	str_add(out, "\nruntime");
	if (!p->name)
		goto end;
	str_add(out, " (");
	report_add_clean(out, p->name, style->unicode);
	if (p->version) {
		str_addc(out, ' ');
		report_add_clean(out, p->version, style->unicode);
	}
	if (p->found_by) {
		str_add(out, ", found by ");
		report_add_clean(out, p->found_by, style->unicode);
	}
	str_addc(out, ')');
end:
	str_addc(out, '\n');
}

void report_add_runtime(const struct process_entry *p, const struct report_style *style, struct str *out)
{
	const struct runtime_stats *s = &p->runtime;

	add_head(&p->target.runtime, style, out);
	add_live(s, out);
	add_line(out, "in use", RUNTIME_BYTES, s->in_use_bytes);
	add_line(out, "free", RUNTIME_BYTES, s->free_bytes);
	add_line(out, "committed", RUNTIME_BYTES, s->committed_bytes);
	add_line(out, "released", RUNTIME_BYTES, s->released_bytes);
	add_line(out, "full collections", RUNTIME_COUNT, s->collections);
	add_line(out, "tasks", RUNTIME_COUNT, s->tasks);
	for (size_t i = 0; i < s->figure_count; i++)
		add_figure(&s->figures[i], style, out);
}
