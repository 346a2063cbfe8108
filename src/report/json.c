/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "formats.h"
#include "json_build.h"

static void json_texts(struct json *j, cJSON *parent, const char *key, const char *const *texts, size_t count)
{
	cJSON *array = json_array(j, parent, key);

	for (size_t i = 0; i < count; i++)
		json_text(j, array, NULL, texts[i] ? texts[i] : "");
}

void json_exit(struct json *j, cJSON *parent, const struct target_info *t)
{
	cJSON *object;

	if (!t->exited) {
		json_null(j, parent, "exit");
		return;
	}
	object = json_object(j, parent, "exit");
	json_u64(j, object, "code", t->exit_code >= 0 ? (uint64_t)t->exit_code : UNKNOWN_U64);
	json_u64(j, object, "signal", t->exit_signal > 0 ? (uint64_t)t->exit_signal : UNKNOWN_U64);
}

static void json_part(struct json *j, cJSON *parent, const char *key, const struct named_part *p)
{
	if (p->name)
		json_fields(j, json_object(j, parent, key), named_part_fields, p);
	else
		json_null(j, parent, key);
}

void json_target(struct json *j, cJSON *parent, const struct target_info *t)
{
	cJSON *object = json_object(j, parent, "target");

	json_fields(j, object, target_fields, t);
	json_texts(j, object, "cmdline", t->cmdline, t->cmdline_count);
	json_exit(j, object, t);
	json_part(j, object, "allocator", &t->allocator);
	json_part(j, object, "runtime", &t->runtime);
}

static void json_session(struct json *j, cJSON *parent, const struct session_info *s)
{
	cJSON *object = json_object(j, parent, "session");
	cJSON *gaps;

	json_fields(j, object, session_fields, s);
	json_texts(j, object, "rungs", s->rungs, s->rung_count);
	gaps = json_array(j, object, "gaps");
	for (size_t i = 0; i < s->gap_count; i++)
		json_fields(j, json_object(j, gaps, NULL), gap_fields, &s->gaps[i]);
}

void json_verdict(struct json *j, cJSON *object, const struct verdict *v)
{
	cJSON *array;

	json_fields(j, object, verdict_fields, v);
	array = json_array(j, object, "evidence");
	for (size_t i = 0; i < v->evidence_count; i++)
		json_fields(j, json_object(j, array, NULL), evidence_fields, &v->evidence[i]);
	array = json_array(j, object, "actions");
	for (size_t i = 0; i < v->action_count; i++)
		json_fields(j, json_object(j, array, NULL), action_fields, &v->actions[i]);
	if (v->forecast.known)
		json_fields(j, json_object(j, object, "forecast"), forecast_fields, &v->forecast);
	else
		json_null(j, object, "forecast");
}

static void json_metric(struct json *j, cJSON *parent, const char *key, const char *unit,
			const struct metric_summary *m)
{
	cJSON *object = json_object(j, parent, key);

	json_text(j, object, "unit", unit);
	json_fields(j, object, metric_fields, m);
	json_double(j, object, "growth", m->last - m->first);
}

static void json_metrics(struct json *j, cJSON *parent, const struct metric_summary *metrics)
{
	cJSON *object = json_object(j, parent, "metrics");

	for (size_t i = 0; i < METRIC_COUNT; i++)
		if (metrics[i].count > 0)
			json_metric(j, object, metric_table[i].name, metric_table[i].unit, &metrics[i]);
}

/* What was not followed has no figures, whatever stands in them. */
static void json_size_class(struct json *j, cJSON *array, const struct heap_size_class *c)
{
	struct heap_size_class shown = *c;

	if (c->tracked_blocks == 0)
		shown.leak_probability = shown.age_s = NAN;
	json_fields(j, json_object(j, array, NULL), size_class_fields, &shown);
}

static void json_heap(struct json *j, cJSON *parent, const struct heap_stats *h)
{
	cJSON *object = json_object(j, parent, "heap");
	cJSON *array;

	json_fields(j, object, heap_fields, h);
	json_fields(j, json_object(j, object, "fragmentation"), heap_fragmentation_fields, h);
	json_fields(j, json_object(j, object, "walk"), heap_walk_fields, h);
	array = json_array(j, object, "arenas");
	for (size_t i = 0; i < h->arena_count; i++)
		json_fields(j, json_object(j, array, NULL), arena_fields, &h->arenas[i]);
	array = json_array(j, object, "size_classes");
	for (size_t i = 0; i < h->class_count; i++)
		json_size_class(j, array, &h->classes[i]);
}

/* Names are the figures' own, and of a report that is read back anyone's: cJSON would write them as they are. */
static void json_figures(struct json *j, cJSON *parent, const struct runtime_stats *s)
{
	cleanup_str struct str figures = STR_INIT;

	str_addc(&figures, '{');
	for (size_t i = 0; i < s->figure_count; i++) {
		str_add(&figures, i > 0 ? "," : "");
		report_add_json_text(&figures, s->figures[i].name);
		str_addc(&figures, ':');
		report_add_number(&figures, s->figures[i].value);
	}
	str_addc(&figures, '}');
	j->failed |= figures.failed;
	json_raw(j, parent, "figures", str_text(&figures));
}

static void json_runtime(struct json *j, cJSON *parent, const struct runtime_stats *s)
{
	cJSON *object = json_object(j, parent, "runtime");

	json_fields(j, object, runtime_fields, s);
	json_figures(j, object, s);
}

static void json_site(struct json *j, cJSON *array, const struct site *s)
{
	cJSON *object = json_object(j, array, NULL);
	cJSON *frames;

	json_fields(j, object, site_fields, s);
	json_u64(j, object, "first_own_frame", s->frame_count > 0 ? site_first_shown(s) : UNKNOWN_U64);
	frames = json_array(j, object, "frames");
	for (size_t i = 0; i < s->frame_count; i++)
		json_fields(j, json_object(j, frames, NULL), frame_fields, &s->frames[i]);
}

static void json_mappings(struct json *j, cJSON *parent, const struct region_totals *classes)
{
	cJSON *object = json_object(j, parent, "mappings");

	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		if (classes[i].rss_bytes != UNKNOWN_U64)
			json_fields(j, json_object(j, object, region_class_names[i]), mapping_fields, &classes[i]);
}

static void json_work(struct json *j, cJSON *parent, const struct work_fit *w)
{
	cJSON *object;
	cJSON *array;

	if (!w->known) {
		json_null(j, parent, "work");
		return;
	}
	object = json_object(j, parent, "work");
	json_fields(j, object, work_fields, w);
	array = json_array(j, object, "predictions");
	for (size_t i = 0; i < w->prediction_count; i++)
		json_fields(j, json_object(j, array, NULL), work_prediction_fields, &w->predictions[i]);
}

static void json_cycles(struct json *j, cJSON *parent, const struct cycle_fit *c)
{
	cJSON *object;
	cJSON *array;

	if (!c->known) {
		json_null(j, parent, "cycles");
		return;
	}
	object = json_object(j, parent, "cycles");
	json_fields(j, object, cycle_fields, c);
	array = json_array(j, object, "quarters");
	for (size_t i = 0; i < CYCLE_QUARTERS; i++)
		json_fields(j, json_object(j, array, NULL), cycle_quarter_fields, &c->quarters[i]);
}

/* What a report says of its target and of each process; phases have no source yet. */
static void json_entry(struct json *j, cJSON *object, const struct process_entry *p)
{
	cJSON *sites;

	json_verdict(j, json_object(j, object, "verdict"), &p->verdict);
	json_metrics(j, object, p->metrics);
	if (p->has_heap)
		json_heap(j, object, &p->heap);
	else
		json_null(j, object, "heap");
	if (p->has_runtime)
		json_runtime(j, object, &p->runtime);
	else
		json_null(j, object, "runtime");
	json_mappings(j, object, p->classes);
	sites = json_array(j, object, "sites");
	for (size_t i = 0; i < p->site_count; i++)
		json_site(j, sites, &p->sites[i]);
	json_work(j, object, &p->verdict.work);
	json_cycles(j, object, &p->verdict.cycles);
	json_array(j, object, "phases");
}

static void json_processes(struct json *j, cJSON *parent, const struct snapshot *s)
{
	cJSON *array = json_array(j, parent, "processes");

	for (size_t i = 0; i < s->process_count; i++) {
		const struct process_entry *p = &s->processes[i];
		cJSON *object = json_object(j, array, NULL);

		json_target(j, object, &p->target);
		json_u64(j, object, "parent", p->parent > 0 ? (uint64_t)p->parent : UNKNOWN_U64);
		json_null(j, object, "session"); /* one for the whole tree, above */
		json_null(j, object, "cost");
		json_entry(j, object, p);
	}
}

/* The rows go in as one ready text: 2,000 rows as nodes of a tree would take 5 MB of memory. */
static void json_series(struct json *j, cJSON *parent, const struct table *t, bool formatted)
{
	const char *between = formatted ? "\n[" : "[";
	cJSON *object = json_object(j, parent, "series");
	cleanup_str struct str rows = STR_INIT;
	size_t count = t->column_count > 0 ? t->row_count : 0;

	json_texts(j, object, "columns", t->columns, t->column_count);
	str_addc(&rows, '[');
	for (size_t r = 0; r < count; r++) {
		str_add(&rows, r > 0 ? "," : "");
		str_add(&rows, between);
		for (size_t c = 0; c < t->column_count; c++) {
			if (c > 0)
				str_addc(&rows, ',');
			report_add_number(&rows, t->cells[r * t->column_count + c]);
		}
		str_addc(&rows, ']');
	}
	str_addc(&rows, ']');
	j->failed |= rows.failed;
	json_raw(j, object, "rows", str_text(&rows));
}

static int render(const struct snapshot *snapshot, bool formatted, struct str *out)
{
	struct json j;
	cJSON *cost;
	int r;

	json_init(&j);
	json_text(&j, j.root, "schema", REPORT_SCHEMA);
	json_target(&j, j.root, &snapshot->main.target);
	json_session(&j, j.root, &snapshot->session);
	cost = json_object(&j, j.root, "cost");
	json_fields(&j, cost, cost_fields, &snapshot->cost);
	json_double(&j, j.root, "limit_bytes", snapshot->limit_bytes);
	json_entry(&j, j.root, &snapshot->main);
	if (snapshot->tree_pss.count > 0)
		json_metric(&j, j.root, "tree_pss_bytes", "bytes", &snapshot->tree_pss);
	else
		json_null(&j, j.root, "tree_pss_bytes");
	json_processes(&j, j.root, snapshot);
	json_series(&j, j.root, &snapshot->series, formatted);
	r = json_finish(&j, formatted, out);
	json_deinit(&j);
	return r;
}

int report_render_json(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	(void)style;
	return render(snapshot, true, out);
}

int report_render_ndjson(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	(void)style;
	return render(snapshot, false, out);
}
