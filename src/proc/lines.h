/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lines of a file through one buffer of 64 KiB, whatever the size of the file. A line that is longer is cut; the rest of
 * it is skipped. (The kernel's longest: a mapping's path, some KiB.)
 *
 *     struct lines lines;
 *     int r = lines_open(&lines, dir_fd, "maps");
 *
 *     while (r >= 0 && (r = lines_next(&lines, &line)) > 0)
 *             use(line);
 *     lines_close(&lines);
 */
#ifndef MEMWATCH_SRC_PROC_LINES_H
#define MEMWATCH_SRC_PROC_LINES_H

#include <stdbool.h>
#include <stddef.h>

#include "memwatch/base/cleanup.h"
#include "text.h"

struct lines {
	int fd;
	char *buf;
	size_t pos, len; /* unread: buf[pos .. len) */
	bool end;        /* of the file */
	bool skip;       /* until the next newline */
};

must_check int lines_open(struct lines *l, int dir_fd, const char *path); /* leaves *l closable on failure too */
void lines_close(struct lines *l);
/* 1 with a line (valid until the next call), 0 at the end, -errno. */
must_check int lines_next(struct lines *l, struct text *ret);

#endif
