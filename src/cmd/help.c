/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The command table; memwatch help [COMMAND], memwatch version. */
#include <string.h>

#include "cmd/cmd.h"
#include "memwatch/base/io.h"
#include "memwatch/base/log.h"

#ifndef MEMWATCH_VERSION
#define MEMWATCH_VERSION "unknown"
#endif

const struct command *const commands[] = { &command_attach, &command_run,  &command_analyze, &command_report,
					   &command_doctor, &command_help, &command_version, NULL };

const struct command *command_find(const char *name)
{
	for (size_t i = 0; commands[i]; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static void print(const struct str *text)
{
	struct err err = ERR_INIT;

	if (io_write_file("-", str_text(text), text->len, &err) < 0)
		log_error("%s", err.msg);
}

void command_print_help(const struct command *command)
{
	cleanup_str struct str out = STR_INIT;

	str_addf(&out, "usage: memwatch %s\n%s\n", command->synopsis, command->summary);
	if (command->options) {
		str_addc(&out, '\n');
		opt_add_help(command->options, &out);
	}
	print(&out);
}

static void print_overview(void)
{
	cleanup_str struct str out = STR_INIT;

	str_add(&out, "memwatch: where is the memory of a running process going, and is that a problem?\n\n"
		      "usage: memwatch --pid PID [OPTIONS]\n"
		      "       memwatch run [OPTIONS] -- CMD [ARG...]\n"
		      "       memwatch analyze [OPTIONS] FILE...\n\ncommands:\n");
	for (size_t i = 0; commands[i]; i++)
		str_addf(&out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	str_add(&out, "\noptions of --pid (memwatch help run for those of run):\n");
	opt_add_help(command_attach.options, &out);
	str_add(&out, "\nexit status: run ends with the child's status (128+N for signal N), the others with 0;\n"
		      "1 memwatch failed, 2 usage, 3 --fail-on matched\n");
	print(&out);
}

static int help(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		print_overview();
		return EXIT_OK;
	}
	command = command_find(argv[1]);
	if (!command) {
		log_error("unknown command '%s': see memwatch help", argv[1]);
		return EXIT_USAGE;
	}
	command_print_help(command);
	return EXIT_OK;
}

static int version(int argc, char **argv)
{
	cleanup_str struct str out = STR_INIT;

	(void)argc;
	(void)argv;
	str_add(&out, "memwatch " MEMWATCH_VERSION "\n");
	print(&out);
	return EXIT_OK;
}

const struct command command_help = { "help", "help [COMMAND]", "this text, or a command's options", NULL, help };
const struct command command_version = { "version", "version", "the version", NULL, version };
