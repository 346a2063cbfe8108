/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Scope cleanup: descriptors and memory that are released on every path.
 *
 *     cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
 *     cleanup_free char *text = NULL;
 *
 * A value that outlives the scope is handed on with take_fd() or take_ptr().
 */
#ifndef MEMWATCH_BASE_CLEANUP_H
#define MEMWATCH_BASE_CLEANUP_H

#include <stdio.h>

void cleanup_closep(int *fd);
void cleanup_freep(void *ptr_to_ptr);
void cleanup_fclosep(FILE **file);

#define cleanup_close __attribute__((cleanup(cleanup_closep)))
#define cleanup_free __attribute__((cleanup(cleanup_freep)))
#define cleanup_fclose __attribute__((cleanup(cleanup_fclosep)))

/* Returns *fd and leaves -1 behind, so that the scope no longer closes it. */
int take_fd(int *fd);

/* Same for memory: `return take_ptr(&text);` returns text and leaves NULL behind. Takes the address of any pointer. */
void *take_ptr(void *ptr_to_ptr);

/* Results that must not be dropped. */
#define must_check __attribute__((warn_unused_result))
#define printf_like(fmt, args) __attribute__((format(printf, fmt, args)))

#endif
