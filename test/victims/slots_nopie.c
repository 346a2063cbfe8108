/* SPDX-License-Identifier: GPL-3.0-or-later */
/* slots_target, at fixed addresses, bound lazily. */
/* build: -fno-pie -no-pie -Wl,-z,lazy */
#include "slots_target.c"
