/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sym_chain, at a fixed address, DWARF 4. */
/* build: -no-pie -fomit-frame-pointer -gdwarf-4 */
#include "sym_chain.c"
