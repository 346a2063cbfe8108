/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A thousand threads that wait. many_threads [SECONDS] [THREADS] */
#include "victim.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *wait_for_end(void *arg)
{
	pthread_mutex_lock(&lock);
	pthread_mutex_unlock(&lock);
	return arg;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv);
	long count = long_arg(argc, argv, 2, 1000), started = 0;
	pthread_attr_t attr;
	pthread_t thread;
	char details[64];

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * KIB);
	pthread_mutex_lock(&lock);
	while (started < count && pthread_create(&thread, &attr, wait_for_end, NULL) == 0)
		started++;
	snprintf(details, sizeof(details), ", \"threads\": %ld", started + 1);
	print_truth("many_threads", "\"stable\"", details);
	nap_ms((long)(seconds * 1000));
	return 0; /* the others end with the process */
}
