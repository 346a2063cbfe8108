/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../fixtures/heap_image.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/heap.h"

#define OVERALL_S 60

static const struct heap_walk_options everything = { .size_classes = true, .resident = true };

/* ---- what must hold of any walk --------------------------------------------------------------------------------------- */

static void check_sums(const struct heap_stats *s)
{
	uint64_t used = 0, used_bytes = 0, unused = 0, unused_bytes = 0, in_use = 0, free_bytes = 0;

	ck_assert_uint_eq(s->in_use_bytes + s->free_bytes + s->overhead_bytes + s->skipped_bytes, s->mapped_bytes);
	ck_assert_uint_le(s->tcache_bytes + s->fastbin_bytes, s->free_bytes);
	ck_assert_uint_le(s->pinned_bytes, s->free_bytes);
	ck_assert_uint_le(s->trimmable_bytes, s->free_bytes);
	ck_assert(s->fragmentation >= 0 && s->fragmentation <= 1);
	for (size_t i = 0; i < s->class_count; i++) {
		const struct heap_size_class *c = &s->classes[i];

		ck_assert(i == 0 || c->size > s->classes[i - 1].size);
		used += c->in_use_blocks;
		used_bytes += c->in_use_bytes;
		unused += c->free_blocks;
		unused_bytes += c->free_bytes;
		ck_assert_uint_le(c->in_use_bytes, c->in_use_blocks * c->size);
	}
	for (size_t i = 0; i < s->arena_count; i++) {
		in_use += s->arenas[i].in_use_bytes;
		free_bytes += s->arenas[i].free_bytes;
	}
	ck_assert_uint_eq(in_use + s->mmapped_bytes, s->in_use_bytes);
	ck_assert_uint_eq(free_bytes, s->free_bytes);
	if (s->class_count) {
		ck_assert_uint_eq(used, s->in_use_blocks);
		ck_assert_uint_eq(used_bytes, s->in_use_bytes);
		ck_assert_uint_le(unused, s->free_blocks); /* tops have no class */
		ck_assert_uint_eq(unused_bytes + s->top_bytes, s->free_bytes);
	}
}

/* ---- size classes ------------------------------------------------------------------------------------------------------ */

START_TEST(class_holds_its_sizes)
{
	size_t before = 0;

	for (uint64_t size = 16; size < 1ULL << 44; size += size < 5000 ? 16 : size / 7 / 16 * 16) {
		size_t i = heap_class_index(size);

		ck_assert_uint_lt(i, HEAP_CLASS_COUNT);
		ck_assert_uint_ge(i, before);
		ck_assert_uint_le(size, heap_class_size(i));
		ck_assert_uint_gt(size, heap_class_size(i - 1));
		before = i;
	}
	for (size_t i = 1; i < 190; i++)
		ck_assert_uint_eq(heap_class_index(heap_class_size(i)), i);
	ck_assert_uint_eq(heap_class_size(64), 1024);
	ck_assert_uint_eq(heap_class_size(65), 1280);
	ck_assert_uint_lt(heap_class_index(UINT64_MAX), HEAP_CLASS_COUNT);
}
END_TEST

/* ---- images of other releases ------------------------------------------------------------------------------------------- */

static struct heap_walker *probe_image(struct image *im, struct mem **ret_mem)
{
	struct heap_walker *w = NULL;
	struct err err = ERR_INIT;

	ck_assert_int_eq(mem_fixture_create(im->places, IMAGE_PLACES, ret_mem), 0);
	ck_assert_msg(heap_probe(*ret_mem, &w, &err) == 1, "%s: not found: %s", im->release->name, err.msg);
	return w;
}

START_TEST(release_is_understood)
{
	struct image im;
	struct mem *mem;
	struct heap_walker *w;
	struct arena arena;
	struct heap_stats s;
	struct heap_headroom room;

	image_init(&im, &image_releases[_i]);
	w = probe_image(&im, &mem);
	arena_init(&arena, 4096, 0);
	for (int again = 0; again < 2; again++) { /* what the first walk learned must not change the second */
		ck_assert_int_eq(heap_walk(w, mem, &everything, &arena, &s), 0);
		check_sums(&s);
		ck_assert(s.complete);
		ck_assert_uint_eq(s.arena_count, 2);
		ck_assert_uint_eq(s.skipped_bytes, 0);
		ck_assert_uint_eq(s.mmapped_blocks, 1);
		ck_assert_uint_eq(s.mmapped_bytes, IMAGE_BLOCK_BYTES);
		ck_assert_uint_eq(s.tcache_blocks, im.tcache.blocks);
		ck_assert_uint_eq(s.tcache_bytes, im.tcache.bytes);
		ck_assert_uint_eq(s.fastbin_blocks, im.fastbin.blocks);
		ck_assert_uint_eq(s.fastbin_bytes, im.fastbin.bytes);
		ck_assert_uint_eq(s.in_use_blocks, im.in_use.blocks + 1);
		ck_assert_uint_eq(s.in_use_bytes, im.in_use.bytes + IMAGE_BLOCK_BYTES);
		ck_assert_uint_eq(s.top_bytes, im.top);
		ck_assert_uint_eq(s.free_bytes, im.tcache.bytes + im.fastbin.bytes + im.bin.bytes + im.top);
		ck_assert_uint_eq(s.free_blocks, im.tcache.blocks + im.fastbin.blocks + im.bin.blocks + 2);
		ck_assert_uint_eq(s.overhead_bytes, im.thread_overhead);
	}
	ck_assert_int_eq(heap_headroom(w, mem, &room), 0);
	ck_assert_uint_eq(room.mapped_bytes, IMAGE_HEAP_BYTES + IMAGE_THREAD_BYTES + IMAGE_BLOCK_BYTES);
	ck_assert_uint_eq(room.main_end, IMAGE_HEAP + IMAGE_HEAP_BYTES);
	ck_assert_uint_eq(room.in_use_hint, IMAGE_HEAP_BYTES + IMAGE_THREAD_BYTES - im.top);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

START_TEST(torn_chunk_costs_little)
{
	struct image im;
	struct mem *mem;
	struct heap_walker *w;
	struct arena arena;
	struct heap_stats s;

	image_init(&im, &image_releases[4]);
	/* the header behind the main thread's tcache: 32 bytes, half written */
	image_put(&im, IMAGE_HEAP + 0x290 + 8, 0x4141414141414141ULL);
	w = probe_image(&im, &mem);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(heap_walk(w, mem, &everything, &arena, &s), 0);
	check_sums(&s);
	ck_assert_uint_eq(s.torn_windows, 1);
	ck_assert_uint_ge(s.reread_windows, 1);
	ck_assert_uint_eq(s.resyncs, 1);
	ck_assert_uint_gt(s.skipped_bytes, 0);
	ck_assert_uint_le(s.skipped_bytes, 0x290 + 4096);
	ck_assert_uint_ge(s.in_use_bytes + s.skipped_bytes + 4096, im.in_use.bytes + IMAGE_BLOCK_BYTES);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

START_TEST(decoys_are_not_counted)
{
	struct image im;
	struct mem *mem;
	struct heap_walker *w;
	struct arena arena;
	struct heap_stats s;
	uint64_t none = 0;

	/* bytes that look like a block, and an allocator that knows of none */
	image_init(&im, &image_releases[4]);
	memcpy(image_at(&im, IMAGE_PAR + im.release->n_mmaps), &none, 4);
	image_put(&im, IMAGE_PAR + im.release->mmapped_mem, 0);
	w = probe_image(&im, &mem);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(heap_walk(w, mem, &everything, &arena, &s), 0);
	ck_assert_uint_eq(s.mmapped_blocks, 0);
	ck_assert_uint_eq(s.in_use_blocks, im.in_use.blocks);
	/* and one that knows of more than can be found: a gap, not a guess */
	image_put(&im, IMAGE_PAR + im.release->mmapped_mem, 2 * IMAGE_BLOCK_BYTES);
	image_put(&im, IMAGE_PAR + im.release->mmapped_mem + 8, 2 * IMAGE_BLOCK_BYTES);
	memcpy(image_at(&im, IMAGE_PAR + im.release->n_mmaps), "\2\0\0\0", 4);
	ck_assert_int_eq(heap_walk(w, mem, &everything, &arena, &s), 0);
	check_sums(&s);
	ck_assert(!s.complete);
	ck_assert_uint_eq(s.mmapped_blocks, 1);
	ck_assert_uint_eq(s.skipped_bytes, IMAGE_BLOCK_BYTES);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

START_TEST(limit_stops_the_walk)
{
	struct heap_walk_options few = { .max_bytes = 1 };
	struct image im;
	struct mem *mem;
	struct heap_walker *w;
	struct arena arena;
	struct heap_stats s;

	image_init(&im, &image_releases[4]);
	w = probe_image(&im, &mem);
	arena_init(&arena, 4096, 0);
	ck_assert_int_eq(heap_walk(w, mem, &few, &arena, &s), 0);
	check_sums(&s);
	ck_assert(!s.complete);
	ck_assert_uint_gt(s.skipped_bytes, 0);
	ck_assert_uint_eq(s.free_resident_bytes, UNKNOWN_U64);
	heap_walker_destroy(w);
	arena_deinit(&arena);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Words of an image overwritten by what hurts most. */
static void corrupt(struct image *im, uint64_t *state)
{
	static const uint64_t values[] = {
		0,         1,          17,         33,           UINT64_MAX, 1ULL << 47,        0x7ffffffffff0ULL,
		0x290 | 1, IMAGE_HEAP, IMAGE_MAIN, IMAGE_THREAD, 2,          IMAGE_HEAP + 0x10, IMAGE_BLOCK
	};
	uint64_t count = 1 + next_random(state) % 24;

	for (uint64_t i = 0; i < count; i++) {
		const struct region *r = &im->places[next_random(state) % IMAGE_PLACES].region;
		uint64_t size = r->end - r->start > 0x4000 ? 0x4000 : r->end - r->start;
		uint64_t address = r->start + next_random(state) % (size / 8) * 8;
		uint64_t value = values[next_random(state) % 14];

		if (next_random(state) % 4 == 0)
			value = image_get(im, address) ^ 1ULL << next_random(state) % 64;
		image_put(im, address, value);
	}
}

START_TEST(corrupt_images_end)
{
	for (uint64_t seed = 1; seed <= 400; seed++) {
		uint64_t state = seed * 0x9e3779b97f4a7c15ULL + (uint64_t)(unsigned int)_i;
		struct heap_walker *w = NULL;
		struct heap_headroom room;
		struct heap_stats s;
		struct arena arena;
		struct image im;
		struct mem *mem;
		int rc;

		image_init(&im, &image_releases[_i]);
		if (seed % 2)
			corrupt(&im, &state);
		ck_assert_int_eq(mem_fixture_create(im.places, IMAGE_PLACES, &mem), 0);
		arena_init(&arena, 4096, 0);
		rc = heap_probe(mem, &w, NULL);
		ck_assert(rc == 0 || rc == 1);
		if (seed % 2 == 0)
			corrupt(&im, &state); /* between probe and walk */
		if (rc == 1) {
			rc = heap_walk(w, mem, &everything, &arena, &s);
			ck_assert(rc == 0 || rc == -EAGAIN || rc == -EFAULT);
			if (rc == 0)
				check_sums(&s);
			rc = heap_headroom(w, mem, &room);
			ck_assert(rc == 0 || rc == -EAGAIN);
		}
		heap_walker_destroy(w);
		arena_deinit(&arena);
		mem_destroy(mem);
		image_deinit(&im);
	}
}
END_TEST

START_TEST(nothing_is_found_in_nothing)
{
	struct heap_walker *w = NULL;
	struct image im;
	struct mem *mem;

	image_init(&im, &image_releases[4]);
	memset(image_at(&im, IMAGE_DATA), 0, 0x3000); /* before malloc's first call */
	ck_assert_int_eq(mem_fixture_create(im.places, IMAGE_PLACES, &mem), 0);
	ck_assert_int_eq(heap_probe(mem, &w, NULL), 0);
	ck_assert_ptr_null(w);
	mem_destroy(mem);
	image_deinit(&im);
}
END_TEST

/* ---- live victims -------------------------------------------------------------------------------------------------------- */

struct victim {
	pid_t pid;
	int in, proc_fd;
	char line[1024];
	struct mem *mem;
	struct heap_walker *walker;
	struct arena arena;
};

static void victim_start(struct victim *v, const char *name, const char *argument)
{
	const char *dir = getenv("MEMWATCH_VICTIMS");
	struct err err = ERR_INIT;
	int in[2], out[2];
	char path[512];
	ssize_t n;

	memset(v, 0, sizeof(*v));
	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "build/test/victims", name);
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	v->pid = fork();
	ck_assert_int_ge(v->pid, 0);
	if (v->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		execl(path, path, argument, (char *)NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	v->in = in[1];
	n = read(out[0], v->line, sizeof(v->line) - 1);
	close(out[0]);
	ck_assert_msg(n > 0, "%s says nothing: built?", path);
	snprintf(path, sizeof(path), "/proc/%d", (int)v->pid);
	v->proc_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_msg(mem_live_create(v->pid, v->proc_fd, &v->mem, &err) == 0, "%s", err.msg);
	ck_assert_msg(heap_probe(v->mem, &v->walker, &err) == 1, "%s: heap not found: %s", name, err.msg);
	arena_init(&v->arena, 65536, 0);
}

static void victim_stop(struct victim *v)
{
	int status;

	heap_walker_destroy(v->walker);
	mem_destroy(v->mem);
	arena_deinit(&v->arena);
	close(v->proc_fd);
	close(v->in);
	ck_assert_int_eq(waitpid(v->pid, &status, 0), v->pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* unharmed */
}

/* A figure of the line that the victim printed. */
static uint64_t truth(const struct victim *v, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = v->line; (at = strstr(at, name)) != NULL; at += len)
		if ((at == v->line || at[-1] == ' ') && at[len] == '=')
			return strtoull(at + len + 1, NULL, 10);
	ck_abort_msg("%s is not in: %s", name, v->line);
}

/* extra: blocks of libc's own, beside the victim's: tcache structs, and in threaded ones the dtv of each thread. */
static void check_exact(struct victim *v, uint64_t extra_blocks, uint64_t extra_bytes_max)
{
	struct heap_stats s;

	ck_assert_int_eq(heap_walk(v->walker, v->mem, &everything, &v->arena, &s), 0);
	check_sums(&s);
	ck_assert(s.complete);
	ck_assert_uint_eq(s.torn_windows, 0);
	ck_assert_uint_eq(s.skipped_bytes, 0);
	ck_assert_uint_eq(s.mapped_bytes, truth(v, "arena") + truth(v, "hblkhd"));
	ck_assert_uint_eq(s.free_bytes - s.tcache_bytes, truth(v, "fordblks"));
	ck_assert_uint_eq(s.in_use_bytes - s.mmapped_bytes + s.tcache_bytes + s.overhead_bytes, truth(v, "uordblks"));
	ck_assert_uint_eq(s.mmapped_blocks, truth(v, "hblks"));
	ck_assert_uint_eq(s.mmapped_blocks, truth(v, "mapped_blocks"));
	ck_assert_uint_eq(s.mmapped_bytes, truth(v, "hblkhd"));
	ck_assert_uint_eq(s.fastbin_bytes, truth(v, "fsmblks"));
	ck_assert_uint_eq(s.fastbin_blocks, truth(v, "smblks"));
	ck_assert_uint_eq(s.in_use_blocks - s.mmapped_blocks, truth(v, "live_blocks") + extra_blocks);
	ck_assert_uint_ge(s.in_use_bytes - s.mmapped_bytes, truth(v, "live_bytes") + extra_blocks * 32);
	ck_assert_uint_le(s.in_use_bytes - s.mmapped_bytes, truth(v, "live_bytes") + extra_bytes_max);
	ck_assert_uint_le(s.free_resident_bytes, s.free_bytes);
	ck_assert_uint_eq(s.arena_count == 1 ? s.top_bytes : 0, s.arena_count == 1 ? truth(v, "keepcost") : 0);
}

static const struct {
	const char *name, *argument;
	uint64_t extra_blocks, extra_bytes;
} still[] = {
	{ "heap_single", NULL, 1, 0x290 },
	{ "heap_tcache", NULL, 2, 0x290 + 512 }, /* the dead thread's dtv is kept with its stack */
	{ "heap_fastbin", NULL, 1, 0x290 },
	{ "heap_threads", NULL, 17, 9 * 0x290 + 8 * 512 },
	{ "heap_mapped", NULL, 1, 0x290 },
	{ "heap_gap", NULL, 1, 0x290 },
	{ "heap_aligned", NULL, 1, 0x290 },
	{ "heap_aligned", "mapped", 1, 0x290 },
	{ "heap_gap", "contiguous", 1, 0x290 },
	{ "heap_static", NULL, 6, 4096 }, /* start-up code of static programs allocates, too */
};

START_TEST(stopped_target_is_exact)
{
	struct victim v;

	victim_start(&v, still[_i].name, still[_i].argument);
	check_exact(&v, still[_i].extra_blocks, still[_i].extra_bytes);
	check_exact(&v, still[_i].extra_blocks, still[_i].extra_bytes);
	victim_stop(&v);
}
END_TEST

START_TEST(foreign_break_is_overhead)
{
	struct heap_stats s;
	struct victim v;

	victim_start(&v, "heap_gap", "contiguous");
	check_exact(&v, 1, 0x290);
	ck_assert_int_eq(heap_walk(v.walker, v.mem, &everything, &v.arena, &s), 0);
	ck_assert_uint_ge(s.overhead_bytes, 2 * 12345);
	victim_stop(&v);
}
END_TEST

START_TEST(thread_heaps_are_followed)
{
	uint64_t mapped = 0, heaps = 0;
	struct heap_stats s;
	struct heap_headroom room;
	struct victim v;

	victim_start(&v, "heap_threads", NULL);
	ck_assert_int_eq(heap_walk(v.walker, v.mem, &everything, &v.arena, &s), 0);
	for (size_t i = 0; i < s.arena_count; i++) {
		mapped += s.arenas[i].mapped_bytes;
		heaps += s.arenas[i].heap_count;
	}
	ck_assert_uint_eq(s.arena_count, 9);
	ck_assert_uint_eq(heaps, 10); /* one outgrew its first 64 MiB */
	ck_assert_uint_eq(mapped, truth(&v, "arena"));
	ck_assert_int_eq(heap_headroom(v.walker, v.mem, &room), 0);
	ck_assert_uint_eq(room.mapped_bytes, truth(&v, "arena"));
	ck_assert_uint_eq(room.in_use_hint, truth(&v, "arena") - s.top_bytes);
	victim_stop(&v);
}
END_TEST

START_TEST(description_names_the_release)
{
	struct named_part part;
	struct victim v;

	victim_start(&v, "heap_single", NULL);
	heap_describe(v.walker, &v.arena, &part);
	ck_assert_str_eq(part.name, "glibc");
	ck_assert_str_eq(part.found_by, "signature");
	ck_assert(part.version == NULL || strncmp(part.version, "2.", 2) == 0);
	victim_stop(&v);
}
END_TEST

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

START_TEST(running_target_is_near)
{
	enum { WALKS = 11 };
	uint64_t counts[WALKS], expected;
	struct heap_stats s;
	struct victim v;

	victim_start(&v, "heap_churn", NULL);
	for (size_t i = 0; i < WALKS; i++) {
		ck_assert_int_eq(heap_walk(v.walker, v.mem, &everything, &v.arena, &s), 0);
		check_sums(&s);
		ck_assert_uint_le(s.skipped_bytes, s.mapped_bytes / 100);
		counts[i] = s.in_use_blocks;
	}
	qsort(counts, WALKS, sizeof(counts[0]), by_value);
	expected = truth(&v, "live_blocks");
	/* every block is replaced many times during the walks */
	ck_assert_uint_ge(counts[WALKS / 2], expected - expected / 200);
	ck_assert_uint_le(counts[WALKS / 2], expected + expected / 200);
	victim_stop(&v);
}
END_TEST

START_TEST(dead_target_says_so)
{
	struct heap_headroom room;
	struct heap_stats s;
	struct victim v;
	siginfo_t info;

	victim_start(&v, "heap_single", NULL);
	close(v.in);
	ck_assert_int_eq(waitid(P_PID, (id_t)v.pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(heap_walk(v.walker, v.mem, &everything, &v.arena, &s), -ESRCH);
	ck_assert_int_eq(heap_headroom(v.walker, v.mem, &room), -ESRCH);
	v.in = -1;
	victim_stop(&v);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("heap");
	TCase *tc = tcase_create("heap");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_set_timeout(tc, OVERALL_S);
	tcase_add_test(tc, class_holds_its_sizes);
	tcase_add_loop_test(tc, release_is_understood, 0, (int)IMAGE_RELEASES);
	tcase_add_test(tc, torn_chunk_costs_little);
	tcase_add_test(tc, decoys_are_not_counted);
	tcase_add_test(tc, limit_stops_the_walk);
	tcase_add_loop_test(tc, corrupt_images_end, 0, (int)IMAGE_RELEASES);
	tcase_add_test(tc, nothing_is_found_in_nothing);
	tcase_add_loop_test(tc, stopped_target_is_exact, 0, (int)(sizeof(still) / sizeof(still[0])));
	tcase_add_test(tc, foreign_break_is_overhead);
	tcase_add_test(tc, thread_heaps_are_followed);
	tcase_add_test(tc, description_names_the_release);
	tcase_add_test(tc, running_target_is_near);
	tcase_add_test(tc, dead_target_says_so);
	suite_add_tcase(suite, tc);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
