/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Free blocks that look in use: those in tcaches and fastbins. The chunk loop counts them as in use; here the lists are walked and
 * each block is moved over. Membership in a list is exact; the key in a free block is not (a block that went from a dead thread's
 * tcache through a fastbin to its next owner still carries it), so keys are not looked at.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "glibc.h"

#define MISSES_MAX 262144U /* pages read for lists: what a scattered fastbin may cost */
#define TCACHE_MAX_BYTES 0x300
#define RETRIES 6
#define RETRY_LENGTH 4096
#define RETRY_MISSES 4096
#define COUNT_MAX UINT16_MAX

static uint64_t raw_count(const struct glibc_tcache_layout *l, const uint8_t *data, uint32_t bin)
{
	return l->count_bytes == 1 ? data[bin] : (uint64_t)data[2 * bin] | (uint64_t)data[2 * bin + 1] << 8;
}

/* What a bin may hold: mp_.tcache_count; where that is unknown, the counts of empty bins tell it (2.42). */
static uint64_t full_count(const struct glibc_tcache_layout *l, const uint8_t *data, uint64_t slots)
{
	uint64_t most = 0;

	if (slots)
		return slots;
	if (!l->counts_free_slots)
		return l->count_bytes == 1 ? 127 : COUNT_MAX;
	for (uint32_t i = 0; i < l->bins; i++)
		if (raw_count(l, data, i) > most)
			most = raw_count(l, data, i);
	return most;
}

/* At least one bin in use, and counts and heads that agree; one bin may be in flux. */
bool glibc_tcache_plausible(const struct glibc_tcache_layout *l, const uint8_t *data, uint64_t slots)
{
	uint64_t full = full_count(l, data, slots), filled = 0, odd = 0;

	for (uint32_t i = 0; i < l->bins; i++) {
		uint64_t raw = raw_count(l, data, i), head = glibc_load(data + l->entries + 8 * i);
		uint64_t count;

		if (raw > full || head % 16 != 0 || head >> 47 != 0)
			return false;
		count = l->counts_free_slots ? full - raw : raw;
		filled += count != 0 && head != 0;
		odd += (count != 0) != (head != 0);
		if (odd > 1)
			return false;
	}
	return filled > odd;
}

/* Does the stored link of a block lead to the end or to a block of the same size? */
static bool leads_on(struct glibc_walk *w, uint64_t user, uint64_t size, uint64_t to_user, enum glibc_linking linking,
		     bool last)
{
	uint64_t stored, next, head;

	if (!glibc_reader_peek_u64(&w->reader, user, &stored))
		return false;
	next = glibc_follow(user, stored, linking);
	if (last || next == 0)
		return next == 0;
	next += to_user;
	return next % 16 == 0 && glibc_reader_peek_u64(&w->reader, next - 8, &head) && (head & ~CHUNK_FLAGS) == size;
}

static void vote_linking(struct glibc_walk *w, uint64_t user, uint64_t to_user, bool last, int *votes)
{
	uint64_t head;

	if (!glibc_reader_peek_u64(&w->reader, user - 8, &head))
		return;
	head &= ~CHUNK_FLAGS;
	*votes += leads_on(w, user, head, to_user, LINK_SAFE, last);
	*votes -= leads_on(w, user, head, to_user, LINK_PLAIN, last);
}

/* Moves one block from in use to free; false where none is left to move: a list of lies. */
static bool move_block(struct glibc_walk *w, struct glibc_arena *a, uint64_t size)
{
	size_t index = heap_class_index(size);

	if (w->total.blocks[1][index] == 0 || a->in_use_bytes < size || a->in_use_blocks == 0)
		return false;
	w->total.blocks[1][index]--;
	w->total.blocks[0][index]++;
	if (index >= HEAP_SMALL_CLASSES) {
		w->total.bytes[1][index] -= size < w->total.bytes[1][index] ? size : w->total.bytes[1][index];
		w->total.bytes[0][index] += size;
	}
	a->in_use_blocks--;
	a->in_use_bytes -= size;
	a->free_blocks++;
	a->free_bytes += size;
	if (size > w->total.largest_free_bytes)
		w->total.largest_free_bytes = size;
	return true;
}

/* The chunk loop took it for a block in use. */
static void found_free(struct glibc_walk *w, uint64_t chunk, uint64_t size)
{
	glibc_found_block(w, chunk, size, false);
	if (w->options->picks)
		heap_picks_drop_block(w->options->picks, chunk, size);
}

/* Walks one list of at most `most` blocks; each is checked. size 0: any. Returns the number of blocks moved. */
static uint64_t walk_list(struct glibc_walk *w, uint64_t user, uint64_t size, uint64_t most, uint64_t *bytes)
{
	uint64_t n = 0;

	while (user > GLIBC_PAGE && n < most) {
		struct glibc_arena *a;
		uint64_t head, stored;

		if (!glibc_reader_peek_u64(&w->reader, user - 8, &head) || (head & 10) || head < CHUNK_MIN ||
		    (size && (head & ~CHUNK_FLAGS) != size))
			break;
		a = glibc_arena_of_chunk(w, user - CHUNK_HEADER, head);
		if (!a || !glibc_reader_peek_u64(&w->reader, user, &stored))
			break;
		if (!move_block(w, a, head & ~CHUNK_FLAGS))
			break;
		*bytes += head & ~CHUNK_FLAGS;
		found_free(w, user - CHUNK_HEADER, head & ~CHUNK_FLAGS);
		n++;
		user = glibc_follow(user, stored, w->g->linking);
		if (user % 16 != 0)
			break;
	}
	return n;
}

/* Reads a candidate anew; NULL where it is no tcache (now). */
static const struct glibc_tcache_layout *read_candidate(struct glibc_walk *w, uint64_t chunk, uint8_t *ret)
{
	uint64_t head;

	if (!glibc_reader_peek_u64(&w->reader, chunk + 8, &head))
		return NULL;
	for (size_t i = 0; i < glibc_tcache_layout_count; i++) {
		const struct glibc_tcache_layout *l = &glibc_tcache_layouts[i];

		if (l->chunk_bytes != (head & ~CHUNK_FLAGS) || (w->g->tcache && w->g->tcache != l))
			continue;
		if (mem_read_exact(w->mem, chunk + CHUNK_HEADER, ret, l->entries + 8 * l->bins) < 0 ||
		    !glibc_tcache_plausible(l, ret, w->tcache_count))
			return NULL;
		return l;
	}
	return NULL;
}

/* How many bins begin with a block of the bin's own size. */
static uint64_t heads_that_fit(struct glibc_walk *w, const struct glibc_tcache_layout *l, const uint8_t *data,
			       uint64_t *ret_wrong)
{
	uint64_t fit = 0;

	for (uint32_t i = 0; i < l->bins; i++) {
		uint64_t user = glibc_load(data + l->entries + 8 * i), head;

		if (!user)
			continue;
		if (user > GLIBC_PAGE && glibc_reader_peek_u64(&w->reader, user - 8, &head) &&
		    (i < l->small_bins ? (head & ~CHUNK_FLAGS) == 32 + 16 * (uint64_t)i : head > 1024))
			fit++;
		else
			++*ret_wrong;
	}
	return fit;
}

/* Keeps the candidates that are tcaches; learns layout and linking from them. */
static void learn(struct glibc_walk *w)
{
	uint64_t points[8] = { 0 };
	size_t kept = 0, best = 0;
	uint8_t data[TCACHE_MAX_BYTES];
	int votes = 0;

	for (size_t c = 0; c < w->tally.candidate_count; c++) {
		const struct glibc_tcache_layout *l = read_candidate(w, w->candidates[c], data);
		uint64_t wrong = 0, fit = l ? heads_that_fit(w, l, data, &wrong) : 0;

		if (!l || fit <= wrong)
			continue;
		points[l - glibc_tcache_layouts] += fit;
		w->candidates[kept++] = w->candidates[c];
		if (w->g->linking != LINK_UNKNOWN)
			continue;
		for (uint32_t i = 0; i < l->bins; i++) {
			uint64_t user = glibc_load(data + l->entries + 8 * i),
				 full = full_count(l, data, w->tcache_count);
			uint64_t raw = raw_count(l, data, i);

			if (user)
				vote_linking(w, user, 0, (l->counts_free_slots ? full - raw : raw) == 1, &votes);
		}
	}
	w->tally.candidate_count = kept;
	for (size_t i = 0; i < glibc_tcache_layout_count; i++)
		best = points[i] > points[best] ? i : best;
	if (!w->g->tcache && points[best])
		w->g->tcache = &glibc_tcache_layouts[best];
	if (votes)
		w->g->linking = votes > 0 ? LINK_SAFE : LINK_PLAIN;
}

/*
 * One bin of one tcache. The counts were copied in one piece, the list is read step by step: where the target took blocks
 * meanwhile and the list broke, the rest of the count is taken from the arena that the first ones came from.
 */
static void count_bin(struct glibc_walk *w, const struct glibc_tcache_layout *l, const uint8_t *data, uint32_t bin,
		      uint64_t full)
{
	uint64_t raw = raw_count(l, data, bin), count = l->counts_free_slots ? full - raw : raw, head;
	uint64_t first = glibc_load(data + l->entries + 8 * bin),
		 size = bin < l->small_bins ? 32 + 16 * (uint64_t)bin : 0;
	uint64_t n = walk_list(w, first, size, count, &w->stats.tcache_bytes);
	struct glibc_arena *a = NULL;

	if (n > 0 && n < count && size && glibc_reader_peek_u64(&w->reader, first - 8, &head))
		a = glibc_arena_of_chunk(w, first - CHUNK_HEADER, head);
	for (; a && n < count && move_block(w, a, size); n++)
		w->stats.tcache_bytes += size;
	w->stats.tcache_blocks += n;
}

static void count_tcaches(struct glibc_walk *w)
{
	uint8_t data[TCACHE_MAX_BYTES];

	for (size_t c = 0; c < w->tally.candidate_count; c++) {
		const struct glibc_tcache_layout *l = read_candidate(w, w->candidates[c], data);
		uint64_t full = l ? full_count(l, data, w->tcache_count) : 0;

		for (uint32_t i = 0; l && i < l->bins; i++)
			count_bin(w, l, data, i, full);
	}
}

void glibc_learn_linking(struct glibc_walk *w)
{
	int votes = 0;

	for (size_t i = 0; i < w->arena_count && w->g->linking == LINK_UNKNOWN && votes < 16 && votes > -16; i++)
		for (int b = 0; b < GLIBC_FASTBINS; b++)
			if (w->arenas[i].fastbins[b])
				vote_linking(w, w->arenas[i].fastbins[b] + CHUNK_HEADER, CHUNK_HEADER, false, &votes);
	if (votes)
		w->g->linking = votes > 0 ? LINK_SAFE : LINK_PLAIN;
}

static int by_chunk(const void *a, const void *b)
{
	const struct glibc_link *x = a, *y = b;

	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

static struct glibc_link *find_link(const struct glibc_walk *w, uint64_t chunk)
{
	struct glibc_link key = { (uint32_t)(chunk >> 4), 0 }, *found;

	if (w->tally.link_count == 0)
		return NULL;
	found = bsearch(&key, w->links, w->tally.link_count, sizeof(key), by_chunk);
	return found && found->next != found->chunk ? found : NULL;
}

/* The link of a chunk as the chunk loop saw it; 0: not seen, or followed before. */
static uint64_t take_link(struct glibc_walk *w, uint64_t chunk)
{
	struct glibc_link *found = find_link(w, chunk);
	int32_t distance;

	if (!found)
		return 0;
	distance = (int32_t)(found->next - found->chunk);
	found->next = found->chunk;
	return chunk + (uint64_t)((int64_t)distance * 16);
}

/* The link of a chunk as it stands in memory now; 0: the end, or no member of this fastbin. */
static uint64_t peek_link(struct glibc_walk *w, uint64_t chunk, uint64_t size, bool *ret_member)
{
	uint64_t head, stored, misses = w->reader.misses;

	*ret_member = glibc_reader_peek_u64(&w->reader, chunk + 8, &head) && (head & ~CHUNK_FLAGS) == size &&
		      glibc_reader_peek_u64(&w->reader, chunk + CHUNK_HEADER, &stored);
	w->list_misses += w->reader.misses - misses;
	return *ret_member ? glibc_follow(chunk + CHUNK_HEADER, stored, w->g->linking) : 0;
}

struct cursor { /* in one fastbin */
	uint64_t chunk, size, count;
	uint64_t before; /* last chunk left by a link seen in passing */
	bool broken;     /* the list was not followed to its end */
};

/* One block further; true where one was counted. */
static bool step(struct glibc_walk *w, struct glibc_arena *a, struct cursor *c)
{
	uint64_t next = take_link(w, c->chunk);
	bool member = true;

	if (!next)
		next = peek_link(w, c->chunk, c->size, &member);
	else
		c->before = c->chunk;
	if (!member && c->before) { /* a link seen in passing was not one: read it now */
		next = peek_link(w, c->before, c->size, &member);
		c->before = 0;
		c->broken |= !member || next % 16 != 0;
		c->chunk = member && next % 16 == 0 ? next : 0;
		return false;
	}
	if (!member || !move_block(w, a, c->size)) {
		c->broken = true;
		c->chunk = 0;
		return false;
	}
	found_free(w, c->chunk, c->size);
	c->count++;
	c->chunk = next % 16 == 0 ? next : 0;
	return true;
}

/*
 * The lists of an arena, side by side: blocks freed in the order of their addresses stand in different lists, so what one list
 * needs is in the page that another one has just read. Steps that cost nothing come first, then the list that lags behind.
 */
static void walk_fastbins(struct glibc_walk *w, struct glibc_arena *a, struct cursor *cursors)
{
	int64_t upward = 0; /* steps up minus steps down */

	while (w->list_misses < MISSES_MAX) {
		struct cursor *last = NULL;
		bool moved = false;

		for (struct cursor *c = cursors; c < cursors + GLIBC_FASTBINS; c++) {
			while (c->chunk && (glibc_reader_cached(&w->reader, c->chunk) || find_link(w, c->chunk))) {
				uint64_t from = c->chunk;

				moved |= step(w, a, c);
				upward += c->chunk > from ? 1 : -1;
			}
			if (c->chunk && (!last || (upward > 0) == (c->chunk < last->chunk)))
				last = c;
		}
		if (!last && !moved)
			return;
		if (last)
			(void)step(w, a, last);
	}
}

/* Length of a list from its head as it is now, by bytes as they are now; *ret_whole: followed to its end. */
static uint64_t list_length(struct glibc_walk *w, uint64_t head_field, uint64_t size, bool *ret_whole)
{
	uint64_t chunk, n = 0;
	bool member = true;

	*ret_whole = false;
	glibc_reader_forget(&w->reader);
	if (mem_read_u64(w->mem, head_field, &chunk) < 0)
		return 0;
	while (chunk && chunk % 16 == 0 && n < RETRY_LENGTH) {
		uint64_t next = peek_link(w, chunk, size, &member);

		if (!member)
			return n;
		chunk = next;
		n++;
	}
	*ret_whole = chunk == 0;
	return n;
}

/* The first blocks of a busy list come and go faster than it is read: the longest of a few looks is nearest to the truth. */
static void retry_list(struct glibc_walk *w, struct glibc_arena *a, uint64_t bin, struct cursor *c)
{
	uint64_t field = a->address + (uint64_t)w->g->layout->fastbins + 8 * bin, best = 0, misses = w->list_misses;
	bool whole = false;

	for (int i = 0; i < RETRIES && !whole && w->list_misses - misses < RETRY_MISSES; i++) {
		uint64_t n = list_length(w, field, c->size, &whole);

		best = n > best ? n : best;
	}
	while (c->count < best && move_block(w, a, c->size))
		c->count++;
}

void glibc_count_fastbins(struct glibc_walk *w, struct glibc_arena *a)
{
	struct cursor cursors[GLIBC_FASTBINS];

	glibc_reader_forget(&w->reader);
	/* heaps are walked newest first, so the links come in runs */
	if (w->tally.link_count)
		qsort(w->links, w->tally.link_count, sizeof(*w->links), by_chunk);
	for (uint64_t b = 0; b < GLIBC_FASTBINS; b++)
		cursors[b] = (struct cursor){ .chunk = w->g->linking != LINK_UNKNOWN ? a->fastbins[b] : 0,
					      .size = 32 + 16 * b };
	walk_fastbins(w, a, cursors);
	for (size_t b = 0; b < GLIBC_FASTBINS; b++) {
		if (cursors[b].broken && cursors[b].count < RETRY_LENGTH)
			retry_list(w, a, b, &cursors[b]);
		w->stats.fastbin_blocks += cursors[b].count;
		w->stats.fastbin_bytes += cursors[b].count * cursors[b].size;
	}
	w->tally.link_count = 0;
}

void glibc_count_tcaches(struct glibc_walk *w)
{
	glibc_reader_forget(&w->reader);
	learn(w);
	count_tcaches(w);
	if (w->list_misses >= MISSES_MAX)
		w->stats.complete = false;
}
