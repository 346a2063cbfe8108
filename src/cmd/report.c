/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memwatch report FILE: a saved report, rendered again. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "memwatch/base/io.h"
#include "memwatch/base/log.h"
#include "memwatch/report.h"

#define REPORT_MAX_BYTES (256 << 20)

struct report_args {
	int format;
	const char *output;
	bool help;
};

static const char *const format_choices[] = { "text", "json", "ndjson", NULL };

static const struct opt report_options[] = {
	{ 'f', "format", OPT_CHOICE, offsetof(struct report_args, format), "FORMAT",
	  "text (default), json, or ndjson: the JSON on one line", format_choices, 0, 0 },
	{ 'o', "output", OPT_TEXT, offsetof(struct report_args, output), "FILE", "write to FILE; - is standard output",
	  NULL, 0, 0 },
	{ 'h', "help", OPT_FLAG, offsetof(struct report_args, help), NULL, "this text", NULL, 0, 0 },
	OPT_END,
};

static int read_file(const char *path, struct str *text, struct err *err)
{
	cleanup_close int fd =
		strcmp(path, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return err_set(err, errno, "cannot read '%s': %s", path, strerror(errno));
	rc = io_read_all(fd, REPORT_MAX_BYTES, text);
	if (rc < 0)
		return err_set(err, -rc, "cannot read '%s': %s", path, strerror(-rc));
	return 0;
}

static int render(const struct report_args *args, const char *path, struct err *err)
{
	cleanup_str struct str text = STR_INIT, out = STR_INIT;
	const struct report_style style = { 0 };
	struct snapshot snapshot;
	int rc = read_file(path, &text, err);

	if (rc < 0)
		return rc;
	snapshot_init(&snapshot);
	rc = report_parse(text.data ? text.data : "", text.len, &snapshot, err);
	if (rc < 0) {
		err_prefix(err, "'%s'", path);
	} else {
		rc = report_format_find(format_choices[args->format])->render(&snapshot, &style, &out);
		if (rc < 0)
			err_set(err, -rc, "cannot render '%s': %s", path, strerror(-rc));
	}
	snapshot_deinit(&snapshot);
	return rc < 0 ? rc : io_write_file(args->output ? args->output : "-", out.data, out.len, err);
}

static int run(int argc, char **argv)
{
	struct report_args args = { 0 };
	struct err err = ERR_INIT;
	int first;

	if (opt_parse(report_options, argc - 1, argv + 1, false, &args, &first, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (args.help) {
		command_print_help(&command_report);
		return EXIT_OK;
	}
	if (argc - 1 - first != 1) {
		log_error("report takes one file: memwatch report FILE [--format text|json|ndjson]");
		return EXIT_USAGE;
	}
	if (render(&args, argv[1 + first], &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

const struct command command_report = { "report", "report FILE [--format text|json|ndjson]",
					"render a saved report again", report_options, run };
