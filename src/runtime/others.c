/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Runtimes that are recognised and named, so that a report does not take their heap for that of a C program. They give no figures.
 *
 * A file's name only suggests: an editor that links a language's library need not have started it. Where the runtime exports a word that its
 * start sets, that word decides, and where it exports at least a symbol, that must be there.
 */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/runtime.h"
#include "runtime/others.h"

/* Of the distributions' builds: ruby 3.1, php 8.2, perl 5.36, sbcl 2.2.9, erlang 25. */
static const struct kind {
	const char *name;
	const char *file;   /* of a mapping, without its folder: a shell pattern */
	const char *symbol; /* NULL: the file alone says it */
	bool started;       /* the symbol's word is not 0 once the runtime has started */
} kinds[] = {
	{ "ruby", "libruby*.so*", "rb_cObject", true },
	{ "ruby", "ruby*", "rb_cObject", true },
	{ "php", "libphp*.so*", "sapi_module", true },
	{ "php", "php*", "sapi_module", true },
	{ "perl", "libperl.so*", "PL_curinterp", true },
	{ "perl", "perl*", "PL_curinterp", true },
	{ "sbcl", "sbcl.core", NULL, false },
	{ "sbcl", "sbcl*", "lisp_init_function", true }, /* a saved program of its own has no core beside it */
	{ "erlang", "beam*", "erl_atom_names", false },
	{ "dotnet", "libcoreclr.so", NULL, false },
};

struct other {
	const struct kind *kind;
	const char *found_by;
};

static bool is_mapped(const struct kind *k, const struct region *regions, ssize_t count)
{
	for (ssize_t i = 0; i < count; i++) {
		const char *slash = strrchr(regions[i].path, '/');

		if (slash && fnmatch(k->file, slash + 1, 0) == 0)
			return true;
	}
	return false;
}

/* 1 it runs, 0 not, -ESRCH. */
static int is_running(const struct kind *k, const struct runtime_query *query)
{
	uint64_t address = 0, word = 0;
	int rc;

	if (!k->symbol)
		return 1;
	if (!query->find || query->find(query->arg, k->symbol, &address) < 0)
		return 0;
	if (!k->started)
		return 1;
	rc = mem_read_u64(query->mem, address, &word);
	if (rc == -ESRCH)
		return rc;
	return rc == 0 && word != 0;
}

static int others_probe(const struct runtime_query *query, void **ret_state, struct err *err)
{
	const struct region *regions;
	ssize_t count = mem_regions(query->mem, &regions);
	struct other *o;

	if (count < 0)
		return err_set(err, (int)-count, "cannot read the mappings");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		int rc = is_mapped(&kinds[i], regions, count) ? is_running(&kinds[i], query) : 0;

		if (rc < 0)
			return err_set(err, -rc, "the process is gone");
		if (rc == 0)
			continue;
		o = calloc(1, sizeof(*o));
		if (!o)
			return err_set(err, ENOMEM, "out of memory");
		*o = (struct other){ &kinds[i], kinds[i].symbol ? "symbol" : "mapping" };
		*ret_state = o;
		return 1;
	}
	return 0;
}

/* All stays NaN, and no verdict rests on it. */
static int others_read(void *state, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err)
{
	(void)state;
	(void)mem;
	(void)arena;
	(void)err;
	ret->live_is_stale = true;
	return 0;
}

const char *others_name(const void *state)
{
	return ((const struct other *)state)->kind->name;
}

static const char *others_version(const void *state)
{
	(void)state;
	return NULL;
}

static const char *others_found_by(const void *state)
{
	return ((const struct other *)state)->found_by;
}

const struct runtime_ops runtime_others = {
	.name = "others",
	.probe = others_probe,
	.read = others_read,
	.version = others_version,
	.found_by = others_found_by,
	.destroy = free,
};
