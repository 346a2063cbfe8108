/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Durations, sizes and option values from the command line: what is accepted is in range, what is refused says why. */
#include "memwatch/base/units.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str out = STR_INIT;
	uint64_t value = 0;
	struct err err = ERR_INIT;
	char *text = malloc(size + 1);

	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';

	if (units_parse_duration(text, &value, &err) < 0 && (err.code == 0 || err.msg[0] == '\0'))
		abort();
	units_add_duration(&out, (double)value / 1e9);
	if (units_parse_size(text, &value, NULL) == 0 && value > INT64_MAX)
		abort();
	units_add_bytes(&out, (double)value);
	str_deinit(&out);
	free(text);
	return 0;
}
