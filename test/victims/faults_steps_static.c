/* SPDX-License-Identifier: GPL-3.0-or-later */
/* faults_steps, linked statically. */
/* build: -static */
#include "faults_steps.c"
