/* SPDX-License-Identifier: GPL-3.0-or-later */
/* build: -static */
#include "victim.h"

int main(void)
{
	free(must(malloc(4099)));
	puts("ready");
	fflush(stdout);
	pause();
	return 0;
}
