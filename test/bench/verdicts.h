/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parts of bench_verdicts: each measures one thing, prints it and holds it against its bound. */
#ifndef MEMWATCH_BENCH_VERDICTS_H
#define MEMWATCH_BENCH_VERDICTS_H

#include <stdio.h>

#include "../unit/support_labelled.h"

enum detector { DETECT_OLS, DETECT_MANN_KENDALL, DETECT_MAX_FILTRATION, DETECTOR_COUNT };
extern const char *const detector_names[DETECTOR_COUNT];

/* What became of one series. */
struct outcome {
	enum labelled_kind kind;
	uint64_t seed;
	enum verdict_class label, said;
	bool right; /* said is among the accepted */
	double confidence;
	bool cause_asked, cause_right;
	bool detected[DETECTOR_COUNT];
	struct interval eta_s; /* NaN: no forecast */
	double crossing_s;     /* NaN: nothing to forecast */
	bool extra;            /* made only to count sure false leaks */
	const char *missing;   /* "plain", "dropped", "gap", "irregular": what the sampling lacked */
};

struct outcomes {
	struct outcome *rows;
	size_t count, cap;
};

struct share { /* of one, with the 95 % Wilson interval; NaN for none */
	double value, low, high;
};

/* Bounds that were held and missed. */
struct bounds {
	size_t held, missed;
};

struct share wilson(size_t hits, size_t of);
double percentile(double *values, size_t count, double share); /* sorts; NaN for none */
void bound_at_least(struct bounds *b, const char *what, double value, double least);
void bound_at_most(struct bounds *b, const char *what, double value, double most);

/* Whether each of the plain detectors calls these points growing. */
void detect(const struct point *points, size_t count, bool ret[DETECTOR_COUNT]);

/* Whether a leak called surely is what must not happen to this kind: plateaus, sawteeth, steps, walks. */
bool never_surely_leak(enum labelled_kind kind);
void report_confusion(const struct outcomes *all, struct bounds *b);
void report_kinds(const struct outcomes *all);
void report_detectors(const struct outcomes *all);
void report_calibration(const struct outcomes *all, struct bounds *b);
void report_forecast(const struct outcomes *all, struct bounds *b);
void report_delay(enum labelled_set set, struct bounds *b);
void report_speed(enum labelled_set set, struct bounds *b);

#endif
