/* SPDX-License-Identifier: GPL-3.0-or-later */
/* status, limits, meminfo. */
#include <stdlib.h>
#include <string.h>

#include "memwatch/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	uint64_t as = 1, b = 1;
	struct status s;

	if (parse_status(text, size, &s) == 0) {
		if (!memchr(s.name, '\0', sizeof(s.name)) || s.tgid < 0 || s.ns_pid < 0 || s.seccomp < -1 ||
		    s.seccomp > 2)
			abort();
	}
	if (parse_limits(text, size, &as, &b) < 0 && (as != 1 || b != 1))
		abort();
	as = b = 1;
	if (parse_meminfo(text, size, &as, &b) < 0 && (as != 1 || b != 1))
		abort();
	return 0;
}
