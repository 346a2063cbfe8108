/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build: -shared -fPIC -fno-builtin */
#define OPERATORS
#include "slots_alloc.c"
