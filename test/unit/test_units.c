/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/units.h"

#define SECOND UINT64_C(1000000000)

struct parse_case {
	const char *text;
	uint64_t value;
};

static const struct parse_case durations[] = {
	{ "90", 90 * SECOND },
	{ "90s", 90 * SECOND },
	{ "1.5m", 90 * SECOND },
	{ "100ms", SECOND / 10 },
	{ "2h", 7200 * SECOND },
	{ "1d", 86400 * SECOND },
	{ "0", 0 },
	{ "0.1", SECOND / 10 },
	{ ".5s", SECOND / 2 },
	{ "250us", 250000 },
	{ "7ns", 7 },
	{ "1.0000000015s", SECOND + 2 },
	{ "0.000000001", 1 },
	{ "26 min", 26 * 60 * SECOND },
	{ "007", 7 * SECOND },
	{ "9223372036854775807ns", INT64_MAX },
	{ "0.99999999999999999999999999", SECOND },
};

static const struct parse_case sizes[] = {
	{ "512", 512 },
	{ "512B", 512 },
	{ "64K", 65536 },
	{ "64k", 65536 },
	{ "64KiB", 65536 },
	{ "1.5M", 1572864 },
	{ "1.5 MiB", 1572864 },
	{ "2G", UINT64_C(2) << 30 },
	{ "1T", UINT64_C(1) << 40 },
	{ "1TiB", UINT64_C(1) << 40 },
	{ "100KB", 100000 },
	{ "100kB", 100000 },
	{ "5MB", 5000000 },
	{ "2GB", UINT64_C(2000000000) },
	{ "3TB", UINT64_C(3000000000000) },
	{ "9223372036854775807", INT64_MAX },
};

/* Neither a size nor a duration. */
static const char *const rejected[] = {
	"",
	" ",
	"abc",
	"nan",
	"NaN",
	"inf",
	"-inf",
	"infinity",
	"0x10",
	"0x1p3",
	"1e3",
	"1E3",
	"5x",
	"5 ",
	" 5",
	"+5",
	"-1",
	"-1.5",
	"-",
	"--5",
	".",
	"5.",
	"5.s",
	"1..5",
	"1.5.",
	"1,5",
	"5  s",
	"5ss",
	"5\n",
	"5s5",
	"5 s s",
	"-0",
	"99999999999999999999999999",
	"9223372036854775808",
};

START_TEST(durations_are_read)
{
	uint64_t ns = 1;
	struct err err = ERR_INIT;

	ck_assert_msg(units_parse_duration(durations[_i].text, &ns, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(ns, durations[_i].value);
	ck_assert_int_eq(err.code, 0);
	ck_assert_str_eq(err.msg, "");
}
END_TEST

START_TEST(sizes_are_read)
{
	uint64_t bytes = 1;
	struct err err = ERR_INIT;

	ck_assert_msg(units_parse_size(sizes[_i].text, &bytes, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(bytes, sizes[_i].value);
}
END_TEST

START_TEST(nonsense_is_rejected_and_quoted)
{
	char quoted[64];
	uint64_t value = 4099;
	struct err err = ERR_INIT;
	int r;

	snprintf(quoted, sizeof(quoted), "invalid duration '%s': ", rejected[_i]);
	r = units_parse_duration(rejected[_i], &value, &err);
	ck_assert_int_lt(r, 0);
	ck_assert_int_eq(err.code, -r);
	ck_assert_msg(strncmp(err.msg, quoted, strlen(quoted)) == 0, "%s", err.msg);

	snprintf(quoted, sizeof(quoted), "invalid size '%s': ", rejected[_i]);
	r = units_parse_size(rejected[_i], &value, &err);
	ck_assert_int_lt(r, 0);
	ck_assert_msg(strncmp(err.msg, quoted, strlen(quoted)) == 0, "%s", err.msg);
	ck_assert_uint_eq(value, 4099);
}
END_TEST

START_TEST(units_do_not_mix)
{
	uint64_t value;

	ck_assert_int_eq(units_parse_size("5s", &value, NULL), -EINVAL);
	ck_assert_int_eq(units_parse_size("5min", &value, NULL), -EINVAL);
	ck_assert_int_eq(units_parse_duration("5K", &value, NULL), -EINVAL);
	ck_assert_int_eq(units_parse_duration("5MB", &value, NULL), -EINVAL);
	ck_assert_int_eq(units_parse_duration("5M", &value, NULL), -EINVAL); /* months? megaseconds? */
}
END_TEST

START_TEST(messages_say_why)
{
	uint64_t value;
	struct err err = ERR_INIT;

	ck_assert_int_eq(units_parse_duration("-1", &value, &err), -EINVAL);
	ck_assert_str_eq(err.msg, "invalid duration '-1': must be positive");
	ck_assert_int_eq(units_parse_duration("", &value, &err), -EINVAL);
	ck_assert_str_eq(err.msg, "invalid duration '': must not be empty");
	ck_assert_int_eq(units_parse_duration("999999d", &value, &err), -ERANGE);
	ck_assert_str_eq(err.msg, "invalid duration '999999d': is too large");
	ck_assert_int_eq(units_parse_size("8388608T", &value, &err), -ERANGE);
	ck_assert_str_eq(err.msg, "invalid size '8388608T': is too large");
	ck_assert_int_eq(units_parse_size("many", &value, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "invalid size 'many': must be a number with a unit"));
}
END_TEST

struct print_case {
	double value;
	const char *text;
};

static const struct print_case printed_bytes[] = {
	{ 0, "0 B" },
	{ 1, "1 B" },
	{ 999, "999 B" },
	{ 1023, "1023 B" },
	{ 0.3, "0.30 B" },
	{ 1024, "1.00 KiB" },
	{ 1069548, "1.02 MiB" },
	{ -1069548, "-1.02 MiB" },
	{ 10.24 * 1024, "10.2 KiB" },
	{ 9.996 * 1024, "10.0 KiB" },
	{ 99.96 * 1024, "100 KiB" },
	{ 123.4 * 1048576, "123 MiB" },
	{ 1023.0 * 1024, "1023 KiB" },
	{ 1023.9 * 1024, "1.00 MiB" },
	{ 1073741824.0 * 3.5, "3.50 GiB" },
	{ 1099511627776.0 * 2, "2.00 TiB" },
	{ 18446744073709551615.0, "16.0 EiB" },
	{ (double)NAN, "unknown" },
	{ (double)INFINITY, "unknown" },
	{ -1e300, "unknown" },
};

static const struct print_case printed_durations[] = {
	{ 0, "0 s" },
	{ 21e-9, "21 ns" },
	{ 0.000021, "21 us" },
	{ 0.00021, "0.21 ms" },
	{ 0.0032, "3.2 ms" },
	{ 0.5, "500 ms" },
	{ 0.9999, "1.0 s" },
	{ 1, "1.0 s" },
	{ 9.96, "10 s" },
	{ 26, "26 s" },
	{ 26 * 60, "26 min" },
	{ 119.4, "119 s" },
	{ 120, "2.0 min" },
	{ 3.2 * 3600, "3.2 h" },
	{ 4.1 * 86400, "4.1 d" },
	{ 365.0 * 86400, "365 d" },
	{ 3652.5 * 86400, "10 y" },
	{ -26, "-26 s" },
	{ (double)NAN, "unknown" },
	{ (double)INFINITY, "unknown" },
};

START_TEST(bytes_are_printed)
{
	struct str out = STR_INIT;

	units_add_bytes(&out, printed_bytes[_i].value);
	ck_assert_str_eq(str_text(&out), printed_bytes[_i].text);
	str_deinit(&out);
}
END_TEST

START_TEST(durations_are_printed)
{
	struct str out = STR_INIT;

	units_add_duration(&out, printed_durations[_i].value);
	ck_assert_str_eq(str_text(&out), printed_durations[_i].text);
	str_deinit(&out);
}
END_TEST

START_TEST(times_are_rfc3339)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1795176625123999999, "2026-11-20T12:10:25.123Z" },
		{ 951782400000000000, "2000-02-29T00:00:00.000Z" },
		{ -1, "1969-12-31T23:59:59.999Z" },
		{ -1000000000, "1969-12-31T23:59:59.000Z" },
		{ INT64_MAX, "2262-04-11T23:47:16.854Z" },
		{ INT64_MIN, "1677-09-21T00:12:43.145Z" },
	};

	setenv("TZ", "Asia/Tokyo", 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str out = STR_INIT;

		units_add_rfc3339(&out, cases[i].ns);
		ck_assert_str_eq(str_text(&out), cases[i].text);
		str_deinit(&out);
	}
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
	Suite *suite = suite_create("units");
	TCase *tc = tcase_create("units");
	SRunner *runner = srunner_create(suite);
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, durations_are_read, 0, COUNT(durations));
	tcase_add_loop_test(tc, sizes_are_read, 0, COUNT(sizes));
	tcase_add_loop_test(tc, nonsense_is_rejected_and_quoted, 0, COUNT(rejected));
	tcase_add_test(tc, units_do_not_mix);
	tcase_add_test(tc, messages_say_why);
	tcase_add_loop_test(tc, bytes_are_printed, 0, COUNT(printed_bytes));
	tcase_add_loop_test(tc, durations_are_printed, 0, COUNT(printed_durations));
	tcase_add_test(tc, times_are_rfc3339);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
