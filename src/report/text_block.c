/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The verdict block: what a person reads first, and often only. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/units.h"
#include "private.h"

#define WHERE_LINES 3
#define WHERE_FRAMES 4
#define FUNCTION_COLUMNS 60 /* C++ templates can be longer than a screen */

/* ---- paragraphs ------------------------------------------------------------------------------------------------------- */

void flow_begin(struct flow *f, struct str *out, const struct report_style *style, const char *head, size_t indent)
{
	*f = (struct flow){ out, style->width, indent, text_columns(head) };
	str_add(out, head);
}

void flow_add(struct flow *f, const char *separator, size_t keep, const char *item)
{
	size_t columns = text_columns(separator) + text_columns(item);

	if (f->width > 0 && f->column > f->indent && f->column + columns > f->width) {
		size_t head = strlen(separator) - keep;

		while (head > 0 && separator[head - 1] == ' ') /* no blanks at the end of a line */
			head--;
		str_addn(f->out, separator, head);
		str_addc(f->out, '\n');
		str_pad(f->out, ' ', f->indent);
		separator += strlen(separator) - keep;
		columns = f->indent + text_columns(separator) + text_columns(item);
		f->column = 0;
	}
	str_add(f->out, separator);
	str_add(f->out, item);
	f->column += columns;
}

void flow_end(struct flow *f)
{
	str_addc(f->out, '\n');
}

/* ---- class ------------------------------------------------------------------------------------------------------------ */

static const char *name_of(const char *const *names, uint32_t count, uint32_t value)
{
	return value < count ? names[value] : NULL;
}

void report_add_class(struct str *out, const struct verdict *v)
{
	const char *class = name_of(verdict_class_names, VERDICT_CLASS_COUNT, v->class);
	const char *why = name_of(verdict_kind_names, KIND_COUNT, v->kind);

	if (!why)
		why = name_of(verdict_cause_names, CAUSE_COUNT, v->cause);
	str_add(out, class ? class : "unknown");
	if (why)
		str_addf(out, " (%s)", why);
}

const char *report_class_color(const struct verdict *v, const struct report_style *style)
{
	if (!style->color)
		return "";
	switch (v->class) {
	case VERDICT_LEAK:
	case VERDICT_GROWTH:
		return "\033[1;31m";
	case VERDICT_STABLE:
	case VERDICT_WARMUP:
		return "\033[1;32m";
	default:
		return "\033[1;33m";
	}
}

static void add_headline(const struct verdict *v, const struct report_style *style, struct str *out)
{
	static const char *const places[WHERE_COUNT] = {
		[WHERE_HEAP] = "in the heap",      [WHERE_ANON] = "in anonymous mappings",
		[WHERE_FILE] = "in file mappings", [WHERE_SHMEM] = "in shared memory",
		[WHERE_STACK] = "in the stacks",   [WHERE_RUNTIME] = "in the runtime's heap",
	};
	const char *place = name_of(places, WHERE_COUNT, v->where);
	const char *color = report_class_color(v, style);

	str_add(out, "verdict: ");
	str_add(out, color);
	report_add_class(out, v);
	if (*color)
		str_add(out, COLOR_OFF);
	if (isfinite(v->confidence)) {
		str_add(out, ", confidence ");
		report_add_fixed(out, v->confidence, 2);
	}
	if (place)
		str_addf(out, ", %s", place);
	str_addc(out, '\n');
}

/* ---- evidence --------------------------------------------------------------------------------------------------------- */

static const char *metric_label(enum metric m)
{
	static const char *const labels[METRIC_COUNT] = {
		[METRIC_RSS] = "RSS",
		[METRIC_PSS] = "PSS",
		[METRIC_ANON] = "anonymous memory",
		[METRIC_FILE] = "file-backed memory",
		[METRIC_SHMEM] = "shared memory",
		[METRIC_SWAP] = "swap",
		[METRIC_STACK] = "stack memory",
		[METRIC_HEAP_IN_USE] = "in-use heap",
		[METRIC_HEAP_FREE] = "free heap",
		[METRIC_HEAP_MAPPED] = "mapped heap",
		[METRIC_RUNTIME_LIVE] = "the runtime's live memory",
		[METRIC_VIRTUAL] = "virtual size",
		[METRIC_CGROUP] = "the cgroup's memory",
	};

	if ((uint32_t)m >= METRIC_COUNT)
		return "memory";
	return labels[m] ? labels[m] : metric_table[m].name;
}

/* "in-use heap grows 1.02 MiB/s (95 %: 0.98 to 1.06)": for verdicts that bring no clause of their own. */
static void add_trend(struct str *out, const struct verdict *v)
{
	const struct interval *i = &v->slope_per_s;
	struct scale s = scale_bytes(i->value);
	double value = i->value / s.divisor;
	int decimals = s.divisor > 1 ? report_decimals(value) : 0;
	bool bounded = isfinite(i->low) && isfinite(i->high);
	const char *verb = i->value < 0 ? "falls" : "grows";
	double sign = i->value < 0 ? -1 : 1;

	str_add(out, metric_label(v->judged));
	if (i->value == 0 || (bounded && i->low <= 0 && i->high >= 0)) {
		str_add(out, " is flat");
		return;
	}
	str_addf(out, " %s ", verb);
	report_add_fixed(out, fabs(value), decimals);
	str_addf(out, " %s/s", s.unit);
	if (!bounded)
		return;
	str_add(out, " (95 %: ");
	report_add_fixed(out, sign * (sign > 0 ? i->low : i->high) / s.divisor, decimals);
	str_add(out, " to ");
	report_add_fixed(out, sign * (sign > 0 ? i->high : i->low) / s.divisor, decimals);
	str_addc(out, ')');
}

enum evidence_line { LINE_NONE, LINE_LEAD, LINE_FOR, LINE_EXCLUDED, LINE_AGAINST };

/* Statistics behind the other clauses, and what other lines of the block say: left to the list in the full report. */
static bool is_detail(const char *id)
{
	static const char *const ids[] = { "trend-gate", "shape", "new-maximum", "limit", "startup", "work" };

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		if (id && strcmp(id, ids[i]) == 0)
			return true;
	return false;
}

static enum evidence_line evidence_line_of(const struct evidence *e, bool has_lead)
{
	if (!e->text || is_detail(e->id))
		return LINE_NONE;
	if (e->against)
		return LINE_AGAINST;
	if (strncmp(e->text, "not ", strlen("not ")) == 0)
		return LINE_EXCLUDED;
	return has_lead ? LINE_FOR : LINE_LEAD;
}

/* Clauses of one kind, joined; nothing where there is none. Whether there was one. */
static bool add_evidence_line(const struct verdict *v, enum evidence_line line, const struct report_style *style,
			      struct str *out)
{
	const char *head = line == LINE_AGAINST ? "  but:    " : "  ";
	cleanup_str struct str text = STR_INIT;
	bool has_lead = false;
	bool begun = false;
	struct flow f;

	for (size_t i = 0; i < v->evidence_count; i++) {
		enum evidence_line found = evidence_line_of(&v->evidence[i], has_lead);

		has_lead |= found == LINE_LEAD;
		if (found != line)
			continue;
		str_reset(&text);
		report_add_clean(&text, v->evidence[i].text, style->unicode);
		if (!begun)
			flow_begin(&f, out, style, head, line == LINE_AGAINST ? BLOCK_INDENT : 4);
		flow_add(&f, begun ? "; " : "", 0, str_text(&text));
		begun = true;
	}
	if (begun)
		flow_end(&f);
	return begun;
}

static void add_evidence(const struct verdict *v, const struct report_style *style, struct str *out)
{
	if (!add_evidence_line(v, LINE_LEAD, style, out) && (isfinite(v->slope_per_s.value) || v->summary)) {
		str_add(out, "  ");
		if (isfinite(v->slope_per_s.value))
			add_trend(out, v);
		else
			report_add_clean(out, v->summary, style->unicode);
		str_addc(out, '\n');
	}
	add_evidence_line(v, LINE_FOR, style, out);
	add_evidence_line(v, LINE_EXCLUDED, style, out);
	add_evidence_line(v, LINE_AGAINST, style, out);
}

/* ---- where ------------------------------------------------------------------------------------------------------------ */

/* Libraries whose innermost frames say how memory was taken, not who wanted it. */
static bool is_allocator_module(const char *module)
{
	static const char *const prefixes[] = { "libc.so",     "libc-2.",     "libc.musl",    "ld-musl",
						"ld-linux",    "ld-2.",       "libstdc++.so", "libc++.so",
						"libc++abi",   "libpthread",  "libjemalloc",  "libtcmalloc",
						"libmimalloc", "libsnmalloc", "librpmalloc" };
	const char *name = report_basename(module);

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++)
		if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0)
			return true;
	return false;
}

/* The same in a static binary, where the module is the program's own. */
static bool is_allocator_function(const char *function)
{
	static const char *const names[] = { "malloc",
					     "calloc",
					     "realloc",
					     "reallocarray",
					     "memalign",
					     "posix_memalign",
					     "aligned_alloc",
					     "brk",
					     "__brk",
					     "sbrk",
					     "__sbrk",
					     "mmap",
					     "mmap64",
					     "__mmap",
					     "__mmap64",
					     "mremap",
					     "sysmalloc",
					     "sysmalloc_mmap",
					     "_int_malloc",
					     "_int_realloc",
					     "_int_memalign",
					     "_mid_memalign",
					     "__libc_malloc",
					     "__libc_calloc",
					     "__libc_realloc",
					     "__libc_memalign",
					     "__default_morecore",
					     "__glibc_morecore",
					     "grow_heap",
					     "new_heap",
					     "malloc_consolidate",
					     "systrim" };

	if (strncmp(function, "operator new", strlen("operator new")) == 0)
		return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(function, names[i]) == 0)
			return true;
	return false;
}

size_t site_first_shown(const struct site *s)
{
	size_t i = 0;

	while (i < s->frame_count && ((s->frames[i].module && is_allocator_module(s->frames[i].module)) ||
				      is_allocator_function(s->frames[i].function)))
		i++;
	return i < s->frame_count ? i : 0;
}

const char *site_end_note(const struct site *s)
{
	static const char *const notes[FRAME_NOTE_COUNT] = {
		[FRAME_NO_CFI] = "no unwind information",
		[FRAME_TRUNCATED] = "truncated",
		[FRAME_BAD_POINTER] = "broken stack",
	};

	return s->frame_count > 0 ? name_of(notes, FRAME_NOTE_COUNT, s->frames[s->frame_count - 1].note) : NULL;
}

void report_add_place(struct str *out, const struct frame *f, bool whole_path, bool unicode)
{
	bool nameless = f->note == FRAME_NO_SYMBOL || f->note == FRAME_NO_MODULE || strstr(f->function, "+0x");
	const char *path = f->file && f->line > 0 ? f->file : f->module;

	if (!path || (path == f->module && nameless))
		return;
	report_add_clean(out, whole_path ? path : report_basename(path), unicode);
	if (path == f->module)
		str_addf(out, "+0x%" PRIx64, f->offset);
	else
		str_addf(out, ":%" PRIu32, f->line);
}

static void add_where(const struct site *s, const struct report_style *style, struct str *out)
{
	size_t first = site_first_shown(s);
	size_t end = s->frame_count - first > WHERE_FRAMES ? first + WHERE_FRAMES : s->frame_count;
	const char *note = end == s->frame_count ? site_end_note(s) : NULL;
	cleanup_str struct str text = STR_INIT;
	struct flow f;

	if (isfinite(s->share))
		str_addf(&text, "  where: %3d %%  ", (int)(fmin(fmax(s->share, 0), 1) * 100 + 0.5));
	else
		str_add(&text, "  where:   ? %  ");
	flow_begin(&f, out, style, str_text(&text), BLOCK_INDENT);
	for (size_t i = first; i < end; i++) {
		str_reset(&text);
		report_add_cut(&text, s->frames[i].function, style->width > 0 ? FUNCTION_COLUMNS : 0, style->unicode);
		str_add(&text, "  ");
		report_add_place(&text, &s->frames[i], false, style->unicode);
		while (text.len > 0 && !text.failed && text.data[text.len - 1] == ' ')
			text.data[--text.len] = '\0';
		flow_add(&f, i > first ? "  <- " : "", i > first ? 3 : 0, str_text(&text));
	}
	if (note) {
		str_reset(&text);
		str_addf(&text, "%s(%s)", style->unicode ? "…" : "...", note);
		flow_add(&f, "  <- ", 3, str_text(&text));
	}
	flow_end(&f);
}

/* ---- limit, cost, what to do ------------------------------------------------------------------------------------------ */

static void add_scaled(struct str *out, double value, const struct scale *s)
{
	value /= s->divisor;
	report_add_fixed(out, value, value < 9.95 && s->divisor > 1 ? 1 : 0);
}

/* When the limit is reached; the interval is of 90 %. Where the slope may be nothing there is no latest time (high is infinite). */
static void add_eta(const struct interval *eta, struct str *out)
{
	struct scale time = scale_seconds(eta->value);

	if (!isfinite(eta->high) && isfinite(eta->low)) {
		time = scale_seconds(eta->low);
		str_add(out, ", not before ");
		add_scaled(out, eta->low, &time);
		str_addf(out, " %s", time.unit);
		return;
	}
	if (!isfinite(eta->value)) {
		str_add(out, ", not reached at this rate");
		return;
	}
	if (eta->value <= 0 && eta->high <= 0) {
		str_add(out, ", reached already");
		return;
	}
	str_add(out, " in ");
	add_scaled(out, eta->value, &time);
	str_addf(out, " %s", time.unit);
	if (isfinite(eta->low)) {
		str_add(out, " (90 %: ");
		add_scaled(out, eta->low, &time);
		str_add(out, " to ");
		add_scaled(out, eta->high, &time);
		str_addf(out, " %s)", time.unit);
	}
}

static void add_limit(const struct forecast *f, const struct report_style *style, struct str *out)
{
	struct scale bytes = scale_bytes((double)f->limit_bytes);

	str_add(out, "  limit:  ");
	if (f->limit_bytes == UNKNOWN_U64) {
		str_add(out, "unknown");
	} else {
		add_scaled(out, (double)f->limit_bytes, &bytes);
		str_addf(out, " %s", bytes.unit);
	}
	if (f->limit_source) {
		str_add(out, " (");
		report_add_clean(out, f->limit_source, style->unicode);
		str_addc(out, ')');
	}
	add_eta(&f->eta_s, out);
	str_addc(out, '\n');
}

static void add_cost(const struct cost *c, struct str *out)
{
	str_add(out, "  cost:   ");
	report_add_fixed(out, c->cpu_percent, 1);
	str_add(out, " % of one core");
	if (c->stops == 0) {
		str_add(out, ", no stops");
	} else if (c->stops != UNKNOWN_U64) {
		str_addf(out, ", %" PRIu64 " stop%s", c->stops, c->stops == 1 ? "" : "s");
		if (c->stopped_ns_max != UNKNOWN_U64) {
			str_add(out, ", longest ");
			units_add_duration(out, (double)c->stopped_ns_max / (double)NS_PER_S);
		}
	}
	str_addc(out, '\n');
}

static void add_action(const struct action *a, const struct report_style *style, struct str *out)
{
	cleanup_str struct str text = STR_INIT;
	struct flow f;

	flow_begin(&f, out, style, "  do:     ", BLOCK_INDENT);
	report_add_clean(&text, a->text, style->unicode);
	flow_add(&f, "", 0, str_text(&text));
	if (a->command) {
		str_reset(&text);
		report_add_clean(&text, a->command, style->unicode);
		flow_add(&f, ": ", 0, str_text(&text));
	}
	flow_end(&f);
}

static void add_gap(const struct gap *g, const struct report_style *style, struct str *out)
{
	cleanup_str struct str text = STR_INIT;
	struct flow f;

	flow_begin(&f, out, style, "  not seen: ", BLOCK_INDENT);
	if (g->rung) {
		report_add_clean(&text, g->rung, style->unicode);
		str_add(&text, ": ");
	}
	report_add_clean(&text, g->reason, style->unicode);
	flow_add(&f, "", 0, str_text(&text));
	if (g->remedy) {
		str_reset(&text);
		report_add_clean(&text, g->remedy, style->unicode);
		flow_add(&f, "; ", 0, str_text(&text));
	}
	flow_end(&f);
}

void report_add_findings(const struct process_entry *p, const struct report_style *style, struct str *out)
{
	add_headline(&p->verdict, style, out);
	add_evidence(&p->verdict, style, out);
	for (size_t i = 0; i < p->site_count && i < WHERE_LINES; i++)
		if (p->sites[i].frame_count > 0)
			add_where(&p->sites[i], style, out);
	report_add_work(&p->verdict.work, style, out);
	report_add_cycles(&p->verdict.cycles, style, out);
	if (p->verdict.forecast.known)
		add_limit(&p->verdict.forecast, style, out);
}

int report_verdict_text(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	const struct verdict *v = &snapshot->main.verdict;

	report_add_findings(&snapshot->main, style, out);
	if (!snapshot->main.target.source) /* a recording cost its target nothing */
		add_cost(&snapshot->cost, out);
	for (size_t i = 0; i < v->action_count; i++)
		add_action(&v->actions[i], style, out);
	for (size_t i = 0; i < snapshot->session.gap_count; i++)
		add_gap(&snapshot->session.gaps[i], style, out);
	return str_status(out);
}
