/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The answer of a Prometheus-compatible store to a range query. Results that differ in their metric's name only are columns of one
 * series; memory pools of one JVM are summed up. Names are taken in three passes: those that are known, then those that stand in
 * for a metric that is still missing, then unknown ones (a sum() has no name): RSS where nothing else is known of these labels.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#include "private.h"

#include "memwatch/base/clock.h"

#define VALUES_MAX ((size_t)8 << 20) /* cJSON takes 64 bytes for each: half a GiB */
#define START_TIME "process_start_time_seconds"
#define START_SLACK_S 1.0 /* start times are computed from the boot time, which clocks adjust */

enum pass { PASS_KNOWN, PASS_STAND_IN, PASS_UNKNOWN, PASS_COUNT };

struct prometheus {
	struct drafts *d;
	struct str key;
	size_t stood_in, guessed, left_out; /* results */
	char stand_in_name[CLEAN_BYTES], guessed_name[CLEAN_BYTES], left_out_name[CLEAN_BYTES];
};

struct result {
	const char *name;
	const cJSON *labels, *values;
	bool is_pool; /* of a JVM: one of several with the same meaning */
	bool is_heap; /* … and of the heap */
	enum pass pass;
	struct column_name column;
};

static struct text as_text(const char *text)
{
	return (struct text){ text, strlen(text) };
}

static const char *label_of(const cJSON *labels, const char *name)
{
	const char *value = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(labels, name));

	return value ? value : "";
}

static void classify(const cJSON *item, struct result *ret)
{
	const char *area;

	*ret = (struct result){ .labels = cJSON_GetObjectItemCaseSensitive(item, "metric"),
				.values = cJSON_GetObjectItemCaseSensitive(item, "values") };
	ret->name = label_of(ret->labels, "__name__");
	area = label_of(ret->labels, "area");
	ret->is_pool = strncmp(ret->name, "jvm_memory_", 11) == 0;
	ret->is_heap = *area == '\0' || strcmp(area, "heap") == 0;
	ret->pass = PASS_UNKNOWN;
	if (*ret->name && name_lookup(as_text(ret->name), &ret->column) && !ret->column.is_time)
		ret->pass = ret->column.prefer_other ? PASS_STAND_IN : PASS_KNOWN;
	if (strcmp(ret->name, START_TIME) == 0)
		ret->pass = PASS_KNOWN;
}

static int make_key(struct prometheus *p, const struct result *res)
{
	str_reset(&p->key);
	for (const cJSON *item = res->labels ? res->labels->child : NULL; item; item = item->next) {
		if (!item->string || !cJSON_IsString(item) || strcmp(item->string, "__name__") == 0 ||
		    (res->is_pool && (strcmp(item->string, "area") == 0 || strcmp(item->string, "id") == 0)))
			continue;
		str_addf(&p->key, "%s%s=\"%s\"", p->key.len > 0 ? ", " : "", item->string, item->valuestring);
	}
	return str_status(&p->key) < 0 ? store_no_memory(p->d->err) : 0;
}

static int get_series(struct prometheus *p, const struct result *res, struct draft **ret)
{
	double pid;
	int r = make_key(p, res);

	if (r == 0)
		r = drafts_get(p->d, (struct text){ str_text(&p->key), p->key.len }, ret);
	if (r < 0)
		return r;
	(*ret)->joined = true;
	if (store_number(as_text(label_of(res->labels, "pid")), &pid) && pid >= 1 && pid <= INT32_MAX)
		(*ret)->pid = (pid_t)pid;
	if (!(*ret)->label && draft_set(&(*ret)->label, (struct text){ str_text(&p->key), p->key.len }) < 0)
		return store_no_memory(p->d->err);
	return 0;
}

/* One [time, "value"]. */
static int read_pair(struct prometheus *p, const cJSON *pair, double *ret_t, double *ret_v)
{
	const cJSON *t = cJSON_IsArray(pair) ? pair->child : NULL;
	const cJSON *v = t ? t->next : NULL;
	const char *text = cJSON_GetStringValue(v);
	char clean[CLEAN_BYTES];

	if (!cJSON_IsNumber(t) || !(fabs(t->valuedouble) <= TIME_MAX_S) || !v)
		return err_set(p->d->err, EBADMSG,
			       "'data.result[].values' holds something else than [seconds, \"value\"]");
	if (cJSON_IsNumber(v))
		*ret_v = isfinite(v->valuedouble) ? v->valuedouble : NAN;
	else if (!text || !store_number(as_text(text), ret_v))
		return err_set(p->d->err, EBADMSG, "'data.result[].values' holds '%s', which is not a number",
			       piece_clean(as_text(text ? text : "null"), clean, sizeof(clean)));
	if (*ret_v < 0)
		*ret_v = NAN;
	if (p->d->base_ns == 0 && p->d->row_total == 0 && store_time_is_epoch(t->valuedouble) &&
	    t->valuedouble < (double)INT64_MAX / (double)NS_PER_S)
		p->d->base_ns = (int64_t)t->valuedouble * (int64_t)NS_PER_S;
	*ret_t = t->valuedouble - (double)(p->d->base_ns / (int64_t)NS_PER_S);
	return 0;
}

/*
 * The row of that time, at or behind *at, in which the column is known; NULL: none. Times ascend within a result, so *at only moves
 * forward, and all look-ups together take one pass.
 */
static double *find_row(struct draft *s, int column, double t, size_t *at)
{
	size_t width = s->metric_count + 1;

	for (; *at < s->row_count; ++*at) {
		double *row = s->cells + *at * width;

		if (isnan(row[column]) || row[0] < t)
			continue;
		return row[0] == t ? row : NULL;
	}
	return NULL;
}

static int add_values(struct prometheus *p, const struct result *res, enum metric metric, double scale, struct draft *s)
{
	bool sum = res->is_pool && s->column_of[metric] > 0;
	int column = draft_column(s, metric);
	size_t at = 0;

	if (column < 0)
		return store_no_memory(p->d->err);
	for (const cJSON *pair = res->values->child; pair; pair = pair->next) {
		double t;
		double v;
		double *row;
		int r = read_pair(p, pair, &t, &v);

		if (r < 0)
			return r;
		s->unknown_count += isnan(v) ? 1 : 0;
		if (isnan(v))
			continue;
		row = sum ? find_row(s, column, t, &at) : NULL;
		if (row) {
			row[column] += v * scale;
			continue;
		}
		r = draft_row(p->d, s, t, &row);
		if (r < 0)
			return r;
		row[column] = v * scale;
	}
	return 0;
}

/* A process with another start time is another one. */
static int add_starts(struct prometheus *p, const struct result *res, struct draft *s)
{
	double last = NAN;

	for (const cJSON *pair = res->values->child; pair; pair = pair->next) {
		double t;
		double v;
		int r = read_pair(p, pair, &t, &v);

		if (r < 0)
			return r;
		if (v > last + START_SLACK_S && draft_split(s, t) < 0)
			return store_no_memory(p->d->err);
		last = isnan(v) ? last : v;
	}
	return 0;
}

static void count(size_t *counter, char *name, const struct result *res)
{
	if (++*counter == 1)
		piece_clean(as_text(res->name), name, CLEAN_BYTES);
}

static int add_result(struct prometheus *p, const struct result *res)
{
	struct draft *s;
	enum metric metric = res->column.metric;
	double scale = res->column.scale;
	int r;

	if (!cJSON_IsArray(res->values) || (res->is_pool && !res->is_heap)) {
		count(&p->left_out, p->left_out_name, res);
		return 0;
	}
	r = get_series(p, res, &s);
	if (r < 0)
		return r;
	if (strcmp(res->name, START_TIME) == 0)
		return add_starts(p, res, s);
	if (res->pass == PASS_UNKNOWN) {
		metric = METRIC_RSS;
		scale = 1;
	}
	if (res->pass == PASS_STAND_IN && s->column_of[metric] >= 0 && strncmp(res->name, "container_", 10) == 0)
		metric = METRIC_CGROUP;
	if ((s->column_of[metric] >= 0 && !res->is_pool) || (res->pass == PASS_UNKNOWN && s->metric_count > 0)) {
		count(&p->left_out, p->left_out_name, res);
		return 0;
	}
	if (res->pass == PASS_STAND_IN && metric != METRIC_CGROUP)
		count(&p->stood_in, p->stand_in_name, res);
	if (res->pass == PASS_UNKNOWN)
		count(&p->guessed, p->guessed_name, res);
	if (metric == METRIC_WORK)
		s->work_unit = res->column.work_unit;
	return add_values(p, res, metric, scale, s);
}

static int note_results(struct prometheus *p)
{
	int r = 0;

	if (p->stood_in > 0)
		r = drafts_note(p->d, "%zu result%s of '%s' taken for want of a more exact metric", p->stood_in,
				p->stood_in == 1 ? "" : "s", p->stand_in_name);
	if (r == 0 && p->guessed > 0)
		r = drafts_note(p->d, "%zu result%s of the unknown metric '%s' taken as rss_bytes", p->guessed,
				p->guessed == 1 ? "" : "s", p->guessed_name);
	if (r == 0 && p->left_out > 0)
		r = drafts_note(p->d, "%zu result%s left out, the first of '%s'", p->left_out,
				p->left_out == 1 ? "" : "s", p->left_out_name);
	return r;
}

static int read_answer(struct prometheus *p, const cJSON *root)
{
	const cJSON *data = cJSON_GetObjectItemCaseSensitive(root, "data");
	const char *type = label_of(data ? data : root, "resultType");
	const cJSON *list = cJSON_GetObjectItemCaseSensitive(data ? data : root, "result");
	char clean[CLEAN_BYTES];
	char clean_type[CLEAN_BYTES];
	int r = 0;

	if (strcmp(label_of(root, "status"), "error") == 0)
		return err_set(p->d->err, EBADMSG, "the query failed: %s: %s",
			       piece_clean(as_text(label_of(root, "errorType")), clean_type, sizeof(clean_type)),
			       piece_clean(as_text(label_of(root, "error")), clean, sizeof(clean)));
	if (*type && strcmp(type, "matrix") != 0)
		return err_set(
			p->d->err, EBADMSG,
			"resultType '%s' has one value a series, not a course of time: ask /api/v1/query_range, or "
			"append a range such as [6h] to the selector",
			piece_clean(as_text(type), clean, sizeof(clean)));
	if (!*type || !cJSON_IsArray(list))
		return err_set(p->d->err, EBADMSG,
			       "'data.resultType' \"matrix\" and 'data.result' are missing: not the answer "
			       "to a Prometheus range query");
	if (!list->child)
		return err_set(p->d->err, EBADMSG, "'data.result' is empty: no series matched the query in that time");
	for (int pass = PASS_KNOWN; pass < PASS_COUNT && r == 0; pass++)
		for (const cJSON *item = list->child; item && r == 0; item = item->next) {
			struct result res;

			classify(item, &res);
			if ((int)res.pass == pass)
				r = add_result(p, &res);
		}
	return r < 0 ? r : note_results(p);
}

/* Values outside of strings; the depth is bounded by cJSON itself. */
static bool is_bounded(struct text text)
{
	size_t values = 1;
	bool quoted = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.at[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted)
			values += c == ',' || c == '[' || c == '{';
	}
	return values <= VALUES_MAX;
}

int store_read_prometheus(struct text text, struct drafts *d)
{
	struct prometheus p = { .d = d, .key = STR_INIT };
	const char *end = text.at;
	cJSON *root;
	int r;

	if (!is_bounded(text))
		return err_set(d->err, E2BIG,
			       "more than %zu values in one answer: ask for fewer series or a wider step", VALUES_MAX);
	root = cJSON_ParseWithLengthOpts(text.at, text.len, &end, 0);
	if (!root) {
		size_t at = end && end >= text.at && end <= text.at + text.len ? (size_t)(end - text.at) : 0;

		return store_bad_line(d->err, store_line_of(text.at, at), "not valid JSON, or cut off, at byte %zu",
				      at + 1);
	}
	r = read_answer(&p, root);
	cJSON_Delete(root);
	str_deinit(&p.key);
	return r;
}
