/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sym_chain, stripped. */
/* build: -s */
#include "sym_chain.c"
