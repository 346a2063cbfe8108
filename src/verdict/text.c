/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pieces of sentences that evidence, summary and actions share. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/units.h"
#include "verdict-priv.h"

void text_rate(struct str *out, double per_s)
{
	units_add_bytes(out, per_s);
	str_add(out, "/s");
}

/* One decimal, whatever the locale says. */
void text_tenths(struct str *out, double value)
{
	long tenths = lround(fmin(fmax(value, -1e6), 1e6) * 10);

	str_addf(out, "%s%ld.%ld", tenths < 0 ? "-" : "", labs(tenths) / 10, labs(tenths) % 10);
}

/* The number of "1.02 MiB" without its unit where that is the unit of the value: 0.98 to 1.06. */
static void add_bound(struct str *out, double bound, const char *unit)
{
	struct str text = STR_INIT;
	const char *own;

	units_add_bytes(&text, bound);
	own = strchr(str_text(&text), ' ');
	if (own && unit && strcmp(own, unit) == 0)
		str_addn(out, str_text(&text), (size_t)(own - str_text(&text)));
	else
		str_add(out, str_text(&text));
	if (str_status(&text) < 0)
		out->failed = true;
	str_deinit(&text);
}

void text_interval(struct str *out, struct interval per_s)
{
	struct str value = STR_INIT;
	const char *unit;

	units_add_bytes(&value, per_s.value);
	unit = strchr(str_text(&value), ' ');
	str_add(out, "(95 %: ");
	add_bound(out, per_s.low, unit);
	str_add(out, " to ");
	add_bound(out, per_s.high, unit);
	str_addc(out, ')');
	str_deinit(&value);
}

const char *text_take(struct judgement *j)
{
	char *text = str_status(&j->text) == 0 ? arena_strdup(j->arena, str_text(&j->text)) : NULL;

	str_reset(&j->text);
	if (!text)
		j->failed = true;
	return text ? text : "";
}
