/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /proc/PID/stat and statm. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

/* Field numbers of proc(5); the first number after the state is field 4. */
enum {
	STAT_PPID = 4,
	STAT_PGRP = 5,
	STAT_SESSION = 6,
	STAT_MINFLT = 10,
	STAT_MAJFLT = 12,
	STAT_UTIME = 14,
	STAT_STIME = 15,
	STAT_NUM_THREADS = 20,
	STAT_STARTTIME = 22,
	STAT_VSIZE = 23,
	STAT_RSS = 24,
	STAT_STARTSTACK = 28,
	STAT_KSTKESP = 29,
	STAT_START_BRK = 47, /* 3.3 */
	STAT_FIELDS
};

int parse_statm(const char *buf, size_t len, struct statm *ret)
{
	struct statm s;
	struct cursor c;

	cursor_init(&c, buf, len);
	if (!cursor_dec(&c, &s.size_pages) || !cursor_dec(&c, &s.resident_pages) || !cursor_dec(&c, &s.shared_pages))
		return -EBADMSG;
	*ret = s;
	return 0;
}

/* Negative numbers (tpgid, nice) are stored as 0: none of the fields wanted here can be below zero. */
static bool stat_number(struct cursor *c, uint64_t *ret)
{
	bool negative;
	uint64_t value;

	cursor_blanks(c);
	negative = cursor_lit(c, "-");
	if (!cursor_dec(c, &value))
		return false;
	*ret = negative ? 0 : value;
	return true;
}

static pid_t pid_of(uint64_t value)
{
	return value > INT_MAX ? 0 : (pid_t)value;
}

int parse_stat(const char *buf, size_t len, struct stat_line *ret)
{
	uint64_t field[STAT_FIELDS] = { 0 };
	struct stat_line s = { .state = '?' };
	const char *open, *close;
	struct cursor c;
	int count;

	/* The name may hold ") S (" and newlines: it ends at the last parenthesis, as only numbers follow. */
	open = len ? memchr(buf, '(', len) : NULL;
	close = len ? memrchr(buf, ')', len) : NULL;
	if (!open || !close || close < open)
		return -EBADMSG;
	text_copy((struct text){ open + 1, (size_t)(close - open) - 1 }, s.comm, sizeof(s.comm));

	cursor_init(&c, close + 1, len - (size_t)(close + 1 - buf));
	cursor_blanks(&c);
	if (cursor_left(&c) < 2)
		return -EBADMSG;
	s.state = (char)c.data[c.pos];
	if (!cursor_skip(&c, 1))
		return -EBADMSG;
	for (count = STAT_PPID; count < STAT_FIELDS && stat_number(&c, &field[count]); count++)
		;
	if (count <= STAT_RSS)
		return -EBADMSG;

	s.ppid = pid_of(field[STAT_PPID]);
	s.pgrp = pid_of(field[STAT_PGRP]);
	s.session = pid_of(field[STAT_SESSION]);
	s.minor_faults = field[STAT_MINFLT];
	s.major_faults = field[STAT_MAJFLT];
	s.utime_ticks = field[STAT_UTIME];
	s.stime_ticks = field[STAT_STIME];
	s.threads = field[STAT_NUM_THREADS];
	s.start_ticks = field[STAT_STARTTIME];
	s.vsize_bytes = field[STAT_VSIZE];
	s.rss_pages = field[STAT_RSS];
	s.start_stack = field[STAT_STARTSTACK];
	s.stack_pointer_hint = field[STAT_KSTKESP];
	s.start_brk = field[STAT_START_BRK];
	*ret = s;
	return 0;
}
