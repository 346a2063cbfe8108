/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "trace_internal.h"

#include <errno.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/*
 * A busy target's threads, once resumed, take the CPU from a tracer of equal priority before it has resumed the rest: what
 * should be a stop of 0.1 ms becomes 10 ms. So the tracer outranks them for the length of the window, where it may.
 */
bool priority_raise(struct priority *p)
{
	struct sched_param param = { 0 };
	int slack = prctl(PR_GET_TIMERSLACK);

	*p = (struct priority){ .policy = sched_getscheduler(0), .slack = slack > 0 ? (unsigned long)slack : 0 };
	if (sched_getparam(0, &param) == 0)
		p->param = param.sched_priority;
	if (p->slack > 0)
		prctl(PR_SET_TIMERSLACK, 1UL); /* pauses are short: the default adds 50 us to each */
	if (p->policy < 0)
		return false;
	if ((p->policy & ~SCHED_RESET_ON_FORK) == SCHED_FIFO || (p->policy & ~SCHED_RESET_ON_FORK) == SCHED_RR)
		return true;
	param.sched_priority = 1;
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param) == 0) {
		p->raised_policy = true;
		return true;
	}
	errno = 0;
	p->nice = getpriority(PRIO_PROCESS, 0);
	if (errno == 0 && setpriority(PRIO_PROCESS, 0, -20) == 0) {
		p->raised_nice = true;
		return true;
	}
	return false;
}

void priority_restore(const struct priority *p)
{
	struct sched_param param = { .sched_priority = p->param };

	if (p->raised_policy && sched_setscheduler(0, p->policy, &param) < 0) {
		/* real time by rlimit, without CAP_SYS_NICE: the flag cannot be cleared, the policy can */
		(void)sched_setscheduler(0, p->policy | SCHED_RESET_ON_FORK, &param);
	}
	if (p->raised_nice)
		(void)setpriority(PRIO_PROCESS, 0, p->nice);
	if (p->slack > 0)
		prctl(PR_SET_TIMERSLACK, p->slack);
}
