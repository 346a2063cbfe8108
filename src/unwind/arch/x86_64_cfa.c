/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>

#include "../cfa.h"

#define RBP 6
#define RSP 7
#define RIP 16

/* rsp + 8 + ((rip & 15) >= n) * 8: the entry's push stands at byte n - 5, by kind of PLT. */
static bool plt(const unsigned char *e, size_t len, int64_t *ret_from)
{
	if (len != 11 || e[0] != DW_OP_breg0 + RSP || e[1] != 8 || e[2] != DW_OP_breg0 + RIP || e[3] != 0 ||
	    e[4] != DW_OP_lit15 || e[5] != DW_OP_and || e[6] < DW_OP_lit0 || e[6] > DW_OP_lit15 || e[7] != DW_OP_ge ||
	    e[8] != DW_OP_lit3 || e[9] != DW_OP_shl || e[10] != DW_OP_plus)
		return false;
	*ret_from = e[6] - DW_OP_lit0;
	return true;
}

/* One byte of SLEB128 is as far as compilers go. */
static bool deref(const unsigned char *e, size_t len, int64_t *ret_offset)
{
	if (len != 3 || e[0] != DW_OP_breg0 + RBP || e[1] > 0x7f || e[2] != DW_OP_deref)
		return false;
	*ret_offset = e[1] & 0x40 ? (int64_t)e[1] - 0x80 : e[1];
	return true;
}

static bool at_fp(const unsigned char *e, size_t len)
{
	return len == 2 && e[0] == DW_OP_breg0 + RBP && e[1] == 0;
}

const struct cfa_arch cfa_x86_64 = { .sp = RSP, .fp = RBP, .pc = RIP, .plt = plt, .deref = deref, .at_fp = at_fp };
