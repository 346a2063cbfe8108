/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Prints the number of every signal that it gets, one a line; SIGTERM ends it with status 43. signals_child [SECONDS] */
#include "victim.h"

#include <signal.h>

int main(int argc, char **argv)
{
	static const int caught[] = { SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH };
	double end = now_s() + seconds_arg(argc, argv);
	struct timespec wait = { .tv_sec = 0, .tv_nsec = 50000000 };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaddset(&set, caught[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	print_truth("signals_child", "\"stable\", \"insufficient-data\"", "");
	while (now_s() < end) {
		int got = sigtimedwait(&set, NULL, &wait);

		if (got < 0)
			continue;
		printf("signal %d\n", got);
		fflush(stdout);
		if (got == SIGTERM)
			return 43;
	}
	return 0;
}
