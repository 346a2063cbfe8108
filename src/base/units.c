/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "memwatch/base/clock.h"

/* No strtod() and no "%f" here: both follow the locale, and what is read and written must not. */

#define FRACTION_DIGITS_MAX 15 /* further digits are far below one nanosecond or byte */
#define BYTES_PRINTED_MAX 1e30
#define SECONDS_PRINTED_MAX 1e20

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit durations[] = {
	{ "", NS_PER_S },
	{ "s", NS_PER_S },
	{ "ms", NS_PER_MS },
	{ "us", NS_PER_US },
	{ "ns", 1 },
	{ "m", 60 * NS_PER_S },
	{ "min", 60 * NS_PER_S },
	{ "h", 3600 * NS_PER_S },
	{ "d", 86400 * NS_PER_S },
	{ NULL, 0 },
};

static const struct unit sizes[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", 1ULL << 10 },
	{ "KiB", 1ULL << 10 },
	{ "KB", 1000ULL },
	{ "M", 1ULL << 20 },
	{ "MiB", 1ULL << 20 },
	{ "MB", 1000000ULL },
	{ "G", 1ULL << 30 },
	{ "GiB", 1ULL << 30 },
	{ "GB", 1000000000ULL },
	{ "T", 1ULL << 40 },
	{ "TiB", 1ULL << 40 },
	{ "TB", 1000000000000ULL },
	{ NULL, 0 },
};

struct quantity {
	uint64_t whole;
	double fraction; /* 0 <= fraction < 1 */
	bool too_large;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits[.digits] and steps *at behind them; false where that is not what stands there. */
static bool scan_quantity(const char **at, struct quantity *ret)
{
	struct quantity q = { 0 };
	const char *p = *at;
	bool digits = is_digit(*p);
	double scale = 1;
	double fraction = 0;

	for (; is_digit(*p); p++)
		if (__builtin_mul_overflow(q.whole, 10ULL, &q.whole) ||
		    __builtin_add_overflow(q.whole, (uint64_t)(*p - '0'), &q.whole))
			q.too_large = true;
	if (*p == '.') {
		p++;
		if (!is_digit(*p))
			return false;
		digits = true;
		for (int n = 0; is_digit(*p); p++, n++)
			if (n < FRACTION_DIGITS_MAX) {
				fraction = fraction * 10 + (*p - '0');
				scale *= 10;
			}
	}
	if (!digits)
		return false;
	q.fraction = fraction / scale;
	*ret = q;
	*at = p;
	return true;
}

/* Without llround(), which would ask everybody for libm. 0 <= value < 1e18 */
static uint64_t nearest(double value)
{
	return (uint64_t)(value + 0.5);
}

/* Sums in between stay clear of a wrap-around: no result is larger than INT64_MAX. */
static bool multiply(const struct quantity *q, uint64_t factor, uint64_t *ret)
{
	uint64_t value;

	if (q->too_large || __builtin_mul_overflow(q->whole, factor, &value) ||
	    __builtin_add_overflow(value, nearest(q->fraction * (double)factor), &value) || value > INT64_MAX)
		return false;
	*ret = value;
	return true;
}

static int scan(const char *text, const struct unit *units, bool any_case, const char *form, uint64_t *ret,
		const char **ret_reason)
{
	struct quantity q;
	const char *at = text;
	const struct unit *unit = units;
	bool negative = *at == '-';

	if (*text == '\0') {
		*ret_reason = "must not be empty";
		return -EINVAL;
	}
	at += negative ? 1 : 0;
	*ret_reason = form;
	if (!scan_quantity(&at, &q))
		return -EINVAL;
	if (*at == ' ' && at[1] != '\0')
		at++; /* "1.5 MiB", as it is printed */
	while (unit->name && (any_case ? strcasecmp(unit->name, at) : strcmp(unit->name, at)) != 0)
		unit++;
	if (!unit->name)
		return -EINVAL;
	if (negative) {
		*ret_reason = "must be positive";
		return -EINVAL;
	}
	if (!multiply(&q, unit->factor, ret)) {
		*ret_reason = "is too large";
		return -ERANGE;
	}
	return 0;
}

int units_scan_duration(const char *text, uint64_t *ret_ns, const char **ret_reason)
{
	return scan(text, durations, false, "must be a number with a unit such as 100ms, 90s, 5m, 2h or 1d", ret_ns,
		    ret_reason);
}

int units_scan_size(const char *text, uint64_t *ret_bytes, const char **ret_reason)
{
	return scan(text, sizes, true, "must be a number with a unit such as 512, 64K, 1.5M, 2G or 100MB", ret_bytes,
		    ret_reason);
}

int units_parse_duration(const char *text, uint64_t *ret_ns, struct err *err)
{
	const char *reason;
	int r = units_scan_duration(text, ret_ns, &reason);

	return r < 0 ? err_set(err, -r, "invalid duration '%s': %s", text, reason) : 0;
}

int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *err)
{
	const char *reason;
	int r = units_scan_size(text, ret_bytes, &reason);

	return r < 0 ? err_set(err, -r, "invalid size '%s': %s", text, reason) : 0;
}

static const unsigned int scales[] = { 1, 10, 100 };

static void add_fixed(struct str *out, double value, int decimals)
{
	uint64_t scaled = nearest(value * scales[decimals]);

	str_addf(out, "%" PRIu64, scaled / scales[decimals]);
	if (decimals > 0)
		str_addf(out, ".%0*" PRIu64, decimals, scaled % scales[decimals]);
}

/*
 * Two decimals below `next`, one below ten times that, else none; judged by the rounded value, so that 9.996 does not
 * become "10.00".
 */
static int decimals_for(double value, double next)
{
	int decimals = 2;

	for (; decimals > 0 && value >= next - 0.5 / scales[decimals]; next *= 10)
		decimals--;
	return decimals;
}

void units_add_bytes(struct str *out, double bytes)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = fabs(bytes);
	size_t unit = 0;
	int decimals;

	if (!isfinite(bytes) || value > BYTES_PRINTED_MAX) {
		str_add(out, "unknown");
		return;
	}
	while (value >= 1023.5 && unit + 1 < sizeof(names) / sizeof(names[0])) {
		value /= 1024;
		unit++;
	}
	decimals = decimals_for(value, 10);
	if (unit == 0 && value == (double)(uint64_t)value)
		decimals = 0; /* whole bytes are exact: "5 B", not "5.00 B" */
	if (bytes < 0)
		str_addc(out, '-');
	add_fixed(out, value, decimals);
	str_addf(out, " %s", names[unit]);
}

void units_add_duration(struct str *out, double seconds)
{
	static const struct {
		double below_seconds;
		double unit_seconds;
		const char *name;
	} steps[] = {
		{ 100e-9, 1e-9, "ns" },        { 100e-6, 1e-6, "us" },
		{ 0.995, 1e-3, "ms" },         { 119.5, 1, "s" },
		{ 119.5 * 60, 60, "min" },     { 47.5 * 3600, 3600, "h" },
		{ 729.5 * 86400, 86400, "d" }, { HUGE_VAL, 365.25 * 86400, "y" },
	};
	double value = fabs(seconds);
	size_t step = 0;

	if (!isfinite(seconds) || value > SECONDS_PRINTED_MAX) {
		str_add(out, "unknown");
		return;
	}
	if (value == 0) {
		str_add(out, "0 s");
		return;
	}
	while (value >= steps[step].below_seconds)
		step++;
	if (seconds < 0)
		str_addc(out, '-');
	value /= steps[step].unit_seconds;
	add_fixed(out, value, decimals_for(value, 1));
	str_addf(out, " %s", steps[step].name);
}

void units_add_rfc3339(struct str *out, int64_t wall_ns)
{
	int64_t ns = wall_ns % (int64_t)NS_PER_S;
	time_t s = (time_t)(wall_ns / (int64_t)NS_PER_S);
	struct tm tm = { 0 };

	if (ns < 0) { /* before 1970: the fraction still counts forwards */
		ns += (int64_t)NS_PER_S;
		s--;
	}
	gmtime_r(&s, &tm);
	str_addf(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
		 tm.tm_min, tm.tm_sec, (int)(ns / (int64_t)NS_PER_MS));
}
