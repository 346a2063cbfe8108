/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The formats of call sites: folded, pprof, speedscope. test/e2e/test_output.py reads pprof's again with a decoder of its own. */
#include <check.h>
#include <errno.h>
#include <math.h>
#include <report/pprof.pb-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "support_report.h"

#define UNPACKED_MAX (4 * MIB)

static struct frame frames_inlined[] = {
	{ 0x401136, 0x1136, "/opt/srv/bin/srv", "inner;one", "/src/a.c", 7, true, "c", FRAME_OK },
	{ 0x401136, 0x1136, "/opt/srv/bin/srv", "middle\none", "/src/a.c", 9, true, "c", FRAME_OK },
	{ 0x401136, 0x1136, "/opt/srv/bin/srv", "outer", "/src/b.c", 11, false, "c", FRAME_OK },
	{ 0x402000, 0x2000, "/opt/srv/bin/srv", "main", "/src/b.c", 40, false, "c", FRAME_OK },
};

static struct site site_of(uint64_t bytes, struct frame *frames, size_t count)
{
	return (struct site){ .bytes = bytes,
			      .blocks = UNKNOWN_U64,
			      .allocated_bytes = UNKNOWN_U64,
			      .allocated_blocks = UNKNOWN_U64,
			      .share = NAN,
			      .bytes_per_s = NAN,
			      .survival = NAN,
			      .bytes_low = NAN,
			      .bytes_high = NAN,
			      .age_s = NAN,
			      .source = "probe",
			      .frames = frames,
			      .frame_count = count };
}

/* ---- folded ------------------------------------------------------------------------------------------------------------ */

START_TEST(test_folded)
{
	cleanup_str struct str out = STR_INIT;
	struct snapshot s;

	scenario(&s);
	render("folded", &s, &plain, &out);
	ck_assert_str_eq(str_text(&out), "plugin_load;plugin.so+0x1000 2621440\n"
					 "worker;handle;cache_put;__libc_malloc 62914560\n");
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_folded_sums_and_replaces)
{
	cleanup_str struct str out = STR_INIT;
	struct site sites[] = { site_of(4099, frames_inlined, 4), site_of(7, NULL, 0),
				site_of(10007, frames_inlined, 4), site_of(0, frames_inlined, 3),
				site_of(UNKNOWN_U64, frames_inlined, 2) };
	struct snapshot s;

	snapshot_init(&s);
	s.main.sites = sites;
	s.main.site_count = COUNT(sites);
	render("folded", &s, &plain, &out);
	ck_assert_str_eq(str_text(&out), "(no stack) 7\nmain;outer;middle\xEF\xBF\xBDone;inner:one 14106\n");
	str_reset(&out);
	sites[0].bytes = UINT64_MAX - 1; /* a sum that no reader could hold */
	render("folded", &s, &plain, &out);
	ck_assert_ptr_nonnull(strstr(str_text(&out), "inner:one 9223372036854775807\n"));
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_folded_processes)
{
	cleanup_str struct str out = STR_INIT;
	struct site site = site_of(4099, frames_inlined, 4);
	struct snapshot s;

	scenario_tree(&s);
	s.processes[1].sites = &site;
	s.processes[1].site_count = 1;
	render("folded", &s, &plain, &out);
	ck_assert_str_eq(str_text(&out), "helper (4243);main;outer;middle\xEF\xBF\xBDone;inner:one 4099\n"
					 "srv (4242);plugin_load;plugin.so+0x1000 2621440\n"
					 "srv (4242);worker;handle;cache_put;__libc_malloc 62914560\n");
	snapshot_deinit(&s);
}
END_TEST

/* ---- pprof ------------------------------------------------------------------------------------------------------------- */

static Pprof__Profile *unpack(const struct str *out)
{
	static uint8_t data[UNPACKED_MAX];
	z_stream z = {
		.next_in = (Bytef *)out->data, .avail_in = (uInt)out->len, .next_out = data, .avail_out = UNPACKED_MAX
	};
	Pprof__Profile *profile;

	ck_assert_int_eq(inflateInit2(&z, 15 + 16), Z_OK);
	ck_assert_int_eq(inflate(&z, Z_FINISH), Z_STREAM_END);
	ck_assert_uint_eq(z.avail_in, 0);
	profile = pprof__profile__unpack(NULL, z.total_out, data);
	inflateEnd(&z);
	ck_assert_ptr_nonnull(profile);
	return profile;
}

static const char *string_at(const Pprof__Profile *p, int64_t index)
{
	ck_assert_int_ge(index, 0);
	ck_assert_uint_lt((uint64_t)index, p->n_string_table);
	return p->string_table[index];
}

static const Pprof__Location *location_at(const Pprof__Profile *p, uint64_t id)
{
	ck_assert(id >= 1 && id <= p->n_location);
	ck_assert_uint_eq(p->location[id - 1]->id, id);
	return p->location[id - 1];
}

static const char *line_name(const Pprof__Profile *p, const Pprof__Line *line)
{
	ck_assert(line->function_id >= 1 && line->function_id <= p->n_function);
	ck_assert_uint_eq(p->function[line->function_id - 1]->id, line->function_id);
	return string_at(p, p->function[line->function_id - 1]->name);
}

/* What every reader takes for granted. */
static void check_sound(const Pprof__Profile *p)
{
	static const char *const types[] = { "alloc_objects", "alloc_space", "inuse_objects", "inuse_space" };

	ck_assert_str_eq(string_at(p, 0), "");
	ck_assert_uint_eq(p->n_sample_type, COUNT(types));
	for (size_t i = 0; i < COUNT(types); i++) {
		ck_assert_str_eq(string_at(p, p->sample_type[i]->type), types[i]);
		ck_assert_str_eq(string_at(p, p->sample_type[i]->unit), i % 2 ? "bytes" : "count");
	}
	ck_assert_str_eq(string_at(p, p->default_sample_type), "inuse_space");
	ck_assert_str_eq(string_at(p, p->period_type->type), "space");
	ck_assert_str_eq(string_at(p, p->period_type->unit), "bytes");
	for (size_t i = 0; i < p->n_sample; i++) {
		ck_assert_uint_eq(p->sample[i]->n_value, COUNT(types));
		ck_assert_uint_gt(p->sample[i]->n_location_id, 0);
		for (size_t k = 0; k < p->sample[i]->n_location_id; k++)
			location_at(p, p->sample[i]->location_id[k]);
	}
	for (size_t i = 0; i < p->n_location; i++) {
		const Pprof__Location *l = location_at(p, i + 1);
		const Pprof__Mapping *m = l->mapping_id > 0 ? p->mapping[l->mapping_id - 1] : NULL;

		ck_assert_uint_gt(l->n_line, 0);
		for (size_t k = 0; k < l->n_line; k++)
			ck_assert_str_ne(line_name(p, l->line[k]), "");
		ck_assert(!m || m->memory_limit == 0 ||
			  (m->memory_start <= l->address && l->address < m->memory_limit));
	}
	for (size_t i = 0; i < p->n_mapping; i++)
		ck_assert_uint_eq(p->mapping[i]->id, i + 1);
	for (size_t i = 0; i < p->n_string_table; i++) {
		struct str text = { .data = p->string_table[i], .len = strlen(p->string_table[i]) };

		if (text.len > 0)
			check_printable(&text, false);
	}
}

static bool has_comment(const Pprof__Profile *p, const char *text)
{
	for (size_t i = 0; i < p->n_comment; i++)
		if (strstr(string_at(p, p->comment[i]), text))
			return true;
	return false;
}

START_TEST(test_pprof)
{
	cleanup_str struct str out = STR_INIT;
	const Pprof__Location *inlined;
	Pprof__Profile *p;
	struct snapshot s;

	scenario(&s);
	render("pprof", &s, &plain, &out);
	p = unpack(&out);
	check_sound(p);
	ck_assert_uint_eq(p->n_sample, 2);
	ck_assert_int_eq(p->sample[0]->value[0], 61502);
	ck_assert_int_eq(p->sample[0]->value[1], 62914560);
	ck_assert_int_eq(p->sample[0]->value[2], 61440);
	ck_assert_int_eq(p->sample[0]->value[3], 61440 * 1024);
	ck_assert_int_eq(p->sample[1]->value[2], 0);
	ck_assert(has_comment(p, "alloc_objects: unknown for 1 of 2 call sites, written as 0"));
	ck_assert(has_comment(p, "inuse_objects: unknown for 1 of 2 call sites, written as 0"));
	ck_assert(!has_comment(p, "space: unknown"));
	ck_assert_int_eq(p->time_nanos, 1795176685000000000);
	ck_assert_int_eq(p->duration_nanos, 60000000000);
	/* handle was inlined into worker: one location, the innermost line first */
	ck_assert_uint_eq(p->sample[0]->n_location_id, 3);
	inlined = location_at(p, p->sample[0]->location_id[2]);
	ck_assert_uint_eq(inlined->n_line, 2);
	ck_assert_str_eq(line_name(p, inlined->line[0]), "handle");
	ck_assert_int_eq(inlined->line[0]->line, 204);
	ck_assert_str_eq(line_name(p, inlined->line[1]), "worker");
	ck_assert_uint_eq(inlined->address, 0x401236);
	ck_assert_str_eq(string_at(p, p->mapping[0]->filename), "/opt/srv/bin/srv"); /* the main program, not libc */
	ck_assert_uint_eq(p->mapping[0]->memory_start, 0x400000);
	ck_assert_uint_eq(p->mapping[0]->memory_limit, 0x402000);
	ck_assert(p->mapping[0]->has_functions && p->mapping[0]->has_filenames && p->mapping[0]->has_line_numbers &&
		  p->mapping[0]->has_inline_frames);
	ck_assert_uint_eq(location_at(p, p->sample[0]->location_id[0])->mapping_id, 2);
	ck_assert(p->mapping[1]->has_functions && !p->mapping[1]->has_filenames);
	pprof__profile__free_unpacked(p, NULL);
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_pprof_processes)
{
	cleanup_str struct str out = STR_INIT;
	struct site site = site_of(4099, NULL, 0);
	const Pprof__Sample *last;
	Pprof__Profile *p;
	struct snapshot s;

	scenario_tree(&s);
	s.processes[1].sites = &site;
	s.processes[1].site_count = 1;
	render("pprof", &s, &plain, &out);
	p = unpack(&out);
	check_sound(p);
	ck_assert_uint_eq(p->n_sample, 3);
	ck_assert_uint_eq(p->sample[0]->n_location_id, 4);
	ck_assert_str_eq(line_name(p, location_at(p, p->sample[0]->location_id[3])->line[0]), "srv (4242)");
	last = p->sample[2];
	ck_assert_uint_eq(last->n_location_id, 2);
	ck_assert_str_eq(line_name(p, location_at(p, last->location_id[0])->line[0]), "(no stack)");
	ck_assert_str_eq(line_name(p, location_at(p, last->location_id[1])->line[0]), "helper (4243)");
	ck_assert(has_comment(p, "alloc_space: unknown for 1 of 3"));
	pprof__profile__free_unpacked(p, NULL);
	snapshot_deinit(&s);
}
END_TEST

/* Addresses, sizes and times that fit nowhere; names that would drive a terminal. */
START_TEST(test_pprof_hostile)
{
	struct frame frames[] = {
		{ 1, 2, "/m", hostile, hostile, UINT32_MAX, true, NULL, FRAME_OK },
		{ UNKNOWN_U64, 0, "/m", "f", NULL, 0, true, NULL, FRAME_NO_SYMBOL },
		{ UINT64_MAX - 1, 0, "/m", "g", NULL, 0, true, NULL, FRAME_OK }, /* the outermost, and yet inlined */
	};
	struct site sites[] = { site_of(UINT64_MAX - 1, frames, 3), site_of(1, frames, 1) };
	cleanup_str struct str out = STR_INIT;
	struct gap gap = { "sites", hostile, NULL };
	Pprof__Profile *p;
	struct snapshot s;

	snapshot_init(&s);
	s.session.duration_s = _i ? INFINITY : -1;
	s.session.started_wall_ns = -7;
	s.session.gaps = &gap;
	s.session.gap_count = 1;
	s.main.sites = sites;
	s.main.site_count = COUNT(sites);
	s.main.target.exe = hostile;
	render("pprof", &s, &plain, &out);
	p = unpack(&out);
	check_sound(p);
	ck_assert_int_eq(p->sample[0]->value[3], INT64_MAX);
	ck_assert_int_eq(p->time_nanos, 0);
	ck_assert_int_eq(p->duration_nanos, 0);
	ck_assert(has_comment(p, "not seen: call sites: "));
	pprof__profile__free_unpacked(p, NULL);
	snapshot_deinit(&s);
}
END_TEST

/* ---- all three --------------------------------------------------------------------------------------------------------- */

START_TEST(test_speedscope)
{
	cleanup_str struct str out = STR_INIT;
	struct site site = site_of(4099, frames_inlined, 4);
	struct snapshot s;

	scenario_tree(&s);
	s.processes[1].sites = &site;
	s.processes[1].site_count = 1;
	render("speedscope", &s, &plain, &out);
	ck_assert_str_eq(str_text(&out),
			 "{\"$schema\":\"https://www.speedscope.app/"
			 "file-format-schema.json\",\"exporter\":\"memwatch " MEMWATCH_VERSION
			 "\",\"name\":\"memwatch: srv (4242)\",\"activeProfileIndex\":0,\"shared\":{\"frames\":["
			 "{\"name\":\"srv (4242)\"},"
			 "{\"name\":\"worker\",\"file\":\"/src/srv/srv.c\",\"line\":310},"
			 "{\"name\":\"handle\",\"file\":\"/src/srv/srv.c\",\"line\":204},"
			 "{\"name\":\"cache_put\",\"file\":\"/src/srv/cache.c\",\"line\":118},"
			 "{\"name\":\"__libc_malloc\",\"file\":\"/usr/lib/libc.so.6\"},"
			 "{\"name\":\"plugin_load\",\"file\":\"/opt/srv/lib/plugin.so\"},"
			 "{\"name\":\"plugin.so+0x1000\",\"file\":\"/opt/srv/lib/plugin.so\"},"
			 "{\"name\":\"helper (4243)\"},"
			 "{\"name\":\"main\",\"file\":\"/src/b.c\",\"line\":40},"
			 "{\"name\":\"outer\",\"file\":\"/src/b.c\",\"line\":11},"
			 "{\"name\":\"middle\xEF\xBF\xBDone\",\"file\":\"/src/a.c\",\"line\":9},"
			 "{\"name\":\"inner;one\",\"file\":\"/src/a.c\",\"line\":7}]},\"profiles\":["
			 "{\"type\":\"sampled\",\"name\":\"surviving bytes\",\"unit\":\"bytes\",\"startValue\":0,"
			 "\"samples\":[[0,1,2,3,4],[0,5,6],[7,8,9,10,11]],\"weights\":[62914560,2621440,4099],"
			 "\"endValue\":65540099},"
			 "{\"type\":\"sampled\",\"name\":\"allocated bytes\",\"unit\":\"bytes\",\"startValue\":0,"
			 "\"samples\":[[0,1,2,3,4],[0,5,6]],\"weights\":[62914560,5242880],\"endValue\":68157440}]}\n");
	snapshot_deinit(&s);
}
END_TEST

START_TEST(test_without_sites)
{
	cleanup_str struct str folded = STR_INIT;
	cleanup_str struct str pprof = STR_INIT;
	cleanup_str struct str speedscope = STR_INIT;
	Pprof__Profile *p;
	struct snapshot s;

	snapshot_init(&s);
	render("folded", &s, &plain, &folded);
	ck_assert_str_eq(str_text(&folded), "");
	render("pprof", &s, &plain, &pprof);
	p = unpack(&pprof);
	check_sound(p);
	ck_assert(p->n_sample == 0 && p->n_location == 0 && p->n_mapping == 0);
	pprof__profile__free_unpacked(p, NULL);
	render("speedscope", &s, &plain, &speedscope);
	ck_assert_ptr_nonnull(strstr(str_text(&speedscope), "\"shared\":{\"frames\":[]}"));
	ck_assert_ptr_nonnull(strstr(str_text(&speedscope), "\"samples\":[],\"weights\":[],\"endValue\":0}]}\n"));
	snapshot_deinit(&s);
}
END_TEST

/* A profile larger than the steps by which it is compressed; many sites take no time that grows with their square. */
START_TEST(test_many_sites)
{
	enum { MANY = 50000 };
	struct frame *frames = calloc(MANY, sizeof(*frames));
	struct site *sites = calloc(MANY, sizeof(*sites));
	char(*names)[16] = calloc(MANY, sizeof(*names));
	Pprof__Profile *p;
	struct snapshot s;

	ck_assert(frames && sites && names);
	snapshot_init(&s);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "f%zu", i * 7919 % MANY);
		frames[i] = frames_inlined[3];
		frames[i].function = names[i];
		sites[i] = site_of(1, &frames[i], 1);
	}
	s.main.sites = sites;
	s.main.site_count = MANY;
	for (const struct report_format *f = report_formats; f->name; f++) {
		cleanup_str struct str out = STR_INIT;

		if (!f->sites_only)
			continue;
		render(f->name, &s, &plain, &out);
		if (!f->binary)
			continue;
		p = unpack(&out);
		check_sound(p);
		ck_assert_uint_eq(p->n_sample, MANY);
		ck_assert_uint_eq(p->n_function, MANY);
		pprof__profile__free_unpacked(p, NULL);
	}
	snapshot_deinit(&s);
	free(frames);
	free(sites);
	free(names);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("report_formats");
	TCase *tc = tcase_create("report_formats");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_folded);
	tcase_add_test(tc, test_folded_sums_and_replaces);
	tcase_add_test(tc, test_folded_processes);
	tcase_add_test(tc, test_pprof);
	tcase_add_test(tc, test_pprof_processes);
	tcase_add_loop_test(tc, test_pprof_hostile, 0, 2);
	tcase_add_test(tc, test_speedscope);
	tcase_add_test(tc, test_without_sites);
	tcase_add_test(tc, test_many_sites);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? 1 : 0;
}
