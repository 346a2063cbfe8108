/* SPDX-License-Identifier: GPL-3.0-or-later */
/* sym_chain, with compressed debug sections. */
/* build: -gz */
#include "sym_chain.c"
