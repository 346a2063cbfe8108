/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parsers of /proc and cgroup text, on text of old and new kernels. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/proc/cgroup.h"
#include "memwatch/proc.h"

#define TEXT(literal) (literal), (sizeof(literal) - 1)

static struct intern *paths;

static void setup(void)
{
	ck_assert_int_eq(intern_create(&paths), 0);
}

static void teardown(void)
{
	intern_destroy(paths);
}

static struct region maps_line(const char *line)
{
	struct region r;

	ck_assert_int_eq(parse_maps_line(line, strlen(line), paths, &r), 0);
	return r;
}

START_TEST(stat_survives_any_name)
{
	static const char *const names[] = { "cat", "a) S (b",    ") Z 1 2", "((",
					     "",    "two\nlines", " ",       "0123456789012345" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct stat_line s;
		char text[1024];
		int len = snprintf(
			text, sizeof(text),
			"4711 (%s) R 17 19 23 34816 -1 4194304 101 102 103 104 105 106 107 108 20 -5 13 0 "
			"987654321 2097152 331 18446744073709551615 1 1 140000 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 "
			"1 1 94000 1 1 1 1 0\n",
			names[i]);

		ck_assert_int_eq(parse_stat(text, (size_t)len, &s), 0);
		ck_assert_str_eq(s.comm, names[i]);
		ck_assert_int_eq(s.state, 'R');
		ck_assert_int_eq(s.ppid, 17);
		ck_assert_int_eq(s.pgrp, 19);
		ck_assert_int_eq(s.session, 23);
		ck_assert_uint_eq(s.minor_faults, 101);
		ck_assert_uint_eq(s.major_faults, 103);
		ck_assert_uint_eq(s.utime_ticks, 105);
		ck_assert_uint_eq(s.stime_ticks, 106);
		ck_assert_uint_eq(s.threads, 13);
		ck_assert_uint_eq(s.start_ticks, 987654321);
		ck_assert_uint_eq(s.vsize_bytes, 2097152);
		ck_assert_uint_eq(s.rss_pages, 331);
		ck_assert_uint_eq(s.start_stack, 140000);
		ck_assert_uint_eq(s.start_brk, 94000);
	}
}
END_TEST

START_TEST(stat_of_old_kernels_ends_early)
{
	struct stat_line s;

	/* 2.6: 41 fields, no start_brk. A kernel thread's name may be longer than 16 bytes. */
	ck_assert_int_eq(
		parse_stat(TEXT("9 (kworker/u8:2-events_freezable_power_long_name_of_more_than_sixty_four_bytes) I "
				"2 0 0 0 -1 69238880 0 0 0 0 0 7 0 0 20 0 1 0 33 0 0 18446744073709551615 0 0 0 0 0 "
				"0 0 0 0 0 0 0 17 1 0 0"),
			   &s),
		0);
	ck_assert_uint_eq(strlen(s.comm), sizeof(s.comm) - 1);
	ck_assert_uint_eq(s.start_brk, 0);
	ck_assert_uint_eq(s.start_ticks, 33);
}
END_TEST

START_TEST(stat_refuses_what_is_not_stat)
{
	struct stat_line s = { .ppid = 99 };

	ck_assert_int_eq(parse_stat(TEXT(""), &s), -EBADMSG);
	ck_assert_int_eq(parse_stat(TEXT("1 (a"), &s), -EBADMSG);
	ck_assert_int_eq(parse_stat(TEXT(")1 (a R 1 2 3"), &s), -EBADMSG);
	ck_assert_int_eq(parse_stat(TEXT("1 (a)"), &s), -EBADMSG);
	ck_assert_int_eq(parse_stat(TEXT("1 (a) R 1 2 3 4 5"), &s), -EBADMSG);
	ck_assert_int_eq(parse_stat(TEXT("1 (a) R 1 2 3 x 5 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"), &s), -EBADMSG);
	ck_assert_int_eq(s.ppid, 99);
}
END_TEST

START_TEST(statm_counts_pages)
{
	struct statm s;

	ck_assert_int_eq(parse_statm(TEXT("765 446 418 5 0 90 0\n"), &s), 0);
	ck_assert_uint_eq(s.size_pages, 765);
	ck_assert_uint_eq(s.resident_pages, 446);
	ck_assert_uint_eq(s.shared_pages, 418);
	ck_assert_int_eq(parse_statm(TEXT("765 446"), &s), -EBADMSG);
}
END_TEST

#define STATUS_NEW                                                                                                     \
	"Name:\todd\\nname\\\\x\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4711\nNgid:\t0\nPid:\t4711\nPPid:\t17\n"   \
	"TracerPid:\t23\nUid:\t1000\t0\t0\t0\nGid:\t1\t1\t1\t1\nFDSize:\t64\nGroups:\t4 24 \nNStgid:\t4711\t12\t1\n"   \
	"NSpid:\t4711\t12\t1\nKthread:\t0\nVmPeak:\t    3060 kB\nVmSize:\t    3059 kB\nVmHWM:\t    1784 kB\n"          \
	"VmRSS:\t    1783 kB\nRssAnon:\t     112 kB\nRssFile:\t    1671 kB\nRssShmem:\t       0 kB\nVmData:\t     "    \
	"360 kB\n"                                                                                                     \
	"VmStk:\t     132 kB\nVmPTE:\t      40 kB\nVmSwap:\t       7 kB\nThreads:\t13\nSeccomp:\t2\n"                  \
	"voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\n"

START_TEST(status_of_a_new_kernel)
{
	struct status s;

	ck_assert_int_eq(parse_status(TEXT(STATUS_NEW), &s), 0);
	ck_assert_str_eq(s.name, "odd\nname\\x");
	ck_assert_int_eq(s.state, 'S');
	ck_assert_int_eq(s.tgid, 4711);
	ck_assert_int_eq(s.ppid, 17);
	ck_assert_int_eq(s.tracer_pid, 23);
	ck_assert_uint_eq(s.uid, 1000);
	ck_assert_uint_eq(s.euid, 0);
	ck_assert_int_eq(s.ns_pid, 1);
	ck_assert_uint_eq(s.vm_peak_bytes, 3060 * 1024);
	ck_assert_uint_eq(s.vm_hwm_bytes, 1784 * 1024);
	ck_assert_uint_eq(s.vm_rss_bytes, 1783 * 1024);
	ck_assert_uint_eq(s.rss_anon_bytes, 112 * 1024);
	ck_assert_uint_eq(s.vm_swap_bytes, 7 * 1024);
	ck_assert_uint_eq(s.threads, 13);
	ck_assert_uint_eq(s.voluntary_switches, 5);
	ck_assert_uint_eq(s.involuntary_switches, 6);
	ck_assert_int_eq(s.seccomp, 2);
	ck_assert(!s.kernel_thread);
}
END_TEST

START_TEST(status_of_an_old_kernel)
{
	struct status s;

	/* 3.10: no NSpid, no split of RSS, no Kthread, no Seccomp. */
	ck_assert_int_eq(
		parse_status(TEXT("Name:\told\nState:\tR (running)\nTgid:\t9\nPid:\t9\nPPid:\t1\nTracerPid:\t0\n"
				  "Uid:\t5\t5\t5\t5\nVmSize:\t 100 kB\nVmRSS:\t 90 kB\nThreads:\t1\n"),
			     &s),
		0);
	ck_assert_int_eq(s.ns_pid, 9);
	ck_assert_int_eq(s.seccomp, -1);
	ck_assert(s.rss_anon_bytes == UNKNOWN_U64);
	ck_assert(s.vm_swap_bytes == UNKNOWN_U64);
	ck_assert(!s.kernel_thread);
}
END_TEST

START_TEST(status_tells_kernel_threads_from_zombies)
{
	struct status s;

	ck_assert_int_eq(parse_status(TEXT("Name:\tkthreadd\nState:\tS (sleeping)\nTgid:\t2\nThreads:\t1\n"), &s), 0);
	ck_assert(s.kernel_thread);
	ck_assert_int_eq(parse_status(TEXT("Name:\tkthreadd\nState:\tS (sleeping)\nTgid:\t2\nKthread:\t1\n"), &s), 0);
	ck_assert(s.kernel_thread);
	ck_assert_int_eq(parse_status(TEXT("Name:\tgone\nState:\tZ (zombie)\nTgid:\t2\nThreads:\t1\n"), &s), 0);
	ck_assert(!s.kernel_thread);
	ck_assert_int_eq(parse_status(TEXT("Name:\tending\nState:\tR (running)\nTgid:\t2\nKthread:\t0\n"), &s), 0);
	ck_assert(!s.kernel_thread);
	ck_assert_int_eq(parse_status(TEXT("Name:\tx\nState:\tR (running)\n"), &s), -EBADMSG);
	ck_assert_int_eq(parse_status(TEXT("Name:\tx\nState:\tR\nTgid:\t1\nVmRSS:\tlots\n"), &s), -EBADMSG);
	ck_assert_int_eq(parse_status(TEXT("Name:\tx\nState:\tR\nTgid:\t1\nVmRSS:\t99999999999999999 kB\n"), &s),
			 -EBADMSG);
}
END_TEST

START_TEST(io_and_psi)
{
	struct proc_io io;
	struct psi psi;

	ck_assert_int_eq(parse_io(TEXT("rchar: 3\nwchar: 5\nsyscr: 7\nsyscw: 11\nread_bytes: 13\nwrite_bytes: 17\n"
				       "cancelled_write_bytes: 19\n"),
				  &io),
			 0);
	ck_assert_uint_eq(io.rchar, 3);
	ck_assert_uint_eq(io.wchar_bytes, 5);
	ck_assert_uint_eq(io.syscr + io.syscw, 18);
	ck_assert_uint_eq(io.write_bytes, 17);
	ck_assert_int_eq(parse_io(TEXT("rchar: 3\n"), &io), 0);
	ck_assert(io.syscw == UNKNOWN_U64);
	ck_assert_int_eq(parse_io(TEXT(""), &io), -EBADMSG);
	ck_assert_int_eq(parse_io(TEXT("rchar: -3\n"), &io), -EBADMSG);

	ck_assert_int_eq(parse_psi(TEXT("some avg10=1.05 avg60=0.50 avg300=0.00 total=123456\n"
					"full avg10=12.00 avg60=0.07 avg300=0.00 total=99\n"),
				   &psi),
			 0);
	ck_assert_double_eq_tol(psi.some_avg10, 1.05, 1e-9);
	ck_assert_double_eq_tol(psi.some_avg60, 0.5, 1e-9);
	ck_assert_double_eq_tol(psi.full_avg10, 12, 1e-9);
	ck_assert_double_eq_tol(psi.full_avg60, 0.07, 1e-9);
	ck_assert_uint_eq(psi.some_total_us, 123456);
	ck_assert_int_eq(parse_psi(TEXT("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"), &psi), 0);
	ck_assert(isnan(psi.full_avg10));
	ck_assert(psi.full_total_us == UNKNOWN_U64);
	ck_assert_int_eq(parse_psi(TEXT(""), &psi), -EBADMSG);
	ck_assert_int_eq(parse_psi(TEXT("some avg10=x\n"), &psi), -EBADMSG);
}
END_TEST

START_TEST(maps_lines_of_every_kind)
{
	struct region r;

	r = maps_line("5560ad682000-5560ad684000 r-xp 00001000 fe:10 1835143                    /usr/bin/cat");
	ck_assert(r.start == 0x5560ad682000 && r.end == 0x5560ad684000 && r.offset == 0x1000);
	ck_assert_uint_eq(r.dev_major, 0xfe);
	ck_assert_uint_eq(r.dev_minor, 0x10);
	ck_assert_uint_eq(r.inode, 1835143);
	ck_assert_uint_eq(r.flags, REGION_READ | REGION_EXEC);
	ck_assert_str_eq(r.path, "/usr/bin/cat");
	ck_assert_int_eq(r.class, REGION_FILE);
	r = maps_line("7f0000000000-7f0000021000 rw-p 00000000 00:00 0 ");
	ck_assert_str_eq(r.path, "");
	ck_assert_int_eq(r.class, REGION_ANON);
	r = maps_line("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]");
	ck_assert_int_eq(r.class, REGION_SPECIAL);
}
END_TEST

START_TEST(maps_classes_follow_names)
{
	static const struct {
		const char *tail;
		enum region_class class;
	} rows[] = {
		{ "rw-p 0 00:00 0 [heap]", REGION_HEAP },
		{ "rw-p 0 00:00 0 [stack]", REGION_STACK },
		{ "rw-p 0 00:00 0 [stack:4711]", REGION_STACK },
		{ "rw-p 0 00:00 0 [anon:stack_and_tls:17]", REGION_STACK },
		{ "rw-p 0 00:00 0 [anon: glibc: malloc arena]", REGION_ANON },
		{ "rw-s 0 00:01 77 [anon_shmem:ring]", REGION_SHMEM },
		{ "r--p 0 00:00 0 [vvar_vclock]", REGION_SPECIAL },
		{ "r-xp 0 00:00 0 [vdso]", REGION_SPECIAL },
		{ "--xp 0 00:00 0 [uprobes]", REGION_SPECIAL },
		{ "rw-s 0 00:01 1234 /dev/zero (deleted)", REGION_SHMEM },
		{ "rw-p 0 00:05 4 /dev/zero", REGION_ANON },
		{ "rw-p 0 00:0f 9 /anon_hugepage (deleted)", REGION_ANON },
		{ "rw-s 0 00:01 32769 /SYSV0000002a (deleted)", REGION_SHMEM },
		{ "rw-s 0 00:01 1025 /memfd:ring (deleted)", REGION_SHMEM },
		{ "rw-s 0 00:18 3 /dev/shm/pool", REGION_SHMEM },
		{ "rw-s 0 00:18 3 /dev/shmem", REGION_FILE },
		{ "rw-s 0 00:0e 1 anon_inode:[perf_event]", REGION_SPECIAL },
		{ "rw-s 0 08:01 5 /var/lib/db", REGION_FILE },
		{ "r--p 0 08:01 5 /home/[heap]", REGION_FILE },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char line[256];

		snprintf(line, sizeof(line), "1000-2000 %s", rows[i].tail);
		ck_assert_msg(maps_line(line).class == rows[i].class, "%s", rows[i].tail);
	}
}
END_TEST

START_TEST(maps_paths_with_strange_names)
{
	struct region r;

	r = maps_line("1000-2000 r--p 0 08:01 5      /tmp/a b  c ");
	ck_assert_str_eq(r.path, "/tmp/a b  c ");
	r = maps_line("1000-2000 r--p 0 08:01 5 /tmp/two\\012lines (deleted)");
	ck_assert_str_eq(r.path, "/tmp/two\nlines");
	ck_assert(r.flags & REGION_DELETED);
	r = maps_line("1000-2000 r--p 0 08:01 5 /tmp/x (deleted) (deleted)");
	ck_assert_str_eq(r.path, "/tmp/x (deleted)");
	ck_assert(r.flags & REGION_DELETED);
	r = maps_line("1000-2000 r--p 0 08:01 5 /tmp/x (deleted)y");
	ck_assert_str_eq(r.path, "/tmp/x (deleted)y");
	ck_assert(!(r.flags & REGION_DELETED));
	/* The kernel escapes newlines only: this backslash belongs to the name. */
	r = maps_line("1000-2000 r--p 0 08:01 5 /tmp/a\\040\\134b\\");
	ck_assert_str_eq(r.path, "/tmp/a\\040\\134b\\");
}
END_TEST

START_TEST(maps_refuses_what_is_no_mapping)
{
	static const char *const bad[] = {
		"",
		"1000",
		"1000-2000",
		"2000-1000 r--p 0 08:01 5",
		"1000-1000 r--p 0 08:01 5",
		"1000-2000 r--q 0 08:01 5",
		"1000-2000 r-p 0 08:01 5",
		"1000-2000 r--p 0 0801 5",
		"1000-2000 r--p 0 08:01",
		"1000-2000 r--p 0 100000000:01 5",
		"10000000000000000-2 r--p 0 08:01 5",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct region r = { .start = 7 };

		ck_assert_msg(parse_maps_line(bad[i], strlen(bad[i]), paths, &r) == -EBADMSG, "%s", bad[i]);
		ck_assert_uint_eq(r.start, 7);
	}
}
END_TEST

static int feed(struct smaps_parser *p, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		int r = smaps_parser_line(p, text, len);

		if (r < 0)
			return r;
		text += len + (text[len] == '\n');
	}
	return 0;
}

START_TEST(smaps_sums_by_class)
{
	struct region_totals t[REGION_CLASS_COUNT];
	struct smaps_parser p;

	smaps_parser_init(&p, t);
	ck_assert_int_eq(feed(&p,
			      "1000-9000 rw-p 00000000 00:00 0                  [heap]\n"
			      "Size:                 32 kB\nKernelPageSize:        4 kB\nRss:                  20 kB\n"
			      "Pss:                  19 kB\nPss_Dirty:            1 kB\nShared_Clean:          1 kB\n"
			      "Shared_Dirty:          2 kB\nPrivate_Clean:         4 kB\nPrivate_Dirty:         8 kB\n"
			      "Anonymous:            16 kB\nLazyFree:              3 kB\nAnonHugePages:      2048 kB\n"
			      "Swap:                  5 kB\nSwapPss:               5 kB\nTHPeligible:           0\n"
			      "ProtectionKey:         0\nVmFlags: rd wr mr mw me ac \n"
			      "a000-b000 r--p 00000000 08:01 7   /lib/x (deleted)\nSize: 4 kB\nRss: 4 kB\n"
			      "b000-c000 r--p 00001000 08:01 7   /lib/x (deleted)\nSize: 4 kB\nRss: 3 kB\n"),
			 0);
	ck_assert_uint_eq(t[REGION_HEAP].count, 1);
	ck_assert_uint_eq(t[REGION_HEAP].size_bytes, 32 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].rss_bytes, 20 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].pss_bytes, 19 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].shared_bytes, 3 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].private_dirty_bytes, 8 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].anon_bytes, 16 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].lazy_free_bytes, 3 << 10);
	ck_assert_uint_eq(t[REGION_HEAP].anon_huge_bytes, 2 << 20);
	ck_assert_uint_eq(t[REGION_HEAP].swap_bytes, 5 << 10);
	ck_assert(t[REGION_HEAP].pss_file_bytes == UNKNOWN_U64);
	ck_assert_uint_eq(t[REGION_FILE].count, 2);
	ck_assert_uint_eq(t[REGION_FILE].rss_bytes, 7 << 10);
	ck_assert_uint_eq(t[REGION_ANON].count, 0);
}
END_TEST

START_TEST(smaps_rollup_splits_pss)
{
	struct region_totals t[REGION_CLASS_COUNT];
	struct smaps_parser p;

	smaps_parser_init(&p, t);
	ck_assert_int_eq(
		feed(&p, "5560ad682000-7fffbc618000 ---p 00000000 00:00 0                          [rollup]\n"
			 "Rss:                1692 kB\nPss:                 359 kB\nPss_Anon:            116 kB\n"
			 "Pss_File:            243 kB\nPss_Shmem:             0 kB\nSwap:                  0 kB\n"),
		0);
	ck_assert_uint_eq(t[REGION_ANON].rss_bytes, 1692 << 10);
	ck_assert_uint_eq(t[REGION_ANON].pss_file_bytes, 243 << 10);
	ck_assert_uint_eq(t[REGION_ANON].pss_shmem_bytes, 0);
}
END_TEST

START_TEST(smaps_refuses_what_is_not_smaps)
{
	struct region_totals t[REGION_CLASS_COUNT];
	struct smaps_parser p;

	smaps_parser_init(&p, t);
	ck_assert_int_eq(feed(&p, "Rss: 4 kB\n"), -EBADMSG);
	ck_assert_int_eq(feed(&p, "1000-2000 rw-p\n"), -EBADMSG);
	ck_assert_int_eq(feed(&p, "1000-2000 rw-p 0 00:00 0\nRss: many kB\n"), -EBADMSG);
	ck_assert_int_eq(feed(&p, "Rss: 18014398509481983 kB\nRss: 18014398509481983 kB\n"), -EBADMSG);
}
END_TEST

/* All ones would read as unknown, and what is added to it would begin a new sum. */
START_TEST(smaps_sums_never_become_unknown)
{
	struct region_totals t[REGION_CLASS_COUNT];
	struct smaps_parser p;

	smaps_parser_init(&p, t);
	ck_assert_int_eq(feed(&p, "1000-2000 rw-p 0 00:00 0\nRss: 18446744073709551615\n"), -EBADMSG);
	ck_assert_int_eq(feed(&p, "Rss: 18446744073709551614\nRss: 1\n"), -EBADMSG);
	ck_assert_uint_eq(t[REGION_ANON].rss_bytes, UINT64_MAX - 1);
	ck_assert_int_eq(feed(&p, "Rss: 4 kB\n"), -EBADMSG);
	ck_assert_uint_eq(t[REGION_ANON].rss_bytes, UINT64_MAX - 1);
}
END_TEST

START_TEST(cgroup_paths_of_v1_v2_and_mixed_hosts)
{
	char path[64];
	int version;

	ck_assert_int_eq(parse_proc_cgroup(TEXT("9:name=systemd:/\n4:cpuset,memory:/docker/a:b\n0::/\n"), &version,
					   path, sizeof(path)),
			 0);
	ck_assert_int_eq(version, 1);
	ck_assert_str_eq(path, "/docker/a:b");
	ck_assert_int_eq(parse_proc_cgroup(TEXT("0::/user.slice/x.scope\n"), &version, path, sizeof(path)), 0);
	ck_assert_int_eq(version, 2);
	ck_assert_str_eq(path, "/user.slice/x.scope");
	/* Mixed, memory on the unified side; and v1 without the memory controller at all. */
	ck_assert_int_eq(parse_proc_cgroup(TEXT("3:cpu,cpuacct:/c\n0::/u\n"), &version, path, sizeof(path)), 0);
	ck_assert_int_eq(version, 2);
	ck_assert_str_eq(path, "/u");
	ck_assert_int_eq(parse_proc_cgroup(TEXT("3:memory_not:/c\n"), &version, path, sizeof(path)), 0);
	ck_assert_int_eq(version, 0);
	ck_assert_str_eq(path, "");
	ck_assert_int_eq(parse_proc_cgroup(TEXT("0::/abcdefgh\n"), &version, path, 8), -ENAMETOOLONG);
	ck_assert_int_eq(parse_proc_cgroup(TEXT("nonsense\n"), &version, path, sizeof(path)), -EBADMSG);
}
END_TEST

START_TEST(memory_stat_of_both_versions)
{
	struct cgroup_memory m;

	ck_assert_int_eq(parse_memory_stat(TEXT("anon 4096\nfile 8192\nkernel 1\ninactive_file 8000\nslab 0\n"), &m),
			 0);
	ck_assert_uint_eq(m.anon_bytes, 4096);
	ck_assert_uint_eq(m.inactive_file_bytes, 8000);
	ck_assert(m.limit_bytes == UNKNOWN_U64 && m.swap_bytes == UNKNOWN_U64);
	ck_assert_int_eq(
		parse_memory_stat(TEXT("cache 1\nrss 2\nswap 3\ninactive_file 4\nhierarchical_memory_limit 104857600\n"
				       "total_cache 10\ntotal_rss 20\ntotal_swap 30\ntotal_inactive_file 40\n"),
				  &m),
		0);
	ck_assert_uint_eq(m.anon_bytes, 20);
	ck_assert_uint_eq(m.swap_bytes, 30);
	ck_assert_uint_eq(m.inactive_file_bytes, 40);
	ck_assert_uint_eq(m.limit_bytes, 104857600);
	ck_assert_int_eq(parse_memory_stat(TEXT("hierarchical_memory_limit 9223372036854771712\n"), &m), 0);
	ck_assert(m.limit_bytes == UINT64_MAX);
	ck_assert_int_eq(parse_memory_stat(TEXT(""), &m), -EBADMSG);
	ck_assert_int_eq(parse_memory_stat(TEXT("anon\n"), &m), -EBADMSG);
}
END_TEST

START_TEST(cgroup_numbers)
{
	uint64_t n = 1;

	ck_assert_int_eq(parse_cgroup_number(TEXT("1048576\n"), &n), 0);
	ck_assert_uint_eq(n, 1048576);
	ck_assert_int_eq(parse_cgroup_number(TEXT("max\n"), &n), 0);
	ck_assert(n == UINT64_MAX);
	n = 1;
	ck_assert_int_eq(parse_cgroup_number(TEXT("9223372036854771712\n"), &n), 0);
	ck_assert(n == UINT64_MAX);
	ck_assert_int_eq(parse_cgroup_number(TEXT("9223372036854710272"), &n), 0); /* 64 KiB pages */
	ck_assert(n == UINT64_MAX);
	ck_assert_int_eq(parse_cgroup_number(TEXT("\n"), &n), -EBADMSG);
	ck_assert_int_eq(parse_cgroup_number(TEXT("12 34\n"), &n), -EBADMSG);
}
END_TEST

static bool mount_line(const char *line, struct cgroup_mount *m)
{
	return cgroup_mount_parse((struct text){ line, strlen(line) }, m);
}

START_TEST(cgroup_mounts_resolve_below_their_root_only)
{
	struct cgroup_mount m;
	char dir[PATH_MAX];

	ck_assert(!mount_line("23 1 0:21 / /proc rw,relatime shared:5 - proc proc rw", &m));
	ck_assert(!mount_line("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", &m));
	ck_assert(!mount_line("32 31 0:29 /", &m));
	ck_assert(mount_line("35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory", &m));
	ck_assert_int_eq(m.version, 1);
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/a/b", dir, sizeof(dir)), 0);
	ck_assert_str_eq(dir, "/sys/fs/cgroup/memory/a/b");
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/", dir, sizeof(dir)), 0);
	ck_assert_str_eq(dir, "/sys/fs/cgroup/memory");
	/* Outside of our cgroup namespace: the step up would leave the mount. */
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/../other", dir, sizeof(dir)), -ENOENT);
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/..", dir, sizeof(dir)), -ENOENT);
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/..hidden", dir, sizeof(dir)), 0);

	/* A container without a cgroup namespace of its own; optional fields; a blank in the mount point. */
	ck_assert(mount_line("36 31 0:37 /docker/abc /mnt/c\\040g rw shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate",
			     &m));
	ck_assert_int_eq(m.version, 2);
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/docker/abc/x", dir, sizeof(dir)), 0);
	ck_assert_str_eq(dir, "/mnt/c g/x");
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/docker/abc", dir, sizeof(dir)), 0);
	ck_assert_str_eq(dir, "/mnt/c g");
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/docker/abcd", dir, sizeof(dir)), -ENOENT);
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/", dir, sizeof(dir)), -ENOENT);
	/* Mounted from above our namespace: siblings are within reach. */
	ck_assert(mount_line("36 31 0:37 /.. /cg rw - cgroup2 cgroup2 rw", &m));
	ck_assert_int_eq(cgroup_mount_resolve(&m, "/../sibling", dir, sizeof(dir)), 0);
	ck_assert_str_eq(dir, "/cg/sibling");
}
END_TEST

START_TEST(limits_and_meminfo)
{
	uint64_t as, data, total, available;

	ck_assert_int_eq(
		parse_limits(TEXT("Limit                     Soft Limit           Hard Limit           Units     \n"
				  "Max data size             1048576              unlimited            bytes     \n"
				  "Max address space         unlimited            unlimited            bytes     \n"),
			     &as, &data),
		0);
	ck_assert_uint_eq(data, 1048576);
	ck_assert(as == UINT64_MAX);
	ck_assert_int_eq(parse_limits(TEXT("Max data size  1 2 bytes\n"), &as, &data), -EBADMSG);
	ck_assert_int_eq(parse_meminfo(TEXT("MemTotal: 100 kB\nMemFree: 7 kB\nMemAvailable: 60 kB\nCached: 3 kB\n"),
				       &total, &available),
			 0);
	ck_assert_uint_eq(total, 100 << 10);
	ck_assert_uint_eq(available, 60 << 10);
	ck_assert_int_eq(parse_meminfo(TEXT("MemTotal: 100 kB\nMemFree: 7 kB\nBuffers: 2 kB\nCached: 3 kB\n"), &total,
				       &available),
			 0);
	ck_assert_uint_eq(available, 12 << 10);
	ck_assert_int_eq(parse_meminfo(TEXT("MemFree: 7 kB\n"), &total, &available), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("parse");
	TCase *tc = tcase_create("parse");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, stat_survives_any_name);
	tcase_add_test(tc, stat_of_old_kernels_ends_early);
	tcase_add_test(tc, stat_refuses_what_is_not_stat);
	tcase_add_test(tc, statm_counts_pages);
	tcase_add_test(tc, status_of_a_new_kernel);
	tcase_add_test(tc, status_of_an_old_kernel);
	tcase_add_test(tc, status_tells_kernel_threads_from_zombies);
	tcase_add_test(tc, io_and_psi);
	tcase_add_test(tc, maps_lines_of_every_kind);
	tcase_add_test(tc, maps_classes_follow_names);
	tcase_add_test(tc, maps_paths_with_strange_names);
	tcase_add_test(tc, maps_refuses_what_is_no_mapping);
	tcase_add_test(tc, smaps_sums_by_class);
	tcase_add_test(tc, smaps_rollup_splits_pss);
	tcase_add_test(tc, smaps_refuses_what_is_not_smaps);
	tcase_add_test(tc, smaps_sums_never_become_unknown);
	tcase_add_test(tc, cgroup_paths_of_v1_v2_and_mixed_hosts);
	tcase_add_test(tc, memory_stat_of_both_versions);
	tcase_add_test(tc, cgroup_numbers);
	tcase_add_test(tc, cgroup_mounts_resolve_below_their_root_only);
	tcase_add_test(tc, limits_and_meminfo);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
