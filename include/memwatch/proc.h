/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * /proc/PID and the cgroup of a process: pure parsers of their text, then thin openers around them.
 *
 * Identity: proc_open() takes a pidfd and the start time together; every reader fails with -ESRCH once that very process is gone
 * (all reads go through the directory descriptor taken at open, which the kernel never lends to another process). A zombie's
 * readers return -ESRCH for memory files.
 * Nothing here stops the target; smaps and smaps_rollup hold its mmap_lock while the kernel walks, so both report how long the
 * read took (*ret_ns) for the budget.
 * Threads of memwatch: one. Errors: -errno; messages from proc_open() name cause and remedy.
 */
#ifndef MEMWATCH_PROC_H
#define MEMWATCH_PROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/err.h"
#include "memwatch/base/map.h"
#include "memwatch/model.h"

/*
 * ---- parsers ----
 *
 * Pure parsers of /proc and cgroup text: (buf, len) → model. No I/O, no allocation but into what the caller gives.
 * Formats: proc(5), Documentation/filesystems/proc.rst, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.
 * Unknown keys are skipped, missing ones stay UNKNOWN_U64; text that is not of the format is -EBADMSG. Fields in kB become bytes.
 */

struct statm {
	uint64_t size_pages, resident_pages, shared_pages;
};

struct stat_line { /* /proc/PID/stat; comm may hold spaces and parentheses */
	char comm[64];
	char state;
	pid_t ppid, pgrp, session;
	uint64_t minor_faults, major_faults;
	uint64_t utime_ticks, stime_ticks;
	uint64_t threads, start_ticks;
	uint64_t vsize_bytes, rss_pages;
	uint64_t start_stack, stack_pointer_hint; /* 0 where hidden */
	uint64_t start_brk;                       /* 0 where hidden */
};

struct status {
	char name[64];
	char state;
	pid_t tgid, ppid, tracer_pid;
	uint32_t uid, euid;
	pid_t ns_pid; /* last NSpid entry; tgid where the line is missing */
	uint64_t vm_peak_bytes, vm_hwm_bytes, vm_rss_bytes, rss_anon_bytes, rss_file_bytes, rss_shmem_bytes,
		vm_swap_bytes, vm_pte_bytes, vm_data_bytes, vm_stack_bytes;
	uint64_t threads;
	uint64_t voluntary_switches, involuntary_switches;
	bool kernel_thread; /* no VmSize line and not a zombie, or Kthread: 1 */
	int seccomp;        /* 0, 1, 2; -1 unknown */
};

struct proc_io {
	uint64_t rchar, wchar_bytes, syscr, syscw, read_bytes, write_bytes;
};

struct cgroup_memory {
	uint64_t usage_bytes, limit_bytes, peak_bytes, inactive_file_bytes, anon_bytes, swap_bytes;
	uint64_t oom_kills;
};

struct psi {
	double some_avg10, some_avg60, full_avg10, full_avg60;
	uint64_t some_total_us, full_total_us;
};

must_check int parse_statm(const char *buf, size_t len, struct statm *ret);
must_check int parse_stat(const char *buf, size_t len, struct stat_line *ret);
must_check int parse_status(const char *buf, size_t len, struct status *ret);
must_check int parse_io(const char *buf, size_t len, struct proc_io *ret);
/* /proc/PID/net/dev: bytes received and sent, over all interfaces of the network namespace, loopback included. */
must_check int parse_net_dev(const char *buf, size_t len, uint64_t *ret_bytes);
must_check int parse_psi(const char *buf, size_t len, struct psi *ret);

/* One line of maps (no newline). Octal escapes of the kernel (\012) are decoded; a path that ends in " (deleted)" sets the flag. */
must_check int parse_maps_line(const char *line, size_t len, struct intern *paths, struct region *ret);

/*
 * smaps and smaps_rollup as a stream: feed lines in order. Each mapping's header line starts a region; fields go to the class
 * of the region they stand under. For smaps_rollup use the totals of all classes (its one header counts as REGION_ANON).
 */
struct smaps_parser {
	int class;                    /* of the current region, -1 before the first */
	struct region_totals *totals; /* REGION_CLASS_COUNT rows, zeroed by smaps_parser_init */
};
void smaps_parser_init(struct smaps_parser *p, struct region_totals totals[REGION_CLASS_COUNT]);
must_check int smaps_parser_line(struct smaps_parser *p, const char *line, size_t len);

/* cgroup: /proc/PID/cgroup → path of the memory controller (v1) or of the unified hierarchy (v2). version as in struct cgroup. */
must_check int parse_proc_cgroup(const char *buf, size_t len, int *ret_version, char *ret_path, size_t path_cap);
/* memory.stat of either version. */
must_check int parse_memory_stat(const char *buf, size_t len, struct cgroup_memory *ret);
/* "max" → UINT64_MAX; v1's 0x7ffffffffffff000 → UINT64_MAX. */
must_check int parse_cgroup_number(const char *buf, size_t len, uint64_t *ret);

/* /proc/PID/limits: soft limits of address space and data; UINT64_MAX unlimited. */
must_check int parse_limits(const char *buf, size_t len, uint64_t *ret_as, uint64_t *ret_data);
must_check int parse_meminfo(const char *buf, size_t len, uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

/* path without " (deleted)", as in struct region. */
enum region_class region_classify(const char *path, uint16_t flags, uint64_t inode);

/* ---- one process ---- */

struct proc {
	struct identity id;
	int dir_fd;   /* /proc/PID, O_DIRECTORY */
	int pid_fd;   /* readable (POLLIN) when the process has ended; -1 where the kernel has no pidfd */
	int statm_fd; /* kept open: one pread per tick */
	int stat_fd;
	long page_bytes;
	long ticks_per_s;
	uint32_t uid; /* owner of /proc/PID: the effective uid of the process */
};

#define PROC_INIT                                                                                                      \
	{                                                                                                              \
		.dir_fd = -1, .pid_fd = -1, .statm_fd = -1, .stat_fd = -1                                              \
	} /* nothing open: proc_close() may be called */

/* "no process with pid 999999", "… is a kernel thread: it has no memory of its own", "… is a zombie", "… belongs to uid 0: …". */
must_check int proc_open(pid_t pid, struct proc *ret, struct err *err);
void proc_close(struct proc *p);       /* safe on a zeroed or half-open struct whose fds are -1 */
bool proc_alive(const struct proc *p); /* false for gone, zombie and for another process under the same pid */
/* A thread that lives on where the main thread has ended (pthread_exit); 0: none, or the whole process is ending. */
pid_t proc_living_thread(struct proc *p);

/*
 * Whether the pids of the /proc behind dir_fd (/proc/PID) are those that system calls of this process take. Not so where
 * /proc was mounted for another pid namespace: then only descriptors below dir_fd reach the right process.
 */
bool proc_pids_are_ours(int dir_fd);
/* pidfd of the very process behind dir_fd, for the caller to close; -1 where the kernel has none or the pids are not ours. */
int proc_pidfd(int dir_fd, pid_t pid);

must_check int proc_read_statm(struct proc *p, struct statm *ret);
must_check int proc_read_stat(struct proc *p, struct stat_line *ret);
must_check int proc_read_status(struct proc *p, struct status *ret);
must_check int proc_read_io(struct proc *p, struct proc_io *ret); /* -EACCES: not ours to read */
/* parse_net_dev() of the target's namespace; the count goes down when an interface goes away. */
must_check int proc_read_net(struct proc *p, uint64_t *ret_bytes);
/* The whole process; count and size_bytes are UNKNOWN_U64. Before 4.14 the sum of smaps, with them but without the split of PSS. */
must_check int proc_read_rollup(struct proc *p, struct region_totals *ret, uint64_t *ret_ns);
/* Sums by class, streamed in bounded memory whatever the count of mappings. */
must_check int proc_read_smaps(struct proc *p, struct region_totals ret[REGION_CLASS_COUNT], uint64_t *ret_ns);
must_check int proc_count_fds(struct proc *p, uint64_t *ret);
/* Fills a caller-owned vector from its start; paths are interned. Streamed: text is never held whole. Ascending, no overlap. */
must_check int proc_read_maps(struct proc *p, struct intern *paths, struct region **regions, size_t *cap,
			      size_t *ret_count);
/* The same from a descriptor of /proc/PID alone. */
must_check int proc_read_maps_at(int dir_fd, struct intern *paths, struct region **regions, size_t *cap,
				 size_t *ret_count);
/* Thread ids; fills the vector from its start. */
must_check int proc_read_threads(struct proc *p, pid_t **tids, size_t *cap, size_t *ret_count);
/* Children of every thread (task/TID/children; by a scan of /proc where the kernel lacks it). */
must_check int proc_read_children(struct proc *p, pid_t **pids, size_t *cap, size_t *ret_count);
/* RLIMIT_AS and RLIMIT_DATA soft limits; UINT64_MAX unlimited. */
must_check int proc_read_limits(struct proc *p, uint64_t *ret_as, uint64_t *ret_data);
/* Strings of target_info: comm, exe (readlink, " (deleted)" kept), cmdline, cgroup path, uid, start time; in the arena. */
must_check int proc_read_identity(struct proc *p, struct arena *arena, struct target_info *ret);
/* Innermost pid first shown by NSpid: the pid inside the target's own namespace; id.pid where there is one namespace only. */
must_check int proc_ns_pid(struct proc *p, pid_t *ret);

/* ---- cgroup and machine ---- */

struct cgroup {         /* of one process; v1 and v2, and mixed hosts */
	int version;    /* 0: none found, 1, 2 */
	int dir_fd;     /* the memory controller's directory; -1 none */
	char path[512]; /* as /proc/PID/cgroup names it */
};

must_check int cgroup_open(struct proc *p, struct cgroup *ret); /* 0 also where there is none (version 0) */
void cgroup_close(struct cgroup *c);
/* usage, limit (the nearest of this group and its ancestors, UINT64_MAX none), inactive_file: UNKNOWN_U64 where missing. */
must_check int cgroup_read(struct cgroup *c, struct cgroup_memory *ret);
/* Memory pressure of the cgroup, else of the machine. -ENOENT where the kernel has no PSI. */
must_check int psi_read(struct cgroup *c, struct psi *ret);
/* RAM of the machine; available as the kernel estimates it. */
must_check int machine_memory(uint64_t *ret_total_bytes, uint64_t *ret_available_bytes);

#endif
