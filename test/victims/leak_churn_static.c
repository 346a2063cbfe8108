/* SPDX-License-Identifier: GPL-3.0-or-later */
/* leak_churn, static. */
/* build: -static */
#include "leak_churn.c"
