/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Picks of a walk, and what is made of them: against made-up heaps of which every fate is known. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../fixtures/heap_image.h"
#include "memwatch/heap.h"
#include "session/survivors.h"

/* ---- picks ---------------------------------------------------------------------------------------------------------------- */

static void offer(struct heap_picks *p, uint64_t address, uint64_t size)
{
	uint64_t hash = heap_pick_hash(address, p->salt);
	size_t index = heap_class_index(size);

	if (hash < p->below[index])
		heap_picks_add(p, index, address, size, hash);
}

static bool is_picked(const struct heap_picks *p, uint64_t address, uint64_t size)
{
	size_t index = heap_class_index(size);

	for (size_t i = 0; i < p->count[index]; i++)
		if (p->items[p->first[index] + i].address == address)
			return true;
	return false;
}

#define STRETCHES 16

/* Blocks side by side, as a heap has them: each stretch of them must be picked from as often. */
START_TEST(picks_are_uniform)
{
	static const uint64_t sizes[] = { 32, 144, 1040, 4096 };
	uint64_t size = sizes[_i], hits[STRETCHES] = { 0 }, blocks = 4096;
	uint16_t limit[HEAP_CLASS_COUNT] = { 0 };
	double chi2 = 0.0, expected;
	struct heap_picks p;

	limit[heap_class_index(size)] = 32;
	for (uint64_t salt = 1; salt <= 400; salt++) {
		heap_picks_init(&p, salt * 0x1234567);
		ck_assert_int_eq(heap_picks_begin(&p, limit), 0);
		for (uint64_t i = 0; i < blocks; i++)
			offer(&p, 0x555555559000 + i * size, size);
		ck_assert_uint_eq(p.count[heap_class_index(size)], 32);
		for (size_t i = 0; i < 32; i++)
			hits[(p.items[p.first[heap_class_index(size)] + i].address - 0x555555559000) / size /
			     (blocks / STRETCHES)]++;
		heap_picks_deinit(&p);
	}
	expected = 400.0 * 32.0 / STRETCHES;
	for (size_t i = 0; i < STRETCHES; i++)
		chi2 += ((double)hits[i] - expected) * ((double)hits[i] - expected) / expected;
	ck_assert_msg(chi2 < 37.7, "chi-square %.1f with 15 degrees of freedom, p < 0.001", chi2);
}
END_TEST

/* The picks are all blocks below the mark, whatever the order, and whatever was taken back in between. */
START_TEST(picks_are_those_below)
{
	uint16_t limit[HEAP_CLASS_COUNT] = { 0 };
	const uint64_t size = 144;
	size_t index = heap_class_index(size), below = 0;
	struct heap_picks p;

	limit[index] = 64;
	heap_picks_init(&p, 7);
	ck_assert_int_eq(heap_picks_begin(&p, limit), 0);
	for (uint64_t i = 0; i < 3000; i++) {
		offer(&p, 0x10000 + 1777 * i % 3000 * size, size);
		if (i == 1500) /* a torn window: read again */
			heap_picks_drop(&p, 0x10000, 0x10000 + 500 * size);
	}
	for (uint64_t i = 0; i < 3000; i++) {
		bool again = i < 500 && !is_picked(&p, 0x10000 + i * size, size);

		if (again)
			offer(&p, 0x10000 + i * size, size);
	}
	heap_picks_drop_block(&p, p.items[p.first[index]].address, size);
	ck_assert_uint_lt(p.count[index], 64);
	for (uint64_t i = 0; i < 3000; i++) {
		bool under = heap_pick_hash(0x10000 + i * size, 7) < p.below[index];

		below += under;
		ck_assert(under || !is_picked(&p, 0x10000 + i * size, size));
	}
	ck_assert_uint_eq(below, p.count[index] + 1U); /* but for the one that was found free */
	/* a class without a limit is not picked from */
	offer(&p, 0x10000, 64);
	ck_assert_uint_eq(p.count[heap_class_index(64)], 0);
	heap_picks_deinit(&p);
}
END_TEST

/* A walk offers every block in use and none that is free: where the limit does not matter, the picks are the heap. */
START_TEST(walk_picks_what_is_in_use)
{
	struct heap_picks p;
	struct heap_walk_options options = { .size_classes = true, .picks = &p };
	uint16_t limit[HEAP_CLASS_COUNT];
	struct heap_walker *w = NULL;
	struct arena arena;
	struct heap_stats s;
	struct image im;
	struct mem *mem;

	for (size_t i = 0; i < HEAP_CLASS_COUNT; i++)
		limit[i] = 4096;
	image_init(&im, &image_releases[_i]);
	ck_assert_int_eq(mem_fixture_create(im.places, IMAGE_PLACES, &mem), 0);
	ck_assert_int_eq(heap_probe(mem, &w, NULL), 1);
	arena_init(&arena, 4096, 0);
	heap_picks_init(&p, 0);
	for (int again = 0; again < 2; again++) {
		uint64_t picked = 0;

		ck_assert_int_eq(heap_picks_begin(&p, limit), 0);
		ck_assert_int_eq(heap_walk(w, mem, &options, &arena, &s), 0);
		for (size_t i = 0; i < s.class_count; i++) {
			size_t index = heap_class_index(s.classes[i].size);

			ck_assert_uint_eq(p.count[index], s.classes[i].in_use_blocks);
			picked += p.count[index];
			for (size_t k = 0; k < p.count[index]; k++) {
				const struct heap_pick *pick = &p.items[p.first[index] + k];
				struct heap_block b = { .address = pick->address,
							.start = pick->address,
							.size = pick->size,
							.state = HEAP_BLOCK_IN_USE };

				ck_assert_int_eq(heap_recheck(w, mem, &b, 1), 0);
				ck_assert_int_eq(b.state, HEAP_BLOCK_IN_USE);
				ck_assert_uint_ne(b.content, 0);
			}
		}
		ck_assert_uint_eq(picked, s.in_use_blocks);
		ck_assert_uint_gt(picked, 10);
	}
	heap_picks_deinit(&p);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

START_TEST(content_tells_blocks_apart)
{
	uint64_t block = 0x0101019988776655;

	ck_assert_int_eq(heap_content_compare(block, block), HEAP_CONTENT_SAME);
	ck_assert_int_eq(heap_content_compare(0, block), HEAP_CONTENT_UNKNOWN);
	ck_assert_int_eq(heap_content_compare(block, block ^ 0x20), HEAP_CONTENT_TOUCHED);
	ck_assert_int_eq(heap_content_compare(block, 0x0101019988771234), HEAP_CONTENT_TOUCHED);
	ck_assert_int_eq(heap_content_compare(block, 0x0101017766554433), HEAP_CONTENT_REPLACED);
	/* a block of one word: nothing else to go by */
	ck_assert_int_eq(heap_content_compare(0x55, 0x66), HEAP_CONTENT_REPLACED);
}
END_TEST

/* ---- a made-up heap -------------------------------------------------------------------------------------------------------- */

#define SLOTS 65536

struct shelf { /* one size class: freed places are taken again, the last one first, as an allocator does it */
	uint64_t size;
	uint64_t content[SLOTS]; /* 0: free */
	uint32_t vacant[SLOTS];
	size_t vacant_count, used, in_use;
};

struct world {
	struct survivors *survivors;
	struct shelf *shelves;
	size_t shelf_count;
	struct heap_stats heap;
	struct heap_size_class *classes;
	uint64_t random;
};

static uint64_t roll(struct world *w)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random;
}

static struct world world_of(const uint64_t *sizes, size_t count)
{
	struct world w = { .random = 4099, .shelf_count = count };

	w.shelves = calloc(count, sizeof(*w.shelves));
	w.classes = calloc(count, sizeof(*w.classes));
	ck_assert_ptr_nonnull(w.shelves);
	ck_assert_ptr_nonnull(w.classes);
	for (size_t i = 0; i < count; i++)
		w.shelves[i].size = sizes[i];
	ck_assert_int_eq(survivors_create(0.0, &w.survivors), 0);
	return w;
}

static void world_end(struct world *w)
{
	survivors_destroy(w->survivors);
	free(w->shelves);
	free(w->classes);
}

static uint32_t take(struct world *w, size_t shelf)
{
	struct shelf *s = &w->shelves[shelf];
	uint32_t slot = s->vacant_count ? s->vacant[--s->vacant_count] : (uint32_t)s->used++;

	ck_assert_uint_lt(slot, SLOTS);
	s->content[slot] = roll(w) | 0x0202020202020202;
	s->in_use++;
	return slot;
}

static void give(struct world *w, size_t shelf, uint32_t slot)
{
	struct shelf *s = &w->shelves[shelf];

	ck_assert_uint_ne(s->content[slot], 0);
	s->content[slot] = 0;
	s->vacant[s->vacant_count++] = slot;
	s->in_use--;
}

/* Takes a new block into the slot of a table, and frees the one that was there. */
static void replace(struct world *w, size_t shelf, uint32_t *at)
{
	give(w, shelf, *at);
	*at = take(w, shelf);
}

static uint64_t base_of(size_t shelf)
{
	return (uint64_t)(shelf + 1) << 32;
}

static void look_up(const struct world *w, struct heap_block *b, bool content)
{
	size_t shelf = (size_t)(b->address >> 32) - 1;
	const struct shelf *s = &w->shelves[shelf];
	uint64_t slot = (b->address - base_of(shelf)) / s->size;

	b->start = b->address;
	b->size = s->size;
	b->state = s->content[slot] ? HEAP_BLOCK_IN_USE : HEAP_BLOCK_FREE;
	b->content = content ? s->content[slot] : 0;
}

static void look_up_all(const struct world *w, struct heap_block *blocks, size_t count, bool content)
{
	for (size_t i = 0; i < count; i++) {
		ck_assert(i == 0 || blocks[i].address > blocks[i - 1].address || content);
		look_up(w, &blocks[i], content);
	}
}

static void world_walk(struct world *w, double t_s)
{
	struct heap_block blocks[SURVIVORS_MAX];
	struct heap_picks *picks = survivors_picks(w->survivors);
	size_t n = survivors_blocks(w->survivors, blocks, SURVIVORS_MAX);

	w->heap = (struct heap_stats){ .classes = w->classes, .complete = true };
	for (size_t i = 0; i < w->shelf_count; i++) {
		const struct shelf *s = &w->shelves[i];

		for (size_t slot = 0; picks && slot < s->used; slot++)
			if (s->content[slot])
				offer(picks, base_of(i) + slot * s->size, s->size);
		if (s->in_use)
			w->classes[w->heap.class_count++] = (struct heap_size_class){
				.size = s->size, .in_use_blocks = s->in_use, .in_use_bytes = s->in_use * s->size
			};
		w->heap.in_use_bytes += s->in_use * s->size;
	}
	look_up_all(w, blocks, n, false);
	survivors_seen(w->survivors, t_s, blocks, n, true);
	n = survivors_due(w->survivors, blocks, SURVIVORS_RECHECKED);
	look_up_all(w, blocks, n, true);
	survivors_seen(w->survivors, t_s, blocks, n, false);
	n = survivors_walked(w->survivors, t_s, &w->heap, blocks, SURVIVORS_FRESH);
	ck_assert_uint_le(n, SURVIVORS_FRESH);
	look_up_all(w, blocks, n, true);
	survivors_follow(w->survivors, blocks, n);
	survivors_fill(w->survivors, &w->heap);
}

static const struct heap_size_class *class_of(const struct world *w, uint64_t size)
{
	for (size_t i = 0; i < w->heap.class_count; i++) {
		const struct heap_size_class *c = &w->heap.classes[i];

		ck_assert_uint_le(c->freed_blocks, c->tracked_blocks);
		ck_assert((c->tracked_blocks == 0) == (isnan(c->leak_probability) != 0));
		ck_assert(isnan(c->leak_probability) || (c->leak_probability >= 0 && c->leak_probability <= 1));
		if (c->size == size)
			return c;
	}
	ck_abort_msg("no class %u", (unsigned)size);
}

#define TURN_S 0.2

/* (a) A class leaks while 1,000 blocks of the same class turn over, in the places of each other. */
START_TEST(leak_under_churn_of_its_class)
{
	static const int turnovers[] = { 100, 1000,
					 5000 }; /* in a turn: a tenth of the live ones up to many times all */
	const uint64_t sizes[] = { 144 };
	struct world w = world_of(sizes, 1);
	const struct heap_size_class *c;
	uint32_t live[1000];

	for (size_t i = 0; i < 1000; i++)
		live[i] = take(&w, 0);
	for (int turn = 1; turn <= 150; turn++) {
		for (int i = 0; i < turnovers[_i]; i++) {
			replace(&w, 0, &live[roll(&w) % 1000]);
			if (i % (turnovers[_i] / 50) == 0) /* 50 leaked a turn, in between */
				take(&w, 0);
		}
		world_walk(&w, turn * TURN_S);
	}
	c = class_of(&w, 144);
	ck_assert_msg(c->leak_probability >= 0.9, "%.3f: %u of %u freed", c->leak_probability, c->freed_blocks,
		      c->tracked_blocks);
	ck_assert_uint_eq(survivors_hot_class(w.survivors), 144);
	ck_assert_double_gt(c->age_s, 1.0);
	ck_assert_double_lt(c->age_s, 30.0);
	world_end(&w);
}
END_TEST

/* (b) A large table that was there before never changes, its class churns a little; another class leaks. */
START_TEST(static_table_is_not_named)
{
	const uint64_t sizes[] = { 64, 144 };
	struct world w = world_of(sizes, 2);
	const struct heap_size_class *c;
	uint32_t live[300];

	for (int i = 0; i < 50000; i++)
		take(&w, 1);
	for (size_t i = 0; i < 300; i++)
		live[i] = take(&w, 1);
	for (int turn = 1; turn <= 150; turn++) {
		for (int i = 0; i < 200; i++)
			replace(&w, 1, &live[roll(&w) % 300]);
		for (int i = 0; i < 20; i++)
			take(&w, 0);
		world_walk(&w, turn * TURN_S);
	}
	c = class_of(&w, 144);
	ck_assert_msg(!(c->leak_probability >= 0.5), "the table: %.3f", c->leak_probability);
	c = class_of(&w, 64);
	ck_assert_msg(c->leak_probability >= 0.9, "the leak: %.3f", c->leak_probability);
	ck_assert_uint_eq(survivors_hot_class(w.survivors), 64);
	world_end(&w);
}
END_TEST

/* (c) A cache that fills looks like a leak; once it is full, it is named no more. */
START_TEST(full_cache_is_not_named)
{
	const uint64_t sizes[] = { 1280 };
	struct world w = world_of(sizes, 1);
	static uint32_t entries[6000];
	size_t count = 0;

	for (int turn = 1; turn <= 300; turn++) {
		for (int i = 0; i < 60 && count < 6000; i++)
			entries[count++] = take(&w, 0);
		for (int i = 0; i < 60 && count == 6000; i++)
			replace(&w, 0, &entries[roll(&w) % 6000]);
		world_walk(&w, turn * TURN_S);
		if (turn == 90) {
			ck_assert_uint_eq(survivors_hot_class(w.survivors), 1280);
			ck_assert_double_ge(class_of(&w, 1280)->leak_probability, 0.9);
		}
	}
	ck_assert_uint_eq(survivors_hot_class(w.survivors), 0);
	world_end(&w);
}
END_TEST

/* (d) Forty classes churn by far more than the one among them that leaks slowly, and their numbers wander. */
START_TEST(slow_leak_among_many_classes)
{
	uint64_t sizes[40], leaking = 17;
	static uint32_t live[40][800];
	size_t count[40] = { 0 };
	struct world w;

	for (size_t i = 0; i < 40; i++)
		sizes[i] = 32 + 16 * i;
	w = world_of(sizes, 40);
	for (int turn = 1; turn <= 300; turn++) {
		for (int i = 0; i < 4000; i++) {
			size_t shelf = roll(&w) % 40, *n = &count[shelf];

			if (*n < 300 || (*n < 500 && roll(&w) % 2)) {
				live[shelf][(*n)++] = take(&w, shelf);
			} else {
				size_t at = roll(&w) % *n;

				give(&w, shelf, live[shelf][at]);
				live[shelf][at] = live[shelf][--*n];
			}
		}
		for (int i = 0; i < 10; i++) /* 15 KiB/s */
			take(&w, leaking);
		world_walk(&w, turn * TURN_S);
	}
	ck_assert_uint_eq(survivors_hot_class(w.survivors), sizes[leaking]);
	ck_assert_msg(class_of(&w, sizes[leaking])->leak_probability >= 0.9, "%.3f",
		      class_of(&w, sizes[leaking])->leak_probability);
	for (size_t i = 0; i < 40; i++)
		if (i != leaking && class_of(&w, sizes[i])->tracked_blocks >= 18)
			ck_assert_double_lt(class_of(&w, sizes[i])->leak_probability, 0.95);
	world_end(&w);
}
END_TEST

/* (e) A queue fills, then turns over: its blocks get old, and then they are freed. */
START_TEST(queue_that_turns_over)
{
	const uint64_t sizes[] = { 528 };
	struct world w = world_of(sizes, 1);
	static uint32_t queue[4000];
	double filled = NAN;
	size_t put = 0;

	for (int turn = 1; turn <= 200; turn++) {
		for (int i = 0; i < 50; i++, put++) {
			if (put >= 4000)
				give(&w, 0, queue[put % 4000]);
			queue[put % 4000] = take(&w, 0);
		}
		world_walk(&w, turn * TURN_S);
		if (turn == 80)
			filled = class_of(&w, 528)->leak_probability;
	}
	ck_assert_msg(filled >= 0.9, "while it fills: %.3f", filled);
	ck_assert_msg(class_of(&w, 528)->leak_probability < 0.5, "turned over: %.3f",
		      class_of(&w, 528)->leak_probability);
	ck_assert_uint_eq(survivors_hot_class(w.survivors), 0);
	world_end(&w);
}
END_TEST

/* A queue that gets longer while its blocks pass through in a second: it grows, but nothing stays. */
START_TEST(growing_queue_is_not_a_leak)
{
	const uint64_t sizes[] = { 528 };
	struct world w = world_of(sizes, 1);
	static uint32_t queue[65536];
	size_t head = 0, tail = 0;

	for (int turn = 1; turn <= 150; turn++) {
		size_t length = 500 + 25 * (size_t)turn;

		for (size_t n = length / 5; n > 0; n--)
			queue[tail++ % 65536] = take(&w, 0);
		while (tail - head > length)
			give(&w, 0, queue[head++ % 65536]);
		world_walk(&w, turn * TURN_S);
	}
	ck_assert_uint_ge(class_of(&w, 528)->tracked_blocks, 8);
	ck_assert_msg(class_of(&w, 528)->leak_probability < 0.5, "%.3f", class_of(&w, 528)->leak_probability);
	ck_assert_uint_eq(survivors_hot_class(w.survivors), 0);
	world_end(&w);
}
END_TEST

/* Nothing grows: nothing is named, however much is going on. */
START_TEST(steady_churn_names_nothing)
{
	const uint64_t sizes[] = { 32, 144, 528 };
	struct world w = world_of(sizes, 3);
	static uint32_t live[3][2000];

	for (size_t i = 0; i < 6000; i++)
		live[i % 3][i / 3] = take(&w, i % 3);
	for (int turn = 1; turn <= 150; turn++) {
		for (int i = 0; i < 3000; i++)
			replace(&w, (size_t)i % 3, &live[i % 3][roll(&w) % 2000]);
		world_walk(&w, turn * TURN_S);
		ck_assert_uint_eq(survivors_hot_class(w.survivors), 0);
	}
	world_end(&w);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("survivors");
	SRunner *runner = srunner_create(suite);
	TCase *tc = tcase_create("picks");
	int failed;

	tcase_add_loop_test(tc, picks_are_uniform, 0, 4);
	tcase_add_test(tc, picks_are_those_below);
	tcase_add_loop_test(tc, walk_picks_what_is_in_use, 0, (int)IMAGE_RELEASES);
	tcase_add_test(tc, content_tells_blocks_apart);
	suite_add_tcase(suite, tc);
	tc = tcase_create("survivors");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, leak_under_churn_of_its_class, 0, 3);
	tcase_add_test(tc, static_table_is_not_named);
	tcase_add_test(tc, full_cache_is_not_named);
	tcase_add_test(tc, slow_leak_among_many_classes);
	tcase_add_test(tc, queue_that_turns_over);
	tcase_add_test(tc, growing_queue_is_not_a_leak);
	tcase_add_test(tc, steady_churn_names_nothing);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed > 0;
}
