/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stddef.h>
#include <string.h>
#include <ucontext.h>

#include "../private.h"

/* call rel32, and call through a register or memory with every length of its operand (FF /2, with or without a prefix). */
static bool ends_in_call(const unsigned char *code, size_t len)
{
	const unsigned char *end = code + len;

	if (len >= 5 && end[-5] == 0xe8)
		return true;
	for (size_t back = 2; back <= 7 && back <= len; back++) {
		unsigned char modrm = end[1 - (ptrdiff_t)back];
		unsigned mode = modrm >> 6, base = modrm & 7;
		size_t operand = mode == 1 ? 1 : mode == 2 || (mode == 0 && base == 5) ? 4 : 0;

		if (end[-(ptrdiff_t)back] != 0xff || (modrm >> 3 & 7) != 2)
			continue;
		if (mode != 3 && base == 4) { /* a SIB byte; without a base register it has four bytes behind */
			if (back < 3)
				continue;
			operand += 1 + (mode == 0 && (end[2 - (ptrdiff_t)back] & 7) == 5 ? 4U : 0U);
		}
		if (back == 2 + operand)
			return true;
	}
	return false;
}

/* mov $15, %rax (or %eax); syscall */
static bool is_sigreturn(const unsigned char *code, size_t len)
{
	static const unsigned char wide[] = { 0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05 };
	static const unsigned char narrow[] = { 0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05 };

	return (len >= sizeof(wide) && memcmp(code, wide, sizeof(wide)) == 0) ||
	       (len >= sizeof(narrow) && memcmp(code, narrow, sizeof(narrow)) == 0);
}

#define SAVED(reg) (uint16_t)(offsetof(ucontext_t, uc_mcontext.gregs) + 8 * (reg))
static const uint16_t signal_offsets[] = {
	SAVED(REG_RAX), SAVED(REG_RDX), SAVED(REG_RCX), SAVED(REG_RBX), SAVED(REG_RSI), SAVED(REG_RDI),
	SAVED(REG_RBP), SAVED(REG_RSP), SAVED(REG_R8),  SAVED(REG_R9),  SAVED(REG_R10), SAVED(REG_R11),
	SAVED(REG_R12), SAVED(REG_R13), SAVED(REG_R14), SAVED(REG_R15), SAVED(REG_RIP),
};

const struct arch arch_x86_64 = {
	.registers = 17,
	.sp = 7,
	.fp = 6,
	.pc = 16,
	.ends_in_call = ends_in_call,
	.is_sigreturn = is_sigreturn,
	.signal_offsets = signal_offsets,
};
