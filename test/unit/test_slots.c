/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Slots of programs of many makes. The truth is what happens: every slot that is listed for malloc and free is led to counting functions of the
 * program's own, and each of its calls must come by, those inside libc too.
 */
#include <check.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>

#include "child.h"
#include "memwatch/base/cleanup.h"
#include "memwatch/mem.h"
#include "support_slots.h"

#define SLOTS_VICTIMS "build/test/victims/"
#define DIRECT 33 /* calls of malloc that slots_target makes, those inside libc among them; as many of free */
#define PRINTED 3
#define PLUGIN 11
#define CXX 30
#define STEPS_BETWEEN 101 /* instructions from one look to the next, while the program starts */

static void expect(struct victim *v, char c, int calls)
{
	int mallocs = -1, frees = -1;

	victim_command(v, c, &mallocs, &frees);
	ck_assert_int_eq(mallocs, calls);
	ck_assert_int_eq(frees, calls);
}

static size_t count_of(const struct slot_set *set, uint32_t from, uint32_t to)
{
	size_t count = 0;

	for (size_t i = 0; i < set->count; i++)
		count += set->slots[i].function >= from && set->slots[i].function <= to;
	return count;
}

/* ---- every make of program ---- */

static void check_real(const struct victim *v, const struct slot_set *set)
{
	for (size_t i = 0; i < PROBE_FUNCTION_COUNT; i++)
		if (v->real[i])
			ck_assert_msg(set->real[i] == v->real[i], "%s", slot_function_names[i]);
	for (size_t i = 0; i < set->count; i++)
		ck_assert_uint_eq(set->slots[i].address % 8, 0);
}

static void check_calls(const char *name, const char *preload)
{
	struct victim v = victim_ready(name, preload);
	struct slot_set set = victim_slots(&v), again;
	int mallocs, frees;
	size_t led;

	check_real(&v, &set);
	ck_assert_uint_eq(set.foreign, 0);
	ck_assert_uint_eq(set.unreadable, 0);
	ck_assert_uint_eq(set.unsettled, 0);
	expect(&v, 'c', 0);
	led = victim_lead(&v, &set);
	expect(&v, 'c', DIRECT);
	victim_command(&v, 'a', &mallocs, &frees);
	ck_assert_int_ge(mallocs, PRINTED);
	ck_assert_int_eq(frees, mallocs);
	/* What holds something else now is left alone, and named. */
	again = victim_slots(&v);
	ck_assert_uint_eq(again.foreign, led);
	ck_assert_uint_eq(again.stranger_count, led);
	ck_assert_uint_eq(again.count + led, set.count);
	for (size_t i = 0; i < led; i++)
		ck_assert_uint_eq(again.strangers[i].value, victim_counter(&v, again.strangers[i].function));
	/* And back. */
	for (size_t i = 0; i < set.count; i++)
		if (victim_counter(&v, set.slots[i].function))
			victim_put(&v, set.slots[i].address, set.slots[i].value);
	expect(&v, 'c', 0);
	slot_set_deinit(&again);
	slot_set_deinit(&set);
	victim_end(&v);
}

static const char *const makes[] = { "slots_target",    "slots_now",   "slots_nopie",
				     "slots_nopie_now", "slots_noplt", "slots_stripped" };
#define STEPPED_FROM 2 /* those at fixed addresses: what the file says of their slots looks most like the truth */
#define STEPPED_TO 4
#define MAKES (sizeof(makes) / sizeof(makes[0]))

START_TEST(every_call_goes_through_a_listed_slot)
{
	check_calls(makes[_i], NULL);
}
END_TEST

START_TEST(a_preloaded_allocator_is_the_real_one)
{
	check_calls(makes[_i], SLOTS_VICTIMS "slots_alloc");
}
END_TEST

START_TEST(operators_are_counted_once)
{
	struct victim v = victim_ready("slots_cxx", _i ? SLOTS_VICTIMS "slots_alloc_new" : NULL);
	struct slot_set set = victim_slots(&v), again;

	/* libstdc++ calls malloc; the allocator serves them by itself, and its own call of malloc is not counted as well. */
	ck_assert_int_eq(count_of(&set, PROBE_NEW, PROBE_DELETE_ARRAY_SIZED_ALIGNED) > 0, _i);
	check_real(&v, &set);
	victim_lead(&v, &set);
	expect(&v, 'c', CXX);
	again = victim_slots(&v);
	ck_assert_uint_eq(count_of(&again, PROBE_NEW, PROBE_NEW_ARRAY), 0);
	slot_set_deinit(&again);
	slot_set_deinit(&set);
	victim_end(&v);
}
END_TEST

START_TEST(read_only_slots_are_known)
{
	struct victim v = victim_ready(_i ? "slots_now" : "slots_target", NULL);
	struct slot_set set = victim_slots(&v);
	const struct region *regions;
	ssize_t count = mem_regions(v.mem, &regions);
	size_t read_only = 0;

	ck_assert_int_gt(count, 0);
	for (size_t i = 0; i < set.count; i++) {
		const struct region *r = region_find(regions, (size_t)count, set.slots[i].address);

		ck_assert_ptr_nonnull(r);
		ck_assert_int_eq(set.slots[i].read_only, !(r->flags & REGION_WRITE));
		read_only += set.slots[i].read_only && strstr(r->path, "slots_") != NULL;
	}
	ck_assert_int_eq(read_only > 0, _i);
	slot_set_deinit(&set);
	victim_end(&v);
}
END_TEST

START_TEST(copies_of_addresses_are_noticed)
{
	struct victim v = victim_ready("slots_copied", NULL);
	struct slot_set set = victim_slots(&v);
	const struct region *regions;
	ssize_t count = mem_regions(v.mem, &regions);
	int seen = 0, pointers = 0;

	for (size_t i = 0; i < set.count; i++) {
		const struct region *r = region_find(regions, (size_t)count, set.slots[i].address);

		if (!strstr(r->path, "slots_copied"))
			continue;
		/* free is called through its slot alone, malloc's address is taken; calloc's and free's stand in tables of the program's own */
		if (set.slots[i].function != PROBE_MALLOC && set.slots[i].copied)
			pointers++;
		else
			ck_assert_int_eq(set.slots[i].copied, set.slots[i].function == PROBE_MALLOC);
		seen++;
	}
	ck_assert_int_eq(pointers, 2);
	ck_assert_int_eq(seen, 4);
	ck_assert_uint_eq(set.static_copies, 1);
	slot_set_deinit(&set);
	victim_end(&v);
}
END_TEST

/* ---- modules that come and go ---- */

START_TEST(loaded_modules_are_found)
{
	struct victim v = victim_ready(makes[_i], NULL);
	struct slot_set before = victim_slots(&v), after;
	uint64_t generation = 0, first;
	int ignored;

	ck_assert_int_eq(slots_generation(v.pid, v.mem, &first), 0);
	ck_assert_uint_eq(first, before.link_maps);
	victim_command(&v, 'o', &ignored, &ignored);
	ck_assert_int_eq(slots_generation(v.pid, v.mem, &generation), 0);
	ck_assert_uint_ne(generation, first);
	expect(&v, 'p', 0);
	after = victim_slots(&v);
	ck_assert_uint_eq(after.link_maps, generation);
	ck_assert_uint_eq(after.modules, before.modules + 1);
	ck_assert_uint_ge(after.count, before.count + 2);
	victim_lead(&v, &after);
	expect(&v, 'p', PLUGIN);
	victim_command(&v, 'x', &ignored, &ignored);
	ck_assert_int_eq(slots_generation(v.pid, v.mem, &generation), 0);
	ck_assert_uint_eq(generation, first);
	slot_set_deinit(&before);
	slot_set_deinit(&after);
	victim_end(&v);
}
END_TEST

START_TEST(other_namespaces_are_left_alone)
{
	struct victim v = victim_ready("slots_target", NULL);
	struct slot_set before = victim_slots(&v), after;
	int ignored;

	victim_command(&v, 'n', &ignored, &ignored);
	after = victim_slots(&v);
	/* A second libc and the plugin: they call a malloc of their own. */
	ck_assert_uint_ge(after.modules, before.modules + 2);
	ck_assert_uint_ne(after.link_maps, before.link_maps);
	ck_assert_uint_eq(after.count, before.count);
	ck_assert_uint_eq(after.foreign, 0);
	ck_assert_mem_eq(after.real, before.real, sizeof(after.real));
	for (size_t i = 0; i < after.count; i++)
		ck_assert_uint_eq(after.slots[i].address, before.slots[i].address);
	slot_set_deinit(&before);
	slot_set_deinit(&after);
	victim_end(&v);
}
END_TEST

/* libc's part that is read-only after relocation, made writable again: as if the linker had still to protect it. */
static int unprotect(struct dl_phdr_info *info, size_t size, void *arg)
{
	uint64_t start, end;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &info->dlpi_phdr[i];

		if (p->p_type != PT_GNU_RELRO || !strstr(info->dlpi_name, "libc.so"))
			continue;
		start = (info->dlpi_addr + p->p_vaddr) & ~4095UL;
		end = (info->dlpi_addr + p->p_vaddr + p->p_memsz) & ~4095UL;
		*(int *)arg += mprotect((void *)start, end - start, PROT_READ | PROT_WRITE) == 0;
	}
	return 0;
}

static void unprotected_body(const struct child *self)
{
	int done = 0;

	child_step(self, 0);
	dl_iterate_phdr(unprotect, &done);
	child_step(self, (uint64_t)done);
}

START_TEST(pages_about_to_be_protected_are_left_alone)
{
	struct child c = child_start(unprotected_body);
	struct victim v = { .pid = c.pid };
	struct slot_set before, after;

	child_wait(&c);
	victim_open(&v);
	before = victim_slots(&v);
	ck_assert_uint_eq(before.unsettled, 0);
	for (size_t i = 0; i < PROBE_FUNCTION_COUNT; i++) { /* forked: the same addresses as here */
		void *here = dlsym(RTLD_DEFAULT, slot_function_names[i]);

		if (here)
			ck_assert_msg(before.real[i] == (uint64_t)(uintptr_t)here, "%s", slot_function_names[i]);
	}
	ck_assert_uint_eq(child_next(&c), 1);
	after = victim_slots(&v);
	ck_assert_uint_ge(after.unsettled, 2); /* malloc and free, as strdup calls them */
	ck_assert_uint_eq(after.count + after.unsettled, before.count);
	slot_set_deinit(&before);
	slot_set_deinit(&after);
	mem_destroy(v.mem);
	close(v.dir_fd);
	close(v.mem_fd);
	child_end(&c);
}
END_TEST

/* ---- while the program starts ---- */

static bool has_spoken(const struct victim *v)
{
	int bytes = 0;

	return ioctl(fileno(v->from), FIONREAD, &bytes) == 0 && bytes > 0;
}

/* Steps on until the first look that says all is there. Returns the looks that said "not yet". */
static int step_until_found(struct victim *v, bool by_calls, struct slot_set *ret)
{
	int status, early = 0;

	ck_assert_int_eq(waitpid(v->pid, &status, 0), v->pid);
	victim_open(v);
	for (uint64_t step = 0;; step++) {
		struct err err = ERR_INIT;
		int r = by_calls || step % STEPS_BETWEEN == 0 ? slots_find(v->pid, v->mem, ret, &err) : -EAGAIN;

		if (r == 0)
			return early;
		ck_assert_msg(r == -EAGAIN, "%d: %s", r, err.msg);
		ck_assert_msg(!has_spoken(v), "not found before main: %s", err.msg);
		early++;
		ck_assert_int_eq(ptrace(by_calls ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, v->pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(v->pid, &status, 0), v->pid);
		ck_assert(WIFSTOPPED(status));
	}
}

static void check_start(const char *name, const char *preload, bool by_calls)
{
	struct victim v = victim_start(name, preload, true);
	struct slot_set early = { .slots = NULL }, late;

	ck_assert_int_gt(step_until_found(&v, by_calls, &early), 5);
	/* Found once, led once: whatever the linker still did after that would undo it. */
	ck_assert_int_eq(has_spoken(&v), false);
	ck_assert_int_eq(ptrace(PTRACE_DETACH, v.pid, NULL, NULL), 0);
	victim_listen(&v);
	check_real(&v, &early);
	late = victim_slots(&v);
	ck_assert_uint_eq(early.link_maps, late.link_maps);
	ck_assert_uint_eq(early.count, late.count);
	for (size_t i = 0; i < early.count; i++)
		ck_assert_uint_eq(early.slots[i].address, late.slots[i].address);
	victim_lead(&v, &early);
	expect(&v, 'c', DIRECT);
	slot_set_deinit(&early);
	slot_set_deinit(&late);
	victim_end(&v);
}

START_TEST(nothing_is_found_before_it_is_bound)
{
	check_start(makes[_i], NULL, true);
	check_start(makes[_i], SLOTS_VICTIMS "slots_alloc", true);
}
END_TEST

START_TEST(nothing_is_found_between_any_two_calls)
{
	check_start(makes[_i], NULL, false);
}
END_TEST

/* ---- refusals ---- */

static void check_refused(const struct victim *v, int code, bool is_static, const char *part)
{
	struct slot_set set = { .slots = NULL };
	struct err err = ERR_INIT;

	ck_assert_int_eq(slots_find(v->pid, v->mem, &set, &err), -code);
	ck_assert_int_eq(err.code, code);
	ck_assert_msg(strstr(err.msg, part) != NULL, "%s", err.msg);
	ck_assert_int_eq(set.is_static, is_static);
	ck_assert_ptr_null(set.slots);
}

START_TEST(static_programs_have_none)
{
	struct victim v = victim_ready(_i ? "slots_static_pie" : "slots_static", NULL);
	uint64_t generation;

	check_refused(&v, ENOTSUP, true, "statically");
	ck_assert_int_eq(slots_generation(v.pid, v.mem, &generation), -ENOTSUP);
	victim_end(&v);
}
END_TEST

START_TEST(the_dead_are_gone)
{
	struct victim v = victim_ready("slots_target", NULL);
	siginfo_t info;

	kill(v.pid, SIGKILL);
	waitid(P_PID, (id_t)v.pid, &info, WEXITED | WNOWAIT);
	check_refused(&v, ESRCH, false, "process");
	victim_end(&v);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("slots");
	TCase *tc = tcase_create("slots");
	SRunner *sr;
	int failures;

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, every_call_goes_through_a_listed_slot, 0, MAKES);
	tcase_add_loop_test(tc, a_preloaded_allocator_is_the_real_one, 0, MAKES);
	tcase_add_loop_test(tc, operators_are_counted_once, 0, 2);
	tcase_add_loop_test(tc, read_only_slots_are_known, 0, 2);
	tcase_add_test(tc, copies_of_addresses_are_noticed);
	tcase_add_loop_test(tc, loaded_modules_are_found, 0, MAKES);
	tcase_add_test(tc, other_namespaces_are_left_alone);
	tcase_add_test(tc, pages_about_to_be_protected_are_left_alone);
	tcase_add_loop_test(tc, nothing_is_found_before_it_is_bound, 0, MAKES);
	tcase_add_loop_test(tc, nothing_is_found_between_any_two_calls, STEPPED_FROM, STEPPED_TO);
	tcase_add_loop_test(tc, static_programs_have_none, 0, 2);
	tcase_add_test(tc, the_dead_are_gone);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failures = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failures ? 1 : 0;
}
