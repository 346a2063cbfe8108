/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINES_BUFFER_BYTES ((size_t)64 << 10)

int lines_open(struct lines *l, int dir_fd, const char *path)
{
	*l = (struct lines){ .fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC) };
	if (l->fd < 0)
		return -errno;
	l->buf = malloc(LINES_BUFFER_BYTES);
	return l->buf ? 0 : -ENOMEM;
}

void lines_close(struct lines *l)
{
	free(l->buf);
	if (l->fd >= 0)
		close(l->fd);
	*l = (struct lines){ .fd = -1 };
}

static int lines_fill(struct lines *l)
{
	ssize_t n;

	memmove(l->buf, l->buf + l->pos, l->len - l->pos);
	l->len -= l->pos;
	l->pos = 0;
	do {
		n = read(l->fd, l->buf + l->len, LINES_BUFFER_BYTES - l->len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	l->end = n == 0;
	l->len += (size_t)n;
	return 0;
}

/* Takes what the buffer offers: up to the newline, or the cut head of a line that the buffer cannot hold. */
static bool lines_take(struct lines *l, struct text *ret)
{
	char *start = l->buf + l->pos, *newline;
	size_t left = l->len - l->pos;

	newline = left ? memchr(start, '\n', left) : NULL;
	if (newline)
		left = (size_t)(newline - start);
	else if (!l->end && left < LINES_BUFFER_BYTES)
		return false;
	l->pos += left + (newline ? 1 : 0);
	*ret = (struct text){ start, left };
	return newline || left;
}

int lines_next(struct lines *l, struct text *ret)
{
	for (;;) {
		struct text line;

		if (lines_take(l, &line)) {
			bool rest_of_cut_line = l->skip;

			l->skip = l->pos == l->len && line.len == LINES_BUFFER_BYTES;
			if (rest_of_cut_line)
				continue;
			*ret = line;
			return 1;
		}
		if (l->end)
			return 0;
		int r = lines_fill(l);

		if (r < 0)
			return r;
	}
}
