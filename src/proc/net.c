/* SPDX-License-Identifier: GPL-3.0-or-later */
/* /proc/PID/net/dev: what the network namespace of a process has received and sent. */
#include <errno.h>
#include <stddef.h>

#include "files.h"
#include "memwatch/base/cursor.h"
#include "memwatch/proc.h"
#include "text.h"

#define RECEIVED 0 /* columns behind the interface's name, proc_pid_net(5) */
#define SENT 8

/* "bytes packets errs drop fifo frame compressed multicast bytes …" */
static bool add_interface(struct text columns, uint64_t *sum)
{
	struct cursor c;
	uint64_t value, total = 0;

	cursor_init(&c, columns.data, columns.len);
	for (int i = 0; i <= SENT; i++) {
		cursor_blanks(&c);
		if (!cursor_dec(&c, &value))
			return false;
		if (i == RECEIVED || i == SENT)
			total += value;
	}
	*sum += total; /* unsigned: hostile figures wrap, they do no harm */
	return true;
}

int parse_net_dev(const char *buf, size_t len, uint64_t *ret_bytes)
{
	struct text line, name, columns;
	struct cursor c;
	uint64_t sum = 0;
	size_t headings = 0;

	cursor_init(&c, buf, len);
	while (cursor_line(&c, &line.data, &line.len)) {
		if (headings < 2) { /* two lines of headings, with bars between the groups of columns */
			struct text left;

			if (!text_split(line, '|', &left, &columns))
				return -EBADMSG;
			headings++;
			continue;
		}
		/* An alias "eth0:1" has no line of its own here; a name may hold no colon. */
		if (!text_split(line, ':', &name, &columns) || !add_interface(columns, &sum))
			return -EBADMSG;
	}
	if (headings < 2)
		return -EBADMSG;
	*ret_bytes = sum;
	return 0;
}

int proc_read_net(struct proc *p, uint64_t *ret_bytes)
{
	cleanup_str struct str text = STR_INIT;
	int r = files_read_str(p->dir_fd, "net/dev", &text);

	return r < 0 ? r : parse_net_dev(str_text(&text), text.len, ret_bytes);
}
