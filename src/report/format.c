/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "formats.h"

const struct report_format report_formats[] = {
	{ "text", report_render_text },
	{ "json", report_render_json },
	{ "ndjson", report_render_ndjson },
	{ NULL, NULL },
};

const struct report_format *report_format_find(const char *name)
{
	for (const struct report_format *f = report_formats; f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}
