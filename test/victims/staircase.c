/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A vector that doubles whenever it is full, filled at a steady rate: ever longer, ever higher stairs. staircase [SECONDS] */
#include "victim.h"

static struct churn churn;

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();
	size_t cap = MIB, len = 0;
	char *vector = must(calloc(cap, 1));

	print_truth("staircase", "\"step\", \"growth\", \"scaling\", \"leak\", \"warmup\"", "");
	churn_fill(&churn, 4099);
	while (now_s() - start < seconds) {
		size_t wanted = (size_t)((now_s() - start) * 2053 * KIB);

		while (len < wanted) {
			if (len == cap) {
				vector = must(realloc(vector, 2 * cap));
				memset(vector + cap, 0, cap);
				cap *= 2;
			}
			vector[len] = 1;
			len++;
		}
		churn_turn(&churn, 500);
		nap_ms(10);
	}
	return vector[0] == 1 ? 0 : 1;
}
