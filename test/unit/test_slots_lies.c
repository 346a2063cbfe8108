/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Slots: images of programs that lie, and what code looks like. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/mem.h"
#include "support_slots.h"

/* ---- lies ---- */

#define LIES 3000
#define SNAPSHOT_MAX ((size_t)16 << 20) /* of a mapping */

struct image {
	struct mem_segment *segments;
	size_t count;
	struct mem *mem;
	struct slots_start start;
};

static struct image image_take(const struct victim *v)
{
	struct image s = { .start = { .dir_fd = -1 } };
	const struct region *regions;
	ssize_t count = mem_regions(v->mem, &regions);
	uint64_t words[512];
	int fd = openat(v->dir_fd, "auxv", O_RDONLY);
	ssize_t n = read(fd, words, sizeof(words));

	close(fd);
	for (size_t i = 0; i + 1 < (size_t)n / 8; i += 2) {
		s.start.phdr = words[i] == AT_PHDR ? words[i + 1] : s.start.phdr;
		s.start.phnum = words[i] == AT_PHNUM ? words[i + 1] : s.start.phnum;
		s.start.entry = words[i] == AT_ENTRY ? words[i + 1] : s.start.entry;
		s.start.linker = words[i] == AT_BASE ? words[i + 1] : s.start.linker;
	}
	s.segments = calloc((size_t)count, sizeof(*s.segments));
	for (ssize_t i = 0; i < count; i++) {
		size_t len = (size_t)(regions[i].end - regions[i].start);
		void *data;

		if (!(regions[i].flags & REGION_READ) || len > SNAPSHOT_MAX)
			continue;
		data = calloc(1, len);
		ck_assert_int_ge(mem_read(v->mem, regions[i].start, data, len), 0);
		s.segments[s.count] = (struct mem_segment){ regions[i], data };
		s.segments[s.count++].region.path = "";
	}
	ck_assert_int_eq(mem_fixture_create(s.segments, s.count, &s.mem), 0);
	return s;
}

static void image_free(struct image *s)
{
	mem_destroy(s->mem);
	for (size_t i = 0; i < s->count; i++)
		free((void *)(uintptr_t)s->segments[i].data);
	free(s->segments);
}

static uint8_t *image_at(const struct image *s, uint64_t address)
{
	for (size_t i = 0; i < s->count; i++)
		if (address >= s->segments[i].region.start && address + 8 <= s->segments[i].region.end)
			return (uint8_t *)(uintptr_t)s->segments[i].data + (address - s->segments[i].region.start);
	return NULL;
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Places that matter: link maps, headers, dynamic sections, hash tables, symbols, relocations. */
static size_t find_places(const struct image *s, uint64_t (*places)[2], size_t cap)
{
	struct slots_look look = { .mem = s->mem, .dir_fd = -1, .table_left = SLOTS_TABLE_BYTES };
	uint64_t generation;
	bool is_static;
	size_t count = 0;

	ck_assert_int_eq(slots_read_links(&look, &s->start, &generation, &is_static, NULL), 0);
	places[count][0] = s->start.phdr - 64;
	places[count++][1] = 800;
	for (size_t i = 0; i < look.module_count && count + 6 <= cap; i++) {
		const struct slots_module *m = &look.modules[i];
		const uint64_t here[6][2] = { { m->link_map, 40 }, { m->bias, 800 },    { m->dynamic, 512 },
					      { m->gnu_hash, 96 }, { m->symtab, 2400 }, { m->rela_table, 2400 } };

		for (size_t k = 0; k < 6; k++)
			if (here[k][0])
				memcpy(places[count++], here[k], sizeof(here[k]));
	}
	free(look.modules);
	return count;
}

static uint64_t lie(uint64_t truth, uint64_t *random)
{
	switch (next_random(random) % 6) {
	case 0:
		return next_random(random);
	case 1:
		return 0;
	case 2:
		return UINT64_MAX - next_random(random) % 64;
	case 3:
		return truth ^ (1ULL << next_random(random) % 64);
	case 4:
		return truth + next_random(random) % 4096;
	default:
		return truth - next_random(random) % (1ULL << 32);
	}
}

START_TEST(lies_do_no_harm)
{
	struct victim v = victim_ready(_i ? "slots_stripped" : "slots_target", NULL);
	struct image s = image_take(&v);
	uint64_t places[64][2], random = 4099 + (uint64_t)_i;
	size_t place_count = find_places(&s, places, 64), found = 0;
	struct slot_set set = { .slots = NULL };

	ck_assert_int_eq(slots_find_from(&s.start, s.mem, &set, NULL), 0);
	ck_assert_uint_gt(set.count, 5);
	slot_set_deinit(&set);
	for (int i = 0; i < LIES; i++) {
		int told = 1 + (int)(next_random(&random) % 4);
		uint64_t kept[4];
		uint8_t *at[4];

		for (int k = 0; k < told; k++) {
			const uint64_t *place = places[next_random(&random) % place_count];

			at[k] = image_at(&s, place[0] + next_random(&random) % place[1] / 8 * 8);
			if (!at[k])
				continue;
			memcpy(&kept[k], at[k], 8);
			memcpy(at[k], &(uint64_t){ lie(kept[k], &random) }, 8);
		}
		found += slots_find_from(&s.start, s.mem, &set, NULL) == 0;
		for (size_t k = 0; k < set.count; k++) /* whatever it was told, no slot lies outside of memory */
			ck_assert_ptr_nonnull(image_at(&s, set.slots[k].address));
		slot_set_deinit(&set);
		for (int k = told - 1; k >= 0; k--)
			if (at[k])
				memcpy(at[k], &kept[k], 8);
	}
	ck_assert_uint_gt(found, 0);
	ck_assert_uint_lt(found, LIES);
	image_free(&s);
	victim_end(&v);
}
END_TEST

START_TEST(loops_of_link_maps_end)
{
	struct victim v = victim_ready("slots_target", NULL);
	struct slots_look look = { .mem = v.mem, .dir_fd = -1, .table_left = SLOTS_TABLE_BYTES };
	struct image s = image_take(&v);
	struct slot_set set = { .slots = NULL };
	struct slots_start start = s.start;
	uint64_t generation, first;
	bool is_static;

	ck_assert_int_eq(slots_read_links(&look, &start, &generation, &is_static, NULL), 0);
	first = look.modules[0].link_map;
	memcpy(image_at(&s, look.modules[look.module_count - 1].link_map + offsetof(struct link_map, l_next)), &first,
	       8);
	ck_assert_int_eq(slots_find_from(&start, s.mem, &set, NULL), -EAGAIN);
	free(look.modules);
	image_free(&s);
	victim_end(&v);
}
END_TEST

/* ---- words that are not bound yet ---- */

static int find_in(const struct image *s)
{
	struct slot_set set = { .slots = NULL };
	int r = slots_find_from(&s->start, s->mem, &set, NULL);

	slot_set_deinit(&set);
	return r;
}

static void check_unbound(const struct image *s, uint64_t address, uint64_t value)
{
	uint8_t *at = image_at(s, address);
	uint64_t kept;

	ck_assert_ptr_nonnull(at);
	memcpy(&kept, at, 8);
	ck_assert_uint_ne(kept, value);
	memcpy(at, &value, 8);
	ck_assert_int_eq(find_in(s), -EAGAIN);
	memcpy(at, &kept, 8);
	ck_assert_int_eq(find_in(s), 0);
}

/* A word of the program that is bound to another function than ours: to that of libc which calls main. */
static uint64_t find_witness(const struct image *s, const struct slots_module *m)
{
	for (uint64_t at = m->rela_table; at < m->rela_table + m->rela_bytes; at += sizeof(Elf64_Rela)) {
		Elf64_Rela rela;
		Elf64_Sym symbol;

		memcpy(&rela, image_at(s, at), sizeof(rela));
		memcpy(&symbol, image_at(s, m->symtab + ELF64_R_SYM(rela.r_info) * sizeof(symbol)), sizeof(symbol));
		if (slots_arch_kind((uint32_t)ELF64_R_TYPE(rela.r_info)) == SLOTS_DATA &&
		    ELF64_ST_BIND(symbol.st_info) == STB_GLOBAL)
			return m->bias + rela.r_offset;
	}
	return 0;
}

START_TEST(unbound_words_mean_try_again)
{
	struct victim v = victim_ready(_i ? "slots_nopie" : "slots_target", NULL);
	struct image s = image_take(&v);
	struct slots_look look = { .mem = s.mem, .dir_fd = -1, .table_left = SLOTS_TABLE_BYTES };
	struct slot_set set = { .slots = NULL };
	size_t stubs = 0, bound = 0;
	const struct slots_module *m = NULL;
	uint64_t generation;
	bool is_static;

	ck_assert_int_eq(slots_read_links(&look, &s.start, &generation, &is_static, NULL), 0);
	ck_assert_int_eq(slots_find_from(&s.start, s.mem, &set, NULL), 0);
	for (size_t i = 0; i < set.count; i++) {
		const struct slot *slot = &set.slots[i];

		for (size_t k = 0; k < look.module_count; k++)
			if (slots_holds(&look.modules[k], slot->address, 8))
				m = &look.modules[k];
		if (m->bias && slot->value != set.real[slot->function] && slots_in_code(m, slot->value)) {
			check_unbound(&s, slot->address, slot->value - m->bias); /* as the file has it */
			stubs++;
		} else if (slot->read_only) {
			check_unbound(&s, slot->address, 0); /* libc's own: strdup calls through it */
			bound++;
		}
	}
	ck_assert_uint_gt(stubs, 0);
	ck_assert_uint_gt(bound, 0);
	m = &look.modules[0];
	check_unbound(&s, find_witness(&s, m), 0);
	check_unbound(&s, m->plt_got + 8, 0); /* lazy binding is not set up */
	slot_set_deinit(&set);
	free(look.modules);
	image_free(&s);
	victim_end(&v);
}
END_TEST

/* ---- code ---- */

#define AT 0x400000ULL

static struct slots_use scan(const uint8_t *code, size_t len, size_t displacement, int immediate)
{
	uint8_t buf[64];
	struct slots_use uses[3] = { { .address = AT + 0x1000 },
				     { .address = AT + 0x2000 },
				     { .address = AT + 0x3000 } };
	int32_t d = (int32_t)(0x2000 - (displacement + 4) - (size_t)immediate);

	memset(buf, 0x90, sizeof(buf));
	memcpy(buf, code, len);
	memcpy(buf + displacement, &d, sizeof(d));
	slots_arch_scan(buf, len, AT, uses, 3);
	ck_assert(!uses[0].called && !uses[0].copied && !uses[2].called && !uses[2].copied);
	return uses[1];
}

START_TEST(uses_of_slots_are_told_apart)
{
	static const struct {
		uint8_t code[24];
		uint8_t len, displacement, immediate;
		bool called, copied;
	} rows[] = {
		{ { 0xff, 0x15 }, 6, 2, 0, true, false },                          /* call *slot(%rip) */
		{ { 0xff, 0x25 }, 6, 2, 0, true, false },                          /* jmp *slot(%rip) */
		{ { 0xf2, 0xff, 0x25 }, 7, 3, 0, true, false },                    /* bnd jmp */
		{ { 0x3e, 0xff, 0x15 }, 7, 3, 0, true, false },                    /* notrack call */
		{ { 0x90, 0x90, 0x41, 0xff, 0x15 }, 9, 5, 0, true, false },        /* with a REX prefix */
		{ { 0x48, 0x8b, 0x05 }, 7, 3, 0, false, true },                    /* mov slot(%rip), %rax */
		{ { 0x4c, 0x8b, 0x3d }, 7, 3, 0, false, true },                    /* mov slot(%rip), %r15 */
		{ { 0xff, 0x35 }, 6, 2, 0, false, true },                          /* push */
		{ { 0x48, 0x8d, 0x3d }, 7, 3, 0, false, true },                    /* lea: the slot's own address */
		{ { 0xf3, 0x0f, 0x7e, 0x05 }, 8, 4, 0, false, true },              /* movq slot(%rip), %xmm0 */
		{ { 0x66, 0x48, 0x0f, 0x3a, 0x22, 0x05 }, 11, 6, 1, false, true }, /* pinsrq $1, slot(%rip), %xmm0 */
		{ { 0x48, 0x83, 0x3d }, 8, 3, 1, false, false },                   /* cmpq $0, slot(%rip) */
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t pad = 0; pad < 24; pad++) { /* anywhere in a vector, and across two */
			uint8_t code[64];
			struct slots_use use;

			memset(code, 0x90, sizeof(code));
			memcpy(code + pad, rows[i].code, rows[i].len);
			use = scan(code, rows[i].len + pad, rows[i].displacement + pad, rows[i].immediate);
			ck_assert_msg(use.called == rows[i].called && use.copied == rows[i].copied, "row %zu, %zu", i,
				      pad);
		}
}
END_TEST

START_TEST(stubs_are_told_from_functions)
{
	static const uint8_t gnu[SLOTS_STUB_BYTES] = { 0x68, 5, 0, 0, 0, 0xe9, 1, 2, 3, 4 };
	static const uint8_t cet[SLOTS_STUB_BYTES] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x68, 5, 0, 0, 0, 0xf2, 0xe9 };
	static const uint8_t mold[SLOTS_STUB_BYTES] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x53, 0xff,
							0x35, 0,    0,    0,    0,    0xff, 0x25 };
	static const uint8_t function[SLOTS_STUB_BYTES] = { 0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5 };
	static const uint8_t pushes[SLOTS_STUB_BYTES] = { 0x68, 5, 0, 0, 0, 0xc3 };

	ck_assert(slots_arch_is_stub(gnu, sizeof(gnu), 5));
	ck_assert(!slots_arch_is_stub(gnu, sizeof(gnu), 6));
	ck_assert(!slots_arch_is_stub(gnu, 12, 5));
	ck_assert(slots_arch_is_stub(cet, sizeof(cet), 5));
	ck_assert(slots_arch_is_stub(mold, sizeof(mold), 77));
	ck_assert(!slots_arch_is_stub(function, sizeof(function), 5));
	ck_assert(!slots_arch_is_stub(pushes, sizeof(pushes), 5));
}
END_TEST

START_TEST(names_fit)
{
	for (size_t i = 0; i < SLOTS_NAMES; i++) {
		ck_assert_ptr_nonnull(slots_name(i));
		ck_assert_uint_lt(strlen(slots_name(i)), SLOTS_NAME_BYTES);
		ck_assert_int_eq(slots_name_find(slots_name(i)), (int)i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slots_lies");
	TCase *tc = tcase_create("slots_lies");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, lies_do_no_harm, 0, 2);
	tcase_add_loop_test(tc, unbound_words_mean_try_again, 0, 2);
	tcase_add_test(tc, loops_of_link_maps_end);
	tcase_add_test(tc, uses_of_slots_are_told_apart);
	tcase_add_test(tc, stubs_are_told_from_functions);
	tcase_add_test(tc, names_fit);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
