/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"
#include "sites/probe/probe.h"

#define STUCK_NS (1 * NS_PER_S) /* a writer that takes longer is gone, or stands: its record is given up */
#define CELLS_AT (offsetof(struct probe_state, ring))

void probe_ring_deinit(struct probe_ring *r)
{
	free(r->cells);
	*r = (struct probe_ring){ 0 };
}

/* Cells [from, to) of the ring into r->cells. */
static int read_cells(struct probe_ring *r, const struct probe_place *p, uint64_t from, uint64_t to)
{
	size_t count = (size_t)(to - from), first = from % PROBE_CELLS, left = PROBE_CELLS - first;
	size_t before = count < left ? count : left;
	struct mem_piece pieces[2];
	int rc = vec_reserve(&r->cells, &r->cell_cap, count, PROBE_CELL);

	if (rc < 0)
		return rc;
	pieces[0] = (struct mem_piece){ .address = p->state + CELLS_AT + first * PROBE_CELL,
					.buf = r->cells,
					.len = before * PROBE_CELL };
	pieces[1] = (struct mem_piece){ .address = p->state + CELLS_AT,
					.buf = r->cells + before * PROBE_CELL,
					.len = (count - before) * PROBE_CELL };
	rc = mem_read_batch(p->mem, pieces, count > before ? 2 : 1);
	if (rc < 0)
		return rc;
	return pieces[0].done < pieces[0].len || (count > before && pieces[1].done < pieces[1].len) ? -EFAULT : 0;
}

static bool event_of(const unsigned char *cell, size_t cells, struct probe_event *ret)
{
	const struct probe_record *record = (const void *)cell;
	const struct probe_stack *stack = (const void *)(cell + PROBE_CELL);

	*ret = (struct probe_event){ .record = record };
	if (record->kind != PROBE_TAKEN || cells < 2)
		return true;
	if (stack->slice_bytes > (cells - 2) * PROBE_CELL || stack->slice_bytes > PROBE_SLICE_MAX ||
	    stack->slice_bytes % 8)
		return false;
	ret->stack = stack;
	ret->slice = cell + 2 * PROBE_CELL;
	return true;
}

/* A finished record begins at this cell. */
static bool is_finished(const struct probe_ring *r, size_t at, size_t count, uint64_t position)
{
	const struct probe_record *record = (const void *)(r->cells + at * PROBE_CELL);

	return record->seq == position + 1 && record->cells > 0 && record->cells <= count - at;
}

/* How far a record that never gets finished reaches: to the next one that is. It is waited for first. */
static size_t skip_hole(struct probe_ring *r, size_t at, size_t count)
{
	uint64_t position = r->tail + at, now = clock_now_ns();

	if (r->stuck_at != position || r->stuck_ns == 0) {
		r->stuck_at = position;
		r->stuck_ns = now;
	}
	if (now - r->stuck_ns < STUCK_NS)
		return 0;
	for (size_t next = at + 1; next < count; next++)
		if (is_finished(r, next, count, r->tail + next)) {
			r->holes++;
			r->stuck_ns = 0;
			return next - at;
		}
	return 0;
}

ssize_t probe_ring_read(struct probe_ring *r, const struct probe_place *p,
			int (*take)(void *arg, const struct probe_event *event), void *arg)
{
	struct probe_event event;
	ssize_t taken = 0;
	size_t count, at = 0;
	uint64_t head;
	int rc = mem_read_u64(p->mem, p->state + offsetof(struct probe_state, head), &head);

	if (rc < 0)
		return rc;
	if (head < r->tail || head - r->tail > PROBE_CELLS)
		return -EBADMSG;
	count = (size_t)(head - r->tail);
	rc = count > 0 ? read_cells(r, p, r->tail, head) : 0;
	while (rc >= 0 && at < count) {
		const struct probe_record *record = (const void *)(r->cells + at * PROBE_CELL);
		size_t cells = record->cells;

		if (!is_finished(r, at, count, r->tail + at)) {
			cells = skip_hole(r, at, count);
			if (cells == 0)
				break;
		} else if (record->kind != 0 && event_of(r->cells + at * PROBE_CELL, cells, &event)) {
			rc = take(arg, &event);
			taken++;
		}
		at += cells;
	}
	r->tail += at;
	if (at > 0) {
		int moved = probe_set(p, offsetof(struct probe_state, tail), r->tail);

		rc = rc < 0 ? rc : moved;
	}
	return rc < 0 ? rc : taken;
}
