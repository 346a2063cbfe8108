/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elfutils/libdwelf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "private.h"

#define LOADS_MAX 64

struct module *module_create(void)
{
	struct module *m = calloc(1, sizeof(*m));

	if (m) {
		arena_init(&m->table.arena, 4096, 0);
		arena_init(&m->debug_table.arena, 4096, 0);
	}
	return m;
}

static void close_dwarf(struct module *m)
{
	if (m->dwarf)
		dwarf_end(m->dwarf);
	if (m->alt)
		dwarf_end(m->alt);
	m->dwarf = m->alt = NULL;
	m->units_known = false;
	image_close(&m->alt_image);
	map_clear(&m->line_units);
	m->line_bytes = 0;
}

void module_destroy(struct symbols *s, struct module *m)
{
	if (!m)
		return;
	s->charged_bytes -= m->charged_bytes;
	functions_destroy(m->functions);
	if (m->tables)
		m->tables_destroy(m->tables);
	if (m->cfi)
		dwarf_cfi_end(m->cfi);
	close_dwarf(m);
	map_deinit(&m->line_units);
	table_destroy(&m->table);
	table_destroy(&m->debug_table);
	image_close(&m->debug);
	image_close(&m->main);
	free(m->loads);
	free(m);
}

static int read_loads(struct image *image, struct load **ret, size_t *ret_count)
{
	struct load *loads;
	size_t count, n = 0;

	if (elf_getphdrnum(image->elf, &count) < 0)
		return -ENOEXEC;
	if (count > LOADS_MAX)
		count = LOADS_MAX;
	loads = calloc(count ? count : 1, sizeof(*loads));
	if (!loads)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr p;

		if (!gelf_getphdr(image->elf, (int)i, &p) || p.p_type != PT_LOAD)
			continue;
		loads[n++] = (struct load){ p.p_offset, p.p_vaddr, p.p_filesz, p.p_memsz, p.p_flags & PF_X };
	}
	*ret = loads;
	*ret_count = n;
	return 0;
}

int module_load(struct symbols *s, struct module *m)
{
	const void *id;
	ssize_t id_len;
	int r = 0;

	if (m->stage == STAGE_FAILED)
		return m->error;
	if (m->stage == STAGE_READY)
		return 0;
	if (!m->vdso) { /* the vDSO's image was copied when its mapping was seen */
		int fd = open_module_file(s, m);

		r = fd < 0 ? fd : image_map(fd, &m->main);
		if (fd >= 0)
			close(fd);
	} else if (!m->main.map) {
		r = -ENOENT;
	}
	if (r == 0)
		r = read_loads(&m->main, &m->loads, &m->load_count);
	if (r < 0) {
		m->stage = STAGE_FAILED;
		m->error = r;
		return r;
	}
	id_len = dwelf_elf_gnu_build_id(m->main.elf, &id);
	if (id_len > 0 && id_len <= BUILD_ID_MAX) {
		memcpy(m->build_id, id, (size_t)id_len);
		m->build_id_len = (size_t)id_len;
	}
	m->stage = STAGE_READY;
	return 0;
}

const struct image *module_debug(struct symbols *s, struct module *m)
{
	struct load *loads;
	size_t count;

	if (m->debug_stage == STAGE_NEW) {
		m->debug_stage = STAGE_FAILED;
		if (m->stage == STAGE_READY && !m->vdso)
			open_debug_image(s, m, &m->debug);
		if (m->debug.map && read_loads(&m->debug, &loads, &count) == 0) {
			m->debug_stage = STAGE_READY;
			if (count && m->load_count)
				m->debug_delta = loads[0].vaddr - m->loads[0].vaddr;
			free(loads);
		}
	}
	return m->debug_stage == STAGE_READY ? &m->debug : NULL;
}

/* dwz moves what several files share into a file of its own. Without it units that refer to it lose names, not lines. */
static void open_alt(struct symbols *s, struct module *m)
{
	const char *name;
	const void *id;
	ssize_t len = dwelf_dwarf_gnu_debugaltlink(m->dwarf, &name, &id);

	if (len <= 0)
		return;
	open_build_id(s, id, (size_t)len, &m->alt_image);
	if (!m->alt_image.map && name[0] == '/') {
		int fd = open_in_target(s, name);
		const void *found;

		if (fd < 0)
			return;
		if (image_map(fd, &m->alt_image) == 0 &&
		    (dwelf_elf_gnu_build_id(m->alt_image.elf, &found) != len || memcmp(found, id, (size_t)len) != 0))
			image_close(&m->alt_image);
		close(fd);
	}
	if (m->alt_image.map)
		m->alt = dwarf_begin_elf(m->alt_image.elf, DWARF_C_READ, NULL);
	if (m->alt)
		dwarf_setalt(m->dwarf, m->alt);
}

static void open_dwarf(struct symbols *s, struct module *m)
{
	size_t cost = image_debug_cost(&m->main);
	const struct image *image = &m->main;

	m->dwarf_stage = STAGE_FAILED;
	if (!cost && !m->system) { /* of system libraries, names are enough: their debug files are large */
		image = module_debug(s, m);
		cost = image ? image_debug_cost(image) : 0;
	}
	if (!cost)
		return;
	if (cost > s->budget_bytes - s->charged_bytes) {
		m->over_budget = true;
		return;
	}
	m->dwarf = dwarf_begin_elf(image->elf, DWARF_C_READ, NULL);
	if (!m->dwarf)
		return;
	m->dwarf_image = image;
	m->charged_bytes = cost;
	s->charged_bytes += cost;
	m->dwarf_stage = STAGE_READY;
	open_alt(s, m);
}

Dwarf *module_dwarf(struct symbols *s, struct module *m)
{
	if (m->dwarf_stage == STAGE_NEW && m->stage == STAGE_READY)
		open_dwarf(s, m);
	return m->dwarf;
}

void module_recycle_dwarf(struct symbols *s, struct module *m)
{
	if (m->frame_stage == STAGE_READY) /* the unwinder's rows live in it */
		return;
	close_dwarf(m);
	s->charged_bytes -= m->charged_bytes;
	m->charged_bytes = 0;
	m->dwarf_stage = STAGE_NEW;
}

int module_bias(const struct module *m, uint64_t start, uint64_t offset, bool exec, uint64_t *ret)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const struct load *found = NULL;

	/* Neighbouring segments may share a page of the file: the one of the mapping's own kind is meant. */
	for (size_t i = 0; i < m->load_count; i++) {
		const struct load *l = &m->loads[i];
		uint64_t first = l->offset & ~(page - 1);

		if (offset < first || offset >= l->offset + l->filesz)
			continue;
		if (!found || (l->exec == exec && found->exec != exec))
			found = l;
	}
	if (!found)
		return -ENOENT;
	*ret = start - (found->vaddr + (offset - found->offset));
	return 0;
}

static const struct load *text_load(const struct module *m, uint64_t vaddr)
{
	for (size_t i = 0; i < m->load_count; i++)
		if (m->loads[i].exec && vaddr >= m->loads[i].vaddr && vaddr - m->loads[i].vaddr < m->loads[i].memsz)
			return &m->loads[i];
	return NULL;
}

bool module_in_text(const struct module *m, uint64_t vaddr)
{
	return text_load(m, vaddr);
}

bool module_holds(const struct module *m, uint64_t vaddr, uint64_t size)
{
	for (size_t i = 0; i < m->load_count; i++) {
		const struct load *l = &m->loads[i];

		if (vaddr >= l->vaddr && vaddr - l->vaddr < l->memsz && size <= l->memsz - (vaddr - l->vaddr))
			return true;
	}
	return false;
}

size_t module_code(const struct module *m, uint64_t vaddr, unsigned char *buf, size_t len)
{
	const struct load *l = text_load(m, vaddr);
	uint64_t at, left;

	if (!l || vaddr - l->vaddr >= l->filesz)
		return 0;
	at = l->offset + (vaddr - l->vaddr);
	left = l->filesz - (vaddr - l->vaddr);
	if (at >= m->main.len)
		return 0;
	if (left > m->main.len - at)
		left = m->main.len - at;
	if (len > left)
		len = (size_t)left;
	memcpy(buf, m->main.map + at, len);
	return len;
}

Dwarf_CFI *module_cfi(struct module *m)
{
	if (m->cfi_stage == STAGE_NEW && m->stage == STAGE_READY) {
		m->cfi = dwarf_getcfi_elf(m->main.elf);
		m->cfi_stage = m->cfi ? STAGE_READY : STAGE_FAILED;
	}
	return m->cfi;
}

bool module_signal_frame(struct module *m, uint64_t vaddr)
{
	Dwarf_CFI *cfi = module_cfi(m);
	Dwarf_Frame *frame = NULL;
	Dwarf_Addr start, end;
	bool is_signal = false;

	if (!cfi || dwarf_cfi_addrframe(cfi, vaddr, &frame) != 0)
		return false;
	if (dwarf_frame_info(frame, &start, &end, &is_signal) < 0)
		is_signal = false;
	free(frame);
	return is_signal;
}

void module_trim(const struct module *m)
{
	image_trim(&m->main);
	image_trim(&m->debug);
	image_trim(&m->alt_image);
}
