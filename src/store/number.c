/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pieces of text and numbers: no locale, no NUL at the end, nothing is copied. */
#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "private.h"

#define EXACT_MANTISSA ((uint64_t)1 << 53)
#define EXACT_POWER 22       /* 10^22 is the last power of ten that a double holds exactly */
#define DIGITS_MAX 19        /* that fit into 64 bits */
#define EXPONENT_MAX 100000L /* stops the count, far beyond what a long double holds */

struct text piece_trim(struct text t)
{
	while (t.len > 0 && (*t.at == ' ' || *t.at == '\t' || *t.at == '\r')) {
		t.at++;
		t.len--;
	}
	while (t.len > 0 && strchr(" \t\r", t.at[t.len - 1]) && t.at[t.len - 1] != '\0')
		t.len--;
	return t;
}

struct text piece_unquote(struct text t)
{
	t = piece_trim(t);
	if (t.len >= 2 && t.at[0] == '"' && t.at[t.len - 1] == '"')
		t = piece_trim((struct text){ t.at + 1, t.len - 2 });
	return t;
}

bool piece_is(struct text t, const char *word)
{
	return strlen(word) == t.len && strncasecmp(t.at, word, t.len) == 0;
}

bool piece_has(struct text t, const char *word)
{
	return t.len > 0 && memmem(t.at, t.len, word, strlen(word)) != NULL;
}

bool piece_begins(struct text t, const char *word)
{
	size_t len = strlen(word);

	return t.len >= len && memcmp(t.at, word, len) == 0;
}

bool piece_line(struct text *rest, struct text *ret, bool *ret_ended)
{
	const char *newline;

	if (rest->len == 0)
		return false;
	newline = memchr(rest->at, '\n', rest->len);
	*ret = (struct text){ rest->at, newline ? (size_t)(newline - rest->at) : rest->len };
	*ret_ended = newline != NULL;
	rest->at += ret->len + (newline ? 1 : 0);
	rest->len -= ret->len + (newline ? 1 : 0);
	if (ret->len > 0 && ret->at[ret->len - 1] == '\r')
		ret->len--;
	return true;
}

/* UTF-8 is let through whole: a cut or a broken character is '?'. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	size_t len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : 0;

	if (len == 0 || len > left || (len == 1 && (*p < 0x20 || *p == 0x7f)) || (*p == 0xe0 && p[1] < 0xa0) ||
	    (*p == 0xed && p[1] >= 0xa0))
		return 0;
	/* C1 controls, and what turns the direction of text or breaks lines: U+200B … U+200F, U+2028 … U+202E, U+2060 … U+206F */
	if ((*p == 0xc2 && p[1] < 0xa0) ||
	    (*p == 0xe2 && p[1] == 0x80 && ((p[2] >= 0x8b && p[2] <= 0x8f) || (p[2] >= 0xa8 && p[2] <= 0xae))) ||
	    (*p == 0xe2 && p[1] == 0x81 && p[2] >= 0xa0))
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

const char *piece_clean(struct text t, char *out, size_t size)
{
	const unsigned char *p = (const unsigned char *)t.at;
	size_t used = 0;

	for (size_t i = 0; i < t.len;) {
		size_t len = utf8_len(p + i, t.len - i);
		size_t room = len > 0 ? len : 1;

		if (used + room + (i + room < t.len ? 3 : 0) >= size) {
			for (size_t dots = 0; dots < 3 && used + 1 < size; dots++)
				out[used++] = '.';
			break;
		}
		if (len > 0)
			memcpy(out + used, p + i, len);
		else
			out[used] = '?';
		used += room;
		i += room;
	}
	out[used] = '\0';
	return out;
}

static bool is_unknown(struct text t)
{
	static const char *const words[] = {
		"nan", "null", "none", "na", "n/a", "-", "nil", "inf", "infinity", "<na>"
	};

	if (t.len == 0)
		return true;
	if (t.len > 1 && (*t.at == '+' || *t.at == '-')) {
		t.at++;
		t.len--;
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (piece_is(t, words[i]))
			return true;
	return false;
}

/* Digits from *p on; the point stands anywhere. *exponent: of ten, to be applied to *mantissa. Number of digits. */
static size_t scan_mantissa(const char **p, const char *end, uint64_t *mantissa, long *exponent)
{
	size_t digits = 0;
	size_t kept = 0;
	bool point = false;

	for (; *p < end; (*p)++) {
		unsigned digit = (unsigned)((unsigned char)**p - '0');

		if (digit > 9) {
			if (**p != '.' || point)
				break;
			point = true;
			continue;
		}
		digits++;
		if (kept < DIGITS_MAX) {
			*mantissa = *mantissa * 10 + digit;
			kept += *mantissa > 0;
			*exponent -= point;
		} else {
			*exponent += !point;
		}
	}
	return digits;
}

static bool scan_exponent(const char **p, const char *end, long *exponent)
{
	bool negative = false;
	long value = 0;

	if (*p == end || (**p != 'e' && **p != 'E'))
		return true;
	(*p)++;
	if (*p < end && (**p == '+' || **p == '-'))
		negative = *(*p)++ == '-';
	if (*p == end || !isdigit((unsigned char)**p))
		return false;
	for (; *p < end && isdigit((unsigned char)**p); (*p)++)
		if (value < EXPONENT_MAX)
			value = value * 10 + (**p - '0');
	*exponent += negative ? -value : value;
	return true;
}

static double scale_ten(uint64_t mantissa, long exponent)
{
	static const double powers[EXACT_POWER + 1] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
							1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
							1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };

	if (mantissa <= EXACT_MANTISSA && exponent >= -EXACT_POWER && exponent <= EXACT_POWER)
		return exponent < 0 ? (double)mantissa / powers[-exponent] : (double)mantissa * powers[exponent];
	if (mantissa == 0)
		return 0;
	/* 64 bits of mantissa: at most the last bit of the double differs from the nearest */
	if (exponent >= -27 && exponent < 0)
		return (double)((long double)mantissa / powl(10, (long double)-exponent));
	return (double)((long double)mantissa * powl(10, (long double)exponent));
}

bool store_number(struct text t, double *ret)
{
	const char *p = t.at;
	const char *end = t.at + t.len;
	uint64_t mantissa = 0;
	long exponent = 0;
	bool negative = false;
	double value;

	if (p < end && (*p == '-' || *p == '+'))
		negative = *p++ == '-';
	if (scan_mantissa(&p, end, &mantissa, &exponent) == 0 || !scan_exponent(&p, end, &exponent) || p != end) {
		if (!is_unknown(t))
			return false;
		*ret = NAN;
		return true;
	}
	value = scale_ten(mantissa, exponent);
	if (!isfinite(value))
		value = NAN;
	*ret = negative ? -value : value;
	return true;
}
