/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Target memory: fixtures, live processes, their fallbacks and refusals. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "../../src/mem/pagemap.h"
#include "../../src/mem/refusal.h"
#include "child.h"
#include "memwatch/mem.h"
#include "memwatch/proc.h"

#define NOBODY 65534
#define PAGES 211 /* of the island: page i is written where i % 3 == 0, read where i % 3 == 1, else never touched */

static uint64_t page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct mem *open_live(const struct proc *p)
{
	struct err err = ERR_INIT;
	struct mem *mem = NULL;
	int r = mem_live_create(p->id.pid, p->dir_fd, &mem, &err);

	ck_assert_msg(r == 0, "%s", err.msg);
	return mem;
}

static struct proc open_proc(pid_t pid)
{
	struct err err = ERR_INIT;
	struct proc p;
	int r = proc_open(pid, &p, &err);

	ck_assert_msg(r == 0, "%s", err.msg);
	return p;
}

static char *map_island(size_t pages)
{
	size_t page = page_bytes();
	char *at = mmap(NULL, (pages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || mprotect(at + page, pages * page, PROT_READ | PROT_WRITE) < 0)
		_exit(1);
	madvise(at + page, pages * page, MADV_NOHUGEPAGE);
	return at + page;
}

static void island_body(const struct child *self)
{
	volatile char *island = map_island(PAGES);
	size_t page = page_bytes();
	char sink = 0;

	for (size_t i = 0; i < PAGES; i++) {
		if (i % 3 == 0)
			island[i * page + 7] = (char)(i + 1);
		else if (i % 3 == 1)
			sink = (char)(sink + island[i * page]);
	}
	child_step(self, (uint64_t)(uintptr_t)island);
}

/* Every page that was written, and no page that was never touched; the page of zeroes may count or not. */
static void assert_island_present(const struct mem_range *ranges, size_t count, uint64_t island, bool zero_pages)
{
	size_t page = page_bytes();

	for (size_t i = 0; i < PAGES; i++) {
		uint64_t at = island + i * page;
		bool found = false;

		for (size_t k = 0; k < count; k++)
			found |= at >= ranges[k].start && at < ranges[k].end;
		ck_assert_msg(found == (i % 3 == 0 || (zero_pages && i % 3 == 1)), "page %zu", i);
	}
}

START_TEST(present_ranges_are_exact)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c), end = island + PAGES * page_bytes(), next = 0;
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p);
	struct mem_range ranges[PAGES];
	ssize_t n = mem_present(mem, island, end, ranges, PAGES, &next);
	size_t total = 0;

	ck_assert_int_gt(n, 0);
	ck_assert_uint_eq(next, end);
	/* 6.7 tells the page of zeroes apart; before, it counts. */
	assert_island_present(ranges, (size_t)n, island, ranges[0].end - ranges[0].start == 2 * page_bytes());
	/* In small portions the same comes out. */
	for (uint64_t at = island; at < end; at = next) {
		struct mem_range few[5];
		ssize_t k = mem_present(mem, at, end, few, 5, &next);

		ck_assert_int_ge(k, 0);
		ck_assert_uint_gt(next, at);
		for (ssize_t i = 0; i < k; i++) {
			ck_assert_uint_eq(few[i].start, ranges[total].start);
			ck_assert_uint_eq(few[i].end, ranges[total].end);
			total++;
		}
	}
	ck_assert_uint_eq(total, (size_t)n);
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

START_TEST(both_ways_to_find_present_pages_agree)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c), end = island + PAGES * page_bytes(), next = 0;
	struct mem_range ranges[PAGES];
	struct pagemap_out out = { ranges, PAGES, 0 };
	struct proc p = open_proc(c.pid);
	cleanup_close int fd = openat(p.dir_fd, "pagemap", O_RDONLY | O_CLOEXEC);
	int r;

	ck_assert_int_eq(pagemap_entries(fd, island, end, &out, &next), 0);
	ck_assert_uint_eq(next, end);
	assert_island_present(ranges, out.count, island, true);
	out.count = 0;
	r = pagemap_scan(fd, island, end, &out, &next);
	ck_assert(r == 0 || r == -ENOTTY); /* before 6.7 */
	if (r == 0) {
		ck_assert_uint_eq(next, end);
		assert_island_present(ranges, out.count, island, false);
	}
	proc_close(&p);
	child_end(&c);
}
END_TEST

START_TEST(present_bridges_steps_and_ends)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c), next = 0;
	struct mem_range ranges[4 * PAGES];
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p);
	ssize_t n;

	/* From far below: several steps of 64 MiB, most of them over nothing. */
	n = mem_present(mem, island - 3 * PAGEMAP_STEP_BYTES, island + page_bytes(), ranges, 4 * PAGES, &next);
	ck_assert_int_gt(n, 0);
	ck_assert_uint_eq(ranges[n - 1].start, island);
	ck_assert_uint_eq(ranges[n - 1].end, island + page_bytes());
	/* Kernel addresses hold nothing for us, and an empty range is no error. */
	ck_assert_int_eq(mem_present(mem, UINT64_MAX - 8191, UINT64_MAX, ranges, 4, &next), 0);
	ck_assert_uint_eq(next, UINT64_MAX);
	ck_assert_int_eq(mem_present(mem, island, island, ranges, 4, &next), 0);
	ck_assert_int_eq(mem_present(mem, island, island + 1, ranges, 0, &next), -EINVAL);
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

/* Page tables in kB, as /proc shows them. */
static uint64_t page_table_bytes(struct proc *p)
{
	struct status s;

	ck_assert_int_eq(proc_read_status(p, &s), 0);
	return s.vm_pte_bytes;
}

static void sparse_body(const struct child *self)
{
	size_t page = page_bytes(), pages = ((size_t)256 << 20) / page;
	char *island = map_island(pages);

	island[0] = 1;
	island[pages / 2 * page] = 2;
	child_step(self, (uint64_t)(uintptr_t)island);
}

START_TEST(reading_present_pages_leaves_the_target_as_it_was)
{
	struct child c = child_start(sparse_body);
	uint64_t island = child_wait(&c), end = island + ((uint64_t)256 << 20), next = 0, before;
	struct mem_range ranges[8];
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p);
	char byte = 0;
	ssize_t n;

	before = page_table_bytes(&p);
	n = mem_present(mem, island, end, ranges, 8, &next);
	ck_assert_int_eq(n, 2);
	ck_assert_int_eq(mem_read_exact(mem, ranges[1].start, &byte, 1), 0);
	ck_assert_int_eq(byte, 2);
	ck_assert_uint_eq(page_table_bytes(&p), before);
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

/* guarded: protections hold. (/proc/PID/mem, as debuggers use it, reads through them.) */
static void assert_reads(struct mem *mem, uint64_t island, bool guarded)
{
	size_t page = page_bytes(), len = PAGES * page;
	cleanup_free char *buf = malloc(len + page);
	uint64_t value = 0;

	for (size_t i = 0; i < PAGES; i += 3) {
		char byte = 0;

		ck_assert_int_eq(mem_read_exact(mem, island + i * page + 7, &byte, 1), 0);
		ck_assert_int_eq(byte, (char)(i + 1));
	}
	ck_assert_int_eq(mem_read(mem, island, buf, len), (ssize_t)len);
	ck_assert_int_eq(buf[3 * page + 7], 4);
	ck_assert_int_eq(mem_read(mem, 8, buf, 8), 0);
	ck_assert_int_eq(mem_read(mem, UINT64_MAX - 3, buf, 64), 0);
	ck_assert_int_eq(mem_read(mem, island, NULL, 0), 0);
	ck_assert_int_eq(mem_read_exact(mem, 8, buf, 8), -EFAULT);
	ck_assert_int_eq(mem_read_u64(mem, 8, &value), -EFAULT);
	ck_assert_int_eq(mem_read_u64(mem, island, &value), 0);
	ck_assert_uint_eq(value, (uint64_t)1 << 56);
	if (!guarded)
		return;
	/* Beyond the island stands a guard: reads end short there. */
	ck_assert_int_eq(mem_read(mem, island, buf, len + page), (ssize_t)len);
	ck_assert_int_eq(mem_read(mem, island + len - 3, buf, 8), 3);
	ck_assert_int_eq(mem_read(mem, island + len, buf, 8), 0);
	ck_assert_int_eq(mem_read_exact(mem, island + len - 3, buf, 8), -EFAULT);
	ck_assert_int_eq(mem_read_u64(mem, island + len - 4, &value), -EFAULT);
}

#define PIECES 2500 /* more than the kernel takes at once */

static void assert_batch(struct mem *mem, uint64_t island, bool guarded)
{
	static struct mem_piece pieces[PIECES];
	static char bytes[PIECES][16];
	size_t page = page_bytes(), end = PAGES * page;

	/* Every 97th lies nowhere, every 101st reaches over the end, every 103rd is empty. */
	for (size_t i = 0; i < PIECES; i++) {
		size_t n = i % 71 * 3;
		uint64_t at = island + n * page + 7;
		size_t len = 9;

		if (i % 97 == 0)
			at = 4096;
		else if (i % 101 == 0)
			at = island + end - 5;
		else if (i % 103 == 0)
			len = 0;
		pieces[i] = (struct mem_piece){ at, bytes[i], len, 77 };
	}
	ck_assert_int_eq(mem_read_batch(mem, pieces, PIECES), 0);
	for (size_t i = 0; i < PIECES; i++) {
		size_t expected = i % 97 == 0 ? 0 : i % 101 == 0 && guarded ? 5 : i % 103 == 0 ? 0 : 9;

		ck_assert_msg(pieces[i].done == expected, "piece %zu: %zu", i, pieces[i].done);
		if (expected == 9 && i % 101 != 0)
			ck_assert_int_eq(bytes[i][0], (char)(i % 71 * 3 + 1));
	}
	ck_assert_int_eq(mem_read_batch(mem, NULL, 0), 0);
}

START_TEST(reads_end_at_the_first_unreadable_byte)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c);
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p);

	assert_reads(mem, island, true);
	assert_batch(mem, island, true);
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

static bool filter(const struct sock_filter *code, unsigned short len)
{
	struct sock_fprog program = { len, (struct sock_filter *)(uintptr_t)code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/* As a container's filter does: process_vm_readv is EPERM, and ioctl is one that an old kernel does not know. */
static bool forbid_fast_ways(void)
{
	static const struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_process_vm_readv, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 2, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY),
	};

	return filter(code, sizeof(code) / sizeof(code[0]));
}

/* Check runs each test in a process of its own: the filter ends with it. */
START_TEST(slow_ways_serve_where_the_fast_are_refused)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c), end = island + PAGES * page_bytes(), next = 0;
	struct proc p = open_proc(c.pid);
	struct mem_range ranges[PAGES];
	const struct region *regions;
	struct mem *mem;
	ssize_t n;

	ck_assert(forbid_fast_ways());
	mem = open_live(&p);
	n = mem_present(mem, island, end, ranges, PAGES, &next);
	ck_assert_int_gt(n, 0);
	ck_assert_uint_eq(next, end);
	assert_island_present(ranges, (size_t)n, island, true);
	assert_reads(mem, island, false);
	assert_batch(mem, island, false);
	ck_assert_int_gt(mem_regions(mem, &regions), 0);
	child_kill(&c);
	ck_assert_int_eq(mem_read(mem, island, ranges, 8), -ESRCH);
	child_reap(&c);
	ck_assert_int_eq(mem_read(mem, island, ranges, 8), -ESRCH);
	mem_destroy(mem);
	proc_close(&p);
}
END_TEST

START_TEST(regions_are_current)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c);
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p);
	const struct region *regions, *r;

	for (int i = 0; i < 2; i++) {
		ssize_t n = mem_regions(mem, &regions);

		ck_assert_int_gt(n, 0);
		r = region_find(regions, (size_t)n, island + 17);
		ck_assert_ptr_nonnull(r);
		ck_assert_uint_eq(r->start, island);
		ck_assert_uint_eq(r->end, island + PAGES * page_bytes());
		ck_assert_ptr_null(region_find(regions, (size_t)n, 8));
		ck_assert_ptr_null(region_find(regions, (size_t)n, UINT64_MAX));
	}
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

static void exec_body(const struct child *self)
{
	child_step(self, 0);
	fcntl(self->done_fd, F_SETFD, FD_CLOEXEC);
	execl("/bin/sleep", "sleep", "1000", NULL);
	_exit(1);
}

START_TEST(exec_does_not_blind_us)
{
	struct child c = child_start(exec_body);
	struct mem_range ranges[4];
	const struct region *regions;
	uint64_t next, none;
	struct mem *mem;
	struct proc p;
	char magic[4];
	ssize_t n;

	child_wait(&c);
	p = open_proc(c.pid);
	mem = open_live(&p);
	ck_assert_int_gt(mem_regions(mem, &regions), 0);
	ck_assert_int_eq(write(c.go_fd, "g", 1), 1);
	ck_assert_int_eq(read(c.done_fd, &none, sizeof(none)), 0); /* closed by exec */
	n = mem_regions(mem, &regions);
	ck_assert_int_gt(n, 0);
	while (n > 0 && !strstr(regions->path, "sleep")) {
		regions++;
		n--;
	}
	ck_assert_int_gt(n, 0);
	ck_assert_int_eq(mem_read_exact(mem, regions->start, magic, sizeof(magic)), 0);
	ck_assert_mem_eq(magic, "\177ELF", 4);
	ck_assert_int_gt(mem_present(mem, regions->start, regions->end, ranges, 4, &next), 0);
	ck_assert(proc_alive(&p));
	mem_destroy(mem);
	proc_close(&p);
	child_end(&c);
}
END_TEST

START_TEST(the_dead_answer_esrch)
{
	struct child c = child_start(island_body);
	uint64_t island = child_wait(&c), next;
	struct proc p = open_proc(c.pid);
	struct mem *mem = open_live(&p), *late = NULL;
	struct mem_piece piece = { island, &next, 8, 0 };
	const struct region *regions;
	struct err err = ERR_INIT;
	struct mem_range range;

	child_kill(&c);
	for (int reaped = 0; reaped < 2; reaped++) {
		ck_assert_int_eq(mem_read(mem, island, &next, 8), -ESRCH);
		ck_assert_int_eq(mem_read_batch(mem, &piece, 1), -ESRCH);
		ck_assert_int_eq(mem_present(mem, island, island + 8192, &range, 1, &next), -ESRCH);
		ck_assert_int_eq(mem_regions(mem, &regions), -ESRCH);
		ck_assert_int_eq(mem_live_create(c.pid, p.dir_fd, &late, &err), -ESRCH);
		ck_assert_ptr_null(late);
		if (!reaped)
			child_reap(&c);
	}
	mem_destroy(mem);
	mem_destroy(NULL);
	proc_close(&p);
}
END_TEST

/* Reads the parent's memory as somebody else: returns a step number, 0 where the refusal is as expected. */
static int refused_by_owner(void)
{
	struct err err = ERR_INIT;
	struct mem *mem;
	struct proc p;

	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return CHILD_SKIP;
	if (proc_open(getppid(), &p, NULL) < 0)
		return 1;
	if (mem_live_create(getppid(), p.dir_fd, &mem, &err) != -EPERM || err.code != EPERM)
		return 2;
	return strstr(err.msg, "belongs to uid 0 and memwatch runs as uid 65534") ? 0 : 3;
}

static void not_dumpable_body(const struct child *self)
{
	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		child_step(self, CHILD_SKIP);
	child_step(self, 0);
}

static pid_t not_dumpable_pid; /* for the body below, which takes no argument */

static int refused_by_dumpable(void)
{
	struct err err = ERR_INIT;
	struct mem *mem;
	struct proc p;

	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return CHILD_SKIP;
	if (proc_open(not_dumpable_pid, &p, NULL) < 0)
		return 1;
	if (mem_live_create(not_dumpable_pid, p.dir_fd, &mem, &err) != -EPERM)
		return 2;
	return strstr(err.msg, "not dumpable") ? 0 : 3;
}

START_TEST(real_refusals_are_explained)
{
	struct child c = child_start(not_dumpable_body);
	int result;

	result = child_result(refused_by_owner);
	ck_assert_msg(result == 0 || result == CHILD_SKIP, "owner: step %d", result);
	not_dumpable_pid = c.pid;
	result = child_wait(&c) ? CHILD_SKIP : child_result(refused_by_dumpable);
	ck_assert_msg(result == 0 || result == CHILD_SKIP, "dumpable: step %d", result);
	child_end(&c);
}
END_TEST

START_TEST(every_refusal_names_cause_and_remedy)
{
	static const struct {
		struct refusal_facts facts;
		const char *cause, *remedy;
	} rows[] = {
		{ { 7, 1000, 0, 0, 0, 1, false, false }, "belongs to uid 0", "CAP_SYS_PTRACE" },
		{ { 7, 1000, 1000, 0, 0, 0, false, false }, "belongs to uid 0", "CAP_SYS_PTRACE" },
		{ { 7, 1000, 1000, 1000, 0, 1, false, false }, "not dumpable", "CAP_SYS_PTRACE" },
		{ { 7, 1000, 1000, 1000, 1000, 1, false, false }, "ptrace_scope is 1", "memwatch run" },
		{ { 7, 1000, 1000, 1000, 1000, 2, false, false }, "ptrace_scope is 2", "CAP_SYS_PTRACE" },
		{ { 7, 1000, 1000, 1000, 1000, 3, false, false }, "ptrace_scope is 3", "next boot" },
		{ { 7, 0, 0, 0, 0, 3, true, false }, "ptrace_scope is 3", "next boot" },
		{ { 7, 1000, 1000, 1000, 1000, 0, false, false }, "missing CAP_SYS_PTRACE", "run memwatch as root" },
		{ { 7, 0, 1000, 1000, 1000, -1, true, true }, "another user namespace", "on the host" },
		{ { 7, 0, 0, 0, 0, -1, true, false }, "seccomp", "--cap-add SYS_PTRACE" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = ERR_INIT;

		ck_assert_int_eq(refusal_explain(&rows[i].facts, &err), -EPERM);
		ck_assert_msg(strstr(err.msg, rows[i].cause) && strstr(err.msg, rows[i].remedy), "%zu: %s", i, err.msg);
		ck_assert_ptr_nonnull(strstr(err.msg, "process 7"));
		ck_assert_uint_lt(strlen(err.msg), ERR_MSG_BYTES - 1);
	}
}
END_TEST

START_TEST(fixtures_behave_like_processes)
{
	static const char low[8192] = { 'l' }, high[4096] = { 'h' };
	struct mem_segment segments[] = {
		{ { .start = 0x9000, .end = 0xa000, .flags = REGION_READ }, NULL },
		{ { .start = 0x3000, .end = 0x4000, .flags = REGION_READ }, high },
		{ { .start = 0x1000, .end = 0x3000, .flags = REGION_READ, .path = "low" }, low },
		{ { .start = 0x5000, .end = 0x6000 }, high },
	};
	const struct region *regions;
	struct mem_range ranges[4];
	char buf[16384];
	uint64_t next;
	struct mem *mem;

	ck_assert_int_eq(mem_fixture_create(segments, 4, &mem), 0);
	ck_assert_int_eq(mem_regions(mem, &regions), 4);
	ck_assert_str_eq(regions[0].path, "low");
	ck_assert_uint_eq(regions[3].start, 0x9000);
	ck_assert_int_eq(mem_read(mem, 0x1000, buf, sizeof(buf)), 0x3000);
	ck_assert_int_eq(buf[0], 'l');
	ck_assert_int_eq(buf[0x2000], 'h');
	ck_assert_int_eq(mem_read(mem, 0xfff, buf, 8), 0);
	ck_assert_int_eq(mem_read(mem, 0x5000, buf, 8), 0); /* not readable */
	ck_assert_int_eq(mem_read(mem, 0x9ffc, buf, 8), 4);
	ck_assert_int_eq(mem_present(mem, 0, UINT64_MAX, ranges, 4, &next), 2);
	ck_assert_uint_eq(next, UINT64_MAX);
	ck_assert_uint_eq(ranges[0].start, 0x1000);
	ck_assert_uint_eq(ranges[0].end, 0x4000);
	ck_assert_uint_eq(ranges[1].start, 0x5000);
	ck_assert_int_eq(mem_present(mem, 0x2000, 0x6000, ranges, 1, &next), 1);
	ck_assert_uint_eq(ranges[0].start, 0x2000);
	ck_assert_uint_eq(next, 0x5000);
	mem_destroy(mem);

	segments[0].region.start = 0x5800; /* overlaps */
	ck_assert_int_eq(mem_fixture_create(segments, 4, &mem), -EINVAL);
	ck_assert_int_eq(mem_fixture_create(NULL, 0, &mem), 0);
	ck_assert_int_eq(mem_read(mem, 0, buf, 8), 0);
	mem_destroy(mem);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("mem");
	TCase *tc = tcase_create("mem");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, present_ranges_are_exact);
	tcase_add_test(tc, both_ways_to_find_present_pages_agree);
	tcase_add_test(tc, present_bridges_steps_and_ends);
	tcase_add_test(tc, reading_present_pages_leaves_the_target_as_it_was);
	tcase_add_test(tc, reads_end_at_the_first_unreadable_byte);
	tcase_add_test(tc, slow_ways_serve_where_the_fast_are_refused);
	tcase_add_test(tc, regions_are_current);
	tcase_add_test(tc, exec_does_not_blind_us);
	tcase_add_test(tc, the_dead_answer_esrch);
	tcase_add_test(tc, real_refusals_are_explained);
	tcase_add_test(tc, every_refusal_names_cause_and_remedy);
	tcase_add_test(tc, fixtures_behave_like_processes);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
