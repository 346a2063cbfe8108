/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Our own stream: one JSON object a line. A series a pid; "exec" begins another program in it; a further hello begins another session,
 * whose processes are others. A last line without newline that cannot be read was cut off.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "private.h"

#define LINE_BYTES_MAX ((size_t)1 << 20) /* ours have some KiB; cJSON takes some 30 times as much */

struct stream {
	struct drafts *d;
	unsigned session;
	pid_t pid; /* of the hello */
	size_t line;
};

static const char *text_of(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text ? text : "";
}

static double number_of(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : NAN;
}

static pid_t pid_of(const cJSON *object)
{
	double pid = number_of(object, "pid");

	return pid >= 1 && pid <= INT32_MAX ? (pid_t)pid : 0;
}

static int get_series(struct stream *s, pid_t pid, struct draft **ret)
{
	char key[64];
	int len;
	int r;

	len = pid > 0 ? snprintf(key, sizeof(key), "pid %d", (int)pid) : snprintf(key, sizeof(key), "unknown pid");
	if (s->session > 1)
		snprintf(key + len, sizeof(key) - (size_t)len, " session %u", s->session);
	r = drafts_get(s->d, (struct text){ key, strlen(key) }, ret);
	if (r < 0)
		return r;
	(*ret)->pid = pid;
	(*ret)->sparse = true;
	return 0;
}

static int read_hello(struct stream *s, const cJSON *object)
{
	const cJSON *target = cJSON_GetObjectItemCaseSensitive(object, "target");
	const char *comm = text_of(target, "comm");
	struct draft *draft;
	int r;

	s->session++;
	s->pid = pid_of(target);
	if (s->pid == 0)
		return 0;
	r = get_series(s, s->pid, &draft);
	if (r == 0 && *comm && draft_set(&draft->comm, (struct text){ comm, strlen(comm) }) < 0)
		return store_no_memory(s->d->err);
	return r;
}

static int read_sample(struct stream *s, const cJSON *object)
{
	double t = number_of(object, "t_s");
	struct draft *draft;
	double *row;
	int r;

	if (!(fabs(t) <= TIME_MAX_S))
		return store_bad_line(s->d->err, s->line, "a sample without 't_s'");
	r = get_series(s, pid_of(object), &draft);
	if (r < 0)
		return r;
	for (const cJSON *item = object->child; item; item = item->next) {
		enum metric m;

		if (cJSON_IsNumber(item) && item->string && name_metric(item->string, &m) && draft_column(draft, m) < 0)
			return store_no_memory(s->d->err);
	}
	r = draft_row(s->d, draft, t, &row);
	if (r < 0)
		return r;
	for (const cJSON *item = object->child; item; item = item->next) {
		enum metric m;

		if (cJSON_IsNumber(item) && item->string && name_metric(item->string, &m) && item->valuedouble >= 0 &&
		    isfinite(item->valuedouble))
			row[draft->column_of[m]] = item->valuedouble;
	}
	draft_drop_empty(s->d, draft);
	return 0;
}

static int read_event(struct stream *s, const cJSON *object)
{
	const char *event = text_of(object, "event");
	double t = number_of(object, "t_s");
	struct draft *draft;
	int r;

	if (strcmp(event, "exec") != 0 && strcmp(event, "exit") != 0)
		return 0;
	r = get_series(s, pid_of(object), &draft);
	if (r < 0)
		return r;
	if (strcmp(event, "exit") == 0)
		draft->ended = true;
	else if (!isnan(t) && draft->row_count > 0 && draft_split(draft, t) < 0)
		return store_no_memory(s->d->err);
	return 0;
}

static int read_bye(struct stream *s, const cJSON *object)
{
	struct draft *draft;
	int r;

	if (!cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(object, "exit")))
		return 0;
	r = get_series(s, pid_of(object), &draft);
	if (r == 0)
		draft->ended = true;
	return r;
}

static int read_object(struct stream *s, const cJSON *object)
{
	const char *type = text_of(object, "type");

	if (strcmp(type, "sample") == 0)
		return read_sample(s, object);
	if (strcmp(type, "hello") == 0)
		return read_hello(s, object);
	if (strcmp(type, "event") == 0)
		return read_event(s, object);
	if (strcmp(type, "bye") == 0)
		return read_bye(s, object);
	if (!*type)
		return store_bad_line(s->d->err, s->line, "no object of a memwatch stream: 'type' is missing");
	return 0;
}

static int read_line(struct stream *s, struct text line, bool ended)
{
	const char *end = NULL;
	cJSON *object;
	int r;

	if (line.len > LINE_BYTES_MAX)
		return store_bad_line(s->d->err, s->line, "longer than %zu bytes", LINE_BYTES_MAX);
	object = cJSON_ParseWithLengthOpts(line.at, line.len, &end, 0);
	if (!cJSON_IsObject(object) ||
	    (end && piece_trim((struct text){ end, (size_t)(line.at + line.len - end) }).len > 0)) {
		cJSON_Delete(object);
		return ended ? store_bad_line(s->d->err, s->line, "not a JSON object") :
			       drafts_note(s->d, "line %zu, the last one, is cut off: left out", s->line);
	}
	r = read_object(s, object);
	cJSON_Delete(object);
	return r;
}

int store_read_stream(struct text text, struct drafts *d)
{
	struct stream s = { .d = d };
	struct text line;
	bool ended;
	int r = 0;

	while (r == 0 && piece_line(&text, &line, &ended)) {
		s.line++;
		line = piece_trim(line);
		if (line.len > 0)
			r = read_line(&s, line, ended);
	}
	return r;
}
