/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Recordings of any format: reading fails cleanly and says why, or gives tables that keep what store.h promises. */
#include "memwatch/store.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static void check_work(const struct recorded_series *s, size_t column, const struct recorded_life *life)
{
	double last = -1;

	for (size_t row = life->first; row < life->first + life->count; row++) {
		double v = s->cells[row * (s->metric_count + 1) + column];

		check(isnan(v) || v >= last);
		last = isnan(v) ? last : v;
	}
}

static void check_series(const struct recorded_series *s)
{
	size_t width = s->metric_count + 1;
	size_t end = 0;

	check(s->label && s->metric_count > 0 && s->row_count > 0 && s->life_count > 0 && s->cells[0] == 0);
	for (size_t row = 0; row < s->row_count; row++) {
		check(isfinite(s->cells[row * width]) &&
		      (row == 0 || s->cells[row * width] > s->cells[(row - 1) * width]));
		for (size_t c = 1; c < width; c++)
			check(!isinf(s->cells[row * width + c]));
	}
	for (size_t i = 0; i < s->life_count; i++) {
		check(s->lives[i].first == end && s->lives[i].count > 0);
		end += s->lives[i].count;
		for (size_t c = 0; c < s->metric_count; c++)
			if (s->metrics[c] == METRIC_WORK)
				check_work(s, c + 1, &s->lives[i]);
	}
	check(end == s->row_count);
	for (size_t i = 0; i < s->note_count; i++)
		check(s->notes[i].rung && s->notes[i].reason && strlen(s->notes[i].reason) > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	for (int format = RECORDING_AUTO; format < RECORDING_FORMAT_COUNT; format++) {
		struct recording r;
		struct err err = ERR_INIT;
		int status = recording_parse((const char *)data, size, (enum recording_format)format, &r, &err);

		if (status < 0) {
			check(err.msg[0] != '\0' && err.code == -status);
			continue;
		}
		check(r.series_count > 0 && r.format != RECORDING_AUTO);
		for (size_t i = 0; i < r.series_count; i++)
			check_series(&r.series[i]);
		recording_deinit(&r);
	}
	return 0;
}
