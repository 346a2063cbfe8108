/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The leak is in a plugin that is loaded three seconds after the start. site_plugin_host SECONDS [OPTIONS], see site.h. */
/* build: -fomit-frame-pointer */
#include "site.h"

#include <dlfcn.h>
#include <limits.h>

#define LATE_S 3.0

static void *load(void)
{
	char path[PATH_MAX] = "";
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - sizeof("site_plugin_leak"));
	char *slash = len > 0 ? strrchr(path, '/') : NULL;
	void *plugin;

	if (!slash)
		exit(1);
	strcpy(slash + 1, "site_plugin_leak");
	plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (!plugin) {
		fprintf(stderr, "%s\n", dlerror());
		exit(1);
	}
	return plugin;
}

NOINLINE static void leak_in_plugin(size_t size)
{
	static void (*keep)(size_t);

	if (now_s() - site_start < LATE_S)
		return;
	if (!keep)
		*(void **)&keep = must(dlsym(load(), "plugin_keep"));
	keep(size);
}

NOINLINE static void *churn_take(size_t size)
{
	char *block = must(malloc(size));

	*block = 1;
	return block;
}

int main(int argc, char **argv)
{
	static struct site_kind kind = { "plugin", "plugin_keep", 0, leak_in_plugin, churn_take, free, "", "heap" };
	void *plugin = load();
	int (*line)(void);

	*(void **)&line = must(dlsym(plugin, "plugin_line"));
	kind.line = line();
	dlclose(plugin); /* really gone, to be loaded late */
	return site_main(argc, argv, "site_plugin_host", &kind, 1);
}
