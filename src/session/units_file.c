/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * --unit-file: the target's own count, in a file.
 *
 *   rewritten or appended to, with numbers: the first number of the last whole line is the count so far;
 *   appended to, without numbers: each line is a unit. Lines from before the watching count under run only where the file is new;
 *   a FIFO: lines as they come, each a count or a unit.
 *
 * Reads are bounded: the last 4 KiB of a file with numbers, 1 MiB a tick of one whose lines are counted, or of a FIFO.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "session/private.h"
#include "session/units.h"

#define CHUNK_BYTES (64 << 10)
#define CHUNKS_A_TICK 16
#define FRESH_NS 50e6 /* twice the longest tick, of 100 Hz kernels, and some */

enum file_mode { MODE_UNKNOWN, MODE_NUMBERS, MODE_LINES };

struct units_of_file {
	struct units units;
	int fifo; /* -1: none open */
	enum file_mode mode;
	struct unit_count count;
	struct unit_lines *lines; /* MODE_LINES and FIFO */
	struct stat seen;
	bool has_seen;
	bool stale;   /* run: the file stands as it did before the start */
	bool fallen;  /* the last look found a lower count: a rewrite in the midst, or a new beginning */
	off_t offset; /* MODE_LINES: read up to here */
	int error;    /* of the last look */
	bool was_missing;
};

static struct units_of_file *of(struct units *u)
{
	return (struct units_of_file *)u;
}

static const char *file_noun(const struct units *u)
{
	const struct units_of_file *f = (const struct units_of_file *)u;

	return f->mode == MODE_LINES ? "line" : "unit";
}

static void file_close(struct units *u)
{
	struct units_of_file *f = of(u);

	if (f->fifo >= 0)
		close(f->fifo);
	free(f->lines);
	free(f);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
	return same_file(a, b) && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* A writer that opens a FIFO waits for its reader: so memwatch reads from the beginning. */
static void open_fifo(struct units_of_file *f)
{
	f->fifo = open(f->units.argument, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	f->error = f->fifo < 0 ? errno : 0;
}

static int file_open(const struct session_options *options, struct units **ret, struct err *err)
{
	struct units_of_file *f = calloc(1, sizeof(*f));
	struct stat st;

	if (f)
		f->lines = calloc(1, sizeof(*f->lines));
	if (!f || !f->lines) {
		free(f);
		return err_set(err, ENOMEM, "out of memory");
	}
	f->fifo = -1;
	f->units.argument = options->unit_file;
	if (stat(options->unit_file, &st) == 0) {
		if (S_ISFIFO(st.st_mode))
			open_fifo(f);
		else if (!S_ISREG(st.st_mode)) {
			file_close(&f->units);
			return err_set(err, EINVAL,
				       "--unit-file '%.200s' is no file and no FIFO; give the file that the program "
				       "writes its count into",
				       options->unit_file);
		}
		f->seen = st;
		f->stale = options->argv != NULL;
		f->offset = st.st_size; /* lines from before are nobody's work now */
	}
	*ret = &f->units;
	return 0;
}

/* ---- one look ---- */

/*
 * The last line that ends, or all of a file without a newline. false: nothing to go by. A line longer than the buffer has lost its
 * beginning.
 */
static bool last_line(const char *buf, size_t len, bool whole, const char **ret, size_t *ret_len)
{
	const char *end = memrchr(buf, '\n', len), *before;

	if (!end) {
		*ret = buf;
		*ret_len = len;
		return whole && len > 0;
	}
	before = end > buf ? memrchr(buf, '\n', (size_t)(end - buf)) : NULL;
	if (!before && !whole)
		return false;
	*ret = before ? before + 1 : buf;
	*ret_len = (size_t)(end - *ret);
	return true;
}

/* A file caught while it is rewritten may show a part of a number: what falls is believed only when it is seen twice. */
static void take_number(struct units_of_file *f, uint64_t number)
{
	if (f->count.known && number < f->count.now && !f->fallen) {
		f->fallen = true;
		return;
	}
	f->fallen = false;
	unit_count_number(&f->count, number);
}

static void read_lines(struct units_of_file *f, int fd, const struct stat *st)
{
	cleanup_free char *chunk = malloc(CHUNK_BYTES);

	f->count.known = true;
	if (st->st_size < f->offset) /* begun anew */
		f->offset = 0;
	for (int i = 0; chunk && i < CHUNKS_A_TICK; i++) {
		ssize_t n = pread(fd, chunk, CHUNK_BYTES, f->offset);

		if (n <= 0)
			break;
		for (ssize_t k = 0; k < n; k++)
			if (chunk[k] == '\n')
				unit_count_line(&f->count);
		f->offset += n;
	}
}

static void look_at(struct units_of_file *f, int fd, const struct stat *st)
{
	char buf[UNIT_LINE_MAX];
	off_t from = st->st_size > (off_t)sizeof(buf) ? st->st_size - (off_t)sizeof(buf) : 0;
	ssize_t n = pread(fd, buf, sizeof(buf), from);
	const char *line;
	uint64_t number;
	size_t len;

	if (n < 0) {
		f->error = errno;
		return;
	}
	if (f->mode != MODE_LINES && last_line(buf, (size_t)n, from == 0, &line, &len)) {
		bool numbered = unit_first_number(line, len, &number);

		if (f->mode == MODE_UNKNOWN && len > 0)
			f->mode = numbered ? MODE_NUMBERS : MODE_LINES;
		if (f->mode == MODE_NUMBERS && numbered)
			take_number(f, number);
	}
	if (f->mode == MODE_LINES)
		read_lines(f, fd, st);
}

static void read_fifo(struct units_of_file *f)
{
	cleanup_free char *chunk = malloc(CHUNK_BYTES);

	for (int i = 0; chunk && i < CHUNKS_A_TICK; i++) {
		ssize_t n = read(f->fifo, chunk, CHUNK_BYTES);

		if (n <= 0)
			break; /* 0: no writer now; another may come */
		unit_lines_feed(f->lines, chunk, (size_t)n);
	}
	f->count = f->lines->count;
	if (f->count.known)
		f->mode = f->count.numbered ? MODE_NUMBERS : MODE_LINES;
}

/* A file's time goes by the kernel's ticks: a change that comes right behind another may not show in it. */
static bool is_fresh(const struct stat *st)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	/* in double: files may bear any time, and far ones do not fit in nanoseconds */
	return fabs(((double)now.tv_sec - (double)st->st_mtim.tv_sec) * 1e9 +
		    (double)(now.tv_nsec - st->st_mtim.tv_nsec)) < FRESH_NS;
}

static void read_file(struct units_of_file *f)
{
	struct stat st, opened;
	int fd;

	f->error = stat(f->units.argument, &st) < 0 ? errno : 0;
	if (f->error == 0 && S_ISFIFO(st.st_mode)) {
		open_fifo(f);
		return;
	}
	if (f->error != 0 || !S_ISREG(st.st_mode))
		return;
	if ((f->has_seen || f->stale) && unchanged(&st, &f->seen) && !f->fallen)
		return;
	if (f->seen.st_ino != 0 && !same_file(&st, &f->seen))
		f->offset = 0; /* replaced: all of the new one is new */
	fd = open(f->units.argument, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 || fstat(fd, &opened) < 0) {
		f->error = errno;
	} else if (S_ISREG(opened.st_mode)) {
		look_at(f, fd, &opened);
		f->seen = opened;
		f->has_seen = true;
		f->stale = false;
		/* look again although nothing seems to change: also where there are more lines than one tick's share */
		if (is_fresh(&opened) || (f->mode == MODE_LINES && f->offset < opened.st_size))
			f->has_seen = false;
	}
	if (fd >= 0)
		close(fd);
}

static void file_read(struct units *u, struct target *t, bool last)
{
	struct units_of_file *f = of(u);

	(void)t;
	(void)last;
	if (f->fifo < 0)
		read_file(f);
	if (f->fifo >= 0)
		read_fifo(f);
	f->was_missing = f->was_missing || f->error != 0;
	if (f->count.known)
		u->value = (double)unit_count_total(&f->count);
}

static void file_gaps(struct units *u, struct session *s)
{
	struct units_of_file *f = of(u);
	char text[256];

	if (f->count.known)
		return;
	if (f->error != 0)
		snprintf(text, sizeof(text), "cannot read '%.150s': %s", u->argument, strerror(f->error));
	else
		snprintf(text, sizeof(text), "'%.150s' told no count while it was watched", u->argument);
	session_gap(s, "work", text,
		    f->error == EACCES ?
			    "make it readable for memwatch" :
			    "the program must write its count into it, or a line a unit, and flush each one");
}

const struct units_ops units_file = {
	.noun = file_noun, .open = file_open, .read = file_read, .gaps = file_gaps, .close = file_close
};
