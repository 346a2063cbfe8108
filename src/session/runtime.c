/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The language runtime of one target: found once in a program image, then read as often as the budget bears. */
#include <errno.h>
#include <math.h>

#include "memwatch/base/clock.h"
#include "session/private.h"

/* It starts in the first moments of a program, or is loaded at any time (embedded): looked for at ever longer intervals. */
#define BACKOFF_FIRST_NS (10 * NS_PER_MS)
#define BACKOFF_MAX_NS (60 * NS_PER_S)
#define BACKOFF_TORN_NS (NS_PER_S) /* it is there, and starting */

static int find_data(void *arg, const char *name, uint64_t *ret)
{
	return symbols_find_data(arg, name, ret);
}

/* What will not change while this program runs: said once, and no more tried. */
static bool is_refusal(struct target *t, int rc, const struct err *why)
{
	if (rc != -ENOTSUP && rc != -EPERM && rc != -EACCES)
		return false;
	session_gap_err(t->session, "runtime", why);
	t->rungs[RUNG_RUNTIME].off = true;
	return true;
}

static void probe(struct target *t)
{
	struct runtime_query query = { .mem = t->mem };
	struct err why = ERR_INIT;
	int rc;
	uint64_t wait = t->runtime_backoff_ns ? 2 * t->runtime_backoff_ns : BACKOFF_FIRST_NS;
	uint64_t most;

	/* Not when a name is asked for: readers hold what mem_regions() gave them, which the update would take away. No file is opened before. */
	if (target_symbols(t) == 0 && symbols_update(t->symbols, t->mem) == 0) {
		query.find = find_data;
		query.arg = t->symbols;
	}
	rc = runtime_probe(&query, &t->runtime, &why);
	if (rc > 0) {
		runtime_describe(t->runtime, &t->info_arena, &t->info.runtime);
		return;
	}
	t->runtime = NULL;
	if (is_refusal(t, rc, &why))
		return;
	most = rc == -EAGAIN ? BACKOFF_TORN_NS : BACKOFF_MAX_NS;
	t->runtime_backoff_ns = wait < most ? wait : most;
}

static void read_stats(struct target *t, struct sample *sample)
{
	struct runtime_stats stats;
	struct err why = ERR_INIT;
	int rc;

	arena_reset(&t->runtime_spare);
	rc = runtime_read(t->runtime, t->mem, &t->runtime_spare, &stats, &why);
	if (rc < 0) { /* -EAGAIN: the next one will do; -ESRCH: the loop learns it */
		(void)is_refusal(t, rc, &why);
		return;
	}
	swap_arenas(&t->runtime_arena, &t->runtime_spare);
	if (!t->has_runtime) /* some learn their version only as they read */
		runtime_describe(t->runtime, &t->info_arena, &t->info.runtime);
	t->runtime_stats = stats;
	t->has_runtime = true;
	if (!stats.live_is_stale && !isnan(stats.live_bytes))
		sample->v[METRIC_RUNTIME_LIVE] = stats.live_bytes;
}

void look_runtime(struct target *t, struct sample *sample, uint64_t now_ns, bool final)
{
	struct rung_state *rung = &t->rungs[RUNG_RUNTIME];
	uint64_t begin = clock_self_cpu_ns();

	if (rung->off || !t->mem)
		return;
	/* A runtime that ends has taken its heap down: what it held while it ran is the last that was read before. */
	if (t->has_runtime && t->exiting)
		return;
	if (!(final ? rung_affordable(t, RUNG_RUNTIME, now_ns) : rung_due(t, RUNG_RUNTIME, now_ns)))
		return;
	if (!t->runtime)
		probe(t);
	if (t->runtime)
		read_stats(t, sample);
	rung_done(t, RUNG_RUNTIME, clock_self_cpu_ns() - begin);
	if (!t->runtime && rung->due_ns < now_ns + t->runtime_backoff_ns)
		rung->due_ns = now_ns + t->runtime_backoff_ns;
}
