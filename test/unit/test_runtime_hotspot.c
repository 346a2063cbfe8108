/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HotSpot's counters on images: both byte orders, each collector's idea of what is live, and images that lie. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "../fixtures/hsperf_image.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/runtime.h"

enum { YOUNG, OLD, EDEN, S0, S1, OLD_USED, PLACES };

struct jvm {
	struct hsperf_image image;
	uint32_t at[PLACES], count[3], entry[3], exit[3];
	struct mem *mem;
	void *state;
	struct arena arena;
};

static struct region region(uint64_t start, uint64_t bytes, unsigned int flags, const char *path)
{
	return (struct region){ .start = start, .end = start + bytes, .flags = (uint16_t)flags, .path = path };
}

static void add_collector(struct jvm *j, int i)
{
	char name[64];

	snprintf(name, sizeof(name), "sun.gc.collector.%d.invocations", i);
	j->count[i] = hsperf_long(&j->image, name, 0);
	snprintf(name, sizeof(name), "sun.gc.collector.%d.time", i);
	hsperf_long(&j->image, name, 3000);
	snprintf(name, sizeof(name), "sun.gc.collector.%d.lastEntryTime", i);
	j->entry[i] = hsperf_long(&j->image, name, 0);
	snprintf(name, sizeof(name), "sun.gc.collector.%d.lastExitTime", i);
	j->exit[i] = hsperf_long(&j->image, name, 0);
}

static void fill_image(struct jvm *j, bool little, const char *policy)
{
	struct hsperf_image *im = &j->image;

	hsperf_init(im, little);
	hsperf_long(im, "java.threads.live", 23);
	hsperf_text(im, "sun.gc.cause", "No GC");
	if (policy)
		hsperf_text(im, "sun.gc.policy.name", policy);
	/* padded as G1 does it */
	j->at[YOUNG] = hsperf_long(im, "sun.gc.generation.0.capacity", 64 * 4096 + 24);
	j->at[OLD] = hsperf_long(im, "sun.gc.generation.1.capacity", 128 * 4096 + 8);
	j->at[EDEN] = hsperf_long(im, "sun.gc.generation.0.space.0.used", 4099);
	j->at[S0] = hsperf_long(im, "sun.gc.generation.0.space.1.used", 0);
	j->at[S1] = hsperf_long(im, "sun.gc.generation.0.space.2.used", 17);
	j->at[OLD_USED] = hsperf_long(im, "sun.gc.generation.1.space.0.used", 10007);
	for (int i = 0; i < 3; i++)
		add_collector(j, i);
	hsperf_long(im, "sun.gc.metaspace.capacity", 8 * 4096);
	hsperf_long(im, "sun.gc.metaspace.used", 101);
	hsperf_long(im, "sun.os.hrt.frequency", 1000);
	hsperf_long(im, "java.cls.loadedClasses", 7);
	hsperf_long(im, "java.cls.sharedLoadedClasses", 11);
	hsperf_long(im, "java.cls.unloadedClasses", 2);
	hsperf_long(im, "java.cls.sharedUnloadedClasses", 3);
	hsperf_text(im, "java.property.java.vm.version", "25.402-b06");
	hsperf_text(im, "java.property.java.version", "1.8.0_402");
}

static void probe_as(struct jvm *j, const struct region *r, int expected)
{
	struct mem_segment segment = { *r, j->image.data };
	struct runtime_query query = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(mem_fixture_create(&segment, 1, &j->mem), 0);
	query.mem = j->mem;
	j->state = NULL;
	ck_assert_int_eq(runtime_hotspot.probe(&query, &j->state, &err), expected);
	arena_init(&j->arena, 4096, 0);
}

static void jvm_init(struct jvm *j, bool little, const char *policy)
{
	struct region r = region(HSPERF_AT, HSPERF_BYTES, REGION_READ | REGION_WRITE | REGION_SHARED, HSPERF_PATH);

	fill_image(j, little, policy);
	probe_as(j, &r, 1);
}

static void jvm_deinit(struct jvm *j)
{
	if (j->state)
		runtime_hotspot.destroy(j->state);
	arena_deinit(&j->arena);
	mem_destroy(j->mem);
}

static int look_rc(struct jvm *j, struct runtime_stats *ret)
{
	struct err err = ERR_INIT;

	*ret = (struct runtime_stats){ NAN, NAN, NAN, NAN, NAN, NAN, NAN, false, NULL, 0 };
	return runtime_hotspot.read(j->state, j->mem, &j->arena, ret, &err);
}

static struct runtime_stats look(struct jvm *j)
{
	struct runtime_stats s;

	ck_assert_int_eq(look_rc(j, &s), 0);
	return s;
}

static double figure(const struct runtime_stats *s, const char *name)
{
	for (size_t i = 0; i < s->figure_count; i++) {
		if (strcmp(s->figures[i].name, name) == 0)
			return s->figures[i].value;
	}
	return NAN;
}

static void set_used(struct jvm *j, uint64_t eden, uint64_t survivors, uint64_t old)
{
	hsperf_put64(&j->image, j->at[EDEN], eden);
	hsperf_put64(&j->image, j->at[S0], survivors);
	hsperf_put64(&j->image, j->at[S1], 0);
	hsperf_put64(&j->image, j->at[OLD_USED], old);
}

/* The count-th collection of a collector, begun and ended at these ticks. */
static void collect(struct jvm *j, int collector, uint64_t count, uint64_t entry, uint64_t exit)
{
	hsperf_put64(&j->image, j->count[collector], count);
	hsperf_put64(&j->image, j->entry[collector], entry);
	hsperf_put64(&j->image, j->exit[collector], exit);
}

/* ---- figures ------------------------------------------------------------------------------------------------------------- */

START_TEST(figures_are_read)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, _i, "Copy:MSC");
	ck_assert_ptr_null(runtime_hotspot.version(j.state));
	s = look(&j);
	ck_assert_double_eq(s.in_use_bytes, 4099 + 17 + 10007);
	ck_assert_double_eq(s.free_bytes, 192 * 4096 - 14123);
	ck_assert_double_eq(s.committed_bytes, 200 * 4096); /* with the metaspace */
	ck_assert_double_eq(s.tasks, 23);
	ck_assert_double_eq(s.collections, 0);
	ck_assert_double_nan(s.live_bytes);
	ck_assert(!s.live_is_stale);
	ck_assert_double_eq(figure(&s, "heap_committed_bytes"), 192 * 4096);
	ck_assert_double_eq(figure(&s, "young_committed_bytes"), 64 * 4096);
	ck_assert_double_eq(figure(&s, "old_committed_bytes"), 128 * 4096);
	ck_assert_double_eq(figure(&s, "survivor_used_bytes"), 17);
	ck_assert_double_eq(figure(&s, "metaspace_used_bytes"), 101);
	ck_assert_double_nan(figure(&s, "class_space_used_bytes"));
	ck_assert_double_eq(figure(&s, "minor_collection_s"), 3);
	ck_assert_double_eq(figure(&s, "classes"), 13);
	ck_assert_str_eq(runtime_hotspot.version(j.state), "1.8.0_402");
	ck_assert_str_eq(runtime_hotspot.found_by(j.state), "mapping");
	jvm_deinit(&j);
}
END_TEST

START_TEST(other_mappings_are_not_it)
{
	static const struct {
		const char *path;
		unsigned int flags;
	} no[] = {
		{ HSPERF_PATH, REGION_READ | REGION_SHARED }, /* jstat, which looks at another */
		{ HSPERF_PATH, REGION_READ | REGION_WRITE },
		{ "/tmp/hsperfdata_someone/4099.bak", REGION_READ | REGION_WRITE | REGION_SHARED },
		{ "/tmp/hsperfdata_someone/", REGION_READ | REGION_WRITE | REGION_SHARED },
		{ "/tmp/hsperfdata_a/b/4099", REGION_READ | REGION_WRITE | REGION_SHARED },
		{ "/tmp/hsperfdata/4099", REGION_READ | REGION_WRITE | REGION_SHARED },
		{ "", REGION_READ | REGION_WRITE },
	};
	struct region r = region(HSPERF_AT, HSPERF_BYTES, no[_i].flags, no[_i].path);
	struct jvm j;

	fill_image(&j, true, "Copy:MSC");
	probe_as(&j, &r, 0);
	jvm_deinit(&j);
}
END_TEST

START_TEST(contradiction_is_left_out)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, "GarbageFirst");
	set_used(&j, 0, 0, 129 * 4096);
	s = look(&j);
	ck_assert_double_nan(s.in_use_bytes);
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_nan(s.collections);
	ck_assert_double_nan(figure(&s, "old_used_bytes"));
	ck_assert_double_eq(s.tasks, 23);
	jvm_deinit(&j);
}
END_TEST

/* ---- what is live ---------------------------------------------------------------------------------------------------------- */

START_TEST(full_collection_says_what_is_live)
{
	static const char *const policies[] = { "Copy:MSC", "ParScav:MSC", "GarbageFirst" };
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, policies[_i]);
	collect(&j, 0, 5, 100, 110);
	collect(&j, 1, 2, 50, 60);
	set_used(&j, 1000, 100, 20000);
	s = look(&j); /* what the second left cannot be told from what was promoted since */
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_eq(s.collections, 2);
	collect(&j, 1, 3, 200, 60); /* begun: the figures are of before it or torn */
	set_used(&j, 1000, 0, 7);
	s = look(&j);
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_eq(s.collections, 2);
	collect(&j, 1, 3, 200, 210);
	set_used(&j, 3, 0, 15013);
	s = look(&j);
	ck_assert_double_eq(s.live_bytes, 15013); /* without eden: that is new already */
	ck_assert_double_eq(s.collections, 3);
	collect(&j, 0, 6, 300, 310);
	set_used(&j, 3, 10, 18000); /* promoted */
	s = look(&j);
	ck_assert_double_eq(s.live_bytes, 15013);
	collect(&j, 1, 4, 400, 410);
	set_used(&j, 0, 0, 15101);
	s = look(&j);
	ck_assert_double_eq(s.live_bytes, 15101);
	ck_assert_double_eq(s.collections, 4);
	jvm_deinit(&j);
}
END_TEST

START_TEST(full_collection_before_the_first_look)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, false, "Copy:MSC");
	collect(&j, 0, 5, 40, 45);
	collect(&j, 1, 2, 50, 60);
	set_used(&j, 1000, 0, 20011);
	s = look(&j);
	ck_assert_double_eq(s.live_bytes, 20011);
	jvm_deinit(&j);
}
END_TEST

START_TEST(concurrent_cycles_are_lowest_behind_their_pauses)
{
	/* remark, cleanup, and the young pauses behind them that free old regions; then the next cycle */
	static const struct {
		uint64_t pauses, old;
		double live;
	} looks[] = {
		{ 4, 30000, NAN },   { 5, 30000, NAN },   { 6, 28000, NAN },   { 6, 20011, NAN },   { 6, 25000, NAN },
		{ 7, 40000, 20011 }, { 8, 39000, 20011 }, { 8, 21001, 20011 }, { 9, 41000, 21001 },
	};
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, "GarbageFirst");
	for (size_t i = 0; i < sizeof(looks) / sizeof(looks[0]); i++) {
		collect(&j, 2, looks[i].pauses, 100 * i, 100 * i + 1);
		set_used(&j, 5, 0, looks[i].old);
		s = look(&j);
		if (isnan(looks[i].live))
			ck_assert_double_nan(s.live_bytes);
		else
			ck_assert_double_eq(s.live_bytes, looks[i].live);
		ck_assert_double_eq(s.collections, (double)looks[i].pauses);
	}
	jvm_deinit(&j);
}
END_TEST

START_TEST(collectors_without_current_figures)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, _i ? "Something:New" : NULL);
	collect(&j, 1, 3, 200, 210);
	s = look(&j);
	ck_assert_double_nan(s.live_bytes);
	ck_assert_double_nan(s.in_use_bytes);
	ck_assert_double_nan(s.collections);
	ck_assert(s.live_is_stale);
	ck_assert_double_eq(figure(&s, "heap_committed_bytes"), 192 * 4096);
	ck_assert_double_eq(figure(&s, "major_collections"), 3);
	jvm_deinit(&j);
}
END_TEST

/* ---- images that lie --------------------------------------------------------------------------------------------------------- */

START_TEST(not_set_up_yet)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, "Copy:MSC");
	j.image.data[7] = 0;
	ck_assert_int_eq(look_rc(&j, &s), -EAGAIN);
	j.image.data[7] = 1;
	hsperf_put32(&j.image, 28, 0); /* no entry */
	ck_assert_int_eq(look_rc(&j, &s), -EAGAIN);
	hsperf_put32(&j.image, 28, j.image.entries);
	j.image.data[5] = 3; /* a layout of the future */
	ck_assert_int_eq(look_rc(&j, &s), -ENOTSUP);
	j.image.data[5] = 2;
	j.image.data[0] = 0;
	ck_assert_int_eq(look_rc(&j, &s), -EAGAIN);
	j.image.data[0] = 0xca;
	ck_assert_int_eq(look_rc(&j, &s), 0);
	jvm_deinit(&j);
}
END_TEST

START_TEST(truncated_at_every_length)
{
	for (uint32_t used = 0; used < 2000; used++) {
		struct runtime_stats s;
		struct jvm j;
		int rc;

		jvm_init(&j, _i, "Copy:MSC");
		hsperf_put32(&j.image, 8, used);
		memset(j.image.data + (used < 32 ? 32 : used), 0xff, HSPERF_BYTES - (used < 32 ? 32 : used));
		rc = look_rc(&j, &s);
		ck_assert(rc == 0 || rc == -EAGAIN);
		ck_assert(isnan(s.in_use_bytes) || s.in_use_bytes == 14123);
		jvm_deinit(&j);
	}
}
END_TEST

/* Each 32-bit word of the prologue and the first entries replaced by what hurts most. */
START_TEST(hostile_words)
{
	static const uint32_t values[] = { 0,          1,          19,         20,         31,
					   32,         0x7fff,     0x8000,     0x8001,     0x7fffffff,
					   0x80000000, 0xffffffff, 0xfffffff0, 0x00100000, 0x80000020 };

	for (size_t at = 4; at < 400; at += 4) {
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			struct runtime_stats s;
			struct jvm j;
			int rc;

			jvm_init(&j, _i, "GarbageFirst");
			hsperf_put32(&j.image, at, values[v]);
			rc = look_rc(&j, &s);
			ck_assert(rc == 0 || rc == -EAGAIN || rc == -ENOTSUP);
			jvm_deinit(&j);
		}
	}
}
END_TEST

/* An entry cannot lead back: one that names no length ends the walk, what stood before it counts. */
START_TEST(entry_without_end)
{
	struct jvm j;
	struct runtime_stats s;

	jvm_init(&j, true, "Copy:MSC");
	hsperf_put32(&j.image, 28, 0x7fffffff);
	s = look(&j);
	ck_assert_double_eq(s.in_use_bytes, 14123);
	hsperf_entry(&j.image, "last", 'J', 0, 8);
	hsperf_put32(&j.image, j.image.used - 40, 0); /* being made just now */
	s = look(&j);
	ck_assert_double_eq(s.in_use_bytes, 14123);
	jvm_deinit(&j);
}
END_TEST

START_TEST(random_images_end)
{
	uint64_t x = 0x9e3779b97f4a7c15ULL;

	for (int round = 0; round < 3000; round++) {
		struct runtime_stats s;
		struct jvm j;
		int rc;

		jvm_init(&j, round & 1, "GarbageFirst");
		for (int look_count = 0; look_count < 3; look_count++) {
			for (int i = 0; i < 8; i++) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				j.image.data[8 + x % (j.image.used - 8)] = (unsigned char)(x >> 40);
			}
			rc = look_rc(&j, &s);
			ck_assert(rc == 0 || rc == -EAGAIN);
			ck_assert(!(s.in_use_bytes > s.committed_bytes));
		}
		jvm_deinit(&j);
	}
}
END_TEST

/* ---- without a shared mapping ------------------------------------------------------------------------------------------------- */

#define LIB 0x7e0000000000ULL
#define ANON 0x7d0000000000ULL
enum { ROWS = 8, STRIDE = 48 };

static unsigned char lib[4096];

static int find_in_lib(void *arg, const char *name, uint64_t *ret)
{
	static const char *const names[] = { "gHotSpotVMStructs", "gHotSpotVMStructEntryArrayStride",
					     "gHotSpotVMStructEntryTypeNameOffset",
					     "gHotSpotVMStructEntryFieldNameOffset",
					     "gHotSpotVMStructEntryAddressOffset" };

	(void)arg;
	for (size_t i = 0; i < 5; i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret = LIB + i * 8;
			return 0;
		}
	}
	return -ENOENT;
}

static void put_lib(size_t at, uint64_t value)
{
	memcpy(lib + at, &value, sizeof(value));
}

static void put_row(size_t row, uint64_t type, uint64_t field, uint64_t address)
{
	put_lib(256 + row * STRIDE, type);
	put_lib(256 + row * STRIDE + 8, field);
	put_lib(256 + row * STRIDE + 40, address);
}

static void fill_lib(void)
{
	memset(lib, 0, sizeof(lib));
	put_lib(0, LIB + 256);
	put_lib(8, STRIDE);
	put_lib(16, 0);
	put_lib(24, 8);
	put_lib(32, 40);
	memcpy(lib + 1024, "PerfMemory", 11);
	memcpy(lib + 1040, "_start", 7);
	memcpy(lib + 1056, "_end", 5);
	memcpy(lib + 1072, "Thread", 7);
	put_row(0, LIB + 1072, LIB + 1040, LIB + 2048);
	put_row(1, LIB + 1024, LIB + 1056, LIB + 2048);
	put_row(2, LIB + 1024, LIB + 1040, LIB + 2056);
	put_lib(2056, ANON + 4096);
}

static void probe_private(struct jvm *j)
{
	struct mem_segment segments[] = {
		{ region(ANON, HSPERF_BYTES, REGION_READ | REGION_WRITE, ""), j->image.data },
		{ region(LIB, sizeof(lib), REGION_READ | REGION_WRITE, "/usr/lib/jvm/server/libjvm.so"), lib },
	};
	struct runtime_query query = { NULL, find_in_lib, NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(mem_fixture_create(segments, 2, &j->mem), 0);
	query.mem = j->mem;
	ck_assert_int_eq(runtime_hotspot.probe(&query, &j->state, &err), 1);
	arena_init(&j->arena, 4096, 0);
}

START_TEST(private_counters)
{
	struct jvm j;
	struct runtime_stats s;

	fill_image(&j, true, "Copy:MSC");
	memmove(j.image.data + 4096, j.image.data, j.image.used); /* a heap block, say, before it */
	fill_lib();
	probe_private(&j);
	ck_assert_str_eq(runtime_hotspot.found_by(j.state), "symbol");
	s = look(&j);
	ck_assert_double_eq(s.in_use_bytes, 14123);
	jvm_deinit(&j);
}
END_TEST

START_TEST(no_counters)
{
	static const struct {
		size_t at;
		uint64_t value;
	} lies[] = { { 2056, 0 },       { 2056, 0x1234 },        { 8, 0 },
		     { 8, UINT64_MAX }, { 16, UINT64_MAX },      { 32, 41 },
		     { 0, 0x10 },       { 256 + 2 * STRIDE, 0 }, { 256 + 2 * STRIDE + 8, 5 } };
	struct jvm j;
	struct runtime_stats s;

	fill_image(&j, true, "Copy:MSC");
	fill_lib();
	put_lib(lies[_i].at, lies[_i].value);
	probe_private(&j); /* a JVM all the same */
	ck_assert_int_eq(look_rc(&j, &s), -ENOTSUP);
	ck_assert_ptr_null(runtime_hotspot.version(j.state));
	jvm_deinit(&j);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("runtime_hotspot");
	TCase *t = tcase_create("hotspot");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, figures_are_read, 0, 2);
	tcase_add_loop_test(t, other_mappings_are_not_it, 0, 7);
	tcase_add_test(t, contradiction_is_left_out);
	tcase_add_loop_test(t, full_collection_says_what_is_live, 0, 3);
	tcase_add_test(t, full_collection_before_the_first_look);
	tcase_add_test(t, concurrent_cycles_are_lowest_behind_their_pauses);
	tcase_add_loop_test(t, collectors_without_current_figures, 0, 2);
	tcase_add_test(t, not_set_up_yet);
	tcase_add_loop_test(t, truncated_at_every_length, 0, 2);
	tcase_add_loop_test(t, hostile_words, 0, 2);
	tcase_add_test(t, entry_without_end);
	tcase_add_test(t, random_images_end);
	tcase_add_test(t, private_counters);
	tcase_add_loop_test(t, no_counters, 0, 9);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
