/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>
#include <string.h>

#include "memwatch/base/str.h"
#include "private.h"

#define DEPTH_MAX 64              /* of nested scopes: hostile DWARF may nest without end */
#define LINE_BYTES 48             /* of one row in libdw's tables */
#define LINE_BYTES_MAX (6U << 20) /* per module, then libdw's caches are dropped */
#define UNITS_MAX 200000
#define UNITS_TRIM 32 /* units that are looked at before their pages are given back */

/* Scopes that hold one address, outermost first: [0] the function, then what was inlined into it. */
struct chain {
	Dwarf_Die dies[DEPTH_MAX];
	size_t count;
};

static void find_inlined(struct chain *chain, Dwarf_Addr vaddr)
{
	Dwarf_Die scope = chain->dies[0], die;

	for (int depth = 0; depth < DEPTH_MAX; depth++) {
		bool found = false;

		if (dwarf_child(&scope, &die) != 0)
			return;
		do {
			int tag = dwarf_tag(&die);

			if (tag != DW_TAG_inlined_subroutine && tag != DW_TAG_lexical_block &&
			    tag != DW_TAG_try_block && tag != DW_TAG_catch_block && tag != DW_TAG_subprogram)
				continue;
			if (dwarf_haspc(&die, vaddr) != 1)
				continue;
			if (tag == DW_TAG_subprogram) /* a nested function: it is the frame, what holds it is not */
				chain->count = 0;
			if ((tag == DW_TAG_inlined_subroutine || tag == DW_TAG_subprogram) && chain->count < DEPTH_MAX)
				chain->dies[chain->count++] = die;
			scope = die;
			found = true;
			break;
		} while (dwarf_siblingof(&die, &die) == 0);
		if (!found)
			return;
	}
}

static bool is_code_unit(uint8_t type)
{
	return type != DW_UT_type && type != DW_UT_split_type && type != DW_UT_partial;
}

/*
 * Goes through all units, for the one that holds vaddr (ret_unit), or once for libdw to know them all (ret_unit NULL): it would
 * otherwise do the same inside, and every header that it reads keeps the 64 KiB around it resident.
 */
static bool scan_units(struct module *m, Dwarf_Addr vaddr, Dwarf_Die *ret_unit, uint8_t *ret_type, Dwarf_Die *ret_sub)
{
	Dwarf_CU *cu = NULL;

	for (size_t i = 1; i < UNITS_MAX; i++) {
		if (dwarf_get_units(m->dwarf, cu, &cu, NULL, ret_type, ret_unit, ret_sub) != 0)
			return false;
		if (ret_unit && is_code_unit(*ret_type) && dwarf_haspc(ret_unit, vaddr) == 1)
			return true;
		if (i % UNITS_TRIM == 0)
			module_trim(m);
	}
	return false;
}

/* Where .debug_aranges does not know the unit (clang writes none), every unit is asked. */
static bool find_unit(struct module *m, Dwarf_Addr vaddr, Dwarf_Die *ret_unit, Dwarf_Die *ret_scopes)
{
	Dwarf_Die sub = { .addr = NULL };
	uint8_t type = 0;

	if (!m->units_known)
		(void)scan_units(m, 0, NULL, NULL, NULL);
	m->units_known = true;
	if (dwarf_addrdie(m->dwarf, vaddr, ret_unit)) {
		if (dwarf_cu_info(ret_unit->cu, NULL, &type, NULL, &sub, NULL, NULL, NULL) != 0)
			return false;
	} else if (!scan_units(m, vaddr, ret_unit, &type, &sub)) {
		return false;
	}
	*ret_scopes = type == DW_UT_skeleton && dwarf_tag(&sub) == DW_TAG_compile_unit ? sub : *ret_unit;
	return true;
}

static const char *attribute_text(Dwarf_Die *die, unsigned int name)
{
	Dwarf_Attribute attribute;

	return dwarf_attr_integrate(die, name, &attribute) ? dwarf_formstring(&attribute) : NULL;
}

static const char *function_name(struct symbols *s, Dwarf_Die *die)
{
	const char *name = attribute_text(die, DW_AT_linkage_name);

	if (!name)
		name = attribute_text(die, DW_AT_MIPS_linkage_name);
	if (!name || !mangling_language(name)) {
		const char *plain = attribute_text(die, DW_AT_name);

		name = plain ? plain : name;
	}
	return name && *name ? demangled_intern(s->strings, name) : NULL;
}

/* Compilers name files relative to where they ran. */
static const char *full_path(struct symbols *s, Dwarf_Die *unit, const char *path)
{
	cleanup_str struct str full = STR_INIT;
	const char *dir = path && path[0] != '/' ? attribute_text(unit, DW_AT_comp_dir) : NULL;

	if (!path)
		return NULL;
	if (!dir || dir[0] != '/')
		return intern_str(s->strings, path);
	while (path[0] == '.' && path[1] == '/')
		path += 2;
	str_addf(&full, "%s/%s", dir, path);
	return str_status(&full) == 0 ? intern_str(s->strings, str_text(&full)) : NULL;
}

static void call_place(struct symbols *s, Dwarf_Die *unit, Dwarf_Die *die, struct frame *ret)
{
	Dwarf_Attribute attribute;
	Dwarf_Word file, line;
	Dwarf_Files *files;
	size_t count;

	if (dwarf_attr(die, DW_AT_call_line, &attribute) && dwarf_formudata(&attribute, &line) == 0 &&
	    line <= UINT32_MAX)
		ret->line = (uint32_t)line;
	if (!dwarf_attr(die, DW_AT_call_file, &attribute) || dwarf_formudata(&attribute, &file) != 0)
		return;
	if (dwarf_getsrcfiles(unit, &files, &count) != 0 || file >= count)
		return;
	ret->file = full_path(s, unit, dwarf_filesrc(files, (size_t)file, NULL, NULL));
}

static void source_place(struct symbols *s, struct module *m, Dwarf_Die *unit, Dwarf_Addr vaddr, struct frame *ret)
{
	Dwarf_Line *line = dwarf_getsrc_die(unit, vaddr);
	Dwarf_Off offset = dwarf_dieoffset(unit);
	Dwarf_Lines *lines;
	uint64_t seen;
	size_t count;
	int number;

	if (!map_get(&m->line_units, offset, &seen) && dwarf_getsrclines(unit, &lines, &count) == 0 &&
	    map_put(&m->line_units, offset, 1) == 0)
		m->line_bytes += count * LINE_BYTES;
	if (!line)
		return;
	ret->file = full_path(s, unit, dwarf_linesrc(line, NULL, NULL));
	if (dwarf_lineno(line, &number) == 0 && number > 0)
		ret->line = (uint32_t)number;
}

static const char *unit_language(Dwarf_Die *unit)
{
	Dwarf_Attribute attribute;
	Dwarf_Word language;

	if (!dwarf_attr(unit, DW_AT_language, &attribute) || dwarf_formudata(&attribute, &language) != 0)
		return NULL;
	return language_name((int)language);
}

size_t lines_resolve(struct symbols *s, struct module *m, uint64_t vaddr, struct frame *frames, size_t cap)
{
	Dwarf *dwarf = module_dwarf(s, m);
	struct chain chain = { .count = 0 };
	Dwarf_Die unit, scopes;
	const char *language;
	size_t n;

	if (!dwarf || !cap)
		return 0;
	if (m->dwarf_image == &m->debug)
		vaddr += m->debug_delta;
	if (!find_unit(m, vaddr, &unit, &scopes))
		return 0;
	if (functions_find(m, &unit, &scopes, vaddr, &chain.dies[0])) {
		chain.count = 1;
		find_inlined(&chain, vaddr);
	}
	language = unit_language(&scopes);
	n = chain.count ? chain.count : 1;
	if (n > cap) /* the function itself matters most, then what was inlined into it directly */
		n = cap;
	for (size_t i = 0; i < n; i++) {
		size_t level = n - 1 - i; /* frames are innermost first */
		struct frame *f = &frames[i];

		f->language = language;
		f->inlined = level > 0;
		f->function = chain.count ? function_name(s, &chain.dies[level]) : NULL;
		if (level + 1 < chain.count)
			call_place(s, &scopes, &chain.dies[level + 1], f);
		else
			source_place(s, m, &unit, vaddr, f);
	}
	if (m->line_bytes > LINE_BYTES_MAX)
		module_recycle_dwarf(s, m);
	return n;
}

const char *lines_main_language(struct symbols *s, struct module *m)
{
	Dwarf *dwarf = module_dwarf(s, m);
	const struct symbol_table *t = &m->table;
	Dwarf_Die unit, scopes;

	for (size_t i = 0; dwarf && i < t->count; i++) {
		uint64_t vaddr = t->base + t->refs[i].start;
		const char *name;
		GElf_Sym sym;

		if (!table_symbol(t, t->refs[i].index, &sym, &name) || strcmp(name, "main") != 0)
			continue;
		if (m->dwarf_image == &m->debug)
			vaddr += m->debug_delta;
		return find_unit(m, vaddr, &unit, &scopes) ? unit_language(&scopes) : NULL;
	}
	return NULL;
}
