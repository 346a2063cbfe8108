/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A window of time on the ledger: what each stack gained and lost in it, and what the size classes grew by. */
#ifndef MEMWATCH_SITES_LEDGER_WINDOW_H
#define MEMWATCH_SITES_LEDGER_WINDOW_H

#include "sites/ledger-priv.h"

struct growth { /* of one stack in the window */
	uint32_t stack;
	/* settled live blocks born in the window (in), and from before (old) */
	double moved, moved_last_s; /* old ones that were moved within the window, and when the last one was */
	double in, in_var, in_size, in_samples, in_blocks, in_scaled, last_birth_s;
	double old, old_var, old_samples;
	double left_var, left_samples;
	double taken, taken_blocks, there; /* in the window; of that still live, young ones too */
	double grown, low, high, score, scale;
	double claimed, truth; /* growth in size classes that overclaim; what these really grew by */
	uint64_t classes[HEAP_CLASS_COUNT / 64];
	float exposure[LEDGER_AGES]; /* block-seconds lived at that age */
};

struct class_truth { /* of one size class */
	bool scaled;
	double in, in_var;         /* settled blocks born in the window */
	double claimed, plausible; /* by stacks, net of what each lost */
	double truth;
};

struct window {
	const struct site_ledger *l;
	const struct site_query *q;
	double since_s, until_s, born_s; /* blocks born later settled in the window */
	size_t mark;                     /* the first one after since_s */
	double part;                     /* of the way from the mark before it; NaN: no mark before: all was 0 */
	struct growth *of;               /* by stack; after ranking by score */
	struct class_truth classes[HEAP_CLASS_COUNT];
};

double window_between(const struct window *w, double before,
		      double after); /* of a value at the marks before and after its start */
/* Sets the scale of each stack: the part of its growth that the growth of the size classes leaves room for. */
void window_join_truth(struct window *w);
/* A stack that alone gained far more than its classes grew by has replaced something: it can hardly be what grows. 1: plausible. */
double window_plausibility(const struct growth *g);

#endif
