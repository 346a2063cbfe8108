/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Language runtimes read from outside: what the runtime knows of its memory, without its cooperation, while the target runs. CPython,
 * HotSpot, V8; others are recognised by name only, Go not yet.
 *
 * A reader sees a struct mem, so a live process, a core file and a fixture run the same code. It writes nothing and stops nothing.
 * Everything read is hostile and may be torn: addresses are checked against the mappings before they are followed, every loop is bounded, and a
 * figure that contradicts another one (more in use than committed, a pool with a wrong header) is left out, not repaired.
 * Layouts of versions are data tables. A version that is not in its table is looked for by what must hold in all of them; where that fails, the reader
 * says -ENOTSUP and which version it met. It never guesses.
 *
 *     runtime_probe(&query, &runtime, &err);          once, and again after an exec; 1 found
 *     runtime_read(runtime, mem, &arena, &stats, &err); at each look
 *     runtime_describe(runtime, &arena, &part);
 *     runtime_destroy(runtime);
 *
 * Not thread safe. Errors: -ESRCH the target is gone; -EAGAIN torn beyond use, the next look will do; -ENOTSUP (err names version and remedy); -EPERM.
 */
#ifndef MEMWATCH_RUNTIME_H
#define MEMWATCH_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/arena.h"
#include "memwatch/base/err.h"
#include "memwatch/mem.h"
#include "memwatch/model.h"

struct runtime_query { /* borrowed for the call */
	struct mem *mem;
	/*
	 * The address of a data symbol of any module, from .symtab or .dynsym: 0 or -ENOENT. Costs a look into the files of all modules the first time, so a
	 * reader asks only when a module or mapping says that its runtime may be there. NULL: no symbols are to be had. A reader may hold what mem_regions()
	 * gave it: the call does not ask for the mappings of that mem again.
	 */
	int (*find)(void *arg, const char *name, uint64_t *ret);
	void *arg;
};

struct runtime;
struct runtime_ops {
	const char *name; /* "cpython", "hotspot", "v8" */
	/*
	 * 1 it is there: *ret_state is the reader's own; 0 it is not, or has not begun yet: ask again later. -ENOTSUP it is there and cannot be read.
	 * Quick where it is not: mappings are looked at first. Nothing is stopped, in any slot.
	 */
	int (*probe)(const struct runtime_query *query, void **ret_state, struct err *err);
	/* Into ret, which is all NaN before; figures in the arena. At most 10 ms for 100 MiB of the runtime's memory. */
	int (*read)(void *state, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err);
	/* "3.11.2", "1.22.4"; NULL where it is not known. By what it was found: "symbol", "signature", "mapping". Texts live as long as the state. */
	const char *(*version)(const void *state);
	const char *(*found_by)(const void *state);
	void (*destroy)(void *state);
};

extern const struct runtime_ops runtime_cpython, runtime_hotspot, runtime_v8, runtime_others;

must_check int runtime_probe(const struct runtime_query *query, struct runtime **ret, struct err *err);
must_check int runtime_read(struct runtime *r, struct mem *mem, struct arena *arena, struct runtime_stats *ret,
			    struct err *err);
void runtime_describe(const struct runtime *r, struct arena *arena, struct named_part *ret);
void runtime_destroy(struct runtime *r); /* NULL-safe */

#endif
