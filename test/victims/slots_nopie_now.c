/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_target, at fixed addresses, bound at start. */
/* build: -fno-pie -no-pie -Wl,-z,now */
#include "slots_target.c"
