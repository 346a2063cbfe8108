/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <string.h>

#include "private.h"

#define PLT_ENTRY 16

/* A stub's place in .plt.sec is its relocation's in .rela.plt; .plt has one entry for the resolver before. */
bool plt_name(const struct image *image, uint64_t vaddr, char *buf, size_t cap)
{
	GElf_Shdr plt, rela, symbols;
	Elf_Scn *scn = image_section(image, ".plt.sec", &plt), *symbol_scn;
	Elf_Data *relocations, *data;
	uint64_t index, skip = 0;
	const char *name;
	GElf_Rela entry;
	GElf_Sym sym;

	if (!scn || vaddr < plt.sh_addr || vaddr - plt.sh_addr >= plt.sh_size) {
		scn = image_section(image, ".plt", &plt);
		skip = 1;
	}
	if (!scn || vaddr < plt.sh_addr || vaddr - plt.sh_addr >= plt.sh_size)
		return false;
	index = (vaddr - plt.sh_addr) / PLT_ENTRY;
	scn = image_section(image, ".rela.plt", &rela);
	if (!scn || index < skip || index - skip > INT32_MAX)
		return false;
	relocations = elf_getdata(scn, NULL);
	symbol_scn = elf_getscn(image->elf, rela.sh_link);
	if (!relocations || !symbol_scn || !gelf_getrela(relocations, (int)(index - skip), &entry))
		return false;
	data = elf_getdata(symbol_scn, NULL);
	if (!data || !gelf_getshdr(symbol_scn, &symbols) || !gelf_getsym(data, (int)GELF_R_SYM(entry.r_info), &sym))
		return false;
	name = elf_strptr(image->elf, symbols.sh_link, sym.st_name);
	if (!name || !*name)
		return false;
	snprintf(buf, cap, "%s@plt", name);
	return true;
}
