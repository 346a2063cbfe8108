/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build: -fPIE -static-pie */
#include "slots_static.c"
