/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * memory_profiler's .dat:
 *
 *     CMDLINE python3 train.py
 *     MEM 41.367188 1714000000.1234
 *     FUNC __main__.load 41.3672 1714000000.2000 80.1250 1714000003.5000 0
 *     CHLD 4243 12.500000 1714000000.2234
 *
 * Memory is in MiB, times are seconds since the epoch. CHLD lines (--multiprocess) give one series a process. FUNC lines mark calls.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

#include "memwatch/base/clock.h"

#define MIB_BYTES 1048576.0
#define WORDS_MAX 8

static size_t split_words(struct text line, struct text words[WORDS_MAX])
{
	size_t count = 0;

	for (size_t at = 0; at < line.len && count < WORDS_MAX;) {
		size_t begin;

		while (at < line.len && (line.at[at] == ' ' || line.at[at] == '\t'))
			at++;
		begin = at;
		while (at < line.len && line.at[at] != ' ' && line.at[at] != '\t')
			at++;
		if (at > begin)
			words[count++] = (struct text){ line.at + begin, at - begin };
	}
	return count;
}

static int bad_number(struct drafts *d, size_t line, struct text t, const char *what)
{
	char clean[CLEAN_BYTES];

	return store_bad_line(d->err, line, "'%s' is not a number (%s)", piece_clean(t, clean, sizeof(clean)), what);
}

static int add_value(struct drafts *d, size_t line, struct draft *s, struct text memory, struct text time)
{
	double mib;
	double t;
	double *row;
	int column = draft_column(s, METRIC_RSS);
	int r;

	if (column < 0)
		return store_no_memory(d->err);
	if (!store_number(memory, &mib))
		return bad_number(d, line, memory, "memory in MiB");
	if (!store_number(time, &t) || !(fabs(t) <= TIME_MAX_S))
		return bad_number(d, line, time, "time in seconds");
	if (!(mib > 0)) { /* memory_profiler goes on for a moment when the process is gone */
		s->zero_count++;
		return 0;
	}
	if (d->base_ns == 0 && d->row_total == 0 && store_time_is_epoch(t) && t < (double)INT64_MAX / (double)NS_PER_S)
		d->base_ns = (int64_t)t * (int64_t)NS_PER_S;
	r = draft_row(d, s, t - (double)(d->base_ns / (int64_t)NS_PER_S), &row);
	if (r < 0)
		return r;
	row[column] = mib * MIB_BYTES;
	return 0;
}

static int get_child(struct drafts *d, size_t line, struct text pid, struct draft **ret)
{
	char key[32];
	double number;
	int r;

	if (!store_number(pid, &number) || !(number >= 1 && number <= INT32_MAX))
		return bad_number(d, line, pid, "pid");
	snprintf(key, sizeof(key), "pid %d", (int)number);
	r = drafts_get(d, (struct text){ key, strlen(key) }, ret);
	if (r == 0)
		(*ret)->pid = (pid_t)number;
	return r;
}

/* "mprof run" begins with the process; "mprof attach PID" does not, and writes the pid where the command stands. */
static int read_command(struct drafts *d, struct draft *main, struct text words[], size_t count)
{
	const char *slash = count > 1 ? memrchr(words[1].at, '/', words[1].len) : NULL;
	struct text name = count > 1 ? words[1] : (struct text){ "", 0 };
	double pid;

	main->from_start = count > 1 && !(count == 2 && store_number(name, &pid) && !isnan(pid));
	if (!main->from_start)
		return 0;
	if (slash)
		name = (struct text){ slash + 1, name.len - (size_t)(slash + 1 - name.at) };
	return draft_set(&main->comm, name) < 0 ? store_no_memory(d->err) : 0;
}

static int read_line(struct drafts *d, struct text line, size_t number, bool ended)
{
	struct text words[WORDS_MAX];
	size_t count = split_words(line, words);
	bool child = count > 0 && piece_is(words[0], "CHLD");
	struct draft *s;
	char clean[CLEAN_BYTES];
	int r;

	if (count == 0 || piece_is(words[0], "FUNC"))
		return 0;
	if (piece_is(words[0], "CMDLINE") || piece_is(words[0], "CMDL"))
		return read_command(d, &d->list[0], words, count);
	if (!child && !piece_is(words[0], "MEM")) {
		if (!ended)
			return drafts_note(d, "line %zu, the last one, is cut off: left out", number);
		return store_bad_line(d->err, number, "'%s' is none of MEM, CHLD, FUNC, CMDLINE",
				      piece_clean(words[0], clean, sizeof(clean)));
	}
	if (count < (child ? 4U : 3U)) {
		if (!ended)
			return drafts_note(d, "line %zu, the last one, is cut off: left out", number);
		return store_bad_line(d->err, number, "expected '%s'",
				      child ? "CHLD PID MEBIBYTES SECONDS" : "MEM MEBIBYTES SECONDS");
	}
	s = &d->list[0];
	r = child ? get_child(d, number, words[1], &s) : 0;
	return r < 0 ? r : add_value(d, number, s, words[child ? 2 : 1], words[child ? 3 : 2]);
}

int store_read_mprof(struct text text, struct drafts *d)
{
	struct text line;
	struct draft *main;
	size_t number = 0;
	bool ended;
	int r = drafts_get(d, TEXT("main process"), &main);

	while (r == 0 && piece_line(&text, &line, &ended))
		r = read_line(d, line, ++number, ended);
	return r;
}
