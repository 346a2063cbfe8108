/* SPDX-License-Identifier: GPL-3.0-or-later */
/* stat, statm, io: the name is terminated and nothing is stored on refusal. */
#include <stdlib.h>
#include <string.h>

#include "memwatch/proc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct stat_line stat, untouched;
	struct statm statm;
	struct proc_io io;

	memset(&stat, 0x5a, sizeof(stat));
	untouched = stat;
	if (parse_stat(text, size, &stat) < 0) {
		if (memcmp(&stat, &untouched, sizeof(stat)) != 0)
			abort();
	} else if (!memchr(stat.comm, '\0', sizeof(stat.comm)) || stat.ppid < 0) {
		abort();
	}
	if (parse_statm(text, size, &statm) == 0 && size < 5)
		abort(); /* three numbers and two blanks */
	if (parse_io(text, size, &io) == 0 && size < 7)
		abort(); /* "rchar:1" */
	return 0;
}
