/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The file format of speedscope: frames told once, one sampled profile of the surviving bytes and one of all bytes taken. */
#include <inttypes.h>

#include "formats.h"
#include "json_build.h"
#include "stacks.h"

#define SPEEDSCOPE_SCHEMA "https://www.speedscope.app/file-format-schema.json"

struct speedscope {
	struct json json;
	struct numbers frames;
	cJSON *frame_array;
	struct str key, name;
};

/* Index of the frame, told if it is new. */
static uint64_t frame_index(struct speedscope *s, const char *name, const char *file, uint32_t line)
{
	struct json *j = &s->json;
	uint64_t index;
	cJSON *object;
	bool is_new;

	str_add(&s->key, name);
	str_addc(&s->key, '\0');
	str_add(&s->key, file ? file : "");
	str_addc(&s->key, '\0');
	str_addf(&s->key, "%" PRIu32, line);
	index = numbers_of(&s->frames, &s->key, &is_new);
	if (!is_new)
		return index;
	object = json_object(j, s->frame_array, NULL);
	json_text(j, object, "name", name);
	if (file)
		json_text(j, object, "file", file);
	if (line > 0)
		json_u64(j, object, "line", line);
	return index;
}

static void add_frame(struct speedscope *s, const struct frame *f, struct str *row)
{
	const char *file = f && f->file ? f->file : f ? f->module : NULL;

	str_reset(&s->name);
	stacks_add_function(&s->name, f);
	str_addf(row, "%s%" PRIu64, row->len > 1 ? "," : "",
		 frame_index(s, str_text(&s->name), file, f && f->file ? f->line : 0));
}

static void add_sample(struct speedscope *s, cJSON *samples, const struct site *site, const struct target_info *process)
{
	cleanup_str struct str row = STR_INIT;

	str_addc(&row, '[');
	if (process) {
		str_reset(&s->name);
		stacks_add_process(&s->name, process);
		str_addf(&row, "%" PRIu64, frame_index(s, str_text(&s->name), NULL, 0));
	}
	for (size_t i = site->frame_count; i > 0; i--)
		add_frame(s, &site->frames[i - 1], &row);
	if (site->frame_count == 0)
		add_frame(s, NULL, &row);
	str_addc(&row, ']');
	s->json.failed |= row.failed;
	json_raw(&s->json, samples, NULL, str_text(&row));
}

static bool is_weight(uint64_t bytes)
{
	return bytes > 0 && bytes != UNKNOWN_U64;
}

static uint64_t weight_of(const struct site *site, bool allocated)
{
	return allocated ? site->allocated_bytes : site->bytes;
}

static void add_profile(struct speedscope *s, cJSON *profiles, const struct snapshot *snapshot, bool allocated)
{
	struct json *j = &s->json;
	size_t count;
	const struct process_entry *p = stacks_processes(snapshot, &count);
	cJSON *object = json_object(j, profiles, NULL);
	cJSON *samples, *weights;
	uint64_t total = 0;

	json_text(j, object, "type", "sampled");
	json_text(j, object, "name", allocated ? "allocated bytes" : "surviving bytes");
	json_text(j, object, "unit", "bytes");
	json_u64(j, object, "startValue", 0);
	samples = json_array(j, object, "samples");
	weights = json_array(j, object, "weights");
	for (size_t e = 0; e < count; e++)
		for (size_t i = 0; i < p[e].site_count; i++) {
			uint64_t weight = weight_of(&p[e].sites[i], allocated);

			if (!is_weight(weight))
				continue;
			add_sample(s, samples, &p[e].sites[i], count > 1 ? &p[e].target : NULL);
			json_u64(j, weights, NULL, weight);
			total = stacks_sum(total, weight);
		}
	json_u64(j, object, "endValue", total);
}

static bool any_allocated(const struct snapshot *snapshot)
{
	size_t count;
	const struct process_entry *p = stacks_processes(snapshot, &count);

	for (size_t e = 0; e < count; e++)
		for (size_t i = 0; i < p[e].site_count; i++)
			if (is_weight(p[e].sites[i].allocated_bytes))
				return true;
	return false;
}

int report_render_speedscope(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	struct speedscope s = { .key = STR_INIT, .name = STR_INIT };
	cleanup_str struct str title = STR_INIT;
	cJSON *profiles;
	int r;

	(void)style;
	json_init(&s.json);
	numbers_init(&s.frames);
	str_add(&title, "memwatch: ");
	stacks_add_process(&title, &snapshot->main.target);
	json_text(&s.json, s.json.root, "$schema", SPEEDSCOPE_SCHEMA);
	json_text(&s.json, s.json.root, "exporter", "memwatch " MEMWATCH_VERSION);
	json_text(&s.json, s.json.root, "name", str_text(&title));
	json_u64(&s.json, s.json.root, "activeProfileIndex", 0);
	s.frame_array = json_array(&s.json, json_object(&s.json, s.json.root, "shared"), "frames");
	profiles = json_array(&s.json, s.json.root, "profiles");
	add_profile(&s, profiles, snapshot, false);
	if (any_allocated(snapshot))
		add_profile(&s, profiles, snapshot, true);
	s.json.failed |= s.frames.failed || s.name.failed || title.failed;
	r = json_finish(&s.json, false, out);
	json_deinit(&s.json);
	numbers_deinit(&s.frames);
	str_deinit(&s.key);
	str_deinit(&s.name);
	return r;
}
