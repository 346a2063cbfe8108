/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * When the nearest limit is reached if it goes on like this: the same growth, the same noise.
 *
 * What counts against a limit (used_bytes) was read once, at some moment of a swing; it is taken to move as the resident
 * memory does, byte for byte, and to grow by the law of the subject. The limit is reached by the first top that reaches it,
 * not by the trough that the subject's slope goes through: so how far the present moment lies above or below the line, and
 * how high tops come above it, is read from RSS (from the subject where RSS is not known). All limits are
 * approached by the same growth: the nearest in time is the one with the fewest bytes left.
 */
#include <math.h>

#include "verdict-priv.h"

static const struct verdict_limit *nearest_limit(const struct verdict_input *in)
{
	const struct verdict_limit *nearest = NULL;

	for (size_t i = 0; i < in->limit_count; i++) {
		const struct verdict_limit *l = &in->limits[i];

		if (l->bytes == UNKNOWN_U64 || !isfinite(l->used_bytes))
			continue;
		if (!nearest || (double)l->bytes - l->used_bytes < (double)nearest->bytes - nearest->used_bytes)
			nearest = l;
	}
	return nearest;
}

void forecast_build(struct judgement *j)
{
	const struct trend *law = j->subject, *seen = j->f.rss.known ? &j->f.rss : law;
	const struct verdict_limit *limit = nearest_limit(j->f.in);
	struct forecast *fc = &j->v.forecast;
	struct interval eta_s;

	*fc = (struct forecast){ .eta_s = { NAN, NAN, NAN } };
	if (j->v.class != VERDICT_LEAK && j->v.class != VERDICT_GROWTH && j->v.class != VERDICT_SCALING)
		return;
	if (!limit || !law->known)
		return;
	eta_s = passage_time(law->points, law->count, seen->points, seen->count, law->onset_s, law->period_s,
			     (double)limit->bytes - limit->used_bytes);
	if (isnan(eta_s.value))
		return;
	fc->known = true;
	fc->limit_bytes = limit->bytes;
	fc->limit_source = limit->source;
	fc->eta_s = eta_s;
}
