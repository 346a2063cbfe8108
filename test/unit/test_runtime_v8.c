/* SPDX-License-Identifier: GPL-3.0-or-later */
/* V8's pages on images: what is one, what only looks so, and which figures are given. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/runtime.h"

#define CHUNK 0x40000ULL
#define FIRST 0x14118b00000ULL
#define GAP 0x10000000ULL
#define SPACES 0x55550000ULL
#define BINARY 0x400000ULL
#define PAGES 7
#define USED 4099

enum { SIZE, FLAGS, HEAP, AREA_START, AREA_END, ALLOCATED, OWNER = 8, RESERVED_START = 10, RESERVED_SIZE, WORDS };

/* Of Node 18 and 20: of the old generation, from-space, to-space. */
static const struct {
	uint64_t size, flags;
} pages[PAGES] = {
	{ CHUNK, 0x4 }, { CHUNK, 0x40012 }, { CHUNK, 0xa }, { CHUNK, 0x4 },
	{ CHUNK, 0x4 }, { 0x65000, 0x84 },  { CHUNK, 0x4 },
};

struct heap {
	unsigned char *data[PAGES];
	uint64_t spaces[8];
	uint32_t version[4];
	struct mem_segment segments[PAGES + 2];
	size_t count;
	struct mem *mem;
	struct runtime_query query;
	void *state;
	struct arena arena;
};

static uint64_t *word(struct heap *h, int page, int index)
{
	return (uint64_t *)(void *)h->data[page] + index;
}

static int find(void *arg, const char *name, uint64_t *ret)
{
	static const char *const names[] = { "major_E", "minor_E", "build_E", "patch_E" };

	(void)arg;
	for (size_t i = 0; i < 4; i++) {
		if (strncmp(name, "_ZN2v88internal7Version6", 24) == 0 && strcmp(name + 24, names[i]) == 0) {
			*ret = BINARY + i * 4;
			return 0;
		}
	}
	return -ENOENT;
}

static void add_segment(struct heap *h, uint64_t start, uint64_t bytes, const char *path, void *data)
{
	struct region r = { .start = start, .end = start + bytes, .flags = REGION_READ | REGION_WRITE, .path = path };

	h->segments[h->count++] = (struct mem_segment){ r, data };
}

static void heap_init(struct heap *h, unsigned int major, unsigned int minor, const char *binary)
{
	*h = (struct heap){ .version = { major, minor, 244, 8 } };
	h->spaces[1] = SPACES + 0x1000 - 8; /* a heap, anywhere */
	for (uint64_t i = 0; i < PAGES; i++) {
		uint64_t at = FIRST + i * GAP, size = pages[i].size;
		uint64_t w[WORDS] = {
			size, pages[i].flags, h->spaces[1], at + 0x1148, at + size, USED, 0, 0, SPACES, 1, at, size
		};

		h->data[i] = calloc(1, size);
		memcpy(h->data[i], w, sizeof(w));
		add_segment(h, at, size, "", h->data[i]);
	}
	add_segment(h, SPACES, sizeof(h->spaces), "", h->spaces);
	add_segment(h, BINARY, sizeof(h->version), binary, h->version);
}

/* After the image is as it shall be. */
static int probe(struct heap *h)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(mem_fixture_create(h->segments, h->count, &h->mem), 0);
	h->query = (struct runtime_query){ h->mem, find, NULL };
	arena_init(&h->arena, 4096, 0);
	return runtime_v8.probe(&h->query, &h->state, &err);
}

static int look(struct heap *h, struct runtime_stats *ret)
{
	struct err err = ERR_INIT;

	*ret = (struct runtime_stats){ NAN, NAN, NAN, NAN, NAN, NAN, NAN, false, NULL, 0 };
	return runtime_v8.read(h->state, h->mem, &h->arena, ret, &err);
}

static void heap_deinit(struct heap *h)
{
	if (h->state)
		runtime_v8.destroy(h->state);
	arena_deinit(&h->arena);
	mem_destroy(h->mem);
	for (int i = 0; i < PAGES; i++)
		free(h->data[i]);
}

START_TEST(figures_are_read)
{
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 11, 3, "/opt/anything");
	ck_assert_int_eq(probe(&h), 1);
	ck_assert_str_eq(runtime_v8.version(h.state), "11.3.244.8");
	ck_assert_str_eq(runtime_v8.found_by(h.state), "signature");
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_eq(s.committed_bytes, 6.0 * CHUNK + 0x65000);
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_nan(s.in_use_bytes);
	ck_assert(s.live_is_stale);
	ck_assert_uint_eq(s.figure_count, 4);
	ck_assert_double_eq(s.figures[0].value, 2.0 * CHUNK);
	ck_assert_double_eq(s.figures[1].value, 4.0 * CHUNK + 0x65000);
	ck_assert_double_eq(s.figures[2].value, 5.0 * USED);
	ck_assert_double_eq(s.figures[3].value, PAGES);
	heap_deinit(&h);
}
END_TEST

/* What flags mean is of the version; what a page is, is not. */
START_TEST(unknown_version_gives_the_sum)
{
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 9, 4, "/opt/anything");
	ck_assert_int_eq(probe(&h), 1);
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_eq(s.committed_bytes, 6.0 * CHUNK + 0x65000);
	ck_assert_uint_eq(s.figure_count, 0);
	heap_deinit(&h);
}
END_TEST

START_TEST(without_symbols)
{
	struct err err = ERR_INIT;
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 11, 3, "/opt/anything");
	ck_assert_int_eq(mem_fixture_create(h.segments, h.count, &h.mem), 0);
	h.query.mem = h.mem;
	arena_init(&h.arena, 4096, 0);
	ck_assert_int_eq(runtime_v8.probe(&h.query, &h.state, &err), 1);
	ck_assert_ptr_null(runtime_v8.version(h.state));
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_eq(s.committed_bytes, 6.0 * CHUNK + 0x65000);
	heap_deinit(&h);
}
END_TEST

/* A version with other pages is named all the same, where a file suggests it. */
START_TEST(named_by_symbol)
{
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 12, 4, _i ? "/usr/bin/node" : "/opt/anything");
	for (int i = 0; i < PAGES; i++)
		memset(h.data[i], 0, WORDS * 8);
	ck_assert_int_eq(probe(&h), _i);
	if (_i) {
		ck_assert_str_eq(runtime_v8.found_by(h.state), "symbol");
		ck_assert_int_eq(look(&h, &s), -ENOTSUP);
	}
	heap_deinit(&h);
}
END_TEST

/* Pages that lie are none; the others are read. */
START_TEST(lies_are_left_out)
{
	static const struct {
		int index;
		uint64_t value;
	} lies[] = {
		{ SIZE, 0 },
		{ SIZE, UINT64_MAX },
		{ SIZE, CHUNK + 1 },
		{ SIZE, 1ULL << 47 },
		{ HEAP, 0 },
		{ HEAP, 3 },
		{ HEAP, SPACES },
		{ AREA_START, 0 },
		{ AREA_START, FIRST },
		{ AREA_START, UINT64_MAX },
		{ AREA_END, 0 },
		{ AREA_END, UINT64_MAX },
		{ ALLOCATED, CHUNK },
		{ ALLOCATED, UINT64_MAX },
		{ OWNER, 0 },
		{ OWNER, UINT64_MAX - 7 },
		{ OWNER, 0x1000 },
		{ RESERVED_START, 0 },
		{ RESERVED_SIZE, 0x2000 },
	};
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 11, 3, "/opt/anything");
	*word(&h, 0, lies[_i].index) = lies[_i].value;
	ck_assert_int_eq(probe(&h), 1);
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_eq(s.committed_bytes, 5.0 * CHUNK + 0x65000);
	heap_deinit(&h);
}
END_TEST

/* A size that reaches over the pages behind it, all else in keeping, cannot make the walk longer, only shorter. */
START_TEST(huge_page)
{
	struct heap h;
	struct runtime_stats s;
	uint64_t size = 3 * GAP;

	heap_init(&h, 11, 3, "/opt/anything");
	*word(&h, 3, SIZE) = *word(&h, 3, RESERVED_SIZE) = size;
	ck_assert_int_eq(probe(&h), 1);
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_eq(s.figures[3].value, 5);
	heap_deinit(&h);
}
END_TEST

/* More aligned memory than a look may cost: no sum rather than a part of one. */
START_TEST(too_much_to_look_at)
{
	struct heap h;
	struct runtime_stats s;

	heap_init(&h, 11, 3, "/opt/anything");
	h.count--; /* the binary: its place is taken by a large mapping that nobody touched */
	add_segment(&h, FIRST + 16 * GAP, CHUNK << 16, "", NULL);
	ck_assert_int_eq(probe(&h), 1);
	ck_assert_int_eq(look(&h, &s), 0);
	ck_assert_double_nan(s.committed_bytes);
	ck_assert_uint_eq(s.figure_count, 0);
	heap_deinit(&h);
}
END_TEST

START_TEST(random_images_end)
{
	uint64_t x = 0x9e3779b97f4a7c15ULL;

	for (int round = 0; round < 300; round++) {
		struct heap h;
		struct runtime_stats s;

		heap_init(&h, 11, 3, "/usr/bin/node");
		for (int i = 0; i < 10; i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			*word(&h, (int)(x % PAGES), (int)(x >> 8 & 15) % WORDS) = x >> (x >> 58);
		}
		if (probe(&h) == 1) {
			int rc = look(&h, &s);

			ck_assert(rc == 0 || rc == -ENOTSUP);
		}
		heap_deinit(&h);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("runtime_v8");
	TCase *t = tcase_create("v8");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, figures_are_read);
	tcase_add_test(t, unknown_version_gives_the_sum);
	tcase_add_test(t, without_symbols);
	tcase_add_loop_test(t, named_by_symbol, 0, 2);
	tcase_add_loop_test(t, lies_are_left_out, 0, 19);
	tcase_add_test(t, huge_page);
	tcase_add_test(t, too_much_to_look_at);
	tcase_add_test(t, random_images_end);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
