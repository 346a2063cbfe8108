/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "private.h"

/* The library is loaded only when a server may be asked: it brings libcurl and a dozen others with it. */
#define DEBUGINFOD_LIBRARY "libdebuginfod.so.1"

struct client;
struct functions {
	struct client *(*begin)(void);
	int (*find)(struct client *client, const unsigned char *id, int len, char **path);
	void (*end)(struct client *client);
};

struct limit {
	const char *name, *seconds;
};

/* Its own patience is 90 s a file; a report must not wait that long. What the user has set stands. */
static const struct limit limits[] = { { "DEBUGINFOD_TIMEOUT", "5" }, { "DEBUGINFOD_MAXTIME", "10" } };
#define LIMITS (sizeof(limits) / sizeof(limits[0]))

static bool load_function(void *library, const char *name, void *ret_function)
{
	void *function = dlsym(library, name);

	if (function)
		*(void **)ret_function = function;
	return function;
}

static bool load(void *library, struct functions *f)
{
	return load_function(library, "debuginfod_begin", &f->begin) &&
	       load_function(library, "debuginfod_find_debuginfo", &f->find) &&
	       load_function(library, "debuginfod_end", &f->end);
}

int debuginfod_open(const unsigned char *id, size_t len)
{
	/* Never closed again: libcurl and its TLS library do not survive being unloaded. */
	void *library = dlopen(DEBUGINFOD_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	bool ours[LIMITS] = { false };
	struct functions f;
	struct client *client;
	int fd = -ENOENT;

	if (!library || !load(library, &f))
		return -ENOENT;
	for (size_t i = 0; i < LIMITS; i++)
		ours[i] = !getenv(limits[i].name) && setenv(limits[i].name, limits[i].seconds, 0) == 0;
	client = f.begin();
	if (client) {
		fd = f.find(client, id, (int)len, NULL);
		f.end(client);
	}
	for (size_t i = 0; i < LIMITS; i++)
		if (ours[i])
			unsetenv(limits[i].name);
	return fd;
}
