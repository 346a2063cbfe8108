/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What happens to the targets: exec, exit, fork, job control; and to memwatch: its own signals. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "memwatch/base/clock.h"
#include "session/private.h"

#define SECOND_INT_NS (2 * NS_PER_S)

static void tell(struct session *s, pid_t pid, const char *event, const char *detail, double value)
{
	if (s->listener.event)
		s->listener.event(s->listener.arg, session_time(s, 0), pid, event, detail, value);
}

bool session_all_gone(const struct session *s)
{
	for (size_t i = 0; i < s->target_count; i++)
		if (!s->targets[i]->gone)
			return false;
	return true;
}

void session_target_ended(struct session *s, struct target *t, int wait_status)
{
	pid_t pid = t->proc.id.pid;
	int code = -1;

	t->info.exited = true;
	t->info.exit_code = -1;
	t->info.exit_signal = 0;
	if (wait_status >= 0 && WIFEXITED(wait_status))
		code = t->info.exit_code = WEXITSTATUS(wait_status);
	else if (wait_status >= 0 && WIFSIGNALED(wait_status))
		t->info.exit_signal = WTERMSIG(wait_status);
	if (!t->gone) {
		target_leave(t);
		s->living--;
	}
	tell(s, pid, "exit", NULL, code >= 0 ? (double)code : NAN);
}

/* The last moment in which the memory is whole: everything is read once more while the kernel holds the process for us. */
static void on_exit_stop(struct session *s, struct target *t)
{
	uint64_t begin = clock_now_ns();

	t->exiting = true;
	target_tick(t, begin, true);
	sources_ended(t);
	look_verdict(t, begin, true);
	s->cost.exit_hold_ns += clock_now_ns() - begin;
}

static void on_fork(struct session *s, const struct trace_event *e)
{
	struct err why = ERR_INIT;

	tell(s, e->pid, "fork", NULL, (double)e->child_pid);
	if (session_find(s, e->child_pid))
		return;
	if (session_add(s, e->child_pid, true, e->pid, &why) < 0)
		session_gap_err(s, "observe", &why);
}

static void on_ended(struct session *s, const struct trace_event *e)
{
	struct target *t = session_find(s, e->pid);
	uint64_t rusage_peak = (uint64_t)e->usage.ru_maxrss * 1024;

	/* ru_maxrss also counts what memwatch itself was before the exec, and waited-for children: only where nothing better is known. */
	if (t && t->peak_rss_bytes == UNKNOWN_U64 && rusage_peak > 0)
		t->peak_rss_bytes = rusage_peak;
	if (t)
		session_target_ended(s, t, e->wait_status);
	if (e->pid == s->child)
		s->wait_status = e->wait_status;
	if ((e->pid == s->child && !s->options.children) || (s->wait_status >= 0 && session_all_gone(s)))
		s->over = true;
}

static void on_stopped(struct session *s, const struct trace_event *e)
{
	if (e->pid != s->child)
		return;
	s->child_stopped = true;
	if (!s->stop_with_child)
		return;
	/* As without memwatch: the whole job stops, and the shell sees it. */
	s->stop_with_child = false;
	raise(SIGSTOP);
}

static void on_event(struct session *s, const struct trace_event *e)
{
	struct target *t = session_find(s, e->pid);

	switch (e->type) {
	case TRACE_EXEC:
		if (t && target_exec(t) >= 0) {
			sources_before_main(t);
			tell(s, e->pid, "exec", t->info.exe, NAN);
		}
		break;
	case TRACE_EXIT_STOP:
		if (t)
			on_exit_stop(s, t);
		break;
	case TRACE_FORK:
		on_fork(s, e);
		break;
	case TRACE_STOPPED:
		on_stopped(s, e);
		break;
	case TRACE_CONTINUED:
		if (e->pid == s->child)
			s->child_stopped = false;
		break;
	case TRACE_ENDED:
		on_ended(s, e);
		break;
	case TRACE_NONE:
		break;
	}
}

void session_drain_events(struct session *s)
{
	struct trace_event event = { .type = TRACE_NONE };

	while (tracer_next_event(s->tracer, &event) >= 0 && event.type != TRACE_NONE) {
		int rc;

		on_event(s, &event);
		if (event.type == TRACE_EXEC || event.type == TRACE_EXIT_STOP || event.type == TRACE_FORK) {
			rc = tracer_resume(s->tracer, event.tid);
			if (rc < 0)
				session_gap(s, "observe", "a traced thread could not be resumed", NULL);
		}
	}
	tracer_settle(s->tracer);
}

/* ---- our own signals ---- */

static bool sent(int bits, int bit)
{
	return (bits & (bit << SIGNAL_SENT_SHIFT)) != 0;
}

static void signals_of_run(struct session *s, int bits)
{
	uint64_t now = clock_now_ns();

	if (bits & SIGNAL_INT) {
		if (sent(bits, SIGNAL_INT))
			kill(s->child, SIGINT);
		if (s->int_ns != 0 && now - s->int_ns < SECOND_INT_NS)
			s->over = true;
		s->int_ns = now;
	}
	if (bits & SIGNAL_TERM)
		kill(s->child, SIGTERM);
	if (bits & SIGNAL_HUP)
		kill(s->child, SIGHUP);
	/* Ctrl-\ has reached the child by itself: a runtime may print its threads and go on */
	if (sent(bits, SIGNAL_QUIT))
		kill(s->child, SIGQUIT);
	if (bits & SIGNAL_TSTP) {
		s->stop_with_child = true;
		if (sent(bits, SIGNAL_TSTP) && !s->child_stopped)
			kill(s->child, SIGTSTP);
		else if (s->child_stopped) {
			s->stop_with_child = false;
			raise(SIGSTOP);
		}
	}
	if (sent(bits, SIGNAL_CONT) && s->child_stopped)
		kill(s->child, SIGCONT);
}

void session_handle_signals(struct session *s)
{
	int bits = signals_take();

	if (s->child > 0 && s->wait_status < 0) {
		signals_of_run(s, bits);
		return;
	}
	if (bits & (SIGNAL_INT | SIGNAL_TERM | SIGNAL_HUP | SIGNAL_QUIT)) {
		signals_second_leaves();
		s->over = true;
	}
	if (bits & SIGNAL_TSTP)
		raise(SIGSTOP); /* no thread of the target is held between two looks */
}
