/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The blob, run in this process: that it harms nobody, whatever runs out, interrupts it or ends. Statistical bounds are 6 standard deviations (p < 1e-8 each).
 */
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "../fixtures/probe_fakes.h"

#define THREADS 8

START_TEST(a_full_ring_drops)
{
	struct probe_counters *c = &host.state->counters;
	void *first = p_malloc(HOST_LARGE);
	uint64_t taken = 1;

	while (c->dropped_ring == 0) {
		p_malloc(HOST_LARGE);
		taken++;
	}
	ck_assert_uint_eq(c->samples, taken - 1);
	check_balance(); /* the dropped one is not in the table */
	for (uint64_t i = 0; host.state->head - host.state->tail < PROBE_CELLS; i++)
		host.state->head++; /* a hole to the brim: writers that died */
	p_free(first);
	ck_assert_uint_eq(c->dropped_given_back, 1);
	check_balance();
	host.state->tail = host.state->head;
	p_malloc(HOST_LARGE);
	ck_assert_str_eq(records(), "T");
}
END_TEST

START_TEST(records_do_not_wrap)
{
	for (int i = 0; i < 20000; i++) {
		void *block = p_malloc(HOST_LARGE + 1);
		const char *kinds;

		memset(host.state->keys, 0, sizeof host.state->keys); /* each with its stack */
		p_free(block);
		kinds = records();
		ck_assert_msg(!strcmp(kinds, "TG"), "%d: %s", i, kinds);
		ck_assert_uint_eq(seen.record.address, HOST_ADDRESS(block));
	}
	ck_assert_uint_gt(host.state->head, 4 * PROBE_CELLS);
	ck_assert_uint_gt(host.pads, 0);
	ck_assert_uint_gt(host.state->counters.slices, 15000);
}
END_TEST

START_TEST(a_full_bucket_drops)
{
	uint64_t next = 0x100000000000 + atomic_load(&fake_next);
	uint64_t *ways = host.state->table[PROBE_BUCKET_OF(next)];

	for (int i = 0; i < PROBE_BUCKET_WAYS; i++)
		ways[i] = 0x1000 + (uint64_t)i;
	ck_assert_uint_eq(HOST_ADDRESS(p_malloc(HOST_LARGE)), next);
	ck_assert_str_eq(records(), "");
	ck_assert_uint_eq(host.state->counters.dropped_table, 1);
	ck_assert_uint_eq(filter_sum(), 0);
	memset(ways, 0, sizeof host.state->table[0]);
	host.state->filter[PROBE_FILTER_OF(next + 16)] = 255; /* stuck: it stays so, and nothing is missed */
	p_free(p_malloc(HOST_LARGE));
	ck_assert_str_eq(records(), "TG");
	ck_assert_uint_eq(host.state->filter[PROBE_FILTER_OF(next + 16)], 255);
}
END_TEST

static _Atomic(void *) shelf[4096];
static atomic_int running;

static void *churn(void *arg)
{
	uint64_t x = HOST_ADDRESS(arg);

	for (int i = 0; i < OPERATIONS; i++) {
		void *block;

		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		block = p_malloc(1 + (x >> 33) % 200);
		if (x >> 61 == 0)
			block = p_realloc(block, 300);
		block = atomic_exchange(&shelf[x >> 52], block);
		p_free(block); /* mostly another thread's */
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

struct balance {
	uint64_t taken, given_back;
};

static void weigh(void *arg, const struct probe_record *r)
{
	struct balance *b = arg;

	b->taken += r->kind == PROBE_TAKEN;
	b->given_back += r->kind == PROBE_GIVEN_BACK;
}

START_TEST(threads_free_each_others_blocks)
{
	uint64_t real[PROBE_FUNCTION_COUNT] = { [PROBE_MALLOC] = HOST_ADDRESS(malloc),
						[PROBE_FREE] = HOST_ADDRESS(free),
						[PROBE_REALLOC] = HOST_ADDRESS(realloc) };
	const struct probe_counters *c;
	struct balance b = { 0 };
	pthread_t threads[THREADS];

	host_remove(&host);
	host_place(&host, real);
	c = &host.state->counters;
	host_set_mean(&host, 4096);
	atomic_store(&running, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
	while (atomic_load(&running) > 0)
		host_drain(&host, weigh, &b);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < sizeof shelf / sizeof *shelf; i++) {
		p_free(shelf[i]);
		host_drain(&host, weigh, &b);
	}
	ck_assert_uint_eq(host_live(&host), 0);
	check_balance();
	ck_assert_uint_gt(c->samples, OPERATIONS * THREADS / 100);
	ck_assert_uint_eq(b.taken, c->samples);
	ck_assert_uint_eq(b.given_back + c->dropped_given_back, c->given_back);
	ck_assert_uint_eq(c->samples, c->given_back);
}
END_TEST

static atomic_ulong interruptions;

static void on_timer(int signal)
{
	(void)signal;
	for (int i = 0; i < 4; i++)
		p_free(p_malloc(500));
	atomic_fetch_add(&interruptions, 1);
}

START_TEST(signal_handlers_allocate)
{
	struct itimerval often = { { 0, 100 }, { 0, 100 } }, never = { 0 };
	struct sigaction action = { .sa_handler = on_timer, .sa_flags = SA_RESTART };
	uint64_t count = 0, samples;

	host_set_mean(&host, 1000); /* so that most of the time goes by in the slow path */
	atomic_store(&interruptions, 0);
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
	while (atomic_load(&interruptions) < 2000) {
		p_free(p_malloc(500));
		count++;
		host_drain(&host, NULL, NULL);
	}
	ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
	count += 4 * atomic_load(&interruptions);
	samples = host.state->counters.samples + host.state->counters.dropped_ring;
	check_rate(samples, count, 500, 1000);
	ck_assert_uint_eq(host_live(&host), 0);
	check_balance();
}
END_TEST

START_TEST(a_child_passes_through)
{
	void *block = p_malloc(HOST_LARGE);
	struct probe_counters before = host.state->counters;
	int status;
	pid_t child = fork();

	if (child == 0) {
		uint64_t calls = atomic_load(&fake_calls), freed = atomic_load(&fake_freed);

		for (int i = 0; i < 1000; i++)
			p_free(p_realloc(p_malloc(HOST_LARGE), 10));
		p_free(block);
		_exit(atomic_load(&fake_calls) == calls + 2000 && atomic_load(&fake_freed) == freed + 1001 &&
				      host.state->counters.slow_calls == 0 && host.state->head == 0 ?
			      0 :
			      1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_mem_eq(&before, &host.state->counters, sizeof before);
	p_free(block);
	ck_assert_str_eq(records(), "TG");
}
END_TEST

static bool can_be_written(uint64_t *word)
{
	int ends[2];
	bool can;

	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(write(ends[1], word, sizeof *word), sizeof *word);
	can = read(ends[0], word, sizeof *word) == sizeof *word;
	close(ends[0]);
	close(ends[1]);
	return can;
}

static void swap(uint64_t request)
{
	HOST_CALL(&host, host.header->swap, void (*)(uint64_t))(request);
	ck_assert_uint_eq(host.state->done, request);
	ck_assert_uint_eq(host.state->waiting, 0); /* nobody came to take the thread back: it went on by itself */
}

START_TEST(slots_are_swapped_and_restored)
{
	uint64_t *pages = mmap(NULL, 3 * HOST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *locked = pages + HOST_PAGE / 8, *gone = pages + 2 * HOST_PAGE / 8;
	uint64_t thunk = HOST_ADDRESS(host.text + host.header->thunk[PROBE_FREE]);
	struct probe_slot *s = host.state->slots;
	uint64_t *words[] = { pages, locked, pages + 1, gone, locked + 1, pages + 2 };

	for (size_t i = 0; i < 6; i++) {
		*words[i] = 4711;
		s[i] = (struct probe_slot){ HOST_ADDRESS(words[i]), 4711, PROBE_FREE, PROBE_SLOT_WANTED, 0, 0 };
	}
	s[1].protect = 1;
	s[2].original = 4712;
	s[5].function = PROBE_FUNCTION_COUNT;
	ck_assert_int_eq(mprotect(locked, HOST_PAGE, PROT_READ), 0);
	ck_assert_int_eq(munmap(gone, HOST_PAGE), 0);
	host.state->slot_count = 6;
	swap(2);
	ck_assert_int_eq(host.state->result, 0);
	ck_assert_uint_eq(s[0].state, PROBE_SLOT_SWAPPED);
	ck_assert_uint_eq(s[1].state, PROBE_SLOT_SWAPPED);
	for (size_t i = 2; i < 6; i++) /* 4: read-only, and nobody had said so */
		ck_assert_uint_eq(s[i].state, PROBE_SLOT_FAILED);
	ck_assert_uint_eq(*pages, thunk);
	ck_assert_uint_eq(*locked, thunk);
	ck_assert_uint_eq(pages[1], 4711);
	ck_assert(!can_be_written(locked));
	pages[0] = 1234; /* the linker was faster */
	for (size_t i = 0; i < 4; i++)
		s[i].state = PROBE_SLOT_UNWANTED;
	s[1].protect = 0; /* wrong again: nothing happens, and it is said */
	swap(3);
	ck_assert_uint_eq(pages[0], 1234);
	ck_assert_uint_eq(s[0].state, PROBE_SLOT_RESTORED);
	ck_assert_uint_eq(s[1].state, PROBE_SLOT_UNWANTED);
	ck_assert_uint_eq(s[3].state, PROBE_SLOT_RESTORED);
	s[1].protect = 1;
	swap(4);
	ck_assert_uint_eq(s[1].state, PROBE_SLOT_RESTORED);
	ck_assert_uint_eq(*locked, 4711);
	ck_assert(!can_be_written(locked));
	host.state->pid = -1;
	swap(5);
	ck_assert_int_lt(host.state->result, 0);
	munmap(pages, 2 * HOST_PAGE);
}
END_TEST

/* On its own, so that no register of the next call's caller holds the address: they are saved on that stack, too. */
static void __attribute__((noinline))
check_leads_nowhere(uint32_t function, uint64_t slot, bool swapped, const uint64_t *words)
{
	uint64_t thunk = HOST_ADDRESS(host.text + host.header->thunk[function]);

	ck_assert_uint_eq(slot, swapped ? thunk : 4711);
	for (const uint64_t *at = words - HOST_PAGE / 8; at < words; at++)
		ck_assert_msg(*at != thunk, "function %u, %td bytes below", function,
			      (const char *)words - (const char *)at);
}

/*
 * What is left on the stack by probe_swap() is looked at later: a thunk's address there would be taken for a copy that the program has made of a slot, and the
 * code would stay mapped for it.
 */
START_TEST(swapping_leaves_no_address_behind)
{
	uint64_t *page = mmap(NULL, HOST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *stack = mmap(NULL, 4 * HOST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const uint64_t *words = (const uint64_t *)(void *)(stack + 3 * HOST_PAGE);
	struct probe_slot *s = host.state->slots;

	for (uint32_t i = 0; i < PROBE_FUNCTION_COUNT; i++) {
		page[i] = 4711;
		s[i] = (struct probe_slot){ HOST_ADDRESS(page + i), 4711, i, PROBE_SLOT_WANTED, 1, 0 };
	}
	host.state->slot_count = PROBE_FUNCTION_COUNT;
	for (uint64_t request = 2; request < 4; request++) {
		host_call_on(&host, host.header->swap, stack + 3 * HOST_PAGE, request);
		ck_assert_uint_eq(host.state->done, request);
		ck_assert_uint_ne(words[-1], 0); /* the return address: this is where it ran */
		for (uint32_t i = 0; i < PROBE_FUNCTION_COUNT; i++) {
			ck_assert_uint_eq(s[i].state, request == 2 ? PROBE_SLOT_SWAPPED : PROBE_SLOT_RESTORED);
			check_leads_nowhere(i, page[i], request == 2, words);
			s[i].state = PROBE_SLOT_UNWANTED;
		}
	}
	munmap(stack, 4 * HOST_PAGE);
	munmap(page, HOST_PAGE);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("probe_blob_harm");
	TCase *tc = tcase_create("blob");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_full_ring_drops);
	tcase_add_test(tc, records_do_not_wrap);
	tcase_add_test(tc, a_full_bucket_drops);
	tcase_add_test(tc, threads_free_each_others_blocks);
	tcase_add_test(tc, signal_handlers_allocate);
	tcase_add_test(tc, a_child_passes_through);
	tcase_add_test(tc, slots_are_swapped_and_restored);
	tcase_add_test(tc, swapping_leaves_no_address_behind);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
