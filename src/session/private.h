/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Inside the session: one `struct target` a process, one `struct rung_state` a kind of look.
 *
 * Budget: every rung has a share of the CPU budget. After a look that cost c (our CPU or wall time, and the target's stall), its next is
 * due c / (budget × share) later, but not before the rung's own period: so the sum of all shares holds the budget by construction,
 * whatever the size of the target. With n targets every due time is n times as far away.
 */
#ifndef MEMWATCH_SESSION_PRIVATE_H
#define MEMWATCH_SESSION_PRIVATE_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/heap.h"
#include "memwatch/mem.h"
#include "memwatch/proc.h"
#include "memwatch/runtime.h"
#include "memwatch/series.h"
#include "memwatch/session.h"
#include "memwatch/sites.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"
#include "memwatch/verdict.h"
#include "session/survivors.h"

enum rung {
	RUNG_STAT,   /* faults, CPU, threads */
	RUNG_STATUS, /* VmHWM, swap */
	RUNG_IO,
	RUNG_FDS,
	RUNG_ROLLUP,
	RUNG_SMAPS,
	RUNG_CGROUP,
	RUNG_NET,
	RUNG_UNITS, /* --unit-…: as often as its share of the budget allows */
	RUNG_HEAP,
	RUNG_RUNTIME, /* what a language runtime knows of its memory */
	RUNG_SITES,
	RUNG_CHILDREN,
	RUNG_VERDICT,
	RUNG_COUNT
};

struct rung_info {
	const char *name;   /* in session.rungs[] */
	uint64_t period_ns; /* not more often than this */
	double share;       /* of the budget */
};

extern const struct rung_info rung_table[RUNG_COUNT];

struct rung_state {
	uint64_t due_ns;  /* CLOCK_MONOTONIC */
	uint64_t cost_ns; /* of the last look; before the first an estimate, 0 none */
	uint64_t runs;
	bool off; /* refused for good */
};

#define LIMITS_MAX 6
#define SITES_REPORTED 20

struct class_mark { /* in-use bytes by size class at one walk; t_s NaN: none */
	double t_s;
	uint64_t in_use[HEAP_CLASS_COUNT];
};

struct units;

struct target {
	struct session *session;
	struct proc proc;
	struct cgroup cgroup;
	struct mem *mem;            /* NULL: reading memory is refused */
	struct heap_walker *walker; /* NULL: none found (yet) */
	struct runtime *runtime;    /* NULL: none found (yet) */
	struct symbols *symbols;    /* see target_symbols() */
	struct site_table *sites;
	struct site_ledger *ledger;         /* what the sources faults and probe saw; NULL: they were not used */
	struct site_source *source;         /* NULL: none open (yet) */
	const struct site_source_ops *next; /* the source to open; NULL: none is left */
	struct site_source *beside;         /* stacks, beside faults; NULL: none open (yet) */
	uint64_t beside_due_ns;             /* UINT64_MAX: there is to be none */
	struct series *series;
	struct rung_state rungs[RUNG_COUNT];

	uint64_t image_ns; /* when this program image began to be watched: CLOCK_MONOTONIC … */
	double opened_s;   /* … and in session time at which this process image began to be watched */
	bool from_start;   /* seen from its exec */
	bool standing;     /* our traced child */
	bool gone;         /* ended; figures stay */
	pid_t parent;
	uint64_t left_ns;     /* when the main thread was found to have ended without the others; 0: it has not */
	uint64_t start_stack; /* changes when the process executes another program */
	uint64_t probe_backoff_ns;
	uint64_t runtime_backoff_ns; /* between two probes for a runtime; 0 before the first */
	uint64_t cgroup_limit;       /* as last read; UINT64_MAX none */

	struct sample last; /* newest known value of every metric */
	uint64_t peak_rss_bytes;
	double rollup_noise_bytes; /* largest |statm - smaps_rollup| seen */
	double mark_rss, mark_t_s; /* where the present rate of growth is measured from */
	double sites_rss;          /* at the last look for sites */
	bool sites_rewound; /* the ledger is as before the last moments: the heap walked at the end is no truth about it */
	double rate;        /* bytes/s by which memory grows now; 0: it does not */

	struct arena heap_arena; /* of the newest walk */
	struct arena heap_spare;
	struct heap_stats heap;
	bool has_heap;
	struct arena runtime_arena, runtime_spare; /* of the newest read */
	struct runtime_stats runtime_stats;
	bool has_runtime;
	unsigned torn_walks;                      /* in a row, see walk_is_torn() */
	struct class_mark class_base, class_next; /* walks of long ago, to see which size class grows */
	struct survivors *survivors;              /* NULL before the second walk */
	uint64_t hot_class_size;                  /* as they told last; 0 none */

	struct region_totals classes_first[REGION_CLASS_COUNT], classes_last[REGION_CLASS_COUNT];
	bool has_classes;

	struct verdict_limit limits[LIMITS_MAX]; /* as last read */
	size_t limit_count;
	bool exiting; /* held at its exit: memory is still whole */
	struct arena verdict_arena, verdict_spare;
	struct verdict verdict;
	bool has_verdict;
	struct verdict verdict_next; /* class, kind, cause and where that the newest judgement came to */
	bool has_verdict_next;
	struct arena info_arena;
	struct target_info info;
	char comm[sizeof(
		((struct stat_line *)0)->comm)]; /* info.comm after a change: however often, it costs no memory */
};

struct session {
	struct session_options options;
	struct session_listener listener;
	struct tracer *tracer;
	struct target **targets; /* [0]: the target; others with `children` */
	size_t target_count, target_cap;
	size_t living; /* of them: those that have ended cost nothing */
	uint64_t begin_ns;
	int64_t begin_wall_ns;
	uint64_t next_tick_ns, tick_ns; /* tick_ns grows from 1 ms to the interval */
	uint64_t samples;
	uint64_t exited_ns;
	bool over;
	bool timed_out; /* the duration is up, the target lives */
	bool reported_begin;
	int wait_status;     /* -1: not known */
	pid_t child;         /* run: our child; 0 attach */
	struct units *units; /* units.h; NULL: none asked for */
	struct cost cost;
	uint64_t cpu_begin_ns;
	struct arena gap_arena;
	struct gap *gaps;
	size_t gap_count, gap_cap;
	struct metric_summary tree_pss;
	double tree_pss_sum;
	uint64_t int_ns;      /* run: when the last SIGINT came */
	bool child_stopped;   /* by job control */
	bool stop_with_child; /* SIGTSTP came: stop as soon as the child has */
};

/* budget.c */
bool rung_due(const struct target *t, enum rung rung, uint64_t now_ns);
/* cost_ns: our CPU time (or the wall time of a read that is nearly that), and the stall that it meant for the target. */
void rung_done(struct target *t, enum rung rung, uint64_t cost_ns);
void rung_retry(struct target *t, enum rung rung, uint64_t in_ns);
/* Before a first look that may be dear: due when the budget can bear cost_ns. */
void rung_expect(struct target *t, enum rung rung, uint64_t cost_ns);
/* Whether a look out of turn, at the end of the watching, is within what the rung may have used by now. A process of ours that is
 * about to exit is held for it, and loses nothing. */
bool rung_affordable(const struct target *t, enum rung rung, uint64_t now_ns);

/* gaps.c */
void session_gap(struct session *s, const char *rung, const char *reason, const char *remedy); /* each pair once */
/* "reason; remedy" split at the semicolon */
void session_gap_err(struct session *s, const char *rung, const struct err *err);

/* target.c */
must_check int target_open(struct session *s, pid_t pid, bool standing, struct target **ret, struct err *err);
void target_close(struct target *t);
void target_leave(struct target *t);             /* lets go of what needs the living process, keeps the figures */
must_check int target_exec(struct target *t);    /* another program runs under the same pid: begin anew */
must_check int target_symbols(struct target *t); /* t->symbols is there from then on; their mappings may be old */
double session_time(const struct session *s, uint64_t now_ns);
struct target *session_find(struct session *s, pid_t pid);
must_check int session_add(struct session *s, pid_t pid, bool standing, pid_t parent, struct err *err);

/* observe.c */
/* one sample: every rung that is due; all of them when final */
void target_tick(struct target *t, uint64_t now_ns, bool final);

/* looks.c */
void swap_arenas(struct arena *a, struct arena *b);
void look_heap(struct target *t, struct sample *sample, uint64_t now_ns, bool final);
/* Whether a walk missed so much of a heap that moved under it that its sums are no figures. *torn_in_a_row begins as 0. */
bool walk_is_torn(const struct heap_stats *heap, unsigned *torn_in_a_row);
void look_verdict(struct target *t, uint64_t now_ns, bool final);
/* The verdict on what is known now; top_site: the function that grew most, NULL unknown. Result in the arena. */
must_check int judge(struct target *t, const char *top_site, struct arena *arena, struct verdict *ret);
uint64_t hot_class(const struct target *t);    /* 0 none */
double growth_since_s(const struct target *t); /* from when on growth counts: after the warm-up */

/* runtime.c */
void look_runtime(struct target *t, struct sample *sample, uint64_t now_ns, bool final);

/* sources.c: where growth comes from. The best source that is permitted is used; what was refused, and why, is a gap. */
void sources_choose(struct target *t); /* for a new program image */
/*
 * A child that is held at its exec: with --sites probe it is put in place before anything of the program runs. It is held afterwards too. Unless asked
 * for the probe comes some moments later: programs that end at once must not pay for it.
 */
void sources_before_main(struct target *t);
void look_sites(struct target *t, uint64_t now_ns);
uint64_t sources_due_ns(const struct target *t); /* when look_sites() is to be called; UINT64_MAX: at no certain time */
void sources_found_heap(struct target *t);       /* a walker is there now */
void sources_refresh(struct target *t);          /* a last look; what is mapped no more is taken off */
void sources_ended(struct target *t);            /* the last look at one that has ended and is held */
void sources_leave(struct target *t);            /* takes everything out of a target that lives */
void sources_close(struct target *t);            /* notes what could not be seen, and closes the source */
/* Blocks whose fate the next walk of the heap is to tell, ascending, at most cap; and what it found. */
size_t sources_blocks(const struct target *t, struct heap_block *ret, size_t cap);
void sources_seen(struct target *t, double t_s, const struct heap_block *blocks, size_t count);
must_check int sources_report(struct target *t, struct arena *arena, struct site **ret, size_t *ret_count);
uint64_t sources_events(const struct target *t);
/* The course of all sites since the warm-up; false: no source sees single blocks. */
bool sources_course(struct target *t, struct sites_course *ret);

/* tree.c */
void look_children(struct session *s, struct target *t, uint64_t now_ns);
void tree_add_up(struct session *s);

/* events.c */
void session_drain_events(struct session *s);
void session_handle_signals(struct session *s);
bool session_all_gone(const struct session *s);
void session_target_ended(struct session *s, struct target *t, int wait_status); /* -1: not known */

/* signals.c */
enum {
	SIGNAL_INT = 1,
	SIGNAL_TERM = 2,
	SIGNAL_HUP = 4,
	SIGNAL_TSTP = 8,
	SIGNAL_CONT = 16,
	SIGNAL_CHILD = 32,
	SIGNAL_QUIT = 64,
	SIGNAL_SENT_SHIFT = 8
};
/* bit << SIGNAL_SENT_SHIFT beside a bit: another process sent it, so the child has not had it from the terminal. */
int signals_wake_fd(void);                 /* readable when a signal came; -1 before session_signals_install() */
int signals_take(void);                    /* which arrived since the last call */
void signals_second_leaves(void);          /* from now on a second SIGINT ends memwatch at once, status 130 */
void signals_catch_child(void);            /* SIGCHLD, once the tracer has noted what the child inherits */
const volatile int *signals_pending(void); /* non-zero while something that ends the watching waits */

#endif
