/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Standing processes: their stops, and the queue of events that they make. */
#include "trace_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include "memwatch/base/io.h"
#include "memwatch/base/vec.h"

int tracer_queue(struct tracer *t, const struct trace_event *event)
{
	if (t->queue_head > 0 && t->queue_head + t->queue_count == t->queue_cap) {
		memmove(t->queue, t->queue + t->queue_head, t->queue_count * sizeof(*t->queue));
		t->queue_head = 0;
	}
	if (vec_reserve(&t->queue, &t->queue_cap, t->queue_head + t->queue_count + 1, sizeof(*t->queue)) < 0)
		return -ENOMEM;
	t->queue[t->queue_head + t->queue_count++] = *event;
	return 0;
}

/* PTRACE_CONT or PTRACE_LISTEN. ESRCH: killed in this instant, the end will be reported. */
static void go_on(struct tracee *x, int sig)
{
	if (x->options_now != x->options && ptrace(PTRACE_SETOPTIONS, x->tid, NULL, (void *)x->options) == 0)
		x->options_now = x->options;
	x->state = TRACEE_RUNNING;
	ptrace(PTRACE_CONT, x->tid, NULL, (void *)(uintptr_t)sig);
}

/* Holds the thread and says so; where there is no memory to say so it must go on, or nobody would ever resume it. */
static void hold(struct tracer *t, struct tracee *x, enum trace_event_type type, pid_t child)
{
	struct trace_event event = { .type = type, .pid = x->pid, .tid = x->tid, .child_pid = child };

	tracee_take(x);
	x->state = TRACEE_HELD;
	if (tracer_queue(t, &event) < 0)
		go_on(x, 0);
}

static void group_stop(struct tracer *t, struct tracee *x)
{
	struct trace_event event = {
		.type = TRACE_STOPPED, .pid = x->pid, .tid = x->tid, .signal = WSTOPSIG(x->status)
	};

	x->state = TRACEE_LISTENING;
	ptrace(PTRACE_LISTEN, x->tid, NULL, NULL);
	if (!x->group_stopped && tracer_queue(t, &event) == 0)
		x->group_stopped = true;
}

static void event_stop(struct tracer *t, struct tracee *x)
{
	struct trace_event event = { .type = TRACE_CONTINUED, .pid = x->pid, .tid = x->tid, .signal = SIGCONT };

	if (stop_is_group(x->status)) {
		group_stop(t, x);
		return;
	}
	if (x->newborn && !x->released) {
		tracee_take(x);
		x->state = TRACEE_HELD;
		return;
	}
	x->newborn = false;
	if (x->group_stopped && tracer_queue(t, &event) == 0)
		x->group_stopped = false;
	/* an exec by a thread that was attached in passing leaves the leader without the standing options */
	x->options_now = -1;
	go_on(x, 0);
}

static bool thread_has_sigkill(int task_fd, const char *tid)
{
	char path[64], buf[2048];
	unsigned long long pending;
	const char *line;

	snprintf(path, sizeof(path), "%.16s/status", tid);
	if (io_read_at(task_fd, path, buf, sizeof(buf)) <= 0)
		return true; /* gone */
	line = strstr(buf, "\nState:\t");
	if (line && (line[8] == 'Z' || line[8] == 'X'))
		return true;
	line = strstr(buf, "\nSigPnd:\t");
	return line && sscanf(line + 9, "%llx", &pending) == 1 && (pending & (1ULL << (SIGKILL - 1)));
}

/*
 * Whether the process ends with its leader. A leader may also leave alone (pthread_exit); then other threads live on, whereas
 * an exit of the whole group has sent SIGKILL to each of them.
 */
static bool exit_is_final(pid_t pid)
{
	char path[64];
	struct dirent *d;
	bool final = true;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	if (!dir)
		return true;
	while (final && (d = readdir(dir)) != NULL) {
		long tid = strtol(d->d_name, NULL, 10);

		if (tid > 0 && tid != pid)
			final = thread_has_sigkill(dirfd(dir), d->d_name);
	}
	closedir(dir);
	return final;
}

static void fork_stop(struct tracer *t, struct tracee *x)
{
	unsigned long child = 0;

	if (ptrace(PTRACE_GETEVENTMSG, x->tid, NULL, &child) < 0 || child == 0) {
		go_on(x, 0);
		return;
	}
	newborn_stop(t, (pid_t)child, x->tid);
	hold(t, x, TRACE_FORK, (pid_t)child);
}

void standing_stop(struct tracer *t, struct tracee *x)
{
	switch (stop_event(x->status)) {
	case STOP_EVENT:
		event_stop(t, x);
		break;
	case PTRACE_EVENT_EXEC:
		t->stacks_stale = true;
		x->newborn = false;
		hold(t, x, TRACE_EXEC, 0);
		break;
	case PTRACE_EVENT_EXIT:
		if (exit_is_final(x->pid))
			hold(t, x, TRACE_EXIT_STOP, 0);
		else
			go_on(x, 0);
		break;
	case PTRACE_EVENT_FORK:
	case PTRACE_EVENT_VFORK:
		fork_stop(t, x);
		break;
	default: /* signal-delivery-stop, or a left-over of a catch */
		go_on(x, stop_signal(x->status));
		break;
	}
}

/* A process attached by the kernel at its birth: made known by its own first stop or by its parent's event. */
void newborn_stop(struct tracer *t, pid_t tid, pid_t parent)
{
	struct tracee *x = tracer_find(t, tid);

	if (!x && tracer_add(t, tid, tid, &x) < 0)
		return;
	if (!x->standing) {
		x->standing = true;
		x->newborn = true;
		x->options = PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
		x->options_now = -1;
	}
	if (parent)
		x->parent = parent;
}

void newborns_release(struct tracer *t, pid_t parent)
{
	for (size_t i = 0; i < t->count; i++) {
		struct tracee *x = t->tracees[i];

		if (!x->newborn || x->parent != parent)
			continue;
		x->released = true;
		if (x->state == TRACEE_HELD) {
			x->newborn = false;
			go_on(x, 0);
		}
	}
}

int tracer_next_event(struct tracer *t, struct trace_event *ret)
{
	tracer_pump(t);
	if (t->queue_count == 0) {
		*ret = (struct trace_event){ .type = TRACE_NONE };
		return 0;
	}
	*ret = t->queue[t->queue_head++];
	if (--t->queue_count == 0)
		t->queue_head = 0;
	return 0;
}

int tracer_resume(struct tracer *t, pid_t tid)
{
	struct tracee *x = tracer_find(t, tid);

	if (!x || x->state != TRACEE_HELD)
		return 0;
	x->newborn = false;
	go_on(x, 0);
	newborns_release(t, tid);
	return 0;
}
