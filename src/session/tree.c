/* SPDX-License-Identifier: GPL-3.0-or-later */
/* --children: finding the processes below the target, and the sum over them. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "session/private.h"

static void add_children_of(struct session *s, struct proc *proc, pid_t parent)
{
	cleanup_free pid_t *pids = NULL;
	size_t cap = 0, count = 0;

	if (proc_read_children(proc, &pids, &cap, &count) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct err why = ERR_INIT;

		if (pids[i] == getpid() || session_find(s, pids[i]))
			continue;
		int rc = session_add(s, pids[i], false, parent, &why);

		if (rc == -EOVERFLOW)
			session_gap_err(s, "observe", &why);
		if (rc < 0)
			continue; /* ended meanwhile, or a zombie */
		if (s->listener.event)
			s->listener.event(s->listener.arg, session_time(s, 0), parent, "fork", NULL, (double)pids[i]);
	}
}

void look_children(struct session *s, struct target *t, uint64_t now_ns)
{
	uint64_t begin = clock_now_ns();
	struct err why = ERR_INIT;
	struct proc self = PROC_INIT;

	if (!rung_due(t, RUNG_CHILDREN, now_ns))
		return;
	add_children_of(s, &t->proc, t->proc.id.pid);
	/* Orphans of `run` become ours, because memwatch is their subreaper. */
	if (s->child > 0 && t == s->targets[0]) {
		if (proc_open(getpid(), &self, &why) >= 0)
			add_children_of(s, &self, getpid());
		proc_close(&self);
	}
	rung_done(t, RUNG_CHILDREN, clock_now_ns() - begin);
}

void tree_add_up(struct session *s)
{
	struct metric_summary *sum = &s->tree_pss;
	double total = 0.0;

	for (size_t i = 0; i < s->target_count; i++) {
		const struct target *t = s->targets[i];

		if (!t->gone && !isnan(t->last.v[METRIC_PSS]))
			total += t->last.v[METRIC_PSS];
	}
	if (total <= 0.0)
		return;
	if (sum->count == 0) {
		sum->first = sum->min = sum->max = total;
		sum->slope_per_s = (struct interval){ NAN, NAN, NAN };
	}
	sum->count++;
	sum->last = total;
	sum->min = total < sum->min ? total : sum->min;
	sum->max = total > sum->max ? total : sum->max;
	s->tree_pss_sum += total;
	sum->mean = s->tree_pss_sum / (double)sum->count;
}
