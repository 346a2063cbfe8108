/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A queue of blocks of one size that fills for a third of the time, then turns over at its length for ever: its blocks get old, and then
 * are freed. survivors_queue [SECONDS]
 */
#include "victim.h"

#define BLOCK_BYTES 1213
#define BLOCK_CHUNK 1232
#define LENGTH 4099
#define TURNS 2.0 /* so often does the whole queue turn over in the last two thirds */

static void *queue[LENGTH];
static struct churn churn;
static uint64_t numbers = 4099;

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s(), fill_s = seconds / 3;
	double turn_s = (seconds - fill_s) / TURNS;
	char details[64];

	snprintf(details, sizeof(details), ", \"chunk\": %d", BLOCK_CHUNK);
	print_truth("survivors_queue", "\"warmup\"", details);
	churn_fill(&churn, 4099);
	for (size_t put = 0; now_s() - start < seconds; nap_ms(10)) {
		double t = now_s() - start;
		double due = t < fill_s ? t / fill_s * LENGTH : LENGTH + (t - fill_s) / turn_s * LENGTH;

		churn_turn(&churn, 500);
		for (; (double)put < due; put++) {
			uint64_t r = next_random(&numbers);
			unsigned char *block;

			free(queue[put % LENGTH]);
			block = queue[put % LENGTH] = must(malloc(BLOCK_BYTES));
			for (size_t i = 0; i < BLOCK_BYTES; i++)
				block[i] = (unsigned char)(r >> (i % 57));
		}
	}
	return 0;
}
