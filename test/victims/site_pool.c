/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A thread pool: jobs are taken by the one who submits them and given back by a worker, which forgets those that fail. site_pool SECONDS
 * [OPTIONS], see site.h; there are four workers beside the threads that churn. */
/* build: -fomit-frame-pointer */
#include "site.h"

#define WORKERS 4
#define FAILING 16 /* every so manyth job */

struct job {
	struct job *next;
	int number;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ready = PTHREAD_COND_INITIALIZER;
static struct job *queue;
static void *volatile lost;

static void *worker(void *arg)
{
	for (;;) {
		struct job *job;

		pthread_mutex_lock(&lock);
		while (!queue)
			pthread_cond_wait(&ready, &lock);
		job = queue;
		queue = job->next;
		pthread_mutex_unlock(&lock);
		if (job->number % FAILING)
			free(job);
		else
			lost = job;
	}
	return arg;
}

enum { SUBMIT_LINE = __LINE__ + 3 };
NOINLINE static void submit(int number, size_t size)
{
	struct job *job = must(malloc(size));

	memset(job, 1, size);
	job->number = number;
	pthread_mutex_lock(&lock);
	job->next = queue;
	queue = job;
	pthread_cond_signal(&ready);
	pthread_mutex_unlock(&lock);
}

NOINLINE static void leak_jobs(size_t size)
{
	for (int number = 0; number < FAILING; number++)
		submit(number, size);
}

NOINLINE static void *churn_take(size_t size)
{
	char *block = must(malloc(size));

	*block = 1;
	return block;
}

int main(int argc, char **argv)
{
	static const struct site_kind kind = { "pool", "submit", SUBMIT_LINE, leak_jobs, churn_take, free, "", "heap" };

	for (int i = 0; i < WORKERS; i++) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, worker, NULL) != 0)
			return 1;
		pthread_detach(thread);
	}
	return site_main(argc, argv, "site_pool", &kind, 1);
}
