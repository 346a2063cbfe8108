/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The site table: stacks are keyed by their return addresses, events by the range that they took. A range that is taken again,
 * or is mapped no more, was given back meanwhile: its old owner loses those bytes.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/vec.h"
#include "memwatch/sites.h"
#include "sites/names.h"

#define EXACT_SHARE_ENOUGH 0.1 /* of all weight: then statistical events are left out of the report */

#define CHECKS_ENOUGH 6
#define OLD_MIN_S 0.5 /* a block younger than this, or than that share of the time watched, has proven nothing */
#define OLD_SHARE 0.15
#define WEAK_SHARE 0.5 /* a stack's weak survivors count where so many of its blocks stay */

struct event {
	uint32_t stack;
	bool exact;
	bool weight_only;
	bool in_heap;   /* block, seen: see site_table_seen() */
	uint8_t checks; /* looks that found the block in use, up to CHECKS_ENOUGH */
	float survive;  /* part of the range that is still there, 0..1 */
	double t_s;
	double weight;
	uint64_t start, end;
	uint64_t block_start, block_size; /* as first found; 0: not yet */
	uint64_t content;                 /* as first seen, at once after the event; 0: not seen */
	bool changed;                     /* content is not what it was: perhaps another block */
};

struct site_table {
	struct site_stacks stacks;
	struct event *events;
	size_t event_count, event_cap;
	bool followed; /* heap walks look after the blocks */
	uint64_t total;
};

int site_table_create(struct site_table **ret)
{
	struct site_table *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	site_stacks_init(&t->stacks, SITES_MAX, SIZE_MAX);
	*ret = t;
	return 0;
}

void site_table_destroy(struct site_table *t)
{
	if (!t)
		return;
	site_stacks_deinit(&t->stacks);
	free(t->events);
	free(t);
}

uint64_t site_table_events(const struct site_table *t)
{
	return t->total;
}

static float overlap_share(const struct event *e, uint64_t start, uint64_t end)
{
	uint64_t low = e->start > start ? e->start : start;
	uint64_t high = e->end < end ? e->end : end;

	return high > low ? (float)((double)(high - low) / (double)(e->end - e->start)) : 0.0F;
}

/* Memory stays bounded: the older half gives every second event's weight to its neighbour of the same stack, else forgets it. */
static void thin_events(struct site_table *t)
{
	size_t kept = 0;

	for (size_t i = 0; i < t->event_count; i++) {
		struct event *e = &t->events[i];

		if (i < t->event_count / 2 && kept > 0 && (i & 1) && t->events[kept - 1].stack == e->stack &&
		    t->events[kept - 1].exact == e->exact) {
			struct event *before = &t->events[kept - 1];
			double sum = before->weight + e->weight;

			before->survive = sum > 0.0 ? (float)((before->weight * (double)before->survive +
							       e->weight * (double)e->survive) /
							      sum) :
						      0.0F;
			before->weight = sum;
			before->weight_only = true;
			continue;
		}
		if (i < t->event_count / 4 && e->survive <= 0.0F)
			continue;
		t->events[kept++] = *e;
	}
	if (kept == t->event_count) {
		kept -= kept / 4;
		memmove(t->events, t->events + (t->event_count - kept), kept * sizeof(*t->events));
	}
	t->event_count = kept;
}

int site_table_add(struct site_table *t, const struct unwind_stack *stack, const struct site_event *event)
{
	uint64_t start = event->start, end = event->end;
	uint32_t index;
	int rc = site_stacks_find(&t->stacks, stack, event->source, &index);

	if (rc < 0)
		return rc;
	for (size_t i = 0; end > start && i < t->event_count; i++) {
		struct event *old = &t->events[i];

		if (!old->weight_only && old->survive > 0.0F) {
			float gone = overlap_share(old, start, end);

			old->survive = old->survive > gone ? old->survive - gone : 0.0F;
		}
	}
	if (t->event_count >= SITES_RANGES_MAX)
		thin_events(t);
	if (vec_reserve(&t->events, &t->event_cap, t->event_count + 1, sizeof(*t->events)) < 0)
		return -ENOMEM;
	t->events[t->event_count++] = (struct event){ .stack = index,
						      .exact = event->exact,
						      .weight_only = end <= start,
						      .in_heap = event->in_heap && end > start,
						      .survive = 1.0F,
						      .t_s = event->t_s,
						      .weight = (double)event->weight_bytes,
						      .start = start,
						      .end = end,
						      .block_start = event->block_start,
						      .block_size = event->block_size,
						      .content = event->content };
	t->total++;
	return 0;
}

void site_table_refresh(struct site_table *t, const struct region *regions, size_t count)
{
	for (size_t i = 0; i < t->event_count; i++) {
		struct event *e = &t->events[i];
		size_t low = 0, high = count;
		float there = 0.0F;

		if (e->weight_only || e->survive <= 0.0F)
			continue;
		while (low < high) {
			size_t mid = low + (high - low) / 2;

			if (regions[mid].end <= e->start)
				low = mid + 1;
			else
				high = mid;
		}
		for (; low < count && regions[low].start < e->end; low++)
			if (regions[low].flags & REGION_WRITE)
				there += overlap_share(e, regions[low].start, regions[low].end);
		if (there < e->survive)
			e->survive = there;
	}
}

/* ---- blocks that are followed ---- */

static int compare_block(const void *a, const void *b)
{
	const struct heap_block *x = a, *y = b;

	return (x->address > y->address) - (x->address < y->address);
}

static uint64_t block_address(const struct event *e)
{
	return e->block_size > 0 ? e->block_start : e->start;
}

size_t site_table_blocks(const struct site_table *t, bool known_only, struct heap_block *ret, size_t cap)
{
	size_t count = 0;

	for (size_t i = t->event_count; i-- > 0 && count < cap;) {
		const struct event *e = &t->events[i];

		if (!e->in_heap || e->survive <= 0.0F || (known_only && e->block_size == 0))
			continue;
		ret[count++] = (struct heap_block){ .address = block_address(e),
						    .start = e->block_start,
						    .size = e->block_size,
						    .state = known_only ? HEAP_BLOCK_IN_USE : HEAP_BLOCK_UNKNOWN };
	}
	qsort(ret, count, sizeof(*ret), compare_block);
	return count;
}

static void check_event(struct event *e, const struct heap_block *b)
{
	if (b->state == HEAP_BLOCK_UNKNOWN)
		return;
	if (e->block_size == 0 && b->state == HEAP_BLOCK_IN_USE) {
		e->block_start = b->start;
		e->block_size = b->size;
	}
	if (b->content != 0 && b->content != e->content)
		e->changed = true;
	if (b->state == HEAP_BLOCK_FREE || e->block_start != b->start || e->block_size != b->size)
		e->survive = 0.0F;
	else if (e->checks < CHECKS_ENOUGH)
		e->checks++;
}

void site_table_seen(struct site_table *t, const struct heap_block *blocks, size_t count)
{
	t->followed = true;
	for (size_t i = 0; i < t->event_count; i++) {
		struct event *e = &t->events[i];
		struct heap_block key = { .address = block_address(e) };
		const struct heap_block *found;

		if (!e->in_heap || e->survive <= 0.0F)
			continue;
		found = bsearch(&key, blocks, count, sizeof(*blocks), compare_block);
		if (found)
			check_event(e, found);
	}
}

void site_table_given_back(const struct site_table *t, double since_s, uint64_t *ret_events, uint64_t *ret_given_back)
{
	uint64_t events = 0, given_back = 0;

	for (size_t i = 0; i < t->event_count; i++) {
		if (!t->events[i].exact || t->events[i].t_s < since_s)
			continue;
		events++;
		given_back += t->events[i].survive <= 0.0F;
	}
	*ret_events = events;
	*ret_given_back = given_back;
}

double site_table_exact_share(const struct site_table *t, double since_s)
{
	double exact = 0.0, all = 0.0;

	for (size_t i = 0; i < t->event_count; i++) {
		const struct event *e = &t->events[i];

		if (e->t_s < since_s)
			continue;
		all += e->weight;
		exact += e->exact ? e->weight : 0.0;
	}
	return all > 0.0 ? exact / all : NAN;
}

/* ---- the report ---- */

enum standing { STANDING_GONE, STANDING_OPEN, STANDING_WEAK, STANDING_SURE };

/* What is known of an event's bytes at until_s. */
static enum standing standing(const struct site_table *t, const struct event *e, const struct site_query *q)
{
	double old_enough = OLD_SHARE * (q->until_s - q->since_s);

	if (e->survive <= 0.0F)
		return STANDING_GONE;
	if (!t->followed || !e->in_heap)
		return STANDING_SURE;
	if (e->checks < CHECKS_ENOUGH || q->until_s - e->t_s < (old_enough > OLD_MIN_S ? old_enough : OLD_MIN_S))
		return STANDING_OPEN;
	return e->changed || e->content == 0 ? STANDING_WEAK : STANDING_SURE;
}

struct rank { /* sums of one stack, later of one printed site */
	uint32_t stack;
	double bytes, allocated, exact_weight;
	double judged,
		weak; /* weight of events that are old enough to tell, and of those that stayed but may be other blocks */
	uint64_t events;
};

static int compare_rank(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

struct judged {             /* what the first pass finds */
	struct rank *ranks; /* by stack */
	bool any_sure;      /* some block in the heap stayed beyond doubt */
	bool exact_only;
	double exact_factor; /* exact events stand for all growth outside the size classes when the others are left out */
};

/* By what one byte of an event of each size class is to be multiplied, so that the events of a class add up to its growth. */
struct class_scale {
	bool known;
	double factor[HEAP_CLASS_COUNT];
	double grown_bytes; /* of all classes */
};

static bool follows_class(const struct event *e)
{
	return e->in_heap && e->block_size > 0;
}

/* Weak survivors count only where nothing better is known, and only for stacks whose blocks mostly stay. */
static bool counts(const struct site_table *t, const struct event *e, const struct site_query *q,
		   const struct judged *j)
{
	const struct rank *r = &j->ranks[e->stack];
	enum standing s = standing(t, e, q);

	return s == STANDING_SURE || (s == STANDING_WEAK && !j->any_sure && r->weak >= WEAK_SHARE * r->judged);
}

static void scale_classes(const struct site_table *t, const struct site_query *q, const struct judged *j,
			  struct class_scale *ret)
{
	double seconds = q->until_s - q->since_s, weight[HEAP_CLASS_COUNT] = { 0 };

	ret->known = t->followed && q->heap && q->heap->class_count > 0 && seconds > 0.0;
	for (size_t i = 0; ret->known && i < t->event_count; i++) {
		const struct event *e = &t->events[i];

		if (e->t_s >= q->since_s && follows_class(e) && counts(t, e, q, j))
			weight[heap_class_index(e->block_size)] += e->weight * (double)e->survive;
	}
	for (size_t i = 0; ret->known && i < q->heap->class_count; i++) {
		double grown = q->heap->classes[i].growth_per_s * seconds;
		size_t class = heap_class_index(q->heap->classes[i].size);

		if (isnan(grown))
			ret->known = false;
		if (!(grown > 0.0))
			continue;
		ret->grown_bytes += grown;
		ret->factor[class] = weight[class] > 0.0 ? grown / weight[class] : 0.0;
	}
}

/* First pass: how much of what each stack took is old enough to be judged, and how much of that stayed under doubt. */
static void judge_stacks(const struct site_table *t, const struct site_query *q, struct judged *judged)
{
	double exact = 0.0, all = 0.0;

	for (size_t i = 0; i < t->stacks.count; i++)
		judged->ranks[i] = (struct rank){ .stack = (uint32_t)i };
	for (size_t i = 0; i < t->event_count; i++) {
		const struct event *e = &t->events[i];
		struct rank *r = &judged->ranks[e->stack];
		enum standing s = standing(t, e, q);

		if (e->t_s < q->since_s)
			continue;
		all += e->weight;
		exact += e->exact ? e->weight : 0.0;
		if (!e->in_heap)
			continue;
		r->judged += s != STANDING_OPEN ? e->weight : 0.0;
		r->weak += s == STANDING_WEAK ? e->weight : 0.0;
		judged->any_sure = judged->any_sure || s == STANDING_SURE;
	}
	judged->exact_only = exact > all * EXACT_SHARE_ENOUGH;
	judged->exact_factor = judged->exact_only ? all / exact : 1.0;
}

/* Second pass: sums by stack; returns how many stacks have anything. */
static size_t sum_events(const struct site_table *t, const struct site_query *q, const struct class_scale *scale,
			 struct judged *j)
{
	size_t count = 0;

	for (size_t i = 0; i < t->event_count; i++) {
		const struct event *e = &t->events[i];
		struct rank *r = &j->ranks[e->stack];
		bool scaled = scale->known && follows_class(e);
		double factor = scaled ? scale->factor[heap_class_index(e->block_size)] : j->exact_factor;

		if (e->t_s < q->since_s || (j->exact_only && !e->exact) || standing(t, e, q) == STANDING_OPEN)
			continue;
		r->bytes += counts(t, e, q, j) ? e->weight * (double)e->survive * factor : 0.0;
		r->allocated += e->weight * factor;
		r->exact_weight += e->exact ? e->weight * factor : 0.0;
		r->events++;
	}
	for (size_t i = 0; i < t->stacks.count; i++)
		if (j->ranks[i].events > 0)
			j->ranks[count++] = j->ranks[i];
	return count;
}

static void merge_site(struct site *sites, size_t *count, const struct site *site)
{
	struct site *same = site_find_same(sites, *count, site);

	if (!same) {
		sites[(*count)++] = *site;
		return;
	}
	same->bytes += site->bytes;
	same->allocated_bytes += site->allocated_bytes;
	same->exact = same->exact && site->exact;
}

static int compare_site(const void *a, const void *b)
{
	const struct site *x = a, *y = b;

	return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static void finish_sites(struct site *sites, size_t count, double total, double seconds)
{
	qsort(sites, count, sizeof(*sites), compare_site);
	for (size_t i = 0; i < count; i++) {
		struct site *s = &sites[i];

		s->share = total > 0.0 ? (double)s->bytes / total : 0.0;
		s->bytes_per_s = seconds > 0.0 ? (double)s->bytes / seconds : NAN;
		s->survival = s->allocated_bytes > 0 ? (double)s->bytes / (double)s->allocated_bytes : NAN;
	}
}

int site_table_report(struct site_table *t, const struct site_query *q, struct arena *arena, struct site **ret,
		      size_t *ret_count)
{
	cleanup_free struct rank *ranks = calloc(t->stacks.count ? t->stacks.count : 1, sizeof(*ranks));
	struct judged judged = { .ranks = ranks };
	struct class_scale scale = { 0 };
	size_t count, named = 0, site_count = 0;
	struct site *sites;
	double total = 0.0;

	if (!ranks)
		return -ENOMEM;
	judge_stacks(t, q, &judged);
	scale_classes(t, q, &judged, &scale);
	count = sum_events(t, q, &scale, &judged);
	qsort(ranks, count, sizeof(*ranks), compare_rank);
	for (size_t i = 0; i < count; i++)
		total += ranks[i].bytes;
	if (scale.known && scale.grown_bytes > total)
		total = scale.grown_bytes;
	/* Stacks that read the same come from different addresses: name more than are wanted, then merge. */
	named = count < q->max * 8 ? count : q->max * 8;
	sites = arena_array(arena, named ? named : 1, sizeof(*sites));
	if (!sites)
		return -ENOMEM;
	for (size_t i = 0; i < named && ranks[i].bytes >= 1.0; i++) {
		struct site site = { .bytes = (uint64_t)ranks[i].bytes,
				     .allocated_bytes = (uint64_t)ranks[i].allocated,
				     .blocks = UNKNOWN_U64,
				     .allocated_blocks = UNKNOWN_U64,
				     .bytes_low = NAN,
				     .bytes_high = NAN,
				     .age_s = NAN,
				     .exact = ranks[i].exact_weight >= ranks[i].allocated * 0.5,
				     .source = t->stacks.items[ranks[i].stack].source };
		int rc = site_stack_name(&t->stacks.items[ranks[i].stack], q->symbols, arena, &site);

		if (rc < 0)
			return rc;
		merge_site(sites, &site_count, &site);
	}
	finish_sites(sites, site_count, total, q->until_s - q->since_s);
	if (site_count > q->max)
		site_count = q->max;
	while (site_count > 0 && sites[site_count - 1].share < SITES_SHARE_MIN)
		site_count--;
	*ret = sites;
	*ret_count = site_count;
	return 0;
}
