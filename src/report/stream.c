/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "json_build.h"

static void stream_begin(struct json *j, const char *type)
{
	json_init(j);
	json_text(j, j->root, "type", type);
}

static void stream_place(struct json *j, double t_s, pid_t pid)
{
	json_double(j, j->root, "t_s", t_s);
	json_u64(j, j->root, "pid", pid > 0 ? (uint64_t)pid : UNKNOWN_U64);
}

static int stream_end(struct json *j, struct str *out)
{
	int r = json_finish(j, false, out);

	json_deinit(j);
	return r;
}

int stream_hello(const struct target_info *target, double interval_ms, struct str *out)
{
	struct json j;

	stream_begin(&j, "hello");
	json_text(&j, j.root, "schema", STREAM_SCHEMA);
	json_double(&j, j.root, "interval_ms", interval_ms);
	json_target(&j, j.root, target);
	return stream_end(&j, out);
}

/* Most metrics are not read at most ticks: what was not read is left out, but for RSS, which every reader looks for. */
int stream_sample(const struct sample *sample, pid_t pid, struct str *out)
{
	struct json j;

	stream_begin(&j, "sample");
	stream_place(&j, sample->t_s, pid);
	for (size_t i = 0; i < METRIC_COUNT; i++)
		if (i == METRIC_RSS || isfinite(sample->v[i]))
			json_double(&j, j.root, metric_table[i].name, sample->v[i]);
	return stream_end(&j, out);
}

int stream_event(double t_s, pid_t pid, const char *event, const char *detail, double value, struct str *out)
{
	struct json j;

	stream_begin(&j, "event");
	json_text(&j, j.root, "event", event);
	stream_place(&j, t_s, pid);
	json_text(&j, j.root, "detail", detail);
	json_double(&j, j.root, "value", value);
	return stream_end(&j, out);
}

int stream_verdict(double t_s, pid_t pid, const struct verdict *verdict, struct str *out)
{
	struct json j;

	stream_begin(&j, "verdict");
	stream_place(&j, t_s, pid);
	json_verdict(&j, j.root, verdict);
	return stream_end(&j, out);
}

int stream_bye(const struct snapshot *snapshot, struct str *out)
{
	struct json j;
	cJSON *object;

	stream_begin(&j, "bye");
	stream_place(&j, snapshot->session.duration_s, snapshot->main.target.id.pid);
	json_u64(&j, j.root, "samples", snapshot->session.samples);
	json_exit(&j, j.root, &snapshot->main.target);
	object = json_object(&j, j.root, "verdict");
	json_verdict(&j, object, &snapshot->main.verdict);
	object = json_object(&j, j.root, "cost");
	json_fields(&j, object, cost_fields, &snapshot->cost);
	return stream_end(&j, out);
}
