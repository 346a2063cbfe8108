/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Prints nothing, ends with the status given. exit_with [STATUS] [SECONDS] */
#include "victim.h"

int main(int argc, char **argv)
{
	if (argc > 2)
		nap_ms((long)(atof(argv[2]) * 1000));
	return (int)long_arg(argc, argv, 1, 7);
}
