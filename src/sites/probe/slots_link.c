/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * From the program headers that the kernel told of to the list of modules that the run-time linker keeps for debuggers.
 *
 * When that list may be trusted. glibc says RT_ADD from before it loads the first dependency until after it has relocated the last module, the program
 * itself; but before that the state is 0, which reads as RT_CONSISTENT. Later, dlopen() says RT_CONSISTENT before it relocates what it loaded. musl fills the list in
 * at the very end. So the state is necessary and not sufficient: slots.c holds every slot, and the program's own relocations, against what they are before.
 */
#include <errno.h>
#include <link.h>
#include <string.h>

#include "memwatch/base/vec.h"
#include "slots_private.h"

#define PHDRS_MAX 128    /* the kernel allows 1,170; programs have about 13, modules about 11 */
#define DYNAMIC_MAX 1024 /* entries; about 30 are usual */
#define DYNAMIC_STEP 64
#define PAGE 4096

/* struct r_debug_extended: <link.h> has it since glibc 2.35. */
struct debug_extended {
	struct r_debug base;
	uint64_t next; /* from r_version 2 on */
};

/* Link maps stand near each other: one read of a page serves several. */
struct page {
	uint64_t start;
	size_t len;
	unsigned char bytes[PAGE];
};

static int read_link(struct slots_look *l, struct page *page, uint64_t address, struct link_map *ret)
{
	uint64_t offset = address % PAGE;
	ssize_t n;

	if (offset + sizeof(*ret) > PAGE)
		return slots_read(l, address, ret, sizeof(*ret));
	if (page->len == 0 || page->start != address - offset) {
		page->len = 0;
		n = slots_read_some(l, address - offset, page->bytes, PAGE);
		if (n < 0)
			return (int)n;
		page->start = address - offset;
		page->len = (size_t)n;
	}
	if (offset + sizeof(*ret) > page->len)
		return -EFAULT;
	memcpy(ret, page->bytes + offset, sizeof(*ret));
	return 0;
}

static uint64_t mixed(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9fb21c651e98df25ULL; /* an odd number without pattern */
	return hash ^ (hash >> 29);
}

static int again(struct err *err, const char *what)
{
	return err_set(err, EAGAIN, "the run-time linker of the program is at work (%s); try again", what);
}

static int add_module(struct slots_look *l, const struct slots_module *m)
{
	if (vec_reserve(&l->modules, &l->module_cap, l->module_count + 1, sizeof(*l->modules)) < 0)
		return -ENOMEM;
	l->modules[l->module_count++] = *m;
	return 0;
}

/* One namespace's list. Each link must lead back to the one before it, which also ends every loop. */
static int walk_links(struct slots_look *l, uint64_t first, bool elsewhere, size_t *count, uint64_t *hash,
		      struct err *err)
{
	struct page page = { .len = 0 };
	uint64_t previous = 0;
	struct link_map link;
	int r;

	for (uint64_t at = first; at; at = (uint64_t)(uintptr_t)link.l_next) {
		struct slots_module m = { .link_map = at, .elsewhere = elsewhere };

		if (++*count > SLOTS_MODULES_MAX)
			return err_set(err, E2BIG, "the program has more than %d modules", SLOTS_MODULES_MAX);
		r = read_link(l, &page, at, &link);
		if (r == -EFAULT || (r == 0 && (uint64_t)(uintptr_t)link.l_prev != previous))
			return again(err, "its list of modules is changing");
		if (r < 0)
			return err_set(err, -r, "cannot read the list of modules: %s", strerror(-r));
		m.bias = link.l_addr;
		m.dynamic = (uint64_t)(uintptr_t)link.l_ld;
		*hash = mixed(mixed(mixed(*hash, at), m.bias), m.dynamic);
		if (add_module(l, &m) < 0)
			return err_set(err, ENOMEM, "out of memory");
		previous = at;
	}
	return 0;
}

static int walk_namespaces(struct slots_look *l, uint64_t debug, uint64_t *ret_generation, struct err *err)
{
	uint64_t hash = debug;
	size_t count = 0;

	for (size_t i = 0; debug && i < SLOTS_NAMESPACES_MAX; i++) {
		struct debug_extended d;
		int r = slots_read(l, debug, &d, sizeof(d));

		if (r == -EFAULT)
			return again(err, "its list of modules is not there yet");
		if (r < 0)
			return err_set(err, -r, "cannot read the list of modules: %s", strerror(-r));
		if (d.base.r_version < 1 || !d.base.r_map) {
			if (i == 0)
				return again(err, "its list of modules is empty yet");
			break; /* a namespace all of whose modules were closed */
		}
		if (d.base.r_state != RT_CONSISTENT)
			return again(err, "it loads or unloads modules");
		r = walk_links(l, (uint64_t)(uintptr_t)d.base.r_map, i > 0, &count, &hash, err);
		if (r < 0)
			return r;
		debug = d.base.r_version >= 2 ? d.next : 0;
	}
	*ret_generation = hash ? hash : 1;
	return 0;
}

/* ---- headers of a module ---- */

static int take_segments(struct slots_module *m, const Elf64_Phdr *phdrs, size_t count)
{
	uint64_t low = UINT64_MAX, high = 0;
	bool dynamic = false;

	for (size_t i = 0; i < count; i++) {
		uint64_t start = m->bias + phdrs[i].p_vaddr, end;

		if (__builtin_add_overflow(start, phdrs[i].p_memsz, &end))
			return -EBADMSG;
		if (phdrs[i].p_type == PT_DYNAMIC)
			dynamic = start == m->dynamic;
		if (phdrs[i].p_type == PT_GNU_RELRO) /* whole pages only, as the run-time linker protects them */
			m->relro = (struct slots_range){ start & -(uint64_t)PAGE, end & -(uint64_t)PAGE };
		if (phdrs[i].p_type != PT_LOAD || phdrs[i].p_memsz == 0)
			continue;
		low = start < low ? start : low;
		high = end > high ? end : high;
		if (!(phdrs[i].p_flags & PF_X))
			continue;
		if (m->exec_count == SLOTS_EXEC_MAX)
			return -EBADMSG;
		m->exec[m->exec_count++] = (struct slots_range){ start, start + phdrs[i].p_filesz };
		if (phdrs[i].p_filesz > phdrs[i].p_memsz)
			return -EBADMSG;
	}
	m->span = (struct slots_range){ low, high };
	return dynamic && low < high ? 0 : -EBADMSG;
}

static int read_segments(struct slots_look *l, struct slots_module *m, uint64_t phdr, uint64_t phnum)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	int r;

	if (phnum == 0 || phnum > PHDRS_MAX)
		return -EBADMSG;
	r = slots_read(l, phdr, phdrs, phnum * sizeof(phdrs[0]));
	return r < 0 ? r : take_segments(m, phdrs, phnum);
}

static int read_file_header(struct slots_look *l, struct slots_module *m, uint64_t at)
{
	Elf64_Ehdr e;
	int r = slots_read(l, at, &e, sizeof(e));

	if (r < 0)
		return r;
	if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_ident[EI_CLASS] != ELFCLASS64 ||
	    e.e_machine != slots_arch_machine || e.e_phentsize != sizeof(Elf64_Phdr) || e.e_phoff > UINT32_MAX)
		return -EBADMSG;
	return read_segments(l, m, at + e.e_phoff, e.e_phnum);
}

/* Modules that are not linked at address 0 have their header elsewhere: in the first mapping of the file that their dynamic section lies in. */
static uint64_t first_mapping(const struct slots_look *l, uint64_t address)
{
	const struct region *r = region_find(l->regions, l->region_count, address), *first = r;

	if (!r || r->inode == 0)
		return 0;
	for (; r->inode == first->inode && r->dev_major == first->dev_major && r->dev_minor == first->dev_minor; r--) {
		if (r->offset == 0)
			return r->start;
		if (r == l->regions)
			break;
	}
	return 0;
}

/* glibc stores absolute addresses into dynamic sections that are writable, musl and the kernel's vDSO leave what the file says. */
static uint64_t absolute(const struct slots_module *m, uint64_t value)
{
	if (slots_in(&m->span, value))
		return value;
	return slots_in(&m->span, value + m->bias) ? value + m->bias : 0;
}

struct tables {
	uint64_t symtab, strtab, gnu_hash, hash, jump, rela, got;
	uint64_t string_bytes, jump_bytes, rela_bytes, relative_count, jump_type;
	uint64_t debug;
	bool has_debug;
};

static void take_entry(const Elf64_Dyn *d, struct tables *t)
{
	uint64_t value = d->d_un.d_val;

	switch (d->d_tag) {
	case DT_SYMTAB:
		t->symtab = value;
		break;
	case DT_STRTAB:
		t->strtab = value;
		break;
	case DT_STRSZ:
		t->string_bytes = value;
		break;
	case DT_GNU_HASH:
		t->gnu_hash = value;
		break;
	case DT_HASH:
		t->hash = value;
		break;
	case DT_JMPREL:
		t->jump = value;
		break;
	case DT_PLTRELSZ:
		t->jump_bytes = value;
		break;
	case DT_PLTREL:
		t->jump_type = value;
		break;
	case DT_RELA:
		t->rela = value;
		break;
	case DT_RELASZ:
		t->rela_bytes = value;
		break;
	case DT_RELACOUNT:
		t->relative_count = value;
		break;
	case DT_PLTGOT:
		t->got = value;
		break;
	case DT_DEBUG:
		t->debug = value;
		t->has_debug = true;
		break;
	default:
		break;
	}
}

static int read_dynamic(struct slots_look *l, uint64_t address, struct tables *ret)
{
	Elf64_Dyn entries[DYNAMIC_STEP];
	struct tables t = { 0 };

	for (size_t done = 0; done < DYNAMIC_MAX;) {
		ssize_t n = slots_read_some(l, address + done * sizeof(entries[0]), entries, sizeof(entries));

		if (n < (ssize_t)sizeof(entries[0]))
			return n < 0 ? (int)n : -EFAULT;
		for (size_t i = 0; i < (size_t)n / sizeof(entries[0]); i++, done++) {
			if (entries[i].d_tag == DT_NULL) {
				*ret = t;
				return 0;
			}
			take_entry(&entries[i], &t);
		}
	}
	return -EBADMSG;
}

/* A table that does not lie in the module is none. */
static uint64_t table(const struct slots_module *m, uint64_t value, uint64_t *bytes)
{
	uint64_t at = absolute(m, value);

	if (value && slots_holds(m, at, *bytes))
		return at;
	*bytes = 0;
	return 0;
}

static void take_tables(struct slots_module *m, struct tables *t)
{
	uint64_t one = sizeof(Elf64_Sym), got = 3 * sizeof(uint64_t), hash = 4 * sizeof(uint32_t), hash_2 = hash;
	uint64_t relative;

	m->symtab = table(m, t->symtab, &one);
	m->strtab = table(m, t->strtab, &t->string_bytes);
	m->string_bytes = t->string_bytes;
	m->gnu_hash = table(m, t->gnu_hash, &hash);
	m->hash = table(m, t->hash, &hash_2);
	m->plt_got = table(m, t->got, &got);
	if (t->jump_type == DT_RELA)
		m->jump_table = table(m, t->jump, &t->jump_bytes);
	m->jump_bytes = m->jump_table ? t->jump_bytes : 0;
	m->rela_table = table(m, t->rela, &t->rela_bytes);
	m->rela_bytes = t->rela_bytes;
	/* Relative ones, most of all, come first where they are counted. */
	if (__builtin_mul_overflow(t->relative_count, sizeof(Elf64_Rela), &relative) || relative > m->rela_bytes)
		relative = 0;
	m->rela_table += relative;
	m->rela_bytes -= relative;
	m->usable = m->symtab && m->strtab;
}

/* What cannot be read or makes no sense is left out, as long as the target is there. */
static int only_fatal(int r)
{
	return r == -EFAULT || r == -EBADMSG ? 0 : r;
}

int slots_read_module(struct slots_look *l, struct slots_module *m, uint64_t phdr, uint64_t phnum)
{
	struct tables t;
	uint64_t at;
	int r;

	r = phdr ? read_segments(l, m, phdr, phnum) : read_file_header(l, m, m->bias);
	if (!phdr && (r == -EFAULT || r == -EBADMSG)) {
		at = first_mapping(l, m->dynamic);
		m->exec_count = 0;
		if (at && at != m->bias)
			r = read_file_header(l, m, at);
	}
	if (r == 0)
		r = read_dynamic(l, m->dynamic, &t);
	if (r < 0)
		return only_fatal(r);
	take_tables(m, &t);
	return 0;
}

/* ---- where it starts ---- */

/* What the program's own headers say. */
struct program {
	struct slots_module module;
	bool has_dynamic, has_interpreter;
};

static int find_bias(struct slots_look *l, const struct slots_start *start, const Elf64_Phdr *phdrs, uint64_t *ret)
{
	Elf64_Ehdr e;
	int r;

	for (size_t i = 0; i < start->phnum; i++)
		if (phdrs[i].p_type == PT_PHDR) {
			*ret = start->phdr - phdrs[i].p_vaddr;
			return 0;
		}
	/* Programs that are not interpreted may do without PT_PHDR: their file's header, which names the entry, stands before. */
	r = slots_read(l, start->phdr - sizeof(e), &e, sizeof(e));
	if (r < 0)
		return r;
	if (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_phoff != sizeof(e))
		return -EBADMSG;
	*ret = start->entry - e.e_entry;
	return 0;
}

static int read_program(struct slots_look *l, const struct slots_start *start, struct program *ret)
{
	struct program p = { .has_dynamic = false };
	Elf64_Phdr phdrs[PHDRS_MAX];
	int r;

	if (start->phnum == 0 || start->phnum > PHDRS_MAX)
		return -EBADMSG;
	r = slots_read(l, start->phdr, phdrs, start->phnum * sizeof(phdrs[0]));
	if (r == 0)
		r = find_bias(l, start, phdrs, &p.module.bias);
	if (r < 0)
		return r;
	for (size_t i = 0; i < start->phnum; i++) {
		if (phdrs[i].p_type == PT_INTERP)
			p.has_interpreter = true;
		if (phdrs[i].p_type == PT_DYNAMIC) {
			p.has_dynamic = true;
			p.module.dynamic = p.module.bias + phdrs[i].p_vaddr;
		}
	}
	*ret = p;
	return 0;
}

/* _r_debug by its symbol: where the program has no DT_DEBUG, and where it is the run-time linker itself ("ld.so PROGRAM"). */
static int debug_by_name(struct slots_look *l, struct slots_module *linker, uint64_t phdr, uint64_t phnum,
			 uint64_t *ret)
{
	Elf64_Sym symbol;
	uint32_t index;
	int r = slots_read_module(l, linker, phdr, phnum);

	if (r == 0 && linker->usable)
		r = slots_lookup(l, linker, "_r_debug", &symbol, &index);
	if (r == 1) {
		*ret = linker->bias + symbol.st_value;
		return 0;
	}
	return r < 0 ? r : -ENOENT;
}

static int linker_module(struct slots_look *l, uint64_t base, struct slots_module *ret)
{
	Elf64_Phdr phdrs[PHDRS_MAX];
	Elf64_Ehdr e;
	int r = slots_read(l, base, &e, sizeof(e));

	if (r == 0 && (memcmp(e.e_ident, ELFMAG, SELFMAG) != 0 || e.e_phnum > PHDRS_MAX || e.e_phoff > UINT32_MAX))
		r = -EBADMSG;
	if (r == 0)
		r = slots_read(l, base + e.e_phoff, phdrs, e.e_phnum * sizeof(phdrs[0]));
	if (r < 0)
		return r;
	*ret = (struct slots_module){ .bias = base };
	for (size_t i = 0; i < e.e_phnum; i++)
		if (phdrs[i].p_type == PT_DYNAMIC)
			ret->dynamic = base + phdrs[i].p_vaddr;
	return 0;
}

static int find_debug(struct slots_look *l, const struct slots_start *start, struct program *p, uint64_t *ret,
		      bool *ret_static, struct err *err)
{
	struct slots_module linker;
	struct tables t;
	int r;

	if (!p->has_interpreter) {
		r = p->has_dynamic ? debug_by_name(l, &p->module, start->phdr, start->phnum, ret) : -ENOENT;
		if (r == 0 || (r != -ENOENT && only_fatal(r) < 0))
			return r;
		*ret_static = true;
		return err_set(
			err, ENOTSUP,
			"the probe sees no calls of the allocator in a program that is linked statically: they go "
			"through no slots; use --sites faults");
	}
	r = p->has_dynamic ? read_dynamic(l, p->module.dynamic, &t) : -EBADMSG;
	if (r < 0)
		return r;
	if (t.has_debug) {
		*ret = t.debug;
		return t.debug ? 0 : again(err, "it has not begun yet");
	}
	r = start->linker ? linker_module(l, start->linker, &linker) : -ENOENT;
	if (r == 0)
		r = debug_by_name(l, &linker, 0, 0, ret);
	if (r < 0 && (r == -ENOENT || only_fatal(r) == 0))
		r = err_set(err, ENOTSUP, "the program has no DT_DEBUG entry, by which its modules could be found");
	return r;
}

int slots_links_generation(struct slots_look *l, const struct slots_start *start, uint64_t *ret, bool *ret_static,
			   struct err *err)
{
	struct program p;
	uint64_t debug;
	int r = read_program(l, start, &p);

	if (r == 0)
		r = find_debug(l, start, &p, &debug, ret_static, err);
	if (r == 0)
		return walk_namespaces(l, debug, ret, err);
	if (r == -EBADMSG || r == -EFAULT)
		return err_set(err, ENOTSUP, "the headers of the program cannot be read, or make no sense");
	return r;
}

int slots_read_links(struct slots_look *l, const struct slots_start *start, uint64_t *ret_generation, bool *ret_static,
		     struct err *err)
{
	int r = slots_links_generation(l, start, ret_generation, ret_static, err);

	for (size_t i = 0; r == 0 && i < l->module_count; i++) {
		struct slots_module *m = &l->modules[i];
		struct program p;
		bool main_program = i == 0 && read_program(l, start, &p) == 0 && p.module.dynamic == m->dynamic;

		r = slots_read_module(l, m, main_program ? start->phdr : 0, main_program ? start->phnum : 0);
		if (r < 0)
			return err_set(err, -r, "cannot read the headers of a module: %s", strerror(-r));
	}
	return r;
}
