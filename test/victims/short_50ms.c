/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lives 50 ms and takes 10 MiB meanwhile. short_50ms [SECONDS] */
#include "victim.h"

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 0.05, start = now_s();

	print_truth("short_50ms", "\"insufficient-data\"", ", \"samples_min\": 20");
	for (int i = 0; now_s() - start < seconds; i++) {
		if (i < 40)
			memset(must(malloc(256 * KIB)), i, 256 * KIB);
		nap_ms(1);
	}
	return 0;
}
