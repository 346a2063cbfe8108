/* SPDX-License-Identifier: GPL-3.0-or-later */
/* How text is shown where it goes: colours, width, characters. */
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cmd/cmd.h"

const char *const watch_color_choices[] = { "auto", "always", "never", NULL };

enum { COLOR_AUTO, COLOR_ALWAYS, COLOR_NEVER };

static bool use_color(int choice, int fd)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	if (choice != COLOR_AUTO)
		return choice == COLOR_ALWAYS;
	return isatty(fd) && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
}

static unsigned terminal_width(int fd)
{
	struct winsize size;

	return isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static bool unicode_locale(void)
{
	const char *text = getenv("LC_ALL");

	if (!text || !*text)
		text = getenv("LC_CTYPE");
	if (!text || !*text)
		text = getenv("LANG");
	return text && (strstr(text, "UTF-8") || strstr(text, "utf8"));
}

struct report_style command_style(int color, int fd)
{
	return (struct report_style){ .color = use_color(color, fd),
				      .width = terminal_width(fd),
				      .unicode = unicode_locale() };
}
