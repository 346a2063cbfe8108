/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memwatch --pid PID, memwatch attach PID */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "memwatch/base/log.h"
#include "memwatch/model.h"

static const struct opt attach_options[] = {
	{ 'p', "pid", OPT_PID, offsetof(struct watch_args, pid), "PID", "the process to watch", NULL, 0, 0 },
	WATCH_OPTIONS,
	OPT_END,
};

/* The operand form, `attach PID`, goes through the same check as --pid. */
static int take_pid(const char *text, struct watch_args *args, struct err *err)
{
	char option[] = "--pid", copy[64];
	char *argv[] = { option, copy, NULL };
	int first;

	if (strlen(text) >= sizeof(copy))
		return err_set(err, EINVAL, "invalid pid '%.40s...': must be a process id (a positive number)", text);
	memcpy(copy, text, strlen(text) + 1);
	return opt_parse(attach_options, 2, argv, false, args, &first, err);
}

static int parse(int argc, char **argv, struct watch_args *args, struct err *err)
{
	int first, rc = opt_parse(attach_options, argc - 1, argv + 1, false, args, &first, err);

	if (rc < 0 || args->help)
		return rc;
	first++; /* opt_parse() counts from behind the command's name */
	if (first < argc && args->pid == 0) {
		rc = take_pid(argv[first++], args, err);
		if (rc < 0)
			return rc;
	}
	if (first < argc)
		return err_set(err, EINVAL,
			       "unexpected argument '%s': one process at a time (--children follows its tree)",
			       argv[first]);
	if (args->pid == 0)
		return err_set(err, EINVAL, "no process given: memwatch --pid PID");
	return watch_check(args, false, err);
}

static int run(int argc, char **argv)
{
	struct watch_args args = { 0 };
	struct err err = ERR_INIT;

	if (parse(argc, argv, &args, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (args.help) {
		command_print_help(&command_attach);
		return EXIT_OK;
	}
	return watch(&args, NULL);
}

const struct command command_attach = { "attach", "--pid PID [OPTIONS]   (or: attach PID)", "watch a running process",
					attach_options, run };
