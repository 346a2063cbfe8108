/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Pointer slots of a target: which words of its modules' GOTs, and of their tables of function pointers, lead to the functions of an allocator, and
 * where the real functions are.
 *
 * Read from memory alone (the dynamic sections that the run-time linker itself uses), so stripped, deleted and foreign-namespace files are
 * all the same: AT_PHDR of /proc/PID/auxv → PT_DYNAMIC → DT_DEBUG → r_debug → link_map; each module's .gnu.hash or .hash, .dynsym,
 * .rela.plt and .rela.dyn. Nothing is stopped or written; everything read is hostile and bounded.
 *
 * The real function is the first definition in link-map order, as the run-time linker binds it; so a preloaded or linked-in jemalloc, tcmalloc or
 * mimalloc is served. A slot is listed where it holds that function, or leads into its own module's PLT (not bound yet). One that holds something
 * else (another namespace, a hook) is not touched, and counted in `foreign`.
 *
 * `operator new` and `delete` are listed only where the module that defines them does not itself call malloc through a slot (libstdc++ does): blocks
 * would be counted twice else. An allocator that defines them and malloc serves each by itself: they are listed, and its own slots are not.
 * mmap, munmap, mremap and sbrk are not listed in modules that define malloc: those are the allocator's own.
 */
#ifndef MEMWATCH_SITES_PROBE_SLOTS_H
#define MEMWATCH_SITES_PROBE_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memwatch/base/err.h"
#include "memwatch/mem.h"
#include "sites/probe/blob/blob.h"

struct slot {
	uint64_t address;
	uint64_t value;    /* what it holds now */
	uint32_t function; /* enum probe_function */
	bool read_only;    /* its page is (RELRO) */
	/* The module's code uses it otherwise than by jumping or calling through it: the address may have been copied elsewhere. */
	bool copied;
};

struct slot_set {
	struct slot *slots;
	size_t count, cap;
	uint64_t real[PROBE_FUNCTION_COUNT]; /* 0: nobody defines it */
	uint64_t foreign;    /* slots left alone because they hold something unexpected: those in strangers */
	uint64_t modules;    /* seen */
	uint64_t unreadable; /* of them: headers or tables that cannot be read or make no sense */
	/*
	 * Slots on pages that the run-time linker is just about to make read-only: left out, as a store or a change of protection could
	 * meet with its own. Look again soon, though the list of modules stays as it is.
	 */
	uint64_t unsettled;
	/* Modules whose own data holds pointers to malloc or free from the start (a table of hooks): these words are slots too, but copies of them are not. */
	uint64_t static_copies;
	uint64_t link_maps; /* changes whenever modules were loaded or unloaded: see slots_generation() */
	bool is_static;     /* no run-time linker: there are no slots */
	/* The slots that `foreign` counts, for a probe to tell its own (they lead to its thunks) from those of others. copied is not filled in. */
	struct slot *strangers;
	size_t stranger_count, stranger_cap;
};

/*
 * All slots of the target as it is now, ascending within each module. 0, also when there are none; -EAGAIN: the linker is at work, or has not relocated
 * everything yet (try again); -ENOTSUP a program without a dynamic section or of another class, the message says which, and is_static is set then
 * (nothing else of *ret is touched on failure: start from a zeroed one); -ESRCH, -EPERM.
 */
must_check int slots_find(pid_t pid, struct mem *mem, struct slot_set *ret, struct err *err);
void slot_set_deinit(struct slot_set *s);
/*
 * Cheap (a read for each few modules): a number that changes when the list of modules does. -EAGAIN while it is being changed. link_maps of a set is this
 * number. A module that was unloaded and loaded again at the very same place meanwhile is not noticed: see whether known slots still hold what they did.
 */
must_check int slots_generation(pid_t pid, struct mem *mem, uint64_t *ret);

extern const char *const slot_function_names[PROBE_FUNCTION_COUNT]; /* symbol names, "malloc", "_Znwm", … */

#endif
