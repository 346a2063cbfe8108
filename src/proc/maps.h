/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The header line that maps and smaps share. No allocation: ret->path is "", the path is a text inside the line. */
#ifndef MEMWATCH_SRC_PROC_MAPS_H
#define MEMWATCH_SRC_PROC_MAPS_H

#include <stdbool.h>
#include <stdint.h>

#include "memwatch/model.h"
#include "text.h"

bool maps_header(struct text line, struct region *ret, struct text *ret_path);
void maps_cut_deleted(struct text *path, uint16_t *flags);

#endif
