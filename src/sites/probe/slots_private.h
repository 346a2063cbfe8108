/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How slots are found, in this order:
 *
 *   slots_link.c     auxv → program headers → r_debug → link maps → modules, their headers and dynamic sections
 *   slots_symbol.c   which of our names a module defines, and which of its symbols go by them
 *   slots_reloc.c    the words that its relocations bind to those symbols: candidates
 *   slots.c          which candidates are slots; which of them are listed
 *   slots_code.c     what code does with those that it may read
 *
 * All of it is read from a target that runs meanwhile, and may lie. What contradicts itself is left out; addresses of a module's tables must lie inside
 * the module; the bytes read in one call are bounded.
 */
#ifndef MEMWATCH_SITES_PROBE_SLOTS_PRIVATE_H
#define MEMWATCH_SITES_PROBE_SLOTS_PRIVATE_H

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/err.h"
#include "memwatch/mem.h"
#include "sites/probe/arch/slots_arch.h"
#include "sites/probe/slots.h"

#define SLOTS_MODULES_MAX 8192
#define SLOTS_NAMESPACES_MAX 64        /* glibc has 16 */
#define SLOTS_EXEC_MAX 8               /* executable segments of a module that are looked at; more: it is left out */
#define SLOTS_SYMBOLS_MAX 256          /* symbols of a module that go by our names */
#define SLOTS_CANDIDATES_MAX 65536     /* of all modules */
#define SLOTS_TABLE_BYTES (1ULL << 30) /* read of tables in one call; Chrome, with 300 modules, has 40 MB of them */
#define SLOTS_CODE_BYTES (4ULL << 30)  /* of code */
#define SLOTS_NAME_BYTES 40            /* the longest name, _ZnamSt11align_val_tRKSt9nothrow_t, has 34 */
#define SLOTS_NAMES (PROBE_FUNCTION_COUNT + 1)

/* Names by which our functions go: those of slot_function_names, then mmap64, which is what mmap is called with 64-bit file offsets. */
const char *slots_name(size_t name);
uint32_t slots_name_function(size_t name);
int slots_name_find(const char *text); /* -1: none */

/* Where the search starts: what the kernel told the program. */
struct slots_start {
	uint64_t phdr, phnum, entry;
	uint64_t linker; /* where the kernel loaded the interpreter; 0: it did not */
	int dir_fd;      /* /proc/PID, for the files of its code; -1: none, all is read from memory */
};

struct slots_range {
	uint64_t start, end;
};

struct slots_symbol {
	uint32_t index;
	uint32_t name; /* see slots_name() */
	uint64_t
		address; /* where it is defined, or (an undefined one of a program at fixed addresses) its PLT entry that stands for it; 0 none */
	bool defined, weak, indirect; /* indirect: an IFUNC, address is that of the resolver */
};

struct slots_module {
	uint64_t link_map, bias, dynamic;
	bool elsewhere; /* in a namespace other than the base one */
	bool usable;    /* what follows was read and makes sense */
	bool has_malloc, calls_malloc;
	struct slots_range span, relro, exec[SLOTS_EXEC_MAX];
	size_t exec_count;
	uint64_t symtab, strtab, string_bytes, gnu_hash, hash, plt_got;
	uint64_t jump_table, jump_bytes, rela_table, rela_bytes; /* without the relative ones, which come first */
	struct slots_symbol *symbols;
	size_t symbol_count, symbol_cap;
};

struct slots_candidate {
	struct slot slot;
	uint32_t module, name, index; /* index: of the relocation in its table */
	enum slots_kind kind;
	bool weak;
	bool listed;
};

/* One call. */
struct slots_look {
	struct mem *mem;
	int dir_fd;
	uint64_t table_left, code_left; /* bytes that may still be read */
	struct slots_module *modules;   /* in link-map order, those of the base namespace first */
	size_t module_count, module_cap;
	struct slots_candidate *candidates;
	size_t candidate_count, candidate_cap;
	const struct region *regions;
	size_t region_count;
	uint64_t defined[SLOTS_NAMES]; /* first definition in link-map order */
	uint32_t owner[SLOTS_NAMES];   /* module */
	bool indirect[SLOTS_NAMES];    /* it is an IFUNC: defined[] is 0 until a bound slot tells */
};

/* 0, -EFAULT where it is not all there or too much was read already, -errno (the target is gone, or refuses). */
must_check int slots_read(struct slots_look *l, uint64_t address, void *buf, size_t len);
/* Up to len; count, 0 too. */
must_check ssize_t slots_read_some(struct slots_look *l, uint64_t address, void *buf, size_t len);
must_check int slots_read_batch(struct slots_look *l, struct mem_piece *pieces, size_t count);

static inline bool slots_in(const struct slots_range *r, uint64_t address)
{
	return address >= r->start && address < r->end;
}
bool slots_in_code(const struct slots_module *m, uint64_t address);
bool slots_holds(const struct slots_module *m, uint64_t address, uint64_t len); /* all of it lies in the module */

/* Fills modules. -EAGAIN, -ENOTSUP (*ret_static is set then), -errno. generation: see slots_generation(). */
must_check int slots_read_links(struct slots_look *l, const struct slots_start *start, uint64_t *ret_generation,
				bool *ret_static, struct err *err);
must_check int slots_links_generation(struct slots_look *l, const struct slots_start *start, uint64_t *ret,
				      bool *ret_static, struct err *err);
/* The module's headers and tables, where its link map and phdr (0: look for them) are known. 0 also where it is not usable. */
must_check int slots_read_module(struct slots_look *l, struct slots_module *m, uint64_t phdr, uint64_t phnum);

/* The definition of a name in a module: 1 and *ret, 0 none, -errno. */
must_check int slots_lookup(struct slots_look *l, const struct slots_module *m, const char *name, Elf64_Sym *ret,
			    uint32_t *ret_index);
must_check int slots_read_definitions(struct slots_look *l, struct slots_module *m);
/* Those of the symbols in indices (ascending) that are not defined in the module and have our names. */
must_check int slots_read_references(struct slots_look *l, struct slots_module *m, const uint32_t *indices,
				     size_t count);
const struct slots_symbol *slots_symbol(const struct slots_module *m, uint32_t index);

/* Candidates of one module, and whether its data has pointers to malloc or free. */
must_check int slots_read_relocations(struct slots_look *l, size_t module, bool *ret_pointers);
/* Whether the run-time linker has bound the program's own relocations: 1, 0, -errno. */
must_check int slots_is_relocated(struct slots_look *l, const struct slots_module *m);
/*
 * What an unbound slot of a PLT entry holds: the place in that entry that asks the run-time linker for relocation `index`. Verified by the code there,
 * as a function of the module's own, or a hook, would look alike else. One of enum slots_stub or -errno.
 */
enum slots_stub {
	SLOTS_STUB_NONE,
	SLOTS_STUB_READY,
	SLOTS_STUB_EARLY /* the module's bias has not been added yet, or lazy binding has not been set up */
};
must_check int slots_stub(struct slots_look *l, const struct slots_module *m, uint64_t value, uint32_t index);

/* Sets copied of listed candidates. */
must_check int slots_scan_code(struct slots_look *l);

/* slots_find() and slots_generation() from a known start: for tests and images. */
must_check int slots_find_from(const struct slots_start *start, struct mem *mem, struct slot_set *ret, struct err *err);
must_check int slots_generation_from(const struct slots_start *start, struct mem *mem, uint64_t *ret);

#endif
