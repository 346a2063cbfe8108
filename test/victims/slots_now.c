/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_target, bound at start, all slots read-only. */
/* build: -Wl,-z,now -Wl,-z,relro */
#include "slots_target.c"
