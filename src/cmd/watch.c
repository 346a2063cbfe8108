/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What attach and run share: the session, its live line and stream, the report at the end. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <regex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "memwatch/base/io.h"
#include "memwatch/base/log.h"
#include "memwatch/report.h"
#include "memwatch/verdict.h"

#define SPARK_POINTS 24
#define UNSENT_MAX_BYTES ((size_t)1 << 20)
#define LIVE_PERIOD_S 0.2   /* on a terminal */
#define PLAIN_PERIOD_S 10.0 /* elsewhere */

const char *const watch_sites_choices[] = { "auto", "off", "faults", "probe", "stacks", NULL };
const char *const watch_heap_choices[] = { "auto", "off", NULL };
const char *const watch_expect_choices[] = { "any", "transient", NULL };

enum { EXPECT_ANY, EXPECT_TRANSIENT };

struct watcher {
	const struct watch_args *args;
	int stream_fd;
	bool stream_broken;
	struct str unsent;      /* of the stream: its reader is slow */
	uint64_t lines_dropped; /* … too slow */
	bool terminal;          /* standard error is one: draw a live line */
	bool drawn;
	pid_t pid;
	double next_live_s;
	double spark[SPARK_POINTS];
	size_t spark_count;
	double rss, in_use, heap_free;
	double slope_rss, slope_t_s, slope;
	struct report_style live_style;
};

/* ---- the stream ---- */

static bool takes_output(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };

	return poll(&poll_fd, 1, 0) > 0;
}

/*
 * A reader that does not read must not hold up memwatch, which the signals of its child wait for: what the stream does not take at
 * once is kept, as far as there is room, and goes out later, at the latest with the last line, which is waited for.
 */
static void stream_flush(struct watcher *w, bool wait)
{
	size_t sent = 0;

	while (sent < w->unsent.len && (wait || takes_output(w->stream_fd))) {
		size_t left = w->unsent.len - sent, piece = left < PIPE_BUF ? left : PIPE_BUF;

		if (io_write_all(w->stream_fd, w->unsent.data + sent, piece) < 0) {
			w->stream_broken = true;
			log_warning("cannot write the stream '%s': %s", w->args->stream, strerror(errno));
			break;
		}
		sent += piece;
	}
	if (sent > 0) {
		memmove(w->unsent.data, w->unsent.data + sent, w->unsent.len - sent);
		w->unsent.len -= sent;
	}
}

static void stream_out(struct watcher *w, struct str *line, bool last)
{
	if (w->stream_fd < 0 || w->stream_broken)
		return;
	if (!last && w->unsent.len + line->len > UNSENT_MAX_BYTES)
		w->lines_dropped++;
	else if (str_status(line) >= 0)
		str_addn(&w->unsent, line->data, line->len);
	stream_flush(w, last);
	if (last && w->lines_dropped > 0)
		log_warning("the reader of the stream '%s' was too slow: %" PRIu64 " lines left out", w->args->stream,
			    w->lines_dropped);
}

static int open_stream(struct watcher *w, struct err *err)
{
	const char *path = w->args->stream;

	w->stream_fd = -1;
	if (!path)
		return 0;
	w->stream_fd = strcmp(path, "-") == 0 ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3) :
						open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (w->stream_fd < 0)
		return err_set(err, errno, "cannot write the stream '%s': %s", path, strerror(errno));
	return 0;
}

/* ---- the listener ---- */

static void on_begin(void *arg, const struct target_info *target, double interval_ms)
{
	struct watcher *w = arg;
	cleanup_str struct str line = STR_INIT;

	w->pid = target->id.pid;
	if (w->stream_fd >= 0 && stream_hello(target, interval_ms, &line) >= 0)
		stream_out(w, &line, false);
}

static void push_spark(struct watcher *w, double rss)
{
	if (w->spark_count == SPARK_POINTS)
		memmove(w->spark, w->spark + 1, --w->spark_count * sizeof(*w->spark));
	w->spark[w->spark_count++] = rss;
}

static void draw(struct watcher *w, double t_s, const struct verdict *verdict)
{
	cleanup_str struct str line = STR_INIT;
	struct live_line live = { .t_s = t_s,
				  .recent_rss = w->spark,
				  .recent_count = w->spark_count,
				  .rss_bytes = w->rss,
				  .heap_in_use_bytes = w->in_use,
				  .heap_free_bytes = w->heap_free,
				  .slope_per_s = w->slope,
				  .verdict = verdict,
				  .process_count = 1 };

	push_spark(w, w->rss);
	live.recent_count = w->spark_count;
	if (t_s - w->slope_t_s >= 2.0) {
		w->slope = (w->rss - w->slope_rss) / (t_s - w->slope_t_s);
		w->slope_rss = w->rss;
		w->slope_t_s = t_s;
	}
	if (w->terminal)
		str_add(&line, "\r\033[K");
	report_live_line(&live, &w->live_style, &line);
	if (!w->terminal)
		str_addc(&line, '\n');
	if (str_status(&line) >= 0 && takes_output(STDERR_FILENO) &&
	    io_write_all(STDERR_FILENO, line.data, line.len) >= 0)
		w->drawn = true;
}

static void on_sample(void *arg, pid_t pid, const struct sample *sample, const struct verdict *verdict)
{
	struct watcher *w = arg;
	cleanup_str struct str line = STR_INIT;

	if (w->stream_fd >= 0 && stream_sample(sample, pid, &line) >= 0)
		stream_out(w, &line, false);
	if (pid != w->pid)
		return;
	if (!isnan(sample->v[METRIC_RSS]))
		w->rss = sample->v[METRIC_RSS];
	if (!isnan(sample->v[METRIC_HEAP_IN_USE])) {
		w->in_use = sample->v[METRIC_HEAP_IN_USE];
		w->heap_free = sample->v[METRIC_HEAP_FREE];
	}
	if (isnan(w->slope_rss)) {
		w->slope_rss = w->rss;
		w->slope_t_s = sample->t_s;
	}
	if (w->args->quiet || sample->t_s < w->next_live_s)
		return;
	w->next_live_s = sample->t_s + (w->terminal ? LIVE_PERIOD_S : PLAIN_PERIOD_S);
	draw(w, sample->t_s, verdict);
}

static void on_event(void *arg, double t_s, pid_t pid, const char *event, const char *detail, double value)
{
	struct watcher *w = arg;
	cleanup_str struct str line = STR_INIT;

	if (w->stream_fd >= 0 && stream_event(t_s, pid, event, detail, value, &line) >= 0)
		stream_out(w, &line, false);
}

static void on_verdict(void *arg, double t_s, pid_t pid, const struct verdict *verdict)
{
	struct watcher *w = arg;
	cleanup_str struct str line = STR_INIT;

	if (w->stream_fd >= 0 && stream_verdict(t_s, pid, verdict, &line) >= 0)
		stream_out(w, &line, false);
}

static void clear_live(struct watcher *w)
{
	if (w->terminal && w->drawn && io_write_all(STDERR_FILENO, "\r\033[K", 4) < 0)
		w->terminal = false;
	w->drawn = false;
}

/* ---- the report ---- */

static int write_report(const struct watch_args *args, const struct snapshot *snapshot, struct err *err)
{
	cleanup_str struct str text = STR_INIT;
	const char *path = args->json && !args->output ? "-" : args->output;
	const struct report_style style = { 0 };
	int rc;

	if (!path)
		return 0;
	rc = report_format_find("json")->render(snapshot, &style, &text);
	if (rc < 0)
		return err_set(err, -rc, "cannot make the report: %s", strerror(-rc));
	return io_write_file(path, text.data, text.len, err);
}

static int write_text(const struct watch_args *args, const struct snapshot *snapshot, struct err *err)
{
	cleanup_str struct str text = STR_INIT;
	struct report_style style = command_style(args->color, STDOUT_FILENO);
	bool taken = args->json || (args->output && strcmp(args->output, "-") == 0) ||
		     (args->stream && strcmp(args->stream, "-") == 0);
	int rc;

	if (taken)
		return 0;
	rc = report_format_find("text")->render(snapshot, &style, &text);
	if (rc < 0)
		return err_set(err, -rc, "cannot make the report: %s", strerror(-rc));
	return io_write_file("-", text.data, text.len, err);
}

static int report_all(struct watcher *w, struct session *session, bool *ret_gate, struct err *err)
{
	cleanup_str struct str line = STR_INIT;
	struct err ignored = ERR_INIT;
	struct snapshot snapshot;
	int rc, text_rc = 0;

	snapshot_init(&snapshot);
	rc = session_snapshot(session, &snapshot);
	if (rc < 0)
		err_set(err, -rc, "cannot make the report: %s", strerror(-rc));
	if (rc >= 0) {
		if (w->stream_fd >= 0 && stream_bye(&snapshot, &line) >= 0)
			stream_out(w, &line, true);
		*ret_gate = verdict_in_set(&snapshot.main.verdict, w->args->fail_on);
		for (size_t i = 1; i < snapshot.process_count; i++)
			*ret_gate = *ret_gate || verdict_in_set(&snapshot.processes[i].verdict, w->args->fail_on);
		/* each is written even where the other cannot be: a closed pager must not cost the report */
		rc = write_report(w->args, &snapshot, err);
		text_rc = write_text(w->args, &snapshot, rc < 0 ? &ignored : err);
	}
	snapshot_deinit(&snapshot);
	return rc < 0 ? rc : text_rc;
}

static int check_units(const struct watch_args *args, bool run, struct err *err)
{
	int given = (args->unit_func != NULL) + (args->unit_stdout != NULL) + (args->unit_file != NULL);
	regex_t regex;
	char why[128];
	int rc;

	if (given > 1)
		return err_set(err, EINVAL,
			       "units of work are counted in one way at a time; give one of --unit-func, "
			       "--unit-stdout and --unit-file");
	if (args->unit_func && !*args->unit_func)
		return err_set(err, EINVAL, "invalid --unit-func '': must name a function");
	if (args->unit_file && !*args->unit_file)
		return err_set(err, EINVAL, "invalid --unit-file '': must name a file");
	if (!args->unit_stdout)
		return 0;
	if (!run)
		return err_set(err, EINVAL,
			       "--unit-stdout '%.200s' needs a program that memwatch runs: the output of a "
			       "running process does not pass here; use --unit-file or --unit-func",
			       args->unit_stdout);
	rc = regcomp(&regex, args->unit_stdout, REG_EXTENDED | REG_NOSUB);
	if (rc != 0) {
		regerror(rc, &regex, why, sizeof(why));
		return err_set(err, EINVAL,
			       "invalid --unit-stdout '%.200s': %s; must be an extended regular expression (grep -E)",
			       args->unit_stdout, why);
	}
	regfree(&regex);
	return 0;
}

int watch_check(const struct watch_args *args, bool run, struct err *err)
{
	if (args->stream && strcmp(args->stream, "-") == 0 &&
	    (args->json || (args->output && strcmp(args->output, "-") == 0)))
		return err_set(err, EINVAL,
			       "the report and the stream cannot both go to standard output; give one of them a file");
	if (args->json && args->output && strcmp(args->output, "-") != 0)
		return err_set(err, EINVAL, "--json means '-o -'; leave out one of --json and -o '%s'", args->output);
	return check_units(args, run, err);
}

/* Before anything is started: an hour of watching must not end in a file that cannot be written. */
static int check_outputs(const struct watch_args *args, struct err *err)
{
	int rc = args->output ? io_check_writable(args->output, err) : 0;

	if (rc >= 0 && args->stream)
		rc = io_check_writable(args->stream, err);
	return rc;
}

static void watcher_init(struct watcher *w, const struct watch_args *args)
{
	*w = (struct watcher){ .args = args, .stream_fd = -1, .unsent = STR_INIT, .terminal = isatty(STDERR_FILENO) };
	w->rss = w->in_use = w->heap_free = w->slope = w->slope_rss = NAN;
	w->next_live_s = w->terminal ? 0.0 : PLAIN_PERIOD_S;
	w->live_style = command_style(args->color, STDERR_FILENO);
}

static int start_failure(int rc, bool run)
{
	if (run && rc == -ENOENT)
		return EXIT_NOT_FOUND;
	if (run && (rc == -EACCES || rc == -ENOEXEC || rc == -EISDIR))
		return EXIT_NOT_EXECUTABLE;
	return EXIT_FAILED;
}

static int child_status(const struct session *session, bool run)
{
	int status = session_wait_status(session);

	if (status < 0) /* run: given up by a second Ctrl-C, the child goes on */
		return run ? 128 + SIGINT : EXIT_OK;
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int watch(const struct watch_args *args, char *const *child)
{
	const struct session_options options = { .pid = args->pid,
						 .argv = child,
						 .duration_ns = args->duration_ns,
						 .interval_ns = args->interval_ns,
						 .budget_percent = args->budget,
						 .sites = args->sites,
						 .heap = args->heap,
						 .children = args->children,
						 .limit_bytes = args->limit_bytes,
						 .debuginfod = args->debuginfod,
						 .unit_func = args->unit_func,
						 .unit_stdout = args->unit_stdout,
						 .unit_file = args->unit_file,
						 .transient = args->expect == EXPECT_TRANSIENT };
	struct watcher w;
	const struct session_listener listener = { &w, on_begin, on_sample, on_event, on_verdict };
	struct session *session = NULL;
	struct err err = ERR_INIT;
	bool gate = false;
	int rc, status = EXIT_OK;

	watcher_init(&w, args);
	if (check_outputs(args, &err) < 0 || open_stream(&w, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_FAILED;
	}
	session_signals_install();
	rc = session_create(&options, &listener, &session, &err);
	if (rc < 0)
		status = start_failure(rc, child != NULL);
	if (rc >= 0)
		rc = session_run(session, &err);
	clear_live(&w);
	if (rc >= 0)
		rc = report_all(&w, session, &gate, &err);
	if (session) { /* a report that could not be written must not leave the child behind */
		struct err why = ERR_INIT;
		int ended = session_end_child(session, rc < 0 ? &why : &err);

		rc = rc < 0 ? rc : ended;
	}
	if (rc < 0) {
		log_error("%s", err.msg);
		if (status == EXIT_OK)
			status = EXIT_FAILED;
	} else {
		status = gate ? EXIT_GATE : child_status(session, child != NULL);
	}
	session_destroy(session);
	str_deinit(&w.unsent);
	if (w.stream_fd >= 0)
		close(w.stream_fd);
	return status;
}
