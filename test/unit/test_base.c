/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/base/clock.h"
#include "memwatch/base/err.h"
#include "memwatch/base/map.h"
#include "memwatch/base/str.h"
#include "memwatch/base/vec.h"

#define MIB ((size_t)1 << 20)

/* A fixed sequence: a failure can be repeated. */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* One assertion per block instead of one per byte: Check reports each one through a pipe. */
static bool all_bytes_are(const unsigned char *data, size_t len, unsigned char value)
{
	for (size_t i = 0; i < len; i++)
		if (data[i] != value)
			return false;
	return true;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(scope_closes_unless_taken)
{
	int closed;
	int kept;

	{
		cleanup_close int a = open_null();
		cleanup_close int b = open_null();
		cleanup_close int none = -1;

		closed = a;
		kept = take_fd(&b);
		ck_assert_int_eq(b, -1);
		ck_assert_int_eq(take_fd(&none), -1);
	}
	ck_assert(!is_open(closed));
	ck_assert(is_open(kept));
	close(kept);
}
END_TEST

START_TEST(scope_frees_unless_taken)
{
	char *kept;

	{
		cleanup_free char *text = strdup("kept");
		cleanup_free char *lost = strdup("freed, or the leak checker complains");
		cleanup_fclose FILE *file = fopen("/dev/null", "r");
		cleanup_str struct str s = STR_INIT;

		ck_assert_ptr_nonnull(lost);
		ck_assert_ptr_nonnull(file);
		str_add(&s, "freed");
		kept = take_ptr(&text);
		ck_assert_ptr_null(text);
	}
	ck_assert_str_eq(kept, "kept");
	free(kept);
}
END_TEST

START_TEST(cleanup_keeps_errno)
{
	int bad = 1 << 20; /* close() fails with EBADF */

	errno = ENOTTY;
	cleanup_closep(&bad);
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_int_eq(bad, -1);
}
END_TEST

START_TEST(err_holds_code_and_message)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(err_set(&err, ESRCH, "no process '%d'", 17), -ESRCH);
	ck_assert_int_eq(err.code, ESRCH);
	ck_assert_str_eq(err.msg, "no process '17'");
	ck_assert_int_eq(err_prefix(&err, "cannot watch %d", 17), -ESRCH);
	ck_assert_str_eq(err.msg, "cannot watch 17: no process '17'");
	ck_assert_int_eq(err_set(&err, EPERM, "again: %s", err.msg), -EPERM);
	ck_assert_str_eq(err.msg, "again: cannot watch 17: no process '17'");
}
END_TEST

START_TEST(err_may_be_null_and_never_says_success)
{
	struct err err = ERR_INIT;

	ck_assert_int_eq(err_set(NULL, ENOENT, "x"), -ENOENT);
	ck_assert_int_eq(err_prefix(NULL, "x"), -EIO);
	ck_assert_int_lt(err_set(&err, 0, "errno was not set"), 0);
	ck_assert_int_gt(err.code, 0);
}
END_TEST

START_TEST(err_is_truncated_not_overrun)
{
	char *huge = malloc(4 * ERR_MSG_BYTES);
	struct err err = ERR_INIT;

	ck_assert_ptr_nonnull(huge);
	memset(huge, 'x', 4 * ERR_MSG_BYTES);
	huge[4 * ERR_MSG_BYTES - 1] = '\0';
	err_set(&err, EIO, "%s", huge);
	ck_assert_uint_eq(strlen(err.msg), ERR_MSG_BYTES - 1);
	err_prefix(&err, "short");
	ck_assert_uint_eq(strlen(err.msg), ERR_MSG_BYTES - 1);
	ck_assert(strncmp(err.msg, "short: xxx", 10) == 0);
	err_prefix(&err, "%s", huge);
	ck_assert_uint_eq(strlen(err.msg), ERR_MSG_BYTES - 1);
	free(huge);
}
END_TEST

START_TEST(str_grows)
{
	struct str s;

	str_init(&s);
	ck_assert_str_eq(str_text(&s), "");
	for (int i = 0; i < 1000; i++)
		str_addf(&s, "%d,", i);
	ck_assert_uint_eq(s.len, 10 * 2 + 90 * 3 + 900 * 4);
	ck_assert_uint_eq(strlen(str_text(&s)), s.len);
	ck_assert_ptr_nonnull(strstr(str_text(&s), ",998,999,"));
	str_reset(&s);
	ck_assert_str_eq(str_text(&s), "");
	str_addn(&s, "a\0b", 3);
	str_addn(&s, NULL, 0);
	str_addc(&s, 'c');
	str_pad(&s, '-', 3);
	str_pad(&s, '-', 0);
	ck_assert_uint_eq(s.len, 7);
	ck_assert(memcmp(s.data, "a\0bc---", 8) == 0);
	ck_assert_int_eq(str_status(&s), 0);
	str_deinit(&s);
	ck_assert_str_eq(str_text(&s), "");
	str_add(&s, "usable");
	ck_assert_str_eq(str_text(&s), "usable");
	str_deinit(&s);
	str_deinit(NULL);
}
END_TEST

START_TEST(str_formats_across_its_capacity)
{
	char text[300];

	/* lengths around the first allocation: the second attempt of the formatting must not lose or repeat a byte */
	for (size_t len = 0; len < sizeof(text); len++) {
		struct str s = STR_INIT;

		memset(text, 'x', sizeof(text));
		text[len] = '\0';
		str_addf(&s, "%s", text);
		str_addf(&s, "%s|", text);
		ck_assert_uint_eq(s.len, 2 * len + 1);
		ck_assert_uint_eq(strlen(str_text(&s)), s.len);
		ck_assert_int_eq(s.data[s.len - 1], '|');
		str_deinit(&s);
	}
}
END_TEST

START_TEST(str_remembers_failure)
{
	struct str s = STR_INIT;

	str_add(&s, "before");
	str_pad(&s, 'x', SIZE_MAX - 2);
	ck_assert_int_eq(str_status(&s), -ENOMEM);
	str_add(&s, "after");
	str_addf(&s, "%s", "after");
	str_addc(&s, 'x');
	ck_assert_str_eq(str_text(&s), "before");
	ck_assert_int_eq(str_status(&s), -ENOMEM);
	str_deinit(&s);
	ck_assert_int_eq(str_status(&s), 0);
}
END_TEST

START_TEST(vec_keeps_elements_while_growing)
{
	uint32_t *items = NULL;
	size_t cap = 0;
	int growths = 0;

	for (uint32_t i = 0; i < 100003; i++) {
		size_t old = cap;

		if (vec_reserve(&items, &cap, (size_t)i + 1, sizeof(*items)) < 0 || cap <= i)
			ck_abort_msg("no room for element %u", i);
		growths += cap != old;
		items[i] = i * 7;
	}
	for (uint32_t i = 0; i < 100003; i++)
		if (items[i] != i * 7)
			ck_abort_msg("element %u was lost", i);
	ck_assert_int_lt(growths, 40); /* geometric */
	free(items);
}
END_TEST

START_TEST(vec_refuses_overflow_and_stays)
{
	uint64_t *items = NULL;
	uint64_t *old;
	size_t cap = 0;

	ck_assert_int_eq(vec_reserve(&items, &cap, 3, sizeof(*items)), 0);
	items[2] = 4099;
	old = items;
	ck_assert_int_eq(vec_reserve(&items, &cap, SIZE_MAX / 4, sizeof(*items)), -ENOMEM);
	ck_assert_int_eq(vec_reserve(&items, &cap, SIZE_MAX, sizeof(*items)), -ENOMEM);
	ck_assert_ptr_eq(items, old);
	ck_assert_uint_eq(items[2], 4099);
	free(items);
}
END_TEST

START_TEST(arena_is_aligned_zeroed_and_separate)
{
	enum { BLOCKS = 2003 };
	unsigned char *blocks[BLOCKS];
	struct arena a;

	arena_init(&a, 128, 0);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < BLOCKS; i++) {
			size_t bytes = i % 97 == 0 ? 5003 : i % 61;

			blocks[i] = arena_alloc(&a, bytes);
			ck_assert_ptr_nonnull(blocks[i]);
			ck_assert_uint_eq((uintptr_t)blocks[i] % 16, 0);
			ck_assert(all_bytes_are(blocks[i], bytes, 0));
			memset(blocks[i], (int)(i % 251) + 1, bytes);
		}
		for (size_t i = 0; i < BLOCKS; i++)
			ck_assert(all_bytes_are(blocks[i], i % 97 == 0 ? 5003 : i % 61, (unsigned char)(i % 251 + 1)));
		arena_reset(&a);
		ck_assert_uint_eq(a.used_bytes, 0);
	}
	arena_deinit(&a);
	arena_deinit(NULL);
}
END_TEST

START_TEST(arena_respects_its_limit)
{
	struct arena a;
	size_t sum = 0;

	arena_init(&a, 1024, MIB);
	ck_assert_ptr_null(arena_alloc(&a, MIB + 1));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
	ck_assert_ptr_null(arena_array(&a, SIZE_MAX / 2, 3));
	ck_assert_ptr_null(arena_array(&a, UINT32_MAX, UINT32_MAX));
	while (arena_alloc(&a, 4096))
		sum += 4096;
	ck_assert_uint_le(sum, MIB);
	ck_assert_uint_ge(sum, MIB - MIB / 8); /* the last chunk is cut to what the limit leaves */
	ck_assert_int_eq(arena_prepare(&a, MIB), -ENOMEM);
	arena_deinit(&a);
	ck_assert_ptr_nonnull(arena_alloc(&a, MIB)); /* usable again, limit kept */
	ck_assert_ptr_null(arena_alloc(&a, 16));
	arena_deinit(&a);
}
END_TEST

START_TEST(arena_copies)
{
	struct arena a;
	char *text;

	arena_init(&a, 0, 0);
	ck_assert_str_eq(arena_strdup(&a, "abc"), "abc");
	ck_assert_ptr_null(arena_strdup(&a, NULL));
	ck_assert_str_eq(arena_strndup(&a, "abcdef", 3), "abc");
	ck_assert_str_eq(arena_strndup(&a, "ab", 30), "ab");
	ck_assert_ptr_null(arena_strndup(&a, NULL, 3));
	ck_assert(memcmp(arena_memdup(&a, "x\0y", 3), "x\0y", 3) == 0);
	ck_assert_ptr_nonnull(arena_memdup(&a, NULL, 0));
	text = arena_printf(&a, "%s-%05d", "n", 42);
	ck_assert_str_eq(text, "n-00042");
	ck_assert_uint_eq(strlen(arena_printf(&a, "%6000d", 1)), 6000);
	arena_deinit(&a);
}
END_TEST

static void assert_resident(const unsigned char *data, size_t bytes)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	uintptr_t start = (uintptr_t)data & ~(page - 1);
	size_t pages = ((uintptr_t)data + bytes - start + page - 1) / page;
	unsigned char *resident = calloc(pages, 1);

	ck_assert_ptr_nonnull(resident);
	ck_assert_int_eq(mincore((void *)start, pages * page, resident), 0);
	for (size_t i = 0; i < pages; i++)
		ck_assert_msg(resident[i] & 1, "page %zu of %zu would fault", i, pages);
	free(resident);
}

START_TEST(prepared_memory_does_not_fault)
{
	struct arena a;
	unsigned char *data;
	size_t prepared = 8 * MIB + 17;

	arena_init(&a, 4096, 0);
	ck_assert_ptr_nonnull(arena_alloc(&a, 100));
	ck_assert_int_eq(arena_prepare(&a, prepared), 0);
	data = arena_alloc(&a, prepared);
	ck_assert_ptr_nonnull(data);
	assert_resident(data, prepared);

	/* the next stop: the same memory, zero again, without a new chunk */
	memset(data, 0xa5, prepared);
	arena_reset(&a);
	ck_assert_int_eq(arena_prepare(&a, prepared), 0);
	ck_assert_ptr_eq(arena_alloc(&a, prepared), data);
	ck_assert(all_bytes_are(data, prepared, 0));
	arena_deinit(&a);
}
END_TEST

START_TEST(map_agrees_with_an_array)
{
	enum { KEYS = 1009, OPS = 20011 };
	uint64_t expected[KEYS] = { 0 }; /* 0: absent */
	uint64_t seed = 4099;
	uint64_t key;
	uint64_t value;
	size_t live = 0;
	size_t seen = 0;
	size_t pos = 0;
	struct map m = MAP_INIT;

	for (uint64_t i = 1; i <= OPS; i++) {
		size_t k = (size_t)(next_random(&seed) % KEYS);
		uint64_t address = 0x7f0000000000 + k * 16;

		if (next_random(&seed) % 2 == 0) {
			ck_assert(map_remove(&m, address) == (expected[k] != 0));
			expected[k] = 0;
		} else {
			ck_assert_int_eq(map_put(&m, address, i), 0);
			expected[k] = i;
		}
		k = (size_t)(next_random(&seed) % KEYS);
		value = 0;
		ck_assert(map_get(&m, 0x7f0000000000 + k * 16, &value) == (expected[k] != 0));
		ck_assert_uint_eq(value, expected[k]);
	}
	for (size_t k = 0; k < KEYS; k++)
		live += expected[k] != 0;
	ck_assert_uint_eq(m.count, live);
	while (map_next(&m, &pos, &key, &value)) {
		ck_assert_uint_eq(value, expected[(key - 0x7f0000000000) / 16]);
		seen++;
	}
	ck_assert_uint_eq(seen, live);
	ck_assert_uint_le(m.cap, 8192); /* churn does not make it grow */
	map_deinit(&m);
}
END_TEST

/* Blocks that come and go: each address once, few at a time. Searches must still end, in a table that stays small. */
START_TEST(map_survives_keys_that_never_return)
{
	enum { LIVE = 101, KEYS = 50021 };
	struct map m = MAP_INIT;
	uint64_t value;

	for (uint64_t i = 0; i < KEYS; i++) {
		if (map_put(&m, i * 4096, i) < 0)
			ck_abort_msg("out of memory");
		if (i >= LIVE && (!map_remove(&m, (i - LIVE) * 4096) || map_get(&m, (i - LIVE) * 4096, &value)))
			ck_abort_msg("key %llu was not removed", (unsigned long long)(i - LIVE));
	}
	ck_assert_uint_eq(m.count, LIVE);
	ck_assert_uint_le(m.cap, 1024);
	map_deinit(&m);
}
END_TEST

START_TEST(map_takes_every_key)
{
	static const uint64_t keys[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63 };
	struct map m;
	uint64_t value = 17;
	size_t pos = 0;

	map_init(&m);
	ck_assert(!map_get(&m, 0, &value));
	ck_assert(!map_remove(&m, 0));
	ck_assert(!map_next(&m, &pos, &value, &value));
	ck_assert_uint_eq(value, 17);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		ck_assert(!map_get(&m, keys[i], &value));
		ck_assert_int_eq(map_put(&m, keys[i], ~keys[i]), 0);
		ck_assert(map_get(&m, keys[i], &value));
		ck_assert_uint_eq(value, ~keys[i]);
	}
	ck_assert_int_eq(map_put(&m, 0, 5), 0);
	ck_assert_uint_eq(m.count, 5);
	map_clear(&m);
	ck_assert_uint_eq(m.count, 0);
	ck_assert(!map_get(&m, 0, &value));
	ck_assert_int_eq(map_put(&m, 0, 6), 0);
	ck_assert(map_get(&m, 0, &value));
	ck_assert_uint_eq(value, 6);
	map_deinit(&m);
	ck_assert(!map_get(&m, 0, &value));
	map_deinit(NULL);
}
END_TEST

START_TEST(map_clears_before_use)
{
	struct map m = MAP_INIT;

	map_clear(&m);
	ck_assert_uint_eq(m.count, 0);
	map_deinit(&m);
}
END_TEST

START_TEST(interned_strings_are_one)
{
	enum { NAMES = 10007 };
	const char **first = calloc(NAMES, sizeof(*first));
	struct intern *in;
	char name[32];

	ck_assert_ptr_nonnull(first);
	ck_assert_int_eq(intern_create(&in), 0);
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "function_%d", i);
		first[i] = intern_str(in, name);
		ck_assert_str_eq(first[i], name);
		ck_assert_ptr_ne(first[i], name);
	}
	for (int i = 0; i < NAMES; i++) {
		snprintf(name, sizeof(name), "function_%d()", i);
		ck_assert_ptr_eq(intern_strn(in, name, strlen(name) - 2), first[i]);
	}
	ck_assert_ptr_eq(intern_str(in, ""), intern_strn(in, "abc", 0));
	ck_assert_ptr_eq(intern_strn(in, "ab\0c", 4), intern_str(in, "ab"));
	ck_assert_ptr_null(intern_str(in, NULL));
	intern_destroy(in);
	intern_destroy(NULL);
	free(first);
}
END_TEST

START_TEST(clocks_run)
{
	uint64_t now = clock_now_ns();
	uint64_t boot = clock_boot_ns();
	uint64_t cpu = clock_self_cpu_ns();
	int64_t wall_s = clock_wall_ns() / (int64_t)NS_PER_S;

	ck_assert_int_ge(wall_s, time(NULL) - 1);
	ck_assert_int_le(wall_s, time(NULL) + 1);
	ck_assert_uint_ge(boot + NS_PER_S, now); /* boot time counts suspends too */
	while (clock_self_cpu_ns() < cpu + NS_PER_MS)
		;
	ck_assert_uint_ge(clock_now_ns(), now + NS_PER_MS / 2);
}
END_TEST

static TCase *plain_case(void)
{
	TCase *tc = tcase_create("plain");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, scope_closes_unless_taken);
	tcase_add_test(tc, scope_frees_unless_taken);
	tcase_add_test(tc, cleanup_keeps_errno);
	tcase_add_test(tc, err_holds_code_and_message);
	tcase_add_test(tc, err_may_be_null_and_never_says_success);
	tcase_add_test(tc, err_is_truncated_not_overrun);
	tcase_add_test(tc, clocks_run);
	return tc;
}

static TCase *container_case(void)
{
	TCase *tc = tcase_create("containers");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, str_grows);
	tcase_add_test(tc, str_formats_across_its_capacity);
	tcase_add_test(tc, str_remembers_failure);
	tcase_add_test(tc, vec_keeps_elements_while_growing);
	tcase_add_test(tc, vec_refuses_overflow_and_stays);
	tcase_add_test(tc, arena_is_aligned_zeroed_and_separate);
	tcase_add_test(tc, arena_respects_its_limit);
	tcase_add_test(tc, arena_copies);
	tcase_add_test(tc, prepared_memory_does_not_fault);
	tcase_add_test(tc, map_agrees_with_an_array);
	tcase_add_test(tc, map_survives_keys_that_never_return);
	tcase_add_test(tc, map_takes_every_key);
	tcase_add_test(tc, map_clears_before_use);
	tcase_add_test(tc, interned_strings_are_one);
	return tc;
}

int main(void)
{
	Suite *suite = suite_create("base");
	SRunner *runner = srunner_create(suite);
	int failures;

	suite_add_tcase(suite, plain_case());
	suite_add_tcase(suite, container_case());
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
