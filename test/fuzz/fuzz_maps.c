/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Lines of maps: what is accepted is a mapping that walkers can trust. */
#include <stdlib.h>
#include <string.h>

#include "memwatch/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_line(struct intern *paths, const char *line, size_t len)
{
	struct region r;

	if (parse_maps_line(line, len, paths, &r) < 0)
		return;
	if (r.start >= r.end || !r.path || strlen(r.path) > len || r.class >= REGION_CLASS_COUNT)
		abort();
	if (r.class != region_classify(r.path, r.flags, r.inode))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct intern *paths;

	if (intern_create(&paths) < 0)
		return 0;
	while (size) {
		const char *end = memchr(text, '\n', size);
		size_t len = end ? (size_t)(end - text) : size;

		check_line(paths, text, len);
		len += end != NULL;
		text += len;
		size -= len;
	}
	intern_destroy(paths);
	return 0;
}
