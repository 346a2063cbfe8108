/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Works for some time, then dies by SIGSEGV. segv [SECONDS] */
#include "victim.h"

#include <sys/resource.h>

static struct churn churn;

int main(int argc, char **argv)
{
	struct rlimit none = { 0, 0 };
	int *volatile nowhere = NULL;

	setrlimit(RLIMIT_CORE, &none);
	print_truth("segv", "\"insufficient-data\"", ", \"signal\": 11");
	churn_fill(&churn, 4099);
	churn_for(&churn, argc > 1 ? atof(argv[1]) : 0.2, 500);
	return *nowhere;
}
