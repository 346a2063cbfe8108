/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_held, asleep in a call that an interruption would end with EINTR. */
/* build: -fno-plt -Wl,-z,now -mno-red-zone */
#define HELD_EPOLL 1
#include "slots_held.c"
