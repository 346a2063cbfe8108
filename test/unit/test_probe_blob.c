/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The blob, run in this process: what it samples and how often, and which blocks of which functions it follows. Statistical bounds are 6 standard deviations (p < 1e-8 each).
 */
#include "../fixtures/probe_fakes.h"

static const size_t sizes[] = { 0, 1, 16, 100, 1000, 5000, 60000 };
static const uint64_t means[] = { 64, 512, 4096, 65536, 524288 };

START_TEST(samples_by_bytes)
{
	uint64_t mean = means[_i];

	host_set_mean(&host, mean);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		uint64_t count = OPERATIONS / 5, sampled = sampled_of(count, sizes[i]);

		check_rate(sampled, count, sizes[i] ? (double)sizes[i] : 1, (double)mean);
	}
	check_balance();
}
END_TEST

/* All entries that a thread could have are other threads': each block is judged alone, with the same probability. */
START_TEST(samples_without_an_entry)
{
	host_set_mean(&host, 4096);
	for (size_t i = 0; i < PROBE_THREADS; i++)
		host.state->threads[i].owner = 8 * (i + 1);
	check_rate(sampled_of(OPERATIONS / 10, 500), OPERATIONS / 10, 500, 4096);
	check_balance();
}
END_TEST

/* A thread that left the slow path by longjmp left its countdown negative. */
START_TEST(recovers_a_countdown_left_negative)
{
	uint64_t sampled = 0, count = OPERATIONS / 10;

	host_set_mean(&host, 4096);
	for (uint64_t i = 0; i < count; i++) {
		for (size_t j = 0; j < PROBE_THREADS && i % 8 == 0; j++)
			if (host.state->threads[j].owner != 0) {
				host.state->threads[j].remaining = -5;
				break;
			}
		sampled += sampled_of(1, 500);
	}
	check_rate(sampled, count, 500, 4096);
}
END_TEST

struct sum {
	double weight, variance;
};

static void add_weight(void *arg, const struct probe_record *r)
{
	struct sum *sum = arg;
	double size = (double)r->size, weight;

	if (r->kind != PROBE_TAKEN)
		return;
	weight = r->mean ? size / -expm1(-size / (double)r->mean) : size;
	sum->weight += weight;
	sum->variance += weight * (weight - size);
}

START_TEST(mixed_sizes_are_unbiased)
{
	struct sum sum = { 0 };
	double truth = 0;
	uint64_t x = 1;

	host_set_mean(&host, 4096);
	for (int i = 0; i < OPERATIONS; i++) {
		size_t size;

		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		size = 1 + (x >> 40) % (16UL << (x >> 60));
		truth += (double)size;
		p_free(p_malloc(size));
		if (i % 128 == 0)
			host_drain(&host, add_weight, &sum);
		if (i == OPERATIONS / 2) /* a thread's mean holds for its gap; the new one from the next on */
			host.state->mean_bytes = 32768;
	}
	host_drain(&host, add_weight, &sum);
	ck_assert_uint_eq(host.state->counters.dropped_ring, 0);
	ck_assert_msg(fabs(sum.weight - truth) <= SIGMAS * sqrt(sum.variance), "%g, truth %g +- %g", sum.weight, truth,
		      sqrt(sum.variance));
}
END_TEST

START_TEST(large_always)
{
	host_set_mean(&host, 1UL << 40);
	for (size_t i = 0; i < 200; i++) {
		void *block = p_malloc(HOST_LARGE + i);

		ck_assert_str_eq(records(), "T");
		ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(block));
		ck_assert_uint_eq(seen.record.size, HOST_LARGE + i);
		ck_assert_uint_eq(seen.record.mean, 0);
		ck_assert_uint_eq(seen.record.function, PROBE_MALLOC);
		p_malloc(HOST_LARGE - 1);
		ck_assert_str_eq(records(), "");
		p_free(block);
		ck_assert_str_eq(records(), "G");
		ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(block));
		ck_assert_uint_eq(fake_last, HOST_ADDRESS(block));
	}
	p_free(NULL);
	ck_assert_uint_eq(fake_last, 0);
	check_balance();
}
END_TEST

/* Every function that takes or gives back: its arguments come through, its result comes back, its block is followed. */
START_TEST(every_function)
{
	size_t n = HOST_LARGE + 7;
	void *block = NULL;

	for (int i = PROBE_VALLOC; i <= PROBE_NEW_ARRAY_ALIGNED_NOTHROW; i++) {
		if (i == PROBE_NEW_ARRAY || i == PROBE_NEW_ARRAY_NOTHROW)
			continue; /* there is no nothrow form here: see new_never_throws_through() */
		block = THUNK(i, void *(*)(size_t, const char *))(n, "");
		ck_assert_uint_eq(fake_last, n);
		ck_assert_msg(!strcmp(records(), "T") && seen.record.address == HOST_ADDRESS(block), "function %d", i);
	}
	for (int i = PROBE_DELETE; i <= PROBE_DELETE_ARRAY_SIZED_ALIGNED; i++) {
		block = p_malloc(n);
		THUNK(i, void (*)(void *, size_t, size_t))(block, n, 16);
		ck_assert_msg(!strcmp(records(), "TG") && fake_last == HOST_ADDRESS(block), "function %d", i);
	}
	block = p_calloc(n, 3);
	ck_assert_uint_eq(fake_last, 3 * n);
	ck_assert_str_eq(records(), "T");
	ck_assert_uint_eq(seen.record.size, 3 * n);
	THUNK(PROBE_CFREE, void (*)(void *))(block);
	ck_assert_str_eq(records(), "G");
	p_calloc(SIZE_MAX, 16); /* overflows: passed on */
	p_reallocarray(NULL, SIZE_MAX, 16);
	ck_assert_str_eq(records(), "");
	THUNK(PROBE_MEMALIGN, void *(*)(size_t, size_t))(64, n);
	THUNK(PROBE_ALIGNED_ALLOC, void *(*)(size_t, size_t))(64, n);
	ck_assert_str_eq(records(), "TT");
	ck_assert_int_eq(THUNK(PROBE_POSIX_MEMALIGN, int (*)(void **, size_t, size_t))(&block, 64, n), 0);
	ck_assert_str_eq(records(), "T");
	ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(block));
	fake_fails = true;
	ck_assert_int_eq(THUNK(PROBE_POSIX_MEMALIGN, int (*)(void **, size_t, size_t))(&block, 64, n), ENOMEM);
	errno = 0;
	ck_assert_ptr_null(p_malloc(n));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_str_eq(records(), "");
	check_balance();
}
END_TEST

START_TEST(new_never_throws_through)
{
	void *(*p_new)(size_t) = THUNK(PROBE_NEW, void *(*)(size_t));

	thrown_for = NULL;
	ck_assert_ptr_nonnull(p_new(HOST_LARGE));
	ck_assert_str_eq(records(), "T");
	ck_assert_ptr_null(thrown_for);
	fake_fails = true;
	p_new(HOST_LARGE);
	ck_assert_ptr_nonnull(thrown_for); /* reached by a jump, so that what it throws finds the caller */
	fake_fails = false;
	THUNK(PROBE_NEW_ARRAY, void *(*)(size_t))(HOST_LARGE);
	ck_assert_str_eq(records(), "");
	ck_assert_uint_eq(host.state->counters.unsampled, 1);
	check_balance();
}
END_TEST

START_TEST(realloc_of_a_sampled_block)
{
	void *a, *b;

	host_set_mean(&host, 1UL << 40);
	a = p_realloc(NULL, HOST_LARGE);
	ck_assert_str_eq(records(), "T");
	b = p_realloc(a, 100); /* not sampled again */
	ck_assert_str_eq(records(), "G");
	ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(a));
	a = p_realloc(b, HOST_LARGE);
	ck_assert_str_eq(records(), "T");
	b = p_reallocarray(a, HOST_LARGE, 2);
	ck_assert_str_eq(records(), "GT");
	ck_assert_uint_eq(seen.record.size, 2 * HOST_LARGE);
	fake_fails = true;
	errno = 0;
	ck_assert_ptr_null(p_realloc(b, HOST_LARGE));
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_str_eq(records(), "GK");
	ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(b));
	ck_assert_ptr_null(p_realloc(b, 100)); /* one that is not sampled itself */
	ck_assert_str_eq(records(), "GK");
	check_balance();
	ck_assert_uint_eq(host_live(&host), 1);
	ck_assert_ptr_null(p_realloc(b, 0)); /* frees it */
	ck_assert_str_eq(records(), "G");
	check_balance();
	ck_assert_uint_eq(host_live(&host), 0);
}
END_TEST

struct pair {
	struct probe_record records[2];
	size_t count;
};

static void add_to_pair(void *arg, const struct probe_record *r)
{
	struct pair *p = arg;

	if (p->count < 2)
		p->records[p->count] = *r;
	p->count++;
}

static struct pair next_pair(void)
{
	struct pair p = { 0 };

	host_drain(&host, add_to_pair, &p);
	ck_assert_uint_eq(p.count, 2);
	ck_assert_uint_eq(p.records[0].kind, PROBE_GIVEN_BACK);
	return p;
}

/* By them the reader sees that a block was given back and taken by one call: it is as old as it was. */
START_TEST(both_records_of_a_call_have_one_caller)
{
	void *a = p_malloc(HOST_LARGE);
	uint64_t other, freed;
	struct pair p;

	records();
	other = seen.record.pc;
	a = p_realloc(a, HOST_LARGE);
	p = next_pair();
	ck_assert_uint_eq(p.records[1].kind, PROBE_TAKEN);
	ck_assert_uint_eq(p.records[1].address, HOST_ADDRESS(a));
	ck_assert_uint_ne(p.records[0].pc, 0);
	ck_assert_uint_ne(p.records[0].pc, other);
	ck_assert_uint_ne(p.records[0].sp, 0);
	ck_assert_uint_eq(p.records[0].pc, p.records[1].pc);
	ck_assert_uint_eq(p.records[0].sp, p.records[1].sp);
	fake_fails = true;
	p_realloc(a, HOST_LARGE);
	p = next_pair();
	ck_assert_uint_eq(p.records[1].kind, PROBE_KEPT);
	ck_assert_uint_eq(p.records[0].pc, p.records[1].pc);
	ck_assert_uint_eq(p.records[0].sp, p.records[1].sp);
	fake_fails = false;
	p_free(a);
	ck_assert_str_eq(records(), "G");
	freed = seen.record.pc;
	ck_assert_uint_ne(freed, 0);
	ck_assert_uint_ne(freed, p.records[0].pc);
}
END_TEST

START_TEST(mappings)
{
	int own = MAP_PRIVATE | MAP_ANONYMOUS, access = PROT_READ | PROT_WRITE;
	void *a, *b;

	p_mmap(NULL, HOST_LARGE, access, MAP_PRIVATE, -1, 0x5000);
	p_mmap(NULL, HOST_LARGE, access, MAP_SHARED | MAP_ANONYMOUS, -1, 0x5000);
	p_mmap(NULL, HOST_LARGE, PROT_NONE, own, -1, 0x5000);
	ck_assert_str_eq(records(), "");
	a = p_mmap(NULL, HOST_LARGE, access, own | MAP_NORESERVE, -1, 0x5000);
	ck_assert_str_eq(records(), "T");
	fake_fails = true;
	ck_assert_ptr_eq(p_mmap(NULL, HOST_LARGE, access, own, -1, 0x5000), MAP_FAILED);
	ck_assert_ptr_eq(p_sbrk((intptr_t)HOST_LARGE), MAP_FAILED);
	ck_assert_str_eq(records(), "");
	ck_assert_int_eq(p_munmap(a, 5), -1);
	ck_assert_ptr_eq(p_mremap(a, HOST_LARGE, HOST_LARGE * 2, MREMAP_MAYMOVE), MAP_FAILED);
	ck_assert_str_eq(records(), "GKGK");
	fake_fails = false;
	b = p_mremap(a, HOST_LARGE, HOST_LARGE * 2, MREMAP_MAYMOVE);
	ck_assert_str_eq(records(), "GT");
	ck_assert_uint_eq(seen.record.size, HOST_LARGE * 2);
	p_mremap(a, HOST_LARGE, HOST_LARGE * 2, MREMAP_MAYMOVE); /* a file's, perhaps */
	ck_assert_str_eq(records(), "");
	ck_assert_int_eq(p_munmap(b, HOST_LARGE * 2), 0);
	ck_assert_str_eq(records(), "G");
	p_sbrk(-(intptr_t)HOST_LARGE);
	p_sbrk(0);
	ck_assert_str_eq(records(), "");
	p_sbrk((intptr_t)HOST_LARGE);
	ck_assert_str_eq(records(), "T");
	check_balance();
}
END_TEST

START_TEST(switched_off)
{
	void *block = p_malloc(HOST_LARGE);
	uint64_t slow;

	host_set_mean(&host, 64);
	p_malloc(1);
	records();
	host.state->enabled = 0;
	slow = host.state->counters.slow_calls;
	for (int i = 0; i < 1000; i++)
		p_malloc(i % 2 ? 1000 : HOST_LARGE);
	ck_assert_uint_eq(host.state->counters.slow_calls, slow);
	ck_assert_str_eq(records(), "");
	p_free(block);
	ck_assert_str_eq(records(), "G");
	host.state->enabled = 1;
	check_rate(sampled_of(OPERATIONS / 10, 100), OPERATIONS / 10, 100, 64);
	check_balance();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("probe_blob");
	TCase *tc = tcase_create("blob");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, samples_by_bytes, 0, sizeof means / sizeof *means);
	tcase_add_test(tc, samples_without_an_entry);
	tcase_add_test(tc, recovers_a_countdown_left_negative);
	tcase_add_test(tc, mixed_sizes_are_unbiased);
	tcase_add_test(tc, large_always);
	tcase_add_test(tc, every_function);
	tcase_add_test(tc, new_never_throws_through);
	tcase_add_test(tc, realloc_of_a_sampled_block);
	tcase_add_test(tc, both_records_of_a_call_have_one_caller);
	tcase_add_test(tc, mappings);
	tcase_add_test(tc, switched_off);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
