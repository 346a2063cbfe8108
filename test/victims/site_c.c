/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Thirteen ways to leak in C. site_c SECONDS KIND [OPTIONS], see site.h. */
/* build: -fomit-frame-pointer */
#include "site.h"

#include <malloc.h>
#include <sys/mman.h>

static void *volatile site_sink; /* what is lost here can be reached until the next */

/* ---- how the churn takes ----------------------------------------------------------------------------------------------- */

NOINLINE static void *churn_malloc(size_t size)
{
	char *block = must(malloc(size));

	*block = 1;
	return block;
}

NOINLINE static void *churn_calloc(size_t size)
{
	return must(calloc(1, size));
}

NOINLINE static void *churn_realloc(size_t size)
{
	return must(realloc(must(malloc(16)), size));
}

NOINLINE static void *churn_strdup(size_t size)
{
	static const char long_text[] = /* of 1,039 characters, and the end of it is taken */
#define T16 "0123456789abcdef"
#define T128 T16 T16 T16 T16 T16 T16 T16 T16
		T128 T128 T128 T128 T128 T128 T128 T128 "0123456789abcde";

	return must(strdup(long_text + sizeof(long_text) - (size < sizeof(long_text) ? size : sizeof(long_text))));
}

NOINLINE static void *churn_memalign(size_t size)
{
	char *block = must(memalign(64, size));

	*block = 1;
	return block;
}

/* ---- the leaks --------------------------------------------------------------------------------------------------------- */

enum { MALLOC_LINE = __LINE__ + 3 };
NOINLINE static void leak_malloc(size_t size)
{
	char *block = must(malloc(size));

	memset(block, 1, size);
	site_sink = block;
}

enum { CALLOC_LINE = __LINE__ + 3 };
NOINLINE static void leak_calloc(size_t size)
{
	char *block = must(calloc(1, size));

	block[size / 2] = 1;
	site_sink = block;
}

/* A vector of each session's events doubles as they come, and is forgotten when the session ends. */
struct vector {
	int *items;
	size_t count, cap;
};

enum { VECTOR_LINE = __LINE__ + 5 };
NOINLINE static void vector_push(struct vector *v, int item)
{
	if (v->count == v->cap) {
		v->cap = v->cap ? 2 * v->cap : 4;
		v->items = must(realloc(v->items, v->cap * sizeof(*v->items)));
	}
	v->items[v->count++] = item;
}

NOINLINE static void leak_vector(size_t size)
{
	struct vector session = { 0 };

	for (size_t i = 0; i < size / sizeof(*session.items); i++)
		vector_push(&session, (int)i);
	site_sink = session.items;
}

/* One buffer for all lines that were ever logged. */
static char *log_text;
static size_t log_len, log_cap;

enum { LOG_LINE = __LINE__ + 5 };
NOINLINE static void leak_log(size_t size)
{
	if (log_len + size > log_cap) {
		log_cap += 4096;
		log_text = must(realloc(log_text, log_cap));
	}
	memset(log_text + log_len, 'l', size);
	log_len += size;
}

enum { STRDUP_LINE = __LINE__ + 7 };
NOINLINE static void leak_strdup(size_t size)
{
	char text[4096];

	memset(text, 's', size);
	text[size - 1] = '\0';
	char *copy = must(strdup(text));

	site_sink = copy;
}

enum { ASPRINTF_LINE = __LINE__ + 5 };
NOINLINE static void leak_asprintf(size_t size)
{
	char *text = NULL;

	if (asprintf(&text, "%0*d", (int)size - 1, 17) < 0)
		abort();
	site_sink = text;
}

/* getline() takes a buffer for the first line, which the loop forgets at every turn. */
enum { GETLINE_LINE = __LINE__ + 10 };
NOINLINE static void leak_getline(size_t size)
{
	static char text[4096];
	char *line = NULL;
	size_t cap = 0;
	FILE *file;

	memset(text, 'g', size);
	file = must(fmemopen(text, size - 1, "r"));
	if (getline(&line, &cap, file) < 0)
		abort();
	fclose(file);
	site_sink = line;
}

enum { MEMALIGN_LINE = __LINE__ + 3 };
NOINLINE static void leak_memalign(size_t size)
{
	char *block = must(memalign(64, size));

	memset(block, 1, size);
	site_sink = block;
}

enum { MMAP_LINE = __LINE__ + 3 };
NOINLINE static void leak_mmap(size_t size)
{
	char *region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (region == MAP_FAILED)
		abort();
	memset(region, 1, size);
	site_sink = region;
}

/* Everybody here, the churn too, takes memory by this. */
NOINLINE static void *xmalloc(size_t size)
{
	char *block = malloc(size);

	if (!block) {
		fputs("out of memory\n", stderr);
		exit(1);
	}
	*block = 1;
	return block;
}

enum { XMALLOC_LINE = __LINE__ + 3 };
NOINLINE static void leak_xmalloc(size_t size)
{
	void *block = xmalloc(size);

	memset(block, 2, size);
	site_sink = block;
}

NOINLINE static void *churn_xmalloc(size_t size)
{
	char *block = xmalloc(size);

	block[size - 1] = 3;
	return block;
}

/* Handlers in a table; one keeps a copy of what it is given. */
typedef void handler(const char *event, size_t size);

NOINLINE static void on_open(const char *event, size_t size)
{
	char *copy = must(malloc(size));

	memcpy(copy, event, size);
	site_sink = copy;
	free(copy);
}

enum { CALLBACK_LINE = __LINE__ + 3 };
NOINLINE static void on_close(const char *event, size_t size)
{
	char *copy = must(malloc(size));

	memcpy(copy, event, size);
	site_sink = copy;
}

static handler *volatile handlers[] = { on_open, on_open, on_close, on_open };

NOINLINE static void leak_callback(size_t size)
{
	static const char event[4096] = "event";

	for (size_t i = 0; i < sizeof(handlers) / sizeof(*handlers); i++)
		handlers[i](event, size);
}

/* A chained hash table, grown as it fills. */
struct node {
	struct node *next;
	uint64_t key;
	char value[];
};

static struct node **buckets;
static size_t bucket_count, node_count;

NOINLINE static void hash_grow(void)
{
	size_t count = bucket_count ? 2 * bucket_count : 256;
	struct node **larger = must(calloc(count, sizeof(*larger)));

	for (size_t i = 0; i < bucket_count; i++)
		for (struct node *n = buckets[i], *next; n; n = next) {
			next = n->next;
			n->next = larger[n->key % count];
			larger[n->key % count] = n;
		}
	free(buckets);
	buckets = larger;
	bucket_count = count;
}

enum { HASH_LINE = __LINE__ + 8 };
NOINLINE static void hash_insert(size_t size)
{
	static uint64_t random = 104729;
	struct node *n;

	if (node_count >= bucket_count)
		hash_grow();
	n = must(malloc(size));
	memset(n, 1, size);
	n->key = next_random(&random);
	n->next = buckets[n->key % bucket_count];
	buckets[n->key % bucket_count] = n;
	node_count++;
}

/* A thousand requests, of which one fails and forgets what it had. */
enum { REQUEST_LINE = __LINE__ + 3 };
NOINLINE static void handle_request(size_t size, bool fails)
{
	char *context = must(malloc(size));
	char *answer = must(malloc(size / 2));

	memset(context, 1, size);
	*answer = *context;
	site_sink = context;
	free(answer);
	if (!fails)
		free(context);
}

NOINLINE static void leak_request(size_t size)
{
	for (int i = 0; i < 1000; i++)
		handle_request(size, i == 577);
}

static const struct site_kind kinds[] = {
	{ "malloc", "leak_malloc", MALLOC_LINE, leak_malloc, churn_malloc, free, "", "heap" },
	{ "calloc", "leak_calloc", CALLOC_LINE, leak_calloc, churn_calloc, free, "", "heap" },
	{ "vector", "vector_push", VECTOR_LINE, leak_vector, churn_realloc, free, "", "heap" },
	{ "log", "leak_log", LOG_LINE, leak_log, churn_realloc, free, "", "heap" },
	{ "strdup", "leak_strdup", STRDUP_LINE, leak_strdup, churn_strdup, free, "", "heap" },
	{ "asprintf", "leak_asprintf", ASPRINTF_LINE, leak_asprintf, churn_malloc, free, "", "heap" },
	{ "getline", "leak_getline", GETLINE_LINE, leak_getline, churn_malloc, free, "", "heap" },
	{ "memalign", "leak_memalign", MEMALIGN_LINE, leak_memalign, churn_memalign, free, "", "heap" },
	{ "mmap", "leak_mmap", MMAP_LINE, leak_mmap, churn_malloc, free, "", "anon" },
	{ "xmalloc", "leak_xmalloc", XMALLOC_LINE, leak_xmalloc, churn_xmalloc, free, "xmalloc", "heap" },
	{ "callback", "on_close", CALLBACK_LINE, leak_callback, churn_malloc, free, "", "heap" },
	{ "hash", "hash_insert", HASH_LINE, hash_insert, churn_malloc, free, "", "heap" },
	{ "request", "handle_request", REQUEST_LINE, leak_request, churn_malloc, free, "", "heap" },
};

int main(int argc, char **argv)
{
	return site_main(argc, argv, "site_c", kinds, sizeof(kinds) / sizeof(*kinds));
}
