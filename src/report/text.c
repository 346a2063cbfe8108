/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The text report: a header, the verdict block, then the figures behind it. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "formats.h"
#include "memwatch/base/units.h"
#include "private.h"

#define CMDLINE_COLUMNS 160
#define NAME_COLUMNS 22
#define CELL_COLUMNS 12
#define CHILD_FINDINGS 5

static void add_cell(struct str *out, const struct str *cell, size_t columns)
{
	size_t used = text_columns(str_text(cell));

	str_pad(out, ' ', used < columns ? columns - used : 1);
	str_add(out, str_text(cell));
}

/* Right-aligned; "-" for what is not known. */
static void add_bytes_cell(struct str *out, double bytes)
{
	cleanup_str struct str cell = STR_INIT;

	if (isfinite(bytes))
		units_add_bytes(&cell, bytes);
	else
		str_add(&cell, "-");
	add_cell(out, &cell, CELL_COLUMNS);
}

static double u64_double(uint64_t value)
{
	return value == UNKNOWN_U64 ? NAN : (double)value;
}

/* In the metric's unit, with a sign where `sign` is set. */
static void add_value(struct str *out, enum metric m, double value, bool sign)
{
	bool bytes = strcmp(metric_table[m].unit, "bytes") == 0;

	if (!isfinite(value)) {
		str_addc(out, '-');
		return;
	}
	if (sign && value > 0)
		str_addc(out, '+');
	if (bytes)
		units_add_bytes(out, value);
	else
		report_add_fixed(out, value, value == trunc(value) ? 0 : 2);
	if (strcmp(metric_table[m].unit, "s") == 0)
		str_add(out, " s");
}

/* ---- header ----------------------------------------------------------------------------------------------------------- */

static void add_header(const struct snapshot *s, const struct report_style *style, struct str *out)
{
	const struct target_info *t = &s->main.target;
	cleanup_str struct str command = STR_INIT;
	size_t columns = CMDLINE_COLUMNS;

	str_add(out, "memwatch: ");
	if (t->id.pid > 0)
		str_addf(out, "pid %d, ", (int)t->id.pid);
	report_add_clean(out, t->comm ? t->comm : "unknown", style->unicode);
	for (size_t i = 0; i < t->cmdline_count && command.len < 4 * CMDLINE_COLUMNS; i++) {
		str_add(&command, i > 0 ? " " : "");
		str_add(&command, t->cmdline[i] ? t->cmdline[i] : "");
	}
	if (command.len > 0)
		str_add(out, ": ");
	report_add_cut(out, str_text(&command), columns, style->unicode);
	str_addc(out, '\n');
}

static void add_end(const struct target_info *t, struct str *out)
{
	if (!t->exited)
		str_add(out, "still running");
	else if (t->exit_signal > 0)
		str_addf(out, "killed by signal %d", t->exit_signal);
	else if (t->exit_code >= 0)
		str_addf(out, "ended with status %d", t->exit_code);
	else
		str_add(out, "ended");
}

static void add_part(struct str *out, const char *what, const struct named_part *p, bool unicode)
{
	if (!p->name)
		return;
	str_addf(out, ", %s ", what);
	report_add_clean(out, p->name, unicode);
	if (p->version) {
		str_addc(out, ' ');
		report_add_clean(out, p->version, unicode);
	}
}

static void add_session(const struct snapshot *s, const struct report_style *style, struct str *out)
{
	const struct session_info *i = &s->session;

	str_add(out, "  watched for ");
	units_add_duration(out, i->duration_s);
	if (i->samples != UNKNOWN_U64)
		str_addf(out, ", %" PRIu64 " samples", i->samples);
	if (isfinite(i->interval_ms)) {
		str_add(out, " every ");
		units_add_duration(out, i->interval_ms / 1e3);
	}
	add_part(out, "allocator", &s->main.target.allocator, style->unicode);
	add_part(out, "runtime", &s->main.target.runtime, style->unicode);
	str_add(out, ", ");
	add_end(&s->main.target, out);
	str_addc(out, '\n');
}

static void add_figure(struct str *out, double value, const char *unit, bool unicode)
{
	if (unit && strcmp(unit, "bytes") == 0) {
		units_add_bytes(out, value);
	} else if (unit && strcmp(unit, "bytes/s") == 0) {
		units_add_bytes(out, value);
		str_add(out, "/s");
	} else {
		report_add_fixed(out, value, value == trunc(value) ? 0 : 2);
		str_add(out, unit ? " " : "");
		report_add_clean(out, unit, unicode);
	}
}

/* All of it: the block above shows what a person needs. */
static void add_evidence_list(const struct verdict *v, const struct report_style *style, struct str *out)
{
	if (v->evidence_count > 0)
		str_add(out, "\nevidence (+ for, - against the verdict)\n");
	for (size_t i = 0; i < v->evidence_count; i++) {
		const struct evidence *e = &v->evidence[i];

		str_addf(out, "  %c ", e->against ? '-' : '+');
		report_add_clean(out, e->id, style->unicode);
		str_add(out, ": ");
		report_add_clean(out, e->text, style->unicode);
		if (isfinite(e->value) && isfinite(e->threshold)) {
			str_add(out, " [");
			add_figure(out, e->value, e->unit, style->unicode);
			str_add(out, ", threshold ");
			add_figure(out, e->threshold, e->unit, style->unicode);
			str_addc(out, ']');
		}
		str_addc(out, '\n');
	}
}

/* ---- metrics ---------------------------------------------------------------------------------------------------------- */

static void add_title(struct str *out, const char *name, const char *const *columns, size_t count)
{
	str_addc(out, '\n');
	str_add(out, name);
	str_pad(out, ' ', NAME_COLUMNS > strlen(name) ? NAME_COLUMNS - strlen(name) : 0);
	for (size_t i = 0; i < count; i++) {
		str_pad(out, ' ', CELL_COLUMNS - strlen(columns[i]));
		str_add(out, columns[i]);
	}
	str_addc(out, '\n');
}

static void add_row_name(struct str *out, const char *name)
{
	str_addf(out, "  %-*s", NAME_COLUMNS - 2, name);
}

static void add_metric(struct str *out, enum metric m, const struct metric_summary *s)
{
	const double values[] = { s->first, s->last, s->min, s->max, s->last - s->first, s->slope_per_s.value };
	cleanup_str struct str cell = STR_INIT;

	add_row_name(out, metric_table[m].name);
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		str_reset(&cell);
		add_value(&cell, m, values[i], i >= 4);
		add_cell(out, &cell, CELL_COLUMNS);
	}
	str_addc(out, '\n');
}

/* Those that a person looks at; the JSON has them all. */
static void add_metrics(const struct process_entry *p, struct str *out)
{
	static const enum metric shown[] = { METRIC_RSS,         METRIC_PSS,         METRIC_ANON,
					     METRIC_FILE,        METRIC_SHMEM,       METRIC_SWAP,
					     METRIC_STACK,       METRIC_HEAP_IN_USE, METRIC_HEAP_FREE,
					     METRIC_HEAP_MAPPED, METRIC_HEAP_BLOCKS, METRIC_RUNTIME_LIVE,
					     METRIC_THREADS,     METRIC_FDS,         METRIC_MINOR_FAULTS,
					     METRIC_CPU,         METRIC_WORK };
	static const char *const columns[] = { "first", "last", "min", "max", "growth", "per second" };
	bool titled = false;

	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const struct metric_summary *m = &p->metrics[shown[i]];

		if (m->count == 0 || (m->min == 0 && m->max == 0))
			continue;
		if (!titled)
			add_title(out, "metrics", columns, sizeof(columns) / sizeof(columns[0]));
		titled = true;
		add_metric(out, shown[i], m);
	}
	if (p->target.peak_rss_bytes != UNKNOWN_U64) {
		add_row_name(out, "peak RSS");
		add_bytes_cell(out, (double)p->target.peak_rss_bytes);
		str_add(out, "  as the kernel counts it\n");
	}
}

/* ---- heap ------------------------------------------------------------------------------------------------------------- */

static void add_heap_row(struct str *out, const char *name, uint64_t bytes, uint64_t blocks)
{
	add_row_name(out, name);
	add_bytes_cell(out, u64_double(bytes));
	if (blocks != UNKNOWN_U64)
		str_addf(out, "  %12" PRIu64 " blocks", blocks);
	str_addc(out, '\n');
}

/* What part of RSS the allocator's figures explain. */
static void add_split(const struct process_entry *p, struct str *out)
{
	double rss = p->metrics[METRIC_RSS].count > 0 ? p->metrics[METRIC_RSS].last : NAN;
	double in_use = u64_double(p->heap.in_use_bytes);
	double resident = u64_double(p->heap.free_resident_bytes);
	double rest = rss - in_use - resident;

	if (!isfinite(rest) || rss <= 0 || rest < 0)
		return;
	str_add(out, "  of RSS: ");
	report_add_fixed(out, in_use / rss * 100, 0);
	str_add(out, " % in use, ");
	report_add_fixed(out, resident / rss * 100, 0);
	str_add(out, " % free inside the allocator, ");
	report_add_fixed(out, rest / rss * 100, 0);
	str_add(out, " % everything else\n");
}

static void add_walk(const struct heap_stats *h, struct str *out)
{
	if (h->complete && h->torn_windows == 0)
		return;
	str_addf(out,
		 "  this walk was %s: %" PRIu32 " windows torn, %" PRIu32 " read again, %" PRIu32 " resynchronised",
		 h->complete ? "complete" : "not complete", h->torn_windows, h->reread_windows, h->resyncs);
	if (h->skipped_bytes != UNKNOWN_U64) {
		str_add(out, ", ");
		units_add_bytes(out, (double)h->skipped_bytes);
		str_add(out, " skipped");
	}
	str_addc(out, '\n');
}

static void add_heap(const struct process_entry *p, const struct report_style *style, struct str *out)
{
	const struct heap_stats *h = &p->heap;

	str_add(out, "\nheap");
	if (h->source) {
		str_add(out, " (found by ");
		report_add_clean(out, h->source, style->unicode);
		str_addc(out, ')');
	}
	str_addc(out, '\n');
	add_heap_row(out, "in use", h->in_use_bytes, h->in_use_blocks);
	add_heap_row(out, "  of it mmapped", h->mmapped_bytes, h->mmapped_blocks);
	add_heap_row(out, "free", h->free_bytes, h->free_blocks);
	add_heap_row(out, "  of it resident", h->free_resident_bytes, UNKNOWN_U64);
	add_heap_row(out, "  in tcache", h->tcache_bytes, h->tcache_blocks);
	add_heap_row(out, "  in fastbins", h->fastbin_bytes, h->fastbin_blocks);
	add_heap_row(out, "  at the top", h->top_bytes, UNKNOWN_U64);
	add_heap_row(out, "  trimmable", h->trimmable_bytes, UNKNOWN_U64);
	add_heap_row(out, "  pinned", h->pinned_bytes, UNKNOWN_U64);
	add_heap_row(out, "overhead", h->overhead_bytes, UNKNOWN_U64);
	add_row_name(out, "mapped");
	add_bytes_cell(out, u64_double(h->mapped_bytes));
	str_addf(out, "  in %zu arena%s, fragmentation ", h->arena_count, h->arena_count == 1 ? "" : "s");
	report_add_fixed(out, h->fragmentation, 2);
	str_addc(out, '\n');
	add_split(p, out);
	add_walk(h, out);
	report_add_size_classes(h, out);
}

static void add_mappings(const struct process_entry *p, struct str *out)
{
	static const char *const columns[] = { "count", "size", "RSS", "PSS", "anonymous", "swap" };
	bool titled = false;

	for (size_t i = 0; i < REGION_CLASS_COUNT; i++) {
		const struct region_totals *t = &p->classes[i];
		cleanup_str struct str count = STR_INIT;

		if (t->rss_bytes == UNKNOWN_U64 || t->count == 0)
			continue;
		if (!titled)
			add_title(out, "mappings", columns, sizeof(columns) / sizeof(columns[0]));
		titled = true;
		add_row_name(out, region_class_names[i]);
		str_addf(&count, "%" PRIu64, t->count);
		add_cell(out, &count, CELL_COLUMNS);
		add_bytes_cell(out, u64_double(t->size_bytes));
		add_bytes_cell(out, (double)t->rss_bytes);
		add_bytes_cell(out, u64_double(t->pss_bytes));
		add_bytes_cell(out, u64_double(t->anon_bytes));
		add_bytes_cell(out, u64_double(t->swap_bytes));
		str_addc(out, '\n');
	}
}

/* ---- sites ------------------------------------------------------------------------------------------------------------ */

static void add_frame(const struct frame *f, const struct report_style *style, struct str *out)
{
	size_t before;

	str_add(out, "        ");
	report_add_clean(out, f->function, style->unicode);
	str_add(out, "  ");
	before = out->len;
	report_add_place(out, f, true, style->unicode);
	if (out->len == before && before >= 2 && !out->failed) {
		out->len -= 2;
		out->data[out->len] = '\0';
	}
	str_add(out, f->inlined ? "  (inlined)\n" : "\n");
}

static bool has_bounds(const struct site *s)
{
	return s->bytes != UNKNOWN_U64 && isfinite(s->bytes_low) && isfinite(s->bytes_high);
}

/* " (58.1 to 61.9)", in the unit of the bytes */
static void add_site_bounds(const struct site *s, struct str *out)
{
	struct scale scale = scale_bytes((double)s->bytes);
	int decimals = scale.divisor > 1 ? report_decimals((double)s->bytes / scale.divisor) : 0;

	if (!has_bounds(s))
		return;
	str_add(out, " (");
	report_add_fixed(out, s->bytes_low / scale.divisor, decimals);
	str_add(out, " to ");
	report_add_fixed(out, s->bytes_high / scale.divisor, decimals);
	str_addc(out, ')');
}

static void add_site(const struct site *s, size_t rank, const struct report_style *style, struct str *out)
{
	const char *note = site_end_note(s);

	str_addf(out, "  %zu. ", rank);
	units_add_bytes(out, u64_double(s->bytes));
	add_site_bounds(s, out);
	if (isfinite(s->share)) {
		str_add(out, ", ");
		report_add_fixed(out, s->share * 100, 1);
		str_add(out, " %");
	}
	if (isfinite(s->bytes_per_s)) {
		str_add(out, ", ");
		units_add_bytes(out, s->bytes_per_s);
		str_add(out, "/s");
	}
	if (isfinite(s->survival)) {
		str_add(out, ", ");
		report_add_fixed(out, s->survival * 100, 0);
		str_add(out, " % survived");
	}
	if (isfinite(s->age_s)) {
		str_add(out, ", median age ");
		units_add_duration(out, s->age_s);
	}
	if (s->source) {
		str_add(out, ", by ");
		report_add_clean(out, s->source, style->unicode);
	}
	str_add(out, s->exact ? "\n" : ", statistical\n");
	for (size_t i = 0; i < s->frame_count; i++)
		add_frame(&s->frames[i], style, out);
	if (note)
		str_addf(out, "        %s(%s)\n", style->unicode ? "…" : "...", note);
}

static void add_sites(const struct process_entry *p, const struct report_style *style, struct str *out)
{
	bool bounded = false;

	for (size_t i = 0; i < p->site_count; i++)
		bounded |= has_bounds(&p->sites[i]);
	if (p->site_count > 0)
		str_addf(out, "\nsites, by surviving bytes%s\n", bounded ? ", with intervals of 95 %" : "");
	for (size_t i = 0; i < p->site_count; i++)
		add_site(&p->sites[i], i + 1, style, out);
}

/* ---- processes -------------------------------------------------------------------------------------------------------- */

static void add_process(const struct process_entry *p, const struct report_style *style, struct str *out)
{
	static const enum metric metrics[] = { METRIC_RSS, METRIC_PSS, METRIC_HEAP_IN_USE };
	cleanup_str struct str name = STR_INIT;
	cleanup_str struct str pid = STR_INIT;
	size_t used;

	report_add_cut(&name, p->target.comm ? p->target.comm : "unknown", NAME_COLUMNS - 3, style->unicode);
	used = text_columns(str_text(&name));
	str_addf(out, "  %s", str_text(&name));
	str_pad(out, ' ', NAME_COLUMNS - 2 - used);
	str_addf(&pid, "%d", (int)p->target.id.pid);
	add_cell(out, &pid, CELL_COLUMNS);
	str_reset(&pid);
	if (p->parent > 0)
		str_addf(&pid, "%d", (int)p->parent);
	else
		str_addc(&pid, '-');
	add_cell(out, &pid, CELL_COLUMNS);
	for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
		const struct metric_summary *m = &p->metrics[metrics[i]];

		add_bytes_cell(out, m->count > 0 ? m->last : NAN);
	}
	str_add(out, "  ");
	report_add_class(out, &p->verdict);
	str_add(out, p->target.exited ? ", " : "");
	if (p->target.exited)
		add_end(&p->target, out);
	str_addc(out, '\n');
}

static bool is_finding(const struct verdict *v)
{
	return v->class == VERDICT_LEAK || v->class == VERDICT_GROWTH || v->class == VERDICT_RETENTION;
}

/* The block at the top is the target's; what was found in its children must not hide in a table. */
static void add_child_findings(const struct snapshot *s, const struct report_style *style, struct str *out)
{
	size_t shown = 0;

	for (size_t i = 1; i < s->process_count && shown < CHILD_FINDINGS; i++) {
		const struct process_entry *p = &s->processes[i];

		if (!is_finding(&p->verdict))
			continue;
		str_addf(out, "\nprocess %d, ", (int)p->target.id.pid);
		report_add_clean(out, p->target.comm ? p->target.comm : "unknown", style->unicode);
		str_addc(out, '\n');
		report_add_findings(p, style, out);
		shown++;
	}
}

static void add_processes(const struct snapshot *s, const struct report_style *style, struct str *out)
{
	static const char *const columns[] = { "pid", "parent", "RSS", "PSS", "in use" };

	if (s->process_count > 0)
		add_title(out, "processes", columns, sizeof(columns) / sizeof(columns[0]));
	for (size_t i = 0; i < s->process_count; i++)
		add_process(&s->processes[i], style, out);
	if (s->tree_pss.count > 0) {
		str_add(out, "  the tree (PSS, shared pages once): ");
		units_add_bytes(out, s->tree_pss.first);
		str_add(out, " at first, ");
		units_add_bytes(out, s->tree_pss.last);
		str_add(out, " at last, ");
		units_add_bytes(out, s->tree_pss.max);
		str_add(out, " at most\n");
	}
}

int report_render_text(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	const struct process_entry *p = &snapshot->main;
	int r;

	if (p->target.source) {
		r = report_recording_head(snapshot, style, out);
	} else {
		add_header(snapshot, style, out);
		add_session(snapshot, style, out);
		r = str_status(out);
	}
	str_addc(out, '\n');
	if (r >= 0)
		r = report_verdict_text(snapshot, style, out);
	if (r < 0)
		return r;
	add_evidence_list(&p->verdict, style, out);
	add_metrics(p, out);
	if (p->has_heap)
		add_heap(p, style, out);
	if (p->has_runtime)
		report_add_runtime(p, style, out);
	add_mappings(p, out);
	add_sites(p, style, out);
	add_processes(snapshot, style, out);
	add_child_findings(snapshot, style, out);
	return str_status(out);
}
