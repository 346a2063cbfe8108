/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading the ring: what blob.h promises, holes, and everything that a target may put there instead. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/mem.h"
#include "sites/probe/probe.h"

#define STATE 0x7f3000000000ULL
#define PAGE 4096ULL
#define BYTES ((sizeof(struct probe_state) + PAGE - 1) & ~(PAGE - 1))
#define SEEN_MAX 64

/* The target: what is read is a fixture, what is written goes into a file at the state's address, as with /proc/PID/mem. */
static struct probe_state *state;
static struct probe_place place;
static struct probe_ring ring;

static struct {
	uint64_t addresses[SEEN_MAX], stacks, slice_bytes;
	size_t count;
	int fails_at; /* the record at which take() fails; -1 none */
} seen;

static void setup(void)
{
	struct mem_segment segment = { .region = { .start = STATE, .end = STATE + BYTES, .flags = REGION_READ } };

	state = aligned_alloc(PAGE, BYTES);
	memset(state, 0, BYTES);
	segment.data = state;
	place = (struct probe_place)PROBE_PLACE_INIT;
	place.state = STATE;
	ck_assert_int_eq(mem_fixture_create(&segment, 1, &place.mem), 0);
	place.mem_fd = memfd_create("target", MFD_CLOEXEC);
	ck_assert_int_ge(place.mem_fd, 0);
	ring = (struct probe_ring){ 0 };
	memset(&seen, 0, sizeof seen);
	seen.fails_at = -1;
}

static void teardown(void)
{
	probe_ring_deinit(&ring);
	close(place.mem_fd);
	mem_destroy(place.mem);
	free(state);
}

static struct probe_record *cell(uint64_t position)
{
	return (void *)(state->ring + position % PROBE_CELLS * PROBE_CELL);
}

static struct probe_record *put(uint64_t position, uint32_t cells, uint8_t kind, uint64_t address)
{
	struct probe_record *r = cell(position);

	*r = (struct probe_record){ .seq = position + 1, .cells = cells, .kind = kind, .address = address };
	return r;
}

/* Reserved, and never finished: what lies there is a round old. */
static void put_hole(uint64_t position, uint32_t cells)
{
	for (uint64_t i = 0; i < cells; i++)
		cell(position + i)->seq = position + i >= PROBE_CELLS ? position + i + 1 - PROBE_CELLS : 0;
}

static int take(void *arg, const struct probe_event *event)
{
	ck_assert_ptr_eq(arg, &seen);
	if (event->stack) {
		const unsigned char *end = ring.cells + ring.cell_cap * PROBE_CELL;

		ck_assert(event->slice + event->stack->slice_bytes <= end);
		for (uint32_t i = 0; i < event->stack->slice_bytes; i++)
			seen.slice_bytes += event->slice[i] != 0; /* all of it can be read, or the sanitizer says so */
		seen.stacks++;
	}
	if (seen.count < SEEN_MAX)
		seen.addresses[seen.count] = event->record->address;
	return (int)seen.count++ == seen.fails_at ? -ENOMEM : 0;
}

static ssize_t read_ring(void)
{
	return probe_ring_read(&ring, &place, take, &seen);
}

/* What was told the target. */
static uint64_t tail(void)
{
	uint64_t value = UINT64_MAX;

	ck_assert_int_eq(pread(place.mem_fd, &value, sizeof value, (off_t)(STATE + offsetof(struct probe_state, tail))),
			 sizeof value);
	return value;
}

static bool was_told(void)
{
	return lseek(place.mem_fd, 0, SEEK_END) > 0;
}

START_TEST(records_in_order)
{
	struct probe_record *r = put(1, 4, PROBE_TAKEN, 22);
	struct probe_stack *stack = (void *)(r + 1);

	ck_assert_int_eq(read_ring(), 0);
	ck_assert(!was_told());
	put(0, 1, PROBE_TAKEN, 11);
	stack->slice_bytes = 72;
	memset(stack + 1, 1, 72);
	put(5, 1, PROBE_GIVEN_BACK, 33);
	put(6, 1, PROBE_KEPT, 44);
	state->head = 7;
	ck_assert_int_eq(read_ring(), 4);
	for (uint64_t i = 0; i < 4; i++)
		ck_assert_uint_eq(seen.addresses[i], 11 * (i + 1));
	ck_assert_uint_eq(seen.stacks, 1);
	ck_assert_uint_eq(seen.slice_bytes, 72);
	ck_assert_uint_eq(tail(), 7);
	ck_assert_int_eq(read_ring(), 0);
	ck_assert_uint_eq(seen.count, 4);
}
END_TEST

/* Across the end of the array, behind a padding of any size; in the last round of counting, too. */
START_TEST(wraps)
{
	static const uint64_t rounds[] = { PROBE_CELLS, 7 * PROBE_CELLS, (1ULL << 40) * PROBE_CELLS };
	uint64_t end = rounds[_i];

	for (uint32_t pad = 0; pad < 20; pad++) {
		ring.tail = end - pad - 1;
		put(end - pad - 1, 1, PROBE_TAKEN, 1);
		if (pad > 0)
			put(end - pad, pad, PROBE_PAD, 0);
		memset(cell(end), 7, 40 * PROBE_CELL);
		put(end, 40, PROBE_TAKEN, 2);
		((struct probe_stack *)(void *)cell(end + 1))->slice_bytes = 38 * PROBE_CELL;
		put(end + 40, 1, PROBE_TAKEN, 3);
		state->head = end + 41;
		seen.count = seen.slice_bytes = 0;
		ck_assert_int_eq(read_ring(), 3);
		for (uint64_t i = 0; i < 3; i++)
			ck_assert_uint_eq(seen.addresses[i], i + 1);
		ck_assert_uint_eq(seen.slice_bytes, 38 * PROBE_CELL);
		ck_assert_uint_eq(tail(), end + 41);
	}
}
END_TEST

START_TEST(a_full_ring)
{
	ring.tail = PROBE_CELLS / 2;
	for (uint64_t i = 0; i < PROBE_CELLS; i++)
		put(ring.tail + i, 1, PROBE_TAKEN, i);
	state->head = ring.tail + PROBE_CELLS;
	ck_assert_int_eq(read_ring(), PROBE_CELLS);
	ck_assert_uint_eq(tail(), state->head);
}
END_TEST

/* One that is being written is waited for: what comes behind it is not read before it, nor lost. */
START_TEST(waits_for_a_writer)
{
	put(0, 1, PROBE_TAKEN, 1);
	put_hole(1, 3);
	put(4, 1, PROBE_TAKEN, 3);
	state->head = 5;
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(tail(), 1);
	ck_assert_int_eq(read_ring(), 0);
	put(1, 3, PROBE_TAKEN, 2);
	ck_assert_int_eq(read_ring(), 2);
	ck_assert_uint_eq(seen.addresses[1], 2);
	ck_assert_uint_eq(seen.addresses[2], 3);
	ck_assert_uint_eq(ring.holes, 0);
	ck_assert_uint_eq(tail(), 5);
}
END_TEST

/* Its thread was killed. Time passes by setting back the moment from which it is waited for. */
START_TEST(goes_on_behind_a_dead_writer)
{
	uint64_t first = 3 * PROBE_CELLS - 2; /* over the end of the array */

	ring.tail = first;
	put_hole(first, 4);
	put(first + 4, 1, PROBE_TAKEN, 1);
	put_hole(first + 5, 1); /* another one, whose second begins now */
	put(first + 6, 1, PROBE_TAKEN, 2);
	state->head = first + 7;
	ck_assert_int_eq(read_ring(), 0);
	ck_assert_uint_ne(ring.stuck_ns, 0);
	ring.stuck_ns -= NS_PER_S / 2;
	ck_assert_int_eq(read_ring(), 0);
	ck_assert(!was_told());
	ring.stuck_ns -= NS_PER_S / 2;
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(seen.addresses[0], 1);
	ck_assert_uint_eq(ring.holes, 1);
	ck_assert_uint_eq(tail(), first + 5);
	ck_assert_int_eq(read_ring(), 0);
	ring.stuck_ns -= NS_PER_S;
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(seen.addresses[1], 2);
	ck_assert_uint_eq(ring.holes, 2);
	ck_assert_uint_eq(tail(), state->head);
}
END_TEST

/* With nothing behind it there is nothing to go on to: as soon as there is, without another second. */
START_TEST(a_hole_at_the_end)
{
	put_hole(0, 2);
	state->head = 2;
	ck_assert_int_eq(read_ring(), 0);
	ring.stuck_ns -= 2 * NS_PER_S;
	ck_assert_int_eq(read_ring(), 0);
	put(2, 1, PROBE_TAKEN, 1);
	state->head = 3;
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(ring.holes, 1);
	ck_assert_uint_eq(tail(), 3);
}
END_TEST

/* A length that cannot be is no record: as if it were not finished. */
START_TEST(hostile_lengths)
{
	static const uint32_t lengths[] = { 0, 4, PROBE_CELLS, UINT32_MAX };
	static const uint8_t kinds[] = { PROBE_TAKEN, PROBE_PAD, PROBE_KEPT, 200 };

	for (size_t i = 0; i < sizeof kinds; i++) {
		put(ring.tail, lengths[_i], kinds[i], 1);
		put(ring.tail + 2, 1, PROBE_TAKEN, 2);
		state->head = ring.tail + 3;
		ck_assert_int_eq(read_ring(), 0);
		ring.stuck_ns -= NS_PER_S;
		ck_assert_int_eq(read_ring(), 1);
		ck_assert_uint_eq(seen.addresses[i], 2);
		ck_assert_uint_eq(tail(), state->head);
	}
	ck_assert_uint_eq(ring.holes, sizeof kinds);
}
END_TEST

/* More than the record, more than any, or no number of words: it is left out, and the next one is read. */
START_TEST(hostile_slices)
{
	static const struct {
		uint32_t cells, bytes;
	} lies[] = { { 2, 8 },  { 3, 72 },         { 3, UINT32_MAX - 7 },
		     { 3, 12 }, { 3, UINT32_MAX }, { 2000, PROBE_SLICE_MAX + 8 } };
	struct probe_stack *stack = (void *)cell(1);

	put(0, lies[_i].cells, PROBE_TAKEN, 1);
	stack->slice_bytes = lies[_i].bytes;
	put(lies[_i].cells, 1, PROBE_TAKEN, 2);
	state->head = lies[_i].cells + 1;
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(seen.addresses[0], 2);
	ck_assert_uint_eq(seen.stacks, 0);
	ck_assert_uint_eq(tail(), state->head);
}
END_TEST

START_TEST(hostile_heads)
{
	static const uint64_t heads[] = { 0, 99, 100 + PROBE_CELLS + 1, 1ULL << 63, UINT64_MAX };

	ring.tail = 100;
	put(100, 1, PROBE_TAKEN, 1);
	state->head = heads[_i];
	ck_assert_int_eq(read_ring(), -EBADMSG);
	ck_assert_uint_eq(seen.count, 0);
	ck_assert(!was_told());
	ck_assert_uint_eq(ring.tail, 100);
}
END_TEST

/* Nothing but noise: whatever it does, it stays within the ring (the sanitizers watch), and ends. */
START_TEST(noise)
{
	uint64_t x = (uint64_t)_i + 1;

	for (int round = 0; round < 20; round++) {
		for (uint64_t i = 0; i < 500; i++) {
			struct probe_record *r = cell(ring.tail + i);
			uint64_t *words = (uint64_t *)(void *)r;

			for (size_t word = 0; word < PROBE_CELL / 8; word++)
				words[word] = x = x * 6364136223846793005ULL + 1442695040888963407ULL;
			r->seq = ring.tail + i + 1;
			r->cells = (uint32_t)(x >> 40) % 5;
			r->kind = (uint8_t)(x >> 60) % 5;
		}
		state->head = ring.tail + 500;
		ring.stuck_ns = 0;
		for (int again = 0; again < 500; again++) {
			ck_assert_int_ge(read_ring(), 0);
			if (ring.stuck_ns != 0)
				ring.stuck_ns -= NS_PER_S;
		}
		ck_assert_uint_le(ring.tail, state->head);
		ring.tail = state->head; /* what nothing can follow stays a hole */
	}
	ck_assert_uint_gt(seen.count, 1000);
}
END_TEST

/* A record is handed over once, also where that fails. */
START_TEST(an_error_of_take_ends_it)
{
	for (uint64_t i = 0; i < 3; i++)
		put(i, 1, PROBE_TAKEN, i);
	state->head = 3;
	seen.fails_at = 1;
	ck_assert_int_eq(read_ring(), -ENOMEM);
	ck_assert_uint_eq(tail(), 2);
	ck_assert_int_eq(read_ring(), 1);
	ck_assert_uint_eq(seen.addresses[2], 2);
}
END_TEST

START_TEST(a_target_that_is_gone)
{
	struct mem_segment segment = { .region = { .start = STATE,
						   .end = STATE + offsetof(struct probe_state, slot_count),
						   .flags = REGION_READ },
				       .data = state };

	place.state = 0x1000; /* nothing there */
	ck_assert_int_eq(read_ring(), -EFAULT);
	place.state = STATE;
	mem_destroy(place.mem);
	ck_assert_int_eq(mem_fixture_create(&segment, 1, &place.mem), 0); /* the ring is not there, its ends are */
	put(0, 1, PROBE_TAKEN, 1);
	state->head = 1;
	ck_assert_int_eq(read_ring(), -EFAULT);
	ck_assert_uint_eq(seen.count, 0);
	ck_assert_uint_eq(ring.tail, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("probe_ring");
	TCase *tc = tcase_create("ring");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, records_in_order);
	tcase_add_loop_test(tc, wraps, 0, 3);
	tcase_add_test(tc, a_full_ring);
	tcase_add_test(tc, waits_for_a_writer);
	tcase_add_test(tc, goes_on_behind_a_dead_writer);
	tcase_add_test(tc, a_hole_at_the_end);
	tcase_add_loop_test(tc, hostile_lengths, 0, 4);
	tcase_add_loop_test(tc, hostile_slices, 0, 6);
	tcase_add_loop_test(tc, hostile_heads, 0, 5);
	tcase_add_loop_test(tc, noise, 0, 4);
	tcase_add_test(tc, an_error_of_take_ends_it);
	tcase_add_test(tc, a_target_that_is_gone);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
