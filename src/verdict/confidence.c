/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Confidence: how sure the class is, 0 to 1.
 *
 *   raw  = 1 / (1 + exp(-score)), where the score sums up margins, each cut at 1.5:
 *          (z - 2.33) / 2.33                Mann-Kendall beyond the gate
 *          log2(rise / material) / 2        size beyond the least that counts
 *          (drift - 1.65) / 1.65            mean increment in standard errors (negative only where the level wanders)
 *          0.5, 0 or -0.5                   a line, undecided, another shape
 *          -0.3
 *          so that one that barely passes every gate has 0.43, and one that passes by far 0.99
 *   cap  = with few seconds T and troughs n, b = min(T / 40, n / 12):
 *          0.5 + 0.39 sqrt(b)        for b < 1: what fills now may stop in a moment
 *          0.9 + 0.09 min(1, log2(T / 40))  from there on: 0.95 after a minute, 0.99 after 80 s. A program that collects or
 *                             flushes every 30 s looks like a clean leak for nearly 40
 *          for what does not grow, 15 s instead of 40; but a warm-up may only pause
 *   confidence = min(raw, cap), and at most 0.8 where the level wanders as a random walk does
 */
#include <math.h>

#include "verdict-priv.h"

#define SCORE_BASE (-0.3)
#define MARGIN_MAX 1.5
#define SHAPE_SCORE 0.5
#define MAX_WANDERING 0.8

double confidence_logistic(double score)
{
	return 1 / (1 + exp(-score));
}

double confidence_cap(double confidence, double span_s, double sure_s, size_t troughs)
{
	double length = span_s / sure_s, b = fmin(length, (double)troughs / SURE_TROUGHS);

	if (b < 1)
		return fmin(confidence, 0.5 + 0.39 * sqrt(fmax(0, b)));
	/* troughs stop to grow with the run, so that only time counts from here */
	return fmin(confidence, 0.9 + 0.09 * fmin(1, log2(length)));
}

double confidence_of_trend(const struct trend *t)
{
	double score = SCORE_BASE, raw;

	score += fmin(MARGIN_MAX, (t->z - GATE_Z) / GATE_Z);
	score += fmin(MARGIN_MAX, log2(fmax(1, t->rise / t->material)) / 2);
	score += fmax(t->wanders ? -MARGIN_MAX : 0, fmin(MARGIN_MAX, (t->drift_t - GATE_DRIFT_T) / GATE_DRIFT_T));
	if (t->shape.shape == SHAPE_LINEAR)
		score += SHAPE_SCORE;
	else if (t->shape.shape != SHAPE_UNDECIDED)
		score -= SHAPE_SCORE;
	raw = confidence_logistic(score);
	if (t->wanders)
		raw = fmin(raw, MAX_WANDERING);
	return confidence_cap(raw, t->span_s - (t->onset_s - t->from_s), SURE_SECONDS, t->trough_count);
}
