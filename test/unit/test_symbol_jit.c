/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names that a JIT writes into /tmp/perf-PID.map; this process is its own target. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/mem.h"
#include "memwatch/symbol.h"

#define CODE_BYTES 65536
#define WAIT_NS (20 * NS_PER_S)

static char path[64];
static unsigned char *code;
static struct symbols *symbols;
static struct mem *mem;
static int proc_fd;

static void setup(void)
{
	struct symbols_options options = { .pid = getpid() };
	struct err err = ERR_INIT;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
	code = mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(code, MAP_FAILED);
	proc_fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	options.proc_fd = proc_fd;
	ck_assert_msg(mem_live_create(getpid(), proc_fd, &mem, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(symbols_create(&options, &symbols), 0);
	ck_assert_int_eq(symbols_update(symbols, mem), 0);
}

static void teardown(void)
{
	symbols_destroy(symbols);
	mem_destroy(mem);
	close(proc_fd);
	unlink(path);
}

static void write_map(const char *mode, const char *format, const void *at)
{
	FILE *file = fopen(path, mode);

	ck_assert_ptr_nonnull(file);
	fprintf(file, format, (unsigned long)(uintptr_t)at);
	fclose(file);
}

static const char *name_of(size_t offset)
{
	struct frame f;

	ck_assert_uint_eq(symbols_resolve(symbols, (uint64_t)(uintptr_t)code + offset, false, &f, 1), 1);
	ck_assert_ptr_null(f.module);
	return f.note == FRAME_OK ? f.function : NULL;
}

START_TEST(code_has_the_name_that_was_written)
{
	write_map("w", "%lx 40 py::work:/srv/app.py\n", code);
	write_map("a", "0x%lx 0x40 LazyCompile:~sum file.js:7@x\n", code + 0x40);
	write_map("a", "%lx 10 an older method\n", code + 0x100);
	write_map("a", "%lx 20 a newer one\n", code + 0x100);
	ck_assert_str_eq(name_of(0), "py::work:/srv/app.py");
	ck_assert_str_eq(name_of(0x3f), "py::work:/srv/app.py");
	ck_assert_str_eq(name_of(0x40), "LazyCompile:~sum file.js:7@x");
	ck_assert_str_eq(name_of(0x11f), "a newer one");
	ck_assert_ptr_null(name_of(0x120));
}
END_TEST

START_TEST(methods_compiled_later_are_found)
{
	uint64_t until = clock_now_ns() + WAIT_NS;

	write_map("w", "%lx 40 first\n", code);
	ck_assert_str_eq(name_of(0), "first");
	ck_assert_ptr_null(name_of(0x80));
	write_map("a", "%lx 40 second\n", code + 0x80);
	while (!name_of(0x80)) /* at most once a second */
		ck_assert(clock_now_ns() < until);
	ck_assert_str_eq(name_of(0x80), "second");
	ck_assert_str_eq(name_of(0), "first");
}
END_TEST

START_TEST(nonsense_does_no_harm)
{
	write_map("w", "\n\n%lx\n", code);
	write_map("a", "%lx 0 empty\n", code);
	write_map("a", "%lx ffffffffffffffff wraps\n", code);
	write_map("a", "fffffffffffffffffffff%lx 10 too long\n", code);
	write_map("a", "-%lx 10 minus\n0 ffffffffffffffff all\n", code);
	write_map("a", "%lx 10 \n", code);
	write_map("a", "%lx 10 control\x1b[31m\n", code + 0x40);
	write_map("a", "%lx 10 no newline", code + 0x80);
	ck_assert_ptr_null(name_of(0));
	ck_assert_str_eq(name_of(0x40), "control?[31m");
	ck_assert_str_eq(name_of(0x80), "no newline");
}
END_TEST

START_TEST(fifo_in_its_place_does_not_block)
{
	char command[128];

	snprintf(command, sizeof(command), "mkfifo '%s'", path);
	ck_assert_int_eq(system(command), 0);
	ck_assert_ptr_null(name_of(0));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("symbol: perf map");
	TCase *tc = tcase_create("jit");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, code_has_the_name_that_was_written);
	tcase_add_test(tc, methods_compiled_later_are_found);
	tcase_add_test(tc, nonsense_does_no_harm);
	tcase_add_test(tc, fifo_in_its_place_does_not_block);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
