/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Call frame information of a file, and the file of a cached table. The first byte chooses: .eh_frame, .debug_frame or cache.
 * What comes out is a table that look-ups can trust.
 */
#include <stdlib.h>
#include <string.h>

#include "unwind/compact.h"

#define BASE 0x1000
#define ROWS_MAX 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct compact *table)
{
	if (!compact_valid(table->rows, table->count))
		abort();
	for (size_t i = 0; i < table->count; i++) {
		const struct compact_row *row = &table->rows[i];

		if (compact_find(table, row->start) != row->rule)
			abort();
		if (row->start && i && compact_find(table, row->start - 1) != table->rows[i - 1].rule)
			abort();
	}
	if (table->count && table->rows[0].start &&
	    compact_kind(compact_find(table, table->rows[0].start - 1)) != COMPACT_GAP)
		abort();
}

static void read_cached(const uint8_t *data, size_t size)
{
	static const unsigned char id[] = "a build-id, twenty b";
	struct cache_key key = { .id = id, .id_len = 20, .base = BASE, .address = 0x2000, .section_len = 4099 };
	struct compact table;

	if (cache_parse(data, size, &key, &table)) {
		check(&table);
		free(table.rows);
	}
}

/* Checksums keep mutations out: here they are put right, so that what lies behind them is reached. */
static void read_mended(const uint8_t *data, size_t size)
{
	unsigned char *copy;
	uint64_t hash, count;
	const size_t header = 72, rows_at = header + 24;

	if (size <= rows_at)
		return;
	copy = malloc(size);
	if (!copy)
		return;
	memcpy(copy, data, size);
	hash = cache_hash(copy + rows_at, size - rows_at);
	count = (size - rows_at) / sizeof(struct compact_row);
	memcpy(copy + header - 16, &count, 8);
	memcpy(copy + header - 8, &hash, 8);
	read_cached(copy, size);
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct compact table = { .base = BASE };
	struct frame_section section = { .address = 0x2000 };

	if (size < 1)
		return 0;
	if (data[0] % 4 == 2) {
		read_cached(data + 1, size - 1);
		read_mended(data + 1, size - 1);
		return 0;
	}
	section.data = data + 1;
	section.len = size - 1;
	section.debug = data[0] % 4 == 1;
	if (frame_rows(&section, BASE, ROWS_MAX, &table.rows, &table.count) == 0) {
		check(&table);
		if (table.count > ROWS_MAX)
			abort();
		free(table.rows);
	}
	return 0;
}
