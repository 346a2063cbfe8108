/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_report.h"

#include <check.h>
#include <math.h>
#include <string.h>

const struct report_style plain = { false, 0, true };
const struct report_style ascii = { false, 0, false };

static struct frame frames_cache[] = {
	{ 0x7f0000101234, 0x101234, "/usr/lib/libc.so.6", "__libc_malloc", NULL, 0, false, "c", FRAME_OK },
	{ 0x401136, 0x1136, "/opt/srv/bin/srv", "cache_put", "/src/srv/cache.c", 118, false, "c", FRAME_OK },
	{ 0x401236, 0x1236, "/opt/srv/bin/srv", "handle", "/src/srv/srv.c", 204, true, "c", FRAME_OK },
	{ 0x401236, 0x1236, "/opt/srv/bin/srv", "worker", "/src/srv/srv.c", 310, false, "c", FRAME_OK },
};
static struct frame frames_plugin[] = {
	{ 0x7f0000501000, 0x1000, "/opt/srv/lib/plugin.so", "plugin.so+0x1000", NULL, 0, false, NULL, FRAME_NO_SYMBOL },
	{ 0x7f0000502000, 0x2000, "/opt/srv/lib/plugin.so", "plugin_load", NULL, 0, false, NULL, FRAME_TRUNCATED },
};
static struct site sites[] = {
	{ 61440 * 1024, 61440, 62914560, 0.96, 1048576, 61440.0 * 1024 / 62914560, 61502, 58.1 * MIB, 61.9 * MIB, 41.5,
	  false, "probe", frames_cache, COUNT(frames_cache) },
	{ 2560 * 1024, UNKNOWN_U64, 5242880, 0.04, 43690.5, NAN, UNKNOWN_U64, NAN, NAN, NAN, true, "stacks",
	  frames_plugin, COUNT(frames_plugin) },
};
static struct evidence evidence[] = {
	{ "trend",
	  "in-use heap grows 1.02 MiB/s (95 %: 0.98 to 1.06), linear over 60 s, each trough higher than the one before",
	  1069548, "bytes/s", 1024, false },
	{ "free-inside", "not retention: bytes free inside the allocator are flat (9.1 MiB)", NAN, NULL, NAN, false },
	{ "rest-of-rss", "not mappings: the rest of RSS is flat", 8192, "bytes", 1048576, false },
	{ "shape", "its shape is linear: BIC 12 better than the next model", 12.5, "bic", 2, false },
	{ "work", "the work done is not known", NAN, NULL, NAN, true },
};
static struct action actions[] = {
	{ "read cache_put at cache.c:118: what it takes is kept", NULL },
	{ "see whether it goes on at idle", "memwatch --pid 4242 --duration 10m" },
};
static struct gap gaps[] = {
	{ "symbols", "no debug information for 'plugin.so'", "install its debug package" },
};
static struct heap_arena arenas[] = {
	{ 0x7f0000300c60, true, 70 * MIB, 70000, 9 * MIB, 40, MIB, 80 * MIB, 1 },
	{ 0x7f1000000030, false, MIB, 1000, MIB / 8, 5, MIB / 16, 2 * MIB, 2 },
};
static struct heap_size_class classes[] = {
	{ 32, 1000, 32000, 5, 160, NAN, 0, 0, NAN, NAN },
	{ 1040, 61440, 61440 * 1040, 3, 3120, 1064960.5, 32, 1, 0.9394, 41.5 },
};
static const char *cmdline[] = { "/opt/srv/bin/srv", "--port", "80" };
static const char *rungs[] = { "observe", "heap", "sites" };
static const char *columns[] = { "t_s", "rss_bytes", "heap_in_use_bytes" };
static double cells[] = { 0, 10485760, NAN, 30.5, 41943040, 31457280, 60, 73400320, 62914560 };

static const struct metric_summary unread = { 0, NAN, NAN, NAN, NAN, NAN, { NAN, NAN, NAN } };

static const struct heap_stats heap = {
	.in_use_bytes = 62914560,
	.in_use_blocks = 71000,
	.free_bytes = 9542042,
	.free_blocks = 45,
	.tcache_bytes = 4096,
	.tcache_blocks = 12,
	.fastbin_bytes = 640,
	.fastbin_blocks = 20,
	.top_bytes = MIB,
	.trimmable_bytes = 8 * MIB,
	.free_resident_bytes = 5242880,
	.largest_free_bytes = 2 * MIB,
	.pinned_bytes = MIB,
	.overhead_bytes = 2192,
	.mapped_bytes = 82 * MIB,
	.mmapped_bytes = 2 * MIB,
	.mmapped_blocks = 3,
	.fragmentation = 0.125,
	.arenas = arenas,
	.arena_count = COUNT(arenas),
	.classes = classes,
	.class_count = COUNT(classes),
	.source = "signature",
	.walked_bytes = 80 * MIB,
	.walk_ns = 15500000,
	.torn_windows = 2,
	.reread_windows = 2,
	.resyncs = 1,
	.skipped_bytes = 65536,
	.complete = true,
};

static const struct work_fit work = { .known = true,
				      .unit = "request",
				      .source = "work_units",
				      .cooperative = true,
				      .fixed_bytes = { 3774873.5, 3500000, 4000000 },
				      .bytes_per_unit = { 136, 130, 142 },
				      .bytes_per_s = { 12.5, -3, 28 },
				      .exponent = { 1.01, 0.97, 1.05 },
				      .r2 = 0.99,
				      .model = "linear",
				      .units_first = 17,
				      .units_last = 433017,
				      .rate_variation = 0.25,
				      .idle_share = 0.125,
				      .predictions = { { 1000000, { 139774874, 133500000, 146000000 } },
						       { 10000000, { 1363774874, NAN, NAN } } },
				      .prediction_count = 2 };

static const struct cycle_fit cycles = {
	.known = true,
	.count = 1000,
	.by_units = true,
	.edge = 100,
	.first_mean_bytes = 12700000,
	.last_mean_bytes = 12700200.5,
	.growth_per_cycle = { 0.2, -1.5, 1.9 },
	.duration_first_s = 0.0021,
	.duration_last_s = 0.029,
	.duration_ratio = 13.81,
	.slows = true,
	.quarters = { { 12700000, 0.0025 }, { 12700010, 0.01 }, { NAN, NAN }, { 12700200, 0.027 } }
};

static void scenario_metrics(struct metric_summary *metrics)
{
	for (size_t i = 0; i < METRIC_COUNT; i++)
		metrics[i] = unread;
	metrics[METRIC_RSS] = (struct metric_summary){
		600, 10485760, 73400320, 10485760, 73400320, 41943040.5, { 1050000.25, 1000000, 1100000 }
	};
	metrics[METRIC_HEAP_IN_USE] = (struct metric_summary){
		40, 2097152, 62914560, 2097152, 62914560, 32505856, { 1069548, 1027604.5, 1111490.5 }
	};
	metrics[METRIC_THREADS] = (struct metric_summary){ 600, 8, 8, 8, 8, 8, { 0, NAN, NAN } };
	metrics[METRIC_CPU] = (struct metric_summary){ 600, 0.25, 12.75, 0.25, 12.75, 6.5, { 0.208, 0.2, 0.215 } };
}

static void scenario_process(struct process_entry *p)
{
	p->target = (struct target_info){
		.id = { 4242, 987654 },
		.start_wall_ns = 1795176625123000000,
		.comm = "srv",
		.exe = "/opt/srv/bin/srv",
		.cmdline = cmdline,
		.cmdline_count = COUNT(cmdline),
		.uid = 33,
		.threads = 8,
		.cgroup = "/system.slice/srv.service",
		.exit_code = -1,
		.peak_rss_bytes = 75497472,
		.allocator = { "glibc", "2.36", "signature" },
	};
	p->verdict = (struct verdict){
		.class = VERDICT_LEAK,
		.kind = KIND_SUSPECTED,
		.where = WHERE_HEAP,
		.confidence = 0.97,
		.summary = "the in-use heap grows without an end in sight",
		.evidence = evidence,
		.evidence_count = COUNT(evidence),
		.actions = actions,
		.action_count = COUNT(actions),
		.forecast = { true, (uint64_t)2 << 30, "cgroup", { 1560, 1320, 1860 } },
		.work = work,
		.cycles = cycles,
		.slope_per_s = { 1069548, 1027604.5, 1111490.5 },
		.judged = METRIC_HEAP_IN_USE,
	};
	scenario_metrics(p->metrics);
	p->has_heap = true;
	p->heap = heap;
	for (size_t i = 0; i < REGION_CLASS_COUNT; i++)
		p->classes[i] = (struct region_totals){ .rss_bytes = UNKNOWN_U64 };
	p->classes[REGION_HEAP] = (struct region_totals){
		.count = 1, .size_bytes = 80 * MIB, .rss_bytes = 66 * MIB, .pss_bytes = 66 * MIB, .anon_bytes = 66 * MIB
	};
	p->classes[REGION_FILE] = (struct region_totals){
		.count = 21, .size_bytes = 30 * MIB, .rss_bytes = 4 * MIB, .pss_bytes = MIB, .swap_bytes = UNKNOWN_U64
	};
	p->sites = sites;
	p->site_count = COUNT(sites);
	p->parent = 1;
}

void scenario(struct snapshot *s)
{
	snapshot_init(s);
	s->session = (struct session_info){ 1795176685000000000, 60, 600, 100, rungs, COUNT(rungs), gaps, COUNT(gaps) };
	s->cost = (struct cost){ 0.24, 0.4, 11 * MIB, 12, 1500000, 210000, 3100000, 400000 };
	scenario_process(&s->main);
	s->series = (struct table){ columns, COUNT(columns), cells, COUNT(cells) / COUNT(columns) };
	s->limit_bytes = 2147483648.0;
}

void scenario_tree(struct snapshot *s)
{
	struct process_entry *p;

	scenario(s);
	p = arena_array(&s->arena, 2, sizeof(*p));
	ck_assert_ptr_nonnull(p);
	p[0] = s->main;
	scenario_process(&p[1]);
	p[1].target.id.pid = 4243;
	p[1].target.comm = "helper";
	p[1].target.exited = true;
	p[1].target.exit_signal = 11;
	p[1].parent = 4242;
	p[1].has_heap = false;
	p[1].site_count = 0;
	p[1].verdict = (struct verdict){ /* its work and cycles are not known */
					 .class = VERDICT_STABLE,
					 .confidence = 0.5,
					 .summary = "no trend",
					 .slope_per_s = { NAN, NAN, NAN }
	};
	s->processes = p;
	s->process_count = 2;
	s->tree_pss = (struct metric_summary){ 6, 1048576, 94371840, 1048576, 94371840, 47185920, { NAN, NAN, NAN } };
}

void scenario_add_runtime(struct process_entry *p)
{
	static struct runtime_figure figures[] = {
		{ "pymalloc_arenas", RUNTIME_COUNT, 41 },
		{ "pymalloc_pinned_bytes", RUNTIME_BYTES, 3145728 },
		{ "gc_pause_s", RUNTIME_SECONDS, 0.25 },
		{ "gc_uncollectable", RUNTIME_COUNT, NAN },
	};

	p->target.runtime = (struct named_part){ "cpython", "3.11.2", "symbol" };
	p->has_runtime = true;
	p->runtime = (struct runtime_stats){
		.live_bytes = NAN,
		.in_use_bytes = 38 * MIB,
		.free_bytes = 3 * MIB + 512,
		.committed_bytes = 41 * MIB,
		.released_bytes = NAN,
		.collections = 1234567,
		.tasks = 3,
		.figures = figures,
		.figure_count = COUNT(figures),
	};
}

void render(const char *format, const struct snapshot *s, const struct report_style *style, struct str *out)
{
	const struct report_format *f = report_format_find(format);

	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(f->render(s, style, out), 0);
}

const char hostile[] = "\033]0;owned\007\x9b"
		       "2J\xff\xc0\xaf\xed\xa0\x80 \xc2\x9b"
		       "31m\xe2\x80\xae\x7f\r\nx\xe2\x82";

void scenario_make_hostile(struct snapshot *s)
{
	static const char *words[] = { hostile, hostile };
	static struct frame frame = { 1, 1, hostile, hostile, hostile, 3, false, hostile, FRAME_OK };
	static struct site site = { MIB, 1, MIB, 1, 1, 1, 1, NAN, NAN, NAN, true, hostile, &frame, 1 };
	static struct evidence e = { hostile, hostile, NAN, hostile, NAN, false };
	static struct action a = { hostile, hostile };
	static struct gap g = { hostile, hostile, hostile };
	static struct runtime_figure figures[] = { { hostile, RUNTIME_COUNT, 1 }, { "", RUNTIME_COUNT, INFINITY } };
	struct target_info *t = &s->main.target;

	t->comm = t->exe = t->cgroup = t->allocator.name = t->allocator.version = t->runtime.name = t->runtime.version =
		t->runtime.found_by = hostile;
	t->source = t->label = hostile;
	s->main.verdict.work.unit = s->main.verdict.work.source = s->main.verdict.work.model = hostile;
	t->cmdline = words;
	t->cmdline_count = COUNT(words);
	s->main.sites = &site;
	s->main.site_count = 1;
	s->main.verdict.evidence = &e;
	s->main.verdict.evidence_count = 1;
	s->main.verdict.actions = &a;
	s->main.verdict.action_count = 1;
	s->main.verdict.summary = s->main.verdict.forecast.limit_source = s->main.heap.source = hostile;
	s->main.has_runtime = true;
	s->main.runtime =
		(struct runtime_stats){ .live_bytes = NAN, .figures = figures, .figure_count = COUNT(figures) };
	s->session.gaps = &g;
	s->session.gap_count = 1;
}

void check_printable(const struct str *out, bool only_ascii)
{
	const unsigned char *p = (const unsigned char *)str_text(out);

	ck_assert_uint_gt(out->len, 0);
	for (size_t i = 0; i < out->len; i++) {
		ck_assert_msg(p[i] >= 0x20 || p[i] == '\n' || p[i] == '\t', "control byte %02x", p[i]);
		ck_assert_msg(p[i] != 0x7f && p[i] < 0xf8 && p[i] != 0xc0 && p[i] != 0xc1, "byte %02x", p[i]);
		ck_assert_msg(!only_ascii || p[i] < 0x80, "byte %02x", p[i]);
		ck_assert(!(p[i] == 0xc2 && p[i + 1] < 0xa0) && !(p[i] == 0xed && p[i + 1] >= 0xa0));
		ck_assert(!(p[i] == 0xe2 && p[i + 1] == 0x80 && p[i + 2] == 0xae));
	}
}
