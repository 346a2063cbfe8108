/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cfa.h"
#include "memwatch/base/map.h"
#include "memwatch/base/vec.h"

#define EXTENDED 0xffffffffU /* a length of 64 bits follows */
#define FDES_MAX (8U << 20)
#define CIES_MAX (1U << 20)
#define ENCODING_FORMAT 0x0f
#define ENCODING_BASE 0x70

struct fde {
	uint32_t start, end; /* from base */
	uint32_t code, code_end;
	uint32_t cie;
};

struct reader {
	const struct frame_section *section;
	uint64_t base;
	struct cie *cies;
	size_t cie_count, cie_cap;
	struct map by_place; /* of CIEs in the section -> cies[] */
	struct fde *fdes;
	size_t fde_count, fde_cap;
	bool ascending;
};

bool cursor_uleb(struct cursor *c, uint64_t *ret)
{
	uint64_t value = 0;
	uint8_t byte;

	for (unsigned shift = 0; cursor_u8(c, &byte); shift += 7) {
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

bool cursor_sleb(struct cursor *c, int64_t *ret)
{
	uint64_t value = 0;
	uint8_t byte;

	for (unsigned shift = 0; cursor_u8(c, &byte); shift += 7) {
		if (shift < 64)
			value |= (uint64_t)(byte & 0x7f) << shift;
		if (byte & 0x80)
			continue;
		if (byte & 0x40 && shift + 7 < 64)
			value |= UINT64_MAX << (shift + 7);
		*ret = (int64_t)value;
		return true;
	}
	return false;
}

static bool read_format(struct cursor *c, uint8_t format, uint64_t *ret)
{
	uint16_t u16 = 0;
	uint32_t u32 = 0;
	int64_t s64 = 0;

	switch (format) {
	case DW_EH_PE_absptr:
	case DW_EH_PE_udata8:
	case DW_EH_PE_sdata8:
		return cursor_u64(c, ret);
	case DW_EH_PE_uleb128:
		return cursor_uleb(c, ret);
	case DW_EH_PE_sleb128:
		if (!cursor_sleb(c, &s64))
			return false;
		*ret = (uint64_t)s64;
		return true;
	case DW_EH_PE_udata2:
	case DW_EH_PE_sdata2:
		if (!cursor_u16(c, &u16))
			return false;
		*ret = format == DW_EH_PE_sdata2 ? (uint64_t)(int64_t)(int16_t)u16 : u16;
		return true;
	case DW_EH_PE_udata4:
	case DW_EH_PE_sdata4:
		if (!cursor_u32(c, &u32))
			return false;
		*ret = format == DW_EH_PE_sdata4 ? (uint64_t)(int64_t)(int32_t)u32 : u32;
		return true;
	default:
		return false;
	}
}

bool cursor_encoded(struct cursor *c, uint8_t encoding, uint64_t section_address, uint64_t *ret)
{
	uint64_t at = section_address + c->pos, value;

	if (encoding & DW_EH_PE_indirect || !read_format(c, encoding & ENCODING_FORMAT, &value))
		return false;
	switch (encoding & ENCODING_BASE) {
	case DW_EH_PE_absptr:
		*ret = value;
		return true;
	case DW_EH_PE_pcrel:
		*ret = at + value;
		return true;
	default: /* relative to text, data, function: not on this CPU */
		return false;
	}
}

/* The letters of an augmentation say what its data is. Unknown ones end it: the length leads past them. */
static bool read_augmentation(struct cursor *c, const char *letters, struct cie *cie)
{
	uint64_t len, ignored;
	size_t end;

	if (letters[0] != 'z')
		return letters[0] == 0;
	if (!cursor_uleb(c, &len) || len > cursor_left(c))
		return false;
	end = c->pos + (size_t)len;
	cie->sized = true;
	for (letters++; *letters; letters++) {
		uint8_t encoding;

		if (*letters == 'S') {
			cie->slow = true;
		} else if (*letters == 'R') {
			if (!cursor_u8(c, &cie->encoding))
				return false;
		} else if (*letters == 'L') {
			if (!cursor_u8(c, &encoding))
				return false;
		} else if (*letters == 'P') {
			if (!cursor_u8(c, &encoding) || !read_format(c, encoding & ENCODING_FORMAT, &ignored))
				return false;
		} else {
			break;
		}
	}
	return c->pos <= end && cursor_seek(c, end);
}

static bool read_letters(struct cursor *c, char *buf, size_t cap)
{
	uint8_t byte;

	for (size_t i = 0; i < cap && cursor_u8(c, &byte); i++) {
		buf[i] = (char)byte;
		if (!byte)
			return true;
	}
	return false;
}

/* c stands behind the CIE's id and ends where it ends. */
static bool read_cie(struct cursor *c, struct cie *cie)
{
	uint8_t version, byte = 0, address_size = 8, segment_size = 0;
	char letters[16];

	cie->encoding = DW_EH_PE_absptr;
	if (!cursor_u8(c, &version) || (version != 1 && version != 3 && version != 4) ||
	    !read_letters(c, letters, sizeof(letters)))
		return false;
	if (version == 4 && (!cursor_u8(c, &address_size) || !cursor_u8(c, &segment_size)))
		return false;
	if (address_size != 8 || segment_size != 0 || !cursor_uleb(c, &cie->code_align) ||
	    !cursor_sleb(c, &cie->data_align))
		return false;
	if (version == 1 ? !cursor_u8(c, &byte) : !cursor_uleb(c, &cie->ra))
		return false;
	if (version == 1)
		cie->ra = byte;
	if (!read_augmentation(c, letters, cie))
		return false;
	if (cie->ra != cfa_x86_64.pc)
		cie->slow = true;
	if (!cfa_initial(cie, *c, &cie->initial))
		cie->slow = true;
	return true;
}

/* One entry: its cursor, from behind the id to its end; where its id stands. */
struct entry {
	struct cursor body;
	size_t at, id_at, next;
	uint64_t id;
	bool wide;
};

/* -ENODATA at the end; -EINVAL where lengths do not fit. A length of 0 ends nothing: linkers leave such between inputs. */
static int next_entry(const struct frame_section *section, size_t at, struct entry *ret)
{
	struct cursor c;
	uint64_t len;
	uint32_t word;

	cursor_init(&c, section->data, section->len);
	do {
		if (!cursor_seek(&c, at) || cursor_left(&c) < 4)
			return -ENODATA;
		ret->at = at;
		(void)cursor_u32(&c, &word);
		at = c.pos;
	} while (!word);
	len = word;
	ret->wide = word == EXTENDED;
	if (ret->wide && !cursor_u64(&c, &len))
		return -EINVAL;
	if (len > cursor_left(&c))
		return -EINVAL;
	ret->next = c.pos + (size_t)len;
	ret->id_at = c.pos;
	cursor_init(&ret->body, section->data, ret->next);
	(void)cursor_seek(&ret->body, c.pos);
	if (section->debug && ret->wide)
		return cursor_u64(&ret->body, &ret->id) ? 0 : -EINVAL;
	if (!cursor_u32(&ret->body, &word))
		return -EINVAL;
	ret->id = section->debug && word == EXTENDED ? UINT64_MAX : word;
	return 0;
}

static bool is_cie(const struct frame_section *section, const struct entry *e)
{
	return section->debug ? e->id == UINT64_MAX : e->id == 0;
}

/* The CIE that stands there, read once. */
static int cie_at(struct reader *r, size_t at, uint32_t *ret)
{
	struct entry e;
	uint64_t index;
	struct cie cie = { .at = at };

	if (r->cie_count && r->cies[r->cie_count - 1].at == at) {
		*ret = (uint32_t)(r->cie_count - 1);
		return 0;
	}
	if (map_get(&r->by_place, at, &index)) {
		*ret = (uint32_t)index;
		return 0;
	}
	if (r->cie_count >= CIES_MAX || next_entry(r->section, at, &e) < 0 || e.at != at || !is_cie(r->section, &e) ||
	    !read_cie(&e.body, &cie))
		return -EINVAL;
	if (vec_reserve(&r->cies, &r->cie_cap, r->cie_count + 1, sizeof(cie)) < 0 ||
	    map_put(&r->by_place, at, r->cie_count) < 0)
		return -ENOMEM;
	r->cies[r->cie_count] = cie;
	*ret = (uint32_t)r->cie_count++;
	return 0;
}

static int add_fde(struct reader *r, struct entry *e)
{
	uint64_t cie_place = r->section->debug ? e->id : e->id_at - e->id, start, count, skip;
	const struct cie *cie;
	struct fde fde = { .start = 0 };
	int result;

	if (cie_place >= r->section->len)
		return -EINVAL;
	result = cie_at(r, (size_t)cie_place, &fde.cie);
	if (result < 0)
		return result;
	cie = &r->cies[fde.cie];
	if (!cursor_encoded(&e->body, cie->encoding, r->section->address, &start) ||
	    !read_format(&e->body, cie->encoding & ENCODING_FORMAT, &count))
		return -EINVAL;
	if (cie->sized &&
	    (!cursor_uleb(&e->body, &skip) || skip > cursor_left(&e->body) || !cursor_skip(&e->body, (size_t)skip)))
		return -EINVAL;
	if (!count || start < r->base || start - r->base >= UINT32_MAX) /* also what the linker threw away */
		return 0;
	fde.start = (uint32_t)(start - r->base);
	fde.end = count < UINT32_MAX - fde.start ? (uint32_t)(fde.start + count) : UINT32_MAX;
	fde.code = (uint32_t)e->body.pos;
	fde.code_end = (uint32_t)e->next;
	if (r->fde_count >= FDES_MAX)
		return -E2BIG;
	if (vec_reserve(&r->fdes, &r->fde_cap, r->fde_count + 1, sizeof(fde)) < 0)
		return -ENOMEM;
	if (r->fde_count && r->fdes[r->fde_count - 1].start > fde.start)
		r->ascending = false;
	r->fdes[r->fde_count++] = fde;
	return 0;
}

static int read_fdes(struct reader *r)
{
	struct entry e;
	size_t at = 0;
	int result;

	while ((result = next_entry(r->section, at, &e)) == 0) {
		if (!is_cie(r->section, &e)) {
			result = add_fde(r, &e);
			if (result < 0)
				return result;
		}
		at = e.next;
	}
	return result == -ENODATA ? 0 : result;
}

static int compare_fdes(const void *a, const void *b)
{
	const struct fde *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->code > y->code) - (x->code < y->code);
}

/* What an FDE says ends where the next begins: so does libdw's search. */
static void run_fdes(struct reader *r, struct row_sink *sink)
{
	for (size_t i = 0; i < r->fde_count && !sink->error; i++) {
		const struct fde *fde = &r->fdes[i];
		const struct fde *next = i + 1 < r->fde_count ? fde + 1 : NULL;
		uint32_t limit = next && next->start < fde->end ? next->start : fde->end;
		struct cfa_run run = { .cie = &r->cies[fde->cie], .start = r->base + fde->start, .base = r->base };

		if (limit == fde->start)
			continue;
		cursor_init(&run.code, r->section->data, fde->code_end);
		(void)cursor_seek(&run.code, fde->code);
		run.limit = limit;
		run.sink = sink;
		if (run.cie->slow || !cfa_rows(&run)) {
			if (sink->error)
				return;
			/* The first row may have taken the place of one that ended the FDE before. */
			while (sink->count && sink->rows[sink->count - 1].start >= fde->start)
				sink->count--;
			row_emit(sink, fde->start, compact_rule(COMPACT_SLOW, 0, 0));
		}
		row_emit(sink, limit, compact_rule(COMPACT_GAP, 0, 0));
	}
}

int frame_rows(const struct frame_section *section, uint64_t base, size_t max_rows, struct compact_row **ret_rows,
	       size_t *ret_count)
{
	struct reader r = { .section = section, .base = base, .ascending = true };
	struct row_sink sink = { .max = max_rows };
	struct compact_row *fitted;
	int result;

	if (section->len > UINT32_MAX)
		return -E2BIG;
	map_init(&r.by_place);
	result = read_fdes(&r);
	if (result == 0) {
		if (!r.ascending)
			qsort(r.fdes, r.fde_count, sizeof(*r.fdes), compare_fdes);
		run_fdes(&r, &sink);
		result = sink.error;
	}
	map_deinit(&r.by_place);
	free(r.cies);
	free(r.fdes);
	if (result < 0) {
		free(sink.rows);
		return result;
	}
	fitted = sink.count ? realloc(sink.rows, sink.count * sizeof(*fitted)) : NULL;
	*ret_rows = fitted ? fitted : sink.rows;
	*ret_count = sink.count;
	return 0;
}
