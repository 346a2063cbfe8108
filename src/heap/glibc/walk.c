/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The chunk loop. State between two steps is one pending chunk (address, head) whose own header was seen; it is counted when the
 * header behind it was seen, because that one says whether the chunk is in use. So only headers are needed: a large chunk is
 * jumped over without reading it. A step that does not fit leaves the pending chunk as it is; the driver decides what it was:
 * the top that moved, a fencepost, or a window that was copied while the target wrote into it.
 */
#include <errno.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"

#include "glibc.h"

#define ATTEMPTS 3
#define TOP_MOVES_MAX 16
#define CANDIDATES_MAX 32768
#define LINKS_MAX 262144

enum step {
	STEP_OUTSIDE, /* the header behind the pending chunk lies outside the window */
	STEP_TOP,     /* the pending chunk is the top */
	STEP_ODD,     /* the pending chunk and the header behind it do not fit */
};

struct pending {
	uint64_t address, head;
};

/* Chunk sizes of tcache structs, as a set over size / 16. */
static uint64_t tcache_sizes(const struct glibc *g)
{
	uint64_t set = 0;

	if (g->tcache)
		return 1ULL << (g->tcache->chunk_bytes / 16);
	for (size_t i = 0; i < glibc_tcache_layout_count; i++)
		set |= 1ULL << (glibc_tcache_layouts[i].chunk_bytes / 16);
	return set;
}

/* A block of the right size: kept for later unless its bytes are in the window and cannot be a tcache. */
static void note_candidate(struct glibc_walk *w, uint64_t address, uint64_t size)
{
	const struct glibc_reader *r = &w->reader;
	size_t at = w->tally.candidate_count;

	/* a tcache struct may reach into the first word of the next chunk */
	if (address >= r->base && address + size + 8 <= r->base + r->len) {
		const uint8_t *data = r->buf + (address - r->base) + CHUNK_HEADER;
		bool any = false;

		for (size_t i = 0; i < glibc_tcache_layout_count && !any; i++)
			any = glibc_tcache_layouts[i].chunk_bytes == size &&
			      glibc_tcache_plausible(&glibc_tcache_layouts[i], data, w->tcache_count);
		if (!any)
			return;
	}
	if (at >= CANDIDATES_MAX || vec_reserve(&w->candidates, &w->candidate_cap, at + 1, sizeof(*w->candidates)) < 0)
		return;
	w->candidates[at] = address;
	w->tally.candidate_count = at + 1;
}

/* A small block: kept where its first word, read as a fastbin's link, leads into the same heap. */
static void note_link(struct glibc_walk *w, const struct glibc_span *s, uint64_t address)
{
	uint64_t at = address - w->reader.base, next;
	size_t n = w->tally.link_count;

	if (address < w->reader.base || at + CHUNK_HEADER + 8 > w->reader.len)
		return; /* its first word was in the window before */
	next = glibc_follow(address + CHUNK_HEADER, glibc_load(w->reader.buf + at + CHUNK_HEADER), w->g->linking);
	if (next % 16 != 0 || next < s->start || next >= s->end || n >= LINKS_MAX ||
	    vec_reserve(&w->links, &w->link_cap, n + 1, sizeof(*w->links)) < 0)
		return;
	w->links[n] = (struct glibc_link){ (uint32_t)(address >> 4), (uint32_t)(next >> 4) };
	w->tally.link_count = n + 1;
}

/* The largest block that may be in a fastbin of this arena; 0: they are empty. */
static uint64_t fast_max(const struct glibc_walk *w, const struct glibc_arena *a)
{
	for (uint64_t b = GLIBC_FASTBINS; b > 0 && w->g->linking != LINK_UNKNOWN; b--)
		if (a->fastbins[b - 1])
			return 32 + 16 * (b - 1);
	return 0;
}

static void note_large(struct glibc_walk *w, struct glibc_tally *t, uint64_t address, uint64_t size, size_t index,
		       bool in_use)
{
	/* malloc_trim() keeps the header and the four links of a free chunk */
	uint64_t start = glibc_align_up(address + 48, GLIBC_PAGE);
	uint64_t end = (address + size) & ~(GLIBC_PAGE - 1);

	t->bytes[in_use][index] += size;
	if (in_use)
		return;
	if (size > t->largest_free_bytes)
		t->largest_free_bytes = size;
	if (start >= end)
		return;
	t->whole_pages_bytes += end - start;
	if (w->options->resident)
		t->absent_bytes += end - start - glibc_reader_present_bytes(&w->reader, start, end);
}

/* Steps through the window. The hot loop of a walk: 64 to 512-byte blocks at several GB/s. */
static enum step run(struct glibc_walk *w, const struct glibc_span *s, uint64_t top, uint64_t set,
		     struct pending *pending)
{
	const uint8_t *buf = w->reader.buf;
	uint64_t base = w->reader.base, span = w->reader.len - CHUNK_HEADER, end = s->end;
	uint64_t flag = s->arena->is_main ? 0 : CHUNK_NON_MAIN, fast = fast_max(w, s->arena);
	uint64_t address = pending->address, head = pending->head;
	struct glibc_tally *t = &w->tally;
	uint64_t wanted = glibc_next_wanted(w, address);
	struct heap_picks *picks = w->options->picks;
	const uint64_t *below = picks ? picks->below : NULL;
	uint64_t salt = picks ? picks->salt : 0;
	enum step step = STEP_ODD;

	while (address != top) {
		uint64_t size = head & ~CHUNK_FLAGS, next = address + size;
		uint64_t at = next - base, next_head, in_use;
		size_t index;

		if (at > span) {
			step = STEP_OUTSIDE;
			goto out;
		}
		next_head = glibc_load(buf + at + 8);
		in_use = next_head & CHUNK_PREV_IN_USE;
		if (((next_head & 10) != 0) | (next_head < CHUNK_MIN) | ((next_head & ~CHUNK_FLAGS) > end - next))
			goto out;
		if (in_use ? ((head ^ flag) & CHUNK_NON_MAIN) != 0 : glibc_load(buf + at) != size)
			goto out;
		if (size <= 1024) {
			index = (size_t)(size >> 4);
			if (index < 64 && (set >> index & 1) != 0 && in_use)
				note_candidate(w, address, size);
			if (size <= fast && in_use)
				note_link(w, s, address);
		} else {
			index = heap_class_index(size);
			note_large(w, t, address, size, index, in_use != 0);
		}
		t->blocks[in_use][index]++;
		if (below && heap_pick_hash(address, salt) < below[index] && in_use)
			heap_picks_add(picks, index, address, size, heap_pick_hash(address, salt));
		if (next > wanted) {
			glibc_found_block(w, address, size, in_use != 0);
			wanted = glibc_next_wanted(w, next);
		}
		address = next;
		head = next_head;
	}
	step = STEP_TOP;
out:
	pending->address = address;
	pending->head = head;
	return step;
}

static bool read_head(struct glibc_walk *w, const struct glibc_span *s, uint64_t address, struct pending *ret)
{
	uint64_t end, head;
	bool sane;

	if (address < s->start || address >= s->end || s->end - address < CHUNK_HEADER ||
	    glibc_reader_present(&w->reader, address, s->end, &end) != 1 ||
	    mem_read_u64(w->mem, address + 8, &head) < 0)
		return false;
	sane = !(head & 10) && head >= CHUNK_MIN && (head & ~CHUNK_FLAGS) <= s->end - address;
	if (sane)
		*ret = (struct pending){ address, head };
	return sane;
}

/* A walk's state inside one span. */
struct drive {
	struct glibc_span *s;
	struct pending at, saved;
	struct glibc_tally before; /* when the window was begun */
	uint64_t top;              /* 0: not in this span */
	uint64_t set;
	uint64_t torn_at;
	unsigned int attempts, top_moves;
};

static void count_chunk(struct glibc_walk *w, const struct pending *p, bool in_use)
{
	uint64_t size = p->head & ~CHUNK_FLAGS;
	size_t index = heap_class_index(size);

	w->tally.blocks[in_use][index]++;
	if (index >= HEAP_SMALL_CLASSES)
		note_large(w, &w->tally, p->address, size, index, in_use);
}

/* True where the top moved since it was last read and the pending chunk lies before it or is it. */
static bool follow_top(struct glibc_walk *w, struct drive *d)
{
	struct glibc_arena *a = d->s->arena;
	uint64_t old = a->top, old_end = d->s->end;

	if (!d->s->has_top || d->top_moves >= TOP_MOVES_MAX)
		return false;
	d->top_moves++;
	if (glibc_refresh_top(w, a) < 0 || a->top < d->s->start)
		return false;
	d->top = a->top;
	d->s->end = a->top + a->top_bytes;
	return (a->top != old || d->s->end != old_end) && a->top >= d->at.address && d->s->end > d->at.address;
}

/* The walk ends at the pending chunk: all behind it is the top, wherever that begins by now. */
static void settle_top(struct glibc_walk *w, struct drive *d)
{
	struct glibc_arena *a = d->s->arena;

	if (a->top != d->at.address && d->s->end > d->at.address) {
		a->top = d->at.address;
		a->top_bytes = d->s->end - d->at.address;
	}
	glibc_found_block(w, a->top, a->top_bytes, false);
	a->reached_top = true;
	d->s->finish = d->s->end;
}

/* Where the chain ends by right: the top that moved, or a fencepost. 1: span done, 2: go on from d->at, 0: neither. */
static int chain_end(struct glibc_walk *w, struct drive *d)
{
	uint64_t next = d->at.address + (d->at.head & ~CHUNK_FLAGS), fence_end = 0, head;
	struct glibc_arena *a = d->s->arena;

	if (follow_top(w, d))
		return 2;
	if (d->s->has_top && a->top <= d->at.address && next == d->s->end) {
		settle_top(w, d);
		return 1;
	}
	glibc_reader_forget(&w->reader);
	if (!glibc_is_fence(w, d->s, next, &fence_end) || !glibc_reader_peek_u64(&w->reader, next + 8, &head)) {
		/* a thread heap's rest of 32 bytes is a fencepost that looks like a block */
		if (!glibc_is_fence(w, d->s, d->at.address, &fence_end))
			return 0;
	} else {
		count_chunk(w, &d->at, head & CHUNK_PREV_IN_USE);
	}
	d->s->finish = fence_end;
	return 1;
}

/* The chain broke. 0: go on from d->at, -ENODATA: the rest of the span is lost. */
static int mend(struct glibc_walk *w, struct drive *d)
{
	uint64_t found;

	if (d->at.address > d->torn_at)
		d->attempts = 0;
	d->torn_at = d->at.address;
	if (d->attempts++ == 0)
		w->stats.torn_windows++;
	if (d->attempts <= ATTEMPTS) {
		w->stats.reread_windows++;
		if (read_head(w, d->s, d->saved.address, &d->saved)) {
			w->tally = d->before;
			if (w->options->picks)
				heap_picks_drop(w->options->picks, d->saved.address, d->at.address);
			d->at = d->saved;
			return 0;
		}
	}
	glibc_reader_forget(&w->reader);
	found = glibc_resync(w, d->s, d->at.address + 16);
	d->attempts = 0;
	if (found && found == d->top) {
		w->stats.skipped_bytes += found - d->at.address;
		d->s->arena->skipped_bytes += found - d->at.address;
		w->stats.resyncs++;
		d->at.address = found;
		return 0;
	}
	if (!found || !read_head(w, d->s, found, &d->saved))
		return -ENODATA;
	w->stats.skipped_bytes += found - d->at.address;
	d->s->arena->skipped_bytes += found - d->at.address;
	w->stats.resyncs++;
	d->at = d->saved;
	return 0;
}

static int give_up(struct glibc_walk *w, struct drive *d)
{
	uint64_t end = d->s->has_top && d->top > d->at.address ? d->top : d->s->end;
	uint64_t lost = end > d->at.address ? end - d->at.address : 0;

	w->stats.skipped_bytes += lost;
	d->s->arena->skipped_bytes += lost;
	w->stats.complete = false;
	d->s->finish = d->s->end;
	return 0;
}

/* One window and what follows from it. 1: done, 0: go on, -ENODATA: lost, -errno. */
static int advance(struct glibc_walk *w, struct drive *d)
{
	static const size_t caps[ATTEMPTS + 1] = { GLIBC_WINDOW_BYTES, 64U << 10, 16U << 10, 4U << 10 };
	uint64_t next = d->at.address + (d->at.head & ~CHUNK_FLAGS), from = d->at.address;
	enum step step = STEP_ODD;
	int rc;

	if (d->at.address == d->top) {
		step = STEP_TOP;
	} else if (d->s->end >= CHUNK_HEADER && next <= d->s->end - CHUNK_HEADER) {
		d->before = w->tally;
		d->saved = d->at;
		rc = glibc_reader_window(&w->reader, next, d->s->end,
					 caps[d->attempts <= ATTEMPTS ? d->attempts : ATTEMPTS]);
		if (rc < 0 && rc != -EFAULT)
			return rc;
		if (rc == 0)
			step = run(w, d->s, d->top, d->set, &d->at);
	}
	w->stats.walked_bytes += d->at.address - from;
	if (step == STEP_TOP) {
		/* blocks may have been cut from the top meanwhile */
		if (follow_top(w, d) && d->top > d->at.address && read_head(w, d->s, d->at.address, &d->at))
			return 0;
		settle_top(w, d);
		return 1;
	}
	if (step == STEP_OUTSIDE)
		return 0;
	rc = chain_end(w, d);
	if (rc)
		return rc == 1;
	return mend(w, d);
}

/* Asked once a window. */
static int out_of_time(const struct heap_walk_options *o)
{
	if (o->cancel && *o->cancel)
		return -ECANCELED;
	return o->deadline_ns && clock_now_ns() > o->deadline_ns ? -ETIME : 0;
}

int glibc_walk_span(struct glibc_walk *w, struct glibc_span *s)
{
	struct drive d = { .s = s, .top = s->has_top ? s->arena->top : 0, .set = tcache_sizes(w->g) };
	uint64_t limit = w->options->max_bytes;
	int rc = 0;

	s->finish = s->end;
	d.at.address = s->start;
	d.saved.address = s->start;
	if (s->start >= s->end || (s->has_top && s->start == s->arena->top)) {
		s->arena->reached_top |= s->has_top && s->start == s->arena->top;
		return 0;
	}
	if (!read_head(w, s, s->start, &d.at)) {
		d.before = w->tally;
		d.attempts = ATTEMPTS;
		rc = mend(w, &d);
	}
	while (rc == 0) {
		rc = out_of_time(w->options);
		if (rc < 0)
			return rc;
		if (limit && w->stats.walked_bytes >= limit)
			rc = -ENODATA;
		else
			rc = advance(w, &d);
	}
	if (rc == -ENODATA)
		return give_up(w, &d);
	return rc < 0 ? rc : 0;
}
