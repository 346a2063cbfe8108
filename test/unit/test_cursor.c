/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cursor.h"

START_TEST(cursor_reads_little_endian)
{
	static const unsigned char data[] = { 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
					      0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0xff };
	struct cursor c;
	unsigned char bytes[2] = { 0 };
	uint64_t u64 = 0;
	uint32_t u32 = 0;
	uint16_t u16 = 0;
	uint8_t u8 = 0;

	cursor_init(&c, data, sizeof(data));
	ck_assert(cursor_u8(&c, &u8) && u8 == 0x01);
	ck_assert(cursor_u16(&c, &u16) && u16 == 0x0302);
	ck_assert(cursor_u32(&c, &u32) && u32 == 0x07060504);
	ck_assert(cursor_u64(&c, &u64) && u64 == 0x0f0e0d0c0b0a0908);
	ck_assert_uint_eq(cursor_left(&c), 1);
	ck_assert(!cursor_u16(&c, &u16));
	ck_assert_uint_eq(u16, 0x0302);
	ck_assert(c.overrun);
	ck_assert(cursor_u8(&c, &u8) && u8 == 0xff); /* a failed read does not move */
	ck_assert(cursor_seek(&c, 2));
	ck_assert(cursor_bytes(&c, bytes, 2) && bytes[0] == 0x03 && bytes[1] == 0x04);
	ck_assert(cursor_skip(&c, 3));
	ck_assert(cursor_u8(&c, &u8) && u8 == 0x08);
}
END_TEST

START_TEST(cursor_never_leaves_its_bytes)
{
	unsigned char *data = malloc(3); /* of exactly that size, for the sanitizer */
	struct cursor c;
	uint64_t u64 = 17;
	uint32_t u32 = 17;
	uint8_t u8 = 17;

	ck_assert_ptr_nonnull(data);
	memcpy(data, "123", 3);
	cursor_init(&c, data, 3);
	ck_assert(!cursor_u64(&c, &u64) && u64 == 17);
	ck_assert(!cursor_u32(&c, &u32) && u32 == 17);
	ck_assert(!cursor_skip(&c, SIZE_MAX));
	ck_assert(!cursor_bytes(&c, data, SIZE_MAX));
	ck_assert(!cursor_seek(&c, 4));
	ck_assert_uint_eq(c.pos, 0);
	ck_assert(!cursor_lit(&c, "1234"));
	ck_assert(cursor_dec(&c, &u64) && u64 == 123);
	ck_assert(!cursor_dec(&c, &u64) && u64 == 123);
	ck_assert(cursor_seek(&c, 3));
	ck_assert(!cursor_u8(&c, &u8) && u8 == 17);
	free(data);

	cursor_init(&c, NULL, 0);
	ck_assert(!cursor_u8(&c, &u8));
	ck_assert(cursor_bytes(&c, &u8, 0));
	ck_assert(cursor_lit(&c, ""));
	ck_assert(!cursor_hex(&c, &u64));
	cursor_blanks(&c);
}
END_TEST

START_TEST(cursor_reads_proc_text)
{
	static const char text[] = "7f00-7fA0 rw-p  00001000 fd:01 42\t/tmp/a b\n\nVmRSS:\t  123 kB";
	struct cursor c;
	const char *at = NULL;
	size_t len = 0;
	uint64_t value = 0;

	cursor_init(&c, text, sizeof(text) - 1);
	ck_assert(cursor_hex(&c, &value) && value == 0x7f00);
	ck_assert(!cursor_lit(&c, "+"));
	ck_assert(cursor_lit(&c, "-"));
	ck_assert(cursor_hex(&c, &value) && value == 0x7fa0);
	ck_assert(cursor_word(&c, &at, &len) && len == 4 && memcmp(at, "rw-p", 4) == 0);
	ck_assert(cursor_hex(&c, &value) && value == 0x1000);
	ck_assert(cursor_word(&c, &at, &len) && len == 5 && memcmp(at, "fd:01", 5) == 0);
	ck_assert(cursor_dec(&c, &value) && value == 42);
	ck_assert(!cursor_dec(&c, &value) && value == 42);
	cursor_blanks(&c);
	ck_assert(cursor_line(&c, &at, &len) && len == 8 && memcmp(at, "/tmp/a b", 8) == 0);
	ck_assert(!cursor_word(&c, &at, &len)); /* the line is empty: words of the next one are not its own */
	ck_assert(!cursor_dec(&c, &value));
	ck_assert(cursor_line(&c, &at, &len) && len == 0);
	ck_assert(cursor_lit(&c, "VmRSS:"));
	ck_assert(cursor_dec(&c, &value) && value == 123);
	ck_assert(cursor_line(&c, &at, &len) && len == 3 && memcmp(at, " kB", 3) == 0);
	ck_assert(!cursor_line(&c, &at, &len));
	ck_assert(!c.overrun);
}
END_TEST

START_TEST(cursor_refuses_numbers_that_overflow)
{
	static const struct {
		const char *text;
		bool hex;
		bool fits;
	} cases[] = {
		{ "18446744073709551615", false, true },  { "18446744073709551616", false, false },
		{ "99999999999999999999", false, false }, { "ffffffffffffffff", true, true },
		{ "10000000000000000", true, false },     { "000000000000000000000ffffffffffffffff", true, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cursor c;
		uint64_t value = 17;

		cursor_init(&c, cases[i].text, strlen(cases[i].text));
		ck_assert((cases[i].hex ? cursor_hex(&c, &value) : cursor_dec(&c, &value)) == cases[i].fits);
		ck_assert_uint_eq(value, cases[i].fits ? UINT64_MAX : 17);
		ck_assert_uint_eq(c.pos, cases[i].fits ? strlen(cases[i].text) : 0);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cursor");
	TCase *tc = tcase_create("cursor");
	SRunner *runner = srunner_create(suite);
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, cursor_reads_little_endian);
	tcase_add_test(tc, cursor_never_leaves_its_bytes);
	tcase_add_test(tc, cursor_reads_proc_text);
	tcase_add_test(tc, cursor_refuses_numbers_that_overflow);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
