/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the formats of call sites (folded, pprof, speedscope) share: whose sites there are, how a frame is called, and numbers for
 * things that are told once and referred to.
 */
#ifndef MEMWATCH_SRC_REPORT_STACKS_H
#define MEMWATCH_SRC_REPORT_STACKS_H

#include "memwatch/base/map.h"
#include "private.h"

#ifndef MEMWATCH_VERSION
#define MEMWATCH_VERSION "unknown"
#endif

/* Each process once: processes[] where there are any, else the target alone. */
const struct process_entry *stacks_processes(const struct snapshot *s, size_t *ret_count);
/* "srv (4242)", the outermost frame of a process where there is more than one */
void stacks_add_process(struct str *out, const struct target_info *t);
/* The frame's name as the text report shows it; frame NULL: what stands for a stack without frames. */
void stacks_add_function(struct str *out, const struct frame *frame);

/* Sums of bytes stop at what a signed number of 64 bits holds: that is what the formats' readers have. */
uint64_t stacks_sum(uint64_t a, uint64_t b);

/* Numbers things in the order in which they are first seen, by a key that is any text, NUL bytes included. */
struct numbers {
	struct intern *keys;
	struct map by_key;
	uint64_t count;
	bool failed; /* out of memory: everything after it is 0 */
};

void numbers_init(struct numbers *n);
void numbers_deinit(struct numbers *n);
/* From 0 on; *ret_new: it was not seen before. Empties the key for the next one. */
uint64_t numbers_of(struct numbers *n, struct str *key, bool *ret_new);

/* Appends the data, compressed as gzip does. 0 or -ENOMEM */
must_check int stacks_gzip(const uint8_t *data, size_t len, struct str *out);

#endif
