/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "private.h"

/*
 * .gnu_debugdata is an xz file of a stripped symbol table. libdwfl unpacks it on the way to its own table, so a Dwfl is made for
 * this one file and ended again: no link to liblzma, and nothing of it stays in memory. Its symbols are copied.
 */

static int no_elf(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, char **file, Elf **elf)
{
	(void)module, (void)data, (void)name, (void)base, (void)file, (void)elf;
	return -1;
}

static int no_debuginfo(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, const char *file,
			const char *link, GElf_Word crc, char **ret_file)
{
	(void)module, (void)data, (void)name, (void)base, (void)file, (void)link, (void)crc, (void)ret_file;
	return -1;
}

static const Dwfl_Callbacks callbacks = { .find_elf = no_elf, .find_debuginfo = no_debuginfo };

static int descriptor_of(const struct image *image)
{
	int fd = memfd_create("memwatch-symbols", MFD_CLOEXEC);
	size_t done = 0;

	while (fd >= 0 && done < image->len) {
		ssize_t n = write(fd, image->map + done, image->len - done);

		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	return fd;
}

static void copy_symbols(struct symbol_table *t, Dwfl_Module *module, uint64_t bias)
{
	struct symbol_source *source = &t->sources[t->source_count];
	int n = dwfl_module_getsymtab(module);
	struct own_symbol *own = n > 0 ? arena_array(&t->arena, (size_t)n, sizeof(*own)) : NULL;
	size_t count = 0;

	for (int i = 1; own && i < n; i++) {
		GElf_Word section;
		GElf_Addr address;
		GElf_Sym sym;
		const char *name = dwfl_module_getsym_info(module, i, &sym, &address, &section, NULL, NULL);
		int type = name ? GELF_ST_TYPE(sym.st_info) : STT_NOTYPE;

		if ((type != STT_FUNC && type != STT_GNU_IFUNC) || section == SHN_UNDEF || !*name)
			continue;
		name = arena_strdup(&t->arena, name);
		if (!name)
			break;
		own[count++] = (struct own_symbol){ address - bias, sym.st_size, name, sym.st_info };
	}
	*source = (struct symbol_source){ .own = own, .own_count = count };
	t->source_count += count > 0;
}

void minidebug_load(struct symbol_table *t, const struct image *image)
{
	Dwfl_Module *module;
	GElf_Shdr shdr;
	GElf_Addr bias;
	Dwfl *dwfl;
	int fd;

	if (!image_section(image, ".gnu_debugdata", &shdr))
		return;
	fd = descriptor_of(image);
	dwfl = fd >= 0 ? dwfl_begin(&callbacks) : NULL;
	if (!dwfl) {
		if (fd >= 0)
			close(fd);
		return;
	}
	module = dwfl_report_elf(dwfl, "module", "module", fd, 0, true); /* takes the descriptor over on success */
	if (!module)
		close(fd);
	dwfl_report_end(dwfl, NULL, NULL);
	if (module && dwfl_module_getelf(module, &bias))
		copy_symbols(t, module, bias);
	dwfl_end(dwfl);
}
