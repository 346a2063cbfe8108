/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Data objects by their names: of this program and of the C library, which is stripped. */
#include <check.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support_stack.h"

extern int symbol_data_global, symbol_data_zeroes[64]; /* declared, so that they are not warned about */
int symbol_data_global = 23;
int symbol_data_zeroes[64];
static volatile int symbol_data_local = 29;
static const volatile int symbol_data_constant = 31;
static _Thread_local volatile int symbol_data_thread = 37;
/* What link-time optimisation makes of a static's name. */
static volatile int renamed __asm__("symbol_data_renamed.lto_priv.0") = 41;

static struct mem *mem;
static struct symbols *symbols;
static int proc_fd;

static void setup(void)
{
	struct symbols_options options = { .pid = getpid() };
	struct err err = ERR_INIT;

	proc_fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(proc_fd, 0);
	options.proc_fd = proc_fd;
	ck_assert_msg(mem_live_create(getpid(), proc_fd, &mem, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(symbols_create(&options, &symbols), 0);
	ck_assert_int_eq(symbols_update(symbols, mem), 0);
}

static void teardown(void)
{
	symbols_destroy(symbols);
	mem_destroy(mem);
	close(proc_fd);
}

static uint64_t address_of(const volatile void *p)
{
	return (uint64_t)(uintptr_t)p;
}

static void expect_at(const char *name, const volatile void *place)
{
	uint64_t found = 0;

	ck_assert_msg(symbols_find_data(symbols, name, &found) == 0, "no '%s'", name);
	ck_assert_msg(found == address_of(place), "'%s' at %llx, not %p", name, (unsigned long long)found,
		      (const void *)(uintptr_t)place);
}

static void expect_none(const char *name)
{
	uint64_t found = 4099;

	ck_assert_msg(symbols_find_data(symbols, name, &found) == -ENOENT, "'%s' was found", name);
	ck_assert_uint_eq(found, 4099);
}

START_TEST(data_of_the_program_is_found)
{
	ck_assert_int_eq(symbol_data_local + symbol_data_constant + renamed, 29 + 31 + 41);
	expect_at("symbol_data_global", &symbol_data_global);
	expect_at("symbol_data_zeroes", symbol_data_zeroes);
	expect_at("symbol_data_local", &symbol_data_local);
	expect_at("symbol_data_constant", &symbol_data_constant);
	expect_at("symbol_data_renamed", &renamed);
	expect_at("symbol_data_renamed.lto_priv.0", &renamed);
}
END_TEST

/* The program may hold copies of what it uses of the library: then those are the ones in use. */
START_TEST(data_of_libraries_is_found)
{
	void *other = dlsym(RTLD_DEFAULT, "_IO_2_1_stderr_");

	expect_at("environ", &environ);
	expect_at("stdout", &stdout);
	ck_assert_ptr_nonnull(other);
	expect_at("_IO_2_1_stderr_", other);
}
END_TEST

START_TEST(what_is_no_data_object_is_not)
{
	ck_assert_int_eq(symbol_data_thread, 37);
	expect_none("symbol_data_thread"); /* each thread has its own */
	expect_none("errno");
	expect_none("main");
	expect_none("malloc");
	expect_none("GLIBC_2.2.5"); /* a version's name is an absolute object */
	expect_none("symbol_data_loca");
	expect_none("symbol_data_locals");
	expect_none("");
}
END_TEST

START_TEST(without_the_process_nothing_is_found_or_lost)
{
	symbols_leave(symbols);
	expect_none("symbol_data_absent");
}
END_TEST

/* ---- files that lie ---- */

static uint32_t noise(uint32_t *state)
{
	*state = *state * 1664525U + 1013904223U;
	return *state >> 8;
}

/* Every symbol says that it is an object, at places and of sizes and with names that are noise. */
static void spoil_symbols(unsigned char *file, size_t len, uint32_t seed)
{
	Elf64_Ehdr ehdr;

	ck_assert_uint_ge(len, sizeof(ehdr));
	memcpy(&ehdr, file, sizeof(ehdr));
	ck_assert_uint_ge(len, ehdr.e_shoff + (uint64_t)ehdr.e_shnum * sizeof(Elf64_Shdr));
	for (size_t i = 0; i < ehdr.e_shnum; i++) {
		Elf64_Shdr shdr;

		memcpy(&shdr, file + ehdr.e_shoff + i * sizeof(shdr), sizeof(shdr));
		if (shdr.sh_type != SHT_SYMTAB)
			continue;
		ck_assert_uint_le(shdr.sh_offset + shdr.sh_size, len);
		for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= shdr.sh_size; at += sizeof(Elf64_Sym)) {
			unsigned char *place = file + shdr.sh_offset + at;
			Elf64_Sym sym;

			memcpy(&sym, place, sizeof(sym));
			sym.st_info = (unsigned char)ELF64_ST_INFO(noise(&seed) % 3, STT_OBJECT);
			sym.st_shndx = (uint16_t)noise(&seed);
			if (noise(&seed) % 2)
				sym.st_value = noise(&seed) % 2 ? UINT64_MAX - noise(&seed) % 64 : noise(&seed) % 65536;
			sym.st_size = noise(&seed) % 2 ? UINT64_MAX - noise(&seed) % 64 : noise(&seed) % 64;
			if (noise(&seed) % 4 == 0)
				sym.st_name = noise(&seed);
			memcpy(place, &sym, sizeof(sym));
		}
		if (seed % 2) { /* longer than the file, or of entries of another size */
			shdr.sh_size = noise(&seed) % 2 ? UINT64_MAX / 2 : shdr.sh_size;
			shdr.sh_entsize = noise(&seed) % 64;
			memcpy(file + ehdr.e_shoff + i * sizeof(shdr), &shdr, sizeof(shdr));
		}
	}
}

static void write_spoilt(const char *from, const char *to, uint32_t seed)
{
	int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	unsigned char *file;
	struct stat st;

	ck_assert_int_ge(in, 0);
	ck_assert_int_ge(out, 0);
	ck_assert_int_eq(fstat(in, &st), 0);
	file = malloc((size_t)st.st_size);
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(read(in, file, (size_t)st.st_size), st.st_size);
	spoil_symbols(file, (size_t)st.st_size, seed);
	ck_assert_int_eq(write(out, file, (size_t)st.st_size), st.st_size);
	free(file);
	close(in);
	close(out);
}

static void expect_mapped(struct blocked *b, const char *name)
{
	const struct region *regions;
	uint64_t address = 0;
	ssize_t count;

	if (symbols_find_data(b->symbols, name, &address) != 0)
		return;
	count = mem_regions(b->mem, &regions);
	ck_assert_int_gt(count, 0);
	ck_assert_msg(region_find(regions, (size_t)count, address), "'%s' outside of all mappings: %llx", name,
		      (unsigned long long)address);
}

START_TEST(lies_lead_nowhere)
{
	static const char *const names[] = { "_IO_stdin_used", "stdout", "completed.0", "__dso_handle",
					     "main",           "_end",   "environ" };
	char dir[] = "/tmp/memwatch-symbol-XXXXXX", path[64], victim[256], mode[] = "pointer";
	char *argv[] = { path, mode, NULL };
	struct blocked blocked;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/program", dir);
	victim_path("sym_chain", victim, sizeof(victim));
	write_spoilt(victim, path, (uint32_t)_i);
	blocked_start(&blocked, argv);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		expect_mapped(&blocked, names[i]);
	blocked_end(&blocked);
	unlink(path);
	rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("symbol: data");
	TCase *tc = tcase_create("here"), *lies = tcase_create("lies");
	SRunner *runner;
	int failures;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, data_of_the_program_is_found);
	tcase_add_test(tc, data_of_libraries_is_found);
	tcase_add_test(tc, what_is_no_data_object_is_not);
	tcase_add_test(tc, without_the_process_nothing_is_found_or_lost);
	suite_add_tcase(suite, tc);
	tcase_set_timeout(lies, 60);
	tcase_add_loop_test(lies, lies_lead_nowhere, 0, 12);
	suite_add_tcase(suite, lies);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? 1 : 0;
}
