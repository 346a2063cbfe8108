/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <math.h>

#include "memwatch/base/units.h"
#include "private.h"

#define SPARK_COLUMNS 16
#define SPARK_LEVELS 8

/* Parts of the line, each whole or not there: a number that is cut reads as another number. */
struct parts {
	struct str *out;
	size_t left; /* columns; SIZE_MAX: no limit */
	bool first;
};

static bool parts_add(struct parts *p, const char *color, const struct str *text)
{
	size_t columns = text_columns(str_text(text)) + (p->first ? 0 : 2);

	if (columns > p->left)
		return false;
	if (!p->first)
		str_add(p->out, "  ");
	str_add(p->out, color);
	str_add(p->out, str_text(text));
	if (*color)
		str_add(p->out, COLOR_OFF);
	p->first = false;
	p->left -= p->left == SIZE_MAX ? 0 : columns;
	return true;
}

static void add_spark(struct str *out, const struct live_line *line, bool unicode)
{
	static const char *const blocks[SPARK_LEVELS] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	static const char *const letters[SPARK_LEVELS] = { "_", ".", "-", ":", "=", "+", "*", "#" };
	size_t count = line->recent_count < SPARK_COLUMNS ? line->recent_count : SPARK_COLUMNS;
	const double *recent = count > 0 ? line->recent_rss + (line->recent_count - count) : NULL;
	double low = HUGE_VAL;
	double high = -HUGE_VAL;

	for (size_t i = 0; i < count; i++)
		if (isfinite(recent[i])) {
			low = fmin(low, recent[i]);
			high = fmax(high, recent[i]);
		}
	for (size_t i = 0; i < count; i++) {
		double height = high > low ? (recent[i] - low) / (high - low) : 0;

		if (!isfinite(recent[i]) || !isfinite(height))
			str_addc(out, ' ');
		else
			str_add(out, (unicode ? blocks : letters)[(size_t)(height * (SPARK_LEVELS - 1) + 0.5)]);
	}
}

static void add_bytes_part(struct parts *p, const char *name, double bytes)
{
	cleanup_str struct str text = STR_INIT;

	if (!isfinite(bytes))
		return;
	str_add(&text, name);
	units_add_bytes(&text, bytes);
	parts_add(p, "", &text);
}

void report_live_line(const struct live_line *line, const struct report_style *style, struct str *out)
{
	struct parts p = { out, style->width > 0 ? style->width : SIZE_MAX, true };
	cleanup_str struct str text = STR_INIT;

	units_add_duration(&text, line->t_s);
	parts_add(&p, "", &text);
	str_reset(&text);
	str_add(&text, "rss ");
	units_add_bytes(&text, line->rss_bytes);
	parts_add(&p, "", &text);
	str_reset(&text);
	add_spark(&text, line, style->unicode);
	if (text.len > 0)
		parts_add(&p, "", &text);
	add_bytes_part(&p, "in use ", line->heap_in_use_bytes);
	add_bytes_part(&p, "free ", line->heap_free_bytes);
	str_reset(&text);
	if (isfinite(line->slope_per_s)) {
		str_addc(&text, line->slope_per_s < 0 ? '-' : '+');
		units_add_bytes(&text, fabs(line->slope_per_s));
		str_add(&text, "/s");
		parts_add(&p, "", &text);
		str_reset(&text);
	}
	if (line->process_count > 1) {
		str_addf(&text, "%" PRIu64 " processes", line->process_count);
		parts_add(&p, "", &text);
		str_reset(&text);
	}
	if (line->verdict) {
		report_add_class(&text, line->verdict);
		if (isfinite(line->verdict->confidence)) {
			str_addc(&text, ' ');
			report_add_fixed(&text, line->verdict->confidence, 2);
		}
		parts_add(&p, report_class_color(line->verdict, style), &text);
	}
}
