/* SPDX-License-Identifier: GPL-3.0-or-later */
/* maps, smaps and smaps_rollup of a process, streamed. */
#include <errno.h>
#include <unistd.h>

#include "files.h"
#include "lines.h"
#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"
#include "memwatch/proc.h"

/*
 * The kernel takes the lock anew for each page of text, so mappings may merge or grow between two lines: what begins
 * before the end of the last one is cut, so that the list stays ascending and without overlap.
 */
static int append_region(struct text line, struct intern *paths, struct region **regions, size_t *cap, size_t *count)
{
	uint64_t last_end = *count ? (*regions)[*count - 1].end : 0;
	struct region r;
	int err;

	err = parse_maps_line(line.data, line.len, paths, &r);
	if (err < 0)
		return err;
	if (r.end <= last_end)
		return 0;
	if (r.start < last_end) {
		if (r.inode)
			r.offset += last_end - r.start;
		r.start = last_end;
	}
	err = vec_reserve(regions, cap, *count + 1, sizeof(**regions));
	if (err < 0)
		return err;
	(*regions)[(*count)++] = r;
	return 0;
}

int proc_read_maps_at(int dir_fd, struct intern *paths, struct region **regions, size_t *cap, size_t *ret_count)
{
	struct lines lines;
	struct text line;
	size_t count = 0;
	int r = lines_open(&lines, dir_fd, "maps");

	while (r >= 0 && (r = lines_next(&lines, &line)) > 0)
		r = append_region(line, paths, regions, cap, &count);
	lines_close(&lines);
	if (r < 0)
		return r;
	if (count == 0)
		return -ESRCH; /* a zombie: the memory went before the process */
	*ret_count = count;
	return 0;
}

int proc_read_maps(struct proc *p, struct intern *paths, struct region **regions, size_t *cap, size_t *ret_count)
{
	return proc_read_maps_at(p->dir_fd, paths, regions, cap, ret_count);
}

static int read_totals(int dir_fd, const char *name, struct region_totals ret[REGION_CLASS_COUNT], uint64_t *ret_ns)
{
	struct region_totals totals[REGION_CLASS_COUNT];
	uint64_t begin = clock_now_ns();
	struct smaps_parser parser;
	struct lines lines;
	struct text line;
	int r = lines_open(&lines, dir_fd, name);

	smaps_parser_init(&parser, totals);
	while (r >= 0 && (r = lines_next(&lines, &line)) > 0)
		r = smaps_parser_line(&parser, line.data, line.len);
	lines_close(&lines);
	if (r < 0)
		return r;
	if (parser.class < 0)
		return -ESRCH;
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		ret[i] = totals[i];
	*ret_ns = clock_now_ns() - begin;
	return 0;
}

int proc_read_smaps(struct proc *p, struct region_totals ret[REGION_CLASS_COUNT], uint64_t *ret_ns)
{
	return read_totals(p->dir_fd, "smaps", ret, ret_ns);
}

/* The split of PSS is left out: smaps does not have it. */
static void add_totals(struct region_totals *sum, const struct region_totals *row)
{
	sum->count += row->count;
	sum->size_bytes += row->size_bytes;
	sum->rss_bytes += row->rss_bytes;
	sum->pss_bytes += row->pss_bytes;
	sum->anon_bytes += row->anon_bytes;
	sum->swap_bytes += row->swap_bytes;
	sum->lazy_free_bytes += row->lazy_free_bytes;
	sum->private_dirty_bytes += row->private_dirty_bytes;
	sum->shared_bytes += row->shared_bytes;
	sum->anon_huge_bytes += row->anon_huge_bytes;
}

int proc_read_rollup(struct proc *p, struct region_totals *ret, uint64_t *ret_ns)
{
	struct region_totals rows[REGION_CLASS_COUNT];
	struct region_totals sum = { .pss_file_bytes = UNKNOWN_U64, .pss_shmem_bytes = UNKNOWN_U64 };
	int r;

	r = read_totals(p->dir_fd, "smaps_rollup", rows, ret_ns);
	if (r == 0) {
		*ret = rows[REGION_ANON];
		ret->count = ret->size_bytes = UNKNOWN_U64; /* not told here */
		return 0;
	}
	if (r != -ENOENT)
		return r;
	/* Before 4.14. (A process that is gone is -ESRCH in the second reading too.) */
	r = read_totals(p->dir_fd, "smaps", rows, ret_ns);
	if (r < 0)
		return r;
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		add_totals(&sum, &rows[i]);
	*ret = sum;
	return 0;
}
