/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>

#include "memwatch/unwind.h"

/* Tried in order; the first that can read the stack gives it. */
static const struct unwinder_ops *const unwinders[] = { &unwind_native };

int unwind_thread(struct symbols *symbols, const struct thread_stack *stack, struct unwind_stack *ret)
{
	int r = -ENOTSUP;

	for (size_t i = 0; i < sizeof(unwinders) / sizeof(unwinders[0]) && r < 0; i++)
		r = unwinders[i]->unwind(symbols, stack, ret);
	return r;
}
