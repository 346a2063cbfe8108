/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Compact tables against libdw, and their cache on disk. */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_stack.h"
#include "unwind/private.h"

#define SLICE (256U << 10)
#define STRIDE 37 /* bytes between addresses that are compared; odd, so that all places of an instruction come up */

static char folder[] = "/tmp/memwatch-test-XXXXXX", files[sizeof(folder) + 32];

static void cache_in_new_folder(void)
{
	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	ck_assert_ptr_nonnull(mkdtemp(folder));
	setenv("XDG_CACHE_HOME", folder, 1);
	snprintf(files, sizeof(files), "%s/memwatch/unwind", folder);
}

static void remove_folder(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

static void victim_start(struct blocked *b, const char *mode)
{
	char path[256], mode_text[16];
	char *argv[] = { path, mode_text, NULL };

	victim_path("sym_chain", path, sizeof(path));
	snprintf(mode_text, sizeof(mode_text), "%s", mode);
	blocked_start(b, argv);
	blocked_capture(b, SLICE);
}

/* Whether a compact rule says what libdw says. */
static bool agrees(const struct row *row, uint32_t rule)
{
	enum compact_kind kind = compact_kind(rule);
	uint32_t fp = compact_fp(rule);

	if (kind == COMPACT_SLOW)
		return row->found;
	if (kind == COMPACT_GAP)
		return !row->found;
	if (!row->found || row->signal)
		return false;
	if (kind == COMPACT_OUTERMOST)
		return row->kind[16] == RULE_UNDEFINED;
	if (row->kind[16] != RULE_AT_CFA || row->value[16] != -8)
		return false;
	if (kind == COMPACT_PLT || kind == COMPACT_DEREF)
		return row->cfa_kind == RULE_EXPRESSION;
	if (row->cfa_kind != RULE_REGISTER || row->cfa_register != (kind == COMPACT_SP ? 7 : 6) ||
	    row->cfa_value != compact_offset(rule) * 8)
		return false;
	if (fp == COMPACT_FP_SAME)
		return row->kind[6] == RULE_SAME;
	return fp == COMPACT_FP_UNKNOWN ? row->kind[6] == RULE_UNDEFINED :
					  row->kind[6] == RULE_AT_CFA && row->value[6] == -8 * (int32_t)fp;
}

START_TEST(rows_say_what_libdw_says)
{
	size_t compared = 0, simple = 0, plt = 0;
	struct blocked b;

	victim_start(&b, "pointer");
	for (size_t i = 0; i < b.symbols->span_count; i++) {
		struct span *span = span_find(b.symbols, b.symbols->spans[i].start);

		if (!span || !span->module || span->module->vdso)
			continue;
		for (uint64_t at = span->start; at < span->end; at += STRIDE) {
			uint32_t rule = compact_lookup(b.symbols, span->module, at - span->bias);
			const struct row *row = cfi_row(b.symbols, &arch_x86_64, at);

			ck_assert_msg(agrees(row, rule), "%s+0x%llx: rule %x, found %d", span->module->path,
				      (unsigned long long)(at - span->bias), rule, row->found);
			compared++;
			simple += compact_kind(rule) == COMPACT_SP || compact_kind(rule) == COMPACT_FP;
			plt += compact_kind(rule) == COMPACT_PLT;
		}
	}
	ck_assert_uint_gt(compared, 10000);
	ck_assert_uint_gt(simple, compared / 2);
	ck_assert_uint_gt(plt, 0);
	blocked_end(&b);
}
END_TEST

/* The same from tables and from libdw alone, whatever stands in the stack: a shortcut may change the cost, nothing else. */
START_TEST(torn_stacks_give_the_same_either_way)
{
	static struct unwind_stack fast, slow;
	static const char *const modes[] = { "recursion", "signal", "pointer" };
	struct symbols_options options = { .debuginfod = false };
	struct symbols *plain;
	struct blocked b;
	unsigned seed = 4099;

	victim_start(&b, modes[_i]);
	options.pid = b.pid;
	options.proc_fd = b.proc_fd;
	ck_assert_int_eq(symbols_create(&options, &plain), 0);
	ck_assert_int_eq(symbols_update(plain, b.mem), 0);
	for (size_t i = 0; i < plain->module_count; i++)
		plain->modules[i]->tables_failed = true;
	for (int round = 0; round < 3000; round++) {
		struct thread_stack torn = b.stack;
		unsigned char copy[4096];

		torn.slice_len = torn.slice_len < sizeof(copy) ? torn.slice_len : sizeof(copy);
		memcpy(copy, b.stack.slice, torn.slice_len);
		for (int i = 0; round && i < 8; i++)
			copy[(unsigned)rand_r(&seed) % torn.slice_len] ^= (unsigned char)rand_r(&seed);
		if (round % 7 == 6) { /* anywhere in the code */
			const struct span *s = &plain->spans[(unsigned)rand_r(&seed) % plain->span_count];

			torn.regs.pc = s->start + (unsigned)rand_r(&seed) % (s->end - s->start);
		}
		torn.slice = copy;
		ck_assert_int_eq(unwind_thread(b.symbols, &torn, &fast), 0);
		ck_assert_int_eq(unwind_thread(plain, &torn, &slow), 0);
		ck_assert_msg(fast.count == slow.count && fast.end == slow.end &&
				      memcmp(fast.pcs, slow.pcs, fast.count * sizeof(fast.pcs[0])) == 0,
			      "round %d: %zu frames (%d), not %zu (%d)", round, fast.count, (int)fast.end, slow.count,
			      (int)slow.end);
	}
	symbols_destroy(plain);
	blocked_end(&b);
}
END_TEST

static size_t cached_files(void)
{
	DIR *dir = opendir(files);
	struct dirent *d;
	size_t n = 0;

	while (dir && (d = readdir(dir)))
		n += d->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

START_TEST(tables_are_kept_for_the_owner_alone)
{
	static struct unwind_stack stack;
	struct stat st;
	struct blocked b;
	char path[128];

	victim_start(&b, "pointer");
	ck_assert_int_eq(unwind_thread(b.symbols, &b.stack, &stack), 0);
	ck_assert_uint_ge(cached_files(), 1); /* the C library's */
	snprintf(path, sizeof(path), "%s/memwatch", folder);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	ck_assert_int_eq(stat(files, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0700);
	blocked_end(&b);
}
END_TEST

static const unsigned char id[] = { 17, 19, 23, 29, 31, 37 };
static struct compact_row rows[] = { { 16, COMPACT_SP | 1 << 12 }, { 17, COMPACT_FP | 2 << 12 }, { 99, COMPACT_GAP } };
static const struct cache_key key = { .id = id, .id_len = sizeof(id), .base = 4099, .section_hash = 7919 };
static const struct compact table = { .rows = rows, .count = 3, .base = 4099 };

static void file_path(char *path, size_t cap)
{
	snprintf(path, cap, "%s/1113171d1f25.eh", files);
}

START_TEST(what_was_written_is_read)
{
	struct cache_key other = key;
	struct compact got;
	struct stat st;
	char path[128];

	ck_assert(!cache_read(&key, &got));
	cache_write(&key, &table);
	ck_assert(cache_read(&key, &got));
	ck_assert_uint_eq(got.count, 3);
	ck_assert_int_eq(memcmp(got.rows, rows, sizeof(rows)), 0);
	free(got.rows);
	file_path(path, sizeof(path));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	other.section_hash++; /* another program with the same build-id */
	ck_assert(!cache_read(&other, &got));
}
END_TEST

START_TEST(every_damaged_byte_is_noticed)
{
	unsigned char byte;
	struct compact got;
	struct stat st;
	char path[128];
	int fd;

	cache_write(&key, &table);
	file_path(path, sizeof(path));
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	for (off_t at = 0; at < st.st_size; at++) {
		ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
		if (at < 72 + 6 || at >= 72 + 8) /* but for the padding */
			ck_assert_msg(!cache_read(&key, &got), "byte %lld", (long long)at);
		byte ^= 0x10;
		ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	}
	for (off_t len = st.st_size - 1; len >= 0; len--) {
		ck_assert_int_eq(ftruncate(fd, len), 0);
		ck_assert(!cache_read(&key, &got));
	}
	close(fd);
	cache_write(&key, &table); /* takes its place */
	ck_assert(cache_read(&key, &got));
	free(got.rows);
}
END_TEST

START_TEST(others_folders_and_links_are_not_used)
{
	struct compact got;
	char path[128], away[128];

	cache_write(&key, &table);
	file_path(path, sizeof(path));
	snprintf(away, sizeof(away), "%s/away", folder);
	ck_assert_int_eq(rename(path, away), 0);
	ck_assert_int_eq(symlink(away, path), 0);
	ck_assert(!cache_read(&key, &got));
	cache_write(&key, &table); /* replaces the link, not what it names */
	ck_assert(cache_read(&key, &got));
	free(got.rows);
	ck_assert_int_eq(chmod(files, 0777), 0);
	ck_assert(!cache_read(&key, &got));
	ck_assert_int_eq(chmod(files, 0700), 0);
	setenv("XDG_CACHE_HOME", "relative", 1);
	unsetenv("HOME");
	ck_assert(!cache_read(&key, &got));
	cache_write(&key, &table);
	ck_assert_int_ne(access("relative", F_OK), 0);
	setenv("XDG_CACHE_HOME", "/proc/self/nowhere", 1);
	cache_write(&key, &table);
	ck_assert(!cache_read(&key, &got));
}
END_TEST

static void cache_of_size(size_t number, size_t bytes)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/old-%zu", files, number);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0); /* a hole: it counts, and takes no room */
	ck_assert_int_eq(futimens(fd, (struct timespec[]){ { (time_t)number, 0 }, { (time_t)number, 0 } }), 0);
	close(fd);
}

START_TEST(oldest_files_make_room)
{
	struct compact got;
	char path[160];

	cache_write(&key, &table);
	for (size_t i = 1; i <= 5; i++)
		cache_of_size(i, 60U << 20);
	cache_write(&key, &table);
	for (size_t i = 1; i <= 5; i++) {
		snprintf(path, sizeof(path), "%s/old-%zu", files, i);
		ck_assert_msg((access(path, F_OK) == 0) == (i > 1), "%zu", i);
	}
	ck_assert(cache_read(&key, &got));
	free(got.rows);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("unwind tables");
	TCase *tc = tcase_create("tables");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, cache_in_new_folder, remove_folder);
	tcase_add_test(tc, rows_say_what_libdw_says);
	tcase_add_loop_test(tc, torn_stacks_give_the_same_either_way, 0, 3);
	tcase_add_test(tc, tables_are_kept_for_the_owner_alone);
	tcase_add_test(tc, what_was_written_is_read);
	tcase_add_test(tc, every_damaged_byte_is_noticed);
	tcase_add_test(tc, others_folders_and_links_are_not_used);
	tcase_add_test(tc, oldest_files_make_room);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
