/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The victim faults_steps, led step by step, and names for its stacks. A failure inside ends the test. */
#ifndef MEMWATCH_TEST_SUPPORT_FAULTS_H
#define MEMWATCH_TEST_SUPPORT_FAULTS_H

#include <sys/types.h>

#include "memwatch/mem.h"
#include "memwatch/symbol.h"
#include "memwatch/unwind.h"

struct stepper {
	pid_t pid;
	int proc_fd, to, from;
	struct mem *mem;
	struct symbols *symbols;
};

void stepper_start(struct stepper *s, const char *victim);
void stepper_step(struct stepper *s, char step); /* returns when it is done */
void stepper_end(struct stepper *s);

/* Whether a frame of the stack is in that function. */
bool stack_has(struct symbols *symbols, const struct unwind_stack *stack, const char *function);

#endif
