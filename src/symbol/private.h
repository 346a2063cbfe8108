/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What symbol/ and unwind/ share: modules with their ELF images, symbol tables and DWARF. libelf and libdw appear here and nowhere
 * above.
 *
 *   struct symbols ── spans: executable address ranges, ascending ──> struct module (one a file) ── main and debug image
 *
 * Images are private mappings handed to elf_memory(), so that image_trim() can give their pages back after a look-up: only what
 * libdw allocates and the sorted symbol index stay resident. Addresses: `address` lies in the target, `vaddr` in the file's own
 * numbering; address - bias = vaddr.
 */
#ifndef MEMWATCH_SYMBOL_PRIVATE_H
#define MEMWATCH_SYMBOL_PRIVATE_H

#include <elfutils/libdw.h>
#include <gelf.h>
#include <libelf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/map.h"
#include "memwatch/symbol.h"

#define BUILD_ID_MAX 64

struct image {
	unsigned char *map; /* NULL: none */
	size_t len;
	Elf *elf;
	dev_t dev;
	ino_t ino;
};

struct load { /* one PT_LOAD */
	uint64_t offset, vaddr, filesz, memsz;
	bool exec;
};

struct symbol_ref {     /* index: source in the two highest bits, number within it below */
	uint32_t start; /* vaddr - table.base */
	uint32_t index;
};

struct symbol_source {
	Elf *elf;       /* NULL: own[] instead */
	Elf_Data *data; /* of a .symtab or .dynsym */
	size_t strings; /* section index of its names */
	struct own_symbol *own;
	size_t own_count;
};

struct own_symbol { /* from .gnu_debugdata: the image that held it is gone */
	uint64_t value, size;
	const char *name;
	uint8_t info;
};

#define SYMBOL_SOURCES 3
struct symbol_table {
	struct symbol_ref *refs; /* ascending, one a start address */
	size_t count;
	uint64_t base;
	struct symbol_source sources[SYMBOL_SOURCES];
	size_t source_count;
	struct arena arena; /* of own symbols and their names */
};

enum stage { STAGE_NEW, STAGE_READY, STAGE_FAILED };

struct module {
	const char *path; /* as the target sees it; interned */
	uint64_t inode;
	uint32_t dev_major, dev_minor;
	bool deleted, vdso, system;
	uint64_t map_start, map_end; /* one of its mappings, for map_files */
	bool used;                   /* by a span, while symbols_update() runs */

	enum stage stage; /* of main and loads */
	int error;
	struct image main, debug;
	struct load *loads;
	size_t load_count;
	unsigned char build_id[BUILD_ID_MAX];
	size_t build_id_len;

	enum stage debug_stage;
	uint64_t debug_delta; /* debug file's vaddr - ours: prelinked files */

	enum stage table_stage, debug_table_stage;
	struct symbol_table table, debug_table;

	enum stage cfi_stage, frame_stage;
	Dwarf_CFI *cfi; /* of .eh_frame; see module_cfi() */

	enum stage dwarf_stage;
	Dwarf *dwarf, *alt;
	struct image alt_image;
	const struct image *dwarf_image;  /* main or debug */
	struct function_index *functions; /* of the units that were looked into */
	struct map line_units;            /* unit offset -> 1, those whose lines libdw keeps */
	size_t line_bytes;                /* what those take, about */
	size_t charged_bytes;             /* against the budget */
	bool over_budget, units_known;    /* libdw has seen every unit's header */

	bool language_known; /* of the executable */
	const char *language;

	bool names_missing, lines_missing; /* somebody asked and got none */

	/* The unwinder's tables of this file, see unwind/compact.c. */
	void *tables;
	void (*tables_destroy)(void *tables);
	bool tables_failed; /* no second try */
};

struct span {
	uint64_t start, end;
	/* at this address the file's byte at this offset is mapped; base is outside the span if anonymous */
	uint64_t base, offset;
	struct module *module; /* NULL: JIT or other anonymous code */
	uint64_t bias;
	bool anonymous;   /* text that was copied into anonymous (huge) pages: the module is the neighbour's */
	enum stage stage; /* of bias */
};

struct symbols {
	pid_t pid;
	int proc_fd;
	bool debuginfod;
	size_t budget_bytes, charged_bytes;
	struct intern *strings;
	struct module **modules;
	size_t module_count, module_cap;
	struct span *spans;
	size_t span_count, span_cap;
	uint64_t mappings_hash;
	uint64_t generation; /* counts changes of spans: whoever caches by address starts afresh */
	struct map cache;    /* address -> index into cached[] */
	struct cached_frames *cached;
	size_t cached_count, cached_cap;
	struct arena cache_arena;
	unsigned look_ups; /* since the last trim */
	struct module *executable;
	struct perfmap *perfmap; /* NULL: nobody asked yet */
	/* The unwinder's state, kept with the modules that it points into. */
	void *unwind;
	void (*unwind_destroy)(void *unwind);
	size_t table_bytes; /* of all modules' unwind tables */
};

/* image.c: an ELF file in memory. */
must_check int image_map(int fd, struct image *ret); /* the descriptor stays the caller's */
must_check int image_take(unsigned char *map, size_t len,
			  struct image *ret); /* an anonymous mapping; owned on success */
void image_close(struct image *image);
void image_trim(const struct image *image); /* gives file pages back */
Elf_Scn *image_section(const struct image *image, const char *name, GElf_Shdr *ret);
size_t image_debug_cost(const struct image *image); /* bytes that its DWARF may come to take; 0: none there */

/* open.c: which file. Descriptors or -errno. */
int open_module_file(const struct symbols *s, const struct module *m);
void open_debug_image(const struct symbols *s, const struct module *m,
		      struct image *ret); /* map stays NULL where none */
void open_build_id(const struct symbols *s, const unsigned char *id, size_t len, struct image *ret);
int open_in_target(const struct symbols *s, const char *path);
int debuginfod_open(const unsigned char *id, size_t len);

/* module.c */
struct module *module_create(void);
void module_destroy(struct symbols *s, struct module *m);
must_check int module_load(struct symbols *s, struct module *m);       /* main image and loads */
const struct image *module_debug(struct symbols *s, struct module *m); /* NULL: no separate file */
Dwarf *module_dwarf(struct symbols *s, struct module *m);              /* NULL: none, or over budget */
void module_recycle_dwarf(struct symbols *s, struct module *m);        /* drops what libdw cached */
must_check int module_bias(const struct module *m, uint64_t start, uint64_t offset, bool exec, uint64_t *ret);
bool module_in_text(const struct module *m, uint64_t vaddr);
bool module_holds(const struct module *m, uint64_t vaddr, uint64_t size); /* within one segment, of whatever kind */
size_t module_code(const struct module *m, uint64_t vaddr, unsigned char *buf,
		   size_t len);                             /* bytes of the file's text */
Dwarf_CFI *module_cfi(struct module *m);                    /* of .eh_frame; NULL: none */
bool module_signal_frame(struct module *m, uint64_t vaddr); /* the way out of a signal handler */
void module_trim(const struct module *m);

/* spans.c */
must_check int spans_update(struct symbols *s, struct mem *mem, bool *ret_changed);
/* The span of code that holds address, its module loaded and its bias known; NULL: not executable. module may be NULL: JIT. */
struct span *span_find(struct symbols *s, uint64_t address);

/* table.c */
/* base: the lowest vaddr of the image's text; the index holds what lies within 4 GiB of it. */
must_check int table_build(struct symbol_table *t, const struct image *image, uint64_t base);
void table_destroy(struct symbol_table *t);
/* Name of the function that covers vaddr, NUL-terminated, living as long as the table's images; NULL none. */
const char *table_find(const struct symbol_table *t, const struct image *image, uint64_t vaddr, uint64_t *ret_start);
bool table_symbol(const struct symbol_table *t, uint32_t index, GElf_Sym *ret_sym, const char **ret_name);
/* plt.c: "name@plt" into buf, or false. */
bool plt_name(const struct image *image, uint64_t vaddr, char *buf, size_t cap);
/* minidebug.c: the symbols inside .gnu_debugdata, into the table's arena. */
void minidebug_load(struct symbol_table *t, const struct image *image);

/* functions.c: the function of a unit that holds vaddr; its DIEs hang below scopes (split DWARF: another unit). */
bool functions_find(struct module *m, Dwarf_Die *unit, Dwarf_Die *scopes, uint64_t vaddr, Dwarf_Die *ret);
void functions_destroy(struct function_index *index);

/* lines.c: frames by DWARF: fills function, file, line, inlined, language; 0 where it knows nothing. function may be NULL. */
size_t lines_resolve(struct symbols *s, struct module *m, uint64_t vaddr, struct frame *frames, size_t cap);
const char *language_name(int dw_lang);
const char *lines_main_language(struct symbols *s, struct module *m);

/* perfmap.c: what a JIT wrote about its code at address; interned; NULL: nothing. */
const char *perfmap_find(struct symbols *s, uint64_t address);
void perfmap_destroy(struct perfmap *p);

/* demangle.c: malloc'd, or NULL where it is no mangled name. */
char *demangle(const char *mangled);
const char *demangled_intern(struct intern *strings, const char *name); /* clone suffixes cut off */
const char *mangling_language(const char *name);

/* Function name from the tables alone, mangled, of the file's or of buf; NULL none. */
const char *module_symbol(struct symbols *s, struct module *m, uint64_t vaddr, char *buf, size_t cap,
			  uint64_t *ret_start);

#endif
