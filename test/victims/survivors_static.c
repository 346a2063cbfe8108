/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A table of 50,021 blocks that stay for good, made before the truth is printed; then churn of the same class and of others.
 * Nothing grows. survivors_static [SECONDS]
 */
#include "victim.h"

#define TABLE 50021
#define BLOCK_BYTES 131 /* in a chunk of 144 */
#define LIVE 1009

static void *table[TABLE];
static void *live[LIVE];
static struct churn churn;
static uint64_t numbers = 4099;

NOINLINE static void *make(void)
{
	char *block = must(malloc(BLOCK_BYTES));
	uint64_t r = next_random(&numbers);

	for (size_t i = 0; i < BLOCK_BYTES; i++)
		block[i] = (char)(r >> (i % 57));
	return block;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();

	for (size_t i = 0; i < TABLE; i++)
		table[i] = make();
	churn_fill(&churn, 4099);
	print_truth("survivors_static", "\"stable\"", ", \"chunk\": 144");
	while (now_s() - start < seconds) {
		churn_turn(&churn, 500);
		for (int i = 0; i < 200; i++) {
			size_t slot = next_random(&numbers) % LIVE;

			free(live[slot]);
			live[slot] = make();
		}
		nap_ms(10);
	}
	return table[0] == NULL;
}
