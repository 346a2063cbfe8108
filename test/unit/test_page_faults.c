/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sampling page faults: numbers and stacks right for threads old and new, system calls, static programs; limits; the target's end. */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "child.h"
#include "support_faults.h"
#include "support_trace.h"

#define PAGE 4096UL
#define PERIOD 23 /* of bursts: the rings hold what comes */
#define SLICE (16 << 10)
#define MANY 200
#define MANY_PAGES 53

struct tally {
	struct stepper *stepper;
	const char *function;
	double weight, all; /* faults that the samples stand for: in the function, in all */
	size_t samples, whole, in_order;
	uint64_t period_max, last_ns;
	int fail;
};

static struct stepper stepper;
static struct fault_sampler *sampler;

static int count_fault(void *arg, const struct page_fault *f)
{
	static struct unwind_stack stack;
	struct tally *t = arg;

	t->all += (double)f->period;
	t->in_order += f->time_ns >= t->last_ns;
	t->last_ns = f->time_ns;
	t->samples++;
	t->period_max = f->period > t->period_max ? f->period : t->period_max;
	if (t->fail)
		return t->fail;
	if (!t->function)
		return 0;
	ck_assert_int_eq(unwind_thread(t->stepper->symbols, &f->stack, &stack), 0);
	if (!stack_has(t->stepper->symbols, &stack, t->function))
		return 0;
	t->weight += (double)f->period;
	t->whole += stack.end == FRAME_OK;
	return 0;
}

static ssize_t drain(struct tally *t, uint64_t *ret_lost, uint64_t *ret_faults)
{
	return fault_sampler_read(sampler, count_fault, t, ret_lost, ret_faults);
}

static bool open_sampler(pid_t pid, uint64_t period)
{
	struct err err = ERR_INIT;
	int rc = fault_sampler_open(pid, period, SLICE, &sampler, &err);

	if (rc == -EACCES || rc == -EPERM || rc == -EOPNOTSUPP) {
		ck_assert_msg(strstr(err.msg, "page faults cannot be sampled: ") != NULL, "%s", err.msg);
		fprintf(stderr, "skipped: %s\n", err.msg);
		return false;
	}
	ck_assert_msg(rc == 0, "%s", err.msg);
	return true;
}

static bool sees_system_calls(void)
{
	const char *gap = fault_sampler_gap(sampler, 0);

	return !gap || !strstr(gap, "inside of system calls");
}

static void check_step(char step, const char *function, double pages, int threads)
{
	struct tally t = { .stepper = &stepper, .function = function };
	uint64_t lost, faults, faults_before;
	double off;

	ck_assert_int_ge(drain(&(struct tally){ 0 }, &lost, &faults_before), 0);
	stepper_step(&stepper, step);
	ck_assert_int_gt(drain(&t, &lost, &faults), 0);
	ck_assert_uint_eq(lost, 0);
	ck_assert_double_ge((double)(faults - faults_before), pages);
	/* Each thread has taken up to a period of faults on each processor for which no sample has come yet. */
	off = (double)t.period_max * (double)sysconf(_SC_NPROCESSORS_ONLN) * threads;
	if (off > 0.5 * pages)
		off = 0.5 * pages;
	ck_assert_msg(t.weight <= pages + 1.0 && t.weight >= pages - off,
		      "%s: %.0f of %.0f (%zu samples, period <= %lu)", function, t.weight, pages, t.samples,
		      (unsigned long)t.period_max);
	ck_assert_double_ge(t.all, t.weight);
	ck_assert_uint_gt(t.whole, 0);
	ck_assert_uint_eq(t.in_order, t.samples);
	if (getenv("SHOW"))
		fprintf(stderr, "%s: %.0f of %.0f, %zu samples, period <= %lu\n", function, t.weight, pages, t.samples,
			(unsigned long)t.period_max);
}

static void check_steps(const char *victim)
{
	stepper_start(&stepper, victim);
	if (open_sampler(stepper.pid, 499)) {
		check_step('m', "touch_main", 40009, 1);
		check_step('t', "touch_thread", 7 * 4001, 7);
		if (sees_system_calls())
			check_step('r', "read_fresh", 4003, 1);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}

START_TEST(counts_and_stacks)
{
	check_steps("faults_steps");
}
END_TEST

START_TEST(static_program)
{
	check_steps("faults_steps_static");
}
END_TEST

START_TEST(slow_faults_are_all_seen)
{
	struct tally t = { .stepper = &stepper, .function = "touch_slowly" };
	uint64_t lost, faults;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, 1)) {
		stepper_step(&stepper, 's');
		ck_assert_int_gt(drain(&t, &lost, &faults), 0);
		ck_assert_double_ge(t.weight, 200.0);
		ck_assert_double_le(t.weight, 222.0);
		ck_assert_uint_le(t.period_max, 1);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}
END_TEST

/* Half a million faults a second and more: samples are few, and their sum is right. */
START_TEST(long_period)
{
	struct tally t = { .stepper = &stepper };
	uint64_t lost, faults;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, 10007)) {
		stepper_step(&stepper, 'c');
		ck_assert_int_gt(drain(&t, &lost, &faults), 0);
		ck_assert_uint_ge(faults, 5003UL * 61);
		ck_assert_uint_eq(t.period_max, 10007);
		ck_assert_msg(fabs(t.all - (double)faults) < 0.1 * (double)faults, "%.0f of %lu", t.all,
			      (unsigned long)faults);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}
END_TEST

/* More than the rings hold: that is told. */
START_TEST(loss_is_told)
{
	struct tally t = { .stepper = &stepper };
	uint64_t lost, faults;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, 1)) {
		stepper_step(&stepper, 'm');
		ck_assert_int_gt(drain(&t, &lost, &faults), 0);
		ck_assert_uint_ge(faults, 40009);
		ck_assert_double_lt(t.all, 40009.0);
		ck_assert_uint_gt(lost, 0);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}
END_TEST

START_TEST(children_are_not_sampled)
{
	struct tally t = { .stepper = &stepper, .function = "touch_main" };
	uint64_t lost, faults;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, PERIOD)) {
		stepper_step(&stepper, 'k');
		ck_assert_int_ge(drain(&t, &lost, &faults), 0);
		ck_assert_double_eq(t.weight, 0.0);
		ck_assert_uint_lt(faults, 5003);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}
END_TEST

/* ---- many threads ---- */

static void touch_pages(size_t pages)
{
	char *p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(p, MAP_FAILED);
	madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages; i++)
		((volatile char *)p)[i * PAGE] = 1;
}

static void *wait_and_touch(void *arg)
{
	atomic_fetch_add(&board->ready, 1);
	while (!atomic_load(&board->go))
		short_sleep();
	touch_pages(MANY_PAGES);
	atomic_fetch_add(&board->rounds, 1);
	while (!atomic_load(&board->quit))
		short_sleep();
	return arg;
}

static void many_threads(void)
{
	pthread_t thread;

	for (int i = 0; i < MANY; i++)
		if (pthread_create(&thread, NULL, wait_and_touch, NULL) != 0)
			_exit(1);
	for (;;)
		pause();
}

START_TEST(many_threads_are_seen)
{
	struct tally t = { .fail = 0 };
	struct fixture f;
	uint64_t lost, faults;

	fixture_start(&f, many_threads, MANY);
	if (open_sampler(f.pid, PERIOD)) {
		atomic_store(&board->go, true);
		await(atomic_load(&board->rounds) == MANY);
		ck_assert_int_gt(drain(&t, &lost, &faults), 0);
		ck_assert_uint_ge(faults, MANY * MANY_PAGES);
		if (lost == 0)
			ck_assert_double_ge(t.all, 0.7 * MANY * MANY_PAGES);
		ck_assert_double_le(t.all, 1.5 * (double)faults);
		fault_sampler_close(sampler);
	}
	fixture_finish(&f);
}
END_TEST

static size_t open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* Too few descriptors for all: some threads are sampled, the rest is told, and enough are left for others. */
static int with_few_descriptors(void)
{
	struct rlimit limit = { 200, 200 };
	uint64_t lost, faults;
	const char *gap;
	bool told = false;

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (!open_sampler(board->tid, PERIOD))
		return CHILD_SKIP;
	for (size_t i = 0; (gap = fault_sampler_gap(sampler, i)) != NULL; i++)
		told = told || (strstr(gap, "of 201 threads are not seen") && strstr(gap, "ulimit -n"));
	if (!told)
		return 1;
	if (open_files() > 150)
		return 2;
	atomic_store(&board->go, true);
	await(atomic_load(&board->rounds) == MANY);
	if (drain(&(struct tally){ 0 }, &lost, &faults) <= 0)
		return 3;
	if (faults < MANY * MANY_PAGES)
		return 4;
	fault_sampler_close(sampler);
	return 0;
}

START_TEST(few_descriptors)
{
	struct fixture f;
	int result;

	fixture_start(&f, many_threads, MANY);
	atomic_store(&board->tid, f.pid);
	result = child_result(with_few_descriptors);
	ck_assert_msg(result == 0 || result == CHILD_SKIP, "%d", result);
	fixture_finish(&f);
}
END_TEST

/* ---- ends ---- */

START_TEST(target_ends)
{
	struct tally t = { .fail = 0 };
	uint64_t lost, faults, again;
	struct err err = ERR_INIT;
	size_t files = open_files();

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, 499)) {
		stepper_step(&stepper, 'm');
		kill(stepper.pid, SIGKILL);
		ck_assert_int_eq(waitpid(stepper.pid, NULL, 0), stepper.pid);
		ck_assert_int_gt(drain(&t, &lost, &faults), 0); /* what it did last is not lost */
		ck_assert_double_gt(t.all, 30000.0);
		ck_assert_int_eq(drain(&t, &lost, &again), 0);
		ck_assert_uint_eq(again, faults);
		ck_assert_int_eq(fault_sampler_restart(sampler, PERIOD, SLICE, &err), -ESRCH);
		fault_sampler_close(sampler);
		sampler = NULL;
		ck_assert_int_eq(fault_sampler_open(stepper.pid, PERIOD, SLICE, &sampler, &err), -ESRCH);
		ck_assert_ptr_null(sampler);
		ck_assert(strstr(err.msg, "no process with pid") != NULL);
	}
	stepper_end(&stepper);
	ck_assert_uint_eq(open_files(), files);
}
END_TEST

START_TEST(restart_goes_on)
{
	struct err err = ERR_INIT;
	size_t files;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, PERIOD)) {
		files = open_files();
		ck_assert_msg(fault_sampler_restart(sampler, 1499, SAMPLER_SLICE_MAX + 12345, &err) == 0, "%s",
			      err.msg);
		ck_assert_uint_eq(open_files(), files);
		check_step('m', "touch_main", 40009, 1);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
}
END_TEST

START_TEST(what_take_says_is_passed_on)
{
	struct tally t = { .fail = -ENOMEM };
	uint64_t lost, faults;

	stepper_start(&stepper, "faults_steps");
	if (open_sampler(stepper.pid, PERIOD)) {
		stepper_step(&stepper, 'm');
		ck_assert_int_eq(drain(&t, &lost, &faults), -ENOMEM);
		ck_assert_uint_eq(t.samples, 1);
		fault_sampler_close(sampler);
	}
	stepper_end(&stepper);
	fault_sampler_close(NULL);
}
END_TEST

static int as_nobody(void)
{
	struct err err = ERR_INIT;
	int rc;

	if (setresuid(65534, 65534, 65534) < 0)
		return CHILD_SKIP;
	rc = fault_sampler_open(board->tid, PERIOD, SLICE, &sampler, &err);
	if (rc != -EACCES && rc != -EPERM)
		return 1;
	return strstr(err.msg, "root") ? 0 : 2;
}

START_TEST(refusal_names_the_remedy)
{
	int result;

	stepper_start(&stepper, "faults_steps");
	atomic_store(&board->tid, stepper.pid);
	result = child_result(as_nobody);
	ck_assert_msg(result == 0 || result == CHILD_SKIP, "%d", result);
	stepper_end(&stepper);
}
END_TEST

int main(int argc, char **argv)
{
	const TTest *const tests[] = {
		counts_and_stacks, static_program,           slow_faults_are_all_seen,    long_period,
		loss_is_told,      children_are_not_sampled, many_threads_are_seen,       few_descriptors,
		target_ends,       restart_goes_on,          what_take_says_is_passed_on, refusal_names_the_remedy
	};
	const struct trace_test suite = { .name = "page faults",
					  .tests = tests,
					  .count = sizeof(tests) / sizeof(tests[0]) };

	return trace_test_main(&suite, argc, argv);
}
