/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memwatch run [OPTIONS] -- CMD [ARG...] */
#include <errno.h>

#include "cmd/cmd.h"
#include "memwatch/base/log.h"
#include "memwatch/model.h"

static const struct opt run_options[] = {
	WATCH_OPTIONS,
	OPT_END,
};

static int parse(int argc, char **argv, struct watch_args *args, int *ret_first, struct err *err)
{
	int rc = opt_parse(run_options, argc - 1, argv + 1, true, args, ret_first, err);

	if (rc < 0 || args->help)
		return rc;
	++*ret_first; /* opt_parse() counts from behind the command's name */
	if (*ret_first >= argc)
		return err_set(err, EINVAL, "no command given: memwatch run [OPTIONS] -- CMD [ARG...]");
	return watch_check(args, true, err);
}

static int run(int argc, char **argv)
{
	struct watch_args args = { 0 };
	struct err err = ERR_INIT;
	int first = 0;

	if (parse(argc, argv, &args, &first, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (args.help) {
		command_print_help(&command_run);
		return EXIT_OK;
	}
	return watch(&args, argv + first);
}

const struct command command_run = { "run", "run [OPTIONS] -- CMD [ARG...]",
				     "run a program and watch it from exec to exit", run_options, run };
