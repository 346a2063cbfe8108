/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The profile format of pprof: a gzip-compressed protobuf (pprof.proto). Ids are numbers in the order of first use, from 1 on;
 * messages live in an arena, arrays of pointers to them grow. Where memory ends `failed` is set, and nothing counts any more.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <report/pprof.pb-c.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "memwatch/base/clock.h"
#include "memwatch/base/vec.h"
#include "stacks.h"

#define PAGE_BYTES 4096
#define SAMPLE_VALUES 4

/* In the order of Go's heap profiles, which pprof knows. */
static const char *const value_names[SAMPLE_VALUES] = { "alloc_objects", "alloc_space", "inuse_objects",
							"inuse_space" };
static const char *const value_units[SAMPLE_VALUES] = { "count", "bytes", "count", "bytes" };
#define DEFAULT_VALUE 3 /* inuse_space */

struct pprof {
	struct arena arena;
	Pprof__Profile profile;
	struct numbers strings, functions, mappings, locations;
	size_t string_cap, function_cap, mapping_cap, location_cap, sample_cap, comment_cap;
	struct str key, text;
	uint64_t unknown[SAMPLE_VALUES]; /* samples without that value */
	bool failed;
};

static void *new_message(struct pprof *p, size_t size)
{
	void *message = arena_alloc(&p->arena, size);

	p->failed |= !message;
	return message;
}

static bool grow(struct pprof *p, void *array, size_t *cap, size_t count)
{
	p->failed |= vec_reserve(array, cap, count + 1, sizeof(void *)) < 0;
	return !p->failed;
}

/* ---- strings, functions ----------------------------------------------------------------------------------------------- */

/* Takes clean text; empties it. */
static int64_t string_of(struct pprof *p, struct str *text)
{
	Pprof__Profile *f = &p->profile;
	char *copy = arena_strdup(&p->arena, str_text(text));
	bool is_new;
	uint64_t number = numbers_of(&p->strings, text, &is_new);

	if (is_new && grow(p, &f->string_table, &p->string_cap, f->n_string_table))
		f->string_table[f->n_string_table++] = copy;
	p->failed |= !copy;
	return (int64_t)number;
}

/* NULL is the empty string. */
static int64_t string_clean(struct pprof *p, const char *text)
{
	report_add_clean(&p->text, text, true);
	return string_of(p, &p->text);
}

static uint64_t function_of(struct pprof *p, int64_t name, const char *file)
{
	Pprof__Profile *f = &p->profile;
	int64_t filename = string_clean(p, file);
	Pprof__Function *function;
	uint64_t id;
	bool is_new;

	str_addf(&p->key, "%" PRIi64 " %" PRIi64, name, filename);
	id = numbers_of(&p->functions, &p->key, &is_new) + 1;
	if (!is_new || !grow(p, &f->function, &p->function_cap, f->n_function))
		return id;
	function = new_message(p, sizeof(*function));
	if (!function)
		return id;
	pprof__function__init(function);
	function->id = id;
	function->name = function->system_name = name;
	function->filename = filename;
	f->function[f->n_function++] = function;
	return id;
}

/* ---- mappings --------------------------------------------------------------------------------------------------------- */

static bool knows_place(const struct frame *f)
{
	return f->address != UNKNOWN_U64 && f->offset != UNKNOWN_U64 && f->offset <= f->address;
}

/*
 * A module at one place. The report knows where its offset 0 would be and which addresses were seen, not the kernel's ranges: so
 * the mapping goes from the one to the page of the greatest of the others, and its file offset is 0.
 */
static Pprof__Mapping *mapping_of(struct pprof *p, const char *module, uint64_t start)
{
	Pprof__Profile *f = &p->profile;
	int64_t filename = string_clean(p, module);
	Pprof__Mapping *mapping;
	uint64_t number;
	bool is_new;

	str_addf(&p->key, "%" PRIi64 " %" PRIx64, filename, start);
	number = numbers_of(&p->mappings, &p->key, &is_new);
	if (!is_new)
		return number < f->n_mapping ? f->mapping[number] : NULL;
	if (!grow(p, &f->mapping, &p->mapping_cap, f->n_mapping))
		return NULL;
	mapping = new_message(p, sizeof(*mapping));
	if (!mapping)
		return NULL;
	pprof__mapping__init(mapping);
	mapping->id = number + 1;
	mapping->memory_start = start == UNKNOWN_U64 ? 0 : start;
	mapping->filename = filename;
	f->mapping[f->n_mapping++] = mapping;
	return mapping;
}

static Pprof__Mapping *frame_mapping(struct pprof *p, const struct frame *f)
{
	return f->module ? mapping_of(p, f->module, knows_place(f) ? f->address - f->offset : UNKNOWN_U64) : NULL;
}

/* What a reader need not look up itself any more, and how far the mapping reaches. */
static void extend_mapping(Pprof__Mapping *m, const struct frame *f)
{
	bool named = f->note != FRAME_NO_SYMBOL && f->note != FRAME_NO_MODULE;

	m->has_functions |= named;
	m->has_filenames |= f->file != NULL;
	m->has_line_numbers |= f->file && f->line > 0;
	m->has_inline_frames |= f->inlined;
	if (knows_place(f) && f->address < UINT64_MAX - PAGE_BYTES && f->address >= m->memory_limit)
		m->memory_limit = (f->address / PAGE_BYTES + 1) * PAGE_BYTES;
}

/* Readers take the first mapping for the main program. */
static void add_main_mapping(struct pprof *p, const struct process_entry *entry)
{
	const char *exe = entry->target.exe;

	for (size_t i = 0; exe && i < entry->site_count; i++)
		for (size_t k = 0; k < entry->sites[i].frame_count; k++) {
			const struct frame *f = &entry->sites[i].frames[k];

			if (f->module && strcmp(f->module, exe) == 0 && knows_place(f)) {
				frame_mapping(p, f);
				return;
			}
		}
	if (exe)
		mapping_of(p, exe, UNKNOWN_U64);
}

/* ---- locations, samples ----------------------------------------------------------------------------------------------- */

/* One address: `count` lines, of which all but the last were inlined into the next. */
static uint64_t location_of(struct pprof *p, Pprof__Mapping *mapping, uint64_t address, Pprof__Line **lines,
			    size_t count)
{
	Pprof__Profile *f = &p->profile;
	Pprof__Location *location;
	uint64_t id;
	bool is_new;

	str_addf(&p->key, "%" PRIu64 " %" PRIx64, mapping ? mapping->id : 0, address);
	for (size_t i = 0; i < count; i++)
		str_addf(&p->key, " %" PRIu64 ":%" PRIi64, lines[i]->function_id, lines[i]->line);
	id = numbers_of(&p->locations, &p->key, &is_new) + 1;
	if (!is_new || !grow(p, &f->location, &p->location_cap, f->n_location))
		return id;
	location = new_message(p, sizeof(*location));
	if (!location)
		return id;
	pprof__location__init(location);
	location->id = id;
	location->mapping_id = mapping ? mapping->id : 0;
	location->address = address;
	location->line = lines;
	location->n_line = count;
	f->location[f->n_location++] = location;
	return id;
}

static Pprof__Line *new_line(struct pprof *p, int64_t name, const char *file, uint32_t number)
{
	uint64_t function = function_of(p, name, file);
	Pprof__Line *line = new_message(p, sizeof(*line));

	if (!line)
		return NULL;
	pprof__line__init(line);
	line->function_id = function;
	line->line = number;
	return line;
}

/* The location that `count` frames share. */
static uint64_t frames_location(struct pprof *p, const struct frame *frames, size_t count)
{
	const struct frame *last = &frames[count - 1];
	Pprof__Line **lines = arena_array(&p->arena, count, sizeof(*lines));
	Pprof__Mapping *mapping = frame_mapping(p, last);

	for (size_t i = 0; i < count && lines; i++) {
		stacks_add_function(&p->text, &frames[i]);
		lines[i] = new_line(p, string_of(p, &p->text), frames[i].file, frames[i].line);
		if (mapping)
			extend_mapping(mapping, &frames[i]);
	}
	p->failed |= !lines;
	return p->failed ? 0 : location_of(p, mapping, last->address == UNKNOWN_U64 ? 0 : last->address, lines, count);
}

/* A location that is a name only: a process, or what stands for a stack without frames. */
static uint64_t name_location(struct pprof *p, const struct target_info *process)
{
	Pprof__Line **line = arena_alloc(&p->arena, sizeof(*line));

	p->failed |= !line;
	if (process)
		stacks_add_process(&p->text, process);
	else
		stacks_add_function(&p->text, NULL);
	if (line)
		line[0] = new_line(p, string_of(p, &p->text), NULL, 0);
	return p->failed ? 0 : location_of(p, NULL, 0, line, 1);
}

static void set_values(struct pprof *p, const struct site *site, int64_t *values)
{
	const uint64_t known[SAMPLE_VALUES] = { site->allocated_blocks, site->allocated_bytes, site->blocks,
						site->bytes };

	for (size_t i = 0; i < SAMPLE_VALUES; i++) {
		p->unknown[i] += known[i] == UNKNOWN_U64;
		values[i] = known[i] == UNKNOWN_U64 ? 0 : (int64_t)stacks_sum(known[i], 0);
	}
}

static void add_sample(struct pprof *p, const struct site *site, const struct target_info *process)
{
	Pprof__Profile *f = &p->profile;
	Pprof__Sample *sample = new_message(p, sizeof(*sample));
	int64_t *values = arena_array(&p->arena, SAMPLE_VALUES, sizeof(*values));
	uint64_t *ids = arena_array(&p->arena, site->frame_count + 2, sizeof(*ids));
	size_t count = 0;

	p->failed |= !values || !ids;
	if (p->failed || !grow(p, &f->sample, &p->sample_cap, f->n_sample))
		return;
	for (size_t i = 0, end; i < site->frame_count; i = end) {
		for (end = i + 1; end < site->frame_count && site->frames[end - 1].inlined; end++)
			;
		ids[count++] = frames_location(p, &site->frames[i], end - i);
	}
	if (site->frame_count == 0)
		ids[count++] = name_location(p, NULL);
	if (process)
		ids[count++] = name_location(p, process);
	set_values(p, site, values);
	pprof__sample__init(sample);
	sample->location_id = ids;
	sample->n_location_id = count;
	sample->value = values;
	sample->n_value = SAMPLE_VALUES;
	f->sample[f->n_sample++] = sample;
}

/* ---- head ------------------------------------------------------------------------------------------------------------- */

static Pprof__ValueType *value_type(struct pprof *p, const char *name, const char *unit)
{
	Pprof__ValueType *v = new_message(p, sizeof(*v));

	if (!v)
		return NULL;
	pprof__value_type__init(v);
	v->type = string_clean(p, name);
	v->unit = string_clean(p, unit);
	return v;
}

static void add_comment(struct pprof *p)
{
	int64_t text = string_of(p, &p->text);

	_Static_assert(sizeof(int64_t) == sizeof(void *), "grow() takes elements of the size of a pointer");
	if (grow(p, &p->profile.comment, &p->comment_cap, p->profile.n_comment))
		p->profile.comment[p->profile.n_comment++] = text;
}

/* The format has no null: what is not known is said here. */
static void add_comments(struct pprof *p, const struct session_info *session)
{
	str_add(&p->text, "memwatch " MEMWATCH_VERSION);
	add_comment(p);
	for (size_t i = 0; i < SAMPLE_VALUES; i++)
		if (p->unknown[i] > 0) {
			str_addf(&p->text, "%s: unknown for %" PRIu64 " of %zu call sites, written as 0",
				 value_names[i], p->unknown[i], p->profile.n_sample);
			add_comment(p);
		}
	for (size_t i = 0; i < session->gap_count; i++)
		if (session->gaps[i].rung && strcmp(session->gaps[i].rung, "sites") == 0) {
			str_add(&p->text, "not seen: call sites: ");
			report_add_clean(&p->text, session->gaps[i].reason, true);
			add_comment(p);
		}
}

static void add_head(struct pprof *p, const struct session_info *session)
{
	static const double ns_max = 9e18; /* below 2^63 */
	double duration_ns = session->duration_s * (double)NS_PER_S;
	Pprof__Profile *f = &p->profile;

	pprof__profile__init(f);
	string_clean(p, ""); /* must be the first */
	f->sample_type = arena_array(&p->arena, SAMPLE_VALUES, sizeof(*f->sample_type));
	p->failed |= !f->sample_type;
	for (size_t i = 0; i < SAMPLE_VALUES && f->sample_type; i++)
		f->sample_type[i] = value_type(p, value_names[i], value_units[i]);
	f->n_sample_type = SAMPLE_VALUES;
	f->default_sample_type = string_clean(p, value_names[DEFAULT_VALUE]);
	/* The values are estimates of the whole already, whatever was sampled: no reader may scale them, so there is no period. */
	f->period_type = value_type(p, "space", "bytes");
	f->time_nanos = session->started_wall_ns > 0 ? session->started_wall_ns : 0;
	f->duration_nanos = duration_ns > 0 && duration_ns < ns_max ? (int64_t)duration_ns : 0;
}

/* ---- the whole -------------------------------------------------------------------------------------------------------- */

static int write_profile(const struct pprof *p, struct str *out)
{
	size_t size = pprof__profile__get_packed_size(&p->profile);
	cleanup_free uint8_t *packed = malloc(size ? size : 1);

	if (!packed)
		return -ENOMEM;
	return stacks_gzip(packed, pprof__profile__pack(&p->profile, packed), out);
}

static void pprof_deinit(struct pprof *p)
{
	free(p->profile.string_table);
	free(p->profile.function);
	free(p->profile.mapping);
	free(p->profile.location);
	free(p->profile.sample);
	free(p->profile.comment);
	numbers_deinit(&p->strings);
	numbers_deinit(&p->functions);
	numbers_deinit(&p->mappings);
	numbers_deinit(&p->locations);
	str_deinit(&p->key);
	str_deinit(&p->text);
	arena_deinit(&p->arena);
}

int report_render_pprof(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	struct pprof p = { .key = STR_INIT, .text = STR_INIT };
	size_t count;
	const struct process_entry *processes = stacks_processes(snapshot, &count);
	int rc;

	(void)style;
	arena_init(&p.arena, 0, 0);
	numbers_init(&p.strings);
	numbers_init(&p.functions);
	numbers_init(&p.mappings);
	numbers_init(&p.locations);
	add_head(&p, &snapshot->session);
	add_main_mapping(&p, &snapshot->main);
	for (size_t e = 0; e < count && !p.failed; e++)
		for (size_t i = 0; i < processes[e].site_count && !p.failed; i++)
			add_sample(&p, &processes[e].sites[i], count > 1 ? &processes[e].target : NULL);
	add_comments(&p, &snapshot->session);
	p.failed |= p.strings.failed || p.functions.failed || p.mappings.failed || p.locations.failed;
	p.failed |= p.text.failed || p.key.failed;
	rc = p.failed ? -ENOMEM : write_profile(&p, out);
	pprof_deinit(&p);
	return rc;
}
