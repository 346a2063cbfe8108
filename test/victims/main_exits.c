/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The main thread ends after a second, by pthread_exit(); another one goes on growing, and ends the process with status 7. */
#include "victim.h"

#include <pthread.h>

static void *grow(void *arg)
{
	double end = now_s() + *(double *)arg;

	while (now_s() < end) {
		char *block = malloc(10000);

		if (block)
			memset(block, 1, 10000);
		nap_ms(10);
	}
	exit(7);
}

int main(int argc, char **argv)
{
	static double seconds;
	pthread_t thread;

	seconds = seconds_arg(argc, argv);
	print_truth("main_exits", "\"insufficient-data\"", "");
	if (pthread_create(&thread, NULL, grow, &seconds) != 0)
		return 1;
	nap_ms(1000);
	pthread_exit(NULL);
}
