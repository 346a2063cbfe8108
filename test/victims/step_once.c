/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One step of 64 MiB at half time that stays: a table is loaded once. step_once [SECONDS] */
#include "victim.h"

static struct churn churn;

NOINLINE static char *load_table(void)
{
	char *table = must(malloc(64 * MIB));

	memset(table, 11, 64 * MIB);
	return table;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv);
	char *table;

	print_truth("step_once", "\"step\"", ", \"step_bytes\": 67108864");
	churn_fill(&churn, 4099);
	churn_for(&churn, 0.5 * seconds, 500);
	table = load_table();
	churn_for(&churn, 0.5 * seconds, 500);
	return table[4099] - 11;
}
