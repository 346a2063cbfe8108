/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memwatch analyze FILE...: the verdict on series that were recorded, by memwatch or by another tool. No target is needed. */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <unistd.h>

#include "cmd/analyze.h"
#include "cmd/cmd.h"
#include "memwatch/base/io.h"
#include "memwatch/base/log.h"
#include "memwatch/verdict.h"

/* Kept for the next series instead of given back: else a fifth of the time goes into pages that come and go. */
#define KEPT_BYTES (64 << 20)
#define FILE_MAX_BYTES ((size_t)1 << 30) /* RECORDING_ROWS_MAX rows of 50 bytes */

static const struct opt analyze_options[] = {
	{ 0, "json", OPT_FLAG, offsetof(struct analyze_args, json), NULL,
	  "one report a line on standard output (NDJSON), and nothing else there", NULL, 0, 0 },
	{ 'o', "output", OPT_TEXT, offsetof(struct analyze_args, output), "FILE",
	  "write the reports to FILE, one a line; - is standard output", NULL, 0, 0 },
	{ 'f', "format", OPT_CHOICE, offsetof(struct analyze_args, format), "FORMAT",
	  "of the files: auto, report, stream, csv, mprof, massif, psrecord, prometheus", recording_format_names, 0,
	  0 },
	{ 0, "limit", OPT_BYTES, offsetof(struct analyze_args, limit_bytes), "BYTES",
	  "a limit for the forecast (K, M, G; KB, MB, GB)", NULL, 0, 0 },
	{ 0, "expect", OPT_CHOICE, offsetof(struct analyze_args, expect), "WHAT",
	  "transient: a unit of work should leave nothing behind, so growth with the work is a leak; any (default)",
	  watch_expect_choices, 0, 0 },
	{ 0, "fail-on", OPT_SET, offsetof(struct analyze_args, fail_on), "CLASS,...",
	  "exit with status 3 if a series has such a verdict", verdict_class_names, 0, 0 },
	{ 'q', "quiet", OPT_FLAG, offsetof(struct analyze_args, quiet), NULL, "errors only on standard error", NULL, 0,
	  0 },
	{ 0, "color", OPT_CHOICE, offsetof(struct analyze_args, color), "WHEN", "colour: auto, always, never",
	  watch_color_choices, 0, 0 },
	{ 'h', "help", OPT_FLAG, offsetof(struct analyze_args, help), NULL, "this text", NULL, 0, 0 },
	OPT_END,
};

static const char *shown_name(const char *file)
{
	return strcmp(file, "-") == 0 ? "standard input" : file;
}

/* "line 7: what is wrong" becomes "FILE:7: what is wrong", which editors can follow. */
static void complain(const char *file, const struct err *err)
{
	static const char head[] = "line ";
	const char *digits = err->msg + sizeof(head) - 1;
	size_t count = strncmp(err->msg, head, sizeof(head) - 1) == 0 ? strspn(digits, "0123456789") : 0;

	if (count > 0 && strncmp(digits + count, ": ", 2) == 0)
		log_error("%s:%s", shown_name(file), digits);
	else
		log_error("%s: %s", shown_name(file), err->msg);
}

static int read_file(const char *file, struct str *text, struct err *err)
{
	cleanup_close int fd = strcmp(file, "-") == 0 ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) :
							open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc = fd < 0 ? -errno : io_read_all(fd, FILE_MAX_BYTES, text);

	if (rc == -EFBIG)
		return err_set(err, -rc, "is larger than %zu MiB: analyse it in pieces", FILE_MAX_BYTES >> 20);
	return rc < 0 ? err_set(err, -rc, "cannot be read: %s", strerror(-rc)) : 0;
}

/* *ret as recording_parse() leaves it. The text is freed before anything is judged. */
static int load(const struct analyze_args *args, const char *file, struct recording *ret, struct err *err)
{
	cleanup_str struct str text = STR_INIT;
	int rc = read_file(file, &text, err);

	if (rc < 0)
		return rc;
	return recording_parse(str_text(&text), text.len, (enum recording_format)args->format, ret, err);
}

/* -errno with a message only where nothing more can be done: out of memory, or the output is gone. */
static int analyze_one(const struct recording *r, const struct recorded_series *series, const char *file,
		       struct analyze_output *o, bool *gate, struct err *err)
{
	struct snapshot snapshot;
	int rc;

	snapshot_init(&snapshot);
	rc = analyze_series(o->args, file, r, series, analyze_output_detail(o), &snapshot);
	if (rc < 0) {
		err_set(err, -rc, "%s: cannot be analysed: %s", shown_name(file), strerror(-rc));
	} else {
		*gate = *gate || verdict_in_set(&snapshot.main.verdict, o->args->fail_on);
		rc = analyze_output_add(o, &snapshot, err);
	}
	snapshot_deinit(&snapshot);
	return rc;
}

static int analyze_file(const char *file, struct analyze_output *o, bool *gate, struct err *err)
{
	/* A file that holds nothing is told like one that holds too little. */
	struct recorded_life none = { 0, 0 };
	const struct recorded_series empty = { .label = "", .lives = &none, .life_count = 1 };
	struct recording r;
	struct err why = ERR_INIT;
	int rc = load(o->args, file, &r, &why);

	if (rc < 0) {
		complain(file, &why);
		o->files_failed++;
		return 0;
	}
	if (r.series_count == 0)
		rc = analyze_one(&r, &empty, file, o, gate, err);
	for (size_t i = 0; rc >= 0 && i < r.series_count; i++)
		rc = analyze_one(&r, &r.series[i], file, o, gate, err);
	recording_deinit(&r);
	return rc;
}

static int analyze(const struct analyze_args *args, char *const *files, size_t count)
{
	struct analyze_output o;
	struct err err = ERR_INIT;
	bool gate = false;
	int rc;

	mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
	mallopt(M_MMAP_THRESHOLD,
		KEPT_BYTES / 2); /* glibc allows no more: a long recording's text still goes at once */
	rc = analyze_output_init(&o, args, files, count, &err);
	for (size_t i = 0; rc >= 0 && i < count; i++)
		rc = analyze_file(files[i], &o, &gate, &err);
	if (rc >= 0)
		rc = analyze_output_end(&o, &err);
	analyze_output_deinit(&o);
	if (rc < 0)
		log_error("%s", err.msg);
	if (rc == -EINVAL)
		return EXIT_USAGE;
	if (rc < 0 || o.files_failed > 0)
		return EXIT_FAILED;
	return gate ? EXIT_GATE : EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct analyze_args args = { 0 };
	struct err err = ERR_INIT;
	int first;

	if (opt_parse(analyze_options, argc - 1, argv + 1, false, &args, &first, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (args.help) {
		command_print_help(&command_analyze);
		return EXIT_OK;
	}
	if (args.quiet)
		log_set_level(LOG_ERROR);
	first++; /* opt_parse() counts from behind the command's name */
	if (first >= argc) {
		log_error("no recording given: memwatch analyze [OPTIONS] FILE... (- is standard input)");
		return EXIT_USAGE;
	}
	if (args.json && args.output && strcmp(args.output, "-") != 0) {
		log_error("--json means '-o -'; leave out one of --json and -o '%s'", args.output);
		return EXIT_USAGE;
	}
	return analyze(&args, argv + first, (size_t)(argc - first));
}

const struct command command_analyze = { "analyze", "analyze [OPTIONS] FILE...",
					 "verdicts on recorded series: reports, streams, CSV, mprof, massif, ...",
					 analyze_options, run };
