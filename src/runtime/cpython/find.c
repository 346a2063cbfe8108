/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Is CPython here, where is _PyRuntime, and which version is it? */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/cleanup.h"

#include "cpython.h"

#define RUNTIME_SYMBOL "_PyRuntime"
#define VERSION_SYMBOL "Py_Version" /* 3.11+ */
#define DEBUG_COOKIE "xdebugpy"     /* 3.13+ */
#define VERSION_OFFSET 8            /* in _Py_DebugOffsets */
#define NAMES_MAX (4ULL << 20)      /* of the program's first mapping: its dynamic symbols' names */
#define CHUNK (64U << 10)
#define MINOR_MIN 8
#define MINOR_MAX 14
#define HEADS 512

/* ---- hints ------------------------------------------------------------------------------------------------------------------ */

static bool suggests_python(const struct cpython_view *v)
{
	for (size_t i = 0; i < v->region_count; i++)
		if (strcasestr(v->regions[i].path, "python"))
			return true;
	return false;
}

/* A program of another name that CPython is linked into exports its names for extension modules: they stand in the first mapping. */
static bool program_names_it(const struct cpython_view *v)
{
	const struct region *r = v->regions;
	size_t keep = sizeof(RUNTIME_SYMBOL) - 1;
	uint8_t buf[CHUNK + sizeof(RUNTIME_SYMBOL)];
	uint64_t at, end;

	if (!v->region_count || r->path[0] != '/' || !(r->flags & REGION_READ) || (r->flags & REGION_WRITE))
		return false;
	at = r->start;
	end = r->end - r->start < NAMES_MAX ? r->end : r->start + NAMES_MAX;
	while (at < end) {
		struct mem_range range;
		uint64_t next = end;
		ssize_t n = mem_present(v->mem, at, end, &range, 1, &next);

		if (n < 0)
			return false;
		for (uint64_t p = n ? range.start : end; n && p < range.end; p += CHUNK) {
			size_t len = range.end - p < CHUNK + keep ? (size_t)(range.end - p) : CHUNK + keep;
			ssize_t got = mem_read(v->mem, p, buf, len);

			if (got > 0 && memmem(buf, (size_t)got, RUNTIME_SYMBOL, sizeof(RUNTIME_SYMBOL)))
				return true;
		}
		if (next <= at)
			break;
		at = next;
	}
	return false;
}

/* ---- versions ------------------------------------------------------------------------------------------------------------------ */

static bool is_version(uint64_t hex)
{
	return hex >> 24 == 3 && (hex >> 16 & 0xff) < 64 && (hex >> 8 & 0xff) < 64 && (hex & 0xff) >= 0xa0 &&
	       (hex & 0xff) <= 0xff;
}

static void set_version(struct cpython *p, uint32_t hex)
{
	unsigned int level = hex >> 4 & 0xf, major = hex >> 24, minor = hex >> 16 & 0xff, micro = hex >> 8 & 0xff;
	const char *mark = level == 0xa ? "a" : level == 0xb ? "b" : level == 0xc ? "rc" : "";

	p->version = hex;
	if (*mark)
		snprintf(p->version_text, sizeof(p->version_text), "%u.%u.%u%s%u", major, minor, micro, mark,
			 hex & 0xf);
	else
		snprintf(p->version_text, sizeof(p->version_text), "%u.%u.%u", major, minor, micro);
}

/* Digits at *at, at most three; false where none stands. */
static bool take_number(const char **at, const char *end, unsigned int *ret)
{
	unsigned int value = 0, digits = 0;

	for (; *at < end && isdigit((unsigned char)**at) && digits < 3; (*at)++, digits++)
		value = 10 * value + (unsigned int)(**at - '0');
	*ret = value;
	return digits > 0;
}

/* What Py_GetVersion() put together once: "3.8.18 (default, ...) \n[GCC ...". */
static bool version_from_text(struct cpython *p, const struct cpython_data *d)
{
	const char *bytes = (const char *)d->bytes, *end = bytes + d->len, *at = bytes;

	while (at && at < end && (at = memmem(at, (size_t)(end - at), "3.", 2)) != NULL) {
		const char *q = at + 2;
		unsigned int minor, micro;

		if ((at == bytes || !isprint((unsigned char)at[-1])) && take_number(&q, end, &minor) && q < end &&
		    *q++ == '.' && take_number(&q, end, &micro) && minor < 64 && micro < 64 && end - q > 2 &&
		    (*q == '+' || *q == ' ')) {
			q += *q == '+';
			if (q + 2 < end && q[0] == ' ' && q[1] == '(' && isprint((unsigned char)q[2])) {
				set_version(p, 3U << 24 | minor << 16 | micro << 8 | 0xf0);
				return true;
			}
		}
		at += 2;
	}
	return false;
}

/* "libpython3.8.so.1.0", "python3.11": the minor version is all that a name tells. 0: none. */
static unsigned int minor_from_name(const char *path)
{
	const char *name = strrchr(path, '/'), *at, *end = path + strlen(path);
	unsigned int minor;

	at = name ? strstr(name, "python3.") : NULL;
	if (!at || (at != name + 1 && !(at == name + 4 && memcmp(name + 1, "lib", 3) == 0)))
		return 0;
	at += strlen("python3.");
	return take_number(&at, end, &minor) && minor < 64 ? minor : 0;
}

static void version_from_name(struct cpython *p, unsigned int minor)
{
	p->version = 3U << 24 | minor << 16;
	snprintf(p->version_text, sizeof(p->version_text), "3.%u", minor);
}

/* The path of the module that anchor's data belongs to; "" where there is none. */
static const char *path_of(const struct cpython_view *v, uint64_t anchor)
{
	const struct region *at = region_find(v->regions, v->region_count, anchor);

	while (at && at->path[0] != '/' && at > v->regions && at[-1].end == at->start)
		at--;
	return at ? at->path : "";
}

/* The runtime's own word, else the text of sys.version, else the name of the file. */
static void learn_version(struct cpython *p, const struct runtime_query *query, const struct cpython_view *v)
{
	struct cpython_data data;
	uint64_t address, words[2];
	uint32_t hex;
	unsigned int minor;

	if (query->find && p->runtime && query->find(query->arg, VERSION_SYMBOL, &address) == 0 &&
	    mem_read_exact(v->mem, address, &hex, sizeof(hex)) == 0 && is_version(hex)) {
		set_version(p, hex);
		return;
	}
	if (p->runtime && mem_read_exact(v->mem, p->runtime, words, sizeof(words)) == 0 &&
	    memcmp(words, DEBUG_COOKIE, VERSION_OFFSET) == 0 && is_version(words[1])) {
		set_version(p, (uint32_t)words[1]);
		return;
	}
	if (cpython_data_init(&data, v, p->anchor) == 0) {
		bool found = version_from_text(p, &data);

		cpython_data_deinit(&data);
		if (found)
			return;
	}
	minor = minor_from_name(path_of(v, p->anchor));
	if (minor)
		version_from_name(p, minor);
}

/* ---- without symbols ------------------------------------------------------------------------------------------------------------ */

/* One pair of structures that name each other may be anything: the whole list must hold, and the collector's accounts. */
static bool runtime_holds(struct cpython *p, struct cpython_view *v)
{
	struct cpython_gc gc;

	if (!cpython_learn_layout(p, v->mem) || cpython_list_interpreters(p, v) < 0 || !v->interpreter_count ||
	    v->threads == UNKNOWN_U64)
		return false;
	cpython_read_gc(p, v, &gc);
	return p->free_threaded || !isnan(gc.long_lived);
}

static bool try_runtime(struct cpython *p, struct cpython_view *v, uint64_t address)
{
	p->runtime = address;
	if (runtime_holds(p, v))
		return true;
	p->runtime = 0;
	return false;
}

struct heads { /* words that could be interpreters.head, some at a time */
	uint64_t slots[HEADS], interpreters[HEADS], threads[HEADS], owners[HEADS];
	struct mem_piece pieces[HEADS];
	size_t count;
};

/* Those whose first thread state names them are tried. */
static bool try_heads(struct cpython *p, struct cpython_view *v, struct heads *h, const struct cpython_layout *l)
{
	size_t count = h->count, kept = 0;

	h->count = 0;
	for (size_t i = 0; i < count; i++)
		h->pieces[i] = (struct mem_piece){ h->interpreters[i] + l->threads_head, &h->threads[i], 8, 0 };
	if (mem_read_batch(v->mem, h->pieces, count) < 0)
		return false;
	for (size_t i = 0; i < count; i++) {
		if (h->pieces[i].done < 8 || !cpython_is_writable(v, h->threads[i]))
			continue;
		h->slots[kept] = h->slots[i];
		h->interpreters[kept] = h->interpreters[i];
		h->threads[kept++] = h->threads[i];
	}
	for (size_t i = 0; i < kept; i++)
		h->pieces[i] = (struct mem_piece){ h->threads[i] + CPYTHON_THREAD_INTERPRETER, &h->owners[i], 8, 0 };
	if (mem_read_batch(v->mem, h->pieces, kept) < 0)
		return false;
	for (size_t i = 0; i < kept; i++)
		if (h->pieces[i].done == 8 && h->owners[i] == h->interpreters[i] &&
		    try_runtime(p, v, h->slots[i] - l->interpreters_head))
			return true;
	return false;
}

/* _PyRuntime by its cookie, or by the interpreter that it heads. */
static bool find_runtime_in(struct cpython *p, struct cpython_view *v, const struct cpython_data *d)
{
	const struct cpython_layout *l = cpython_layout_of(p->version >> 16 & 0xff);
	cleanup_free struct heads *h = calloc(1, sizeof(*h));

	for (size_t i = 0; l && h && i < d->span_count; i++) {
		const struct cpython_span *s = &d->spans[i];

		for (size_t o = 0; o + 8 <= s->len; o += 8) {
			uint64_t word = cpython_load64(d->bytes + s->offset + o);

			if (l->debug_offsets) {
				if (memcmp(&word, DEBUG_COOKIE, 8) == 0 && try_runtime(p, v, s->address + o))
					return true;
				continue;
			}
			if (word < CPYTHON_PAGE || !cpython_is_writable(v, word))
				continue;
			h->slots[h->count] = s->address + o;
			h->interpreters[h->count++] = word;
			if (h->count == HEADS && try_heads(p, v, h, l))
				return true;
		}
	}
	return h && l && !l->debug_offsets && try_heads(p, v, h, l);
}

static int find_by_signature(struct cpython *p, const struct runtime_query *query, struct cpython_view *v)
{
	for (size_t i = 0; i < v->region_count; i++) {
		const struct region *r = &v->regions[i];
		struct cpython_data data;
		bool found;
		int rc;

		if (!(r->flags & REGION_WRITE) || !minor_from_name(r->path))
			continue;
		p->anchor = r->start;
		learn_version(p, query, v);
		rc = cpython_data_init(&data, v, p->anchor);
		if (rc < 0)
			return rc;
		found = find_runtime_in(p, v, &data);
		cpython_data_deinit(&data);
		if (found) {
			p->found_by = "signature";
			learn_version(p, query, v); /* the cookie is followed by it */
			return 1;
		}
	}
	return 0;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------------------- */

static int locate(struct cpython *p, const struct runtime_query *query, struct cpython_view *v)
{
	uint64_t address;

	if (!suggests_python(v) && !program_names_it(v))
		return 0;
	if (query->find && query->find(query->arg, RUNTIME_SYMBOL, &address) == 0 && address % 8 == 0 &&
	    region_find(v->regions, v->region_count, address)) {
		p->runtime = p->anchor = address;
		p->found_by = "symbol";
		learn_version(p, query, v);
		return 1;
	}
	return find_by_signature(p, query, v);
}

int cpython_find(struct cpython *p, const struct runtime_query *query, struct cpython_view *v, struct err *err)
{
	struct cpython_arenas arenas;
	int rc = locate(p, query, v);

	if (rc <= 0)
		return rc;
	cpython_learn_layout(p, v->mem);
	rc = cpython_list_interpreters(p, v);
	if (rc < 0)
		return rc;
	if (v->interpreter_count)
		return 1;
	/* Another build of a known version, or a version that is not known: only the tables of arenas can still be found. */
	p->layout = NULL;
	p->gc_layout = NULL;
	rc = cpython_list_arenas(p, v, &arenas);
	if (rc < 0)
		return rc;
	rc = arenas.table_count > 0;
	cpython_arenas_deinit(&arenas);
	if (rc == 0 && p->version && !cpython_layout_of(p->version >> 16 & 0xff))
		return err_set(err, ENOTSUP,
			       "CPython %s is not supported: 3.%d to 3.%d are; its memory is judged by mappings and "
			       "malloc alone",
			       p->version_text, MINOR_MIN, MINOR_MAX);
	return rc;
}
