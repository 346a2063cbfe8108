/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_target, without symbols, and with the old hash table only. */
/* build: -s -Wl,--hash-style=sysv */
#include "slots_target.c"
