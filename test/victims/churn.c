/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Steady churn, nothing grows. churn [SECONDS] [PAIRS EVERY 10 MS] */
#include "victim.h"

static struct churn churn;

int main(int argc, char **argv)
{
	print_truth("churn", "\"stable\"", "");
	churn_fill(&churn, 4099);
	churn_for(&churn, seconds_arg(argc, argv), (int)long_arg(argc, argv, 2, 2000));
	return 0;
}
