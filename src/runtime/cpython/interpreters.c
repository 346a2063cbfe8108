/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Interpreters: the list that _PyRuntime heads, each proved by a thread state that names it, and the collector's accounts in them. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "cpython.h"

#define THREAD_NEXT 8 /* words[] in count_threads() goes on with interp */
#define THREADS_MAX 4096
#define OFFSET_MAX (1U << 20)

#define DEBUG_COOKIE "xdebugpy"
#define DEBUG_WORDS 96
#define DEBUG_FREE_THREADED 2 /* words of _Py_DebugOffsets */
#define DEBUG_INTERPRETERS_HEAD 5
#define DEBUG_NEXT 8
#define DEBUG_THREADS_HEAD 9

#define GC_BYTES 264
#define GENERATIONS 3
#define STATS_WORDS 3 /* collections, collected, uncollectable */
#define COUNT_MAX (1ULL << 48)

static bool learn_from_target(struct cpython *p, struct mem *mem, const struct cpython_layout *l)
{
	uint64_t words[DEBUG_WORDS];

	if (mem_read_exact(mem, p->runtime, words, sizeof(words)) < 0 || memcmp(words, DEBUG_COOKIE, 8) != 0)
		return false;
	for (size_t i = DEBUG_INTERPRETERS_HEAD; i <= l->gc_index; i++)
		if (words[i] > OFFSET_MAX)
			return false;
	p->free_threaded = words[DEBUG_FREE_THREADED] != 0;
	p->interpreters_head = (uint32_t)words[DEBUG_INTERPRETERS_HEAD];
	p->interpreters_next = (uint32_t)words[DEBUG_NEXT];
	p->threads_head = (uint32_t)words[DEBUG_THREADS_HEAD];
	p->gc = (uint32_t)words[l->gc_index];
	/* without the interpreter lock objects come from mimalloc, and the collector keeps other books */
	if (!p->free_threaded)
		p->gc_layout = cpython_gc_layout_of(l->minor, words[l->gc_size_index], words[l->gc_size_index + 1]);
	return true;
}

bool cpython_learn_layout(struct cpython *p, struct mem *mem)
{
	const struct cpython_layout *l =
		p->runtime && p->version >> 24 == 3 ? cpython_layout_of(p->version >> 16 & 0xff) : NULL;

	p->layout = NULL;
	p->gc_layout = NULL;
	if (!l)
		return false;
	if (l->debug_offsets) {
		if (!learn_from_target(p, mem, l))
			return false;
	} else {
		p->interpreters_head = l->interpreters_head;
		p->interpreters_next = 0;
		p->threads_head = l->threads_head;
		p->gc = l->gc;
		p->gc_layout = cpython_gc_layout_of(l->minor, 0, 0);
	}
	p->layout = l;
	return true;
}

bool cpython_is_writable(const struct cpython_view *v, uint64_t address)
{
	const struct region *r = address % 8 == 0 ? region_find(v->regions, v->region_count, address) : NULL;

	return r && r->end - address >= 32 && (r->flags & REGION_READ) && (r->flags & REGION_WRITE);
}

enum claim { NO_INTERPRETER, IDLE, PROVED };

/* A subinterpreter without a thread in it (3.13+ leaves them so between calls) has nobody who names it: it is as good as the list that it stands in. */
static enum claim judge_interpreter(const struct cpython *p, const struct cpython_view *v, uint64_t address)
{
	uint64_t thread, owner;

	if (!cpython_is_writable(v, address) || mem_read_u64(v->mem, address + p->threads_head, &thread) < 0)
		return NO_INTERPRETER;
	if (thread == 0)
		return IDLE;
	return cpython_is_writable(v, thread) &&
			       mem_read_u64(v->mem, thread + CPYTHON_THREAD_INTERPRETER, &owner) == 0 &&
			       owner == address ?
		       PROVED :
		       NO_INTERPRETER;
}

/* Thread states of one interpreter; false where the list does not end or leads astray. */
static bool count_threads(const struct cpython *p, const struct cpython_view *v, uint64_t interpreter, uint64_t *ret)
{
	uint64_t at, count = 0, words[2]; /* next, interp */

	if (mem_read_u64(v->mem, interpreter + p->threads_head, &at) < 0)
		return false;
	for (; at; at = words[0]) {
		if (count++ == THREADS_MAX || !cpython_is_writable(v, at) ||
		    mem_read_exact(v->mem, at + THREAD_NEXT, words, sizeof(words)) < 0 || words[1] != interpreter)
			return false;
	}
	*ret += count;
	return true;
}

int cpython_list_interpreters(const struct cpython *p, struct cpython_view *v)
{
	uint64_t at = 0, threads = 0;
	bool counted = true, proved = false;
	int rc;

	v->interpreter_count = 0;
	v->threads = UNKNOWN_U64;
	if (!p->layout)
		return 0;
	rc = mem_read_u64(v->mem, p->runtime + p->interpreters_head, &at);
	while (rc == 0 && at && v->interpreter_count < CPYTHON_INTERPRETERS) {
		enum claim claim = judge_interpreter(p, v, at);

		if (claim == NO_INTERPRETER)
			break;
		proved = proved || claim == PROVED;
		counted = counted && count_threads(p, v, at, &threads);
		v->interpreters[v->interpreter_count++] = at;
		rc = mem_read_u64(v->mem, at + p->interpreters_next, &at);
	}
	if (rc < 0 && rc != -EFAULT)
		return rc;
	v->interpreters_cut = rc < 0 || at != 0;
	if (!proved)
		v->interpreter_count = 0;
	if (counted && !v->interpreters_cut && v->interpreter_count)
		v->threads = threads;
	return 0;
}

/* One collector's accounts into ret; false where they say nonsense. */
static bool add_gc(const struct cpython *p, const struct cpython_view *v, uint64_t address, struct cpython_gc *ret)
{
	const struct cpython_gc_layout *l = p->gc_layout;
	uint8_t raw[GC_BYTES];
	uint64_t last = 0, uncollectable = 0, long_lived;

	if (mem_read_exact(v->mem, address, raw, sizeof(raw)) < 0)
		return false;
	for (uint32_t i = 0; i < GENERATIONS * STATS_WORDS; i++) {
		uint64_t value = cpython_load64(raw + l->stats + 8 * i);

		if (value > COUNT_MAX)
			return false;
		if (i % STATS_WORDS == 0)
			last = value;
		if (i % STATS_WORDS == STATS_WORDS - 1)
			uncollectable += value;
	}
	long_lived = cpython_load64(raw + l->long_lived);
	/* behind the accounts stands a flag */
	if (long_lived > COUNT_MAX || cpython_load32(raw + l->stats + GENERATIONS * STATS_WORDS * 8) > 1)
		return false;
	ret->full_collections += (double)last;
	ret->uncollectable += (double)uncollectable;
	ret->long_lived += (double)long_lived;
	return true;
}

void cpython_read_gc(const struct cpython *p, const struct cpython_view *v, struct cpython_gc *ret)
{
	struct cpython_gc sum = { 0, 0, 0 };
	bool holds = p->gc_layout && v->interpreter_count && !v->interpreters_cut;

	if (holds && p->layout->gc_in_runtime)
		holds = add_gc(p, v, p->runtime + p->gc, &sum);
	else
		for (size_t i = 0; holds && i < v->interpreter_count; i++)
			holds = add_gc(p, v, v->interpreters[i] + p->gc, &sum);
	*ret = holds ? sum : (struct cpython_gc){ NAN, NAN, NAN };
}
