/* SPDX-License-Identifier: GPL-3.0-or-later */
/* memwatch: finds the command in the table; options without a command mean `attach`. */
#include <string.h>

#include "cmd/cmd.h"
#include "memwatch/base/log.h"

static const struct command *choose(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return &command_help;
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
		return &command_version;
	return argv[1][0] == '-' ? &command_attach : command_find(argv[1]);
}

int main(int argc, char **argv)
{
	const struct command *command = choose(argc, argv);

	if (!command) {
		log_error("unknown command '%s': see memwatch help", argv[1]);
		return EXIT_USAGE;
	}
	if (argc < 2 || argv[1][0] == '-') {
		/* `memwatch --pid 1`: the command's name is missing, argv[0] stands in for it. */
		int status = command->run(command == &command_attach ? argc : 1, argv);

		return argc < 2 && status == EXIT_OK ? EXIT_USAGE : status;
	}
	return command->run(argc - 1, argv + 1);
}
