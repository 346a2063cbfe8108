/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "cpython.h"

/* Objects/obmalloc.c, pycore_obmalloc.h: POOL_BITS and ARENA_BITS; large pools came with the radix tree of 3.10. */
const struct cpython_geometry cpython_geometries[2] = {
	{ 1ULL << 20, 16ULL << 10 },
	{ 256ULL << 10, 4ULL << 10 },
};

/*
 * x86-64 release builds. Offsets of 3.13+ stand in the target, in _Py_DebugOffsets. That of the pointer to obmalloc does not, and it moved inside 3.14:
 * it is learned.
 */
static const struct cpython_layout layouts[] = {
	{ 8, false, 32, 8, 344, true, 0, 0, OBMALLOC_STATIC },
	{ 9, false, 32, 8, 616, false, 0, 0, OBMALLOC_STATIC },
	{ 10, false, 32, 8, 616, false, 0, 0, OBMALLOC_STATIC },
	{ 11, false, 40, 16, 648, false, 0, 0, OBMALLOC_STATIC },
	{ 12, false, 40, 72, 112, false, 0, 0, OBMALLOC_INSIDE },
	{ 13, true, 0, 0, 0, false, 10, 71, OBMALLOC_BEHIND_POINTER },
	{ 14, true, 0, 0, 0, false, 11, 81, OBMALLOC_BEHIND_POINTER },
};

/*
 * 3.14.5 went back from the incremental collector of 3.14.0 to generations and got long_lived_total again, heap_size did not move: before, that one
 * stands for it. Seen running: all but 3.14.0 to 3.14.4.
 */
static const struct cpython_gc_layout gc_layouts[] = {
	{ 8, 12, 0, 0, 128, 224 },
	{ 13, 13, 240, 200, 128, 224 },
	{ 14, 14, 264, 192, 120, 240 },
	{ 14, 14, 0, 192, 120, 216 },
};

const struct cpython_layout *cpython_layout_of(unsigned int minor)
{
	for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++)
		if (layouts[i].minor == minor)
			return &layouts[i];
	return NULL;
}

const struct cpython_gc_layout *cpython_gc_layout_of(unsigned int minor, uint64_t size, uint64_t collecting)
{
	for (size_t i = 0; i < sizeof(gc_layouts) / sizeof(gc_layouts[0]); i++) {
		const struct cpython_gc_layout *l = &gc_layouts[i];

		if (minor < l->minor_min || minor > l->minor_max || (l->collecting && l->collecting != collecting) ||
		    (l->size && l->size != size))
			continue;
		return l;
	}
	return NULL;
}
