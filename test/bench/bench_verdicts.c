/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How good the verdicts are: labelled series, of a set that is never used for tuning, through the engine's public interface.
 *
 *     bench_verdicts [--tuning] [--seeds N] [--kind NAME] [--dump DIR] [--quick]
 *
 *     --tuning       the set that may be looked at while the engine is worked on
 *     --seeds N      series of each kind, default 60; three times as many of the kinds that must never surely be a leak,
 *                    for that count alone
 *     --kind NAME    that kind alone, with every wrong verdict
 *     --dump DIR     write the series as CSV, the label in the name
 *     --quick        leave out delay and speed
 *
 * Exit status 1 if a bound was missed.
 */
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "verdicts.h"

#define SEEDS 60
#define SURE_FACTOR 3
#define DETECT_POINTS 300 /* as in the published trials; Mann-Kendall takes all pairs */
#define ARENA_BYTES 16384

struct options {
	enum labelled_set set;
	uint64_t seeds;
	enum labelled_kind kind; /* LABELLED_KIND_COUNT: all */
	const char *dump;
	bool quick;
};

static const char *missing_of(const struct labelled_plan *p)
{
	if (p->gap_width > 0)
		return "a gap";
	if (p->drop > 0)
		return "samples dropped";
	return p->jitter > 0 ? "irregular" : "evenly sampled";
}

static void run_detectors(const struct labelled *l, bool ret[DETECTOR_COUNT])
{
	struct point *points, *every;
	size_t count = labelled_points(l, &points), stride = count / DETECT_POINTS + 1, n = 0;

	every = points;
	for (size_t i = 0; i < count; i += stride)
		every[n++] = points[i];
	detect(every, n, ret);
	free(points);
}

static void print_wrong(const struct outcome *o, const struct verdict *v)
{
	printf("  seed %llu: %s (%.2f), %s: %s\n", (unsigned long long)o->seed, verdict_class_names[v->class],
	       v->confidence, o->missing, v->summary);
}

static void judge(const struct labelled *l, uint64_t seed, bool tell, struct outcome *ret)
{
	struct outcome o = { .kind = l->kind, .seed = seed, .label = l->label, .crossing_s = l->crossing_s };
	struct arena arena;
	struct verdict v;

	arena_init(&arena, ARENA_BYTES, 0);
	if (verdict_judge(&l->input, &arena, &v) < 0) {
		fprintf(stderr, "bench_verdicts: out of memory\n");
		exit(2);
	}
	o.said = v.class;
	o.right = verdict_in_set(&v, l->accepted);
	o.confidence = v.confidence;
	o.cause_asked = l->cause != CAUSE_NONE;
	o.cause_right = v.cause == l->cause;
	o.eta_s = v.forecast.known ? v.forecast.eta_s : (struct interval){ NAN, NAN, NAN };
	o.missing = missing_of(&l->plan);
	run_detectors(l, o.detected);
	if (tell && !o.right)
		print_wrong(&o, &v);
	arena_deinit(&arena);
	*ret = o;
}

/* ---- dump ----------------------------------------------------------------------------------------------------------- */

static void dump_table(FILE *file, const struct table *t)
{
	for (size_t c = 0; c < t->column_count; c++)
		fprintf(file, "%s%s", c ? "," : "", t->columns[c]);
	fputc('\n', file);
	for (size_t i = 0; i < t->row_count * t->column_count; i++) {
		if (!isnan(t->cells[i]))
			fprintf(file, "%.12g", t->cells[i]);
		fputc((i + 1) % t->column_count ? ',' : '\n', file);
	}
}

static void dump(const struct labelled *l, uint64_t seed, const char *dir)
{
	struct arena arena;
	struct table t;
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s-%s-%llu.csv", dir, verdict_class_names[l->label],
		 labelled_info[l->kind].name, (unsigned long long)seed);
	arena_init(&arena, 1 << 20, 0);
	file = fopen(path, "w");
	if (!file || series_export(l->series, 2000, &arena, &t) < 0) {
		fprintf(stderr, "bench_verdicts: cannot write '%s'\n", path);
		exit(2);
	}
	dump_table(file, &t);
	fclose(file);
	arena_deinit(&arena);
}

/* ---- all ------------------------------------------------------------------------------------------------------------ */

static void outcomes_add(struct outcomes *all, const struct outcome *o)
{
	if (all->count == all->cap) {
		all->cap = all->cap ? 2 * all->cap : 4096;
		all->rows = realloc(all->rows, all->cap * sizeof(*all->rows));
		if (!all->rows)
			abort();
	}
	all->rows[all->count++] = *o;
}

static void run_kind(const struct options *opt, enum labelled_kind kind, struct outcomes *all)
{
	bool more = opt->kind == LABELLED_KIND_COUNT && never_surely_leak(kind);

	for (uint64_t seed = 1; seed <= opt->seeds * (more ? SURE_FACTOR : 1); seed++) {
		struct outcome o;
		struct labelled l;

		labelled_make(&l, kind, seed, opt->set);
		judge(&l, seed, opt->kind == kind, &o);
		o.extra = seed > opt->seeds;
		outcomes_add(all, &o);
		if (opt->dump && !o.extra)
			dump(&l, seed, opt->dump);
		labelled_free(&l);
	}
}

static void run_all(const struct options *opt, struct outcomes *all)
{
	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++)
		if (opt->kind == LABELLED_KIND_COUNT || opt->kind == kind)
			run_kind(opt, kind, all);
}

static enum labelled_kind kind_named(const char *name)
{
	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++)
		if (strcmp(labelled_info[kind].name, name) == 0)
			return kind;
	fprintf(stderr, "bench_verdicts: no kind '%s'; there are:", name);
	for (enum labelled_kind kind = 0; kind < LABELLED_KIND_COUNT; kind++)
		fprintf(stderr, " %s", labelled_info[kind].name);
	fprintf(stderr, "\n");
	exit(2);
}

static void parse(int argc, char **argv, struct options *opt)
{
	static const struct option longs[] = {
		{ "tuning", no_argument, NULL, 't' },     { "seeds", required_argument, NULL, 's' },
		{ "kind", required_argument, NULL, 'k' }, { "dump", required_argument, NULL, 'd' },
		{ "quick", no_argument, NULL, 'q' },      { NULL, 0, NULL, 0 },
	};
	int c;

	*opt = (struct options){ LABELLED_JUDGING, SEEDS, LABELLED_KIND_COUNT, NULL, false };
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 't')
			opt->set = LABELLED_TUNING;
		else if (c == 's')
			opt->seeds = strtoull(optarg, NULL, 10);
		else if (c == 'k')
			opt->kind = kind_named(optarg);
		else if (c == 'd')
			opt->dump = optarg;
		else if (c == 'q')
			opt->quick = true;
		else
			exit(2);
	}
}

int main(int argc, char **argv)
{
	uint64_t begin = clock_now_ns();
	struct outcomes all = { 0 };
	struct bounds bounds = { 0 };
	struct options opt;

	parse(argc, argv, &opt);
	if (opt.kind != LABELLED_KIND_COUNT)
		printf("%s: %s; wrong:\n", labelled_info[opt.kind].name, labelled_info[opt.kind].why);
	run_all(&opt, &all);
	printf("%zu series of the %s set\n", all.count, opt.set == LABELLED_JUDGING ? "judging" : "tuning");
	if (opt.kind == LABELLED_KIND_COUNT) {
		report_confusion(&all, &bounds);
		report_kinds(&all);
		report_detectors(&all);
		report_calibration(&all, &bounds);
		report_forecast(&all, &bounds);
		if (!opt.quick) {
			report_delay(opt.set, &bounds);
			report_speed(opt.set, &bounds);
		}
		printf("\n%zu bounds held, %zu missed; %.0f s\n", bounds.held, bounds.missed,
		       (double)(clock_now_ns() - begin) / 1e9);
	} else {
		report_kinds(&all);
	}
	free(all.rows);
	return bounds.missed > 0;
}
