/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Times: dates, and what bare numbers count. */
#include <ctype.h>
#include <math.h>
#include <string.h>
#include <time.h>

#include "private.h"

#include "memwatch/base/clock.h"

/* Below it a number of seconds is a duration, from it on a date: 6e8 s are 19 years, or the year 1989. */
#define EPOCH_S_MIN 6e8
#define YEAR_MIN 1970 /* the years that fit into 64 bits of nanoseconds */
#define YEAR_MAX 2261

bool store_time_is_epoch(double seconds)
{
	return seconds >= EPOCH_S_MIN;
}

double store_time_scale(double value, bool *ret_epoch)
{
	double scale = 1;

	/* Each unit's dates are beyond the dates of the unit before: 1989 in ms is the year 20,000 in s. */
	while (scale > 2e-9 && value * scale >= EPOCH_S_MIN * 1000)
		scale /= 1000;
	*ret_epoch = store_time_is_epoch(value * scale);
	return scale;
}

bool store_time_is_name(const char *name)
{
	static const char *const names[] = {
		"t",        "time",   "timestamp",    "time_stamp",   "elapsed",   "elapsed_time",
		"ts",       "date",   "datetime",     "date_time",    "wall",      "wall_time",
		"walltime", "epoch",  "unix_time",    "unixtime",     "unix",      "uptime",
		"clock",    "when",   "at",           "time_elapsed", "timepoint", "seconds",
		"minutes",  "hours",  "milliseconds", "sec",          "secs",      "ms",
		"_time",    "x_time", "sample_time",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

/* Exactly `count` digits. */
static bool scan(struct text *t, size_t count, int *ret)
{
	int value = 0;

	if (t->len < count)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (!isdigit((unsigned char)t->at[i]))
			return false;
		value = value * 10 + (t->at[i] - '0');
	}
	t->at += count;
	t->len -= count;
	*ret = value;
	return true;
}

static bool take(struct text *t, const char *any)
{
	if (t->len == 0 || *t->at == '\0' || !strchr(any, *t->at))
		return false;
	t->at++;
	t->len--;
	return true;
}

static int64_t scan_fraction(struct text *t)
{
	int64_t place = (int64_t)NS_PER_S;
	int64_t ns = 0;

	if (!take(t, "."))
		return 0;
	for (; t->len > 0 && isdigit((unsigned char)*t->at); t->at++, t->len--) {
		place /= 10;
		ns += (*t->at - '0') * place;
	}
	return ns;
}

/* "Z", " UTC", "+01:00", "+0100", "+01", or nothing. */
static bool scan_offset(struct text *t, int64_t *ret_s)
{
	int hours = 0;
	int minutes = 0;
	bool west;

	while (take(t, " "))
		;
	*ret_s = 0;
	if (t->len == 0 || piece_is(*t, "Z") || piece_is(*t, "UTC") || piece_is(*t, "GMT"))
		return true;
	west = *t->at == '-';
	if (!take(t, "+-") || !scan(t, 2, &hours))
		return false;
	(void)take(t, ":");
	if (t->len > 0 && !scan(t, 2, &minutes))
		return false;
	*ret_s = (west ? -1 : 1) * ((int64_t)hours * 3600 + minutes * 60);
	return t->len == 0 && hours < 24 && minutes < 60;
}

bool store_time_parse_date(struct text t, int64_t *ret_ns)
{
	struct tm tm = { 0 };
	int64_t fraction = 0;
	int64_t offset_s = 0;

	if (!scan(&t, 4, &tm.tm_year) || !take(&t, "-/") || !scan(&t, 2, &tm.tm_mon) || !take(&t, "-/") ||
	    !scan(&t, 2, &tm.tm_mday))
		return false;
	if (t.len > 0) {
		if (!take(&t, "Tt ") || !scan(&t, 2, &tm.tm_hour) || !take(&t, ":") || !scan(&t, 2, &tm.tm_min))
			return false;
		if (take(&t, ":")) {
			if (!scan(&t, 2, &tm.tm_sec))
				return false;
			fraction = scan_fraction(&t);
		}
		if (!scan_offset(&t, &offset_s))
			return false;
	}
	if (tm.tm_year < YEAR_MIN || tm.tm_year > YEAR_MAX || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
	    tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return false;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	*ret_ns = ((int64_t)timegm(&tm) - offset_s) * (int64_t)NS_PER_S + fraction;
	return true;
}
