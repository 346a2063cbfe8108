/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tests of remote calls share: targets that compute, a function to be called, calls that must work, and a tracer that is killed at any instant. */
#ifndef MEMWATCH_TEST_SUPPORT_REMOTE_H
#define MEMWATCH_TEST_SUPPORT_REMOTE_H

#include "support_trace.h"

#define CALLS 300
#define KILL_ROUNDS 220

extern _Atomic uint64_t *done_word; /* shared with targets, as the board is */

/* Targets, of one and of RT_THREADS threads, that check their registers, signal masks and alternate stacks in rounds. */
void compute_alone(void);
void compute_many(void);

void open_done_word(void);
/* A call of called(1, 2, 3, 4, 5, last), which ends with 54321 in done_word[1]. last: 1 waits for board->go, 2 faults. */
struct remote_call function_call(uint64_t last, uint64_t deadline_ns);
struct remote_result call_in(struct fixture *f, const struct remote_call *c);
void call_getpid(struct fixture *f);
void check_undisturbed(struct fixture *f); /* not traced, at work, and nothing was wrong */
void kill_rounds(void (*body)(void), int threads, int rounds);

#endif
