/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Leaks blocks of 256 KiB, which malloc maps one by one, 1 MiB/s. leak_big [SECONDS] */
#include "victim.h"

#define PIECE (256 * KIB)
#define LEAK_RATE (double)MIB

static struct churn churn;
static void **images;

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static void load_image(void)
{
	void **image = must(malloc(PIECE));

	memset(image, 7, PIECE);
	*image = images;
	images = image;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), leaked = 0;

	print_leak_truth("leak_big", "\"leak\"", "heap", "load_image", LEAK_LINE, LEAK_RATE);
	churn_fill(&churn, 4099);
	while (now_s() - start < seconds) {
		for (; leaked < (now_s() - start) * LEAK_RATE; leaked += PIECE)
			load_image();
		churn_turn(&churn, 500);
		nap_ms(10);
	}
	return 0;
}
