/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One function a format; the table is in format.c. See struct report_format. */
#ifndef MEMWATCH_SRC_REPORT_FORMATS_H
#define MEMWATCH_SRC_REPORT_FORMATS_H

#include "memwatch/report.h"

int report_render_text(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
int report_render_ndjson(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
int report_render_json(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
int report_render_folded(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
int report_render_pprof(const struct snapshot *snapshot, const struct report_style *style, struct str *out);
int report_render_speedscope(const struct snapshot *snapshot, const struct report_style *style, struct str *out);

#endif
