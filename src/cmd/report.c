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

static const struct opt report_options[] = {
	{ 'f', "format", OPT_CHOICE, offsetof(struct report_args, format), "FORMAT",
	  "text (default), json, or ndjson: the JSON on one line; of the call sites: folded (for flame graphs), pprof, "
	  "speedscope",
	  report_format_names, 0, 0 },
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

static bool has_sites(const struct snapshot *s)
{
	bool found = s->main.site_count > 0;

	for (size_t i = 0; i < s->process_count; i++)
		found |= s->processes[i].site_count > 0;
	return found;
}

/* An empty profile looks like a fault: say that there is nothing, and what the report says of the reason. */
static void note_no_sites(const struct snapshot *s, const char *path)
{
	bool told = false;

	for (size_t i = 0; i < s->session.gap_count; i++) {
		const struct gap *gap = &s->session.gaps[i];

		if (strcmp(gap->rung, "sites") != 0)
			continue;
		log_note("no call sites in '%s': %s%s%s", path, gap->reason, gap->remedy ? "; " : "",
			 gap->remedy ? gap->remedy : "");
		told = true;
	}
	if (!told)
		log_note("no call sites in '%s', and it names no reason; they are sought while memory grows", path);
}

static int render(const struct report_args *args, const char *path, struct err *err)
{
	cleanup_str struct str text = STR_INIT, out = STR_INIT;
	const struct report_style style = { 0 };
	const struct report_format *format = &report_formats[args->format];
	struct snapshot snapshot;
	int rc = read_file(path, &text, err);

	if (rc < 0)
		return rc;
	snapshot_init(&snapshot);
	rc = report_parse(text.data ? text.data : "", text.len, &snapshot, err);
	if (rc < 0) {
		err_prefix(err, "'%s'", path);
	} else {
		rc = format->render(&snapshot, &style, &out);
		if (rc < 0)
			err_set(err, -rc, "cannot render '%s': %s", path, strerror(-rc));
	}
	if (rc == 0 && format->sites_only && !has_sites(&snapshot))
		note_no_sites(&snapshot, path);
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
		log_error("report takes one file: memwatch report FILE [--format FORMAT] [-o FILE]");
		return EXIT_USAGE;
	}
	if (report_formats[args.format].binary && (!args.output || strcmp(args.output, "-") == 0) &&
	    isatty(STDOUT_FILENO)) {
		log_error("'%s' is binary and standard output is a terminal: give -o FILE",
			  report_formats[args.format].name);
		return EXIT_USAGE;
	}
	if (render(&args, argv[1 + first], &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_FAILED;
	}
	return EXIT_OK;
}

const struct command command_report = { "report", "report FILE [--format FORMAT] [-o FILE]",
					"render a saved report again", report_options, run };
