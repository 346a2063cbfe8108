/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Why the kernel refuses to let us read another process, and what helps. The facts are collected apart from the
 * judgement, so that every branch can be tried without a machine that shows it.
 */
#ifndef MEMWATCH_SRC_MEM_REFUSAL_H
#define MEMWATCH_SRC_MEM_REFUSAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memwatch/base/err.h"

struct refusal_facts {
	pid_t pid;
	uint32_t our_uid;
	uint32_t uid, euid; /* of the target */
	uint32_t proc_uid;  /* owner of /proc/PID/mem: root for a process that is not dumpable */
	int yama_scope;     /* -1: no Yama */
	bool capable;       /* CAP_SYS_PTRACE is effective in our user namespace */
	bool other_userns;  /* the target is in another user namespace than ours */
};

void refusal_collect(pid_t pid, int proc_fd, struct refusal_facts *ret);
/* Sets EPERM with cause and remedy; returns -EPERM. */
int refusal_explain(const struct refusal_facts *facts, struct err *err);

#endif
