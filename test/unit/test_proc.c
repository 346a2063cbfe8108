/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Openers of /proc, on processes that the tests start. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "child.h"
#include "memwatch/mem.h"
#include "memwatch/proc.h"

#define PAGES 4099
#define SLACK_BYTES ((uint64_t)1 << 20) /* what a child may touch besides, sanitizers included */

static struct intern *paths;
static struct region *regions;
static size_t region_cap, region_count;

static void setup(void)
{
	ck_assert_int_eq(intern_create(&paths), 0);
}

static void teardown(void)
{
	intern_destroy(paths);
	free(regions);
	regions = NULL;
	region_cap = 0;
}

static uint64_t page_bytes(void)
{
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct proc open_proc(pid_t pid)
{
	struct err err = ERR_INIT;
	struct proc p;
	int r = proc_open(pid, &p, &err);

	ck_assert_msg(r == 0, "%s", err.msg);
	return p;
}

static void read_maps(struct proc *p)
{
	ck_assert_int_eq(proc_read_maps(p, paths, &regions, &region_cap, &region_count), 0);
}

static const struct region *find_path(const char *path)
{
	for (size_t i = 0; i < region_count; i++) {
		if (!strcmp(regions[i].path, path))
			return &regions[i];
	}
	return NULL;
}

static uint64_t rollup_anon(struct proc *p)
{
	struct region_totals t;
	uint64_t ns = 0;

	ck_assert_int_eq(proc_read_rollup(p, &t, &ns), 0);
	ck_assert_uint_gt(ns, 0);
	return t.anon_bytes;
}

static uint64_t statm_rss(struct proc *p)
{
	struct statm s;

	ck_assert_int_eq(proc_read_statm(p, &s), 0);
	return s.resident_pages * page_bytes();
}

/* PAGES pages between two guards, so that the kernel cannot merge them with anything. */
static char *map_island(void)
{
	size_t page = page_bytes(), size = PAGES * page;
	char *at = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED || mprotect(at + page, size, PROT_READ | PROT_WRITE) < 0)
		_exit(1);
	madvise(at + page, size, MADV_NOHUGEPAGE);
	return at + page;
}

static void grow_body(const struct child *self)
{
	char *island = map_island();

	child_step(self, (uint64_t)(uintptr_t)island);
	memset(island, 1, PAGES * page_bytes());
	child_step(self, 0);
}

START_TEST(growth_shows_in_every_figure)
{
	struct child c = child_start(grow_body);
	uint64_t island = child_wait(&c), grown = PAGES * page_bytes(), anon, rss, ns;
	struct region_totals rows[REGION_CLASS_COUNT], before;
	struct proc p = open_proc(c.pid);
	const struct region *r;
	struct status status;

	anon = rollup_anon(&p);
	rss = statm_rss(&p);
	ck_assert_int_eq(proc_read_smaps(&p, rows, &ns), 0);
	before = rows[REGION_ANON];
	child_next(&c);
	ck_assert_uint_ge(rollup_anon(&p) - anon, grown);
	ck_assert_uint_le(rollup_anon(&p) - anon, grown + SLACK_BYTES);
	ck_assert_uint_ge(statm_rss(&p) + SLACK_BYTES - rss, grown);
	ck_assert_uint_le(statm_rss(&p) - rss, grown + SLACK_BYTES);
	ck_assert_int_eq(proc_read_smaps(&p, rows, &ns), 0);
	ck_assert_uint_ge(rows[REGION_ANON].rss_bytes - before.rss_bytes, grown);
	ck_assert_uint_le(rows[REGION_ANON].rss_bytes - before.rss_bytes, grown + SLACK_BYTES);
	ck_assert_uint_eq(rows[REGION_ANON].size_bytes, before.size_bytes);
	ck_assert_int_eq(proc_read_status(&p, &status), 0);
	ck_assert_uint_ge(status.vm_hwm_bytes, grown);

	read_maps(&p);
	r = region_find(regions, region_count, island + 5 * page_bytes());
	ck_assert_ptr_nonnull(r);
	ck_assert_uint_eq(r->start, island);
	ck_assert_uint_eq(r->end, island + grown);
	ck_assert_uint_eq(r->flags, REGION_READ | REGION_WRITE);
	ck_assert_int_eq(r->class, REGION_ANON);
	for (size_t i = 1; i < region_count; i++)
		ck_assert_uint_ge(regions[i].start, regions[i - 1].end);
	ck_assert_uint_eq(rows[REGION_ANON].count + rows[REGION_HEAP].count + rows[REGION_FILE].count +
				  rows[REGION_STACK].count + rows[REGION_SHMEM].count + rows[REGION_SPECIAL].count,
			  region_count);
	proc_close(&p);
	child_end(&c);
}
END_TEST

START_TEST(rollup_is_the_sum_of_smaps)
{
	struct child c = child_start(grow_body);
	struct region_totals rows[REGION_CLASS_COUNT], all;
	uint64_t rss = 0, anon = 0, pss = 0, ns;
	struct proc p;

	child_wait(&c);
	p = open_proc(c.pid);
	ck_assert_int_eq(proc_read_smaps(&p, rows, &ns), 0);
	ck_assert_int_eq(proc_read_rollup(&p, &all, &ns), 0);
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++) {
		rss += rows[i].rss_bytes;
		anon += rows[i].anon_bytes;
		pss += rows[i].pss_bytes;
	}
	ck_assert_uint_eq(all.rss_bytes, rss);
	ck_assert_uint_eq(all.anon_bytes, anon);
	/* smaps rounds each mapping down to whole KiB */
	ck_assert_uint_le(pss, all.pss_bytes + 4096);
	ck_assert(all.count == UNKNOWN_U64);
	proc_close(&p);
	child_end(&c);
}
END_TEST

#define ODD_NAME "/tmp/memwatch-test a\\b\n(deleted) x (deleted)"

static void files_body(const struct child *self)
{
	size_t size = 7 * page_bytes();
	int fd = open(ODD_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600), shm = memfd_create("ring one", 0);
	char *map;

	if (fd < 0 || shm < 0 || ftruncate(fd, (off_t)size) < 0 || ftruncate(shm, (off_t)size) < 0)
		_exit(1);
	if (mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED)
		_exit(1);
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, shm, 0);
	if (map == MAP_FAILED)
		_exit(1);
	memset(map, 1, size);
	child_step(self, 0);
	unlink(ODD_NAME);
	child_step(self, 0);
}

START_TEST(odd_file_names_come_through)
{
	struct child c = child_start(files_body);
	struct region_totals rows[REGION_CLASS_COUNT];
	const struct region *r;
	struct proc p;
	uint64_t ns;

	child_wait(&c);
	p = open_proc(c.pid);
	/* While the file is there, its own " (deleted)" cannot be told from the kernel's: it is cut either way. */
	read_maps(&p);
	ck_assert_ptr_nonnull(find_path("/tmp/memwatch-test a\\b\n(deleted) x"));
	r = find_path("/memfd:ring one");
	ck_assert_ptr_nonnull(r);
	ck_assert_int_eq(r->class, REGION_SHMEM);
	ck_assert(r->flags & REGION_SHARED);
	child_next(&c);
	read_maps(&p);
	r = find_path(ODD_NAME);
	ck_assert_ptr_nonnull(r);
	ck_assert(r->flags & REGION_DELETED);
	ck_assert_int_eq(r->class, REGION_FILE);
	ck_assert_int_eq(proc_read_smaps(&p, rows, &ns), 0);
	ck_assert_uint_ge(rows[REGION_SHMEM].rss_bytes, 7 * page_bytes());
	proc_close(&p);
	child_end(&c);
}
END_TEST

#define MANY 10007 /* below the default vm.max_map_count of 65,530, with guards between */

static void many_body(const struct child *self)
{
	size_t page = page_bytes();
	char *at = mmap(NULL, 2 * MANY * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < MANY; i++) {
		if (mprotect(at + 2 * i * page, page, PROT_READ | PROT_WRITE) < 0)
			_exit(1);
	}
	at[0] = 1;
	child_step(self, (uint64_t)(uintptr_t)at);
}

START_TEST(many_mappings_are_streamed)
{
	struct child c = child_start(many_body);
	struct region_totals rows[REGION_CLASS_COUNT];
	uint64_t at = child_wait(&c), ns;
	struct proc p = open_proc(c.pid);
	size_t found = 0;

	read_maps(&p);
	for (size_t i = 0; i < region_count; i++)
		found += regions[i].start >= at && regions[i].end <= at + 2 * MANY * page_bytes();
	ck_assert_uint_eq(found, 2 * MANY);
	ck_assert_int_eq(proc_read_smaps(&p, rows, &ns), 0);
	ck_assert_uint_ge(rows[REGION_ANON].count, 2 * MANY);
	proc_close(&p);
	child_end(&c);
}
END_TEST

static void *sleeping_thread(void *arg)
{
	int *child_pid = arg;

	if (child_pid) {
		*child_pid = fork();
		if (*child_pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
			_exit(0);
		}
	}
	for (;;)
		pause();
	return NULL;
}

static void family_body(const struct child *self)
{
	volatile int from_thread = 0;
	int from_main = fork();
	pthread_t t;

	if (from_main == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	for (int i = 0; i < 3; i++)
		pthread_create(&t, NULL, sleeping_thread, i == 0 ? (void *)(uintptr_t)&from_thread : NULL);
	while (from_thread <= 0)
		sched_yield();
	child_step(self, (uint64_t)from_main);
	child_step(self, (uint64_t)from_thread);
	for (int i = 0; i < 7; i++) {
		if (dup(0) < 0)
			_exit(1);
	}
	child_step(self, 0);
}

START_TEST(threads_children_and_descriptors_are_counted)
{
	struct child c = child_start(family_body);
	pid_t from_main = (pid_t)child_wait(&c), from_thread = (pid_t)child_next(&c), *ids = NULL;
	struct proc p = open_proc(c.pid);
	struct stat_line stat;
	uint64_t fds, more;
	size_t cap = 0, count;

	ck_assert_int_eq(proc_read_threads(&p, &ids, &cap, &count), 0);
	ck_assert_uint_eq(count, 4);
	ck_assert_int_eq(ids[0], c.pid);
	ck_assert_int_eq(proc_read_stat(&p, &stat), 0);
	ck_assert_uint_eq(stat.threads, 4);
	ck_assert_int_eq(proc_read_children(&p, &ids, &cap, &count), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert(ids[0] == from_main || ids[1] == from_main);
	ck_assert(ids[0] == from_thread || ids[1] == from_thread);
	ck_assert_int_eq(proc_count_fds(&p, &fds), 0);
	child_next(&c);
	ck_assert_int_eq(proc_count_fds(&p, &more), 0);
	ck_assert_uint_eq(more, fds + 7);
	free(ids);
	proc_close(&p);
	child_end(&c);
}
END_TEST

static void thread_id_body(const struct child *self)
{
	pthread_t t;

	pthread_create(&t, NULL, sleeping_thread, NULL);
	child_step(self, 0);
	pthread_exit(NULL);
}

START_TEST(a_thread_is_no_process_unless_its_leader_is_dead)
{
	struct child c = child_start(thread_id_body);
	struct err err = ERR_INIT;
	struct stat_line stat;
	struct statm statm;
	struct proc p, q;
	char expected[64];
	size_t cap = 0, count;
	pid_t *tids = NULL;

	child_wait(&c);
	p = open_proc(c.pid);
	ck_assert_int_eq(proc_read_threads(&p, &tids, &cap, &count), 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_int_eq(proc_open(tids[1], &q, &err), -EINVAL);
	snprintf(expected, sizeof(expected), "give %d, its process", (int)c.pid);
	ck_assert_ptr_nonnull(strstr(err.msg, expected));

	/* The leader ends; its thread holds the memory from now on. */
	ck_assert_int_eq(write(c.go_fd, "g", 1), 1);
	do {
		ck_assert_int_eq(proc_read_stat(&p, &stat), 0);
	} while (stat.state != 'Z');
	ck_assert_int_eq(proc_open(c.pid, &q, &err), -ESRCH);
	snprintf(expected, sizeof(expected), "give %d instead", (int)tids[1]);
	ck_assert_ptr_nonnull(strstr(err.msg, expected));
	q = open_proc(tids[1]);
	ck_assert(proc_alive(&q));
	ck_assert_int_eq(proc_read_statm(&q, &statm), 0);
	proc_close(&q);
	proc_close(&p);
	free(tids);
	child_end(&c);
}
END_TEST

static void strings_body(const struct child *self)
{
	struct rlimit as = { (rlim_t)97 << 40, RLIM_INFINITY }, data = { (rlim_t)89 << 40, RLIM_INFINITY };
	char byte;
	int fd = open("/proc/self/comm", O_WRONLY);

	if (fd < 0 || write(fd, "a) S (b", 7) != 7 || setrlimit(RLIMIT_AS, &as) < 0 ||
	    setrlimit(RLIMIT_DATA, &data) < 0)
		_exit(1);
	close(fd);
	fd = open("/dev/zero", O_RDONLY);
	for (int i = 0; i < 4099; i++) {
		if (read(fd, &byte, 1) != 1)
			_exit(1);
	}
	child_step(self, 0);
}

START_TEST(identity_limits_and_io)
{
	int64_t begin = (int64_t)time(NULL) * 1000000000;
	struct child c = child_start(strings_body);
	struct target_info info;
	struct proc_io io;
	struct arena arena;
	struct proc p;
	uint64_t as, data;
	char exe[4096];
	pid_t ns_pid;
	ssize_t n;

	child_wait(&c);
	p = open_proc(c.pid);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(proc_read_identity(&p, &arena, &info), 0);
	ck_assert_int_eq(info.id.pid, c.pid);
	ck_assert_uint_gt(info.id.start_ticks, 0);
	ck_assert_str_eq(info.comm, "a) S (b");
	n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	ck_assert_str_eq(info.exe, exe);
	ck_assert_uint_ge(info.cmdline_count, 1);
	ck_assert_ptr_nonnull(strstr(info.cmdline[0], "test_proc"));
	ck_assert_uint_eq(info.uid, getuid());
	ck_assert_uint_eq(info.threads, 1);
	ck_assert_uint_gt(info.peak_rss_bytes, 0);
	ck_assert_int_eq(info.exit_code, -1);
	ck_assert_int_ge(info.start_wall_ns, begin - 2000000000);
	ck_assert_int_le(info.start_wall_ns, ((int64_t)time(NULL) + 2) * 1000000000);
	ck_assert_int_eq(proc_read_limits(&p, &as, &data), 0);
	ck_assert_uint_eq(as, (uint64_t)97 << 40);
	ck_assert_uint_eq(data, (uint64_t)89 << 40);
	ck_assert_int_eq(proc_read_io(&p, &io), 0);
	ck_assert_uint_ge(io.rchar, 4099);
	ck_assert_uint_ge(io.syscr, 4099);
	ck_assert_int_eq(proc_ns_pid(&p, &ns_pid), 0);
	ck_assert_int_eq(ns_pid, c.pid);
	arena_deinit(&arena);
	proc_close(&p);
	child_end(&c);
}
END_TEST

static void nothing_body(const struct child *self)
{
	child_step(self, 0);
}

static void assert_memory_is_gone(struct proc *p)
{
	struct region_totals rows[REGION_CLASS_COUNT];
	struct statm statm;
	uint64_t ns;

	ck_assert(!proc_alive(p));
	ck_assert_int_eq(proc_read_statm(p, &statm), -ESRCH);
	ck_assert_int_eq(proc_read_rollup(p, rows, &ns), -ESRCH);
	ck_assert_int_eq(proc_read_smaps(p, rows, &ns), -ESRCH);
	ck_assert_int_eq(proc_read_maps(p, paths, &regions, &region_cap, &region_count), -ESRCH);
}

START_TEST(the_dead_answer_esrch)
{
	struct child c = child_start(nothing_body);
	struct err err = ERR_INIT;
	struct proc p, again = { .dir_fd = 77 };
	struct target_info info;
	struct stat_line stat;
	struct status status;
	struct proc_io io;
	struct arena arena;
	pid_t *ids = NULL;
	size_t cap = 0, count;
	uint64_t number;
	pid_t pid;

	child_wait(&c);
	p = open_proc(c.pid);
	ck_assert(proc_alive(&p));
	child_kill(&c);
	assert_memory_is_gone(&p);
	ck_assert_int_eq(proc_read_stat(&p, &stat), 0);
	ck_assert_int_eq(stat.state, 'Z');
	ck_assert_int_eq(proc_open(c.pid, &again, &err), -ESRCH);
	ck_assert_ptr_nonnull(strstr(err.msg, "is a zombie"));
	ck_assert_int_eq(again.dir_fd, 77);

	child_reap(&c);
	assert_memory_is_gone(&p);
	ck_assert_int_eq(proc_read_stat(&p, &stat), -ESRCH);
	ck_assert_int_eq(proc_read_status(&p, &status), -ESRCH);
	ck_assert_int_eq(proc_read_io(&p, &io), -ESRCH);
	ck_assert_int_eq(proc_count_fds(&p, &number), -ESRCH);
	ck_assert_int_eq(proc_read_threads(&p, &ids, &cap, &count), -ESRCH);
	ck_assert_int_eq(proc_read_children(&p, &ids, &cap, &count), -ESRCH);
	ck_assert_int_eq(proc_read_limits(&p, &number, &number), -ESRCH);
	ck_assert_int_eq(proc_ns_pid(&p, &pid), -ESRCH);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(proc_read_identity(&p, &arena, &info), -ESRCH);
	arena_deinit(&arena);
	proc_close(&p);
}
END_TEST

START_TEST(refusals_are_explained)
{
	struct err err = ERR_INIT;
	struct proc p;
	char comm[32] = "";
	FILE *f;

	ck_assert_int_eq(proc_open(999999999, &p, &err), -ESRCH);
	ck_assert_str_eq(err.msg, "no process with pid 999999999");
	ck_assert_int_eq(proc_open(0, &p, &err), -ESRCH);
	ck_assert_int_eq(proc_open(-7, &p, NULL), -ESRCH);
	f = fopen("/proc/2/comm", "re"); /* not to be seen from a container */
	if (f && fgets(comm, sizeof(comm), f) && !strcmp(comm, "kthreadd\n")) {
		ck_assert_int_eq(proc_open(2, &p, &err), -EINVAL);
		ck_assert_str_eq(err.msg, "process 2 is a kernel thread: it has no memory of its own");
	}
	if (f)
		fclose(f);
}
END_TEST

START_TEST(closing_twice_or_half_is_safe)
{
	struct proc zeroed = { 0 }, half = { .dir_fd = -1, .pid_fd = -1, .statm_fd = -1, .stat_fd = -1 };

	proc_close(&zeroed);
	proc_close(&half);
	proc_close(NULL);
	ck_assert_int_ge(fcntl(0, F_GETFD), 0); /* standard input is still there */
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("proc");
	TCase *tc = tcase_create("proc");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, growth_shows_in_every_figure);
	tcase_add_test(tc, rollup_is_the_sum_of_smaps);
	tcase_add_test(tc, odd_file_names_come_through);
	tcase_add_test(tc, many_mappings_are_streamed);
	tcase_add_test(tc, threads_children_and_descriptors_are_counted);
	tcase_add_test(tc, a_thread_is_no_process_unless_its_leader_is_dead);
	tcase_add_test(tc, identity_limits_and_io);
	tcase_add_test(tc, the_dead_answer_esrch);
	tcase_add_test(tc, refusals_are_explained);
	tcase_add_test(tc, closing_twice_or_half_is_safe);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
