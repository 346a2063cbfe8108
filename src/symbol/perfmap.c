/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Names of code that a JIT has made: /tmp/perf-PID.map inside the target's root, with the number that the target has in its own
 * pid namespace. Lines of "START SIZE NAME", numbers in hexadecimal. The target writes them: they are as hostile as its memory.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memwatch/base/clock.h"
#include "memwatch/base/cursor.h"
#include "memwatch/base/io.h"
#include "memwatch/base/str.h"
#include "memwatch/base/vec.h"
#include "private.h"

#define FILE_MAX (64U << 20)
#define ENTRIES_MAX (1U << 20)
#define NAME_BYTES 1024
#define READ_EVERY_NS NS_PER_S
#define STATUS_MAX 8192

struct jit_code {
	uint64_t start, size;
	uint32_t name, name_len; /* in text */
	uint32_t number;         /* of the line */
};

struct perfmap {
	struct str text;
	struct jit_code *codes; /* ascending, one a start */
	size_t count, cap;
	off_t seen; /* the file's length when it was read */
	uint64_t read_ns;
	bool tried;
};

static void forget(struct perfmap *p)
{
	str_deinit(&p->text);
	p->text = (struct str)STR_INIT;
	p->count = 0;
}

void perfmap_destroy(struct perfmap *p)
{
	if (!p)
		return;
	str_deinit(&p->text);
	free(p->codes);
	free(p);
}

/* Of two lines for one start the later one holds: the memory was used again. */
static int compare_codes(const void *a, const void *b)
{
	const struct jit_code *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return (x->number < y->number) - (x->number > y->number);
}

static bool parse_line(const char *text, const char *line, size_t len, struct jit_code *ret)
{
	struct cursor c;
	struct jit_code code = { .start = 0 };

	cursor_init(&c, line, len);
	(void)cursor_lit(&c, "0x");
	if (!cursor_hex(&c, &code.start) || !code.start)
		return false;
	cursor_blanks(&c);
	(void)cursor_lit(&c, "0x");
	if (!cursor_hex(&c, &code.size) || !code.size || code.size > UINT64_MAX - code.start)
		return false;
	cursor_blanks(&c);
	if (!cursor_left(&c))
		return false;
	code.name = (uint32_t)(line + c.pos - text);
	code.name_len = (uint32_t)(cursor_left(&c) < NAME_BYTES ? cursor_left(&c) : NAME_BYTES);
	*ret = code;
	return true;
}

static void parse(struct perfmap *p)
{
	struct cursor c;
	const char *line;
	size_t len, kept = 0;

	cursor_init(&c, str_text(&p->text), p->text.len);
	while (p->count < ENTRIES_MAX && cursor_line(&c, &line, &len)) {
		struct jit_code code;

		if (!parse_line(str_text(&p->text), line, len, &code))
			continue;
		if (vec_reserve(&p->codes, &p->cap, p->count + 1, sizeof(code)) < 0)
			break;
		code.number = (uint32_t)p->count;
		p->codes[p->count++] = code;
	}
	if (p->count)
		qsort(p->codes, p->count, sizeof(*p->codes), compare_codes);
	for (size_t i = 0; i < p->count; i++)
		if (!kept || p->codes[kept - 1].start != p->codes[i].start)
			p->codes[kept++] = p->codes[i];
	p->count = kept;
}

/* The target's number in the innermost namespace is the one that it knows, and writes. */
static long own_number(const struct symbols *s)
{
	char text[STATUS_MAX];
	const char *line;
	long number = s->pid;

	if (io_read_at(s->proc_fd, "status", text, sizeof(text)) < 0)
		return number;
	line = strstr(text, "\nNSpid:");
	for (line = line ? line + 7 : NULL; line && *line && *line != '\n';) {
		char *end;
		long value;

		while (*line == ' ' || *line == '\t')
			line++;
		value = strtol(line, &end, 10);
		if (end == line)
			break;
		number = value;
		line = end;
	}
	return number;
}

static void refresh(const struct symbols *s, struct perfmap *p)
{
	uint64_t now = clock_now_ns();
	cleanup_close int fd = -1;
	char path[64];
	struct stat st;

	if (s->proc_fd < 0 || (p->tried && now - p->read_ns < READ_EVERY_NS))
		return;
	p->tried = true;
	p->read_ns = now;
	snprintf(path, sizeof(path), "/tmp/perf-%ld.map", own_number(s));
	fd = open_in_target(s, path);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == p->seen || st.st_size > FILE_MAX)
		return;
	forget(p);
	p->seen = st.st_size;
	if (io_read_all(fd, FILE_MAX, &p->text) < 0) {
		forget(p);
		return;
	}
	parse(p);
}

static const struct jit_code *find(const struct perfmap *p, uint64_t address)
{
	size_t low = 0, high = p->count;

	while (low < high) { /* the number of codes that start at address or below */
		size_t middle = low + (high - low) / 2;

		if (p->codes[middle].start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (!low || address - p->codes[low - 1].start >= p->codes[low - 1].size)
		return NULL;
	return &p->codes[low - 1];
}

const char *perfmap_find(struct symbols *s, uint64_t address)
{
	struct perfmap *p = s->perfmap;
	const struct jit_code *code;
	char name[NAME_BYTES];

	if (!p)
		p = s->perfmap = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	code = find(p, address);
	if (!code) {
		refresh(s, p);
		code = find(p, address);
	}
	if (!code)
		return NULL;
	for (uint32_t i = 0; i < code->name_len; i++) {
		unsigned char byte = (unsigned char)str_text(&p->text)[code->name + i];

		name[i] = (char)(iscntrl(byte) ? '?' : byte);
	}
	return intern_strn(s->strings, name, code->name_len);
}
