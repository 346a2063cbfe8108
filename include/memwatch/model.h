/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The waist: plain data that the observing wing fills and the telling wing reads. No functions but table look-ups, no I/O.
 *
 * Units: bytes, seconds, counts; named in the field. Unknown is UNKNOWN_U64 or NaN, and NULL for text; writers turn it into null.
 * Ownership: everything that a `struct snapshot` points to lives in its arena and is freed once, by snapshot_deinit().
 */
#ifndef MEMWATCH_MODEL_H
#define MEMWATCH_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/arena.h"

#define UNKNOWN_U64 UINT64_MAX

/* ---- metrics and samples ------------------------------------------------------------------------------------------ */

enum metric {
	METRIC_RSS,
	METRIC_PSS,
	METRIC_ANON,
	METRIC_FILE,
	METRIC_SHMEM,
	METRIC_SWAP,
	METRIC_STACK,        /* resident bytes of [stack] and thread stacks that are marked as such */
	METRIC_LAZY_FREE,    /* MADV_FREE pages that still count as resident */
	METRIC_HEAP_IN_USE,  /* allocator: chunks in the program's hands */
	METRIC_HEAP_FREE,    /* allocator: free inside, top included */
	METRIC_HEAP_MAPPED,  /* allocator: taken from the kernel */
	METRIC_HEAP_BLOCKS,  /* allocator: number of blocks in use */
	METRIC_RUNTIME_LIVE, /* language runtime: live after the last collection */
	METRIC_VIRTUAL,
	METRIC_THREADS,
	METRIC_FDS,
	METRIC_MINOR_FAULTS, /* counters from here on: never fall while the process lives */
	METRIC_MAJOR_FAULTS,
	METRIC_CPU,         /* seconds, user and system */
	METRIC_READ_CHARS,  /* /proc/PID/io rchar */
	METRIC_WRITE_CHARS, /* wchar */
	METRIC_SYSCALLS,    /* syscr + syscw */
	METRIC_SWITCHES,    /* voluntary context switches */
	METRIC_NET,         /* bytes received and sent in the target's network namespace, loopback included */
	METRIC_WORK,        /* units of work, as counted by --unit-… or recorded in a column of that kind */
	METRIC_CGROUP,      /* usage of the memory cgroup (a gauge) */
	METRIC_PSI_SOME,    /* memory pressure, some, avg10, percent (a gauge) */
	METRIC_COUNT
};

struct metric_info {
	const char *name; /* contract name: rss_bytes, heap_in_use_bytes, cpu_s … */
	const char *unit; /* bytes, s, count, percent */
	bool counter;     /* monotonic while the process lives */
};

extern const struct metric_info metric_table[METRIC_COUNT];

/* One tick of one process. Values not read at this tick are NaN. */
struct sample {
	double t_s; /* since the session began */
	double v[METRIC_COUNT];
};

void sample_init(struct sample *s, double t_s); /* every value NaN */

/* ---- address space ------------------------------------------------------------------------------------------------- */

/* What a mapping is for, by the name and flags that the kernel shows. */
enum region_class {
	REGION_HEAP,    /* [heap] */
	REGION_ANON,    /* private anonymous, named [anon:…] included */
	REGION_STACK,   /* [stack], [stack:TID], [anon:stack…] */
	REGION_FILE,    /* backed by a file, private or shared */
	REGION_SHMEM,   /* /dev/shm, memfd, SysV, shared anonymous (/dev/zero) */
	REGION_SPECIAL, /* [vdso] [vvar] [vsyscall] [uprobes] */
	REGION_CLASS_COUNT
};

enum { REGION_READ = 1, REGION_WRITE = 2, REGION_EXEC = 4, REGION_SHARED = 8, REGION_DELETED = 16 };

struct region {
	uint64_t start, end; /* [start, end) */
	uint64_t offset;     /* file offset in bytes */
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	uint16_t flags;   /* REGION_READ … */
	uint8_t class;    /* enum region_class */
	const char *path; /* as the kernel prints it, " (deleted)" cut off; "" for anonymous; interned */
};

struct region_totals { /* one row per class, sums over smaps; or the whole process (smaps_rollup) */
	uint64_t count;
	uint64_t size_bytes, rss_bytes, pss_bytes, anon_bytes, swap_bytes, lazy_free_bytes;
	uint64_t private_dirty_bytes, shared_bytes, anon_huge_bytes;
	uint64_t pss_file_bytes, pss_shmem_bytes; /* smaps_rollup, 5.4+; UNKNOWN_U64 elsewhere */
};

/* ---- stacks and sites ---------------------------------------------------------------------------------------------- */

/* Why a frame or the stack behind it is less than it should be. */
enum frame_note {
	FRAME_OK,
	FRAME_NO_SYMBOL,   /* stripped: module and offset only */
	FRAME_NO_CFI,      /* no unwind information here: the stack ends */
	FRAME_TRUNCATED,   /* the copied slice or the depth limit ended */
	FRAME_BAD_POINTER, /* the frame chain left the stack: corrupt or torn */
	FRAME_NO_MODULE,   /* code in no known file: JIT or anonymous */
	FRAME_NOTE_COUNT
};

extern const char *const frame_note_names[FRAME_NOTE_COUNT]; /* "ok", "no-symbol", … for JSON */

struct frame {
	uint64_t address;   /* of the call (return address - 1 but for the innermost), in the target's address space */
	uint64_t offset;    /* address relative to the module's file (as addr2line takes it) */
	const char *module; /* path as seen in the target; NULL where none */
	const char *function; /* demangled; "module+0xoffset" where unknown; never NULL or "" */
	const char *file;     /* NULL where unknown */
	uint32_t line;        /* 0: unknown */
	bool inlined;         /* this frame was inlined into the next */
	const char *language; /* "c", "c++", "rust", …; NULL where unknown */
	enum frame_note note;
};

struct site {
	uint64_t bytes;            /* surviving: grown here and still there */
	uint64_t blocks;           /* surviving growth events or blocks; UNKNOWN_U64 */
	uint64_t allocated_bytes;  /* all that was seen to be taken here */
	double share;              /* of the surviving bytes of all sites, 0..1 */
	double bytes_per_s;        /* surviving bytes over the time watched */
	double survival;           /* bytes / allocated_bytes, 0..1; NaN unknown */
	uint64_t allocated_blocks; /* UNKNOWN_U64 */
	/* Sampled sources: what `bytes` may be by chance, 95 %; NaN where nothing was sampled. */
	double bytes_low, bytes_high;
	double age_s;         /* median age of the blocks that survive; NaN unknown */
	bool exact;           /* false: statistical attribution (a thread was seen here while memory grew) */
	const char *source;   /* "stacks", "faults", "probe" */
	struct frame *frames; /* innermost first */
	size_t frame_count;
};

/* The course of all call sites between two times. Sites are distinct stacks. */
struct sites_course {
	double growth_bytes; /* of the sites that grow beyond their noise */
	double churn_bytes;  /* taken since, and given back */
	double top_share;    /* of the site that ranks first, of that growth as ranked; NaN: nothing grows */
	size_t growing_sites, churning_sites; /* churning: less than half of what they took since is there */
	double survival;                      /* part of all that was taken since that is there; NaN: nothing taken */
};

/* ---- heap truth ---------------------------------------------------------------------------------------------------- */

struct heap_arena {
	uint64_t address;
	bool is_main;
	uint64_t in_use_bytes, in_use_blocks;
	uint64_t free_bytes, free_blocks; /* bins, fastbins, tcache, top */
	uint64_t top_bytes;
	uint64_t mapped_bytes; /* the allocator's own system_mem */
	uint32_t heap_count;   /* segments: 1 + further heaps or runs */
};

struct heap_size_class {
	uint64_t size; /* chunk size, header included; the class holds (previous size, size] */
	uint64_t in_use_blocks, in_use_bytes;
	uint64_t free_blocks, free_bytes;
	double growth_per_s; /* of in_use_bytes; NaN before two walks */
	/*
	 * Survivors: blocks of this class picked at walks that found a new maximum of the heap, and followed from walk to walk
	 * (session/survivors.h): those that are settled, and those freed; what was long ago fades.
	 * Laplace: leak_probability = 1 - (freed + 1) / (tracked - freed + 2), at least 0. 0 tracked: not known, NaN.
	 */
	uint32_t tracked_blocks, freed_blocks;
	double leak_probability;
	double age_s; /* median age of the blocks followed that are still in use, since first seen; NaN unknown */
};

struct heap_stats {
	uint64_t in_use_bytes, in_use_blocks;   /* chunk bytes, headers included; mmapped blocks included */
	uint64_t free_bytes, free_blocks;       /* everything free, top and caches included */
	uint64_t tcache_bytes, tcache_blocks;   /* part of free */
	uint64_t fastbin_bytes, fastbin_blocks; /* part of free */
	uint64_t top_bytes;                     /* part of free, all arenas */
	uint64_t trimmable_bytes;     /* whole pages inside free chunks and top: what malloc_trim(0) could give back */
	uint64_t free_resident_bytes; /* free bytes on resident pages; UNKNOWN_U64 where pages were not looked up */
	uint64_t largest_free_bytes;  /* top excluded */
	uint64_t pinned_bytes;        /* free bytes that no trim can return: they share a page with a block in use */
	uint64_t overhead_bytes;      /* headers, arena structs, fenceposts: mapped - in use - free (- mmapped) */
	uint64_t mapped_bytes;        /* arenas' system_mem + mmapped blocks */
	uint64_t mmapped_bytes, mmapped_blocks; /* part of in use */
	double fragmentation;                   /* 1 - in use / mapped, 0..1 */
	struct heap_arena *arenas;
	size_t arena_count;
	struct heap_size_class *classes; /* ascending, only those that hold something */
	size_t class_count;
	const char *source; /* how it was found: "signature", … */
	/* quality of this walk */
	uint64_t walked_bytes, walk_ns;
	uint32_t torn_windows; /* windows in which the chain broke because the target was writing */
	uint32_t reread_windows, resyncs;
	uint64_t skipped_bytes; /* could not be walked: counted as neither in use nor free */
	bool complete;          /* every arena reached its top */
};

/* ---- verdict ------------------------------------------------------------------------------------------------------- */

enum verdict_class {
	VERDICT_INSUFFICIENT_DATA,
	VERDICT_STABLE,
	VERDICT_WARMUP,
	VERDICT_SCALING,
	VERDICT_LEAK,
	VERDICT_RETENTION,
	VERDICT_SPIKE,
	VERDICT_STEP,
	VERDICT_GROWTH,
	VERDICT_CLASS_COUNT
};

enum verdict_kind { KIND_NONE, KIND_UNREACHABLE, KIND_REACHABLE, KIND_SUSPECTED, KIND_COUNT };
enum verdict_cause { CAUSE_NONE, CAUSE_FRAGMENTATION, CAUSE_ALLOCATOR, CAUSE_GC, CAUSE_COUNT };
enum verdict_where {
	WHERE_NONE,
	WHERE_HEAP,
	WHERE_ANON,
	WHERE_FILE,
	WHERE_SHMEM,
	WHERE_STACK,
	WHERE_RUNTIME,
	WHERE_COUNT
};

extern const char *const verdict_class_names[VERDICT_CLASS_COUNT + 1]; /* contract spelling, NULL-terminated */
extern const char *const verdict_kind_names[KIND_COUNT];               /* NULL for NONE */
extern const char *const verdict_cause_names[CAUSE_COUNT];
extern const char *const verdict_where_names[WHERE_COUNT];

struct evidence {
	const char *id;   /* stable, kebab-case: "trend", "free-inside", … */
	const char *text; /* one clause, printable as it is */
	double value;     /* NaN: none */
	const char *unit; /* NULL: none */
	double threshold; /* NaN: none */
	bool against;     /* speaks against the verdict */
};

struct action {
	const char *text;
	const char *command; /* NULL: none */
};

struct interval {
	double value, low, high; /* 95 % unless said otherwise; NaN unknown */
};

struct forecast {
	bool known;
	uint64_t limit_bytes;
	const char *limit_source; /* "cgroup", "rlimit", "--limit", "machine" */
	/* value = mid; the interval is of 90 %. high is infinite where the slope may be zero: "not before low" (writers: null) */
	struct interval eta_s;
};

#define WORK_PREDICTIONS 4

struct work_prediction {
	double units;
	struct interval bytes;
};

/* Memory against work: bytes = fixed + bytes_per_unit * units + bytes_per_s * time. Intervals are of 95 %. */
struct work_fit {
	bool known;
	const char *unit;   /* what is counted: "unit", "CPU second", "byte read", "call of parse" */
	const char *source; /* the counter's metric name: "work_units", "cpu_s", … */
	bool cooperative;   /* units that the user named, not a counter of the kernel */
	struct interval fixed_bytes, bytes_per_unit;
	struct interval
		bytes_per_s;      /* growth with time where work stands still; NaN where the two cannot be told apart */
	struct interval exponent; /* of units in bytes - fixed ~ units^exponent; NaN unknown */
	double r2;                /* of the chosen model */
	/* "constant", "logarithmic", "linear", "linearithmic", "quadratic", "power"; "step": linear, the first unit dearer */
	const char *model;
	double units_first, units_last;
	double rate_variation; /* spread of the work rate over the watch: standard deviation over mean; 0 steady */
	double idle_share;     /* of the time in which (nearly) no work was done */
	struct work_prediction predictions[WORK_PREDICTIONS];
	size_t prediction_count;
};

struct cycle_quarter {
	double mean_bytes, mean_duration_s;
};

/* Create-use-delete loops: found by their period in the memory, or given as units of work. */
struct cycle_fit {
	bool known;
	uint64_t count;
	bool by_units;                            /* each unit of work is one cycle */
	uint64_t edge;                            /* first and last means are over that many cycles each */
	double first_mean_bytes, last_mean_bytes; /* level between cycles: at each one's end */
	struct interval growth_per_cycle;         /* bytes */
	double duration_first_s, duration_last_s; /* mean duration of the first and the last `edge` cycles */
	double duration_ratio;                    /* last over first; 1: as fast as at the beginning */
	bool slows; /* the cycles get longer beyond doubt, and at least 1.5 times as long */
	struct cycle_quarter quarters[4];
};

struct verdict {
	enum verdict_class class;
	enum verdict_kind kind;
	enum verdict_cause cause;
	enum verdict_where where;
	double confidence;   /* 0..1 */
	const char *summary; /* one sentence */
	struct evidence *evidence;
	size_t evidence_count;
	struct action *actions;
	size_t action_count;
	struct forecast forecast;
	struct work_fit work;
	struct cycle_fit cycles;
	/* the figures behind the first evidence line, for the text writer */
	struct interval slope_per_s; /* of the metric judged */
	enum metric judged;
};

/* ---- language runtimes ---------------------------------------------------------------------------------------------- */

enum runtime_unit { RUNTIME_BYTES, RUNTIME_COUNT, RUNTIME_SECONDS };

struct runtime_figure {   /* what one runtime knows and others do not */
	const char *name; /* as in the JSON: "pymalloc_in_use_bytes", "goroutines" */
	enum runtime_unit unit;
	double value;
};

/*
 * A language runtime's own accounts, read from its memory. Bytes of the memory that the runtime itself manages; what it takes from malloc beside it is heap truth.
 * NaN: this runtime does not say, or it was torn.
 */
struct runtime_stats {
	double live_bytes;      /* reachable after the last collection: the trough of the collector's saw */
	double in_use_bytes;    /* objects now, garbage included */
	double free_bytes;      /* held by the runtime, not in use */
	double committed_bytes; /* taken from the system: in use, free, and what the runtime needs itself */
	double released_bytes;  /* given back to the system, though still mapped */
	double collections;     /* full ones, ever: live_bytes is a new figure each time it goes up */
	double tasks;           /* goroutines, the runtime's threads */
	bool live_is_stale;     /* the collector does not keep it up to date: no verdict rests on it */
	struct runtime_figure *figures;
	size_t figure_count;
};

/* ---- session, cost, report ----------------------------------------------------------------------------------------- */

struct identity { /* a process, beyond doubt: the kernel reuses pids, never pid and start time together */
	pid_t pid;
	uint64_t start_ticks; /* field 22 of stat, clock ticks since boot */
};

struct named_part {       /* allocator, runtime */
	const char *name; /* NULL: unknown */
	const char *version;
	const char *found_by;
};

struct target_info {
	struct identity id;
	int64_t start_wall_ns; /* since the epoch */
	const char *comm, *exe;
	const char **cmdline;
	size_t cmdline_count;
	uint32_t uid;
	uint64_t threads;
	const char *cgroup;
	bool exited;
	int exit_code;           /* -1: none */
	int exit_signal;         /* 0: none */
	uint64_t peak_rss_bytes; /* VmHWM or ru_maxrss, whichever is greater; UNKNOWN_U64 */
	struct named_part allocator, runtime;
	const char *source, *label; /* analyze: the file, and the series in it; NULL otherwise */
};

struct gap {
	const char *rung; /* observe, heap, sites, symbols, proof */
	const char *reason;
	const char *remedy; /* NULL: none known */
};

struct session_info {
	int64_t started_wall_ns;
	double duration_s;
	uint64_t samples;
	double interval_ms;
	const char **rungs; /* those that gave figures */
	size_t rung_count;
	struct gap *gaps;
	size_t gap_count;
};

struct cost {
	double cpu_s, cpu_percent; /* memwatch's own; percent of one core */
	uint64_t rss_peak_bytes;
	uint64_t stops, stopped_ns_total, stopped_ns_max;
	uint64_t stall_ns_total; /* time in which readers of smaps held the target's mmap_lock */
	uint64_t exit_hold_ns;   /* run: how long the ending process was held for the final sample */
};

struct metric_summary { /* count 0: never read */
	uint64_t count;
	double first, last, min, max, mean;
	struct interval slope_per_s;
};

struct table { /* the series as exported: row-major, NaN unknown; column 0 is t_s */
	const char **columns;
	size_t column_count;
	double *cells;
	size_t row_count;
};

struct process_entry {
	struct target_info target;
	struct verdict verdict;
	struct metric_summary metrics[METRIC_COUNT];
	bool has_heap;
	struct heap_stats heap;
	bool has_runtime;
	struct runtime_stats runtime;
	struct region_totals classes[REGION_CLASS_COUNT]; /* last smaps; rss_bytes UNKNOWN_U64 where none was read */
	struct site *sites;
	size_t site_count;
	pid_t parent;
};

/* Everything that a writer needs. main is the target; processes[] repeats it first under --children. */
struct snapshot {
	struct arena arena;
	struct session_info session;
	struct cost cost;
	struct process_entry main;
	struct process_entry *processes;
	size_t process_count;
	struct metric_summary tree_pss; /* --children: the sum over the tree; count 0 otherwise */
	struct table series;
	double limit_bytes; /* nearest limit, NaN none */
};

void snapshot_init(struct snapshot *s);
void snapshot_deinit(struct snapshot *s);

#endif
