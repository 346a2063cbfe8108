/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The source `faults`, on a ledger that only adds up: what is there, what was given back, what is no growth. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memwatch/base/io.h"
#include "memwatch/base/map.h"
#include "memwatch/sites.h"
#include "support_faults.h"
#include "support_trace.h"

#define PAGE 4096.0
#define BLOCKS_MAX 65536

/* ---- the ledger ---- */

static const char *const functions[] = { "touch_main", "touch_thread", "read_fresh",   "churn_pages", "read_zeroes",
					 "copy_file",  "touch_huge",   "touch_slowly", "other" };
#define FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

struct site_ledger {
	struct map by_address;
	struct ledger_block blocks[BLOCKS_MAX];
	uint32_t stacks[BLOCKS_MAX];
	size_t count, ticks;
	double t_s;
	double live[FUNCTIONS], taken[FUNCTIONS]; /* bytes */
};

static struct stepper stepper;
static struct site_ledger ledger;

int site_ledger_stack(struct site_ledger *l, const struct unwind_stack *stack, const char *source, uint32_t *ret)
{
	(void)l;
	ck_assert_str_eq(source, "faults");
	for (*ret = 0; *ret + 1 < FUNCTIONS; ++*ret)
		if (stack_has(stepper.symbols, stack, functions[*ret]))
			break;
	return 0;
}

void site_ledger_given_back(struct site_ledger *l, uint64_t address, double t_s)
{
	uint64_t at;

	ck_assert_double_ge(t_s, l->t_s);
	l->t_s = t_s;
	if (!map_get(&l->by_address, address, &at))
		return;
	l->live[l->stacks[at]] -= l->blocks[at].weight_bytes;
	map_remove(&l->by_address, address);
}

int site_ledger_taken(struct site_ledger *l, uint32_t stack, const struct ledger_block *block)
{
	site_ledger_given_back(l, block->address, block->t_s);
	ck_assert_uint_lt(l->count, BLOCKS_MAX);
	ck_assert(!block->in_heap);
	ck_assert_double_ge(block->weight_bytes, (double)block->size);
	l->blocks[l->count] = *block;
	l->stacks[l->count] = stack;
	l->live[stack] += block->weight_bytes;
	l->taken[stack] += block->weight_bytes;
	return map_put(&l->by_address, block->address, l->count++);
}

void site_ledger_tick(struct site_ledger *l, double t_s)
{
	ck_assert_double_ge(t_s, l->t_s);
	l->t_s = t_s;
	l->ticks++;
}

void site_ledger_each(struct site_ledger *l, bool (*gone)(void *arg, uint64_t address, uint64_t size), void *arg,
		      double t_s)
{
	(void)l, (void)gone, (void)arg, (void)t_s;
	ck_abort_msg("the ledger is not full");
}

static double pages_of(const double *bytes, const char *function)
{
	for (size_t i = 0; i < FUNCTIONS; i++)
		if (strcmp(functions[i], function) == 0)
			return bytes[i] / PAGE;
	ck_abort_msg("%s", function);
}

/* ---- the source ---- */

static struct site_source *source;
static uint64_t begin_ns;

static bool begin(double cpu_share)
{
	struct site_context context = { .cpu_share = cpu_share };
	struct err err = ERR_INIT;
	int rc;

	memset(&ledger, 0, sizeof(ledger));
	stepper_start(&stepper, "faults_steps");
	context.pid = stepper.pid;
	context.mem = stepper.mem;
	context.symbols = stepper.symbols;
	context.ledger = &ledger;
	begin_ns = clock_now_ns();
	rc = sites_faults.open(&context, &source, &err);
	if (rc == 0)
		return true;
	ck_assert_msg(rc == -EACCES || rc == -EPERM || rc == -EOPNOTSUPP, "%s", err.msg);
	fprintf(stderr, "skipped: %s\n", err.msg);
	stepper_end(&stepper);
	return false;
}

static void end(void)
{
	source->ops->close(source);
	stepper_end(&stepper);
	map_deinit(&ledger.by_address);
}

static int look(void)
{
	struct site_budget budget = { .max_ns = WAIT_NS };
	struct err err = ERR_INIT;
	size_t ticks = ledger.ticks;
	int rc = source->ops->look(source, (double)(clock_now_ns() - begin_ns) * 1e-9, 0, 0.0, &budget, &err);

	ck_assert_uint_eq(ledger.ticks, ticks + 1);
	ck_assert_uint_gt(budget.retry_ns, 0);
	ck_assert_uint_eq(budget.stops, 0);
	return rc;
}

static void step(char c)
{
	stepper_step(&stepper, c);
	ck_assert_int_eq(look(), 0);
}

static double live_after_look(const char *function)
{
	ck_assert_int_eq(look(), 0);
	return pages_of(ledger.live, function);
}

/* The first bursts teach the source how long its period must be. */
static void burst_until_even(void)
{
	for (int i = 0; i < 12; i++) {
		uint64_t until = clock_now_ns() + 60 * NS_PER_MS; /* judgements are 50 ms apart at least */

		step('m');
		await(clock_now_ns() > until);
		step('d');
	}
}

START_TEST(slow_growth_is_exact)
{
	if (!begin(0.1))
		return;
	step('s');
	ck_assert_double_ge(pages_of(ledger.live, "touch_slowly"), 205.0);
	ck_assert_double_le(pages_of(ledger.live, "touch_slowly"), 211.0);
	ck_assert_double_eq(pages_of(ledger.live, "touch_main"), 0.0);
	end();
}
END_TEST

START_TEST(bursts_and_what_is_given_back)
{
	double kept;

	if (!begin(0.1))
		return;
	burst_until_even();
	await(live_after_look("touch_main") < 0.02 * 40009); /* all was given back by madvise */
	step('m');
	kept = pages_of(ledger.live, "touch_main");
	ck_assert_msg(kept > 0.7 * 40009 && kept < 1.2 * 40009, "%.0f pages", kept);
	step('d');
	await(live_after_look("touch_main") < 0.02 * 40009);
	step('t');
	kept = pages_of(ledger.live, "touch_thread");
	ck_assert_msg(kept > 0.4 * 7 * 4001 && kept < 1.2 * 7 * 4001, "%.0f pages", kept);
	step('u');
	await(live_after_look("touch_thread") < 0.02 * 7 * 4001);
	end();
}
END_TEST

START_TEST(churn_weighs_nothing)
{
	if (!begin(0.1))
		return;
	step('s');
	for (int i = 0; i < 3; i++)
		step('c');
	await(live_after_look("churn_pages") < 2.0);
	ck_assert_double_ge(pages_of(ledger.live, "touch_slowly"), 205.0);
	ck_assert_double_gt(pages_of(ledger.taken, "churn_pages"), 61.0);
	end();
}
END_TEST

static bool scans_pages(void) /* Linux 6.7 */
{
	char buf[64];
	unsigned major = 0, minor = 0;

	return io_read_at(AT_FDCWD, "/proc/sys/kernel/osrelease", buf, sizeof(buf)) > 0 &&
	       sscanf(buf, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 7));
}

START_TEST(no_growth)
{
	if (!begin(0.1))
		return;
	step('f'); /* reads 5 pages of a file, and writes to 3 of them */
	ck_assert_double_ge(pages_of(ledger.taken, "copy_file"), 3.0);
	ck_assert_double_lt(pages_of(ledger.taken, "copy_file"),
			    3.0 + 5.0); /* a page of the C library's data may be among them */
	if (scans_pages()) {
		step('z');
		ck_assert_double_eq(pages_of(ledger.taken, "read_zeroes"), 0.0);
	}
	step('k'); /* pages of a child */
	ck_assert_double_eq(pages_of(ledger.taken, "touch_main"), 0.0);
	end();
}
END_TEST

START_TEST(huge_pages)
{
	double before, grown;

	if (!scans_pages() || !begin(0.1))
		return;
	before = (double)status_field(stepper.pid, "RssAnon:");
	step('h');
	grown = ((double)status_field(stepper.pid, "RssAnon:") - before) / 4.0;
	ck_assert_double_ge(grown, 8.0);
	ck_assert_msg(pages_of(ledger.live, "touch_huge") == grown, "%.0f of %.0f", pages_of(ledger.live, "touch_huge"),
		      grown);
	end();
}
END_TEST

START_TEST(target_ends)
{
	int rc = 0;

	if (!begin(0.1))
		return;
	stepper_step(&stepper, 's');
	kill(stepper.pid, SIGKILL);
	ck_assert_int_eq(waitpid(stepper.pid, NULL, 0), stepper.pid);
	for (int i = 0; i < 3; i++) {
		rc = look();
		ck_assert_msg(rc == 0 || rc == -ESRCH, "%d", rc);
	}
	/* what it did last counts, though nobody can say any more whether it stayed */
	ck_assert_double_ge(pages_of(ledger.live, "touch_slowly") + pages_of(ledger.live, "other"), 205.0);
	end();
}
END_TEST

/* A hundredth of a core: samples become few, however many faults there are. */
START_TEST(keeps_to_its_budget)
{
	uint64_t from, cpu;
	double share;

	if (!begin(0.01))
		return;
	for (int i = 0; i < 3; i++)
		step('c');
	from = clock_now_ns();
	cpu = clock_self_cpu_ns();
	for (int i = 0; i < 6; i++)
		step('c');
	share = (double)(clock_self_cpu_ns() - cpu) / (double)(clock_now_ns() - from);
	if (getenv("SHOW"))
		fprintf(stderr, "own share of a core: %.4f\n", share);
	ck_assert_double_lt(share, 0.05); /* this test's own work on each sample included */
	for (size_t i = 0; source->ops->gap(source, i); i++)
		ck_assert_ptr_nonnull(strchr(source->ops->gap(source, i), ';'));
	end();
}
END_TEST

int main(int argc, char **argv)
{
	const TTest *const tests[] = { slow_growth_is_exact, bursts_and_what_is_given_back,
				       churn_weighs_nothing, no_growth,
				       huge_pages,           target_ends,
				       keeps_to_its_budget };
	const struct trace_test suite = { .name = "faults", .tests = tests, .count = sizeof(tests) / sizeof(tests[0]) };

	return trace_test_main(&suite, argc, argv);
}
