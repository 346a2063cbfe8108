/* SPDX-License-Identifier: GPL-3.0-or-later */
/* site_c, static: there are no slots that a probe could use. */
/* build: -static -fomit-frame-pointer */
#include "site_c.c"
