/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <dwarf.h>
#include <stddef.h>

#include "private.h"

struct language {
	int code;
	const char *name;
};

/* Codes newer than libdw's header are given as numbers. */
static const struct language languages[] = {
	{ DW_LANG_C, "c" },
	{ DW_LANG_C89, "c" },
	{ DW_LANG_C99, "c" },
	{ DW_LANG_C11, "c" },
	{ 0x2c, "c" }, /* C17 */
	{ 0x3e, "c" }, /* C23 */
	{ DW_LANG_C_plus_plus, "c++" },
	{ DW_LANG_C_plus_plus_03, "c++" },
	{ DW_LANG_C_plus_plus_11, "c++" },
	{ DW_LANG_C_plus_plus_14, "c++" },
	{ 0x2b, "c++" }, /* 17 */
	{ 0x3a, "c++" }, /* 20 */
	{ 0x43, "c++" }, /* 23 */
	{ DW_LANG_Rust, "rust" },
	{ DW_LANG_Go, "go" },
	{ DW_LANG_D, "d" },
	{ DW_LANG_Swift, "swift" },
	{ DW_LANG_Fortran77, "fortran" },
	{ DW_LANG_Fortran90, "fortran" },
	{ DW_LANG_Fortran95, "fortran" },
	{ DW_LANG_Fortran03, "fortran" },
	{ DW_LANG_Fortran08, "fortran" },
	{ 0x2d, "fortran" }, /* 18 */
	{ DW_LANG_Ada83, "ada" },
	{ DW_LANG_Ada95, "ada" },
	{ DW_LANG_ObjC, "objective-c" },
	{ DW_LANG_ObjC_plus_plus, "objective-c++" },
	{ DW_LANG_OCaml, "ocaml" },
	{ DW_LANG_Haskell, "haskell" },
	{ DW_LANG_Pascal83, "pascal" },
	{ DW_LANG_Modula2, "modula-2" },
	{ DW_LANG_Julia, "julia" },
	{ 0x27, "zig" },
	{ 0x28, "crystal" },
	{ DW_LANG_Mips_Assembler, "asm" },
};

const char *language_name(int dw_lang)
{
	for (size_t i = 0; i < sizeof(languages) / sizeof(languages[0]); i++)
		if (languages[i].code == dw_lang)
			return languages[i].name;
	return NULL;
}
