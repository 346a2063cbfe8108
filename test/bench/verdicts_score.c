/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Confusion, classes, kinds, detectors, calibration and forecasts, from the outcomes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "verdicts.h"

#define Z_95 1.959964
#define BINS 7

struct share wilson(size_t hits, size_t of)
{
	double n = (double)of, p = (double)hits / n, z2 = Z_95 * Z_95;
	double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
	double half = Z_95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);

	if (of == 0)
		return (struct share){ NAN, NAN, NAN };
	return (struct share){ p, fmax(0, middle - half), fmin(1, middle + half) };
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double percentile(double *values, size_t count, double share)
{
	if (count == 0)
		return NAN;
	qsort(values, count, sizeof(*values), ascending);
	return values[(size_t)fmin((double)count - 1, floor(share * (double)count))];
}

static void bound(struct bounds *b, const char *what, double value, double limit, bool held, const char *sign)
{
	printf("%s  %s: %.4g, %s %.4g\n", held ? "PASS" : "FAIL", what, value, sign, limit);
	if (held)
		b->held++;
	else
		b->missed++;
}

void bound_at_least(struct bounds *b, const char *what, double value, double least)
{
	bound(b, what, value, least, value >= least, "at least");
}

void bound_at_most(struct bounds *b, const char *what, double value, double most)
{
	bound(b, what, value, most, value <= most, "at most");
}

/* ---- classes -------------------------------------------------------------------------------------------------------- */

static bool judged(const struct outcome *o)
{
	return !labelled_info[o->kind].unjudged && !o->extra;
}

/* What is accepted counts as the label. */
static enum verdict_class counted(const struct outcome *o)
{
	return o->right ? o->label : o->said;
}

static double f1(size_t hits, size_t said, size_t labelled)
{
	return said + labelled ? 2 * (double)hits / (double)(said + labelled) : NAN;
}

struct confusion {
	size_t cell[VERDICT_CLASS_COUNT][VERDICT_CLASS_COUNT]; /* label, said */
	size_t labelled[VERDICT_CLASS_COUNT], said[VERDICT_CLASS_COUNT];
};

static void confusion_fill(const struct outcomes *all, struct confusion *c)
{
	*c = (struct confusion){ 0 };
	for (size_t i = 0; i < all->count; i++) {
		const struct outcome *o = &all->rows[i];

		if (!judged(o))
			continue;
		c->cell[o->label][counted(o)]++;
		c->labelled[o->label]++;
		c->said[counted(o)]++;
	}
}

static void print_matrix(const struct confusion *c)
{
	printf("\n1. Labels (rows) and verdicts (columns); a verdict that the kind accepts counts as its "
	       "label\n\n%-18s",
	       "");
	for (size_t k = 0; k < VERDICT_CLASS_COUNT; k++)
		printf("%10.9s", verdict_class_names[k]);
	printf("\n");
	for (size_t l = 0; l < VERDICT_CLASS_COUNT; l++) {
		printf("%-18s", verdict_class_names[l]);
		for (size_t k = 0; k < VERDICT_CLASS_COUNT; k++)
			printf("%10zu", c->cell[l][k]);
		printf("\n");
	}
}

static void print_share(struct share s)
{
	printf("  %.3f [%.3f, %.3f]", s.value, s.low, s.high);
}

bool never_surely_leak(enum labelled_kind kind)
{
	switch (kind) {
	case LABELLED_PLATEAU:
	case LABELLED_RAMP_FLAT:
	case LABELLED_WORK_PLATEAU:
	case LABELLED_HEAP_CACHE:
	case LABELLED_HEAP_CACHE_CURVE:
	case LABELLED_SAWTOOTH:
	case LABELLED_HEAP_SAWTOOTH:
	case LABELLED_STEP:
	case LABELLED_HEAP_STEP:
	case LABELLED_WALK:
	case LABELLED_HEAP_RSS_WALK:
	case LABELLED_HEAP_WALK:
		return true;
	default:
		return false;
	}
}

static void report_sure_leaks(const struct outcomes *all, struct bounds *b)
{
	size_t made = 0, sure = 0;
	struct share s;

	for (size_t i = 0; i < all->count; i++) {
		const struct outcome *o = &all->rows[i];

		if (!never_surely_leak(o->kind))
			continue;
		made++;
		sure += o->said == VERDICT_LEAK && o->confidence >= 0.9;
	}
	s = wilson(sure, made);
	printf("\nfalse leaks at confidence 0.9 or more on plateaus, sawteeth, steps, walks: %zu of %zu", sure, made);
	print_share(s);
	printf("\n");
	bound_at_most(b, "sure false leaks", s.value, 0.005);
}

void report_confusion(const struct outcomes *all, struct bounds *b)
{
	struct confusion c;
	double macro = 0;
	size_t classes = 0;

	confusion_fill(all, &c);
	print_matrix(&c);
	printf("\n%-18s  %-23s  %-23s  F1\n", "", "precision", "recall");
	for (size_t k = 0; k < VERDICT_CLASS_COUNT; k++) {
		size_t hits = c.cell[k][k];

		if (c.labelled[k] == 0)
			continue;
		printf("%-18s", verdict_class_names[k]);
		print_share(wilson(hits, c.said[k]));
		print_share(wilson(hits, c.labelled[k]));
		printf("  %.3f\n", f1(hits, c.said[k], c.labelled[k]));
		macro += f1(hits, c.said[k], c.labelled[k]);
		classes++;
	}
	printf("\n");
	bound_at_least(b, "leak precision", wilson(c.cell[VERDICT_LEAK][VERDICT_LEAK], c.said[VERDICT_LEAK]).value,
		       0.98);
	bound_at_least(b, "leak recall", wilson(c.cell[VERDICT_LEAK][VERDICT_LEAK], c.labelled[VERDICT_LEAK]).value,
		       0.95);
	bound_at_least(b, "macro-F1", macro / (double)classes, 0.93);
	report_sure_leaks(all, b);
}

/* ---- kinds ---------------------------------------------------------------------------------------------------------- */

static void print_kind(const struct outcomes *all, enum labelled_kind kind)
{
	size_t made = 0, right = 0, causes = 0, causes_right = 0, said[VERDICT_CLASS_COUNT] = { 0 };

	for (size_t i = 0; i < all->count; i++) {
		const struct outcome *o = &all->rows[i];

		if (o->kind != kind || o->extra)
			continue;
		made++;
		right += o->right;
		said[o->said] += !o->right;
		causes += o->right && o->cause_asked;
		causes_right += o->right && o->cause_asked && o->cause_right;
	}
	if (made == 0)
		return;
	printf("%-20s %-18s %4zu of %4zu  %5.1f %%", labelled_info[kind].name,
	       labelled_info[kind].unjudged ? "(forecast only)" : verdict_class_names[labelled_info[kind].label], right,
	       made, 100 * (double)right / (double)made);
	for (size_t c = 0; c < VERDICT_CLASS_COUNT; c++)
		if (said[c])
			printf("  %s %zu", verdict_class_names[c], said[c]);
	if (causes)
		printf("  (cause right: %zu of %zu)", causes_right, causes);
	printf("\n");
}

static void print_missing(const struct outcomes *all, const char *missing)
{
	size_t made = 0, right = 0;

	for (size_t i = 0; i < all->count; i++)
		if (judged(&all->rows[i]) && strcmp(all->rows[i].missing, missing) == 0) {
			made++;
			right += all->rows[i].right;
		}
	if (made > 0)
		printf("%-20s %-18s %4zu of %4zu  %5.1f %%\n", missing, "(any kind)", right, made,
		       100 * (double)right / (double)made);
}

void report_kinds(const struct outcomes *all)
{
	printf("\nKinds: right, and what was said instead\n\n");
	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++)
		print_kind(all, kind);
	print_missing(all, "evenly sampled");
	print_missing(all, "samples dropped");
	print_missing(all, "a gap");
	print_missing(all, "irregular");
}

/* ---- detectors ------------------------------------------------------------------------------------------------------ */

/* Kinds of which either answer is right are left out. */
static void print_detector(const struct outcomes *all, const char *name, int detector, uint64_t says, uint64_t truth)
{
	size_t hits = 0, said = 0, labelled = 0;

	for (size_t i = 0; i < all->count; i++) {
		const struct outcome *o = &all->rows[i];
		uint64_t accepted = labelled_info[o->kind].accepted;
		bool is = truth >> o->label & 1;
		bool yes = detector < 0 ? says >> counted(o) & 1 : o->detected[detector];

		if (!judged(o) || (accepted & truth && accepted & ~truth))
			continue;
		hits += is && yes;
		said += yes;
		labelled += is;
	}
	printf("%-28s", name);
	print_share(wilson(hits, said));
	print_share(wilson(hits, labelled));
	printf("  %.3f\n", f1(hits, said, labelled));
}

void report_detectors(const struct outcomes *all)
{
	const uint64_t leak = 1ULL << VERDICT_LEAK, both = leak | 1ULL << VERDICT_GROWTH;

	for (size_t i = 0; i < 2; i++) {
		printf("\n%s%-28s  %-23s  %-23s  F1\n",
		       i ? "" : "2. Detectors on the same series (theirs: RSS alone)\n\n",
		       i ? "of leaks" : "of leaks and growth", "precision", "recall");
		print_detector(all, "memwatch", -1, i ? leak : both, i ? leak : both);
		for (int d = 0; d < DETECTOR_COUNT; d++)
			print_detector(all, detector_names[d], d, 0, i ? leak : both);
	}
}

/* ---- calibration ---------------------------------------------------------------------------------------------------- */

void report_calibration(const struct outcomes *all, struct bounds *b)
{
	static const double from[BINS + 1] = { 0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0001 };
	size_t made[BINS] = { 0 }, right[BINS] = { 0 }, count = 0;
	double sum[BINS] = { 0 }, brier = 0, ece = 0;

	for (size_t i = 0; i < all->count; i++) {
		const struct outcome *o = &all->rows[i];

		if (!judged(o))
			continue;
		count++;
		brier += pow(o->confidence - o->right, 2);
		for (size_t k = 0; k < BINS; k++)
			if (o->confidence >= from[k] && o->confidence < from[k + 1]) {
				made[k]++;
				right[k] += o->right;
				sum[k] += o->confidence;
			}
	}
	printf("\n3. Calibration\n\n%-14s %6s  %5s  share right\n", "confidence", "series", "mean");
	for (size_t k = 0; k < BINS; k++) {
		double mean = sum[k] / (double)made[k];

		printf("%.2f to %.2f   %6zu", from[k], fmin(1, from[k + 1]), made[k]);
		if (made[k] > 0) {
			printf("  %.3f", mean);
			print_share(wilson(right[k], made[k]));
			ece += fabs((double)right[k] / (double)made[k] - mean) * (double)made[k] / (double)count;
		}
		printf("\n");
	}
	printf("expected calibration error %.3f, Brier score %.3f\n", ece, brier / (double)count);
	bound_at_least(b, "share right at confidence 0.9 or more",
		       wilson(right[BINS - 2] + right[BINS - 1], made[BINS - 2] + made[BINS - 1]).value, 0.9);
}

/* ---- forecast ------------------------------------------------------------------------------------------------------- */

struct coverage {
	size_t made, none, inside, late, early, open; /* early: reached before low */
	double *widths;
	size_t width_count;
};

static void coverage_add(struct coverage *c, const struct outcome *o)
{
	struct interval e = o->eta_s;

	c->made++;
	if (isnan(e.low)) {
		c->none++;
		return;
	}
	c->inside += o->crossing_s >= e.low && o->crossing_s <= e.high;
	c->early += o->crossing_s < e.low;
	c->late += o->crossing_s > e.high;
	c->open += isinf(e.high) != 0;
	c->widths[c->width_count++] = (e.high - e.low) / e.value;
}

static struct share coverage_print(struct coverage *c, const char *name)
{
	struct share s = wilson(c->inside, c->made - c->none);

	printf("%-20s %5zu  %5.1f %%", name, c->made, 100 * (double)c->none / (double)c->made);
	print_share(s);
	printf("  %5zu %5zu %5zu  %6.2f\n", c->early, c->late, c->open, percentile(c->widths, c->width_count, 0.5));
	return s;
}

void report_forecast(const struct outcomes *all, struct bounds *b)
{
	struct coverage whole = { .widths = calloc(all->count + 1, sizeof(double)) };
	struct coverage one = { .widths = calloc(all->count + 1, sizeof(double)) };

	if (!whole.widths || !one.widths)
		abort();
	printf("\n4. Forecast: 90 %% intervals of the time to the limit\n\n%-20s %5s  %7s  %-23s  %5s %5s %5s  %s\n",
	       "", "made", "none", "inside", "early", "late", "open", "width / mid, median");
	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++) {
		one = (struct coverage){ .widths = one.widths };
		for (size_t i = 0; i < all->count; i++)
			if (all->rows[i].kind == kind && !isnan(all->rows[i].crossing_s)) {
				coverage_add(&one, &all->rows[i]);
				coverage_add(&whole, &all->rows[i]);
			}
		if (one.made > 0)
			coverage_print(&one, labelled_info[kind].name);
	}
	if (whole.made > 0) {
		double inside = coverage_print(&whole, "all").value;

		bound_at_least(b, "forecast coverage", inside, 0.85);
		bound_at_most(b, "forecast coverage", inside, 0.95);
	}
	free(whole.widths);
	free(one.widths);
}
