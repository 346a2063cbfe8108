/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sole owner of ptrace. One `struct tracer` per memwatch process; it knows every thread that it has attached to, and every
 * path resumes every thread.
 *
 * Promises kept here (design.md, "Promises to the target"):
 *   - PTRACE_SEIZE and PTRACE_INTERRUPT only; never PTRACE_ATTACH, SIGSTOP, EXITKILL, single-step, or a write into the target.
 *   - A signal that arrives while a thread is attached is delivered unchanged, in order; group-stops are LISTENed to.
 *   - A stop is bounded by a deadline; threads that did not stop in time are let go as soon as they do (tracer_settle()).
 *   - If memwatch dies at any instant the kernel detaches and resumes everything; nothing is left behind in the target.
 *
 * Two ways to be attached:
 *   passing    seized for one capture or one catch, detached at its end (any process, `--pid`);
 *   standing   seized for its life: the leader of memwatch's own child under `run`, for the exec and exit events.
 *
 *            tracer_spawn()                          tracer_next_event() = EXEC / EXIT_STOP / FORK
 *   (none) ---------------> standing, running ------------------------------------------------> standing, held
 *      |                          ^   ^                                                            |
 *      | tracer_capture()         |   +---------------- tracer_resume() ---------------------------+
 *      v                          |
 *   passing, stopping --(copied)--+--> detached (none)        [a standing thread goes back to running instead]
 *
 * Threads: one; ptrace ties the tracees to the thread that made the tracer. waitpid() is called nowhere else in memwatch while a
 * tracer lives that has tracees (session/units_stdout.c waits for a helper of its own before there are any).
 * Signals: SIGCHLD must be blocked or handled so that a main loop can wake; the tracer itself polls. SIGRTMAX is the tracer's own.
 */
#ifndef MEMWATCH_TRACE_H
#define MEMWATCH_TRACE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/mem.h"

/* Registers by DWARF number (x86-64: rax rdx rcx rbx rsi rdi rbp rsp r8..r15, return address column = rip). */
#define REGS_MAX 34
struct regs {
	uint64_t value[REGS_MAX];
	uint32_t count; /* valid ones: 17 on x86-64 */
	uint64_t pc, sp, fp;
	uint64_t thread_base; /* fs_base: the thread control block */
};

enum thread_condition {
	THREAD_CAPTURED,
	THREAD_LATE, /* did not stop before the deadline: let go later */
	THREAD_GONE,
	THREAD_REFUSED /* ptrace refused this one */
};

struct thread_stack {
	pid_t tid;
	enum thread_condition condition;
	bool was_running; /* state R just before the stop */
	struct regs regs;
	uint64_t slice_address;     /* address of slice[0]: the stack pointer, less the red zone */
	const unsigned char *slice; /* in the arena */
	size_t slice_len;
	bool slice_full; /* reached the end of the stack: nothing is missing */
};

struct capture_options {
	/* from the first INTERRUPT; 0: 1 ms. What resuming takes, half at most, is kept for it. */
	uint64_t deadline_ns;
	size_t slice_bytes; /* per thread at most; 0: 16 KiB */
	size_t max_threads; /* 0: 64; more threads: running ones first, then in turn over successive captures */
	bool running_only;  /* skip threads that sleep (state S, D, …): they do not grow memory */
	/*
	 * Threads asleep in a call that fails with EINTR when interrupted, instead of being restarted (epoll_wait, msgrcv,
	 * semop, sigtimedwait …: signal(7)), are left alone and not listed, unless this is set: the program would notice.
	 */
	bool fragile_too;
};

struct capture {
	struct thread_stack *threads; /* in the arena */
	size_t thread_count;
	uint64_t stopped_ns; /* first INTERRUPT to last resume */
	bool outranked;      /* the tracer ran at real-time or raised priority during the window */
};

/* System calls by which a process gets memory from the kernel. */
enum growth_call { GROWTH_BRK, GROWTH_MMAP, GROWTH_MREMAP, GROWTH_MPROTECT };

struct growth_event {
	enum growth_call call;
	struct thread_stack stack; /* at the call's entry */
	uint64_t start, end;       /* the address range that became usable; from the call's result */
};

struct catch_options {
	uint64_t deadline_ns; /* how long to listen at most; 0: not at all, threads are only armed and let go again */
	/* system calls of any kind to let pass before giving up: each costs the target two short stops; 0: 1,000 */
	uint32_t max_calls;
	uint32_t max_events; /* growth events wanted; 0: 16 */
	/* leave so long after the first event, so that it is looked at while it is fresh; 0: stay */
	uint64_t linger_ns;
	size_t slice_bytes;         /* per event at most; 0: 16 KiB */
	uint64_t min_bytes;         /* smaller growths are not counted as events; 0: any growth is one */
	uint64_t brk_now;           /* current end of the heap if known, else 0: a brk() above it is growth */
	volatile const int *cancel; /* non-zero: leave at once; may be NULL */
};

struct catch_result {
	struct growth_event *events; /* in the arena */
	size_t event_count;
	uint64_t listened_ns;
	uint64_t stops;                            /* thread stops made, arming and disarming included */
	uint64_t stopped_ns_total, stopped_ns_max; /* of single threads */
	uint32_t calls_seen;
	bool gave_up; /* max_calls reached */
};

enum trace_event_type {
	TRACE_NONE,
	TRACE_EXEC,      /* held: the new program is loaded, nothing of it has run. tracer_resume() */
	TRACE_EXIT_STOP, /* held: the process is about to exit, its memory is whole. tracer_resume() */
	/* held: child_pid is a new process, attached standing too; it has not run yet and is let go with its parent, by
	 * tracer_resume(tid). Forks by threads other than the leader are not seen (see "standing"). */
	TRACE_FORK,
	TRACE_STOPPED, /* job control: in group-stop (LISTENed to); signal says which */
	TRACE_CONTINUED,
	TRACE_ENDED, /* reaped: status and usage are valid; the pid is free for reuse */
};

struct trace_event {
	enum trace_event_type type;
	pid_t pid, tid;
	pid_t child_pid;
	int signal;
	int wait_status;     /* TRACE_ENDED: as from waitpid */
	struct rusage usage; /* TRACE_ENDED */
};

struct spawn_options {
	char *const *argv;
	bool follow_children; /* FORK, VFORK and CLONE of processes are reported and the children attached standing */
	int stdout_fd;        /* > 0: the child's standard output; 0: memwatch's own */
};

struct tracer;
/*
 * Notes the signal mask and the ignored signals of this moment: tracer_spawn() restores them in the child, so create the tracer before
 * changing either. An ignored SIGCHLD is set to its default: the kernel would else reap children by itself.
 */
must_check int tracer_create(struct tracer **ret);
void tracer_destroy(struct tracer *t); /* detaches from everything; targets run on */

/*
 * Starts argv under the tracer: standard streams, signal mask and dispositions as memwatch itself was given them; stays in the
 * caller's process group (terminal signals reach it). The first event is TRACE_EXEC. A program that cannot be executed: -ENOENT,
 * -EACCES … with a message, the child reaped.
 */
must_check int tracer_spawn(struct tracer *t, const struct spawn_options *options, pid_t *ret_pid, struct err *err);

/* Next event of standing processes; never blocks. TRACE_NONE when there is none. Signals are passed through inside. */
must_check int tracer_next_event(struct tracer *t, struct trace_event *ret);
must_check int tracer_resume(struct tracer *t, pid_t tid); /* ends a hold; 0 also when the thread is gone */
/*
 * An exec by a thread other than the leader puts a thread that nobody traces in the leader's place, and makes no event. Called when
 * that is suspected: 0 it was so, and the process stands again; -EPERM it is traced as ever; -ESRCH gone or held.
 */
must_check int tracer_reattach(struct tracer *t, pid_t pid);

/*
 * One stop window over a process. The arena should be arena_prepare()d: nothing else is allocated while threads are stopped.
 * Returns 0 with what could be had (single threads may be late or gone), or -errno where nothing could be captured:
 * -ESRCH gone; -EPERM refused: err names Yama scope, another tracer (TracerPid), another user, seccomp, missing capability.
 */
must_check int tracer_capture(struct tracer *t, pid_t pid, struct mem *mem, const struct capture_options *options,
			      struct arena *arena, struct capture *ret, struct err *err);

/*
 * Waits for memory to be asked from the kernel: lets the threads run from system call to system call, for a short while, and
 * copies the stack of the thread that calls brk, mmap, mremap or mprotect for more. Threads stop one at a time, for tens of
 * microseconds. Bounded by time and by the number of calls. Same errors as tracer_capture(). 0 with no events is a normal result.
 */
must_check int tracer_catch_growth(struct tracer *t, pid_t pid, struct mem *mem, const struct catch_options *options,
				   struct arena *arena, struct catch_result *ret, struct err *err);

/*
 * Lets go of threads that stopped late. Call at every tick and at every SIGCHLD (tracer_next_event() does it too): a thread that
 * stops late stands until then. Cheap when there are none. Returns how many are still awaited.
 */
size_t tracer_settle(struct tracer *t);

/*
 * Counts calls of a function: a hardware breakpoint of the kernel's perf at its first instruction, in counting mode. Nothing is written
 * into the target and no thread is stopped by memwatch, but each call traps into the kernel and goes on: call_counter_cost_ns() says for
 * how long on this machine. The kernel takes the breakpoints away when the counter is closed or memwatch dies at any instant. (Debug
 * registers set by ptrace would outlive memwatch and kill the target at its next call: there is no such way here.)
 *
 * Threads that live now and those born later are counted; child processes are not (before Linux 5.13: they are). An exec leaves the
 * counter at an address that means nothing: close it and open another.
 */
#define CALL_PLACES_MAX 4 /* debug registers of x86-64 */
struct call_counter;
/*
 * places: addresses of one function and of its copies, at most CALL_PLACES_MAX. Errors name cause and remedy: -EACCES and -EPERM (kernel.
 * perf_event_paranoid, seccomp, rights), -ENOSPC (breakpoints in use), -EOPNOTSUPP (none on this machine), -EMFILE, -ESRCH.
 */
must_check int call_counter_open(pid_t pid, const uint64_t *places, size_t count, struct call_counter **ret,
				 struct err *err);
/* Calls since it was opened, of all threads and of those that have ended. */
must_check int call_counter_read(const struct call_counter *c, uint64_t *ret);
/* What one call costs the thread that makes it, measured on memwatch itself at the opening. */
uint64_t call_counter_cost_ns(const struct call_counter *c);
/* Threads were born faster than they could be listed: some may not be counted until they end. */
bool call_counter_missed(const struct call_counter *c);
void call_counter_close(struct call_counter *c);

/* Why ptrace or memory access to pid is refused, from Yama, TracerPid, uids, dumpable, capabilities: "… ; remedy". */
void trace_explain_refusal(pid_t pid, struct err *err);

/* What this machine and user allow, for `memwatch doctor`: 0 or -errno with the reason. Tries on a child of its own. */
must_check int trace_self_test(struct err *err);

#endif
