/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Modules of a target and names for its addresses: libelf and libdw stay inside.
 *
 * One `struct symbols` per process, kept for the target's life; modules are added as mappings appear (symbols_update()), debug
 * information is opened at the first look-up that needs it, never while a thread is stopped. Files are opened through
 * /proc/PID/root (other mount namespaces) and /proc/PID/map_files or /proc/PID/exe for deleted ones; the vDSO is read from memory.
 * Separate debug files: .gnu_debuglink, /usr/lib/debug/.build-id, both inside the target's root and on the host, then debuginfod
 * where DEBUGINFOD_URLS is set and `debuginfod` allows it. An address with no symbol is "module+0xoffset", never "".
 *
 * Memory: what a look-up opened stays open up to `budget_bytes` of debug information; beyond that lines of further modules are
 * left out and their frames carry function names only.
 *
 * Code in anonymous memory is named by what the JIT wrote into /tmp/perf-PID.map of the target, if it did: frames without a module.
 */
#ifndef MEMWATCH_SYMBOL_H
#define MEMWATCH_SYMBOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/mem.h"
#include "memwatch/model.h"

struct symbols;

struct symbols_options {
	pid_t pid;
	int proc_fd;         /* /proc/PID, borrowed */
	bool debuginfod;     /* ask servers in DEBUGINFOD_URLS */
	size_t budget_bytes; /* 0: 64 MiB */
};

must_check int symbols_create(const struct symbols_options *options, struct symbols **ret);
void symbols_destroy(struct symbols *s);
/* The process has ended and proc_fd is about to be closed: what was read of its files stays. May be NULL. */
void symbols_leave(struct symbols *s);

/* Takes the current mappings (after start, exec, dlopen). Cheap when nothing changed. */
must_check int symbols_update(struct symbols *s, struct mem *mem);

/*
 * Names one address: appends 1 + (number of inlined) frames to frames[], innermost first, at most cap; returns how many.
 * Strings live as long as s. `call` says that address is a return address: look-ups use address - 1.
 */
size_t symbols_resolve(struct symbols *s, uint64_t address, bool call, struct frame *frames, size_t cap);

/*
 * Where the function of that name begins: "name" (mangled, or demangled with or without its parameters; the executable is searched
 * first, then all modules), "MODULE:name", "MODULE+0xOFFSET" (as frames without a name show it). More than one place only where the
 * compiler made copies of it (constprop, isra). Linear over the symbol tables: milliseconds, more with large libraries.
 * -ENOENT no such function; -ENOTUNIQ several of that name: the message lists them; -ENOTSUP an indirect function (IFUNC), which is
 * called once, to choose; -E2BIG more than cap copies. Messages name the remedy.
 */
struct function_place {
	uint64_t address;
	const char *name, *module; /* live as long as s */
};
must_check int symbols_find(struct symbols *s, const char *name, struct function_place *ret, size_t cap,
			    size_t *ret_count, struct err *err);
/*
 * The address of the data object of that name, as it stands in .symtab or .dynsym (mangled; a version behind '@' is left out), of the executable,
 * else of any module; of several a global one, else the first. No thread-local ones. Where the file is stripped, the symbol table of a debug file that
 * is here; servers are not asked. What lies there is not looked at. Linear over the symbol tables, as symbols_find(). 0 or -ENOENT.
 */
must_check int symbols_find_data(struct symbols *s, const char *name, uint64_t *ret);
/* Changes whenever symbols_update() finds other executable mappings. */
uint64_t symbols_generation(const struct symbols *s);

/* For the unwinder (private to symbol/ and unwind/): see src/symbol/private.h. */

/* The language of the executable's main unit, "c", "c++", "rust", "go", …; NULL unknown. */
const char *symbols_language(struct symbols *s);

/* Why lines or names are missing for modules that were asked about: "no debug information for 'libfoo.so' (build-id …)"; NULL none.
 * For session.gaps. */
const char *symbols_gap(struct symbols *s, struct arena *arena);

/* Demangles C++, Rust (both schemes), D; returns a string of the arena, or mangled itself. */
const char *symbol_demangle(struct arena *arena, const char *mangled);

#endif
