/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "private.h"

/* DWARF in sections that are mapped as they are costs what libdw allocates beside them; measured at well under a sixteenth. */
#define MAPPED_COST_SHARE 16

int image_take(unsigned char *map, size_t len, struct image *ret)
{
	struct image image = { .map = map, .len = len };

	elf_version(EV_CURRENT);
	image.elf = elf_memory((char *)map, len);
	if (!image.elf)
		return -ENOMEM;
	if (elf_kind(image.elf) != ELF_K_ELF) {
		elf_end(image.elf);
		return -ENOEXEC;
	}
	*ret = image;
	return 0;
}

int image_map(int fd, struct image *ret)
{
	struct stat st;
	struct image image;
	unsigned char *map;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf32_Ehdr))
		return -ENOEXEC;
	/* Writable and private: libelf marks section headers in place when it expands compressed sections. */
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	r = image_take(map, (size_t)st.st_size, &image);
	if (r < 0) {
		munmap(map, (size_t)st.st_size);
		return r;
	}
	image.dev = st.st_dev;
	image.ino = st.st_ino;
	*ret = image;
	return 0;
}

void image_close(struct image *image)
{
	if (!image->map)
		return;
	elf_end(image->elf);
	munmap(image->map, image->len);
	*image = (struct image){ .map = NULL };
}

void image_trim(const struct image *image)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	GElf_Ehdr ehdr;
	size_t end = image->len;

	if (!image->map || !image->ino || !gelf_getehdr(image->elf, &ehdr))
		return;
	/* The headers stay: libelf may have changed them (see image_map). Section headers stand at the end of nearly all files. */
	if (ehdr.e_shoff && ehdr.e_shoff < end)
		end = ehdr.e_shoff & ~(page - 1);
	if (end > page)
		madvise(image->map + page, end - page, MADV_DONTNEED);
}

Elf_Scn *image_section(const struct image *image, const char *name, GElf_Shdr *ret)
{
	Elf_Scn *scn = NULL;
	size_t names;

	if (!image->map || elf_getshdrstrndx(image->elf, &names) < 0)
		return NULL;
	while ((scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr shdr;
		const char *text;

		if (!gelf_getshdr(scn, &shdr))
			continue;
		text = elf_strptr(image->elf, names, shdr.sh_name);
		if (text && strcmp(text, name) == 0) {
			*ret = shdr;
			return scn;
		}
	}
	return NULL;
}

size_t image_debug_cost(const struct image *image)
{
	Elf_Scn *scn = NULL;
	size_t names, mapped = 0, expanded = 0;
	bool info = false;

	if (!image->map || elf_getshdrstrndx(image->elf, &names) < 0)
		return 0;
	while ((scn = elf_nextscn(image->elf, scn))) {
		GElf_Shdr shdr;
		GElf_Chdr chdr;
		const char *text;

		if (!gelf_getshdr(scn, &shdr) || shdr.sh_type == SHT_NOBITS)
			continue;
		text = elf_strptr(image->elf, names, shdr.sh_name);
		if (!text || (strncmp(text, ".debug_", 7) != 0 && strncmp(text, ".zdebug_", 8) != 0))
			continue;
		if (strcmp(text + (text[1] == 'z' ? 8 : 7), "info") == 0)
			info = true;
		if (shdr.sh_flags & SHF_COMPRESSED && gelf_getchdr(scn, &chdr))
			expanded += chdr.ch_size;
		else if (text[1] == 'z')
			expanded += shdr.sh_size * 4; /* the old GNU form: about what zlib gains */
		else
			mapped += shdr.sh_size;
	}
	return info ? expanded + mapped / MAPPED_COST_SHARE + 1 : 0;
}
