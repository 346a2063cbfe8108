/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "private.h"

#define FIELD(type_, struct_, key_, member)                                                                            \
	{                                                                                                              \
		key_, type_, offsetof(struct struct_, member), NULL, 0                                                 \
	}
#define FIELD_NAMED(type_, struct_, key_, member, names_, count_)                                                      \
	{                                                                                                              \
		key_, type_, offsetof(struct struct_, member), names_, count_                                          \
	}
#define FIELDS_END                                                                                                     \
	{                                                                                                              \
		NULL, FIELD_U64, 0, NULL, 0                                                                            \
	}

const char *const region_class_names[REGION_CLASS_COUNT] = {
	[REGION_HEAP] = "heap", [REGION_ANON] = "anon",   [REGION_STACK] = "stack",
	[REGION_FILE] = "file", [REGION_SHMEM] = "shmem", [REGION_SPECIAL] = "special",
};

const struct field target_fields[] = {
	FIELD(FIELD_PID, target_info, "pid", id.pid),
	FIELD(FIELD_U64, target_info, "start_ticks", id.start_ticks),
	FIELD(FIELD_WALL, target_info, "start_time", start_wall_ns),
	FIELD(FIELD_TEXT, target_info, "comm", comm),
	FIELD(FIELD_TEXT, target_info, "exe", exe),
	FIELD(FIELD_U32, target_info, "uid", uid),
	FIELD(FIELD_U64, target_info, "threads", threads),
	FIELD(FIELD_TEXT, target_info, "cgroup", cgroup),
	FIELD(FIELD_U64, target_info, "peak_rss_bytes", peak_rss_bytes),
	FIELD(FIELD_TEXT, target_info, "source", source),
	FIELD(FIELD_TEXT, target_info, "label", label),
	FIELDS_END,
};

const struct field named_part_fields[] = {
	FIELD(FIELD_TEXT, named_part, "name", name),
	FIELD(FIELD_TEXT, named_part, "version", version),
	FIELD(FIELD_TEXT, named_part, "found_by", found_by),
	FIELDS_END,
};

const struct field session_fields[] = {
	FIELD(FIELD_WALL, session_info, "started_at", started_wall_ns),
	FIELD(FIELD_DOUBLE, session_info, "duration_s", duration_s),
	FIELD(FIELD_U64, session_info, "samples", samples),
	FIELD(FIELD_DOUBLE, session_info, "interval_ms", interval_ms),
	FIELDS_END,
};

const struct field gap_fields[] = {
	FIELD(FIELD_TEXT, gap, "rung", rung),
	FIELD(FIELD_TEXT, gap, "reason", reason),
	FIELD(FIELD_TEXT, gap, "remedy", remedy),
	FIELDS_END,
};

const struct field cost_fields[] = {
	FIELD(FIELD_DOUBLE, cost, "cpu_s", cpu_s),
	FIELD(FIELD_DOUBLE, cost, "cpu_percent", cpu_percent),
	FIELD(FIELD_U64, cost, "rss_peak_bytes", rss_peak_bytes),
	FIELD(FIELD_U64, cost, "stops", stops),
	FIELD(FIELD_U64, cost, "stopped_ns_total", stopped_ns_total),
	FIELD(FIELD_U64, cost, "stopped_ns_max", stopped_ns_max),
	FIELD(FIELD_U64, cost, "stall_ns_total", stall_ns_total),
	FIELD(FIELD_U64, cost, "exit_hold_ns", exit_hold_ns),
	FIELDS_END,
};

const struct field verdict_fields[] = {
	FIELD_NAMED(FIELD_ENUM, verdict, "class", class, verdict_class_names, VERDICT_CLASS_COUNT),
	FIELD_NAMED(FIELD_ENUM_0, verdict, "kind", kind, verdict_kind_names, KIND_COUNT),
	FIELD_NAMED(FIELD_ENUM_0, verdict, "cause", cause, verdict_cause_names, CAUSE_COUNT),
	FIELD_NAMED(FIELD_ENUM_0, verdict, "where", where, verdict_where_names, WHERE_COUNT),
	FIELD(FIELD_DOUBLE, verdict, "confidence", confidence),
	FIELD(FIELD_TEXT, verdict, "summary", summary),
	FIELD(FIELD_METRIC, verdict, "judged", judged),
	FIELD(FIELD_INTERVAL, verdict, "slope_per_s", slope_per_s),
	FIELDS_END,
};

const struct field evidence_fields[] = {
	FIELD(FIELD_TEXT, evidence, "id", id),
	FIELD(FIELD_TEXT, evidence, "text", text),
	FIELD(FIELD_DOUBLE, evidence, "value", value),
	FIELD(FIELD_TEXT, evidence, "unit", unit),
	FIELD(FIELD_DOUBLE, evidence, "threshold", threshold),
	FIELD(FIELD_BOOL, evidence, "against", against),
	FIELDS_END,
};

const struct field action_fields[] = {
	FIELD(FIELD_TEXT, action, "text", text),
	FIELD(FIELD_TEXT, action, "command", command),
	FIELDS_END,
};

const struct field forecast_fields[] = {
	FIELD(FIELD_U64, forecast, "limit_bytes", limit_bytes),
	FIELD(FIELD_TEXT, forecast, "limit_source", limit_source),
	FIELD(FIELD_RANGE, forecast, "eta_s", eta_s),
	FIELDS_END,
};

const struct field work_fields[] = {
	FIELD(FIELD_TEXT, work_fit, "unit", unit),
	FIELD(FIELD_TEXT, work_fit, "source", source),
	FIELD(FIELD_BOOL, work_fit, "cooperative", cooperative),
	FIELD(FIELD_INTERVAL, work_fit, "fixed_bytes", fixed_bytes),
	FIELD(FIELD_INTERVAL, work_fit, "bytes_per_unit", bytes_per_unit),
	FIELD(FIELD_INTERVAL, work_fit, "bytes_per_s", bytes_per_s),
	FIELD(FIELD_INTERVAL, work_fit, "exponent", exponent),
	FIELD(FIELD_DOUBLE, work_fit, "r2", r2),
	FIELD(FIELD_TEXT, work_fit, "model", model),
	FIELD(FIELD_DOUBLE, work_fit, "units_first", units_first),
	FIELD(FIELD_DOUBLE, work_fit, "units_last", units_last),
	FIELD(FIELD_DOUBLE, work_fit, "rate_variation", rate_variation),
	FIELD(FIELD_DOUBLE, work_fit, "idle_share", idle_share),
	FIELDS_END,
};

const struct field work_prediction_fields[] = {
	FIELD(FIELD_DOUBLE, work_prediction, "units", units),
	FIELD(FIELD_RANGE, work_prediction, "bytes", bytes),
	FIELDS_END,
};

const struct field cycle_fields[] = {
	FIELD(FIELD_U64, cycle_fit, "count", count),
	FIELD(FIELD_BOOL, cycle_fit, "by_units", by_units),
	FIELD(FIELD_U64, cycle_fit, "edge_cycles", edge),
	FIELD(FIELD_DOUBLE, cycle_fit, "first_mean_bytes", first_mean_bytes),
	FIELD(FIELD_DOUBLE, cycle_fit, "last_mean_bytes", last_mean_bytes),
	FIELD(FIELD_INTERVAL, cycle_fit, "growth_per_cycle", growth_per_cycle),
	FIELD(FIELD_DOUBLE, cycle_fit, "duration_first_s", duration_first_s),
	FIELD(FIELD_DOUBLE, cycle_fit, "duration_last_s", duration_last_s),
	FIELD(FIELD_DOUBLE, cycle_fit, "duration_ratio", duration_ratio),
	FIELD(FIELD_BOOL, cycle_fit, "slows", slows),
	FIELDS_END,
};

const struct field cycle_quarter_fields[] = {
	FIELD(FIELD_DOUBLE, cycle_quarter, "mean_bytes", mean_bytes),
	FIELD(FIELD_DOUBLE, cycle_quarter, "mean_duration_s", mean_duration_s),
	FIELDS_END,
};

const struct field metric_fields[] = {
	FIELD(FIELD_U64, metric_summary, "count", count),
	FIELD(FIELD_DOUBLE, metric_summary, "first", first),
	FIELD(FIELD_DOUBLE, metric_summary, "last", last),
	FIELD(FIELD_DOUBLE, metric_summary, "min", min),
	FIELD(FIELD_DOUBLE, metric_summary, "max", max),
	FIELD(FIELD_DOUBLE, metric_summary, "mean", mean),
	FIELD(FIELD_INTERVAL, metric_summary, "slope_per_s", slope_per_s),
	FIELDS_END,
};

const struct field heap_fields[] = {
	FIELD(FIELD_U64, heap_stats, "in_use_bytes", in_use_bytes),
	FIELD(FIELD_U64, heap_stats, "in_use_blocks", in_use_blocks),
	FIELD(FIELD_U64, heap_stats, "free_bytes", free_bytes),
	FIELD(FIELD_U64, heap_stats, "free_blocks", free_blocks),
	FIELD(FIELD_U64, heap_stats, "free_resident_bytes", free_resident_bytes),
	FIELD(FIELD_U64, heap_stats, "mapped_bytes", mapped_bytes),
	FIELD(FIELD_TEXT, heap_stats, "source", source),
	FIELD(FIELD_U64, heap_stats, "tcache_bytes", tcache_bytes),
	FIELD(FIELD_U64, heap_stats, "tcache_blocks", tcache_blocks),
	FIELD(FIELD_U64, heap_stats, "fastbin_bytes", fastbin_bytes),
	FIELD(FIELD_U64, heap_stats, "fastbin_blocks", fastbin_blocks),
	FIELD(FIELD_U64, heap_stats, "top_bytes", top_bytes),
	FIELD(FIELD_U64, heap_stats, "largest_free_bytes", largest_free_bytes),
	FIELD(FIELD_U64, heap_stats, "overhead_bytes", overhead_bytes),
	FIELD(FIELD_U64, heap_stats, "mmapped_bytes", mmapped_bytes),
	FIELD(FIELD_U64, heap_stats, "mmapped_blocks", mmapped_blocks),
	FIELDS_END,
};

const struct field heap_fragmentation_fields[] = {
	FIELD(FIELD_DOUBLE, heap_stats, "index", fragmentation),
	FIELD(FIELD_U64, heap_stats, "trimmable_bytes", trimmable_bytes),
	FIELD(FIELD_U64, heap_stats, "pinned_bytes", pinned_bytes),
	FIELDS_END,
};

const struct field heap_walk_fields[] = {
	FIELD(FIELD_BOOL, heap_stats, "complete", complete),
	FIELD(FIELD_U32, heap_stats, "torn_windows", torn_windows),
	FIELD(FIELD_U32, heap_stats, "reread_windows", reread_windows),
	FIELD(FIELD_U32, heap_stats, "resyncs", resyncs),
	FIELD(FIELD_U64, heap_stats, "skipped_bytes", skipped_bytes),
	FIELD(FIELD_U64, heap_stats, "walked_bytes", walked_bytes),
	FIELD(FIELD_NS, heap_stats, "walk_s", walk_ns),
	FIELDS_END,
};

const struct field arena_fields[] = {
	FIELD(FIELD_ADDRESS, heap_arena, "address", address),
	FIELD(FIELD_BOOL, heap_arena, "main", is_main),
	FIELD(FIELD_U64, heap_arena, "in_use_bytes", in_use_bytes),
	FIELD(FIELD_U64, heap_arena, "in_use_blocks", in_use_blocks),
	FIELD(FIELD_U64, heap_arena, "free_bytes", free_bytes),
	FIELD(FIELD_U64, heap_arena, "free_blocks", free_blocks),
	FIELD(FIELD_U64, heap_arena, "top_bytes", top_bytes),
	FIELD(FIELD_U64, heap_arena, "mapped_bytes", mapped_bytes),
	FIELD(FIELD_U32, heap_arena, "heaps", heap_count),
	FIELDS_END,
};

const struct field size_class_fields[] = {
	FIELD(FIELD_U64, heap_size_class, "size", size),
	FIELD(FIELD_U64, heap_size_class, "in_use", in_use_bytes),
	FIELD(FIELD_U64, heap_size_class, "free", free_bytes),
	FIELD(FIELD_U64, heap_size_class, "in_use_blocks", in_use_blocks),
	FIELD(FIELD_U64, heap_size_class, "free_blocks", free_blocks),
	FIELD(FIELD_DOUBLE, heap_size_class, "growth_per_s", growth_per_s),
	FIELD(FIELD_U32, heap_size_class, "tracked_blocks", tracked_blocks),
	FIELD(FIELD_U32, heap_size_class, "freed_blocks", freed_blocks),
	FIELD(FIELD_DOUBLE, heap_size_class, "leak_probability", leak_probability),
	FIELD(FIELD_DOUBLE, heap_size_class, "age_s", age_s),
	FIELDS_END,
};

const struct field runtime_fields[] = {
	FIELD(FIELD_DOUBLE, runtime_stats, "live_bytes", live_bytes),
	FIELD(FIELD_DOUBLE, runtime_stats, "in_use_bytes", in_use_bytes),
	FIELD(FIELD_DOUBLE, runtime_stats, "free_bytes", free_bytes),
	FIELD(FIELD_DOUBLE, runtime_stats, "committed_bytes", committed_bytes),
	FIELD(FIELD_DOUBLE, runtime_stats, "released_bytes", released_bytes),
	FIELD(FIELD_DOUBLE, runtime_stats, "collections", collections),
	FIELD(FIELD_DOUBLE, runtime_stats, "tasks", tasks),
	FIELD(FIELD_BOOL, runtime_stats, "live_is_stale", live_is_stale),
	FIELDS_END,
};

const struct field site_fields[] = {
	FIELD(FIELD_U64, site, "bytes", bytes),
	FIELD(FIELD_DOUBLE, site, "share", share),
	FIELD(FIELD_U64, site, "blocks", blocks),
	FIELD(FIELD_DOUBLE, site, "bytes_per_s", bytes_per_s),
	FIELD(FIELD_DOUBLE, site, "bytes_low", bytes_low),
	FIELD(FIELD_DOUBLE, site, "bytes_high", bytes_high),
	FIELD(FIELD_DOUBLE, site, "age_s", age_s),
	FIELD(FIELD_U64, site, "allocated_bytes", allocated_bytes),
	FIELD(FIELD_U64, site, "allocated_blocks", allocated_blocks),
	FIELD(FIELD_DOUBLE, site, "survival", survival),
	FIELD(FIELD_TEXT, site, "source", source),
	FIELD(FIELD_BOOL, site, "exact", exact),
	FIELDS_END,
};

const struct field frame_fields[] = {
	FIELD(FIELD_TEXT, frame, "function", function),
	FIELD(FIELD_TEXT, frame, "file", file),
	FIELD(FIELD_LINE, frame, "line", line),
	FIELD(FIELD_TEXT, frame, "module", module),
	FIELD(FIELD_ADDRESS, frame, "address", address),
	FIELD(FIELD_ADDRESS, frame, "offset", offset),
	FIELD(FIELD_BOOL, frame, "inlined", inlined),
	FIELD(FIELD_TEXT, frame, "language", language),
	FIELD_NAMED(FIELD_ENUM_0, frame, "note", note, frame_note_names, FRAME_NOTE_COUNT),
	FIELDS_END,
};

const struct field mapping_fields[] = {
	FIELD(FIELD_U64, region_totals, "count", count),
	FIELD(FIELD_U64, region_totals, "size_bytes", size_bytes),
	FIELD(FIELD_U64, region_totals, "rss_bytes", rss_bytes),
	FIELD(FIELD_U64, region_totals, "pss_bytes", pss_bytes),
	FIELD(FIELD_U64, region_totals, "anon_bytes", anon_bytes),
	FIELD(FIELD_U64, region_totals, "swap_bytes", swap_bytes),
	FIELD(FIELD_U64, region_totals, "lazy_free_bytes", lazy_free_bytes),
	FIELD(FIELD_U64, region_totals, "private_dirty_bytes", private_dirty_bytes),
	FIELD(FIELD_U64, region_totals, "shared_bytes", shared_bytes),
	FIELD(FIELD_U64, region_totals, "anon_huge_bytes", anon_huge_bytes),
	FIELDS_END,
};
