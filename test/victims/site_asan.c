/* SPDX-License-Identifier: GPL-3.0-or-later */
/* site_c under AddressSanitizer, which is the allocator there; what is lost is meant to be. */
/* build: -fsanitize=address -fno-sanitize-recover=all */
#include "site_c.c"

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:quarantine_size_mb=1";
}
