/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading a report back: whatever the file holds, reading fails cleanly or gives a snapshot that every writer can render. */
#include "memwatch/report.h"

#include "memwatch/model.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct report_style style = { .color = true, .width = 80, .unicode = true };
	struct snapshot snapshot;
	struct str out = STR_INIT;
	struct err err = ERR_INIT;

	snapshot_init(&snapshot);
	if (report_parse((const char *)data, size, &snapshot, &err) == 0) {
		for (const struct report_format *f = report_formats; f->name; f++) {
			str_reset(&out);
			if (f->render(&snapshot, &style, &out) < 0)
				abort();
		}
	} else if (err.msg[0] == '\0') {
		abort();
	}
	str_deinit(&out);
	snapshot_deinit(&snapshot);
	return 0;
}
