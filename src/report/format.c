/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "formats.h"

const struct report_format report_formats[] = {
	{ "text", report_render_text, false, false },
	{ "json", report_render_json, false, false },
	{ "ndjson", report_render_ndjson, false, false },
	{ "folded", report_render_folded, false, true },
	{ "pprof", report_render_pprof, true, true },
	{ "speedscope", report_render_speedscope, false, true },
	{ NULL, NULL, false, false },
};

const char *const report_format_names[] = { "text", "json", "ndjson", "folded", "pprof", "speedscope", NULL };

const struct report_format *report_format_find(const char *name)
{
	for (const struct report_format *f = report_formats; f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}
