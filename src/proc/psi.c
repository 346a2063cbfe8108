/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pressure stall information: /proc/pressure/memory and memory.pressure. */
#include <errno.h>
#include <math.h>

#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

struct psi_row {
	double avg10, avg60;
	uint64_t total_us;
};

/* "avg10=0.00 avg60=0.00 avg300=0.00 total=0" */
static bool psi_row_parse(struct cursor *c, struct psi_row *row)
{
	struct text word, key, value;

	while (cursor_word(c, &word.data, &word.len) && word.len) {
		bool ok = true;

		if (!text_split(word, '=', &key, &value))
			return false;
		if (text_is(key, "avg10"))
			ok = text_decimal(value, &row->avg10);
		else if (text_is(key, "avg60"))
			ok = text_decimal(value, &row->avg60);
		else if (text_is(key, "total"))
			ok = text_u64(value, &row->total_us);
		if (!ok)
			return false;
	}
	return true;
}

int parse_psi(const char *buf, size_t len, struct psi *ret)
{
	struct psi_row some = { NAN, NAN, UNKNOWN_U64 }, full = some, other;
	struct text line, word;
	struct cursor text, c;

	cursor_init(&text, buf, len);
	while (cursor_line(&text, &line.data, &line.len)) {
		struct psi_row *row = &other;

		cursor_init(&c, line.data, line.len);
		if (!cursor_word(&c, &word.data, &word.len))
			continue;
		if (text_is(word, "some"))
			row = &some;
		else if (text_is(word, "full"))
			row = &full;
		if (!psi_row_parse(&c, row))
			return -EBADMSG;
	}
	if (isnan(some.avg10))
		return -EBADMSG;
	*ret = (struct psi){
		.some_avg10 = some.avg10,
		.some_avg60 = some.avg60,
		.full_avg10 = full.avg10,
		.full_avg60 = full.avg60,
		.some_total_us = some.total_us,
		.full_total_us = full.total_us,
	};
	return 0;
}
