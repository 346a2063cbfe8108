/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support_stack.h"

#define FRAMES 64
#define SLICE (64U << 10)

static struct blocked blocked;
static struct frame frames[FRAMES];
static size_t count;

static void start_path(char *path, const char *mode)
{
	char mode_text[16];
	char *argv[] = { path, mode_text, NULL };
	enum frame_note end;

	snprintf(mode_text, sizeof(mode_text), "%s", mode);
	blocked_start(&blocked, argv);
	blocked_capture(&blocked, SLICE);
	count = blocked_frames(&blocked, frames, FRAMES, &end);
}

static void start_in(const char *victim, const char *mode)
{
	char path[256];

	victim_path(victim, path, sizeof(path));
	start_path(path, mode);
}

/* The line that carries a mark, in the file that a frame names: so the name must be that of the file. */
static void expect_line(const struct frame *f, const char *mark)
{
	char line[512];
	uint32_t number = 1;
	FILE *file;

	ck_assert_ptr_nonnull(f->file);
	ck_assert_int_eq(f->file[0], '/');
	file = fopen(f->file, "r");
	ck_assert_msg(file, "no file '%s'", f->file);
	for (; fgets(line, sizeof(line), file); number++)
		if (strstr(line, mark))
			break;
	fclose(file);
	ck_assert_msg(f->line == number, "%s: line %u, not %u", f->function, f->line, number);
}

static const char *const victims[] = { "sym_chain", "sym_chain_static", "sym_chain_nopie", "sym_chain_compressed" };
#define VICTIMS (int)(sizeof(victims) / sizeof(victims[0]))

START_TEST(inlined_functions_have_frames_of_their_own)
{
	size_t at;

	start_in(victims[_i], "inlined");
	at = frame_index(frames, count, 0, "inner");
	ck_assert_uint_eq(frame_index(frames, count, at, "middle"), at + 1);
	ck_assert_uint_eq(frame_index(frames, count, at, "outer"), at + 2);
	ck_assert(frames[at].inlined && frames[at + 1].inlined && !frames[at + 2].inlined);
	ck_assert_uint_eq(frames[at].address, frames[at + 2].address);
	expect_line(&frames[at], "line of inner");
	expect_line(&frames[at + 1], "line of middle");
	expect_line(&frames[at + 2], "line of outer");
	ck_assert_str_eq(frames[at].language, "c");
	ck_assert_int_eq(frames[at].note, FRAME_OK);
	ck_assert_str_eq(symbols_language(blocked.symbols), "c");
	blocked_end(&blocked);
}
END_TEST

START_TEST(few_places_keep_the_function_itself)
{
	struct frame one[3];
	size_t at;

	start_in("sym_chain", "inlined");
	at = frame_index(frames, count, 0, "outer");
	ck_assert_uint_eq(symbols_resolve(blocked.symbols, frames[at].address, false, one, 1), 1);
	ck_assert_str_eq(one[0].function, "outer");
	ck_assert_uint_eq(symbols_resolve(blocked.symbols, frames[at].address + 1, true, one, 2), 2);
	ck_assert_str_eq(one[0].function, "middle");
	ck_assert_str_eq(one[1].function, "outer");
	ck_assert_uint_eq(symbols_resolve(blocked.symbols, frames[at].address, false, one, 0), 0);
	blocked_end(&blocked);
}
END_TEST

START_TEST(cxx_names_are_whole)
{
	size_t at;

	start_in("sym_cxx", "");
	at = frame_index(frames, count, 0, "store::(anonymous namespace)::wait_here()");
	ck_assert_uint_eq(frame_index(frames, count, at, "store::cache<int>::put(int, char const*)"), at + 1);
	ck_assert_str_eq(frames[at + 1].language, "c++");
	ck_assert_str_eq(symbols_language(blocked.symbols), "c++");
	blocked_end(&blocked);
}
END_TEST

START_TEST(stripped_program_gives_module_and_offset)
{
	struct arena arena;
	const char *gap;
	char expected[64];
	size_t named = 0;

	start_in("sym_chain_stripped", "pointer");
	for (size_t i = 0; i < count; i++) {
		if (!strstr(frames[i].module, "sym_chain_stripped"))
			continue;
		snprintf(expected, sizeof(expected), "sym_chain_stripped+0x%llx", (unsigned long long)frames[i].offset);
		ck_assert_str_eq(frames[i].function, expected);
		ck_assert_int_eq(frames[i].note, FRAME_NO_SYMBOL);
		ck_assert_ptr_null(frames[i].file);
		named++;
	}
	ck_assert_uint_ge(named, 3);
	arena_init(&arena, 1024, 0);
	gap = symbols_gap(blocked.symbols, &arena);
	ck_assert_ptr_nonnull(gap);
	ck_assert_ptr_nonnull(strstr(gap, "no debug information for 'sym_chain_stripped' (build-id "));
	arena_deinit(&arena);
	blocked_end(&blocked);
}
END_TEST

static void copy_file(const char *from, const char *to)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	char buf[65536];
	ssize_t n;

	ck_assert_int_ge(in, 0);
	ck_assert_int_ge(out, 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		ck_assert_int_eq(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

static void make_dir(char *dir, size_t cap)
{
	snprintf(dir, cap, "/tmp/memwatch-symbol-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

START_TEST(deleted_program_keeps_its_names)
{
	char dir[64], path[128], victim[256];
	size_t at;

	make_dir(dir, sizeof(dir));
	snprintf(path, sizeof(path), "%s/program", dir);
	victim_path("sym_chain", victim, sizeof(victim));
	copy_file(victim, path);
	{
		char mode[] = "pointer";
		char *argv[] = { path, mode, NULL };
		enum frame_note end;

		blocked_start(&blocked, argv);
		unlink(path);
		copy_file("/bin/true", path); /* what an upgrade does: another file under the same name */
		ck_assert_int_eq(symbols_update(blocked.symbols, blocked.mem), 0);
		blocked_capture(&blocked, SLICE);
		count = blocked_frames(&blocked, frames, FRAMES, &end);
	}
	at = frame_index(frames, count, 0, "dispatch");
	ck_assert_str_eq(frames[at].module, path);
	ck_assert_uint_gt(frames[at].line, 0);
	blocked_end(&blocked);
	unlink(path);
	rmdir(dir);
}
END_TEST

static bool run(const char *format, const char *a, const char *b)
{
	char command[1024];
	int status;

	snprintf(command, sizeof(command), format, a, b);
	status = system(command);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* A separate debug file beside the program, in .debug, and one that belongs to another build. */
START_TEST(debug_file_is_found_and_checked)
{
	static const char *const places[] = { "", ".debug/", "" };
	bool wrong = _i == 2;
	char dir[64], program[128], debug[128], victim[256];
	size_t at;

	make_dir(dir, sizeof(dir));
	victim_path("sym_chain", victim, sizeof(victim));
	snprintf(program, sizeof(program), "%s/program", dir);
	snprintf(debug, sizeof(debug), "%s/.debug", dir);
	ck_assert_int_eq(mkdir(debug, 0755), 0);
	snprintf(debug, sizeof(debug), "%s/%sprogram.debug", dir, places[_i]);
	ck_assert(run("objcopy --only-keep-debug '%s' '%s'", victim, debug));
	ck_assert(run("objcopy --strip-all '%s' '%s'", victim, program));
	ck_assert(run("objcopy --add-gnu-debuglink='%s' '%s'", debug, program));
	if (wrong) {
		victim_path("sym_chain_nopie", victim, sizeof(victim));
		ck_assert(run("objcopy --only-keep-debug '%s' '%s'", victim, debug));
	}
	start_path(program, "inlined");
	if (wrong) {
		for (size_t i = 0; i < count; i++)
			ck_assert_str_ne(frames[i].function, "outer");
	} else {
		at = frame_index(frames, count, 0, "inner");
		expect_line(&frames[at], "line of inner");
		ck_assert_str_eq(frames[at + 2].function, "outer");
	}
	blocked_end(&blocked);
	ck_assert(run("rm -r '%s'%s", dir, ""));
}
END_TEST

START_TEST(over_budget_leaves_names)
{
	struct symbols_options options;
	struct symbols *symbols;
	struct frame f;
	struct arena arena;
	size_t at;

	start_in("sym_chain", "pointer");
	at = frame_index(frames, count, 0, "dispatch");
	options = (struct symbols_options){ .pid = blocked.pid, .proc_fd = blocked.proc_fd, .budget_bytes = 1 };
	ck_assert_int_eq(symbols_create(&options, &symbols), 0);
	ck_assert_int_eq(symbols_update(symbols, blocked.mem), 0);
	ck_assert_uint_eq(symbols_resolve(symbols, frames[at].address, false, &f, 1), 1);
	ck_assert_str_eq(f.function, "dispatch");
	ck_assert_ptr_null(f.file);
	arena_init(&arena, 1024, 0);
	ck_assert_ptr_nonnull(strstr(symbols_gap(symbols, &arena), "no room"));
	arena_deinit(&arena);
	symbols_destroy(symbols);
	blocked_end(&blocked);
}
END_TEST

START_TEST(unknown_addresses_have_a_name_too)
{
	static const uint64_t odd[] = { 0, 1, 4096, UINT64_MAX, 0x7fffffffffffULL };
	struct frame f;

	start_in("sym_chain", "pointer");
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		ck_assert_uint_eq(symbols_resolve(blocked.symbols, odd[i], i % 2, &f, 1), 1);
		ck_assert_int_eq(f.note, FRAME_NO_MODULE);
		ck_assert_ptr_null(f.module);
		ck_assert_uint_gt(strlen(f.function), 0);
	}
	blocked_end(&blocked);
}
END_TEST

START_TEST(vdso_is_read_from_memory)
{
	const struct region *regions;
	struct frame f;
	bool found = false;
	ssize_t n;

	start_in("sym_chain", "pointer");
	n = mem_regions(blocked.mem, &regions);
	for (ssize_t i = 0; i < n; i++) {
		if (strcmp(regions[i].path, "[vdso]") != 0)
			continue;
		for (uint64_t at = regions[i].start; at < regions[i].end && !found; at += 16) {
			symbols_resolve(blocked.symbols, at, false, &f, 1);
			found = strstr(f.function, "clock_gettime") || strstr(f.function, "getcpu");
		}
	}
	ck_assert_msg(found, "no name in the vDSO");
	blocked_end(&blocked);
}
END_TEST

struct mangled {
	const char *mangled, *plain;
};

static const struct mangled names[] = {
	{ "_ZN5store5cacheIiE3putEiPKc", "store::cache<int>::put(int, char const*)" },
	{ "_ZN4core3fmt9Formatter3new17h0123456789abcdefE", "core::fmt::Formatter::new" },
	{ "_RNvC6_123foo3bar", "123foo::bar" },
	{ "_D4test3fooFiZv", "test.foo(int)" },
	{ "malloc", "malloc" },
	{ "_Zgarbage", "_Zgarbage" },
	{ "", "" },
};

START_TEST(names_are_demangled)
{
	struct arena arena;

	arena_init(&arena, 1024, 0);
	ck_assert_str_eq(symbol_demangle(&arena, names[_i].mangled), names[_i].plain);
	arena_deinit(&arena);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("symbol");
	TCase *tc = tcase_create("symbol");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, inlined_functions_have_frames_of_their_own, 0, VICTIMS);
	tcase_add_test(tc, few_places_keep_the_function_itself);
	tcase_add_test(tc, cxx_names_are_whole);
	tcase_add_test(tc, stripped_program_gives_module_and_offset);
	tcase_add_test(tc, deleted_program_keeps_its_names);
	tcase_add_loop_test(tc, debug_file_is_found_and_checked, 0, 3);
	tcase_add_test(tc, over_budget_leaves_names);
	tcase_add_test(tc, unknown_addresses_have_a_name_too);
	tcase_add_test(tc, vdso_is_read_from_memory);
	tcase_add_loop_test(tc, names_are_demangled, 0, (int)(sizeof(names) / sizeof(names[0])));
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
