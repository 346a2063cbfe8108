/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where the results of `analyze` go: NDJSON as it comes, text once it is known how many series there are. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/analyze.h"
#include "cmd/cmd.h"
#include "memwatch/base/io.h"

#define BLOCKS_MAX 20                       /* more series get a line each */
#define UNWRITTEN_BYTES ((size_t)256 << 10) /* gathered before they are written */

static bool is_standard_output(const char *path)
{
	return strcmp(path, "-") == 0 || strcmp(path, "/dev/stdout") == 0;
}

/* An input that -o would empty before it is read. */
static bool is_input(const char *path, char *const *files, size_t file_count)
{
	struct stat out;
	struct stat in;

	if (stat(path, &out) < 0 || !S_ISREG(out.st_mode))
		return false;
	for (size_t i = 0; i < file_count; i++)
		if (strcmp(files[i], "-") != 0 && stat(files[i], &in) == 0 && in.st_dev == out.st_dev &&
		    in.st_ino == out.st_ino)
			return true;
	return false;
}

static int open_ndjson(struct analyze_output *o, const char *path, char *const *files, size_t file_count,
		       struct err *err)
{
	int rc;

	if (!path)
		return 0;
	if (is_standard_output(path)) {
		o->fd = STDOUT_FILENO;
		o->text = false;
		return 0;
	}
	if (is_input(path, files, file_count))
		return err_set(err, EINVAL, "'%s' is to be read and to be written: give -o another name", path);
	rc = io_check_writable(path, err);
	if (rc < 0)
		return rc;
	o->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
	return o->fd < 0 ? err_set(err, errno, "cannot write '%s': %s", path, strerror(errno)) : 0;
}

int analyze_output_init(struct analyze_output *o, const struct analyze_args *args, char *const *files,
			size_t file_count, struct err *err)
{
	*o = (struct analyze_output){ .args = args,
				      .style = command_style(args->color, STDOUT_FILENO),
				      .text = true,
				      .with_source = file_count > 1,
				      .fd = -1,
				      .ndjson = STR_INIT,
				      .blocks = STR_INIT,
				      .lines = STR_INIT };
	return open_ndjson(o, args->json && !args->output ? "-" : args->output, files, file_count, err);
}

void analyze_output_deinit(struct analyze_output *o)
{
	if (o->fd >= 0 && o->fd != STDOUT_FILENO)
		close(o->fd);
	o->fd = -1;
	str_deinit(&o->ndjson);
	str_deinit(&o->blocks);
	str_deinit(&o->lines);
}

static int refuse(const struct analyze_output *o, int fd, int code, struct err *err)
{
	if (code == ENOMEM)
		return err_set(err, code, "out of memory while writing the result");
	if (fd == STDOUT_FILENO)
		return err_set(err, code, "cannot write to standard output: %s", strerror(code));
	return err_set(err, code, "cannot write '%s': %s", o->args->output, strerror(code));
}

/* Writes what has been gathered once it is worth a write, or at the end. */
static int flush(const struct analyze_output *o, int fd, struct str *text, size_t least, struct err *err)
{
	int rc = str_status(text);

	if (rc >= 0 && text->len > least) {
		rc = io_write_all(fd, text->data, text->len);
		str_reset(text);
	}
	return rc < 0 ? refuse(o, fd, -rc, err) : 0;
}

enum analyze_detail analyze_output_detail(const struct analyze_output *o)
{
	if (o->fd >= 0)
		return ANALYZE_SERIES;
	return o->text && o->series_count < BLOCKS_MAX ? ANALYZE_METRICS : ANALYZE_VERDICT;
}

static int add_text(struct analyze_output *o, const struct snapshot *snapshot, struct err *err)
{
	int rc = report_recording_line(snapshot, o->with_source, &o->style, &o->lines);

	if (rc >= 0 && o->series_count <= BLOCKS_MAX) {
		if (o->series_count > 1)
			str_addc(&o->blocks, '\n');
		rc = report_recording_head(snapshot, &o->style, &o->blocks);
		if (rc >= 0)
			rc = report_verdict_text(snapshot, &o->style, &o->blocks);
	}
	if (rc < 0)
		return refuse(o, STDOUT_FILENO, -rc, err);
	return o->series_count > BLOCKS_MAX ? flush(o, STDOUT_FILENO, &o->lines, UNWRITTEN_BYTES, err) : 0;
}

int analyze_output_add(struct analyze_output *o, const struct snapshot *snapshot, struct err *err)
{
	int rc = 0;

	o->series_count++;
	o->class_counts[snapshot->main.verdict.class]++;
	if (o->fd >= 0) {
		rc = report_format_find("ndjson")->render(snapshot, &o->style, &o->ndjson);
		rc = rc < 0 ? refuse(o, o->fd, -rc, err) : flush(o, o->fd, &o->ndjson, UNWRITTEN_BYTES, err);
	}
	return rc >= 0 && o->text ? add_text(o, snapshot, err) : rc;
}

/* "12 series: 1 leak, 2 growth, 9 stable", the worst first. */
static void add_counts(const struct analyze_output *o, struct str *out)
{
	static const enum verdict_class order[] = { VERDICT_LEAK,   VERDICT_GROWTH,    VERDICT_SCALING,
						    VERDICT_STEP,   VERDICT_RETENTION, VERDICT_SPIKE,
						    VERDICT_WARMUP, VERDICT_STABLE,    VERDICT_INSUFFICIENT_DATA };
	const char *separator = ": ";

	_Static_assert(sizeof(order) / sizeof(order[0]) == VERDICT_CLASS_COUNT, "every class is counted");
	str_addf(out, "%zu series", o->series_count);
	for (size_t i = 0; i < VERDICT_CLASS_COUNT; i++)
		if (o->class_counts[order[i]] > 0) {
			str_addf(out, "%s%zu %s", separator, o->class_counts[order[i]], verdict_class_names[order[i]]);
			separator = ", ";
		}
	if (o->files_failed > 0)
		str_addf(out, "; %zu file%s not analysed", o->files_failed, o->files_failed == 1 ? "" : "s");
	str_addc(out, '\n');
}

int analyze_output_end(struct analyze_output *o, struct err *err)
{
	struct str *text = o->series_count > BLOCKS_MAX ? &o->lines : &o->blocks;
	int rc = 0, text_rc;

	if (o->fd >= 0)
		rc = flush(o, o->fd, &o->ndjson, 0, err);
	/* a network file system reports a full disk when the file is closed */
	if (rc >= 0 && o->fd >= 0 && o->fd != STDOUT_FILENO) {
		int closed = close(o->fd);

		o->fd = -1;
		if (closed < 0 && errno != EINTR)
			rc = refuse(o, -1, errno, err);
	}
	if (!o->text)
		return rc;
	if (o->series_count > 1 || (o->series_count > 0 && o->files_failed > 0)) {
		if (text == &o->blocks)
			str_addc(text, '\n');
		add_counts(o, text);
	}
	/* the text is written although the file could not be */
	text_rc = flush(o, STDOUT_FILENO, text, 0, rc < 0 ? NULL : err);
	return rc < 0 ? rc : text_rc;
}
