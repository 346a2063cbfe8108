/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which runtime a process has: the table of readers, and those that are only named. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../fixtures/hsperf_image.h"
#include "memwatch/runtime.h"

#define DATA 0x600000ULL

static uint64_t data_words[512];

struct symbol {
	const char *name; /* NULL: none */
	int asked;
};

static int find(void *arg, const char *name, uint64_t *ret)
{
	struct symbol *s = arg;

	s->asked++;
	if (!s->name || strcmp(s->name, name) != 0)
		return -ENOENT;
	*ret = DATA;
	return 0;
}

/* A process with its data and one file mapped. */
static struct mem *process(const char *path, unsigned int flags, const void *image)
{
	struct mem_segment segments[] = {
		{ { .start = DATA, .end = DATA + sizeof(data_words), .flags = REGION_READ | REGION_WRITE, .path = "" },
		  data_words },
		{ { .start = HSPERF_AT, .end = HSPERF_AT + HSPERF_BYTES, .flags = (uint16_t)flags, .path = path },
		  image },
	};
	struct mem *mem = NULL;

	ck_assert_int_eq(mem_fixture_create(segments, 2, &mem), 0);
	return mem;
}

static int probe(struct mem *mem, struct symbol *symbol, struct runtime **ret)
{
	struct runtime_query query = { mem, symbol ? find : NULL, symbol };
	struct err err = ERR_INIT;

	return runtime_probe(&query, ret, &err);
}

START_TEST(nothing_is_found_and_nothing_asked)
{
	struct mem *mem = process("/usr/lib/libc.so.6", REGION_READ, NULL);
	struct symbol symbol = { NULL, 0 };
	struct runtime *r = NULL;

	ck_assert_int_eq(probe(mem, &symbol, &r), 0);
	ck_assert_int_eq(symbol.asked, 0); /* a look into the files of all modules costs */
	ck_assert_int_eq(probe(mem, NULL, &r), 0);
	ck_assert_ptr_null(r);
	runtime_destroy(NULL);
	mem_destroy(mem);
}
END_TEST

START_TEST(figures_and_names)
{
	struct hsperf_image im;
	struct mem *mem;
	struct runtime *r = NULL;
	struct runtime_stats s = { .live_bytes = 17 };
	struct named_part part;
	struct err err = ERR_INIT;
	struct arena arena;

	hsperf_init(&im, true);
	hsperf_long(&im, "java.threads.live", 23);
	hsperf_text(&im, "java.property.java.version", "21.0.1");
	mem = process(HSPERF_PATH, REGION_READ | REGION_WRITE | REGION_SHARED, im.data);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(probe(mem, NULL, &r), 1);
	im.data[7] = 0; /* not accessible: an error leaves the output alone */
	ck_assert_int_eq(runtime_read(r, mem, &arena, &s, &err), -EAGAIN);
	ck_assert_double_eq(s.live_bytes, 17);
	im.data[7] = 1;
	ck_assert_int_eq(runtime_read(r, mem, &arena, &s, &err), 0);
	ck_assert_double_eq(s.tasks, 23);
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_nan(s.in_use_bytes);
	ck_assert_double_nan(s.free_bytes);
	ck_assert_double_nan(s.committed_bytes);
	ck_assert_double_nan(s.released_bytes);
	ck_assert_double_nan(s.collections);
	runtime_describe(r, &arena, &part);
	runtime_destroy(r); /* the texts are the arena's */
	ck_assert_str_eq(part.name, "hotspot");
	ck_assert_str_eq(part.version, "21.0.1");
	ck_assert_str_eq(part.found_by, "mapping");
	arena_deinit(&arena);
	mem_destroy(mem);
}
END_TEST

static const struct {
	const char *path, *symbol;
	uint64_t word;
	const char *name; /* NULL: none is found */
} cases[] = {
	{ "/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2", "rb_cObject", 0x7f00, "ruby" },
	{ "/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2", "rb_cObject", 0, NULL }, /* linked, never started */
	{ "/usr/lib/x86_64-linux-gnu/libruby-3.1.so.3.1.2", NULL, 0, NULL },
	{ "/usr/bin/perl", "PL_curinterp", 0x5500, "perl" },
	{ "/usr/bin/php8.2", "sapi_module", 0x5500, "php" },
	{ "/usr/sbin/php-fpm8.2", "sapi_module", 0x5500, "php" },
	{ "/usr/lib/sbcl/sbcl.core", NULL, 0, "sbcl" },
	{ "/usr/lib/erlang/erts-13.1.5/bin/beam.smp", "erl_atom_names", 0, "erlang" },
	{ "/usr/share/dotnet/shared/Microsoft.NETCore.App/8.0.0/libcoreclr.so", NULL, 0, "dotnet" },
	{ "/home/perl/program", "PL_curinterp", 0x5500, NULL }, /* a folder is no file */
	{ "perl", "PL_curinterp", 0x5500, NULL },               /* as the kernel prints no file */
};

START_TEST(others_are_named)
{
	struct mem *mem = process(cases[_i].path, REGION_READ, NULL);
	struct symbol symbol = { cases[_i].symbol, 0 };
	struct runtime *r = NULL;
	struct runtime_stats s;
	struct named_part part;
	struct err err = ERR_INIT;
	struct arena arena;

	data_words[0] = cases[_i].word;
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(probe(mem, &symbol, &r), cases[_i].name != NULL);
	if (r) {
		runtime_describe(r, &arena, &part);
		ck_assert_str_eq(part.name, cases[_i].name);
		ck_assert_ptr_null(part.version);
		ck_assert_str_eq(part.found_by, cases[_i].symbol ? "symbol" : "mapping");
		ck_assert_int_eq(runtime_read(r, mem, &arena, &s, &err), 0);
		ck_assert_double_nan(s.live_bytes);
		ck_assert_double_nan(s.committed_bytes);
		ck_assert(s.live_is_stale);
	}
	runtime_destroy(r);
	arena_deinit(&arena);
	mem_destroy(mem);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("runtime");
	TCase *t = tcase_create("runtime");
	SRunner *runner;
	int failed;

	tcase_add_test(t, nothing_is_found_and_nothing_asked);
	tcase_add_test(t, figures_and_names);
	tcase_add_loop_test(t, others_are_named, 0, sizeof(cases) / sizeof(cases[0]));
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
