/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Grows by small blocks and starts a child 40 times a second; a second line says how long vfork() took at the longest and how often
 * it took more than 15 ms: { "forks": N, "slow": N, "worst_ms": X }.
 */
#include "victim.h"

#include <sys/wait.h>

int main(int argc, char **argv)
{
	double end = now_s() + seconds_arg(argc, argv), worst = 0;
	int forks = 0, slow = 0;

	print_truth("forks", "\"leak\", \"growth\"", "");
	while (now_s() < end) {
		double begin, took;
		pid_t child;

		for (int i = 0; i < 25; i++) {
			char *block = malloc(200);

			if (block)
				memset(block, 1, 200);
			nap_ms(1);
		}
		begin = now_s();
		child = vfork();
		if (child == 0)
			_exit(0);
		took = now_s() - begin;
		waitpid(child, NULL, 0);
		forks++;
		slow += took > 0.015;
		worst = took > worst ? took : worst;
	}
	printf("{ \"forks\": %d, \"slow\": %d, \"worst_ms\": %.1f }\n", forks, slow, worst * 1e3);
	return 0;
}
