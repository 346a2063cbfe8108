/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_store.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int read_exact(const char *text, enum recording_format format, struct recording *ret, struct err *err)
{
	size_t len = strlen(text);
	char *exact = malloc(len > 0 ? len : 1);
	int r;

	ck_assert_ptr_nonnull(exact);
	memcpy(exact, text, len);
	r = recording_parse(exact, len, format, ret, err);
	free(exact);
	return r;
}

void store_read(const char *text, struct recording *ret)
{
	struct err err = ERR_INIT;
	int r = read_exact(text, RECORDING_AUTO, ret, &err);

	ck_assert_msg(r == 0, "%d: %s", r, err.msg);
}

void store_refuse(enum recording_format format, const char *text, const char *expected)
{
	struct recording rec = { .series_count = 4099 };
	struct err err = ERR_INIT;
	int r = read_exact(text, format, &rec, &err);

	ck_assert_msg(r == -EBADMSG, "%d: %s", r, err.msg);
	ck_assert_msg(strstr(err.msg, expected), "'%s' is not in '%s'", expected, err.msg);
	ck_assert_uint_eq(rec.series_count, 4099);
}

bool store_has(const struct recorded_series *s, enum metric metric)
{
	for (size_t c = 0; c < s->metric_count; c++)
		if (s->metrics[c] == metric)
			return true;
	return false;
}

double store_cell(const struct recorded_series *s, size_t row, enum metric metric)
{
	ck_assert_uint_lt(row, s->row_count);
	for (size_t c = 0; c < s->metric_count; c++)
		if (s->metrics[c] == metric)
			return s->cells[row * (s->metric_count + 1) + c + 1];
	ck_abort_msg("no column %s", metric_table[metric].name);
	return 0;
}

bool store_notes(const struct recorded_series *s, const char *part)
{
	for (size_t i = 0; i < s->note_count; i++) {
		ck_assert_str_eq(s->notes[i].rung, "recording");
		if (strstr(s->notes[i].reason, part))
			return true;
	}
	return false;
}
