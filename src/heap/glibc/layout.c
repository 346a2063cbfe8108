/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "glibc.h"

/* x86-64 and other 64-bit little-endian targets. have_fastchunks came with 2.27, fastbins went with 2.43. */
const struct glibc_layout glibc_layouts[] = {
	{ "2.27..2.42", 16, 96, 112, 2160, 2184, 2200, 0 },
	{ "2.26", 8, 88, 104, 2152, 2176, 2192, 0 },
	{ "2.43", -1, 8, 24, 2072, 2096, 2112, CHUNK_HEADER },
};
const size_t glibc_layout_count = sizeof(glibc_layouts) / sizeof(glibc_layouts[0]);

/* Huge pages came with 2.35, thp_mode with 2.43. */
const struct glibc_par_layout glibc_par_layouts[] = {
	{ "2.35..2.42", 48, 60, 72, 80, 96, 104, 112, 120, 136 },
	{ "2.26..2.34", 0, 40, 52, 56, 72, 80, 88, 96, 112 },
	{ "2.43", 56, 68, 80, 88, 104, 112, 120, 128, 144 },
};
const size_t glibc_par_layout_count = sizeof(glibc_par_layouts) / sizeof(glibc_par_layouts[0]);

const struct glibc_tcache_layout glibc_tcache_layouts[] = {
	{ "2.30..2.41", 0x290, 2, 64, 64, 128, false },
	{ "2.26..2.29", 0x250, 1, 64, 64, 64, false },
	{ "2.42..2.43", 0x300, 2, 76, 64, 152, true },
};
const size_t glibc_tcache_layout_count = sizeof(glibc_tcache_layouts) / sizeof(glibc_tcache_layouts[0]);

const uint32_t glibc_heap_headers[2] = { 48, 32 }; /* 2.35+, before */

/* 64 MiB; four huge pages of 2 MiB or 1 GiB where glibc.malloc.hugetlb is set (2.35..2.41). */
const uint64_t glibc_heap_maxima[3] = { 64ULL << 20, 8ULL << 20, 4ULL << 30 };
