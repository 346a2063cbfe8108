/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Cleanups run between `return -errno` being evaluated and the caller looking at errno: none of them may change it. */

void cleanup_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void cleanup_freep(void *ptr_to_ptr)
{
	int saved = errno;

	free(take_ptr(ptr_to_ptr));
	errno = saved;
}

void cleanup_fclosep(FILE **file)
{
	int saved = errno;

	if (*file)
		fclose(*file);
	*file = NULL;
	errno = saved;
}

int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

void *take_ptr(void *ptr_to_ptr)
{
	void *taken;
	void *none = NULL;

	/* memcpy: the pointer behind ptr_to_ptr has some other type than void * */
	memcpy(&taken, ptr_to_ptr, sizeof(taken));
	memcpy(ptr_to_ptr, &none, sizeof(none));
	return taken;
}
