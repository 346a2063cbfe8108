/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Which source of call sites a target has, and its looks.
 *
 * What is tried in turn, until one opens:
 *     --sites probe                        probe, faults, stacks
 *     --sites auto, memwatch's own child   probe, faults, stacks; the probe after some moments, for many a program ends at once
 *     --sites auto, --pid                  faults, and stacks beside it
 *     --sites faults                       faults, stacks
 *
 * Why both for --pid: page faults name who touched memory first. In a heap under churn that is whoever came by, not who keeps the block; and
 * a mapping is touched by memset, not by who asked for it. Stacks name the call by which memory was asked for, and follow the block.
 * But memory that grows without any call (a runtime's own heap, a pool that was mapped in advance) only faults see. So each keeps its own
 * book, they share the rung's budget, and sources_report() takes the book of stacks where calls explain most of the growth it saw.
 *
 * Children that are watched beside the target (--children) have stacks: a tree of thousands of short ones must not pay for more.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "session/private.h"

#define RATE_WINDOW_S 0.5
#define STARTUP_S 0.3               /* what a program maps while it starts is no growth */
#define GROWTH_MIN_BYTES (16 << 10) /* over one rate window: less is noise */
#define KNOWN_EVENTS 32
#define KNOWN_PAUSE_NS (500 * NS_PER_MS)
#define OPEN_RETRY_NS (50 * NS_PER_MS)
#define OPEN_COST_PAUSES 20
#define LOOK_MAX_NS (60 * NS_PER_MS)
#define STOP_MAX_NS (1 * NS_PER_MS)
#define BESIDE_SHARE 0.8        /* of the rung's budget, for stacks beside faults */
#define EXPLAINED_SHARE 0.5     /* of the growth, by calls: then who asked for it is the better answer */
#define LOOK_LATEST_NS NS_PER_S /* of a source that samples all the time: its buffers must not overflow */

static const struct site_source_ops *const in_turn[] = { &sites_probe, &sites_faults, &sites_stacks, NULL };

static const struct site_source_ops *after(const struct site_source_ops *ops)
{
	for (size_t i = 0; in_turn[i]; i++)
		if (in_turn[i] == ops)
			return in_turn[i + 1];
	return NULL;
}

void sources_choose(struct target *t)
{
	const struct session *s = t->session;
	bool is_child = s->child > 0 && t->proc.id.pid == s->child;

	t->next = &sites_stacks;
	t->beside_due_ns = UINT64_MAX;
	if (s->target_count > 0 && s->targets[0] != t)
		return;
	if (s->options.sites == SITES_PROBE || (s->options.sites == SITES_AUTO && is_child))
		t->next = &sites_probe;
	else if (s->options.sites == SITES_FAULTS || s->options.sites == SITES_AUTO)
		t->next = &sites_faults;
	if (s->options.sites == SITES_AUTO && !is_child)
		t->beside_due_ns = 0;
}

static bool has_beside(const struct target *t)
{
	return t->beside_due_ns != UINT64_MAX && t->next == &sites_faults;
}

/* What the sites may use of the budget: for the source beside the other, or for the other. */
static double share_of(const struct target *t, bool beside)
{
	double all = t->session->options.budget_percent / 100.0 * rung_table[RUNG_SITES].share;

	if (beside)
		return all * BESIDE_SHARE;
	return has_beside(t) ? all * (1.0 - BESIDE_SHARE) : all;
}

static int make_books(struct target *t)
{
	int rc = target_symbols(t);

	if (rc >= 0 && !t->sites)
		rc = site_table_create(&t->sites);
	if (rc >= 0 && !t->ledger)
		rc = site_ledger_create(&t->ledger);
	return rc;
}

static int open_one(struct target *t, const struct site_source_ops *ops, bool before_main, struct site_source **ret,
		    struct err *err)
{
	struct site_context context = { .pid = t->proc.id.pid,
					.tracer = t->session->tracer,
					.mem = t->mem,
					.walker = t->walker,
					.symbols = t->symbols,
					.table = t->sites,
					.ledger = t->ledger,
					.cancel = signals_pending(),
					.cpu_share = share_of(t, ops != t->next),
					.from_start = before_main };

	return ops->open(&context, ret, err);
}

/* Opens the next source, or the one after it …; false: none yet, or none at all. */
static bool open_source(struct target *t, bool before_main)
{
	struct session *s = t->session;

	if (make_books(t) < 0)
		return false;
	while (!t->source && t->next) {
		struct err why = ERR_INIT;
		int rc = open_one(t, t->next, before_main, &t->source, &why);

		if (rc >= 0)
			break;
		t->source = NULL;
		if (rc == -ESRCH || rc == -EAGAIN || rc == -EINTR)
			return false;
		session_gap_err(s, "sites", &why);
		t->next = after(t->next);
	}
	if (!t->source)
		t->rungs[RUNG_SITES].off = true;
	return t->source != NULL;
}

void sources_before_main(struct target *t)
{
	bool asked = t->session->options.sites == SITES_PROBE && t->next == &sites_probe;

	if (asked && t->mem && !t->rungs[RUNG_SITES].off)
		(void)open_source(t, true);
}

static uint64_t due_ns(const struct target *t)
{
	if (t->gone || t->rungs[RUNG_SITES].off || !t->mem)
		return UINT64_MAX;
	if (t->rate > 0.0 || (t->next && t->next->continuous))
		return t->rungs[RUNG_SITES].due_ns;
	return UINT64_MAX;
}

static uint64_t beside_due_ns(const struct target *t)
{
	return due_ns(t) != UINT64_MAX && t->rate > 0.0 && has_beside(t) ? t->beside_due_ns : UINT64_MAX;
}

uint64_t sources_due_ns(const struct target *t)
{
	uint64_t due = due_ns(t), beside = beside_due_ns(t);

	return beside < due ? beside : due;
}

/* The present rate of growth, over windows of half a second; 0 while memory does not grow. */
static void measure_rate(struct target *t, double t_s)
{
	double rss = t->last.v[METRIC_RSS];

	if (isnan(rss))
		return;
	if (isnan(t->mark_rss) || rss < t->mark_rss || t_s - t->opened_s < STARTUP_S) {
		t->mark_rss = rss;
		t->mark_t_s = t_s;
	} else if (t_s - t->mark_t_s >= RATE_WINDOW_S) {
		double grew = rss - t->mark_rss;

		t->rate = grew >= GROWTH_MIN_BYTES ? grew / (t_s - t->mark_t_s) : 0.0;
		/* A slow leak needs more than one window to show: keep the mark until it does, or five seconds. */
		if (t->rate > 0.0 || t_s - t->mark_t_s > 5.0) {
			t->mark_rss = rss;
			t->mark_t_s = t_s;
		}
	}
}

static void charge(struct target *t, double t_s, const struct site_budget *budget)
{
	struct session *s = t->session;

	s->cost.stops += budget->stops;
	s->cost.stopped_ns_total += budget->spent_stall_ns;
	if (budget->stopped_ns_max > s->cost.stopped_ns_max)
		s->cost.stopped_ns_max = budget->stopped_ns_max;
	if (budget->stops > 0 && s->listener.event)
		s->listener.event(s->listener.arg, t_s, t->proc.id.pid, "stop", NULL, (double)budget->stopped_ns_max);
}

/* Takes out what the source has put into the target; what stays there is said. */
static void leave_source(struct target *t)
{
	struct site_budget budget = { .stop_max_ns = STOP_MAX_NS };
	struct err why = ERR_INIT;

	if (!t->source || !t->source->ops->leave)
		return;
	if (t->source->ops->leave(t->source, &budget, &why) < 0 && (why.code != ESRCH || proc_alive(&t->proc)))
		session_gap_err(t->session, "sites", &why);
	charge(t, session_time(t->session, 0), &budget);
}

static void refused_sites(struct target *t, int rc, const struct err *err)
{
	if (rc == -ESRCH || rc == -EAGAIN || rc == -EINTR)
		return;
	session_gap_err(t->session, "sites", err);
	if (rc != -EPERM && rc != -EACCES)
		return;
	leave_source(t);
	t->next = after(t->next);
	sources_close(t);
	t->rungs[RUNG_SITES].off = !t->next;
}

/* Each look stops threads of the target: once it is clear who grows, a look now and then is enough to notice a change. */
static uint64_t rest_when_known(const struct target *t, uint64_t due_ns)
{
	uint64_t events, given_back, pause, now = clock_now_ns();

	site_table_given_back(t->sites, growth_since_s(t), &events, &given_back);
	if (events - given_back < KNOWN_EVENTS)
		return due_ns;
	pause = events - given_back < 4 * KNOWN_EVENTS ? KNOWN_PAUSE_NS : 4 * KNOWN_PAUSE_NS;
	return due_ns < now + pause ? now + pause : due_ns;
}

/* The stall that one look may cause: what its share of the budget allows for two seconds. */
static uint64_t allowed_stall_ns(double share)
{
	return (uint64_t)(2.0 * share * (double)NS_PER_S);
}

static int look_once(struct target *t, struct site_source *source, double t_s, struct site_budget *budget,
		     struct err *why)
{
	double rss = t->last.v[METRIC_RSS];
	double grew = isnan(t->sites_rss) || isnan(rss) || rss < t->sites_rss ? 0.0 : rss - t->sites_rss;
	int rc = source->ops->look(source, t_s, (uint64_t)grew, t->rate, budget, why);

	if (!source->ops->continuous) /* the others count for themselves */
		t->sites_rss = rss;
	charge(t, t_s, budget);
	return rc;
}

static void set_next_look(struct target *t, const struct site_budget *budget, uint64_t cost_ns)
{
	struct rung_state *rung = &t->rungs[RUNG_SITES];
	uint64_t now = clock_now_ns();

	if (t->next && t->next->continuous) {
		rung_done(t, RUNG_SITES, cost_ns);
		if (rung->due_ns < now + budget->retry_ns)
			rung->due_ns = now + budget->retry_ns;
		if (rung->due_ns > now + LOOK_LATEST_NS)
			rung->due_ns = now + LOOK_LATEST_NS;
	} else if (budget->stops == 0 && budget->retry_ns > 0) {
		rung_retry(t, RUNG_SITES, budget->retry_ns);
	} else {
		rung_done(t, RUNG_SITES, cost_ns);
		rung->due_ns = rest_when_known(t, rung->due_ns);
	}
}

static void close_beside(struct target *t)
{
	if (t->beside)
		t->beside->ops->close(t->beside);
	t->beside = NULL;
}

static void set_next_beside(struct target *t, const struct site_budget *budget, uint64_t cost_ns)
{
	uint64_t now = clock_now_ns(), pause;

	if (budget->stops == 0 && budget->retry_ns > 0) {
		t->beside_due_ns = now + budget->retry_ns;
		return;
	}
	pause = (uint64_t)((double)cost_ns / share_of(t, true)) * (t->session->living ? t->session->living : 1);
	if (pause < rung_table[RUNG_SITES].period_ns)
		pause = rung_table[RUNG_SITES].period_ns;
	t->beside_due_ns = rest_when_known(t, now + pause);
}

/* Stacks, beside faults. Where they are refused faults are left, and the report says so. */
static void look_beside(struct target *t, uint64_t now_ns)
{
	uint64_t begin = clock_self_cpu_ns();
	struct site_budget budget = { .max_ns = LOOK_MAX_NS,
				      .stop_max_ns = STOP_MAX_NS,
				      .max_stall_ns = allowed_stall_ns(share_of(t, true)) };
	struct err why = ERR_INIT;
	int rc = 0;

	if (beside_due_ns(t) > now_ns || make_books(t) < 0)
		return;
	if (!t->beside)
		rc = open_one(t, &sites_stacks, false, &t->beside, &why);
	if (rc >= 0)
		rc = look_once(t, t->beside, session_time(t->session, now_ns), &budget, &why);
	set_next_beside(t, &budget, clock_self_cpu_ns() - begin + budget.spent_stall_ns);
	if (rc >= 0 || rc == -ESRCH || rc == -EAGAIN || rc == -EINTR)
		return;
	session_gap_err(t->session, "sites", &why);
	if (rc != -EPERM && rc != -EACCES)
		return;
	close_beside(t);
	t->beside_due_ns = UINT64_MAX;
}

void look_sites(struct target *t, uint64_t now_ns)
{
	double t_s = session_time(t->session, now_ns);
	uint64_t begin;
	struct site_budget budget = { .max_ns = LOOK_MAX_NS,
				      .stop_max_ns = STOP_MAX_NS,
				      .max_stall_ns = allowed_stall_ns(share_of(t, false)) };
	struct err why = ERR_INIT;
	int rc;

	measure_rate(t, t_s);
	look_beside(t, now_ns);
	begin = clock_self_cpu_ns();
	if (due_ns(t) > now_ns)
		return;
	if (!t->source && !open_source(t, false)) {
		uint64_t cost = clock_self_cpu_ns() - begin, pause = OPEN_COST_PAUSES * cost;

		rung_done(t, RUNG_SITES, cost);
		if (t->next) /* it is to be tried again: the run-time linker is at work for moments only */
			rung_retry(t, RUNG_SITES, pause > OPEN_RETRY_NS ? pause : OPEN_RETRY_NS);
		return;
	}
	if (!t->next->continuous && t->rate <= 0.0)
		return;
	rc = look_once(t, t->source, t_s, &budget, &why);
	set_next_look(t, &budget, clock_self_cpu_ns() - begin + budget.spent_stall_ns);
	if (rc < 0)
		refused_sites(t, rc, &why);
}

void sources_found_heap(struct target *t)
{
	if (t->source && !t->source->ops->continuous) /* it was opened without a walker: open it again with one */
		sources_close(t);
	close_beside(t);
}

void sources_refresh(struct target *t)
{
	struct site_budget budget = { .max_ns = LOOK_MAX_NS };
	struct err why = ERR_INIT;
	const struct region *regions;
	ssize_t count;

	if (t->source && t->source->ops->continuous &&
	    look_once(t, t->source, session_time(t->session, 0), &budget, &why) < 0)
		refused_sites(t, -why.code, &why);
	count = t->sites && t->mem ? mem_regions(t->mem, &regions) : -1;
	if (count >= 0)
		site_table_refresh(t->sites, regions, (size_t)count);
}

void sources_ended(struct target *t)
{
	sources_refresh(t);
	t->sites_rewound = t->ledger && site_ledger_rewind(t->ledger);
}

void sources_leave(struct target *t)
{
	struct err why = ERR_INIT;

	if (!t->source && t->next == &sites_probe && !t->rungs[RUNG_SITES].off) {
		err_set(&why, EAGAIN,
			"the probe was not placed in process %d before the end: its run-time linker was at work; "
			"watch it longer",
			(int)t->proc.id.pid);
		session_gap_err(t->session, "sites", &why);
	}
	if (t->source && t->source->ops->leave)
		leave_source(t);
	sources_close(t); /* now: what it could not see belongs in the report */
	t->rungs[RUNG_SITES].off = true;
}

void sources_close(struct target *t)
{
	const char *text;

	close_beside(t);
	if (!t->source)
		return;
	for (size_t i = 0; t->source->ops->gap && (text = t->source->ops->gap(t->source, i)) != NULL; i++) {
		struct err why = ERR_INIT;

		err_set(&why, EIO, "%s", text);
		session_gap_err(t->session, "sites", &why);
	}
	t->source->ops->close(t->source);
	t->source = NULL;
}

/* ---- blocks and the report ---- */

size_t sources_blocks(const struct target *t, struct heap_block *ret, size_t cap)
{
	size_t n = t->sites ? site_table_blocks(t->sites, false, ret, cap) : 0;

	return n == 0 && t->ledger ? site_ledger_blocks(t->ledger, ret, cap) : n;
}

void sources_seen(struct target *t, double t_s, const struct heap_block *blocks, size_t count)
{
	struct site_budget budget = { .max_ns = LOOK_MAX_NS };
	struct err ignored = ERR_INIT;

	if (t->sites)
		site_table_seen(t->sites, blocks, count);
	if (!t->ledger || site_ledger_count(t->ledger) == 0)
		return;
	/* releases that the source has seen itself while the heap was walked come first: realloc() goes on with a block elsewhere */
	if (t->source && t->source->ops->continuous)
		(void)!look_once(t, t->source, session_time(t->session, 0), &budget, &ignored);
	site_ledger_seen(t->ledger, blocks, count, t_s);
}

uint64_t sources_events(const struct target *t)
{
	return (t->sites ? site_table_events(t->sites) : 0) + (t->ledger ? site_ledger_events(t->ledger) : 0);
}

bool sources_course(struct target *t, struct sites_course *ret)
{
	return t->next == &sites_probe && t->ledger && site_ledger_events(t->ledger) > 0 &&
	       site_ledger_course(t->ledger, growth_since_s(t), t->last.t_s, ret) >= 0;
}

static double grown_since(const struct target *t, enum metric m, double since_s)
{
	const double times[2] = { since_s, t->last.t_s };
	double values[2];

	series_values_at(t->series, m, times, 2, values);
	return values[1] - values[0];
}

/*
 * Whether memory grows by calls, and stacks saw them. What they saw does not tell the first: what grew between two looks is put down to the
 * calls of the next. But memory that is asked for is mapped, by the program or in an arena of the allocator; where it was mapped long
 * before, neither grows. Where stacks explain it and name nobody, nobody can be named: who touched it first would be a guess.
 */
static bool stacks_explain(const struct target *t)
{
	double since_s = growth_since_s(t), rss = grown_since(t, METRIC_RSS, since_s);
	double mapped = fmax(grown_since(t, METRIC_VIRTUAL, since_s), grown_since(t, METRIC_HEAP_MAPPED, since_s));

	return t->next == &sites_faults && t->sites && site_table_exact_share(t->sites, since_s) >= EXPLAINED_SHARE &&
	       !(mapped < EXPLAINED_SHARE * rss);
}

int sources_report(struct target *t, struct arena *arena, struct site **ret, size_t *ret_count)
{
	const struct site_query query = { .symbols = t->symbols,
					  .since_s = growth_since_s(t),
					  .until_s = t->last.t_s,
					  .heap = t->has_heap && !t->sites_rewound ? &t->heap : NULL,
					  .max = SITES_REPORTED };
	int rc = 0;

	*ret_count = 0;
	if (t->ledger && site_ledger_events(t->ledger) > 0 && !stacks_explain(t))
		rc = site_ledger_report(t->ledger, &query, arena, ret, ret_count);
	if (rc >= 0 && *ret_count == 0 && t->sites)
		rc = site_table_report(t->sites, &query, arena, ret, ret_count);
	return rc;
}
