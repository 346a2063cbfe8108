/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build: -Wl,-z,lazy */
/*
 * Says where the allocator's functions are and what it calls, command by command, so that a test can lead its slots to count_malloc() and
 * count_free(), and see whether every call comes by. Its only argument is a plugin to load.
 *
 *     c calls; a prints into new blocks; o opens the plugin; p lets it call; x closes it; n opens it in a namespace of its own; q ends
 */
#include <dlfcn.h>

#include "victim.h"

#define DIRECT 23
#define COPIES 7
#define CUT 3
#define PRINTED 3

static void *(*real_malloc)(size_t);
static void (*real_free)(void *);
static volatile int mallocs, frees;
static void *plugin;

NOINLINE static void *count_malloc(size_t size)
{
	mallocs++;
	return real_malloc(size);
}

NOINLINE static void count_free(void *block)
{
	frees++;
	real_free(block);
}

NOINLINE static void call_all(void)
{
	void *blocks[DIRECT + COPIES + CUT];
	int n = 0;

	for (int i = 0; i < DIRECT; i++)
		blocks[n++] = must(malloc((size_t)(17 + i)));
	for (int i = 0; i < COPIES; i++)
		blocks[n++] = must(strdup("a text that libc copies"));
	for (int i = 0; i < CUT; i++)
		blocks[n++] = must(strndup("a text that libc copies", 7));
	while (n > 0)
		free(blocks[--n]);
}

/* How often libc takes blocks and gives them back for this depends on its version. */
NOINLINE static void print_all(void)
{
	for (int i = 0; i < PRINTED; i++) {
		char *text = NULL;

		if (asprintf(&text, "number %d", i) < 0)
			abort();
		free(text);
	}
}

static void command(char c, const char *path)
{
	void (*work)(void);

	mallocs = frees = 0;
	if (c == 'c')
		call_all();
	else if (c == 'a')
		print_all();
	else if (c == 'o')
		plugin = must(dlopen(path, RTLD_NOW | RTLD_LOCAL));
	else if (c == 'n')
		must(dlmopen(LM_ID_NEWLM, path, RTLD_NOW));
	else if (c == 'x')
		dlclose(plugin);
	else if (c == 'p') {
		*(void **)&work = must(dlsym(plugin, "plugin_work"));
		mallocs = frees = 0;
		work();
	} else
		exit(0);
	dprintf(STDOUT_FILENO, "%d %d\n", mallocs, frees);
}

int main(int argc, char **argv)
{
	static const char *const names[] = { "malloc",       "calloc", "realloc", "free", "posix_memalign",
					     "reallocarray", "mmap",   "munmap",  "sbrk" };
	char c;

	*(void **)&real_malloc = must(dlsym(RTLD_DEFAULT, "malloc"));
	*(void **)&real_free = must(dlsym(RTLD_DEFAULT, "free"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		dprintf(STDOUT_FILENO, "real %s %lx\n", names[i], (unsigned long)dlsym(RTLD_DEFAULT, names[i]));
	dprintf(STDOUT_FILENO, "ready %lx %lx\n", (unsigned long)count_malloc, (unsigned long)count_free);
	while (read(STDIN_FILENO, &c, 1) == 1)
		command(c, argc > 1 ? argv[1] : "");
	return 0;
}
