/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Clocks, in nanoseconds. */
#ifndef MEMWATCH_BASE_CLOCK_H
#define MEMWATCH_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_S 1000000000ULL
#define NS_PER_MS 1000000ULL
#define NS_PER_US 1000ULL

uint64_t clock_now_ns(void);      /* CLOCK_MONOTONIC */
uint64_t clock_boot_ns(void);     /* CLOCK_BOOTTIME: the base of start times in /proc/PID/stat */
int64_t clock_wall_ns(void);      /* CLOCK_REALTIME since the epoch */
uint64_t clock_self_cpu_ns(void); /* CPU time of this process, user and system */

#endif
