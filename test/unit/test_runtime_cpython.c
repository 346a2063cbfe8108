/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/runtime.h"
#include "support_cpython.h"
#include "support_cpython_image.h"

#define OVERALL_S 120

struct look { /* a reader at work */
	struct mem *mem;
	struct runtime_query query;
	void *state;
	struct arena arena;
	struct runtime_stats stats;
	struct err err;
};

static void look_init(struct look *l, struct mem *mem, int (*find)(void *, const char *, uint64_t *), void *arg)
{
	*l = (struct look){ .mem = mem, .query = { .mem = mem, .find = find, .arg = arg }, .err = ERR_INIT };
	arena_init(&l->arena, 4096, 0);
}

static void look_deinit(struct look *l)
{
	runtime_cpython.destroy(l->state);
	arena_deinit(&l->arena);
	mem_destroy(l->mem);
}

static int look_probe(struct look *l)
{
	return runtime_cpython.probe(&l->query, &l->state, &l->err);
}

static int look_read(struct look *l)
{
	return runtime_cpython.read(l->state, l->mem, &l->arena, &l->stats, &l->err);
}

static double figure(const struct look *l, const char *name)
{
	for (size_t i = 0; i < l->stats.figure_count; i++)
		if (strcmp(l->stats.figures[i].name, name) == 0)
			return l->stats.figures[i].value;
	ck_abort_msg("no figure '%s'", name);
}

/* What must hold of anything that is told. */
static void check_sane(const struct look *l)
{
	const struct runtime_stats *s = &l->stats;
	double mapped = figure(l, "pymalloc_mapped_bytes");

	ck_assert(isnan(s->in_use_bytes) || s->in_use_bytes <= mapped);
	ck_assert(isnan(s->committed_bytes) || s->committed_bytes <= mapped);
	ck_assert(isnan(s->free_bytes) || s->free_bytes + s->in_use_bytes == s->committed_bytes);
	ck_assert(isnan(s->in_use_bytes) == isnan(s->live_bytes));
	ck_assert(!s->live_is_stale);
	for (size_t i = 0; i < s->figure_count; i++)
		ck_assert(isnan(s->figures[i].value) || s->figures[i].value >= 0);
}

static bool pymalloc_is_unknown(const struct look *l)
{
	return isnan(l->stats.in_use_bytes) && isnan(l->stats.live_bytes) && isnan(l->stats.free_bytes) &&
	       isnan(figure(l, "pymalloc_blocks")) && isnan(figure(l, "pymalloc_arenas_pinned"));
}

/* ---- images of all releases ---------------------------------------------------------------------------------------------------- */

static void check_truth(const struct look *l, const struct py_image *im)
{
	double mapped = (double)(im->arena_count * im->release->arena_bytes);

	check_sane(l);
	ck_assert_double_eq(l->stats.in_use_bytes, (double)im->in_use_bytes);
	ck_assert_double_eq(l->stats.committed_bytes, mapped);
	ck_assert_double_eq(l->stats.free_bytes, mapped - (double)im->in_use_bytes);
	ck_assert_double_eq(figure(l, "pymalloc_arenas"), im->arena_count);
	ck_assert_double_eq(figure(l, "pymalloc_blocks"), (double)im->blocks);
	ck_assert_double_eq(figure(l, "pymalloc_pool_free_bytes"), (double)im->pool_free_bytes);
	ck_assert_double_eq(figure(l, "interpreters"), im->interpreters);
	ck_assert_double_eq(l->stats.tasks, (double)im->tasks);
	if (!im->release->gc_in_runtime) {
		ck_assert_double_eq(l->stats.collections, PY_COLLECTIONS * im->interpreters);
		ck_assert_double_eq(figure(l, "gc_tracked_long_lived"), PY_LONG_LIVED * im->interpreters);
		ck_assert_double_eq(figure(l, "gc_uncollectable"), PY_UNCOLLECTABLE * im->interpreters);
	}
}

static void read_image(const struct py_release *release, unsigned int interpreters, bool symbols)
{
	struct py_image im;
	struct look l;
	char version[32];

	py_image_init(&im, release, interpreters);
	im.has_symbols = symbols;
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_msg(look_probe(&l) == 1, "3.%u: %s", release->minor, l.err.msg);
	snprintf(version, sizeof(version), "3.%u.5", release->minor);
	ck_assert_str_eq(runtime_cpython.version(l.state), version);
	ck_assert_str_eq(runtime_cpython.found_by(l.state), symbols ? "symbol" : "signature");
	for (int again = 0; again < 2; again++) { /* the first look learns */
		ck_assert_int_eq(look_read(&l), 0);
		if (again || interpreters == 1)
			check_truth(&l, &im);
	}
	look_deinit(&l);
	py_image_deinit(&im);
}

START_TEST(release_is_understood)
{
	read_image(&py_releases[_i], 1, true);
	read_image(&py_releases[_i], 1, false);
}
END_TEST

START_TEST(interpreters_have_arenas_of_their_own)
{
	if (py_releases[_i].obmalloc)
		read_image(&py_releases[_i], 2, true);
}
END_TEST

START_TEST(nothing_is_found_where_nothing_is)
{
	struct py_image im;
	struct look l;

	/* a library that is mapped, and was never initialised */
	py_image_init(&im, &py_releases[_i], 1);
	memset(im.data, 0, PY_DATA_BYTES);
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 0);
	look_deinit(&l);
	/* a process of another kind */
	for (size_t i = 0; i < 2; i++)
		im.places[i].region.path = "/usr/lib/libfoo.so.1";
	look_init(&l, py_mem(&im), NULL, NULL);
	ck_assert_int_eq(look_probe(&l), 0);
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

START_TEST(unknown_version_is_named)
{
	struct py_image im;
	struct look l;

	py_image_init(&im, &py_releases[5], 1);
	py_put(&im, PY_RUNTIME + 8, 0x032a01f0);
	/* pymalloc needs no version */
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	ck_assert_int_eq(look_read(&l), 0);
	ck_assert_double_eq(l.stats.in_use_bytes, (double)im.in_use_bytes);
	ck_assert(isnan(l.stats.collections));
	look_deinit(&l);
	py_put(&im, PY_SLOT, 0);
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), -ENOTSUP);
	ck_assert_ptr_nonnull(strstr(l.err.msg, "3.42.1"));
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

/* ---- what is not known is not said ---------------------------------------------------------------------------------------------- */

START_TEST(other_allocators_are_unknown)
{
	struct py_image im;
	struct look l;

	/* PYTHONMALLOC=malloc */
	py_image_init(&im, &py_releases[_i], 1);
	memset(py_at(&im, py_table(0)), 0, 48 * 16);
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	for (int i = 0; i < 20; i++) {
		ck_assert_int_eq(look_read(&l), 0);
		ck_assert(pymalloc_is_unknown(&l));
		ck_assert(isnan(figure(&l, "pymalloc_arenas")));
		ck_assert_double_eq(l.stats.tasks, 2);
	}
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

START_TEST(free_threaded_is_unknown)
{
	struct py_image im;
	struct look l;

	py_image_init(&im, &py_releases[5], 1);
	py_put(&im, PY_RUNTIME + 16, 1);
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	ck_assert_int_eq(look_read(&l), 0);
	ck_assert(pymalloc_is_unknown(&l));
	ck_assert(isnan(l.stats.collections));
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

START_TEST(paged_out_pools_are_unknown)
{
	struct py_image im;
	struct look l;

	py_image_init(&im, &py_releases[_i], 1);
	im.places[PY_PLACES - 1].data = NULL;
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	ck_assert_int_eq(look_read(&l), 0);
	check_sane(&l);
	ck_assert(pymalloc_is_unknown(&l));
	ck_assert_double_eq(figure(&l, "pymalloc_arenas"), PY_ARENAS_MAX);
	ck_assert_double_eq(l.stats.committed_bytes, (double)((PY_ARENAS_MAX - 1) * im.release->arena_bytes));
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

START_TEST(torn_pools_are_left_out)
{
	struct py_image im;
	struct look l;
	uint64_t pool, step;

	py_image_init(&im, &py_releases[_i], 1);
	step = im.release->pool_bytes;
	pool = py_first_pool(&im, 3) + 20 * step;
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	/* one: a count beyond what the pool holds */
	py_put32(&im, pool, 100000);
	ck_assert_int_eq(look_read(&l), 0);
	ck_assert(l.stats.in_use_bytes <= (double)im.in_use_bytes);
	ck_assert(l.stats.in_use_bytes >= (double)(im.in_use_bytes - step));
	/* many: another arena's */
	for (unsigned int i = 0; i < 30; i++)
		py_put32(&im, pool + i * step + 32, 12);
	ck_assert_int_eq(look_read(&l), 0);
	check_sane(&l);
	ck_assert(pymalloc_is_unknown(&l));
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

START_TEST(lists_that_bite_their_tail)
{
	struct py_image im;
	struct look l;
	uint64_t thread = PY_HEAP + 0x4000, next;

	py_image_init(&im, &py_releases[_i], 1);
	next = im.release->gc_index ? 7264 : 0;
	look_init(&l, py_mem(&im), py_find, &im);
	ck_assert_int_eq(look_probe(&l), 1);
	py_put(&im, thread + 0x400 + 8, thread);
	ck_assert_int_eq(look_read(&l), 0);
	ck_assert(isnan(l.stats.tasks));
	py_put(&im, im.interpreter[0] + next, im.interpreter[0]);
	ck_assert_int_eq(look_read(&l), 0);
	ck_assert(isnan(l.stats.tasks) && isnan(figure(&l, "interpreters")));
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

/* ---- hostile memory ---------------------------------------------------------------------------------------------------------------- */

static uint64_t random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill_random(uint8_t *bytes, uint64_t len, uint64_t *state)
{
	for (uint64_t i = 0; i + 8 <= len; i += 8) {
		uint64_t word = random_word(state);

		/* a third: something that could be an address of this image */
		if (word % 3 == 0)
			word = (word >> 8) % 3 == 0 ? PY_HEAP + (word >> 20) % PY_HEAP_BYTES :
						      PY_ARENAS + (word >> 20) % 1024 * 4096;
		memcpy(bytes + i, &word, 8);
	}
}

START_TEST(random_bytes_are_not_accepted)
{
	uint64_t state = 0x9e3779b97f4a7c15UL + (uint64_t)_i;
	struct py_image im;
	struct look l;

	py_image_init(&im, &py_releases[(int)_i % py_release_count], 1);
	fill_random(im.data, PY_DATA_BYTES, &state);
	fill_random(im.heap, PY_HEAP_BYTES, &state);
	for (unsigned int i = 0; i < im.arena_count; i++)
		fill_random(im.arenas[i], im.release->arena_bytes, &state);
	for (int symbols = 0; symbols < 2; symbols++) {
		im.has_symbols = symbols;
		look_init(&l, py_mem(&im), py_find, &im);
		ck_assert_int_le(look_probe(&l), 0);
		look_deinit(&l);
	}
	py_image_deinit(&im);
}
END_TEST

/* The image, a few words of it changed, before the probe or behind it: nothing but sane answers. */
START_TEST(changed_words_do_no_harm)
{
	uint64_t state = 0xd1b54a32d192ed03UL * (uint64_t)(_i + 1);
	struct py_image im;
	struct look l;

	py_image_init(&im, &py_releases[(int)_i % py_release_count], 1);
	im.has_symbols = _i % 2 == 0;
	look_init(&l, py_mem(&im), py_find, &im);
	for (int round = 0; round < 40; round++) {
		static const uint64_t starts[] = { PY_RUNTIME, PY_HEAP, PY_HEAP + 0x4000, PY_HEAP + 0x8000,
						   PY_SLOT - 64 };
		uint64_t at = starts[random_word(&state) % 5] + random_word(&state) % 1024 * 8;

		if (round % 3 == 0) /* a pool's header */
			at = py_first_pool(&im, (unsigned int)round % im.arena_count) +
			     random_word(&state) % 40 * im.release->pool_bytes + random_word(&state) % 6 * 8;
		if (round % 5 == 4) /* an entry */
			at = py_table(0) + random_word(&state) % 96 * 8;
		if (py_at(&im, at & ~7ULL))
			fill_random(py_at(&im, at & ~7ULL), 8, &state);
		if (!l.state && look_probe(&l) != 1)
			continue;
		if (look_read(&l) == 0)
			check_sane(&l);
	}
	look_deinit(&l);
	py_image_deinit(&im);
}
END_TEST

/* ---- a live python -------------------------------------------------------------------------------------------------------------------- */

static const char *const python_command[] = { "python3", NULL };

static void look_at(struct look *l, struct python *p, bool symbols)
{
	char path[64];
	int fd;
	struct mem *mem = NULL;
	struct err err = ERR_INIT;

	snprintf(path, sizeof(path), "/proc/%d", (int)p->pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_msg(mem_live_create(p->pid, fd, &mem, &err) == 0, "%s", err.msg);
	look_init(l, mem, symbols ? python_find_symbol : NULL, &p->pid);
	ck_assert_msg(look_probe(l) == 1, "%s", l->err.msg);
	ck_assert_msg(look_read(l) == 0, "%s", l->err.msg);
	check_sane(l);
}

static void check_live(const struct look *l, const struct python *p)
{
	ck_assert_double_eq_tol(l->stats.in_use_bytes, p->in_use_bytes, p->in_use_bytes / 1000);
	ck_assert_double_eq_tol(figure(l, "pymalloc_pool_free_bytes"), p->pool_free_bytes, 16384);
	ck_assert_double_eq(figure(l, "pymalloc_arenas"), p->arenas);
	ck_assert_double_eq(figure(l, "pymalloc_mapped_bytes"), p->arenas * p->arena_bytes);
	ck_assert_double_eq(l->stats.collections, p->collections);
	ck_assert_double_eq_tol(figure(l, "gc_tracked_long_lived"), p->tracked, p->tracked / 100);
	ck_assert_double_eq(figure(l, "gc_uncollectable"), 0);
}

#define GROW "x = [(str(i), [i]) for i in range(100000)]\n"
#define THIN "del x[1:]\ny = None\n"

START_TEST(live_python_agrees)
{
	struct python p;
	struct look l;

	ck_assert(python_start(&p, python_command, NULL, GROW, THIN));
	look_at(&l, &p, true);
	ck_assert_str_eq(runtime_cpython.version(l.state), p.version);
	ck_assert_str_eq(runtime_cpython.found_by(l.state), "symbol");
	check_live(&l, &p);
	ck_assert_double_gt(l.stats.in_use_bytes, 10e6);
	ck_assert_double_eq(l.stats.tasks, 1);
	python_go_on(&p);
	ck_assert_int_eq(look_read(&l), 0);
	check_live(&l, &p);
	ck_assert_double_lt(l.stats.in_use_bytes, 10e6);
	look_deinit(&l);
	look_at(&l, &p, false);
	ck_assert_str_eq(runtime_cpython.version(l.state), p.version);
	ck_assert_str_eq(runtime_cpython.found_by(l.state), "signature");
	check_live(&l, &p);
	look_deinit(&l);
	python_end(&p);
}
END_TEST

START_TEST(few_blocks_pin_arenas)
{
	struct python p;
	struct look l;

	/* one of 20,000 strings stays: about one in an arena of 1 MiB, none in most pools */
	ck_assert(python_start(&p, python_command, NULL, "x = ['%060d' % i for i in range(400000)]\nx = x[::5000]\n",
			       NULL));
	look_at(&l, &p, true);
	check_live(&l, &p);
	ck_assert_double_ge(figure(&l, "pymalloc_arenas_pinned"), 10);
	ck_assert_double_lt(figure(&l, "pymalloc_arenas_pinned"), p.arenas);
	ck_assert_double_gt(figure(&l, "pymalloc_pinned_bytes"), 0.5 * l.stats.free_bytes);
	look_deinit(&l);
	python_end(&p);
}
END_TEST

START_TEST(live_python_without_pymalloc)
{
	struct python p;
	struct look l;

	ck_assert(python_start(&p, python_command, "PYTHONMALLOC=malloc", GROW, NULL));
	look_at(&l, &p, true);
	ck_assert(pymalloc_is_unknown(&l));
	ck_assert(isnan(figure(&l, "pymalloc_arenas")));
	ck_assert_double_eq(l.stats.collections, p.collections);
	look_deinit(&l);
	python_end(&p);
}
END_TEST

/* It never stands still: threads come and go, arenas too. */
START_TEST(running_python_does_no_harm)
{
	struct python p;
	struct look l;
	unsigned int told = 0;

	ck_assert(python_start(&p, python_command, NULL, GROW,
			       "import threading\n"
			       "def churn():\n"
			       "    while True:\n"
			       "        y = [(str(i), [i]) for i in range(30000)]\n"
			       "for i in range(3): threading.Thread(target=churn, daemon=True).start()\n"
			       "churn()\n"));
	look_at(&l, &p, true);
	python_release(&p);
	for (int i = 0; i < 300; i++) {
		int rc = look_read(&l);

		ck_assert_msg(rc == 0 || rc == -EAGAIN, "%d: %s", rc, l.err.msg);
		arena_reset(&l.arena);
		if (rc || isnan(l.stats.in_use_bytes))
			continue;
		/* x stays, and four threads add less than 60 MB */
		ck_assert_double_gt(l.stats.in_use_bytes, p.in_use_bytes * 0.95);
		ck_assert_double_lt(l.stats.in_use_bytes, p.in_use_bytes + 60e6);
		told++;
	}
	ck_assert_uint_gt(told, 250);
	python_end(&p);
	ck_assert_int_eq(look_read(&l), -ESRCH);
	look_deinit(&l);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("runtime_cpython");
	TCase *image = tcase_create("image"), *hostile = tcase_create("hostile"), *live = tcase_create("live");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(image, release_is_understood, 0, py_release_count);
	tcase_add_loop_test(image, interpreters_have_arenas_of_their_own, 0, py_release_count);
	tcase_add_loop_test(image, nothing_is_found_where_nothing_is, 0, py_release_count);
	tcase_add_test(image, unknown_version_is_named);
	tcase_add_loop_test(image, other_allocators_are_unknown, 0, py_release_count);
	tcase_add_test(image, free_threaded_is_unknown);
	tcase_add_loop_test(image, paged_out_pools_are_unknown, 0, py_release_count);
	tcase_add_loop_test(image, torn_pools_are_left_out, 0, py_release_count);
	tcase_add_loop_test(image, lists_that_bite_their_tail, 0, py_release_count);
	tcase_add_loop_test(hostile, random_bytes_are_not_accepted, 0, 24);
	tcase_add_loop_test(hostile, changed_words_do_no_harm, 0, 64);
	tcase_add_test(live, live_python_agrees);
	tcase_add_test(live, few_blocks_pin_arenas);
	tcase_add_test(live, live_python_without_pymalloc);
	tcase_add_test(live, running_python_does_no_harm);
	tcase_set_timeout(image, OVERALL_S);
	tcase_set_timeout(hostile, OVERALL_S);
	tcase_set_timeout(live, OVERALL_S);
	suite_add_tcase(s, image);
	suite_add_tcase(s, hostile);
	suite_add_tcase(s, live);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
