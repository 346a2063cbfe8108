/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The stream of smaps: sums never fall, and a refused line changes nothing. */
#include <stdlib.h>
#include <string.h>

#include "memwatch/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_sums(const struct region_totals *before, const struct region_totals *after, bool refused)
{
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++) {
		if (after[i].rss_bytes < before[i].rss_bytes || after[i].count < before[i].count)
			abort();
	}
	if (refused && memcmp(before, after, REGION_CLASS_COUNT * sizeof(*after)) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct region_totals totals[REGION_CLASS_COUNT], before[REGION_CLASS_COUNT];
	const char *text = (const char *)data;
	struct smaps_parser p;

	smaps_parser_init(&p, totals);
	while (size) {
		const char *end = memchr(text, '\n', size);
		size_t len = end ? (size_t)(end - text) : size;

		memcpy(before, totals, sizeof(before));
		check_sums(before, totals, smaps_parser_line(&p, text, len) < 0);
		if (p.class < -1 || p.class >= REGION_CLASS_COUNT)
			abort();
		len += end != NULL;
		text += len;
		size -= len;
	}
	return 0;
}
