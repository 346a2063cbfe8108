/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads a report back. The text may come from anywhere: size, depth and number of values are bounded before cJSON sees it (its
 * parser recurses, and takes 64 bytes for a value of two), every type and range is checked, and the place is named.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "json_read.h"

#define TEXT_BYTES_MAX ((size_t)256 << 20)
#define DEPTH_MAX 16 /* ours has 7 levels */
#define VALUES_MAX ((size_t)4 << 20)

static const char *text_or(const char *text, const char *fallback)
{
	return text ? text : fallback;
}

static void read_gap(struct reader *r, const cJSON *object, void *element)
{
	struct gap *gap = element;

	read_fields(r, object, gap_fields, gap);
	gap->rung = text_or(gap->rung, "");
	gap->reason = text_or(gap->reason, "");
}

static void read_evidence(struct reader *r, const cJSON *object, void *element)
{
	struct evidence *evidence = element;

	read_fields(r, object, evidence_fields, evidence);
	evidence->id = text_or(evidence->id, "");
	evidence->text = text_or(evidence->text, "");
}

static void read_action(struct reader *r, const cJSON *object, void *element)
{
	struct action *action = element;

	read_fields(r, object, action_fields, action);
	action->text = text_or(action->text, "");
}

static void read_arena(struct reader *r, const cJSON *object, void *element)
{
	read_fields(r, object, arena_fields, element);
}

static void read_size_class(struct reader *r, const cJSON *object, void *element)
{
	struct heap_size_class *class = element;

	read_fields(r, object, size_class_fields, class);
	/* reports from before blocks were followed */
	if (class->tracked_blocks == UINT32_MAX || class->freed_blocks == UINT32_MAX)
		class->tracked_blocks = class->freed_blocks = 0;
}

static void read_frame(struct reader *r, const cJSON *object, void *element)
{
	struct frame *frame = element;

	read_fields(r, object, frame_fields, frame);
	if (!frame->function || !*frame->function)
		frame->function = "unknown";
}

static void read_site(struct reader *r, const cJSON *object, void *element)
{
	struct site *site = element;

	read_fields(r, object, site_fields, site);
	site->frames = read_objects(r, object, "frames", sizeof(*site->frames), read_frame, &site->frame_count);
}

/* ---- parts ------------------------------------------------------------------------------------------------------------ */

static void read_named_part(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, named_part_fields, ret);
}

static void read_exit(struct reader *r, const cJSON *object, void *ret)
{
	struct target_info *t = ret;
	uint64_t code = read_u64(r, member(object, "code"), "code", 255, UNKNOWN_U64);

	t->exited = true;
	t->exit_code = code == UNKNOWN_U64 ? -1 : (int)code;
	t->exit_signal = (int)read_u64(r, member(object, "signal"), "signal", 127, 0);
}

static void read_target(struct reader *r, const cJSON *object, void *ret)
{
	struct target_info *t = ret;

	read_fields(r, object, target_fields, t);
	t->cmdline = read_texts(r, object, "cmdline", &t->cmdline_count);
	read_object(r, object, "exit", read_exit, t);
	read_object(r, object, "allocator", read_named_part, &t->allocator);
	read_object(r, object, "runtime", read_named_part, &t->runtime);
}

static void read_session(struct reader *r, const cJSON *object, void *ret)
{
	struct session_info *s = ret;

	read_fields(r, object, session_fields, s);
	s->rungs = read_texts(r, object, "rungs", &s->rung_count);
	s->gaps = read_objects(r, object, "gaps", sizeof(*s->gaps), read_gap, &s->gap_count);
}

static void read_cost(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, cost_fields, ret);
}

static void read_forecast(struct reader *r, const cJSON *object, void *ret)
{
	struct forecast *f = ret;

	read_fields(r, object, forecast_fields, f);
	f->known = true;
}

static void read_verdict(struct reader *r, const cJSON *object, void *ret)
{
	struct verdict *v = ret;

	read_fields(r, object, verdict_fields, v);
	v->summary = text_or(v->summary, "");
	v->evidence = read_objects(r, object, "evidence", sizeof(*v->evidence), read_evidence, &v->evidence_count);
	v->actions = read_objects(r, object, "actions", sizeof(*v->actions), read_action, &v->action_count);
	read_object(r, object, "forecast", read_forecast, &v->forecast);
}

static void read_prediction(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, work_prediction_fields, ret);
}

/* The first `max` objects of an array into a fixed one; what is behind them may be of a later release. Returns how many. */
static size_t read_fixed(struct reader *r, const cJSON *object, const char *key, size_t size, size_t max,
			 read_part *read, void *ret)
{
	size_t count;
	const void *elements = read_objects(r, object, key, size, read, &count);

	if (count > max)
		count = max;
	if (count > 0)
		memcpy(ret, elements, count * size);
	return count;
}

static void read_work(struct reader *r, const cJSON *object, void *ret)
{
	struct work_fit *w = ret;

	read_fields(r, object, work_fields, w);
	w->prediction_count = read_fixed(r, object, "predictions", sizeof(w->predictions[0]), WORK_PREDICTIONS,
					 read_prediction, w->predictions);
	w->known = true;
}

static void read_quarter(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, cycle_quarter_fields, ret);
}

static void read_cycles(struct reader *r, const cJSON *object, void *ret)
{
	struct cycle_fit *c = ret;

	read_fields(r, object, cycle_fields, c);
	for (size_t i = 0; i < CYCLE_QUARTERS; i++)
		c->quarters[i] = (struct cycle_quarter){ NAN, NAN };
	read_fixed(r, object, "quarters", sizeof(c->quarters[0]), CYCLE_QUARTERS, read_quarter, c->quarters);
	c->known = true;
}

static void read_summary(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, metric_fields, ret);
	if (((struct metric_summary *)ret)->count == UNKNOWN_U64) /* there are figures, so it was read */
		((struct metric_summary *)ret)->count = 1;
}

static void read_metrics(struct reader *r, const cJSON *object, void *ret)
{
	struct metric_summary *metrics = ret;

	for (size_t i = 0; i < METRIC_COUNT; i++)
		read_object(r, object, metric_table[i].name, read_summary, &metrics[i]);
}

static void read_fragmentation(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, heap_fragmentation_fields, ret);
}

static void read_walk(struct reader *r, const cJSON *object, void *ret)
{
	read_fields(r, object, heap_walk_fields, ret);
}

static void read_heap(struct reader *r, const cJSON *object, void *ret)
{
	struct heap_stats *h = ret;

	h->fragmentation = NAN;
	h->trimmable_bytes = h->pinned_bytes = UNKNOWN_U64;
	read_fields(r, object, heap_fields, h);
	read_object(r, object, "fragmentation", read_fragmentation, h);
	read_object(r, object, "walk", read_walk, h);
	h->arenas = read_objects(r, object, "arenas", sizeof(*h->arenas), read_arena, &h->arena_count);
	h->classes = read_objects(r, object, "size_classes", sizeof(*h->classes), read_size_class, &h->class_count);
}

static void read_runtime(struct reader *r, const cJSON *object, void *ret)
{
	struct runtime_stats *s = ret;
	const cJSON *figures = member_of(r, object, "figures", false);
	const cJSON *item = figures ? figures->child : NULL;
	size_t before;

	read_fields(r, object, runtime_fields, s);
	before = reader_enter(r, "figures", 0);
	s->figures = read_array(r, figures, sizeof(*s->figures), &s->figure_count);
	for (size_t i = 0; i < s->figure_count && item && r->status == 0; i++, item = item->next) {
		const char *name = arena_strdup(r->arena, item->string);

		if (!name)
			r->status = err_set(r->err, ENOMEM, "out of memory while reading a report");
		s->figures[i].name = text_or(name, "");
		s->figures[i].unit = report_figure_unit(s->figures[i].name);
		s->figures[i].value = read_double(r, cJSON_IsNull(item) ? NULL : item, "");
	}
	reader_leave(r, before);
}

static void read_totals(struct reader *r, const cJSON *object, void *ret)
{
	struct region_totals *t = ret;

	read_fields(r, object, mapping_fields, t);
	t->pss_file_bytes = t->pss_shmem_bytes = UNKNOWN_U64;
}

static void read_mappings(struct reader *r, const cJSON *object, void *ret)
{
	struct region_totals *classes = ret;

	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		read_object(r, object, region_class_names[i], read_totals, &classes[i]);
}

/* *p as snapshot_init() leaves it */
static void read_entry(struct reader *r, const cJSON *object, struct process_entry *p)
{
	if (!read_object(r, object, "target", read_target, &p->target))
		reader_fail(r, "target", "is missing");
	if (!read_object(r, object, "verdict", read_verdict, &p->verdict))
		reader_fail(r, "verdict", "is missing");
	read_object(r, object, "metrics", read_metrics, p->metrics);
	p->has_heap = read_object(r, object, "heap", read_heap, &p->heap);
	p->has_runtime = read_object(r, object, "runtime", read_runtime, &p->runtime);
	read_object(r, object, "mappings", read_mappings, p->classes);
	read_object(r, object, "work", read_work, &p->verdict.work);
	read_object(r, object, "cycles", read_cycles, &p->verdict.cycles);
	p->sites = read_objects(r, object, "sites", sizeof(*p->sites), read_site, &p->site_count);
}

static void read_process(struct reader *r, const cJSON *object, void *element)
{
	struct process_entry *p = element;
	struct snapshot blank;

	snapshot_init(&blank);
	*p = blank.main; /* what is unknown of a process; nothing of it is owned */
	snapshot_deinit(&blank);
	p->parent = (pid_t)read_u64(r, member(object, "parent"), "parent", INT32_MAX, 0);
	read_entry(r, object, p);
}

static void read_series(struct reader *r, const cJSON *object, void *ret)
{
	struct table *t = ret;
	const cJSON *rows = member_of(r, object, "rows", true);
	const cJSON *row = rows ? rows->child : NULL;
	double *cell;

	t->columns = read_texts(r, object, "columns", &t->column_count);
	/* Both counts are below VALUES_MAX; the arena checks the product and bounds it. */
	t->cells = t->column_count > 0 ? read_array(r, rows, t->column_count * sizeof(*t->cells), &t->row_count) : NULL;
	cell = t->cells;
	for (size_t i = 0; i < t->row_count && row && r->status == 0; i++, row = row->next) {
		const cJSON *item = cJSON_IsArray(row) ? row->child : NULL;
		size_t count = 0;

		for (; item && count < t->column_count; count++, item = item->next)
			*cell++ = read_double(r, cJSON_IsNull(item) ? NULL : item, "rows");
		if (item || count < t->column_count)
			reader_fail(r, "rows", "has a row that is not as long as 'columns'");
	}
}

/* ---- the document ----------------------------------------------------------------------------------------------------- */

/* Depth and number of values, outside of strings. */
static bool is_bounded(const char *text, size_t len)
{
	size_t depth = 0;
	size_t values = 1;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (quoted)
			continue;
		else if (c == '[' || c == '{')
			depth++;
		else if ((c == ']' || c == '}') && depth > 0)
			depth--;
		else if (c == ',')
			values++;
		if (depth > DEPTH_MAX || values > VALUES_MAX)
			return false;
	}
	return true;
}

static int parse_json(const char *text, size_t len, cJSON **ret, struct err *err)
{
	const char *end = text;
	cJSON *root;
	size_t at;

	if (len > TEXT_BYTES_MAX || !is_bounded(text, len))
		return err_set(err, EBADMSG, "not a memwatch report: too large or too deep");
	root = cJSON_ParseWithLengthOpts(text, len, &end, 0);
	at = end ? (size_t)(end - text) : 0;
	while (root && at < len && strchr(" \t\r\n", text[at]) && text[at] != '\0')
		at++;
	if (!root || at < len) {
		cJSON_Delete(root);
		return err_set(err, EBADMSG, "not a memwatch report: no valid JSON at byte %zu", at);
	}
	*ret = root;
	return 0;
}

static void read_document(struct reader *r, const cJSON *root, struct snapshot *s)
{
	const cJSON *schema = cJSON_GetObjectItemCaseSensitive(root, "schema");

	if (!cJSON_IsString(schema) || strcmp(schema->valuestring, REPORT_SCHEMA) != 0) {
		reader_fail(r, "schema", "is not \"" REPORT_SCHEMA "\"");
		return;
	}
	if (!read_object(r, root, "session", read_session, &s->session))
		reader_fail(r, "session", "is missing");
	if (!read_object(r, root, "cost", read_cost, &s->cost))
		reader_fail(r, "cost", "is missing");
	s->limit_bytes = read_double(r, member(root, "limit_bytes"), "limit_bytes");
	read_entry(r, root, &s->main);
	read_object(r, root, "tree_pss_bytes", read_summary, &s->tree_pss);
	s->processes = read_objects(r, root, "processes", sizeof(*s->processes), read_process, &s->process_count);
	read_object(r, root, "series", read_series, &s->series);
}

int report_parse(const char *text, size_t len, struct snapshot *ret, struct err *err)
{
	struct snapshot s;
	struct reader r = { .arena = &s.arena, .err = err };
	cJSON *root = NULL;
	int status = parse_json(text, len, &root, err);

	if (status < 0)
		return status;
	snapshot_init(&s);
	read_document(&r, root, &s);
	cJSON_Delete(root);
	if (r.status < 0)
		snapshot_deinit(&s);
	else
		*ret = s;
	return r.status;
}
