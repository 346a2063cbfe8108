/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Call sites by page faults: who touched the pages by which the program grew, and which of them are still there.
 *
 * A sampled fault becomes a block of the ledger: one page (a huge one, where the fault brought that), standing for as many faults as the
 * sampler says. Kept are pages of anonymous memory, heap, stacks, shared memory, and pages of private file mappings that were written to;
 * pages that a file backs are no growth. Blocks are then followed, page by page, until they are gone (pages.h).
 *
 * A fault is not always growth: after a fork() each page that the program writes to is faulted in again as a copy. That is told as a gap.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages.h"

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"
#include "memwatch/base/map.h"
#include "memwatch/base/vec.h"

#define SLICE_FIRST (16 << 10)
#define SLICE_SHORT_SHARE 0.1 /* of stacks that ended with the slice: a longer one is taken */
#define SLICE_SHORT_MIN 32    /* stacks seen before that is judged */
#define KERNEL_NS 5000.0      /* for one sample in the target: event, registers, copying 16 KiB; 1 to 5 us measured */
#define OWN_FIRST_NS 20000.0  /* for one sample in memwatch, before it is measured */
#define OWN_FADE 0.2
#define SHARE_MIN 0.0005 /* where the session allows less, or says nothing */
#define JUDGE_NS (1 * NS_PER_S)
#define JUDGE_SOON_NS (50 * NS_PER_MS) /* where samples are lost, or far too many */
#define EASE_NS (5 * NS_PER_S)         /* before a period is made shorter */
#define RISE 1.5                       /* the period is changed when it should be so many times longer, */
#define FALL 0.4                       /* or shorter */
#define RESTART_FACTOR 100             /* a restart is paid for after so many times its duration */
#define FOLLOW_SHARE 0.4               /* of cpu_share, for following pages */
#define FOLLOW_ROUND_NS (1 * NS_PER_S)
#define FOLLOW_MAX_NS (20 * NS_PER_MS) /* at one look */
#define MAPS_FACTOR 50 /* mappings are read anew when what the last reading cost is so small a part of the time */
#define MAPS_FRESH_NS (2 * NS_PER_S)
#define RETRY_MIN_NS (20 * NS_PER_MS)
#define RETRY_MAX_NS (250 * NS_PER_MS)
#define MISSED_FAULTS 8192 /* faults in one judgement before it matters how many of them were seen */
#define MISSED_NS (30 * NS_PER_S)
#define GAP_BYTES 256

struct span_class {
	uint64_t start, end;
	enum region_class class;
	bool private;
};

/* Readings that are as dear as the program has mappings. */
struct upkeep {
	uint64_t at_ns, cost_ns;
};

struct faults {
	struct site_context context;
	struct fault_sampler *sampler;
	struct pages *pages; /* NULL: refused, or gone for good */
	struct unwind_stack stack;
	struct span_class *spans;
	size_t span_count, span_cap;
	struct upkeep spans_kept, symbols_kept;
	bool huge_possible, ended, dead; /* dead: the sampler could not be opened again */
	uint64_t page_bytes;
	uint64_t period;
	size_t slice_bytes;
	double own_ns;
	double t_s, last_t_s; /* of this look, and of the last block */
	uint64_t now_ns, deadline_ns, look_ns;
	/* since the last judgement */
	uint64_t judged_ns, restarted_ns, restart_cost_ns, missed_ns, samples, stacks, stacks_short, dropped,
		faults_then;
	double weight;
	/* since the opening, for the gaps */
	uint64_t faults, lost, lost_all;
	bool missed, forked;
	char gap_lost[GAP_BYTES], gap_pages[GAP_BYTES], gap_dead[ERR_MSG_BYTES + 64];
};

static double share_of(const struct faults *s)
{
	return s->context.cpu_share > SHARE_MIN ? s->context.cpu_share : SHARE_MIN;
}

/* Samples a second that may be taken in all. */
static double budget_hz(const struct faults *s)
{
	return share_of(s) * (1.0 - FOLLOW_SHARE) * 1e9 / (s->own_ns + KERNEL_NS);
}

/* Primes, so that no pattern of the program goes along with them. */
static uint64_t period_for(double wanted)
{
	static const uint16_t primes[] = {
		1, 2, 3, 5, 7, 11, 17, 29, 43, 67, 101, 151, 227, 347, 521, 787, 1181, 1777
	};
	size_t i = 0;

	while (i + 1 < sizeof(primes) / sizeof(primes[0]) && primes[i] < wanted)
		i++;
	return primes[i];
}

static bool huge_possible(void)
{
	char buf[128];

	/* "always [madvise] never"; a kernel without huge pages has no such file */
	return io_read_at(AT_FDCWD, "/sys/kernel/mm/transparent_hugepage/enabled", buf, sizeof(buf)) > 0 &&
	       !strstr(buf, "[never]");
}

static void faults_close(struct site_source *source)
{
	struct faults *s = source->arg;

	fault_sampler_close(s->sampler);
	pages_destroy(s->pages);
	free(s->spans);
	free(s);
	free(source);
}

static int faults_open(const struct site_context *context, struct site_source **ret, struct err *err)
{
	struct faults *s = calloc(1, sizeof(*s));
	struct site_source *source = calloc(1, sizeof(*source));
	int rc;

	if (!s || !source) {
		free(s);
		free(source);
		return err_set(err, ENOMEM, "out of memory");
	}
	source->ops = &sites_faults;
	source->arg = s;
	s->context = *context;
	s->page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
	s->own_ns = OWN_FIRST_NS;
	s->slice_bytes = SLICE_FIRST;
	s->period = 1;
	s->huge_possible = huge_possible();
	s->restarted_ns = clock_now_ns();
	rc = fault_sampler_open(context->pid, s->period, s->slice_bytes, &s->sampler, err);
	if (rc < 0) {
		faults_close(source);
		return rc;
	}
	s->judged_ns = s->look_ns = clock_now_ns();
	s->restart_cost_ns = s->judged_ns - s->restarted_ns;
	rc = pages_create(context->pid, &s->pages);
	if (rc < 0)
		snprintf(s->gap_pages, sizeof(s->gap_pages),
			 "pages that were given back cannot be told from those that stayed: /proc/%d/pagemap: %s; run "
			 "memwatch as root or as the program's user",
			 (int)context->pid, strerror(-rc));
	*ret = source;
	return 0;
}

/* ---- what was touched ---- */

static bool due(const struct faults *s, const struct upkeep *u)
{
	return s->now_ns - u->at_ns > u->cost_ns * MAPS_FACTOR;
}

static int read_spans(struct faults *s)
{
	uint64_t begin = clock_now_ns();
	const struct region *regions;
	ssize_t count = mem_regions(s->context.mem, &regions);

	if (count < 0)
		return (int)count;
	if (vec_reserve(&s->spans, &s->span_cap, (size_t)count, sizeof(*s->spans)) < 0)
		return -ENOMEM;
	for (ssize_t i = 0; i < count; i++)
		s->spans[i] = (struct span_class){ .start = regions[i].start,
						   .end = regions[i].end,
						   .class = regions[i].class,
						   .private = !(regions[i].flags & REGION_SHARED) };
	s->span_count = (size_t)count;
	s->spans_kept = (struct upkeep){ .at_ns = clock_now_ns(), .cost_ns = clock_now_ns() - begin };
	return 0;
}

static const struct span_class *find_span(const struct faults *s, uint64_t address)
{
	size_t low = 0, high = s->span_count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (address < s->spans[mid].start)
			high = mid;
		else if (address >= s->spans[mid].end)
			low = mid + 1;
		else
			return &s->spans[mid];
	}
	return NULL;
}

/* The mapping of an address; NULL where there is none that is known. */
static const struct span_class *span_of(struct faults *s, uint64_t address)
{
	const struct span_class *span = find_span(s, address);

	if (span && s->now_ns - s->spans_kept.at_ns < MAPS_FRESH_NS)
		return span;
	if (!s->ended && due(s, &s->spans_kept) && read_spans(s) == -ESRCH)
		s->ended = true; /* what was known of it serves on */
	return find_span(s, address);
}

/* Whether the fault is growth, of which block, and whether that is there no more. */
static bool is_growth(struct faults *s, uint64_t address, struct ledger_block *block, bool *ret_gone)
{
	const struct span_class *span = span_of(s, address);
	struct page_info info = { .there = true };
	bool known;

	*ret_gone = false;
	if (span && span->class == REGION_SPECIAL)
		return false;
	if (span && span->class == REGION_FILE && !span->private)
		return false;
	block->address = address & ~(s->page_bytes - 1);
	block->size = s->page_bytes;
	known = s->pages && pages_look(s->pages, block->address, &info);
	if (span && span->class == REGION_FILE && (!known || info.file))
		return false;
	if (!known)
		return true;
	if (info.zero)
		return false; /* it was read only: when it is written to there will be another fault */
	*ret_gone = !info.there;
	if (info.huge && s->huge_possible && span && (address & ~(GRANULE_BYTES - 1)) >= span->start) {
		block->address = address & ~(GRANULE_BYTES - 1);
		block->size = GRANULE_BYTES;
	}
	return true;
}

/* ---- who touched it ---- */

static void complete_slice(const struct faults *s, struct thread_stack *stack)
{
	const struct span_class *span = find_span(s, stack->slice_address);

	if (span && stack->slice_address + stack->slice_len >= span->end)
		stack->slice_full = true;
}

static int unwind(struct faults *s, const struct thread_stack *stack)
{
	int rc = unwind_thread(s->context.symbols, stack, &s->stack);

	if (rc < 0 || s->ended || (s->stack.end == FRAME_OK && s->now_ns - s->symbols_kept.at_ns < MAPS_FRESH_NS) ||
	    !due(s, &s->symbols_kept))
		return rc;
	s->symbols_kept.at_ns = clock_now_ns();
	rc = symbols_update(s->context.symbols, s->context.mem);
	s->symbols_kept.cost_ns = clock_now_ns() - s->symbols_kept.at_ns;
	if (rc == -ESRCH)
		s->ended = true;
	else if (rc < 0)
		return rc;
	return unwind_thread(s->context.symbols, stack, &s->stack);
}

struct known {
	struct map addresses;
	bool whole;
};

static bool in_ledger(void *arg, uint64_t address, uint64_t size)
{
	struct known *known = arg;

	(void)size;
	if (map_put(&known->addresses, address, 1) < 0)
		known->whole = false;
	return false;
}

static bool is_kept(void *arg, uint64_t address)
{
	const struct known *known = arg;
	uint64_t value;

	return map_get(&known->addresses, address, &value);
}

/* The ledger has forgotten some, being full: these need not be followed. */
static void follow_what_the_ledger_has(struct faults *s)
{
	struct known known = { .addresses = MAP_INIT, .whole = true };

	site_ledger_each(s->context.ledger, in_ledger, &known, s->last_t_s);
	if (known.whole)
		pages_retain(s->pages, is_kept, &known);
	map_deinit(&known.addresses);
}

static int take(void *arg, const struct page_fault *fault)
{
	struct faults *s = arg;
	struct thread_stack stack = fault->stack;
	struct ledger_block block = { .in_heap = false };
	double ago_s;
	uint32_t number;
	bool gone;
	int rc;

	s->samples++;
	s->weight += (double)fault->period;
	if (clock_now_ns() > s->deadline_ns) {
		s->dropped++;
		return 0;
	}
	if (!is_growth(s, fault->address, &block, &gone))
		return 0;
	ago_s = fault->time_ns < s->now_ns ? (double)(s->now_ns - fault->time_ns) * 1e-9 : 0.0;
	block.t_s = s->t_s - ago_s > s->last_t_s ? s->t_s - ago_s : s->last_t_s;
	s->last_t_s = block.t_s;
	block.weight_bytes = (double)block.size * (double)fault->period;
	complete_slice(s, &stack);
	rc = unwind(s, &stack);
	if (rc < 0)
		return rc;
	s->stacks++;
	s->stacks_short += s->stack.end == FRAME_TRUNCATED && s->stack.count < UNWIND_MAX_FRAMES;
	rc = site_ledger_stack(s->context.ledger, &s->stack, sites_faults.name, &number);
	if (rc == 0)
		rc = site_ledger_taken(s->context.ledger, number, &block);
	if (rc < 0)
		return rc;
	if (gone)
		site_ledger_given_back(s->context.ledger, block.address, block.t_s);
	else if (s->pages)
		rc = pages_add(s->pages, block.address, block.size, block.weight_bytes);
	return rc;
}

/* ---- how much of it ---- */

static int restart(struct faults *s, uint64_t period, size_t slice_bytes, struct err *err)
{
	uint64_t begin = clock_now_ns();
	struct err why = ERR_INIT;
	int rc;

	s->period = period;
	s->slice_bytes = slice_bytes;
	rc = fault_sampler_restart(s->sampler, s->period, s->slice_bytes, &why);
	s->restarted_ns = clock_now_ns();
	s->restart_cost_ns = s->restarted_ns - begin;
	if (rc < 0 && rc != -ESRCH) {
		s->dead = true;
		snprintf(s->gap_dead, sizeof(s->gap_dead), "since %.0f s no page faults are seen: %s", s->t_s, why.msg);
		return 0; /* what was seen is still worth reporting */
	}
	if (rc < 0)
		return err_set(err, -rc, "%s", why.msg);
	return 0;
}

static bool missing_many(struct faults *s)
{
	double passed = (double)(s->faults - s->faults_then);

	if (passed < MISSED_FAULTS || s->weight >= 0.5 * passed || s->lost > 0)
		return false;
	s->missed = true;
	if (s->now_ns - s->missed_ns < MISSED_NS)
		return false;
	s->missed_ns = s->now_ns;
	return true;
}

/* Faults a second, by the samples, or by the kernel's count where samples were lost. */
static double fault_rate(const struct faults *s)
{
	double passed_s = (double)(s->now_ns - s->judged_ns) * 1e-9;

	return (s->lost > 0 ? (double)(s->faults - s->faults_then) : s->weight) / passed_s;
}

static bool judgement_due(const struct faults *s)
{
	uint64_t passed = s->now_ns - s->judged_ns;

	return passed >= JUDGE_NS ||
	       (passed >= JUDGE_SOON_NS && (s->lost > 0 || (double)s->samples > 2.0 * budget_hz(s)));
}

/* Whether the samples keep to the budget, whether stacks are cut off, whether threads are missed. */
static int judge(struct faults *s, struct err *err)
{
	double wanted = fault_rate(s) / budget_hz(s), now = (double)s->period;
	uint64_t since = s->now_ns - s->restarted_ns, period = period_for(wanted);
	size_t slice = s->slice_bytes;
	bool again = false;

	if (s->stacks >= SLICE_SHORT_MIN && (double)s->stacks_short > SLICE_SHORT_SHARE * (double)s->stacks)
		slice = SAMPLER_SLICE_MAX;
	if (!(wanted > RISE * now) && !(wanted < FALL * now && since > EASE_NS))
		period = s->period;
	if (period != s->period || slice != s->slice_bytes)
		again = since > RESTART_FACTOR * s->restart_cost_ns || s->lost > 0;
	again = missing_many(s) || again;
	s->judged_ns = s->now_ns;
	s->samples = s->lost = s->dropped = s->stacks = s->stacks_short = 0;
	s->weight = 0.0;
	s->faults_then = s->faults;
	return again ? restart(s, period, slice, err) : 0;
}

static void given_back(void *arg, uint64_t address)
{
	struct faults *s = arg;

	site_ledger_given_back(s->context.ledger, address, s->t_s);
}

static void follow(struct faults *s)
{
	uint64_t now = clock_now_ns();
	double allowed = share_of(s) * FOLLOW_SHARE * (double)(now - s->look_ns);

	if (!s->pages || s->ended)
		return;
	if (pages_count(s->pages) > LEDGER_BLOCKS_MAX)
		follow_what_the_ledger_has(s);
	if (allowed > FOLLOW_MAX_NS)
		allowed = FOLLOW_MAX_NS;
	pages_follow(s->pages, now + (uint64_t)allowed, FOLLOW_ROUND_NS, given_back, s);
}

static void watch_forks(struct faults *s)
{
	char path[64], buf[32];

	if (s->forked)
		return;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)s->context.pid, (int)s->context.pid);
	s->forked = io_read_at(AT_FDCWD, path, buf, sizeof(buf)) > 0;
}

static uint64_t retry_ns(const struct faults *s, uint64_t samples, uint64_t passed_ns)
{
	uint64_t room = fault_sampler_room(s->sampler) / 3, wish = RETRY_MAX_NS;

	/* they may all have come from one processor */
	if (samples > 0)
		wish = (uint64_t)((double)passed_ns * (double)room / (double)samples);
	return wish < RETRY_MIN_NS ? RETRY_MIN_NS : wish > RETRY_MAX_NS ? RETRY_MAX_NS : wish;
}

static int faults_look(struct site_source *source, double t_s, uint64_t grew_bytes, double rate,
		       struct site_budget *budget, struct err *err)
{
	struct faults *s = source->arg;
	uint64_t lost = 0, cpu = clock_self_cpu_ns(), before = s->samples, dropped = s->dropped, taken, passed;
	ssize_t count;
	int rc = 0;

	(void)grew_bytes;
	(void)rate;
	if (s->dead)
		return 0;
	s->t_s = t_s;
	s->now_ns = clock_now_ns();
	s->deadline_ns = s->now_ns + (budget->max_ns ? budget->max_ns : NS_PER_S);
	passed = s->now_ns - s->look_ns;
	count = fault_sampler_read(s->sampler, take, s, &lost, &s->faults);
	s->lost += lost;
	s->lost_all += lost + s->dropped - dropped;
	taken = s->samples - before;
	if (taken >= 8)
		s->own_ns += OWN_FADE * ((double)(clock_self_cpu_ns() - cpu) / (double)taken - s->own_ns);
	follow(s);
	s->look_ns = s->now_ns;
	if (count >= 0 && judgement_due(s)) {
		watch_forks(s);
		rc = judge(s, err);
	}
	s->last_t_s = t_s;
	site_ledger_tick(s->context.ledger, t_s);
	budget->retry_ns = retry_ns(s, taken + lost, passed);
	if (count < 0)
		return err_set(err, (int)-count, "page faults cannot be attributed: %s", strerror((int)-count));
	return s->ended ? -ESRCH : rc;
}

/* ---- what is not seen ---- */

static const char *faults_gap(struct site_source *source, size_t i)
{
	struct faults *s = source->arg;
	const char *all[8];
	size_t n = 0;

	if (s->lost_all > 0) {
		snprintf(s->gap_lost, sizeof(s->gap_lost),
			 "at least %llu samples of page faults were lost: they came faster than they could be read; "
			 "allow more "
			 "with --budget, or raise kernel.perf_event_mlock_kb",
			 (unsigned long long)s->lost_all);
		all[n++] = s->gap_lost;
	}
	if (s->gap_pages[0])
		all[n++] = s->gap_pages;
	if (s->missed)
		all[n++] = "of most page faults, for a time, no sample came: memory that the kernel fills by itself "
			   "(MAP_POPULATE, mlock, direct I/O), or threads that were missed; use --sites stacks beside";
	if (s->forked)
		all[n++] = "the program forks: pages that it writes to while a child shares them are faulted in once "
			   "more, and count as growth of who writes; compare with --sites probe";
	if (s->huge_possible && s->pages && !pages_sees_huge(s->pages))
		all[n++] = "huge pages count as small ones: this kernel does not tell them apart (Linux 6.7 does)";
	if (s->dead)
		all[n++] = s->gap_dead;
	if (i < n)
		return all[i];
	return fault_sampler_gap(s->sampler, i - n);
}

const struct site_source_ops sites_faults = { .name = "faults",
					      .open = faults_open,
					      .continuous = true,
					      .look = faults_look,
					      .gap = faults_gap,
					      .close = faults_close };
