/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/opt.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "memwatch/base/units.h"

#define HELP_COLUMNS 100
#define HELP_INDENT_MIN 24
#define HELP_INDENT_MAX 36
#define NAME_BYTES_MAX 64 /* longer ones are not compared for a suggestion */
#define SET_CHOICES_MAX 64

/* What opt_parse() was given. */
struct parse {
	const struct opt *table;
	int argc;
	char **argv;
	void *args;
	struct err *err;
};

/* "--duration", or "-d" where there is no long name. */
static void name_of(const struct opt *opt, char ret[NAME_BYTES_MAX])
{
	if (opt->long_name)
		snprintf(ret, NAME_BYTES_MAX, "--%s", opt->long_name);
	else
		snprintf(ret, NAME_BYTES_MAX, "-%c", opt->short_name);
}

static int invalid(const struct opt *opt, const char *value, const char *reason, struct err *err)
{
	char name[NAME_BYTES_MAX];

	name_of(opt, name);
	return err_set(err, EINVAL, "invalid %s '%s': %s", name, value, reason);
}

static int invalid_choice(const struct opt *opt, const char *value, const char *item, size_t len, struct err *err)
{
	cleanup_str struct str reason = STR_INIT;

	if (opt->type == OPT_SET)
		str_addf(&reason, "'%.*s' is not one of ", (int)len, item);
	else
		str_add(&reason, "must be one of ");
	for (size_t i = 0; opt->choices[i]; i++)
		str_addf(&reason, "%s%s", i > 0 ? ", " : "", opt->choices[i]);
	return invalid(opt, value, str_text(&reason), err);
}

/* Index of the choice, or -1. */
static int find_choice(const struct opt *opt, const char *item, size_t len)
{
	for (int i = 0; opt->choices[i]; i++)
		if (strlen(opt->choices[i]) == len && memcmp(opt->choices[i], item, len) == 0)
			return i;
	return -1;
}

static int set_set(const struct opt *opt, const char *value, uint64_t *field, struct err *err)
{
	const char *item = value;
	uint64_t set = 0;

	for (;;) {
		size_t len = strcspn(item, ",");
		int i = find_choice(opt, item, len);

		if (i < 0 || i >= SET_CHOICES_MAX)
			return invalid_choice(opt, value, item, len, err);
		set |= UINT64_C(1) << i;
		if (item[len] == '\0')
			break;
		item += len + 1;
	}
	*field = set;
	return 0;
}

static int set_number(const struct opt *opt, const char *value, double *field, struct err *err)
{
	bool limited = opt->min < opt->max;
	locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	cleanup_str struct str reason = STR_INIT;
	char *end = NULL;
	double number;

	if (!c_locale)
		return err_set(err, ENOMEM, "out of memory");
	number = strtod_l(value, &end, c_locale); /* "0.5" in every locale */
	freelocale(c_locale);
	/* strtod() also takes blanks, hex, "inf" and "nan" */
	if (*value != '\0' && *end == '\0' && strspn(value, "0123456789+-.eE") == strlen(value) && isfinite(number) &&
	    (!limited || (number >= opt->min && number <= opt->max))) {
		*field = number;
		return 0;
	}
	str_add(&reason, "must be a number");
	if (limited && isfinite(opt->min) && isfinite(opt->max))
		str_addf(&reason, " from %.15g to %.15g", opt->min, opt->max);
	else if (limited && isfinite(opt->min))
		str_addf(&reason, " of at least %.15g", opt->min);
	else if (limited)
		str_addf(&reason, " of at most %.15g", opt->max);
	return invalid(opt, value, str_text(&reason), err);
}

static int set_pid(const struct opt *opt, const char *value, pid_t *field, struct err *err)
{
	size_t len = strlen(value);
	long long number = 0;

	for (size_t i = 0; i < len && value[i] >= '0' && value[i] <= '9' && number <= INT_MAX; i++) {
		number = number * 10 + (value[i] - '0');
		if (i + 1 == len && number > 0 && number <= INT_MAX) {
			*field = (pid_t)number;
			return 0;
		}
	}
	return invalid(opt, value, "must be a process id (a positive number)", err);
}

static int set_quantity(const struct opt *opt, const char *value, uint64_t *field, struct err *err)
{
	const char *reason;
	uint64_t quantity;
	int r = opt->type == OPT_DURATION ? units_scan_duration(value, &quantity, &reason) :
					    units_scan_size(value, &quantity, &reason);

	if (r == 0 && quantity == 0) {
		reason = "must be positive";
		r = -EINVAL;
	}
	if (r < 0)
		return invalid(opt, value, reason, err);
	*field = quantity;
	return 0;
}

/* value is NULL for flags only. */
static int set_field(const struct parse *p, const struct opt *opt, const char *value)
{
	void *field = (char *)p->args + opt->offset;
	int i;

	switch (opt->type) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_TEXT:
		*(const char **)field = value;
		return 0;
	case OPT_DURATION:
	case OPT_BYTES:
		return set_quantity(opt, value, field, p->err);
	case OPT_NUMBER:
		return set_number(opt, value, field, p->err);
	case OPT_PID:
		return set_pid(opt, value, field, p->err);
	case OPT_CHOICE:
		i = find_choice(opt, value, strlen(value));
		if (i < 0)
			return invalid_choice(opt, value, value, strlen(value), p->err);
		*(int *)field = i;
		return 0;
	case OPT_SET:
		return set_set(opt, value, field, p->err);
	case OPT_NONE:
		break;
	}
	return err_set(p->err, EINVAL, "option table has an entry without a type");
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein distance; 0 where `typed` is the beginning of `known`, for prefixes are what is typed most. */
static size_t distance(const char *typed, size_t typed_len, const char *known)
{
	size_t row[NAME_BYTES_MAX + 1];
	size_t known_len = strlen(known);

	if (typed_len > NAME_BYTES_MAX || known_len > NAME_BYTES_MAX)
		return SIZE_MAX;
	if (strncmp(typed, known, typed_len) == 0)
		return 0;
	for (size_t j = 0; j <= known_len; j++)
		row[j] = j;
	for (size_t i = 1; i <= typed_len; i++) {
		size_t diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= known_len; j++) {
			size_t above = row[j];
			size_t change = diagonal + (typed[i - 1] != known[j - 1] ? 1 : 0);

			row[j] = min_size(change, min_size(above, row[j - 1]) + 1);
			diagonal = above;
		}
	}
	return row[known_len];
}

static int unknown_long(const struct parse *p, const char *name, size_t len)
{
	const char *closest = NULL;
	size_t best = SIZE_MAX;

	for (const struct opt *opt = p->table; opt->type != OPT_NONE; opt++) {
		size_t d = opt->long_name ? distance(name, len, opt->long_name) : SIZE_MAX;

		if (d < best) {
			best = d;
			closest = opt->long_name;
		}
	}
	/* a name that shares less than half of its letters is no help */
	if (len == 0 || !closest || best > (len + 1) / 2)
		return err_set(p->err, EINVAL, "unknown option '--%.*s': see --help", (int)len, name);
	return err_set(p->err, EINVAL, "unknown option '--%.*s': did you mean '--%s'?", (int)len, name, closest);
}

static int missing_value(const struct parse *p, const struct opt *opt)
{
	char name[NAME_BYTES_MAX];

	name_of(opt, name);
	return err_set(p->err, EINVAL, "missing value of '%s': write %s %s", name, name, opt->arg ? opt->arg : "VALUE");
}

/* Both return how many elements of argv were used, or -EINVAL. */
static int parse_long(const struct parse *p, int at)
{
	const char *name = p->argv[at] + 2;
	size_t len = strcspn(name, "=");
	const char *value = name[len] == '=' ? name + len + 1 : NULL;
	const struct opt *opt = p->table;
	int used = 1;
	int r;

	while (opt->type != OPT_NONE &&
	       (!opt->long_name || strlen(opt->long_name) != len || memcmp(opt->long_name, name, len) != 0))
		opt++;
	if (opt->type == OPT_NONE)
		return unknown_long(p, name, len);
	if (opt->type == OPT_FLAG && value)
		return invalid(opt, value, "takes no value", p->err);
	if (opt->type != OPT_FLAG && !value) {
		if (at + 1 >= p->argc)
			return missing_value(p, opt);
		value = p->argv[at + 1];
		used = 2;
	}
	r = set_field(p, opt, value);
	return r < 0 ? r : used;
}

static const struct opt *find_short(const struct opt *table, char name)
{
	for (; table->type != OPT_NONE; table++)
		if (table->short_name == name)
			return table;
	return NULL;
}

static int unknown_short(const struct parse *p, const char *name)
{
	unsigned char c = (unsigned char)*name;
	char other = (char)(isupper(c) ? tolower(c) : toupper(c));

	if (other != *name && find_short(p->table, other))
		return err_set(p->err, EINVAL, "unknown option '-%c': did you mean '-%c'?", *name, other);
	if (isprint(c))
		return err_set(p->err, EINVAL, "unknown option '-%c': see --help", *name);
	/* all of it, not one half of a UTF-8 character */
	return err_set(p->err, EINVAL, "unknown option '-%s': see --help", name);
}

static int parse_short(const struct parse *p, int at)
{
	for (const char *name = p->argv[at] + 1; *name; name++) {
		const struct opt *opt = find_short(p->table, *name);
		const char *value = NULL;
		int used = 1;
		int r;

		if (!opt)
			return unknown_short(p, name);
		if (opt->type != OPT_FLAG) {
			value = name + 1;
			if (*value == '\0') {
				if (at + 1 >= p->argc)
					return missing_value(p, opt);
				value = p->argv[at + 1];
				used = 2;
			}
		}
		r = set_field(p, opt, value);
		if (r < 0)
			return r;
		if (value)
			return used;
	}
	return 1;
}

/* Moves argv[at .. at + count) before the operands that begin at `first`, which keep their order. */
static void move_forward(char **argv, int first, int at, int count)
{
	char *moved[2];

	memcpy(moved, argv + at, (size_t)count * sizeof(*argv));
	memmove(argv + first + count, argv + first, (size_t)(at - first) * sizeof(*argv));
	memcpy(argv + first, moved, (size_t)count * sizeof(*argv));
}

int opt_parse(const struct opt *table, int argc, char **argv, bool stop_at_first, void *args, int *ret_first,
	      struct err *err)
{
	const struct parse p = { table, argc, argv, args, err };
	int first = 0; /* operands seen so far: argv[first .. at) */

	for (int at = 0; at < argc;) {
		const char *arg = argv[at];
		bool end = strcmp(arg, "--") == 0;
		int used = 1;

		if (arg[0] != '-' || arg[1] == '\0') {
			if (stop_at_first)
				break;
			at++;
			continue;
		}
		if (!end)
			used = arg[1] == '-' ? parse_long(&p, at) : parse_short(&p, at);
		if (used < 0)
			return used;
		move_forward(argv, first, at, used);
		first += used;
		at += used;
		if (end)
			break;
	}
	*ret_first = first;
	return 0;
}

/* Columns on a terminal: bytes that begin a UTF-8 character. */
static size_t columns(const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++)
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			n++;
	return n;
}

static void add_names(const struct opt *opt, struct str *out)
{
	if (opt->short_name)
		str_addf(out, "  -%c%s", opt->short_name, opt->long_name ? ", " : "");
	else
		str_add(out, "      ");
	if (opt->long_name)
		str_addf(out, "--%s", opt->long_name);
	if (opt->arg)
		str_addf(out, " %s", opt->arg);
}

/* Adds words from column `indent` on; continued lines are indented to it. */
static void add_wrapped(const char *text, size_t indent, struct str *out)
{
	size_t column = indent;

	while (*text) {
		size_t len = strcspn(text, " ");
		size_t width = columns(text, len);

		if (column > indent && column + 1 + width > HELP_COLUMNS) {
			str_addc(out, '\n');
			str_pad(out, ' ', indent);
			column = indent;
		}
		if (column > indent) {
			str_addc(out, ' ');
			column++;
		}
		str_addn(out, text, len);
		column += width;
		text += len;
		text += strspn(text, " ");
	}
	str_addc(out, '\n');
}

/* Where the help texts begin: behind the longest option, except for ones so long that they get a line of their own. */
static size_t help_indent(const struct opt *table)
{
	cleanup_str struct str names = STR_INIT;
	size_t indent = HELP_INDENT_MIN;

	for (; table->type != OPT_NONE; table++) {
		size_t width;

		str_reset(&names);
		add_names(table, &names);
		width = columns(str_text(&names), names.len) + 2;
		if (table->help && width > indent && width <= HELP_INDENT_MAX)
			indent = width;
	}
	return indent;
}

void opt_add_help(const struct opt *table, struct str *out)
{
	size_t indent = help_indent(table);

	for (; table->type != OPT_NONE; table++) {
		size_t start = out->len;
		size_t width;

		if (!table->help)
			continue;
		add_names(table, out);
		width = columns(str_text(out) + start, out->len - start);
		if (width + 2 > indent) {
			str_addc(out, '\n');
			width = 0;
		}
		str_pad(out, ' ', indent - width);
		add_wrapped(table->help, indent, out);
	}
}
