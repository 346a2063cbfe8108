/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/clock.h"
#include "session/private.h"

const struct rung_info rung_table[RUNG_COUNT] = {
	[RUNG_STAT] = { "stat", 100 * NS_PER_MS, 0.03 },
	[RUNG_STATUS] = { "status", 1000 * NS_PER_MS, 0.02 },
	[RUNG_IO] = { "io", 1000 * NS_PER_MS, 0.02 },
	[RUNG_FDS] = { "fds", 2000 * NS_PER_MS, 0.02 },
	[RUNG_ROLLUP] = { "smaps_rollup", 500 * NS_PER_MS, 0.07 },
	[RUNG_SMAPS] = { "smaps", 5000 * NS_PER_MS, 0.04 },
	[RUNG_CGROUP] = { "cgroup", 1000 * NS_PER_MS, 0.02 },
	[RUNG_NET] = { "net", 1000 * NS_PER_MS, 0.01 },
	[RUNG_UNITS] = { "work", 0, 0.05 },
	[RUNG_HEAP] = { "heap", 100 * NS_PER_MS, 0.33 }, /* see share_of() */
	[RUNG_RUNTIME] = { "runtime", 100 * NS_PER_MS, 0.12 },
	[RUNG_SITES] = { "sites", 50 * NS_PER_MS, 0.20 },
	[RUNG_CHILDREN] = { "children", 50 * NS_PER_MS, 0.03 },
	[RUNG_VERDICT] = { "verdict", 500 * NS_PER_MS, 0.04 },
};

bool rung_due(const struct target *t, enum rung rung, uint64_t now_ns)
{
	return !t->rungs[rung].off && now_ns >= t->rungs[rung].due_ns;
}

/* Most targets have no runtime, and some have no heap that is known: the one has what the other does not need. */
static double share_of(const struct target *t, enum rung rung)
{
	double share = rung_table[rung].share;

	if (rung == RUNG_HEAP && !t->runtime)
		share += rung_table[RUNG_RUNTIME].share;
	if (rung == RUNG_RUNTIME && !t->walker)
		share += rung_table[RUNG_HEAP].share;
	return share;
}

/* How long after a look of that cost the budget allows the next. */
static uint64_t pause_after(const struct target *t, enum rung rung, uint64_t cost_ns)
{
	double budget = t->session->options.budget_percent / 100.0 * share_of(t, rung);

	return (uint64_t)((double)cost_ns / budget) * (t->session->living ? t->session->living : 1);
}

void rung_done(struct target *t, enum rung rung, uint64_t cost_ns)
{
	uint64_t now = clock_now_ns(), wait = pause_after(t, rung, cost_ns);

	t->rungs[rung].cost_ns = cost_ns;
	if (wait < rung_table[rung].period_ns)
		wait = rung_table[rung].period_ns;
	t->rungs[rung].due_ns = now + wait;
	t->rungs[rung].runs++;
}

void rung_retry(struct target *t, enum rung rung, uint64_t in_ns)
{
	t->rungs[rung].due_ns = clock_now_ns() + in_ns;
}

void rung_expect(struct target *t, enum rung rung, uint64_t cost_ns)
{
	struct rung_state *state = &t->rungs[rung];
	uint64_t due = t->image_ns + pause_after(t, rung, cost_ns);

	if (state->runs > 0)
		return;
	state->cost_ns = cost_ns;
	if (due > state->due_ns)
		state->due_ns = due;
}

bool rung_affordable(const struct target *t, enum rung rung, uint64_t now_ns)
{
	uint64_t elapsed = now_ns - t->image_ns;
	bool is_main = t == t->session->targets[0];

	if (t->standing && !t->session->over && is_main)
		return true;
	/* One of many children that live for moments: only what costs next to nothing. */
	if (t->rungs[rung].runs == 0 && !is_main)
		return rung == RUNG_STAT || rung == RUNG_STATUS || rung == RUNG_ROLLUP;
	return pause_after(t, rung, t->rungs[rung].cost_ns) <= 2 * elapsed;
}
