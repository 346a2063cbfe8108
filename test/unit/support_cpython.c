/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "support_cpython.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <libelf.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memwatch/base/cleanup.h"

/* ---- the program ---------------------------------------------------------------------------------------------------------------- */

/* The statistics come last: what runs behind them keeps nothing. */
static const char truth_text[] =
	"\ndef truth():\n"
	"    gc.collect()\n"
	"    n, c = len(gc.get_objects()), gc.get_stats()[2]['collections']\n"
	"    os.write(2, ('version %s\\ntracked %d\\ncollections %d\\n' % (sys.version.split()[0], n, c)).encode())\n"
	"    sys._debugmallocstats()\n"
	"    os.write(2, b'END\\n')\n"
	"    if not os.read(0, 1):\n"
	"        os._exit(0)\n";

static char *program_text(const char *before, const char *more)
{
	char *text = NULL;

	ck_assert_int_gt(asprintf(&text, "import gc, os, sys\n%s%s\ntruth()\n%s\ntruth()\nos._exit(0)\n", before,
				  truth_text, more ? more : ""),
			 0);
	return text;
}

/* "# bytes in allocated blocks        =            1,234,567" */
static double last_number(const char *line)
{
	const char *at = strrchr(line, '=');
	double value = 0;

	for (at = at ? at : line; *at; at++)
		if (*at >= '0' && *at <= '9')
			value = 10 * value + (*at - '0');
	return value;
}

static void take_line(struct python *p, const char *line)
{
	unsigned long count, bytes;

	if (strncmp(line, "# bytes in allocated blocks", 27) == 0)
		p->in_use_bytes = last_number(line);
	else if (strncmp(line, "# bytes in available blocks", 27) == 0)
		p->pool_free_bytes = last_number(line);
	else if (strncmp(line, "tracked ", 8) == 0)
		p->tracked = atof(line + 8);
	else if (strncmp(line, "collections ", 12) == 0)
		p->collections = atof(line + 12);
	else if (strncmp(line, "version ", 8) == 0)
		sscanf(line + 8, "%63s", p->version);
	else if (sscanf(line, "%lu arenas * %lu bytes/arena", &count, &bytes) == 2) {
		p->arenas = (double)count;
		p->arena_bytes = (double)bytes;
	}
}

static bool read_truth(struct python *p)
{
	char line[512];
	size_t len = 0;

	p->in_use_bytes = p->pool_free_bytes = p->arenas = p->arena_bytes = p->tracked = p->collections = NAN;
	for (;;) {
		char c;
		ssize_t n = read(p->out_fd, &c, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		if (c != '\n') {
			if (len + 1 < sizeof(line))
				line[len++] = c;
			continue;
		}
		line[len] = '\0';
		len = 0;
		if (strcmp(line, "END") == 0)
			return true;
		take_line(p, line);
	}
}

/* "END" is written before it waits: the kernel says when it sleeps in read(). */
static void wait_until_it_waits(const struct python *p)
{
	char path[64], text[256];

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)p->pid);
	for (;;) {
		cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

		if (n <= 0)
			return;
		text[n] = '\0';
		if (strncmp(text, "0 0x0 ", 6) == 0)
			return;
		usleep(1000);
	}
}

bool python_start(struct python *p, const char *const *command, const char *env, const char *before, const char *more)
{
	cleanup_free char *text = program_text(before, more);
	const char *argv[16];
	int in[2], out[2];
	size_t n = 0;

	for (; command[n]; n++)
		argv[n] = command[n];
	argv[n++] = "-c";
	argv[n++] = text;
	argv[n] = NULL;
	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	p->pid = fork();
	ck_assert_int_ge(p->pid, 0);
	if (p->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], 0);
		dup2(out[1], 2);
		/* sanitizers of the test are none of its business */
		unsetenv("LD_PRELOAD");
		if (env)
			putenv((char *)(uintptr_t)env);
		execvp(argv[0], (char **)(uintptr_t)argv);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	p->in_fd = in[1];
	p->out_fd = out[0];
	if (!read_truth(p))
		return false;
	wait_until_it_waits(p);
	return true;
}

void python_release(struct python *p)
{
	ck_assert_int_eq(write(p->in_fd, "g", 1), 1);
}

void python_go_on(struct python *p)
{
	python_release(p);
	ck_assert(read_truth(p));
	wait_until_it_waits(p);
}

void python_end(struct python *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	close(p->in_fd);
	close(p->out_fd);
}

/* ---- its symbols ------------------------------------------------------------------------------------------------------------------ */

static bool symbol_in(Elf *elf, const char *name, uint64_t *ret)
{
	for (Elf_Scn *scn = elf_nextscn(elf, NULL); scn; scn = elf_nextscn(elf, scn)) {
		GElf_Shdr shdr;
		Elf_Data *data;

		if (!gelf_getshdr(scn, &shdr) || (shdr.sh_type != SHT_DYNSYM && shdr.sh_type != SHT_SYMTAB) ||
		    shdr.sh_entsize == 0 || !(data = elf_getdata(scn, NULL)))
			continue;
		for (size_t i = 0; i < shdr.sh_size / shdr.sh_entsize; i++) {
			GElf_Sym sym;
			const char *text;

			if (!gelf_getsym(data, (int)i, &sym) || sym.st_shndx == SHN_UNDEF)
				continue;
			text = elf_strptr(elf, shdr.sh_link, sym.st_name);
			if (text && strcmp(text, name) == 0) {
				*ret = sym.st_value;
				return true;
			}
		}
	}
	return false;
}

static int look_into(const char *path, uint64_t start, const char *name, uint64_t *ret)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf *elf = fd >= 0 ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
	GElf_Ehdr ehdr;
	GElf_Phdr phdr;
	uint64_t value;
	int rc = -ENOENT;

	if (elf && gelf_getehdr(elf, &ehdr) && symbol_in(elf, name, &value)) {
		for (int i = 0; i < ehdr.e_phnum && rc; i++) {
			if (!gelf_getphdr(elf, i, &phdr) || phdr.p_type != PT_LOAD)
				continue;
			*ret = value + (ehdr.e_type == ET_DYN ? start - (phdr.p_vaddr & ~0xfffULL) : 0);
			rc = 0;
		}
	}
	elf_end(elf);
	return rc;
}

int python_find_symbol(void *arg, const char *name, uint64_t *ret)
{
	const pid_t *pid = arg;
	char path[4096], last[4096] = "", line[8192];
	cleanup_fclose FILE *maps = NULL;

	elf_version(EV_CURRENT);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)*pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		uint64_t start;

		/* the first mapping of a file is that of its first segment */
		if (sscanf(line, "%" SCNx64 "-%*s %*s %*s %*s %*s %4095s", &start, path) != 2 || path[0] != '/' ||
		    strcmp(path, last) == 0)
			continue;
		strcpy(last, path);
		if (look_into(path, start, name, ret) == 0)
			return 0;
	}
	return -ENOENT;
}
