/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The program of `make demo`: a small server that answers requests from a socket and keeps the answers in a cache. The key holds the
 * session's number, so no answer is ever found again, and nothing is ever evicted: 1 MiB/s is lost in cache_put(). demo_server [SECONDS]
 */
#include "victim.h"

#include <pthread.h>
#include <sys/socket.h>

#define BUCKETS 1021
#define REQUESTS_PER_TURN 8
#define ANSWER_BYTES 1297

struct answer {
	struct answer *next;
	char key[48];
	char body[ANSWER_BYTES];
};

static struct answer *cache[BUCKETS];
static struct churn sessions; /* what a server otherwise does with memory */

static size_t bucket_of(const char *key)
{
	size_t hash = 5381;

	while (*key)
		hash = hash * 33 + (unsigned char)*key++;
	return hash % BUCKETS;
}

static const struct answer *cache_get(const char *key)
{
	const struct answer *a = cache[bucket_of(key)];

	while (a && strcmp(a->key, key) != 0)
		a = a->next;
	return a;
}

enum { LEAK_LINE = __LINE__ + 3 };
NOINLINE static const struct answer *cache_put(const char *key, const char *body)
{
	struct answer *a = must(malloc(sizeof(*a)));
	struct answer **bucket = &cache[bucket_of(key)];

	snprintf(a->key, sizeof(a->key), "%s", key);
	memset(a->body, 0, sizeof(a->body));
	snprintf(a->body, sizeof(a->body), "%s", body);
	a->next = *bucket;
	*bucket = a;
	return a;
}

NOINLINE static size_t handle(const char *request)
{
	const struct answer *answer = cache_get(request);
	char *body;

	if (answer)
		return strlen(answer->body);
	body = must(malloc(512));
	snprintf(body, 512, "<p>an answer to %s</p>", request);
	answer = cache_put(request, body);
	free(body);
	churn_turn(&sessions, 60);
	return strlen(answer->body);
}

NOINLINE static void *worker(void *arg)
{
	int *socket = arg;
	char request[48];
	size_t sent = 0;

	while (recv(*socket, request, sizeof(request), 0) == (ssize_t)sizeof(request))
		sent += handle(request);
	return (void *)sent;
}

int main(int argc, char **argv)
{
	double seconds = seconds_arg(argc, argv), start = now_s();
	int ends[2];
	pthread_t thread;
	unsigned session = 4099;

	print_leak_truth("demo_server", "\"leak\"", "heap", "cache_put", LEAK_LINE,
			 800.0 * (double)sizeof(struct answer));
	churn_fill(&sessions, 4099);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 || pthread_create(&thread, NULL, worker, &ends[1]) != 0)
		return 1;
	while (now_s() - start < seconds) { /* the client */
		for (int i = 0; i < REQUESTS_PER_TURN; i++) {
			char request[48] = "";

			snprintf(request, sizeof(request), "/inbox?session=%u", session++);
			if (send(ends[0], request, sizeof(request), 0) < 0)
				return 1;
		}
		nap_ms(10);
	}
	shutdown(ends[0], SHUT_RDWR);
	pthread_join(thread, NULL);
	return 0;
}
