/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every bin of the tcache full, and blocks that still carry the mark of a dead thread's tcache though they are in use again. */
#include <pthread.h>
#include <string.h>

#include "heap_truth.h"

#define BINS 64
#define EACH 7
#define PASSED 101

static void *passed[PASSED];

static void *fill_and_die(void *arg)
{
	(void)arg;
	for (size_t i = 0; i < PASSED; i++)
		free(passed[i]);
	return NULL;
}

int main(void)
{
	static void *blocks[BINS][EACH];
	struct truth t = { 0 };
	pthread_t thread;

	for (size_t i = 0; i < PASSED; i++)
		passed[i] = malloc(40);
	if (pthread_create(&thread, NULL, fill_and_die, NULL) != 0 || pthread_join(thread, NULL) != 0)
		return 1;
	for (size_t i = 0; i < PASSED; i++) { /* again in use, bytes as they are */
		passed[i] = malloc(40);
		truth_add(&t, passed[i]);
	}
	for (size_t i = 0; i < BINS; i++)
		for (size_t j = 0; j < EACH; j++)
			blocks[i][j] = malloc(i * 16 + 17);
	for (size_t i = 0; i < BINS; i++)
		for (size_t j = 0; j < EACH; j++)
			free(blocks[i][j]);
	truth_tell(&t);
	return 0;
}
