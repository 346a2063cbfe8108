/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fifty thousand mappings, and a slow steady churn. many_maps [SECONDS] [MAPPINGS] */
#include "victim.h"

#include <sys/mman.h>

#define PAGE 4096

static struct churn churn;

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv);
	long count = long_arg(argc, argv, 2, 50000), made = 0;
	char details[64];
	char *all = mmap(NULL, (size_t)count * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED)
		return 1;
	for (long i = 1; i < count; i += 2) { /* neighbours that differ in protection are mappings of their own */
		if (mprotect(all + i * PAGE, PAGE, PROT_READ | PROT_WRITE) != 0)
			break; /* vm.max_map_count */
		if (i % 16 == 1)
			all[i * PAGE] = 1;
		made = i + 1;
	}
	snprintf(details, sizeof(details), ", \"mappings\": %ld", made);
	print_truth("many_maps", "\"stable\"", details);
	churn_fill(&churn, 4099);
	churn_for(&churn, seconds, 50);
	return 0;
}
