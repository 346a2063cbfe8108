/* SPDX-License-Identifier: GPL-3.0-or-later */
/* leak_churn, stripped. */
/* build: -s */
#include "leak_churn.c"
