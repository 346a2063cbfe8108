/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "session/private.h"

/* The signal flag: one of the two mutable globals. Bits of SIGNAL_*; `ending` is non-zero once a look should be cut short. */
static struct {
	atomic_int bits;
	volatile int ending;
	volatile int wake_fd;       /* eventfd: a signal wakes the main loop without a race */
	volatile int second_leaves; /* the second SIGINT ends memwatch on the spot: the kernel lets go of all */
	volatile int interrupted;   /* a SIGINT came */
} flag;

/* From another process rather than from the terminal, whose signals the child gets by itself. */
static int forwarded(const siginfo_t *info, int bit)
{
	return info->si_code <= 0 ? bit | (bit << SIGNAL_SENT_SHIFT) : bit;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
	int saved = errno;
	uint64_t one = 1;

	(void)context;
	switch (signal) {
	case SIGINT:
		if (flag.second_leaves && flag.interrupted)
			_exit(128 + SIGINT);
		flag.interrupted = 1;
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_INT));
		flag.ending = 1;
		break;
	case SIGTERM:
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_TERM));
		flag.ending = 1;
		break;
	case SIGHUP:
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_HUP));
		flag.ending = 1;
		break;
	case SIGQUIT:
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_QUIT));
		flag.ending = 1;
		break;
	case SIGTSTP:
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_TSTP));
		break;
	case SIGCONT:
		atomic_fetch_or(&flag.bits, forwarded(info, SIGNAL_CONT));
		break;
	default:
		atomic_fetch_or(&flag.bits, SIGNAL_CHILD);
		break;
	}
	if (flag.wake_fd > 0 && write(flag.wake_fd, &one, sizeof(one)) < 0)
		flag.ending |= 0; /* full: the loop wakes anyway */
	errno = saved;
}

/* SIGPIPE is caught rather than ignored, because an ignored signal would stay ignored in the child. */
static void catch_signal(int signal)
{
	struct sigaction old, action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	/* What the caller had ignored (nohup) stays ignored, for us and for the child. */
	if (sigaction(signal, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
		return;
	sigemptyset(&action.sa_mask);
	sigaction(signal, &action, NULL);
}

void session_signals_install(void)
{
	static const int caught[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGCHLD, SIGPIPE };

	flag.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (size_t i = 0; i < sizeof(caught) / sizeof(*caught); i++)
		catch_signal(caught[i]);
}

void signals_catch_child(void)
{
	if (flag.wake_fd > 0)
		catch_signal(SIGCHLD);
}

int signals_wake_fd(void)
{
	return flag.wake_fd > 0 ? flag.wake_fd : -1;
}

int signals_take(void)
{
	int bits;
	uint64_t count;

	while (flag.wake_fd > 0 && read(flag.wake_fd, &count, sizeof(count)) > 0)
		;
	bits = atomic_exchange(&flag.bits, 0);
	flag.ending = 0;
	return bits;
}

void signals_second_leaves(void)
{
	flag.second_leaves = 1;
}

const volatile int *signals_pending(void)
{
	return &flag.ending;
}
