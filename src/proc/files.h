/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading of small /proc files by descriptor, shared by the openers of this folder. */
#ifndef MEMWATCH_SRC_PROC_FILES_H
#define MEMWATCH_SRC_PROC_FILES_H

#include <stdbool.h>
#include <sys/types.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/str.h"
#include "memwatch/proc.h"

/* Z and X: the task has ended. */
bool files_state_is_dead(char state);
must_check int files_pread_stat(int stat_fd, struct stat_line *ret);
/* task/TID/stat under the directory of a process. */
must_check int files_read_thread_stat(int dir_fd, pid_t tid, struct stat_line *ret);
/* A whole file that may be long (status with 65,536 groups); at most 4 MiB. */
must_check int files_read_str(int dir_fd, const char *path, struct str *out);

#endif
