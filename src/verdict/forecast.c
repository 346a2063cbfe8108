/* SPDX-License-Identifier: GPL-3.0-or-later */
/* When the nearest limit is reached if it goes on like this. */
#include <math.h>

#include "verdict-priv.h"

static double eta(double left_bytes, double per_s)
{
	return per_s > 0 ? fmax(0, left_bytes) / per_s : INFINITY;
}

void forecast_build(struct judgement *j)
{
	const struct verdict_input *in = j->f.in;
	struct interval slope = j->subject->slope;
	struct forecast *fc = &j->v.forecast;

	*fc = (struct forecast){ .eta_s = { NAN, NAN, NAN } };
	if (j->v.class != VERDICT_LEAK && j->v.class != VERDICT_GROWTH && j->v.class != VERDICT_SCALING)
		return;
	for (size_t i = 0; i < in->limit_count && slope.value > 0; i++) {
		const struct verdict_limit *l = &in->limits[i];
		double left = (double)l->bytes - l->used_bytes, at_s = eta(left, slope.value);

		if (l->bytes == UNKNOWN_U64 || !isfinite(l->used_bytes) || (fc->known && at_s >= fc->eta_s.value))
			continue;
		fc->known = true;
		fc->limit_bytes = l->bytes;
		fc->limit_source = l->source;
		fc->eta_s = (struct interval){ at_s, eta(left, slope.high), eta(left, slope.low) };
	}
}
