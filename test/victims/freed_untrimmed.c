/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A peak, after which everything is freed but one small block at its end: that pins the top, so malloc gives nothing back although
 * malloc_trim() could. freed_untrimmed [SECONDS] [MIB]
 */
#include "victim.h"

#define BLOCK_BYTES 1000

static struct churn churn;

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();
	size_t count = (size_t)long_arg(argc, argv, 2, 96) * MIB / BLOCK_BYTES, done = 0;
	void **blocks;
	char *pin;

	print_truth("freed_untrimmed", "\"retention\"", ", \"cause\": \"allocator\"");
	blocks = must(calloc(count, sizeof(*blocks)));
	churn_fill(&churn, 4099);
	churn_for(&churn, 0.15 * seconds, 500);
	while (done < count) {
		double share = (now_s() - start - 0.15 * seconds) / (0.15 * seconds);

		for (; done < count && (double)done < share * (double)count; done++) {
			blocks[done] = must(malloc(BLOCK_BYTES));
			memset(blocks[done], 5, BLOCK_BYTES);
		}
		nap_ms(5);
	}
	pin = must(malloc(2048));
	memset(pin, 1, 2048);
	churn_for(&churn, 0.05 * seconds, 500);
	for (size_t i = 0; i < count; i++)
		free(blocks[i]);
	churn_for(&churn, seconds - (now_s() - start), 500);
	return pin[0] - 1;
}
