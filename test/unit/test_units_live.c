/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counting units of work in text, and the network counters of a namespace. */
#include <check.h>
#include <errno.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/proc.h"
#include "memwatch/trace.h"
#include "session/units.h"

#define HEADINGS                                                                                                       \
	"Inter-|   Receive                                                |  Transmit\n"                               \
	" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls "     \
	"carrier compressed\n"

static struct unit_lines *lines_of(const char *pattern, regex_t *regex)
{
	struct unit_lines *l = calloc(1, sizeof(*l));

	ck_assert_ptr_nonnull(l);
	if (pattern) {
		ck_assert_int_eq(regcomp(regex, pattern, REG_EXTENDED), 0);
		l->regex = regex;
	}
	return l;
}

/* What a text counts, fed whole, and in pieces of each length up to 7: cuts must not matter. */
static uint64_t count_in(const char *pattern, const char *text, size_t len)
{
	regex_t regex;
	uint64_t whole = 0;

	for (size_t piece = 0; piece < 8; piece++) {
		struct unit_lines *l = lines_of(pattern, &regex);
		size_t step = piece ? piece : len;

		for (size_t at = 0; at < len; at += step)
			unit_lines_feed(l, text + at, len - at < step ? len - at : step);
		unit_lines_end(l);
		if (piece == 0)
			whole = unit_count_total(&l->count);
		ck_assert_uint_eq(unit_count_total(&l->count), whole);
		free(l);
		if (pattern)
			regfree(&regex);
	}
	return whole;
}

static uint64_t count_text(const char *pattern, const char *text)
{
	return count_in(pattern, text, strlen(text));
}

START_TEST(matching_lines_are_units)
{
	ck_assert_uint_eq(count_text("^done", "done 1\nnot done\ndone\n\ndone without an end"), 3);
	ck_assert_uint_eq(count_text("x$", "x\nxy\nx"), 2);
	ck_assert_uint_eq(count_text("z", ""), 0);
	ck_assert_uint_eq(count_in("^b$", "a\0b\nb\n\0\nb\0\n", 10), 1);
}
END_TEST

START_TEST(a_group_of_digits_is_the_count)
{
	ck_assert_uint_eq(count_text("processed ([0-9]+) items", "processed 7 items\nprocessed 1500 items\nnoise\n"),
			  1500);
	/* the first group that is a number */
	ck_assert_uint_eq(count_text("(done|ready) ([0-9]+)/([0-9]+)", "done 3/9\nready 4/9\n"), 4);
	/* it began again at 0: what was is kept */
	ck_assert_uint_eq(count_text("n=([0-9]+)", "n=10\nn=20\nn=3\nn=5\n"), 25);
	/* a group that matches no digits does not make a number */
	ck_assert_uint_eq(count_text("(a|b)", "a\nb\na\n"), 3);
	/* once there are numbers, a line without one is none */
	ck_assert_uint_eq(count_text("n=([0-9]*)", "n=10\nn=\nn=\n"), 10);
}
END_TEST

START_TEST(numbers_are_taken_as_they_are_or_not_at_all)
{
	uint64_t n = 4099;

	ck_assert(unit_first_number("total: 1500, 3 failed", 21, &n));
	ck_assert_uint_eq(n, 1500);
	ck_assert(unit_first_number("18446744073709551615", 20, &n));
	ck_assert_uint_eq(n, UINT64_MAX);
	n = 4099;
	ck_assert(!unit_first_number("18446744073709551616", 20, &n));
	ck_assert(!unit_first_number("none", 4, &n));
	ck_assert(!unit_first_number("", 0, &n));
	ck_assert_uint_eq(n, 4099);
}
END_TEST

START_TEST(of_a_long_line_only_the_beginning_is_looked_at)
{
	size_t len = 3 * UNIT_LINE_MAX;
	char *text = malloc(len + 1);

	ck_assert_ptr_nonnull(text);
	memset(text, 'u', len);
	memcpy(text, "head", 4);
	memcpy(text + len - 5, "tail\n", 5);
	ck_assert_uint_eq(count_in("head", text, len), 1);
	ck_assert_uint_eq(count_in("tail", text, len), 0);
	free(text);
}
END_TEST

START_TEST(network_bytes_are_received_and_sent_over_all_interfaces)
{
	const char *text = HEADINGS "    lo: 1000 10 0 0 0 0 0 0 1000 10 0 0 0 0 0 0\n"
				    "  eth0:4294967296 99 1 2 3 4 5 6 7 98 0 0 0 0 0 0\n";
	uint64_t bytes = 4099;

	ck_assert_int_eq(parse_net_dev(text, strlen(text), &bytes), 0);
	ck_assert_uint_eq(bytes, 1000 + 1000 + 4294967296 + 7);
	ck_assert_int_eq(parse_net_dev(HEADINGS, strlen(HEADINGS), &bytes), 0);
	ck_assert_uint_eq(bytes, 0);
}
END_TEST

START_TEST(what_is_no_network_table_is_refused)
{
	static const char *const texts[] = { "", "lo: 1 2 3\n", HEADINGS "lo 1 2 3 4 5 6 7 8 9\n",
					     HEADINGS "lo: 1 2 3\n", HEADINGS "lo: a b c d e f g h i\n" };
	uint64_t bytes = 4099;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ck_assert_int_eq(parse_net_dev(texts[i], strlen(texts[i]), &bytes), -EBADMSG);
	ck_assert_uint_eq(bytes, 4099);
}
END_TEST

__attribute__((noinline)) static void counted(void)
{
	__asm__ volatile("" ::: "memory");
}

START_TEST(calls_of_ones_own_are_counted_exactly)
{
	const uint64_t place = (uint64_t)(uintptr_t)counted;
	struct call_counter *c = NULL;
	struct err err = ERR_INIT;
	uint64_t calls = 0;

	if (call_counter_open(getpid(), &place, 1, &c, &err) <
	    0) { /* a container's seccomp, a machine without debug registers */
		ck_assert_ptr_nonnull(strchr(err.msg, ';')); /* the remedy */
		ck_assert_ptr_null(c);
		return;
	}
	for (int i = 0; i < 97; i++)
		counted();
	ck_assert_int_eq(call_counter_read(c, &calls), 0);
	ck_assert_uint_eq(calls, 97);
	ck_assert(!call_counter_missed(c));
	call_counter_close(c);
	ck_assert_int_eq(call_counter_open(getpid(), &place, 0, &c, &err), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("units_live");
	TCase *tc = tcase_create("units_live");
	SRunner *runner = srunner_create(suite);

	tcase_set_timeout(tc, 60); /* sanitizers are slow, and machines busy */
	tcase_add_test(tc, matching_lines_are_units);
	tcase_add_test(tc, a_group_of_digits_is_the_count);
	tcase_add_test(tc, numbers_are_taken_as_they_are_or_not_at_all);
	tcase_add_test(tc, of_a_long_line_only_the_beginning_is_looked_at);
	tcase_add_test(tc, network_bytes_are_received_and_sent_over_all_interfaces);
	tcase_add_test(tc, what_is_no_network_table_is_refused);
	tcase_add_test(tc, calls_of_ones_own_are_counted_exactly);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);

	int failed = srunner_ntests_failed(runner);

	srunner_free(runner);
	return failed != 0;
}
