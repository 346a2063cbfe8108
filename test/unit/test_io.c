/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memwatch/base/io.h"
#include "memwatch/base/log.h"

#define TEXT_BYTES 1024
#define NOBODY 65534

/* Every test works in a directory of its own, which is also its working directory. Check forks for each test. */
static char dir[] = "/tmp/memwatch-test-XXXXXX";

static void enter_dir(void)
{
	umask(022);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
}

static void remove_entries(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) < 0)
			unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR);
	}
	closedir(d);
}

static void leave_dir(void)
{
	chmod(dir, 0700);
	chmod("sub", 0700);
	remove_entries("sub");
	remove_entries(".");
	ck_assert_int_eq(rmdir(dir), 0);
}

static int count_entries(const char *path)
{
	DIR *d = opendir(path);
	int count = -2; /* "." and ".." */

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		count++;
	closedir(d);
	return count;
}

/* Permissions mean nothing to root: its tests go on as somebody else, to whom the directory belongs. */
static void drop_root(void)
{
	if (geteuid() != 0)
		return;
	ck_assert_int_eq(chown(".", NOBODY, NOBODY), 0);
	ck_assert_int_eq(setresgid(NOBODY, NOBODY, NOBODY), 0);
	ck_assert_int_eq(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

static void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(io_write_all(fd, text, strlen(text)), 0);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

static void assert_text(const char *path, const char *expected)
{
	char text[TEXT_BYTES];

	ck_assert_int_eq(io_read_at(AT_FDCWD, path, text, sizeof(text)), (ssize_t)strlen(expected));
	ck_assert_str_eq(text, expected);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st;
}

static void write_ok(const char *path, const char *text)
{
	struct err err = ERR_INIT;

	ck_assert_msg(io_check_writable(path, &err) == 0, "%s", err.msg);
	ck_assert_msg(io_write_file(path, text, strlen(text), &err) == 0, "%s", err.msg);
	ck_assert_str_eq(err.msg, "");
}

/* Both the check beforehand and the writing refuse, with the same error. */
static void write_fails(const char *path, int code, const char *cause)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(io_check_writable(path, &err), -code);
	ck_assert_msg(strstr(err.msg, path) && strstr(err.msg, cause), "%s", err.msg);
	err = (struct err)ERR_INIT;
	ck_assert_int_eq(io_write_file(path, "x", 1, &err), -code);
	ck_assert_int_eq(err.code, code);
	ck_assert_msg(strstr(err.msg, path) && strstr(err.msg, strerror(code)), "%s", err.msg);
	ck_assert_int_eq(io_write_file(path, "x", 1, NULL), -code);
}

START_TEST(new_file_follows_umask)
{
	umask(027);
	write_ok("report.json", "{}\n");
	assert_text("report.json", "{}\n");
	ck_assert_uint_eq(stat_of("report.json").st_mode & 07777, 0640);
	ck_assert_int_eq(count_entries("."), 1);
	write_ok("empty", "");
	assert_text("empty", "");
}
END_TEST

START_TEST(file_is_replaced_in_one_step)
{
	char old[16];
	int reader;

	put("report.json", "old contents", 0600);
	reader = open("report.json", O_RDONLY | O_CLOEXEC);
	write_ok("report.json", "new");
	assert_text("report.json", "new");
	ck_assert_uint_eq(stat_of("report.json").st_mode & 07777, 0600); /* private stays private */
	ck_assert_int_eq(count_entries("."), 1);
	/* who has the old report open still sees all of it */
	ck_assert_int_eq(io_pread_text(reader, old, sizeof(old)), 12);
	ck_assert_str_eq(old, "old contents");
	close(reader);
}
END_TEST

START_TEST(links_stay_links)
{
	struct stat st;
	char path[PATH_MAX];

	ck_assert_int_eq(mkdir("sub", 0755), 0);
	put("sub/target", "old", 0644);
	ck_assert_int_eq(symlink("target", "sub/inner"), 0); /* relative to sub, not to the working directory */
	ck_assert_int_eq(symlink("sub/inner", "outer"), 0);
	write_ok("outer", "new");
	assert_text("sub/target", "new");
	ck_assert(lstat("outer", &st) == 0 && S_ISLNK(st.st_mode));
	ck_assert(lstat("sub/inner", &st) == 0 && S_ISLNK(st.st_mode));
	ck_assert_int_eq(count_entries("sub"), 2);

	snprintf(path, sizeof(path), "%s/sub/fresh", dir);
	ck_assert_int_eq(symlink(path, "sub/dangling"), 0);
	write_ok("sub/dangling", "made");
	assert_text(path, "made");
	ck_assert(lstat("sub/dangling", &st) == 0 && S_ISLNK(st.st_mode));
}
END_TEST

START_TEST(link_loops_end)
{
	ck_assert_int_eq(symlink("b", "a"), 0);
	ck_assert_int_eq(symlink("a", "b"), 0);
	write_fails("a", ELOOP, strerror(ELOOP));
}
END_TEST

START_TEST(file_in_a_directory_that_is_not_writable)
{
	drop_root();
	ck_assert_int_eq(mkdir("sub", 0755), 0);
	put("sub/report.json", "something longer than before", 0644);
	ck_assert_int_eq(chmod("sub", 0555), 0);
	write_ok("sub/report.json", "new");
	assert_text("sub/report.json", "new");
	write_fails("sub/other.json", EACCES, "directory 'sub/' is not writable");
	ck_assert_int_eq(count_entries("sub"), 1);
}
END_TEST

START_TEST(protected_file_is_not_replaced)
{
	drop_root();
	put("report.json", "precious", 0444);
	write_fails("report.json", EACCES, strerror(EACCES));
	assert_text("report.json", "precious");
	ck_assert_int_eq(count_entries("."), 1);
}
END_TEST

START_TEST(refusals_name_path_and_cause)
{
	char longname[NAME_MAX + 2];

	memset(longname, 'x', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	put("plain", "", 0644);
	ck_assert_int_eq(mkdir("sub", 0755), 0);
	write_fails("missing/report.json", ENOENT, "directory 'missing/' does not exist");
	write_fails("sub", EISDIR, strerror(EISDIR));
	write_fails("plain/report.json", ENOTDIR, strerror(ENOTDIR));
	write_fails(longname, ENAMETOOLONG, strerror(ENAMETOOLONG));
	write_fails("", ENOENT, strerror(ENOENT));
	ck_assert_int_eq(count_entries("."), 2);
}
END_TEST

START_TEST(longest_names_work)
{
	char name[NAME_MAX + 1];

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	write_ok(name, "text");
	assert_text(name, "text");
}
END_TEST

START_TEST(full_device_is_reported)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(io_check_writable("/dev/full", NULL), 0);
	ck_assert_int_eq(io_write_file("/dev/full", "x", 1, &err), -ENOSPC);
	ck_assert_str_eq(err.msg, "cannot write '/dev/full': No space left on device");
	write_ok("/dev/null", "gone");
	ck_assert(S_ISCHR(stat_of("/dev/null").st_mode));
}
END_TEST

START_TEST(file_size_limit_is_reported_and_cleaned_up)
{
	char *big = calloc(1, 65536);
	struct err err = ERR_INIT;
	struct rlimit limit = { 4096, 4096 };

	ck_assert_ptr_nonnull(big);
	put("report.json", "old", 0644);
	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(io_write_file("report.json", big, 65536, &err), -EFBIG);
	assert_text("report.json", "old"); /* a failed write costs neither the old report nor leaves half a new one */
	ck_assert_int_eq(count_entries("."), 1);
	free(big);
}
END_TEST

START_TEST(fifo_gets_everything)
{
	enum { BYTES = 300007 };
	char *data = malloc(BYTES);
	struct str out = STR_INIT;
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(data);
	memset(data, 'm', BYTES);
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(io_check_writable("fifo", NULL), 0); /* and does not wait for a reader */
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		int fd = open("fifo", O_RDONLY | O_CLOEXEC);

		_exit(io_read_all(fd, SIZE_MAX, &out) == 0 && out.len == BYTES && out.data[BYTES - 1] == 'm' ? 0 : 1);
	}
	ck_assert_int_eq(io_write_file("fifo", data, BYTES, NULL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert(S_ISFIFO(stat_of("fifo").st_mode));
	free(data);
}
END_TEST

/* Standard output redirected into a file: nothing that was printed before may be lost, whatever name is used. */
START_TEST(standard_output_is_continued)
{
	static const char *const names[] = { "-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1" };
	int saved = dup(STDOUT_FILENO);
	int fd = open("out", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	int r = 0;

	ck_assert(saved >= 0 && fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0);
	r |= io_write_all(STDOUT_FILENO, "first\n", 6);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		r |= io_check_writable(names[i], NULL);
		r |= io_write_file(names[i], "more\n", 5, NULL);
	}
	ck_assert_int_ge(dup2(saved, STDOUT_FILENO), 0);
	ck_assert_int_eq(r, 0);
	assert_text("out", "first\nmore\nmore\nmore\nmore\n");
	ck_assert_int_eq(count_entries("."), 1);
	close(saved);
	close(fd);
}
END_TEST

START_TEST(closed_standard_output_is_an_error)
{
	int saved = dup(STDOUT_FILENO);
	struct err err = ERR_INIT;
	int check;
	int r;

	close(STDOUT_FILENO);
	check = io_check_writable("-", NULL);
	r = io_write_file("-", "x", 1, &err);
	ck_assert_int_ge(dup2(saved, STDOUT_FILENO), 0);
	ck_assert_int_eq(check, -EBADF);
	ck_assert_int_eq(r, -EBADF);
	ck_assert_str_eq(err.msg, "cannot write to standard output: Bad file descriptor");
	close(saved);
}
END_TEST

START_TEST(check_leaves_nothing_behind)
{
	struct stat before;
	struct stat after;

	put("old", "contents", 0644);
	before = stat_of("old");
	ck_assert_int_eq(symlink("nowhere", "dangling"), 0);
	ck_assert_int_eq(io_check_writable("old", NULL), 0);
	ck_assert_int_eq(io_check_writable("new", NULL), 0);
	ck_assert_int_eq(io_check_writable("./new", NULL), 0);
	ck_assert_int_eq(io_check_writable("dangling", NULL), 0);
	ck_assert_int_eq(count_entries("."), 2);
	assert_text("old", "contents");
	after = stat_of("old");
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
}
END_TEST

START_TEST(nonblocking_pipe_loses_nothing)
{
	enum { BYTES = 1000003 };
	char *data = malloc(BYTES);
	struct str out = STR_INIT;
	int fds[2];
	int status;
	pid_t pid;

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < BYTES; i++)
		data[i] = (char)(i % 127);
	ck_assert_int_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		close(fds[0]);
		_exit(io_write_all(fds[1], data, BYTES) == 0 ? 0 : 1);
	}
	close(fds[1]);
	ck_assert_int_eq(io_read_all(fds[0], BYTES, &out), 0);
	ck_assert_uint_eq(out.len, BYTES);
	ck_assert(memcmp(out.data, data, BYTES) == 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	str_deinit(&out);
	close(fds[0]);
	free(data);
}
END_TEST

START_TEST(broken_pipe_is_an_error)
{
	int fds[2];

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	close(fds[0]);
	ck_assert_int_eq(io_write_all(fds[1], "x", 1), -EPIPE);
	ck_assert_int_eq(io_write_all(fds[1], "", 0), 0);
	close(fds[1]);
	ck_assert_int_eq(io_write_all(fds[1], "x", 1), -EBADF);
}
END_TEST

START_TEST(texts_are_read_from_the_start_and_terminated)
{
	char buf[8];
	int fd;

	put("file", "0123456789", 0644);
	fd = open("file", O_RDONLY | O_CLOEXEC);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(io_pread_text(fd, buf, sizeof(buf)), 7);
		ck_assert_str_eq(buf, "0123456");
	}
	ck_assert_int_eq(io_pread_text(fd, buf, 1), 0);
	ck_assert_str_eq(buf, "");
	ck_assert_int_eq(io_pread_text(fd, buf, 0), -EINVAL);
	close(fd);
	ck_assert_int_eq(io_pread_text(fd, buf, sizeof(buf)), -EBADF);
	ck_assert_int_eq(io_read_at(AT_FDCWD, "missing", buf, sizeof(buf)), -ENOENT);
	fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(io_read_at(fd, "file", buf, sizeof(buf)), 7);
	close(fd);
}
END_TEST

START_TEST(open_proc_file_shows_the_present)
{
	char before[TEXT_BYTES];
	char after[TEXT_BYTES];
	int fd = open("/proc/self/comm", O_RDWR | O_CLOEXEC);

	ck_assert_int_gt(io_pread_text(fd, before, sizeof(before)), 0);
	ck_assert_int_eq(io_write_all(fd, "renamed", 7), 0);
	ck_assert_int_gt(io_pread_text(fd, after, sizeof(after)), 0);
	ck_assert_str_eq(after, "renamed\n");
	close(fd);
}
END_TEST

START_TEST(reading_all_has_a_limit)
{
	struct str out = STR_INIT;
	int fd;

	put("file", "0123456789", 0644);
	fd = open("file", O_RDONLY | O_CLOEXEC);
	str_add(&out, "kept ");
	ck_assert_int_eq(io_read_all(fd, 9, &out), -EFBIG);
	ck_assert_str_eq(str_text(&out), "kept ");
	ck_assert_int_eq(lseek(fd, 1, SEEK_SET), 1);
	ck_assert_int_eq(io_read_all(fd, 9, &out), 0);
	ck_assert_str_eq(str_text(&out), "kept 123456789");
	ck_assert_int_eq(io_read_all(fd, 0, &out), 0);
	close(fd);
	ck_assert_int_eq(io_read_all(fd, 9, &out), -EBADF);
	ck_assert_str_eq(str_text(&out), "kept 123456789");
	str_deinit(&out);
}
END_TEST

/* A datagram socket as standard error: one receive is one write(2). */
START_TEST(log_writes_whole_lines)
{
	char huge[8192];
	char lines[4][8192] = { "" };
	int saved = dup(STDERR_FILENO);
	int fds[2];
	int count = 0;

	memset(huge, 'x', sizeof(huge) - 1);
	huge[sizeof(huge) - 1] = '\0';
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
	ck_assert_int_ge(dup2(fds[0], STDERR_FILENO), 0);
	errno = ENOTTY;
	log_debug("not shown by default");
	log_note("%d samples", 17);
	log_set_level(LOG_ERROR);
	log_warning("hidden");
	log_error("no process '%s'", "\033[31mred\a");
	log_error("%s", huge);
	log_set_level(LOG_DEBUG);
	log_debug("shown");
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_int_ge(dup2(saved, STDERR_FILENO), 0);
	while (count < 4 && recv(fds[1], lines[count], sizeof(lines[0]) - 1, MSG_DONTWAIT) > 0)
		count++;
	ck_assert_int_eq(count, 4);
	ck_assert_str_eq(lines[0], "memwatch: 17 samples\n");
	ck_assert_str_eq(lines[1], "memwatch: no process '?[31mred?'\n");
	ck_assert(strncmp(lines[2], "memwatch: xxx", 13) == 0 && strchr(lines[2], '\n')[1] == '\0');
	ck_assert_str_eq(lines[3], "memwatch: shown\n");
	ck_assert_int_lt(recv(fds[1], huge, sizeof(huge), MSG_DONTWAIT), 0);
	close(saved);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

static void add_file_tests(TCase *tc)
{
	tcase_add_test(tc, new_file_follows_umask);
	tcase_add_test(tc, file_is_replaced_in_one_step);
	tcase_add_test(tc, links_stay_links);
	tcase_add_test(tc, link_loops_end);
	tcase_add_test(tc, file_in_a_directory_that_is_not_writable);
	tcase_add_test(tc, protected_file_is_not_replaced);
	tcase_add_test(tc, refusals_name_path_and_cause);
	tcase_add_test(tc, longest_names_work);
	tcase_add_test(tc, full_device_is_reported);
	tcase_add_test(tc, file_size_limit_is_reported_and_cleaned_up);
	tcase_add_test(tc, fifo_gets_everything);
	tcase_add_test(tc, standard_output_is_continued);
	tcase_add_test(tc, closed_standard_output_is_an_error);
	tcase_add_test(tc, check_leaves_nothing_behind);
}

int main(void)
{
	Suite *suite = suite_create("io");
	TCase *tc = tcase_create("io");
	SRunner *runner = srunner_create(suite);
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, enter_dir, leave_dir);
	add_file_tests(tc);
	tcase_add_test(tc, nonblocking_pipe_loses_nothing);
	tcase_add_test(tc, broken_pipe_is_an_error);
	tcase_add_test(tc, texts_are_read_from_the_start_and_terminated);
	tcase_add_test(tc, open_proc_file_shows_the_present);
	tcase_add_test(tc, reading_all_has_a_limit);
	tcase_add_test(tc, log_writes_whole_lines);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
