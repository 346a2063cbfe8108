/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is said of a series that comes from a file (analyze): where it came from, and its verdict in one line. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/units.h"
#include "private.h"

#define NAME_COLUMNS 160 /* file and label: Prometheus labels may be longer than a screen */
#define LINE_NAME_COLUMNS 36
#define LINE_CLASS_COLUMNS 26 /* "retention (fragmentation)" */

void report_add_extent(const struct session_info *s, struct str *out)
{
	report_add_count(out, s->samples == UNKNOWN_U64 ? NAN : (double)s->samples);
	str_addf(out, " row%s over ", s->samples == 1 ? "" : "s");
	units_add_duration(out, s->duration_s);
	if (isfinite(s->interval_ms)) {
		str_add(out, ", every ");
		units_add_duration(out, s->interval_ms / 1e3);
	}
}

/* "file: label", each cleaned */
static void add_name(const struct target_info *t, size_t columns, bool unicode, struct str *out)
{
	cleanup_str struct str name = STR_INIT;

	str_add(&name, !t->source ? "unknown" : strcmp(t->source, "-") == 0 ? "standard input" : t->source);
	if (t->label && *t->label) {
		str_add(&name, ": ");
		str_add(&name, t->label);
	}
	out->failed |= name.failed;
	report_add_cut(out, str_text(&name), columns, unicode);
}

int report_recording_head(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	const struct target_info *t = &snapshot->main.target;
	const char *separator = ": ";

	str_add(out, "memwatch: ");
	add_name(t, NAME_COLUMNS, style->unicode, out);
	if (t->comm && *t->comm) {
		str_add(out, ", ");
		report_add_clean(out, t->comm, style->unicode);
	}
	if (t->id.pid > 0)
		str_addf(out, ", pid %d", (int)t->id.pid);
	for (size_t i = 0; i < METRIC_COUNT; i++)
		if (snapshot->main.metrics[i].count > 0) {
			str_add(out, separator);
			str_add(out, metric_table[i].name);
			separator = ", ";
		}
	str_add(out, "; ");
	report_add_extent(&snapshot->session, out);
	str_addc(out, '\n');
	return str_status(out);
}

static void pad_to(struct str *out, size_t columns, size_t used)
{
	str_pad(out, ' ', used < columns ? columns - used : 0);
}

int report_recording_line(const struct snapshot *snapshot, bool with_source, const struct report_style *style,
			  struct str *out)
{
	const struct verdict *v = &snapshot->main.verdict;
	const char *color = report_class_color(v, style);
	struct target_info named = snapshot->main.target;
	cleanup_str struct str part = STR_INIT;
	size_t used = LINE_NAME_COLUMNS + LINE_CLASS_COLUMNS + 8;

	if (!with_source && named.label && *named.label) {
		named.source = named.label;
		named.label = NULL;
	}
	add_name(&named, LINE_NAME_COLUMNS, style->unicode, &part);
	pad_to(&part, LINE_NAME_COLUMNS, text_columns(str_text(&part)));
	str_addf(out, "%s  %s", str_text(&part), color);
	str_reset(&part);
	report_add_class(&part, v);
	pad_to(&part, LINE_CLASS_COLUMNS, text_columns(str_text(&part)));
	str_addf(out, "%s%s", str_text(&part), *color ? COLOR_OFF : "");
	if (isfinite(v->confidence))
		report_add_fixed(out, v->confidence, 2);
	else
		str_add(out, "   -");
	str_add(out, "  ");
	if (style->width == 0 || style->width > used)
		report_add_cut(out, v->summary, style->width > 0 ? style->width - used : 0, style->unicode);
	str_addc(out, '\n');
	out->failed |= part.failed;
	return str_status(out);
}
