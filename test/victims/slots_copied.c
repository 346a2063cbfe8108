/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Copies malloc's address out of its slot, calls free through its own, has calloc's in a table of its data. */
/* build: -fno-plt -Wl,-z,now */
#include "victim.h"

void *(*hook)(size_t);
void *(*volatile table[])(size_t, size_t) = { calloc };
void (*volatile frees[])(void *) = { free };

int main(void)
{
	hook = malloc;
	__asm__ volatile("" ::: "memory");
	free(hook(4099));
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
