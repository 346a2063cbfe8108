/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A peak, after which most blocks are freed but every KEEPth stays, spread over all pages: the allocator holds the memory.
 * With KEEP 4 the holes are smaller than a page, so nothing can be given back: fragmentation. frag_middle [SECONDS] [MIB] [KEEP]
 */
#include "victim.h"

#define BLOCK_BYTES 1000

static struct churn churn;

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();
	size_t count = (size_t)long_arg(argc, argv, 2, 96) * MIB / BLOCK_BYTES, done = 0;
	size_t keep = (size_t)long_arg(argc, argv, 3, 4);
	void **blocks;

	print_truth("frag_middle", "\"retention\"", keep <= 4 ? ", \"cause\": \"fragmentation\"" : "");
	blocks = must(calloc(count, sizeof(*blocks)));
	churn_fill(&churn, 4099);
	churn_for(&churn, 0.15 * seconds, 500);
	while (done < count) { /* the peak builds up over 15 % of the time */
		double share = (now_s() - start - 0.15 * seconds) / (0.15 * seconds);

		for (; done < count && (double)done < share * (double)count; done++) {
			blocks[done] = must(malloc(BLOCK_BYTES));
			memset(blocks[done], 5, BLOCK_BYTES);
		}
		nap_ms(5);
	}
	churn_for(&churn, 0.05 * seconds, 500);
	for (size_t i = 0; i < count; i++)
		if (i % keep != 0)
			free(blocks[i]);
	churn_for(&churn, seconds - (now_s() - start), 500);
	return 0;
}
