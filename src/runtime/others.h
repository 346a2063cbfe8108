/* SPDX-License-Identifier: GPL-3.0-or-later */
/* runtime_others stands for several runtimes: which of them a state is. */
#ifndef RUNTIME_OTHERS_H
#define RUNTIME_OTHERS_H

const char *others_name(const void *state);

#endif
