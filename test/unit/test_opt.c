/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "memwatch/base/opt.h"

#define ARGV_MAX 16

struct args {
	bool quiet;
	bool verbose;
	const char *output;
	uint64_t duration_ns;
	uint64_t limit_bytes;
	double confidence;
	double ratio;
	double any;
	pid_t pid;
	int format;
	uint64_t rungs;
};

static const char *const formats[] = { "text", "json", "html", NULL };
static const char *const rungs[] = { "faults", "probe", "stacks", NULL };

static const struct opt table[] = {
	{ 'd', "duration", OPT_DURATION, offsetof(struct args, duration_ns), .arg = "T", .help = "how long to watch" },
	{ 'o', "output", OPT_TEXT, offsetof(struct args, output), .arg = "FILE", .help = "write the report to FILE" },
	{ 0, "limit", OPT_BYTES, offsetof(struct args, limit_bytes), .arg = "SIZE", .help = "limit" },
	{ 0, "confidence", OPT_NUMBER, offsetof(struct args, confidence), .arg = "P", .max = 1, .help = "confidence" },
	{ 0, "ratio", OPT_NUMBER, offsetof(struct args, ratio), .min = 1, .max = HUGE_VAL, .help = "ratio" },
	{ 0, "any", OPT_NUMBER, offsetof(struct args, any), .help = "any number" },
	{ 'p', "pid", OPT_PID, offsetof(struct args, pid), .arg = "PID", .help = "process" },
	{ 'f', "format", OPT_CHOICE, offsetof(struct args, format), .choices = formats, .help = "format" },
	{ 0, "rungs", OPT_SET, offsetof(struct args, rungs), .choices = rungs, .help = "rungs" },
	{ 'q', "quiet", OPT_FLAG, offsetof(struct args, quiet), .help = "say less" },
	{ 'v', NULL, OPT_FLAG, offsetof(struct args, verbose), .help = "say more" },
	OPT_END,
};

/* One command line, split into words at blanks. */
struct line {
	char text[256];
	char *argv[ARGV_MAX];
	int argc;
	struct args args;
	int first;
	struct err err;
	int r;
};

static void parse(struct line *l, bool stop_at_first, const char *text)
{
	char *rest = l->text;
	char *word;

	*l = (struct line){ .first = -1, .args.format = -1 };
	ck_assert_uint_lt(strlen(text), sizeof(l->text));
	strcpy(l->text, text);
	while (*text && (word = strsep(&rest, " ")) != NULL) {
		ck_assert_int_lt(l->argc, ARGV_MAX);
		l->argv[l->argc++] = word;
	}
	l->r = opt_parse(table, l->argc, l->argv, stop_at_first, &l->args, &l->first, &l->err);
}

/* For what does not point into argv, which is gone with the original. */
static struct line parsed(const char *text)
{
	struct line l;

	parse(&l, false, text);
	ck_assert_msg(l.r == 0, "%s: %s", text, l.err.msg);
	return l;
}

START_TEST(values_reach_their_fields)
{
	struct line l;

	parse(&l, false,
	      "--duration=2m -o report.json --limit 64K --confidence 0.95 --ratio=1e3 --any -5 "
	      "--pid 1 --format json");
	ck_assert_msg(l.r == 0, "%s", l.err.msg);
	ck_assert_uint_eq(l.args.duration_ns, UINT64_C(120000000000));
	ck_assert_str_eq(l.args.output, "report.json");
	ck_assert_uint_eq(l.args.limit_bytes, 65536);
	ck_assert_double_eq(l.args.confidence, 0.95);
	ck_assert_double_eq(l.args.ratio, 1000);
	ck_assert_double_eq(l.args.any, -5);
	ck_assert_int_eq(l.args.pid, 1);
	ck_assert_int_eq(l.args.format, 1);
	ck_assert(!l.args.quiet);
	ck_assert_int_eq(l.first, l.argc);
}
END_TEST

START_TEST(short_forms)
{
	ck_assert_uint_eq(parsed("-d 5").args.duration_ns, UINT64_C(5000000000));
	ck_assert_uint_eq(parsed("-d5").args.duration_ns, UINT64_C(5000000000));

	struct line l = parsed("-qv");
	ck_assert(l.args.quiet);
	ck_assert(l.args.verbose);
	l = parsed("-qvd5s");
	ck_assert(l.args.quiet);
	ck_assert(l.args.verbose);
	ck_assert_uint_eq(l.args.duration_ns, UINT64_C(5000000000));
	l = parsed("-qp 17 rest");
	ck_assert_int_eq(l.args.pid, 17);
	ck_assert_int_eq(l.first, 2);
}
END_TEST

START_TEST(last_value_wins)
{
	ck_assert_uint_eq(parsed("-d 5 --duration 7").args.duration_ns, UINT64_C(7000000000));
	ck_assert_uint_eq(parsed("--rungs probe --rungs stacks").args.rungs, 4);
}
END_TEST

START_TEST(sets)
{
	ck_assert_uint_eq(parsed("--rungs faults").args.rungs, 1);
	ck_assert_uint_eq(parsed("--rungs=stacks,faults,stacks").args.rungs, 5);
}
END_TEST

START_TEST(operands_move_to_the_end_in_order)
{
	struct line l;

	parse(&l, false, "one -q two --duration 5 three -- -v four");
	ck_assert_int_eq(l.r, 0);
	ck_assert_int_eq(l.first, 4);
	ck_assert_str_eq(l.argv[4], "one");
	ck_assert_str_eq(l.argv[5], "two");
	ck_assert_str_eq(l.argv[6], "three");
	ck_assert_str_eq(l.argv[7], "-v");
	ck_assert_str_eq(l.argv[8], "four");
	ck_assert(l.args.quiet);
	ck_assert(!l.args.verbose);
	ck_assert_uint_eq(l.args.duration_ns, UINT64_C(5000000000));
}
END_TEST

START_TEST(run_leaves_the_options_of_the_command_alone)
{
	struct line l;

	parse(&l, true, "-q ./server -v --duration 5");
	ck_assert_int_eq(l.r, 0);
	ck_assert_int_eq(l.first, 1);
	ck_assert_str_eq(l.argv[1], "./server");
	ck_assert_str_eq(l.argv[4], "5");
	ck_assert(!l.args.verbose);
	ck_assert_uint_eq(l.args.duration_ns, 0);

	parse(&l, true, "-q -- -odd-name -v");
	ck_assert_int_eq(l.r, 0);
	ck_assert_int_eq(l.first, 2);
	ck_assert_str_eq(l.argv[2], "-odd-name");
}
END_TEST

START_TEST(no_operands_and_dash)
{
	struct line l = parsed("");

	ck_assert_int_eq(l.first, 0);
	l = parsed("- -q");
	ck_assert_int_eq(l.first, 1);
	ck_assert(l.args.quiet);
	parse(&l, false, "-o -");
	ck_assert_str_eq(l.args.output, "-");
	parse(&l, false, "-o-");
	ck_assert_str_eq(l.args.output, "-");
	parse(&l, false, "--output=");
	ck_assert_str_eq(l.args.output, "");
}
END_TEST

static const struct {
	const char *line;
	const char *msg;
} errors[] = {
	{ "--duration -1", "invalid --duration '-1': must be positive" },
	{ "-d 0", "invalid --duration '0': must be positive" },
	{ "--duration=", "invalid --duration '': must not be empty" },
	{ "-d 5x", "invalid --duration '5x': must be a number with a unit such as 100ms, 90s, 5m, 2h or 1d" },
	{ "--limit 9999999T", "invalid --limit '9999999T': is too large" },
	{ "--limit 0", "invalid --limit '0': must be positive" },
	{ "--durtion 5", "unknown option '--durtion': did you mean '--duration'?" },
	{ "--durtion=5", "unknown option '--durtion': did you mean '--duration'?" },
	{ "--dur 5", "unknown option '--dur': did you mean '--duration'?" },
	{ "--durations", "unknown option '--durations': did you mean '--duration'?" },
	{ "--pdi 5", "unknown option '--pdi': did you mean '--pid'?" },
	{ "--ouptut x", "unknown option '--ouptut': did you mean '--output'?" },
	{ "--Quiet", "unknown option '--Quiet': did you mean '--quiet'?" },
	{ "--wxyz", "unknown option '--wxyz': see --help" },
	{ "--=5", "unknown option '--': see --help" },
	{ "-x", "unknown option '-x': see --help" },
	{ "-qx", "unknown option '-x': see --help" },
	{ "-Q", "unknown option '-Q': did you mean '-q'?" },
	{ "-\xc3\xa9t", "unknown option '-\xc3\xa9t': see --help" },
	{ "-1", "unknown option '-1': see --help" },
	{ "--duration", "missing value of '--duration': write --duration T" },
	{ "one -d", "missing value of '--duration': write --duration T" },
	{ "-qd", "missing value of '--duration': write --duration T" },
	{ "--format", "missing value of '--format': write --format VALUE" },
	{ "--quiet=yes", "invalid --quiet 'yes': takes no value" },
	{ "--quiet=", "invalid --quiet '': takes no value" },
	{ "--format xml", "invalid --format 'xml': must be one of text, json, html" },
	{ "--format jso", "invalid --format 'jso': must be one of text, json, html" },
	{ "-f", "missing value of '--format': write --format VALUE" },
	{ "--rungs faults,prob", "invalid --rungs 'faults,prob': 'prob' is not one of faults, probe, stacks" },
	{ "--rungs faults,", "invalid --rungs 'faults,': '' is not one of faults, probe, stacks" },
	{ "--pid abc", "invalid --pid 'abc': must be a process id (a positive number)" },
	{ "-p 0", "invalid --pid '0': must be a process id (a positive number)" },
	{ "-p -5", "invalid --pid '-5': must be a process id (a positive number)" },
	{ "-p 12x", "invalid --pid '12x': must be a process id (a positive number)" },
	{ "-p +12", "invalid --pid '+12': must be a process id (a positive number)" },
	{ "--pid=", "invalid --pid '': must be a process id (a positive number)" },
	{ "-p 2147483648", "invalid --pid '2147483648': must be a process id (a positive number)" },
	{ "-p 99999999999999999999", "invalid --pid '99999999999999999999': must be a process id (a positive number)" },
	{ "--confidence 1.01", "invalid --confidence '1.01': must be a number from 0 to 1" },
	{ "--confidence nan", "invalid --confidence 'nan': must be a number from 0 to 1" },
	{ "--confidence=", "invalid --confidence '': must be a number from 0 to 1" },
	{ "--ratio 0.5", "invalid --ratio '0.5': must be a number of at least 1" },
	{ "--ratio inf", "invalid --ratio 'inf': must be a number of at least 1" },
	{ "--any 0x10", "invalid --any '0x10': must be a number" },
	{ "--any 1e999", "invalid --any '1e999': must be a number" },
	{ "--any 5-", "invalid --any '5-': must be a number" },
};

START_TEST(errors_name_the_option_and_the_remedy)
{
	struct line l;

	parse(&l, false, errors[_i].line);
	ck_assert_int_eq(l.r, -EINVAL);
	ck_assert_int_eq(l.err.code, EINVAL);
	ck_assert_str_eq(l.err.msg, errors[_i].msg);
	ck_assert_int_eq(l.first, -1);
}
END_TEST

START_TEST(largest_pid)
{
	ck_assert_int_eq(parsed("-p 2147483647").args.pid, 2147483647);
}
END_TEST

START_TEST(error_without_err_and_with_a_huge_argument)
{
	char huge[4096];
	char *argv[] = { huge, NULL };
	struct args args = { 0 };
	struct err err = ERR_INIT;
	int first;

	memset(huge, 'x', sizeof(huge));
	memcpy(huge, "--", 2);
	huge[sizeof(huge) - 1] = '\0';
	ck_assert_int_eq(opt_parse(table, 1, argv, false, &args, &first, NULL), -EINVAL);
	ck_assert_int_eq(opt_parse(table, 1, argv, false, &args, &first, &err), -EINVAL);
	ck_assert_uint_lt(strlen(err.msg), ERR_MSG_BYTES);
	memcpy(huge, "-d", 2);
	ck_assert_int_eq(opt_parse(table, 1, argv, false, &args, &first, &err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(err.msg, "invalid --duration 'xxx"));
}
END_TEST

START_TEST(help_is_aligned)
{
	static const struct opt small[] = {
		{ 'd', "duration", OPT_DURATION, 0, .arg = "T", .help = "text" },
		{ 0, "json", OPT_FLAG, 0, .help = "= -o -" },
		{ 'v', NULL, OPT_FLAG, 0, .help = "more" },
		{ 0, "hidden", OPT_FLAG, 0, .help = NULL },
		OPT_END,
	};
	struct str out = STR_INIT;

	str_add(&out, "Options:\n");
	opt_add_help(small, &out);
	ck_assert_str_eq(str_text(&out), "Options:\n"
					 "  -d, --duration T      text\n"
					 "      --json            = -o -\n"
					 "  -v                    more\n");
	str_deinit(&out);
}
END_TEST

START_TEST(help_is_wrapped)
{
	static const struct opt wide[] = {
		{ 'd', "duration", OPT_DURATION, 0, .arg = "T",
		  .help = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
			  "sixteen" },
		{ 0, "fail-on-confirmed", OPT_TEXT, 0, .arg = "CLASS", .help = "middle" },
		{ 0, "an-option-that-is-much-longer-than-the-others", OPT_TEXT, 0, .arg = "VALUE", .help = "long" },
		OPT_END,
	};
	struct str out = STR_INIT;
	const char *line;

	opt_add_help(wide, &out);
	ck_assert_str_eq(
		str_text(&out),
		"  -d, --duration T               one two three four five six seven eight nine ten eleven twelve\n"
		"                                 thirteen fourteen fifteen sixteen\n"
		"      --fail-on-confirmed CLASS  middle\n"
		"      --an-option-that-is-much-longer-than-the-others VALUE\n"
		"                                 long\n");
	line = str_text(&out);
	while (*line) {
		size_t len = strcspn(line, "\n");

		ck_assert_uint_le(len, 100);
		line += len + 1;
	}
	str_deinit(&out);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

int main(void)
{
	Suite *suite = suite_create("opt");
	TCase *tc = tcase_create("opt");
	SRunner *runner = srunner_create(suite);
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, values_reach_their_fields);
	tcase_add_test(tc, short_forms);
	tcase_add_test(tc, last_value_wins);
	tcase_add_test(tc, sets);
	tcase_add_test(tc, operands_move_to_the_end_in_order);
	tcase_add_test(tc, run_leaves_the_options_of_the_command_alone);
	tcase_add_test(tc, no_operands_and_dash);
	tcase_add_loop_test(tc, errors_name_the_option_and_the_remedy, 0, COUNT(errors));
	tcase_add_test(tc, largest_pid);
	tcase_add_test(tc, error_without_err_and_with_a_huge_argument);
	tcase_add_test(tc, help_is_aligned);
	tcase_add_test(tc, help_is_wrapped);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
