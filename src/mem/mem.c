/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/mem.h"

#include <errno.h>
#include <unistd.h>

ssize_t mem_read(struct mem *mem, uint64_t address, void *buf, size_t len)
{
	return len ? mem->ops->read(mem, address, buf, len) : 0;
}

int mem_read_exact(struct mem *mem, uint64_t address, void *buf, size_t len)
{
	ssize_t n = mem_read(mem, address, buf, len);

	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EFAULT;
}

int mem_read_u64(struct mem *mem, uint64_t address, uint64_t *ret)
{
	uint64_t value;
	int r;

	r = mem_read_exact(mem, address, &value, sizeof(value));
	if (r == 0)
		*ret = value;
	return r;
}

int mem_read_batch(struct mem *mem, struct mem_piece *pieces, size_t count)
{
	for (size_t i = 0; i < count; i++)
		pieces[i].done = 0;
	if (mem->ops->read_batch)
		return count ? mem->ops->read_batch(mem, pieces, count) : 0;
	for (size_t i = 0; i < count; i++) {
		ssize_t n = mem_read(mem, pieces[i].address, pieces[i].buf, pieces[i].len);

		if (n < 0)
			return (int)n;
		pieces[i].done = (size_t)n;
	}
	return 0;
}

ssize_t mem_present(struct mem *mem, uint64_t start, uint64_t end, struct mem_range *ret, size_t cap,
		    uint64_t *ret_next)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	if (start >= end) {
		*ret_next = end;
		return 0;
	}
	if (cap == 0)
		return -EINVAL;
	if (mem->ops->present)
		return mem->ops->present(mem, start, end, ret, cap, ret_next);
	ret[0].start = start & ~(page - 1);
	ret[0].end = end > UINT64_MAX - page ? end : (end + page - 1) & ~(page - 1);
	*ret_next = end;
	return 1;
}

ssize_t mem_regions(struct mem *mem, const struct region **ret)
{
	return mem->ops->regions(mem, ret);
}

void mem_destroy(struct mem *mem)
{
	if (mem)
		mem->ops->destroy(mem);
}

const struct region *region_find(const struct region *regions, size_t count, uint64_t address)
{
	size_t low = 0, high = count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (address < regions[mid].start)
			high = mid;
		else if (address >= regions[mid].end)
			low = mid + 1;
		else
			return &regions[mid];
	}
	return NULL;
}
