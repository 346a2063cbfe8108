/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sym_chain, linked statically. */
/* build: -static */
#include "sym_chain.c"
