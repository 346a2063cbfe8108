/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The sole owner of ptrace. One `struct tracer` per memwatch process; it knows every thread that it has attached to, and every
 * path resumes every thread.
 *
 * Promises kept here (design.md, "Promises to the target"):
 *   - PTRACE_SEIZE and PTRACE_INTERRUPT only; never PTRACE_ATTACH, SIGSTOP, EXITKILL, single-step; and no write into the target but
 *     for remote calls (tracer_remote_call()), which only the probe asks for.
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
	bool sleeping_only; /* skip the others */
	/*
	 * Threads asleep in a call that fails with EINTR when interrupted, instead of being restarted (epoll_wait, msgrcv,
	 * semop, sigtimedwait …: signal(7)), are left alone and not listed, unless this is set: then the call begins anew, with its whole
	 * timeout, and were memwatch killed between the stop and its noticing it, the program would see the EINTR.
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

/*
 * Remote calls: one thread of the target makes a system call, or calls a function (of the probe's blob), and goes on as if nothing had
 * happened. This is the only thing in memwatch that makes a target do something; only the probe uses it.
 *
 * The thread is stopped; a signal frame with all that it has (general and vector registers, signal mask) is laid below its stack pointer,
 * and its registers are set so that it makes the call and then returns through that frame. So memwatch may be killed at any instant: the
 * target comes back by itself. While memwatch lives it stays attached and puts everything back itself, in a second stop, because only so
 * the kernel goes on rightly with a system call that the first stop interrupted (remaining time; EINTR where a handler runs and only there).
 * Signals are held back meanwhile, and delivered afterwards. Calls that fail with EINTR when stopped (signal(7)) are begun anew, with their
 * whole timeout; threads in them, and those that block signals they handle (perhaps in a handler), are taken only when a quarter of the
 * deadline has brought nothing better. Killed inside these microseconds, a sleep that was interrupted begins anew.
 *
 * The frame lies in the unused part of a stack that is known to be one, with 32 KiB left: [stack] for the first thread; for the others a
 * mapping with their control block above and an inaccessible guard mapping right below. A thread anywhere else (a coroutine, a goroutine, an
 * alternate stack, a stack without a guard mapping) is not taken. Nor is one inside a restartable sequence (rseq).
 *
 * Needs in the target's executable memory: "syscall; ret" and the C library's way out of a signal handler. -ENOTSUP where they are
 * missing; and for 32-bit programs, shadow stacks, seccomp filters that do not let these calls pass (or cannot be looked at).
 */
struct remote_call {
	bool is_syscall;
	uint64_t number_or_address; /* system call number, or the function's address (System V ABI, returns normally) */
	uint64_t args[6];
	/* A function: this word of the target becomes done_value when it has come to its end. */
	uint64_t done_address, done_value;
	/*
	 * 0, or a function's other word: done_value as long as the function, done, waits in a loop of some bounded time to be taken back from there.
	 * Then the thread runs the function without a stop in between; without it, it is stopped at every system call.
	 */
	uint64_t waiting_address;
	/* A function: the system calls that it makes, checked where a seccomp filter confines the thread. */
	const long *calls;
	size_t call_count;
	uint64_t deadline_ns; /* to find a thread, and for it to come through; 0: 2 s */
};

struct remote_result {
	int64_t value; /* of a system call: as the kernel returns it, -errno; of a function 0 */
	/* times in which a thread stood, from the stop being seen to it being sent on; max: the sum of one try's stops */
	uint64_t stops, stopped_ns_total, stopped_ns_max;
};

/*
 * Checks without touching anything (one thread is stopped for a moment where a seccomp filter must be read) that remote calls are possible: calls[] lists the numbers of the system calls that will be
 * made (rt_sigreturn is added). 0, -ENOTSUP, -EPERM, -ESRCH; err names cause and remedy.
 */
must_check int tracer_remote_check(struct tracer *t, pid_t pid, struct mem *mem, const long *calls, size_t count,
				   struct err *err);
/*
 * Makes the call. The target may be running, or its leader held by tracer_run_until(). 0 also where a system call returned an error (see value); -ETIME no thread
 * could be taken before the deadline, or it has not come through (it will: what it was asked for happens later); -EBUSY held elsewhere
 * than by tracer_run_until(); -EFAULT the function faulted, which was taken back; -ESRCH, -ENOTSUP, -EPERM.
 */
must_check int tracer_remote_call(struct tracer *t, pid_t pid, struct mem *mem, const struct remote_call *call,
				  struct remote_result *ret, struct err *err);
/*
 * Lets a child that is held at its exec run on, from system call to system call, until ready(arg) says so, asked at every return from a
 * call: then it is held again, until tracer_resume(). ready: 1 hold here, 0 go on, -errno give up (it is held too). -ETIME: the
 * deadline is over, or ready() never said so before the program made calls_max calls; it is held (but in job control's stop). -ESRCH: it ended (the event is queued).
 * -EAGAIN: it executed another program, and is held there (TRACE_EXEC is queued): call again. Forks are let go on, their events queued.
 */
must_check int tracer_run_until(struct tracer *t, pid_t pid, int (*ready)(void *arg), void *arg, uint64_t deadline_ns,
				uint32_t calls_max, struct err *err);

/*
 * Whether every thread has been seen outside of the code [start, end) at some moment after the call: its program counter is not there, nor
 * is one saved in a signal frame in the upper 32 KiB of its stack, nor does a register of a running thread lead there. Code that nobody can enter any more
 * may then be unmapped, if what it calls itself is known to have returned. Running threads are stopped in small groups, sleeping ones are only read.
 *
 * With entries, addresses by which the code is entered, no register and no word in those 32 KiB may be one of them either: a function may have loaded one
 * to call it later. Then sleeping threads are stopped as well, those of capture_options.fragile_too, too.
 *
 * 1 all are outside; 0 some were inside, or could not be looked at, until the deadline; -ESRCH, -errno. Stops are added to *cost.
 */
struct outside_query {
	uint64_t start, end;
	const uint64_t *entries; /* 0 is none; NULL: they do not matter */
	size_t entry_count;
	uint64_t deadline_ns;
};
must_check int tracer_threads_outside(struct tracer *t, pid_t pid, struct mem *mem, const struct outside_query *query,
				      struct remote_result *cost, struct err *err);

/*
 * Page faults: a perf software event on every thread, those born later too, each sample with its address, registers and a copy of the
 * stack. The kernel takes them; nothing is written into the target and nothing stops. The events end with their descriptors: one a thread
 * and processor, and one ring of memory a processor (SAMPLER_RING_BYTES in all, less where the kernel does not let so much be locked).
 *
 * Counted are minor faults that were resolved: what is brought back from swap or read from a file is no growth. Never seen: memory that
 * the kernel fills in advance (MAP_POPULATE, mlock), faults of child processes.
 *
 * period: one sample every so many faults of a thread on one processor, an odd prime better than a round number, which a pattern of the
 * program could follow. A thread that ends before it has taken that many gives none. (The kernel's own steering, a frequency, is no use here:
 * for software events it overshoots a hundredfold.)
 */
#define SAMPLER_RING_BYTES (16 << 20)
#define SAMPLER_SLICE_MAX (60 << 10)
struct page_fault {
	/* condition THREAD_CAPTURED; the slice is valid during the call; slice_full: the stack's mapping ended before it was full */
	struct thread_stack stack;
	uint64_t address; /* that was touched */
	uint64_t period;  /* faults that this one stands for */
	uint64_t time_ns; /* CLOCK_MONOTONIC */
};
struct fault_sampler;
/* slice_bytes: of stack, up to SAMPLER_SLICE_MAX. Errors name cause and remedy as for call_counter_open(). */
must_check int fault_sampler_open(pid_t pid, uint64_t period, size_t slice_bytes, struct fault_sampler **ret,
				  struct err *err);
/* Opens all events anew, for threads that were missed too: dear (10 us an event); faults meanwhile are not seen. On failure nothing is sampled. */
must_check int fault_sampler_restart(struct fault_sampler *s, uint64_t period, size_t slice_bytes, struct err *err);
/*
 * Hands over what has come, in the order of time, each to take(arg), valid during the call only. Returns how many, or -errno from take.
 * *ret_lost: samples that the kernel dropped since the last call, a lower bound. *ret_faults: minor page faults of the target since the opening, all of
 * them, sampled or not; as they were last where the target has ended.
 */
must_check ssize_t fault_sampler_read(struct fault_sampler *s, int (*take)(void *arg, const struct page_fault *fault),
				      void *arg, uint64_t *ret_lost, uint64_t *ret_faults);
size_t fault_sampler_room(const struct fault_sampler *s); /* samples that the ring of one processor holds */
/* What is not seen, the i-th "what; remedy", or NULL at the end. Lives until the next restart. */
const char *fault_sampler_gap(const struct fault_sampler *s, size_t i);
void fault_sampler_close(struct fault_sampler *s); /* NULL-safe */

/* Why ptrace or memory access to pid is refused, from Yama, TracerPid, uids, dumpable, capabilities: "… ; remedy". */
void trace_explain_refusal(pid_t pid, struct err *err);

/* What this machine and user allow, for `memwatch doctor`: 0 or -errno with the reason. Tries on a child of its own. */
must_check int trace_self_test(struct err *err);

#endif
