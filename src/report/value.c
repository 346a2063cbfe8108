/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "private.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "memwatch/base/clock.h"

#define EXACT_MAX 9007199254740992.0 /* 2^53: every whole number up to here is a double */
#define FIXED_MAX 1e15
#define SHORT_MAX 1e15 /* a numeral of up to 15 digits reads back as the double that is nearest to it, and only that */
#define SHORT_DECIMALS 6
#define NUMERAL_BYTES 24
#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

/* ---- characters ------------------------------------------------------------------------------------------------------- */

bool utf8_next(const char **text, uint32_t *ret)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least; /* smaller ones are overlong forms */
	} forms[] = { { 0x80, 0x00, 0 }, { 0xe0, 0xc0, 0x80 }, { 0xf0, 0xe0, 0x800 }, { 0xf8, 0xf0, 0x10000 } };
	const unsigned char *p = (const unsigned char *)*text;
	uint32_t c;
	size_t n = 0;

	while (n < 4 && (p[0] & forms[n].mask) != forms[n].lead)
		n++;
	(*text)++;
	if (n == 4)
		return false;
	c = p[0] & (unsigned char)~forms[n].mask;
	for (size_t i = 1; i <= n; i++) {
		if ((p[i] & 0xc0) != 0x80) /* the closing NUL too */
			return false;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < forms[n].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return false;
	*text += n;
	*ret = c;
	return true;
}

/* C0, DEL and C1 drive terminals; line separators and direction marks make a line read as what it is not. */
static bool is_control(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f);
}

static bool is_misleading(uint32_t c)
{
	return c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069) || c == 0xfeff || (c >= 0xe0000 && c <= 0xe007f);
}

size_t text_columns(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80;
	return n;
}

void report_add_cut(struct str *out, const char *text, size_t columns, bool unicode)
{
	size_t column = 0;
	size_t fits = 0; /* length up to which an ellipsis still finds room */
	size_t dots = unicode ? 1 : 3;

	for (const char *p = text ? text : ""; *p;) {
		const char *start = p;
		uint32_t c;
		bool good = utf8_next(&p, &c);

		if (columns > 0 && column + dots <= columns)
			fits = out->len;
		if (columns > 0 && column == columns) {
			if (!out->failed && fits <= out->len && out->data) {
				out->len = fits;
				out->data[fits] = '\0';
			}
			str_add(out, unicode ? "…" : "...");
			return;
		}
		column++;
		/* Without UTF-8 a terminal may take single bytes from 0x80 on for control characters. */
		if (!good || is_control(c) || is_misleading(c) || (c >= 0x80 && !unicode))
			str_add(out, unicode ? REPLACEMENT : "?");
		else
			str_addn(out, start, (size_t)(p - start));
	}
}

void report_add_clean(struct str *out, const char *text, bool unicode)
{
	report_add_cut(out, text, 0, unicode);
}

void report_add_json_text(struct str *out, const char *text)
{
	if (!text) {
		str_add(out, "null");
		return;
	}
	str_addc(out, '"');
	while (*text) {
		const char *start = text;
		uint32_t c;

		if (!utf8_next(&text, &c))
			str_add(out, REPLACEMENT);
		else if (c == '"' || c == '\\')
			str_addf(out, "\\%c", (char)c);
		else if (is_control(c) ||
			 (is_misleading(c) && c < 0x10000)) /* legal, but reports are shown on terminals too */
			str_addf(out, "\\u%04" PRIx32, c);
		else
			str_addn(out, start, (size_t)(text - start));
	}
	str_addc(out, '"');
}

const char *report_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------------- */

/* snprintf() follows the locale of whoever links us: whatever stands for the decimal point becomes one. */
static void add_numeral(struct str *out, const char *numeral)
{
	for (; *numeral; numeral++)
		str_addc(out, strchr("0123456789+-e", *numeral) ? *numeral : '.');
}

/* Writes digits from the end of the buffer; returns where they begin. */
static char *write_digits(char *end, uint64_t value)
{
	do
		*--end = (char)('0' + value % 10);
	while ((value /= 10) > 0);
	return end;
}

/*
 * Nearly all numbers of a series are whole or have few decimals, and printf() takes 20 times as long. Whether `value` is a number of
 * up to 15 digits, 6 of them behind the point: scaled / 10^6 is then rounded only once, as strtod() would round it.
 */
static bool add_short_number(struct str *out, double value)
{
	char numeral[NUMERAL_BYTES];
	char *end = numeral + sizeof(numeral);
	char *at = end;
	double scaled = nearbyint(fabs(value) * 1e6);
	uint64_t whole;
	uint64_t fraction;

	if (fabs(value) < 1e-4 || scaled >= SHORT_MAX || scaled / 1e6 != fabs(value))
		return false;
	whole = (uint64_t)scaled / 1000000;
	fraction = (uint64_t)scaled % 1000000;
	for (int digits = SHORT_DECIMALS; digits > 0; digits--, fraction /= 10)
		if (at == end && fraction % 10 == 0)
			continue;
		else
			*--at = (char)('0' + fraction % 10);
	*--at = '.';
	at = write_digits(at, whole);
	if (value < 0)
		*--at = '-';
	str_addn(out, at, (size_t)(end - at));
	return true;
}

void report_add_number(struct str *out, double value)
{
	char numeral[32];
	int digits = 15;

	if (!isfinite(value)) {
		str_add(out, "null");
		return;
	}
	if (fabs(value) <= EXACT_MAX && value == trunc(value)) {
		char *end = numeral + sizeof(numeral);
		char *at = write_digits(end, (uint64_t)fabs(value));

		if (value < 0)
			*--at = '-';
		str_addn(out, at, (size_t)(end - at));
		return;
	}
	if (add_short_number(out, value))
		return;
	do
		snprintf(numeral, sizeof(numeral), "%.*g", digits, value);
	while (digits++ < 17 && strtod(numeral, NULL) != value);
	add_numeral(out, numeral);
}

void report_add_fixed(struct str *out, double value, int decimals)
{
	char numeral[32];

	if (!isfinite(value)) {
		str_add(out, "unknown");
		return;
	}
	if (fabs(value) < FIXED_MAX)
		snprintf(numeral, sizeof(numeral), "%.*f", decimals, value);
	else
		snprintf(numeral, sizeof(numeral), "%.2e", value);
	if (strspn(numeral, "-0.,") == strlen(numeral) && numeral[0] == '-') /* "-0.00" */
		memmove(numeral, numeral + 1, strlen(numeral));
	add_numeral(out, numeral);
}

int report_decimals(double value)
{
	return fabs(value) < 9.995 ? 2 : fabs(value) < 99.95 ? 1 : 0;
}

struct scale scale_bytes(double bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	struct scale s = { 1, units[0] };

	for (size_t i = 1; i < sizeof(units) / sizeof(units[0]) && fabs(bytes) / s.divisor >= 1023.5; i++) {
		s.divisor *= 1024;
		s.unit = units[i];
	}
	return s;
}

struct scale scale_seconds(double seconds)
{
	static const struct {
		double below;
		struct scale scale;
	} steps[] = {
		{ 119.5, { 1, "s" } },
		{ 119.5 * 60, { 60, "min" } },
		{ 47.5 * 3600, { 3600, "h" } },
		{ 729.5 * 86400, { 86400, "d" } },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		if (fabs(seconds) < steps[i].below)
			return steps[i].scale;
	return (struct scale){ 365.25 * 86400, "y" };
}

/* ---- times ------------------------------------------------------------------------------------------------------------ */

/* `count` digits, then `end`. */
static bool scan_digits(const char **at, int count, char end, int *ret)
{
	int value = 0;

	for (; count > 0; count--, (*at)++) {
		if (**at < '0' || **at > '9')
			return false;
		value = value * 10 + (**at - '0');
	}
	if (end && *(*at)++ != end)
		return false;
	*ret = value;
	return true;
}

bool report_parse_rfc3339(const char *text, int64_t *ret_ns)
{
	struct tm tm = { 0 };
	int64_t fraction = 0;
	int64_t scale = (int64_t)NS_PER_S;

	if (!scan_digits(&text, 4, '-', &tm.tm_year) || !scan_digits(&text, 2, '-', &tm.tm_mon) ||
	    !scan_digits(&text, 2, 'T', &tm.tm_mday) || !scan_digits(&text, 2, ':', &tm.tm_hour) ||
	    !scan_digits(&text, 2, ':', &tm.tm_min) || !scan_digits(&text, 2, '\0', &tm.tm_sec))
		return false;
	if (*text == '.')
		for (text++; *text >= '0' && *text <= '9'; text++)
			if (scale > 1) {
				scale /= 10;
				fraction += (*text - '0') * scale;
			}
	/* The years that fit into 64 bits of nanoseconds. */
	if (strcmp(text, "Z") != 0 || tm.tm_year < 1970 || tm.tm_year > 2261 || tm.tm_mon < 1 || tm.tm_mon > 12 ||
	    tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	*ret_ns = (int64_t)timegm(&tm) * (int64_t)NS_PER_S + fraction;
	return true;
}
