/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Blocks in a known chain of calls and says so: "ready", one line. Its first argument chooses the chain:
 *   recursion N   main -> recurse (N + 1 times) -> block
 *   inlined       main -> outer -> [middle -> inner inlined] -> block
 *   signal        main -> interrupted -> handler -> block
 *   pointer       main -> dispatch -> block, through a table
 *   null          main -> call_nothing -> address 0; the handler of SIGSEGV on top: handler -> block
 * Each call is followed by a store, so that no compiler makes it a jump.
 */
#include <signal.h>

#include "victim.h"

volatile int after;

NOINLINE static void block(void)
{
	printf("ready\n");
	fflush(stdout);
	for (;;)
		pause();
}

NOINLINE static int recurse(long n)
{
	int r = 0;

	if (n == 0)
		block();
	else
		r = recurse(n - 1);
	after = r + 1;
	return after;
}

static inline __attribute__((always_inline)) void inner(void)
{
	block(); /* line of inner */
	after = 1;
}

static inline __attribute__((always_inline)) void middle(void)
{
	after = 2;
	inner(); /* line of middle */
	after = 3;
}

NOINLINE static void outer(void)
{
	after = 4;
	middle(); /* line of outer */
	after = 5;
}

NOINLINE static void handler(int signal)
{
	(void)signal;
	block();
	after = 6;
}

NOINLINE static void interrupted(void)
{
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	after = 7;
}

static void (*const table[])(void) = { block, outer };

NOINLINE static void dispatch(volatile unsigned index)
{
	table[index % 2]();
	after = 8;
}

NOINLINE static void call_nothing(void (*volatile function)(void))
{
	signal(SIGSEGV, handler);
	function();
	after = 9;
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "recursion";

	if (strcmp(mode, "recursion") == 0)
		recurse(long_arg(argc, argv, 2, 3));
	else if (strcmp(mode, "inlined") == 0)
		outer();
	else if (strcmp(mode, "signal") == 0)
		interrupted();
	else if (strcmp(mode, "pointer") == 0)
		dispatch(0);
	else if (strcmp(mode, "null") == 0)
		call_nothing(NULL);
	return after;
}
