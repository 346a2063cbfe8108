/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Steady churn with one burst of 96 MiB in the middle that is given back to the kernel. burst [SECONDS] */
#include "victim.h"

#include <malloc.h>

#define PIECE (512 * KIB)
#define PIECES 192

static struct churn churn;

NOINLINE static void burst(double seconds)
{
	static void *pieces[PIECES];

	for (int i = 0; i < PIECES; i++) {
		pieces[i] = must(malloc(PIECE));
		memset(pieces[i], 9, PIECE);
	}
	churn_for(&churn, seconds, 500);
	for (int i = 0; i < PIECES; i++)
		free(pieces[i]);
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv);

	mallopt(M_MMAP_THRESHOLD, (int)(256 * KIB)); /* fixed: large blocks go back to the kernel when they are freed */
	print_truth("burst", "\"spike\", \"step\"", "");
	churn_fill(&churn, 4099);
	churn_for(&churn, 0.4 * seconds, 500);
	burst(0.1 * seconds);
	churn_for(&churn, 0.5 * seconds, 500);
	return 0;
}
