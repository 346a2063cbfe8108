/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Taking the probe out: nothing is left where nobody can come any more, and the code stays where somebody may. */
#include "support_slots.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/io.h"
#include "sites/probe/probe.h"

#define ASLEEP_NS (10 * NS_PER_S)

static struct tracer *tracer;
static struct victim victim;
static struct probe_place place;

static void setup(void)
{
	ck_assert_int_eq(tracer_create(&tracer), 0);
}

static void teardown(void)
{
	tracer_destroy(tracer);
	victim_end(&victim);
}

static void place_in(const char *name)
{
	struct slot_set set = { .slots = NULL };
	struct err err = ERR_INIT;

	victim = victim_ready(name, NULL);
	place = (struct probe_place)PROBE_PLACE_INIT;
	ck_assert_msg(probe_place_open(victim.pid, tracer, victim.mem, &set, &place, &err) >= 0, "%s", err.msg);
	ck_assert_msg(probe_swap_slots(&place, &set, &err) >= 0, "%s", err.msg);
	ck_assert_uint_gt(place.slot_count, 0);
	slot_set_deinit(&set);
}

/* 0 or -EBUSY. Whether the code is still there. */
static int leave(bool *ret_there, struct err *err)
{
	uint64_t text = place.text, word;
	int rc = probe_leave(&place, err);

	*ret_there = mem_read_u64(victim.mem, text, &word) == 0;
	return rc;
}

/* The thread that holds malloc's address in a register. */
static void start_holder(long number)
{
	uint64_t until = clock_now_ns() + ASLEEP_NS;
	char path[64], text[128] = "r";
	int tid, none;

	victim_command(&victim, 'h', &tid, &none);
	snprintf(path, sizeof(path), "task/%d/syscall", tid);
	while (text[0] == 'r' || strtol(text, NULL, 10) != number) {
		ck_assert_uint_lt(clock_now_ns(), until);
		ck_assert_int_gt(io_read_at(victim.dir_fd, path, text, sizeof(text)), 0);
	}
}

START_TEST(nothing_is_left)
{
	struct err err = ERR_INIT;
	int mallocs, frees;
	bool there;

	place_in("slots_target");
	victim_command(&victim, 'c', &mallocs, &frees);
	ck_assert_msg(leave(&there, &err) == 0, "%s", err.msg);
	ck_assert(!there);
	victim_command(&victim, 'c', &mallocs, &frees);
}
END_TEST

/* Whatever the list says: nothing goes while a slot of a module leads there. */
START_TEST(stays_while_a_slot_leads_in)
{
	struct err err = ERR_INIT;
	int mallocs, frees;
	bool there;

	place_in("slots_target");
	ck_assert_int_eq(probe_set(&place, offsetof(struct probe_state, slot_count), 0), 0);
	ck_assert_int_eq(leave(&there, &err), -EBUSY);
	ck_assert(there);
	ck_assert_ptr_nonnull(strstr(err.msg, "passing calls on"));
	victim_command(&victim, 'c', &mallocs, &frees);
}
END_TEST

START_TEST(stays_while_a_register_leads_in)
{
	struct err err = ERR_INIT;
	struct probe_trace trace;
	int slept, none;
	bool there;

	place_in("slots_held");
	start_holder(SYS_read);
	ck_assert_int_eq(leave(&there, &err), -EBUSY);
	ck_assert(there);
	ck_assert_ptr_nonnull(strstr(err.msg, "copied the address"));
	victim_command(&victim, 'r', &slept, &none); /* by the register */
	ck_assert_int_eq(slept, 1);
	victim_command(&victim, 'c', &slept, &none);
	ck_assert_int_eq(probe_find(victim.pid, victim.mem, &trace, &err), 1);
	ck_assert(trace.inert);
	ck_assert_msg(probe_clean(victim.pid, tracer, victim.mem, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(probe_find(victim.pid, victim.mem, &trace, &err), 0);
	victim_command(&victim, 'c', &slept, &none);
}
END_TEST

/* Asked what its registers hold, such a thread does not notice. */
START_TEST(stays_while_a_sleeper_s_register_leads_in)
{
	struct err err = ERR_INIT;
	int slept, none;
	bool there;

	place_in("slots_held_epoll");
	start_holder(SYS_epoll_wait);
	ck_assert_int_eq(leave(&there, &err), -EBUSY);
	ck_assert(there);
	victim_command(&victim, 'r', &slept, &none);
	ck_assert_int_eq(slept, 1);
}
END_TEST

START_TEST(a_register_is_let_go)
{
	struct err err = ERR_INIT;
	int slept, none;
	bool there;

	place_in("slots_held");
	start_holder(SYS_read);
	victim_command(&victim, 'r', &slept, &none);
	ck_assert_msg(leave(&there, &err) == 0, "%s", err.msg);
	ck_assert(!there);
	victim_command(&victim, 'c', &slept, &none);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("probe_leave");
	TCase *tc = tcase_create("probe_leave");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, nothing_is_left);
	tcase_add_test(tc, stays_while_a_slot_leads_in);
	tcase_add_test(tc, stays_while_a_register_leads_in);
	tcase_add_test(tc, stays_while_a_sleeper_s_register_leads_in);
	tcase_add_test(tc, a_register_is_let_go);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
