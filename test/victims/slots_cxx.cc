// SPDX-License-Identifier: GPL-3.0-or-later
// new and delete, counted as slots_target does: those of malloc and free below them, or those of the operators themselves.
/* build: -Wl,-z,now */
#include <dlfcn.h>
#include <new>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void *(*real_malloc)(size_t);
static void (*real_free)(void *);
static volatile int mallocs, frees;

static void *count_malloc(size_t size)
{
	mallocs = mallocs + 1;
	return real_malloc(size);
}

static void count_free(void *block)
{
	frees = frees + 1;
	real_free(block);
}

int main()
{
	char c;

	*(void **)&real_malloc = dlsym(RTLD_DEFAULT, "malloc");
	*(void **)&real_free = dlsym(RTLD_DEFAULT, "free");
	dprintf(1, "real _Znwm %lx\n", (unsigned long)dlsym(RTLD_DEFAULT, "_Znwm"));
	dprintf(1, "ready %lx %lx\n", (unsigned long)count_malloc, (unsigned long)count_free);
	while (read(0, &c, 1) == 1 && c == 'c') {
		long *volatile one[13];
		char *volatile many[17];

		mallocs = frees = 0;
		for (auto &block : one)
			block = new long(c);
		for (auto &block : many)
			block = new char[103];
		for (auto &block : one)
			delete block;
		for (auto &block : many)
			delete[] block;
		dprintf(1, "%d %d\n", mallocs, frees);
	}
	return 0;
}
