/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdlib.h>

#include "private.h"

/* What memwatch is ready to spend: a program of 100 MB of code has some 3 million rows. Beyond, libdw is asked row by row. */
#define ROWS_PER_TABLE (4U << 20)
#define BYTES_ALL_TABLES (64U << 20)
#define CACHED_MIN_BYTES 16384U /* of a section: less is sooner read than looked for on disk */

struct tables {
	struct compact eh, debug;
	size_t bytes;
	size_t *all_bytes; /* of all modules; in struct symbols */
};

uint32_t compact_find(const struct compact *table, uint32_t offset)
{
	size_t low = 0, high = table->count;

	while (low < high) { /* the number of rows that start at offset or below */
		size_t middle = low + (high - low) / 2;

		if (table->rows[middle].start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? table->rows[low - 1].rule : compact_rule(COMPACT_GAP, 0, 0);
}

bool compact_valid(const struct compact_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		enum compact_kind kind = compact_kind(rows[i].rule);

		if (kind == COMPACT_NOWHERE || kind >= COMPACT_KINDS || (i && rows[i].start <= rows[i - 1].start))
			return false;
	}
	return true;
}

static void tables_destroy(void *arg)
{
	struct tables *t = arg;

	*t->all_bytes -= t->bytes;
	free(t->eh.rows);
	free(t->debug.rows);
	free(t);
}

static uint64_t lowest_vaddr(const struct module *m)
{
	uint64_t lowest = UINT64_MAX;

	for (size_t i = 0; i < m->load_count; i++)
		if (m->loads[i].exec && m->loads[i].vaddr < lowest)
			lowest = m->loads[i].vaddr;
	return lowest;
}

/* .debug_frame may be compressed: libelf expands it as libdw would, and keeps it. */
static bool find_section(const struct module *m, bool debug, struct frame_section *ret)
{
	GElf_Shdr shdr;
	Elf_Scn *scn = image_section(&m->main, debug ? ".debug_frame" : ".eh_frame", &shdr);
	Elf_Data *data;

	if (!scn || shdr.sh_type == SHT_NOBITS)
		return false;
	if (shdr.sh_flags & SHF_COMPRESSED && (!debug || elf_compress(scn, 0, 0) < 0))
		return false;
	data = elf_rawdata(scn, NULL);
	if (!data || !data->d_buf || !data->d_size)
		return false;
	*ret = (struct frame_section){ data->d_buf, data->d_size, shdr.sh_addr, debug };
	return true;
}

static bool build(const struct module *m, const struct frame_section *section, struct compact *ret)
{
	struct cache_key key = { .id = m->build_id, .id_len = m->build_id_len, .base = lowest_vaddr(m) };
	bool cached = m->build_id_len && !m->vdso && section->len >= CACHED_MIN_BYTES;
	struct compact table = { .base = key.base };

	key.address = section->address;
	key.section_len = section->len;
	key.debug = section->debug;
	if (cached) {
		key.section_hash = cache_hash(section->data, section->len);
		if (cache_read(&key, ret))
			return true;
	}
	if (frame_rows(section, key.base, ROWS_PER_TABLE, &table.rows, &table.count) < 0)
		return false;
	if (cached)
		cache_write(&key, &table);
	*ret = table;
	return true;
}

static void add_table(struct tables *t, const struct module *m, bool debug, struct compact *table)
{
	struct frame_section section;
	size_t bytes;

	if (!find_section(m, debug, &section) || !build(m, &section, table))
		return;
	bytes = table->count * sizeof(*table->rows);
	if (bytes > BYTES_ALL_TABLES - *t->all_bytes) {
		free(table->rows);
		*table = (struct compact){ .rows = NULL };
		return;
	}
	t->bytes += bytes;
	*t->all_bytes += bytes;
}

static struct tables *tables_of(struct symbols *s, struct module *m)
{
	struct tables *t = m->tables;

	if (t || m->stage != STAGE_READY || m->tables_failed)
		return t;
	m->tables_failed = true;
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->all_bytes = &s->table_bytes;
	add_table(t, m, false, &t->eh);
	add_table(t, m, true, &t->debug);
	module_trim(m);
	m->tables = t;
	m->tables_destroy = tables_destroy;
	return t;
}

uint32_t compact_lookup(struct symbols *s, struct module *m, uint64_t vaddr)
{
	const struct tables *t = tables_of(s, m);
	const struct compact *each[] = { t ? &t->eh : NULL, t ? &t->debug : NULL };
	uint32_t rule = compact_rule(COMPACT_GAP, 0, 0);

	for (size_t i = 0; i < 2 && each[i]; i++) {
		if (!each[i]->rows || vaddr < each[i]->base || vaddr - each[i]->base > UINT32_MAX)
			continue;
		rule = compact_find(each[i], (uint32_t)(vaddr - each[i]->base));
		if (compact_kind(rule) != COMPACT_GAP)
			break;
	}
	return rule;
}
