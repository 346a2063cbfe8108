/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside of the tracer: the registry of attached threads, and the one way in which a stop is answered.
 *
 * Invariants:
 *   - Every thread that this process is attached to has a struct tracee, from before PTRACE_SEIZE returns to after its
 *     PTRACE_DETACH or its end; but for threads that the kernel attaches by itself (children of a clone), which get theirs at
 *     their first stop or at their parent's event, whichever comes first.
 *   - Every wait status comes from tracer_wait() and goes through tracer_note(), but for a child that has not executed yet.
 *   - A tracee in TRACEE_STOPPED is answered by tracee_answer(), and by nothing else but the catch (PTRACE_SYSCALL).
 *   - tracee_answer() looks at the stop itself, not at what the thread was interrupted for: so a stop that comes late, twice or
 *     for another reason is answered rightly whoever sees it.
 *
 *   RUNNING --wait--> STOPPED --tracee_answer()--> RUNNING     standing: PTRACE_CONT with the signal
 *      ^                                       +-> LISTENING   standing, group-stop: PTRACE_LISTEN
 *      |                                       +-> HELD        standing: exec, exit, fork; an event is queued
 *      |                                       +-> (removed)   passing: PTRACE_DETACH with the signal
 *      +---- tracer_resume() ---- HELD
 */
#ifndef MEMWATCH_TRACE_INTERNAL_H
#define MEMWATCH_TRACE_INTERNAL_H

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "memwatch/base/map.h"
#include "memwatch/trace.h"

/* Not in every libc's <sys/ptrace.h>; the kernel's numbers. */
#define STOP_EVENT 128 /* PTRACE_EVENT_STOP */
#define SYSCALL_TRAP (SIGTRAP | 0x80)

enum tracee_state { TRACEE_RUNNING, TRACEE_STOPPED, TRACEE_LISTENING, TRACEE_HELD };

struct listener; /* the catch's business */

struct tracee {
	pid_t tid, pid;
	enum tracee_state state;
	int status; /* of the stop, while STOPPED or HELD */
	bool standing;
	bool child;         /* a leader whose parent is this process: its end is an event */
	bool newborn;       /* standing, attached by the kernel: waits at its first stop for its parent's release */
	bool released;      /* newborn: the parent's FORK event was resumed */
	pid_t parent;       /* newborn: tid that forked it, 0 unknown yet */
	bool group_stopped; /* TRACE_STOPPED was reported */
	long options, options_now; /* as they should be, as they are */
	struct listener *listener;
	size_t index; /* in tracer.tracees */
};

struct stack_range {
	uint64_t start, end;
};

struct tracer {
	struct tracee **tracees;
	size_t count, cap;
	struct map by_tid; /* tid → pointer */
	struct trace_event *queue;
	size_t queue_head, queue_count, queue_cap;
	sigset_t child_mask, child_ignored;
	pid_t self;
	bool follow;
	timer_t guard; /* seize.c */
	bool has_guard;
	volatile sig_atomic_t seizing;
	bool sigchld_eaten; /* a pause took a SIGCHLD that the caller's main loop may be waiting for */
	/* writable mappings of the process last looked at, for the ends of stacks */
	struct stack_range *stacks;
	size_t stack_count, stack_cap;
	pid_t stacks_pid;
	bool stacks_stale;
	uint64_t stacks_ns, stacks_cost_ns;
	uint64_t resume_ns; /* what resuming one thread takes, by experience */
	/* whose turn it is where there are more threads than may be stopped */
	pid_t turn_pid, turn_tid;
};

/* ---- tracer.c: registry ---- */
struct tracee *tracer_find(const struct tracer *t, pid_t tid);
must_check int tracer_add(struct tracer *t, pid_t tid, pid_t pid, struct tracee **ret);
void tracer_remove(struct tracer *t, struct tracee *x);
void tracer_interrupt(struct tracee *x);
/* One wait status: the tracee that is stopped now, or NULL where nothing is left to answer. */
struct tracee *tracer_note(struct tracer *t, pid_t tid, int status, const struct rusage *usage);
/* What waits, without blocking: of one thread, or (-1) of any. 0 none, -1 no such thread. Ends are reaped, stops left in place. */
pid_t tracer_wait(pid_t tid, int *ret_status, struct rusage *ret_usage);
void tracee_take(const struct tracee *x); /* takes the stop of a thread that is held */
/* Asks after one thread, without blocking. 1 stopped, 0 not yet, -ESRCH ended: the record is gone. */
must_check int tracee_poll(struct tracer *t, struct tracee *x);
/* Answers a stop. x may be gone afterwards. */
void tracee_answer(struct tracer *t, struct tracee *x);
/* A record for the thread that a clone event announces: the kernel has attached it already. */
void tracer_expect_clone(struct tracer *t, const struct tracee *parent);
void tracer_pump(struct tracer *t); /* all that is waiting */
must_check int tracer_queue(struct tracer *t, const struct trace_event *event);

/* Sleeps until a thread changes state, at most ns; SIGCHLD must be blocked (pause_begin). */
struct pause_state {
	sigset_t old_mask;
};
void pause_begin(struct pause_state *p);
void pause_for(struct tracer *t, uint64_t ns);
void pause_end(struct tracer *t, const struct pause_state *p);

/* ---- seize.c ---- */
/* SEIZE with a record made first. -EPERM refused, -ESRCH gone. Uses SIGRTMAX. */
must_check int tracer_seize(struct tracer *t, pid_t tid, pid_t pid, bool child, long options, struct tracee **ret);
void guard_create(struct tracer *t);
void guard_destroy(struct tracer *t);

/* ---- events.c ---- */
void standing_stop(struct tracer *t, struct tracee *x); /* a stop of a standing thread */
void newborn_stop(struct tracer *t, pid_t tid, pid_t parent);
void newborns_release(struct tracer *t, pid_t parent); /* those of parent; 0: those whose parent is unknown */
int stop_signal(int status); /* what must be injected: the signal of a signal-delivery-stop, else 0 */
static inline int stop_event(int status)
{
	return status >> 16;
}
bool stop_is_group(int status);

/* ---- threads.c ---- */
struct thread_entry {
	pid_t tid;
	char state; /* R S D T t Z …; 0: not read */
	pid_t ppid;
	bool fragile; /* sleeps in a call that an interruption would fail with EINTR */
};
struct thread_list {
	struct thread_entry *entries; /* ascending by tid as the kernel lists them */
	size_t count, cap;
	int dir_fd; /* /proc/PID/task */
};
#define THREAD_LIST_INIT                                                                                               \
	{                                                                                                              \
		NULL, 0, 0, -1                                                                                         \
	}
void thread_list_deinit(struct thread_list *l);
#define cleanup_threads __attribute__((cleanup(thread_list_deinit)))
must_check int thread_list_read(struct thread_list *l, pid_t pid);           /* -ESRCH gone; tids only */
void thread_entry_read(const struct thread_list *l, struct thread_entry *e); /* state and parent; Z where it is gone */
bool thread_list_current(const struct thread_list *l, size_t known); /* whether exactly `known` threads live; cheap */
must_check int thread_tgid(pid_t tid, pid_t *ret);

/* ---- stacks.c ---- */
void stacks_refresh(struct tracer *t, pid_t pid, struct mem *mem); /* never while a thread is stopped */
/* Where the stack slice of a thread lies; 0 bytes where the stack pointer is in no known mapping. */
void stack_slice(struct tracer *t, const struct regs *regs, size_t slice_bytes, uint64_t *ret_address, size_t *ret_len,
		 bool *ret_whole);

/* ---- priority.c ---- */
struct priority {
	int policy, param, nice;
	unsigned long slack;
	bool raised_policy, raised_nice;
};
bool priority_raise(struct priority *p); /* for the length of a stop window; false where nothing was permitted */
void priority_restore(const struct priority *p);

#endif
