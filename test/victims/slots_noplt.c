/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_target, calls through the slots themselves. */
/* build: -fno-plt -Wl,-z,now */
#include "slots_target.c"
