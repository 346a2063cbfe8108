/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <ctype.h>
#include <libiberty/demangle.h>
#include <stdlib.h>
#include <string.h>

#include "private.h"

#define NAME_MAX_BYTES 4096 /* templates of templates: nobody reads further, and every copy costs */
#define OPTIONS (DMGL_PARAMS | DMGL_ANSI | DMGL_AUTO)

struct scheme {
	const char *prefix;
	int options;
	const char *language;
};

static const struct scheme schemes[] = {
	{ "_R", OPTIONS, "rust" },
	{ "_Z", OPTIONS, "c++" },
	{ "__Z", OPTIONS, "c++" },
	{ "_D", DMGL_DLANG | DMGL_PARAMS, "d" },
};

/* What compilers put behind a name for parts and copies of a function. */
static const char *const clone_marks[] = { ".cold", ".part.", ".constprop.", ".isra.", ".lto_priv.", ".llvm.", "@" };

static const struct scheme *scheme_of(const char *name)
{
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strncmp(name, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
			return &schemes[i];
	return NULL;
}

char *demangle(const char *mangled)
{
	const struct scheme *scheme = scheme_of(mangled);

	return scheme ? cplus_demangle(mangled, scheme->options) : NULL;
}

/* Rust's older scheme is C++'s with a hash behind: 17h and sixteen hexadecimal digits. */
static bool is_rust_legacy(const char *name)
{
	size_t len = strcspn(name, ".@");

	if (len < 24 || strncmp(name, "_ZN", 3) != 0 || name[len - 1] != 'E')
		return false;
	for (size_t i = len - 17; i < len - 1; i++)
		if (!isxdigit((unsigned char)name[i]))
			return false;
	return strncmp(name + len - 20, "17h", 3) == 0;
}

const char *mangling_language(const char *name)
{
	const struct scheme *scheme = scheme_of(name);

	if (is_rust_legacy(name))
		return "rust";
	return scheme ? scheme->language : NULL;
}

const char *demangled_intern(struct intern *strings, const char *name)
{
	size_t len = strlen(name);
	cleanup_free char *plain = NULL, *text = NULL;

	for (size_t i = 0; i < sizeof(clone_marks) / sizeof(clone_marks[0]); i++) {
		const char *mark = strstr(name, clone_marks[i]);

		if (mark && mark > name && (size_t)(mark - name) < len && strcmp(mark, "@plt") != 0)
			len = (size_t)(mark - name);
	}
	plain = strndup(name, len);
	if (!plain)
		return NULL;
	text = demangle(plain);
	if (text && *text)
		return intern_strn(strings, text, strnlen(text, NAME_MAX_BYTES));
	return intern_strn(strings, plain, strnlen(plain, NAME_MAX_BYTES));
}

const char *symbol_demangle(struct arena *arena, const char *mangled)
{
	cleanup_free char *text = demangle(mangled);
	const char *copy = text ? arena_strdup(arena, text) : NULL;

	return copy ? copy : mangled;
}
