/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A live python that tells the truth about itself and then stands still, and its data symbols. */
#ifndef MEMWATCH_TEST_SUPPORT_CPYTHON_H
#define MEMWATCH_TEST_SUPPORT_CPYTHON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct python {
	pid_t pid;
	int in_fd, out_fd;
	/* What it said of itself; then it blocks in read(0) until it is told to go on or to end. */
	double in_use_bytes, pool_free_bytes, arenas, arena_bytes; /* sys._debugmallocstats(); NAN: not said */
	double tracked, collections;                               /* len(gc.get_objects()), gc.get_stats()[2] */
	char version[64];
};

/* Runs the program's text before the truth is told; `more`, where not NULL, after the first python_go_on(). env: "NAME=value" or NULL. */
bool python_start(struct python *p, const char *const *command, const char *env, const char *before, const char *more);
void python_go_on(struct python *p);   /* and waits for the next truth */
void python_release(struct python *p); /* goes on, and is not waited for */
void python_end(struct python *p);

/* The `find` of a runtime_query; arg: a pid_t *. */
int python_find_symbol(void *arg, const char *name, uint64_t *ret);

#endif
