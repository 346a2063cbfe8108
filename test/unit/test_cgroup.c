/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory cgroups: the one we are in, whatever the host has, and directories that look like v1 and v2. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/io.h"
#include "memwatch/proc.h"

struct file {
	const char *name, *text;
};

static char dir_path[64];

/* A directory with such files, as a group opened before. */
static struct cgroup fake_cgroup(int version, const struct file *files)
{
	struct cgroup c = { .version = version, .path = "/fake" };

	strcpy(dir_path, "/tmp/memwatch-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir_path));
	c.dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(c.dir_fd, 0);
	for (; files->name; files++) {
		cleanup_close int fd = openat(c.dir_fd, files->name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		ck_assert_int_eq(write(fd, files->text, strlen(files->text)), (ssize_t)strlen(files->text));
	}
	return c;
}

static void remove_fake(struct cgroup *c, const struct file *files)
{
	for (; files->name; files++)
		unlinkat(c->dir_fd, files->name, 0);
	cgroup_close(c);
	rmdir(dir_path);
}

START_TEST(v2_files)
{
	static const struct file files[] = {
		{ "memory.current", "104857600\n" },
		{ "memory.max", "268435456\n" },
		{ "memory.peak", "209715200\n" },
		{ "memory.swap.current", "4096\n" },
		{ "memory.events", "low 0\nhigh 0\nmax 7\noom 5\noom_kill 3\noom_group_kill 0\n" },
		{ "memory.stat", "anon 52428800\nfile 1\ninactive_file 31457280\n" },
		{ "memory.pressure", "some avg10=1.25 avg60=0.00 avg300=0.00 total=9\n" },
		{ NULL, NULL },
	};
	struct cgroup c = fake_cgroup(2, files);
	struct cgroup_memory m;
	struct psi psi;

	ck_assert_int_eq(cgroup_read(&c, &m), 0);
	ck_assert_uint_eq(m.usage_bytes, 104857600);
	ck_assert_uint_eq(m.limit_bytes, 268435456);
	ck_assert_uint_eq(m.peak_bytes, 209715200);
	ck_assert_uint_eq(m.swap_bytes, 4096);
	ck_assert_uint_eq(m.oom_kills, 3);
	ck_assert_uint_eq(m.anon_bytes, 52428800);
	ck_assert_uint_eq(m.inactive_file_bytes, 31457280);
	ck_assert_int_eq(psi_read(&c, &psi), 0);
	ck_assert_double_eq_tol(psi.some_avg10, 1.25, 1e-9);
	remove_fake(&c, files);
}
END_TEST

START_TEST(v1_files)
{
	static const struct file files[] = {
		{ "memory.usage_in_bytes", "8192\n" },
		{ "memory.limit_in_bytes", "9223372036854771712\n" },
		{ "memory.max_usage_in_bytes", "12288\n" },
		{ "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n" },
		{ "memory.stat", "rss 4096\nswap 1\nhierarchical_memory_limit 65536\ntotal_rss 5000\ntotal_swap 11\n" },
		{ NULL, NULL },
	};
	struct cgroup c = fake_cgroup(1, files);
	struct cgroup_memory m;

	ck_assert_int_eq(cgroup_read(&c, &m), 0);
	ck_assert_uint_eq(m.usage_bytes, 8192);
	/* The limit of a group above what the mount shows. */
	ck_assert_uint_eq(m.limit_bytes, 65536);
	ck_assert_uint_eq(m.peak_bytes, 12288);
	ck_assert_uint_eq(m.swap_bytes, 11);
	ck_assert_uint_eq(m.oom_kills, 2);
	ck_assert_uint_eq(m.anon_bytes, 5000);
	remove_fake(&c, files);
}
END_TEST

START_TEST(the_root_of_v2_has_no_figures)
{
	static const struct file files[] = { { "cgroup.procs", "1\n" }, { NULL, NULL } };
	struct cgroup c = fake_cgroup(2, files);
	struct cgroup_memory m;

	ck_assert_int_eq(cgroup_read(&c, &m), 0);
	ck_assert(m.usage_bytes == UNKNOWN_U64);
	ck_assert(m.anon_bytes == UNKNOWN_U64);
	ck_assert(m.limit_bytes == UINT64_MAX);
	remove_fake(&c, files);
}
END_TEST

START_TEST(nonsense_in_a_file_is_an_error)
{
	static const struct file files[] = { { "memory.current", "lots\n" }, { NULL, NULL } };
	struct cgroup c = fake_cgroup(2, files);
	struct cgroup_memory m = { .usage_bytes = 7 };

	ck_assert_int_eq(cgroup_read(&c, &m), -EBADMSG);
	ck_assert_uint_eq(m.usage_bytes, 7);
	remove_fake(&c, files);
	ck_assert_int_eq(cgroup_read(&c, &m), -ENOENT); /* closed */
	cgroup_close(&c);
	cgroup_close(NULL);
}
END_TEST

START_TEST(our_own_group_whatever_the_host_has)
{
	struct cgroup_memory m;
	struct cgroup c;
	struct proc p;
	char text[8192];

	ck_assert_int_eq(proc_open(getpid(), &p, NULL), 0);
	ck_assert_int_eq(cgroup_open(&p, &c), 0);
	if (c.version) {
		ck_assert_int_ge(c.dir_fd, 0);
		ck_assert_int_eq(c.path[0], '/');
		ck_assert_int_gt(io_read_at(AT_FDCWD, "/proc/self/cgroup", text, sizeof(text)), 0);
		ck_assert_ptr_nonnull(strstr(text, c.path));
		ck_assert_int_eq(cgroup_read(&c, &m), 0);
		ck_assert_uint_gt(m.limit_bytes, 0);
	}
	if (c.version == 1) {
		/* v1 has the figures in every group, its root included. */
		ck_assert_uint_ne(m.usage_bytes, UNKNOWN_U64);
		ck_assert_uint_gt(m.usage_bytes, 0);
	}
	cgroup_close(&c);
	proc_close(&p);
}
END_TEST

START_TEST(pressure_and_memory_of_the_machine)
{
	struct cgroup none = { .version = 0, .dir_fd = -1 };
	uint64_t total = 0, available = 0;
	struct psi psi = { .some_avg10 = -1 };
	int r = psi_read(&none, &psi);

	ck_assert_int_eq(r, access("/proc/pressure/memory", R_OK) == 0 ? 0 : -ENOENT);
	if (r == 0)
		ck_assert_double_ge(psi.some_avg10, 0);
	ck_assert_int_eq(machine_memory(&total, &available), 0);
	ck_assert_uint_ge(total, 1 << 20);
	ck_assert_uint_lt(available, total);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cgroup");
	TCase *tc = tcase_create("cgroup");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, v2_files);
	tcase_add_test(tc, v1_files);
	tcase_add_test(tc, the_root_of_v2_has_no_figures);
	tcase_add_test(tc, nonsense_in_a_file_is_an_error);
	tcase_add_test(tc, our_own_group_whatever_the_host_has);
	tcase_add_test(tc, pressure_and_memory_of_the_machine);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
