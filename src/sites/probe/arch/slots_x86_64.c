/* SPDX-License-Identifier: GPL-3.0-or-later */
#if defined(__x86_64__)

#include "slots_arch.h"

#include <elf.h>
#include <emmintrin.h>
#include <string.h>

const uint16_t slots_arch_machine = EM_X86_64;

enum slots_kind slots_arch_kind(uint32_t type)
{
	switch (type) {
	case R_X86_64_JUMP_SLOT:
		return SLOTS_JUMP;
	case R_X86_64_GLOB_DAT:
		return SLOTS_DATA;
	case R_X86_64_64:
		return SLOTS_POINTER;
	default:
		return SLOTS_OTHER;
	}
}

/*
 * GNU ld, gold and lld:  [endbr64] push $index ; [bnd] jmp PLT0
 * mold, all slots alike: endbr64 ; push %r11 ; push GOT+8(%rip) ; jmp *GOT+16(%rip)
 */
bool slots_arch_is_stub(const uint8_t *code, size_t len, uint32_t index)
{
	static const uint8_t endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
	uint32_t pushed;

	if (len < SLOTS_STUB_BYTES)
		return false;
	if (memcmp(code, endbr64, sizeof(endbr64)) == 0) {
		code += sizeof(endbr64);
		if (code[0] == 0x41 && code[1] == 0x53)
			return code[2] == 0xff && code[3] == 0x35 && code[8] == 0xff && code[9] == 0x25;
	}
	memcpy(&pushed, code + 1, sizeof(pushed));
	return code[0] == 0x68 && pushed == index && (code[5] == 0xe9 || (code[5] == 0xf2 && code[6] == 0xe9));
}

static struct slots_use *use_at(struct slots_use *uses, size_t count, uint64_t address)
{
	while (count > 0) {
		size_t half = count / 2;

		if (uses[half].address == address)
			return &uses[half];
		if (uses[half].address < address) {
			uses += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return NULL;
}

/* A ModRM byte that means disp32(%rip): the displacement counts from the end of the instruction, behind an immediate byte if there is one. */
static void check_operand(const uint8_t *modrm, uint64_t next, struct slots_use *uses, size_t count)
{
	struct slots_use *use = use_at(uses, count, next);

	if (use) {
		if (modrm[-1] == 0xff && (modrm[0] == 0x15 || modrm[0] == 0x25))
			use->called = true; /* call *, jmp *; bnd, notrack and REX stand before the opcode */
		else
			use->copied = true;
		return;
	}
	/* pinsrq and its like copy; cmp $0 (is a weak symbol there?) does not */
	use = use_at(uses, count, next + 1);
	if (use && !((modrm[-1] == 0x83 || modrm[-1] == 0x80) && modrm[0] == 0x3d))
		use->copied = true;
}

void slots_arch_scan(const uint8_t *code, size_t len, uint64_t at, struct slots_use *uses, size_t count)
{
	const __m128i mask = _mm_set1_epi8((char)0xc7), rip = _mm_set1_epi8(0x05);
	uint64_t low, span;

	if (count == 0)
		return;
	low = uses[0].address - 1;
	span = uses[count - 1].address - low;
	for (size_t i = 0; i < len; i += 16) {
		__m128i block = _mm_setzero_si128();
		unsigned int hits;

		if (len - i >= sizeof(block))
			block = _mm_loadu_si128((const __m128i *)(const void *)(code + i));
		else
			memcpy(&block, code + i, len - i);
		hits = (unsigned int)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_and_si128(block, mask), rip));
		for (; hits; hits &= hits - 1) {
			size_t p = i + (size_t)__builtin_ctz(hits);
			uint64_t next;
			int32_t displacement;

			if (p == 0 || len - p < 1 + sizeof(displacement))
				continue;
			memcpy(&displacement, code + p + 1, sizeof(displacement));
			next = at + p + 5 + (uint64_t)(int64_t)displacement;
			if (next - low <= span)
				check_operand(code + p, next, uses, count);
		}
	}
}

#endif
