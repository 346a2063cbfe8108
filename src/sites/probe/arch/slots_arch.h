/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What of slots depends on the processor: relocation types, what an unbound PLT entry looks like, and how code refers to a slot.
 */
#ifndef MEMWATCH_SITES_PROBE_ARCH_SLOTS_ARCH_H
#define MEMWATCH_SITES_PROBE_ARCH_SLOTS_ARCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const uint16_t slots_arch_machine; /* EM_… */

enum slots_kind {
	SLOTS_OTHER,
	SLOTS_JUMP,    /* used by a PLT entry alone, may be bound lazily */
	SLOTS_DATA,    /* the address of a function, for code to use as it likes; bound at once */
	SLOTS_POINTER, /* a pointer in the module's own data */
};
enum slots_kind slots_arch_kind(uint32_t type);

/* Whether code is what an unbound slot leads to: the part of a PLT entry that asks the run-time linker for relocation `index`. */
#define SLOTS_STUB_BYTES 20
bool slots_arch_is_stub(const uint8_t *code, size_t len, uint32_t index);

/* What code does with a slot. */
struct slots_use {
	uint64_t address;
	bool called; /* jumped to or called through */
	bool copied; /* anything else that may put what it holds into a register */
};

/*
 * Marks the uses (ascending by address) that the code, which stands at `at`, makes of them. References are found at every byte, whether an instruction
 * starts there or not: none is missed, and a chance hit can only add one. Code in portions: let them overlap by SLOTS_SCAN_OVERLAP bytes.
 */
#define SLOTS_SCAN_OVERLAP 16
void slots_arch_scan(const uint8_t *code, size_t len, uint64_t at, struct slots_use *uses, size_t count);

#endif
