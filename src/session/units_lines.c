/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Counting units in text: lines that match, or the count that they hold. */
#include <string.h>

#include "session/units.h"

#define GROUPS 10 /* of a regular expression, the whole match included */

/* A number below the last one: it began again, and what was is kept. */
void unit_count_number(struct unit_count *c, uint64_t number)
{
	if (!c->known)
		c->numbered = true;
	if (!c->numbered)
		return;
	if (c->known && number < c->now)
		c->base += c->now;
	c->now = number;
	c->known = true;
}

void unit_count_line(struct unit_count *c)
{
	if (c->numbered)
		return;
	c->known = true;
	c->now++;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The digits at text; false where they are more than a uint64_t holds. */
static bool take_number(const char *text, size_t len, uint64_t *ret, size_t *ret_used)
{
	uint64_t value = 0;
	size_t i = 0;
	bool fits = true;

	for (; i < len && is_digit(text[i]); i++)
		fits = fits && !__builtin_mul_overflow(value, 10, &value) &&
		       !__builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value);
	*ret_used = i;
	if (fits && i > 0)
		*ret = value;
	return fits && i > 0;
}

bool unit_first_number(const char *line, size_t len, uint64_t *ret)
{
	size_t i = 0, used;

	while (i < len && !is_digit(line[i]))
		i++;
	return take_number(line + i, len - i, ret, &used);
}

/* The first group that matched digits and nothing else. */
static bool group_number(const regex_t *regex, const regmatch_t *match, const char *line, uint64_t *ret)
{
	size_t groups = regex->re_nsub + 1 < GROUPS ? regex->re_nsub + 1 : GROUPS, used;

	for (size_t i = 1; i < groups; i++) {
		size_t len = match[i].rm_so >= 0 ? (size_t)(match[i].rm_eo - match[i].rm_so) : 0;

		if (len > 0 && take_number(line + match[i].rm_so, len, ret, &used) && used == len)
			return true;
	}
	return false;
}

static void count_line(struct unit_lines *l, const char *line, size_t len)
{
	regmatch_t match[GROUPS] = { { .rm_so = 0, .rm_eo = (regoff_t)len } };
	uint64_t number;
	bool numbered;

	if (!l->regex)
		numbered = unit_first_number(line, len, &number);
	else if (regexec(l->regex, line, GROUPS, match, REG_STARTEND) == 0)
		numbered = group_number(l->regex, match, line, &number);
	else
		return;
	if (numbered && (l->count.numbered || !l->count.known))
		unit_count_number(&l->count, number);
	else
		unit_count_line(&l->count);
}

void unit_lines_feed(struct unit_lines *l, const char *data, size_t len)
{
	while (len > 0) {
		const char *newline = memchr(data, '\n', len);
		size_t piece = newline ? (size_t)(newline - data) : len;

		if (newline && l->len == 0) {
			count_line(l, data, piece < UNIT_LINE_MAX ? piece : UNIT_LINE_MAX);
		} else {
			size_t room = UNIT_LINE_MAX - l->len, take = piece < room ? piece : room;

			memcpy(l->line + l->len, data, take);
			l->len += take;
			if (newline) {
				count_line(l, l->line, l->len);
				l->len = 0;
			}
		}
		data += piece + (newline != NULL);
		len -= piece + (newline != NULL);
	}
}

void unit_lines_end(struct unit_lines *l)
{
	if (l->len > 0)
		count_line(l, l->line, l->len);
	l->len = 0;
}
