/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the tests of slots share: programs that are told what to do by letters (see test/victims/slots_target.c), and leading their slots to the
 * functions by which they count.
 */
#ifndef MEMWATCH_TEST_SUPPORT_SLOTS_H
#define MEMWATCH_TEST_SUPPORT_SLOTS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "memwatch/mem.h"
#include "sites/probe/slots_private.h"

#define SLOTS_VICTIMS "build/test/victims/"

struct victim {
	pid_t pid;
	FILE *from;
	int to, dir_fd, mem_fd;
	struct mem *mem;
	uint64_t count_malloc, count_free;
	uint64_t real[PROBE_FUNCTION_COUNT]; /* as it says itself */
};

struct victim victim_start(const char *name, const char *preload, bool traced); /* traced: stops at its exec */
void victim_open(struct victim *v);                                             /* its memory */
void victim_listen(struct victim *v);                                           /* to what it says of itself */
struct victim victim_ready(const char *name, const char *preload);              /* all three */
void victim_end(struct victim *v);
void victim_command(struct victim *v, char c, int *ret_mallocs, int *ret_frees); /* what it counted */

struct slot_set victim_slots(const struct victim *v);
void victim_put(const struct victim *v, uint64_t address, uint64_t value);
/* Where a slot of that function is led to; 0: it stays. */
uint64_t victim_counter(const struct victim *v, uint32_t function);
/* Leads the listed slots to the counters. Returns how many. */
size_t victim_lead(const struct victim *v, const struct slot_set *set);

#endif
