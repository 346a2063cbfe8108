/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which words are slots, and which of them are listed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memwatch/base/cleanup.h"
#include "memwatch/base/io.h"
#include "memwatch/base/vec.h"
#include "slots_private.h"

#define AUXV_BYTES 4096 /* about 24 entries of 16 bytes */

/* ---- reading ---- */

static bool take_allowance(uint64_t *left, uint64_t len)
{
	if (len > *left)
		return false;
	*left -= len;
	return true;
}

int slots_read(struct slots_look *l, uint64_t address, void *buf, size_t len)
{
	return take_allowance(&l->table_left, len) ? mem_read_exact(l->mem, address, buf, len) : -EFAULT;
}

ssize_t slots_read_some(struct slots_look *l, uint64_t address, void *buf, size_t len)
{
	return take_allowance(&l->table_left, len) ? mem_read(l->mem, address, buf, len) : 0;
}

int slots_read_batch(struct slots_look *l, struct mem_piece *pieces, size_t count)
{
	uint64_t total = 0;

	for (size_t i = 0; i < count; i++) {
		total += pieces[i].len;
		pieces[i].done = 0;
	}
	if (count == 0 || !take_allowance(&l->table_left, total))
		return 0;
	return mem_read_batch(l->mem, pieces, count);
}

bool slots_holds(const struct slots_module *m, uint64_t address, uint64_t len)
{
	return slots_in(&m->span, address) && len <= m->span.end - address;
}

bool slots_in_code(const struct slots_module *m, uint64_t address)
{
	for (size_t i = 0; i < m->exec_count; i++)
		if (slots_in(&m->exec[i], address))
			return true;
	return false;
}

/* ---- definitions and candidates ---- */

static int find_definitions(struct slots_look *l)
{
	for (size_t i = 0; i < l->module_count; i++) {
		struct slots_module *m = &l->modules[i];
		int r = m->usable ? slots_read_definitions(l, m) : 0;

		if (r < 0)
			return r;
		for (size_t k = 0; k < m->symbol_count; k++) {
			const struct slots_symbol *s = &m->symbols[k];

			if (!s->defined)
				continue;
			if (s->name == PROBE_MALLOC)
				m->has_malloc = true;
			if (m->elsewhere || l->defined[s->name] || l->indirect[s->name])
				continue;
			l->defined[s->name] = s->indirect ? 0 : s->address;
			l->indirect[s->name] = s->indirect;
			l->owner[s->name] = (uint32_t)i;
		}
	}
	return 0;
}

static int compare_candidates(const void *a, const void *b)
{
	const struct slots_candidate *x = a, *y = b;

	if (x->module != y->module)
		return x->module < y->module ? -1 : 1;
	if (x->slot.address != y->slot.address)
		return x->slot.address < y->slot.address ? -1 : 1;
	return (x->kind > y->kind) - (x->kind < y->kind);
}

/* Some linkers count the relocations of the PLT twice, among the others and by themselves. */
static void drop_repeated(struct slots_look *l)
{
	size_t kept = 0;

	if (l->candidate_count)
		qsort(l->candidates, l->candidate_count, sizeof(*l->candidates), compare_candidates);
	for (size_t i = 0; i < l->candidate_count; i++)
		if (kept == 0 || l->candidates[kept - 1].slot.address != l->candidates[i].slot.address)
			l->candidates[kept++] = l->candidates[i];
	l->candidate_count = kept;
}

static int read_values(struct slots_look *l)
{
	cleanup_free struct mem_piece *pieces = calloc(l->candidate_count + 1, sizeof(*pieces));
	size_t kept = 0;
	int r;

	if (!pieces)
		return -ENOMEM;
	for (size_t i = 0; i < l->candidate_count; i++)
		pieces[i] = (struct mem_piece){ l->candidates[i].slot.address, &l->candidates[i].slot.value, 8, 0 };
	r = slots_read_batch(l, pieces, l->candidate_count);
	if (r < 0)
		return r;
	for (size_t i = 0; i < l->candidate_count; i++)
		if (pieces[i].done == 8)
			l->candidates[kept++] = l->candidates[i];
	l->candidate_count = kept;
	return 0;
}

/* The address of an IFUNC is what its resolver chose: any slot that is bound says so. */
static void resolve_indirect(struct slots_look *l)
{
	for (size_t i = 0; i < l->candidate_count; i++) {
		const struct slots_candidate *c = &l->candidates[i];
		const struct slots_module *owner = &l->modules[l->owner[c->name]];
		bool bound = c->kind != SLOTS_JUMP || c->module != l->owner[c->name];

		if (l->indirect[c->name] && l->defined[c->name] == 0 && bound && !l->modules[c->module].elsewhere &&
		    slots_in_code(owner, c->slot.value))
			l->defined[c->name] = c->slot.value;
	}
}

static int find_candidates(struct slots_look *l, struct slot_set *set)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->module_count; i++) {
		bool pointers = false;

		if (!l->modules[i].usable) {
			set->unreadable++;
			continue;
		}
		r = slots_read_relocations(l, i, &pointers);
		if (pointers && !l->modules[i].elsewhere)
			set->static_copies++;
	}
	if (r < 0)
		return r;
	drop_repeated(l);
	r = read_values(l);
	if (r == 0)
		resolve_indirect(l);
	return r;
}

/* ---- what a candidate is ---- */

enum judgement {
	JUDGED_SLOT,
	JUDGED_SKIP,    /* it is of no interest, or its calls are seen elsewhere */
	JUDGED_FOREIGN, /* it holds something unexpected */
	JUDGED_EARLY    /* it has not been relocated yet */
};

/* A program at fixed addresses that takes a function's address makes its own PLT entry the address that all modules see. */
static bool is_program_plt(const struct slots_look *l, const struct slots_candidate *c)
{
	const struct slots_module *m = &l->modules[0];

	for (size_t i = 0; i < m->symbol_count; i++)
		if (!m->symbols[i].defined && m->symbols[i].address == c->slot.value && m->symbols[i].name == c->name)
			return true;
	return false;
}

static int judge_stub(struct slots_look *l, const struct slots_candidate *c, enum judgement *ret)
{
	int r = slots_stub(l, &l->modules[c->module], c->slot.value, c->index);

	if (r < 0)
		return r;
	if (r == SLOTS_STUB_NONE)
		*ret = JUDGED_FOREIGN;
	else if (l->defined[c->name] != l->defined[c->slot.function])
		*ret = JUDGED_SKIP; /* another name of the function, which will be bound to something else */
	else
		*ret = r == SLOTS_STUB_EARLY ? JUDGED_EARLY : JUDGED_SLOT;
	return 0;
}

static int judge(struct slots_look *l, const struct slots_candidate *c, enum judgement *ret)
{
	uint64_t real = l->defined[c->slot.function];
	int r = 0;

	if (real == 0)
		*ret = JUDGED_SKIP;
	else if (c->slot.value == real)
		*ret = JUDGED_SLOT;
	else if (l->modules[c->module].elsewhere || c->kind == SLOTS_POINTER) /* a variable: the program's to change */
		*ret = JUDGED_SKIP;
	else if (c->slot.value == 0) /* nobody need define what is referred to weakly */
		*ret = c->weak ? JUDGED_SKIP : JUDGED_EARLY;
	else if (is_program_plt(l, c))
		*ret = JUDGED_SKIP;
	else if (c->kind == SLOTS_JUMP)
		r = judge_stub(l, c, ret);
	else
		*ret = JUDGED_FOREIGN;
	return r;
}

static bool is_operator(uint32_t function)
{
	return function >= PROBE_NEW && function <= PROBE_DELETE_ARRAY_SIZED_ALIGNED;
}

/* An allocator with operators of its own (jemalloc, tcmalloc, mimalloc) serves these without malloc, and what it calls itself is its own business. */
static bool is_allocator(const struct slots_look *l, uint32_t module)
{
	return l->defined[PROBE_MALLOC] && l->owner[PROBE_MALLOC] == module && l->defined[PROBE_NEW] &&
	       l->owner[PROBE_NEW] == module;
}

/* Whether to leave a slot out because what goes through it is seen elsewhere, or is no business of the program's. */
static bool is_inner(const struct slots_look *l, const struct slots_candidate *c)
{
	uint32_t owner = l->owner[c->slot.function];

	if (is_allocator(l, c->module))
		return true;
	if (is_operator(c->slot.function))
		return l->modules[owner].calls_malloc && !is_allocator(l, owner);
	if (c->slot.function >= PROBE_MMAP && c->slot.function <= PROBE_SBRK)
		return l->modules[c->module].has_malloc;
	return false;
}

/*
 * Whether the page of a slot is read-only: 1, 0, -EAGAIN: the run-time linker is about to make it so, which must not meet with a store, nor with
 * a change of protection.
 */
static int page_state(const struct slots_look *l, const struct slots_candidate *c)
{
	const struct region *r = region_find(l->regions, l->region_count, c->slot.address);
	bool relro = slots_in(&l->modules[c->module].relro, c->slot.address);

	if (!r || !(r->flags & REGION_WRITE))
		return 1;
	return relro ? -EAGAIN : 0;
}

static int add_slot(struct slot **slots, size_t *count, size_t *cap, const struct slot *slot)
{
	if (vec_reserve(slots, cap, *count + 1, sizeof(**slots)) < 0)
		return -ENOMEM;
	(*slots)[(*count)++] = *slot;
	return 0;
}

static int list_candidate(struct slots_look *l, struct slots_candidate *c, struct slot_set *set, struct err *err)
{
	enum judgement judgement;
	int state, r = judge(l, c, &judgement);

	if (r < 0 || judgement == JUDGED_SKIP || is_inner(l, c))
		return r;
	if (judgement == JUDGED_EARLY)
		return err_set(
			err, EAGAIN,
			"the run-time linker of the program is at work (it has not bound all calls yet); try again");
	if (judgement == JUDGED_FOREIGN) {
		set->foreign++;
		return add_slot(&set->strangers, &set->stranger_count, &set->stranger_cap, &c->slot);
	}
	state = page_state(l, c);
	if (state < 0) {
		set->unsettled++;
		return 0;
	}
	c->slot.read_only = state == 1;
	c->slot.copied = c->kind == SLOTS_POINTER;
	c->listed = true;
	return 0;
}

static int list_slots(struct slots_look *l, struct slot_set *set, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->candidate_count; i++)
		r = list_candidate(l, &l->candidates[i], set, err);
	if (r == 0)
		r = slots_scan_code(l);
	for (size_t i = 0; r == 0 && i < l->candidate_count; i++)
		if (l->candidates[i].listed)
			r = add_slot(&set->slots, &set->count, &set->cap, &l->candidates[i].slot);
	return r;
}

/* ---- the whole ---- */

static void look_init(struct slots_look *l, struct mem *mem, int dir_fd)
{
	*l = (struct slots_look){
		.mem = mem, .dir_fd = dir_fd, .table_left = SLOTS_TABLE_BYTES, .code_left = SLOTS_CODE_BYTES
	};
}

static void look_deinit(struct slots_look *l)
{
	for (size_t i = 0; i < l->module_count; i++)
		free(l->modules[i].symbols);
	free(l->modules);
	free(l->candidates);
}

static int find_all(struct slots_look *l, const struct slots_start *start, struct slot_set *set, struct err *err)
{
	ssize_t regions = mem_regions(l->mem, &l->regions);
	int r;

	if (regions < 0)
		return (int)regions;
	l->region_count = (size_t)regions;
	r = slots_read_links(l, start, &set->link_maps, &set->is_static, err);
	if (r < 0)
		return r;
	set->modules = l->module_count;
	r = l->modules[0].usable ? slots_is_relocated(l, &l->modules[0]) : 1;
	if (r == 0)
		return err_set(
			err, EAGAIN,
			"the run-time linker of the program is at work (the program is not relocated); try again");
	if (r > 0)
		r = find_definitions(l);
	if (r == 0)
		r = find_candidates(l, set);
	for (size_t i = 0; r == 0 && i < PROBE_FUNCTION_COUNT; i++)
		set->real[i] = l->defined[i];
	return r == 0 ? list_slots(l, set, err) : r;
}

int slots_find_from(const struct slots_start *start, struct mem *mem, struct slot_set *ret, struct err *err)
{
	struct err cause = ERR_INIT;
	struct slot_set set = { .slots = NULL };
	struct slots_look l;
	uint64_t generation;
	int r;

	look_init(&l, mem, start->dir_fd);
	r = find_all(&l, start, &set, &cause);
	look_deinit(&l);
	if (r == 0) {
		r = slots_generation_from(start, mem, &generation);
		if (r == -EAGAIN || (r == 0 && generation != set.link_maps))
			r = err_set(&cause, EAGAIN,
				    "modules of the program were loaded or unloaded meanwhile; try again");
	}
	if (r == 0) {
		*ret = set;
		return 0;
	}
	if (set.is_static)
		ret->is_static = true;
	slot_set_deinit(&set);
	if (cause.code != -r)
		return err_set(err, -r, "cannot find the slots of the program: %s", strerror(-r));
	return err_set(err, cause.code, "%s", cause.msg);
}

int slots_generation_from(const struct slots_start *start, struct mem *mem, uint64_t *ret)
{
	struct slots_look l;
	bool is_static;
	int r;

	look_init(&l, mem, start->dir_fd);
	r = slots_links_generation(&l, start, ret, &is_static, NULL);
	look_deinit(&l);
	return r;
}

void slot_set_deinit(struct slot_set *s)
{
	if (!s)
		return;
	free(s->slots);
	free(s->strangers);
	*s = (struct slot_set){ .slots = NULL };
}

/* ---- a running process ---- */

static int take_auxv(const uint64_t *words, size_t count, struct slots_start *ret, struct err *err)
{
	uint64_t entry_bytes = 0;

	for (size_t i = 0; i + 1 < count && words[i] != AT_NULL; i += 2) {
		if (words[i] == AT_PHDR)
			ret->phdr = words[i + 1];
		else if (words[i] == AT_PHNUM)
			ret->phnum = words[i + 1];
		else if (words[i] == AT_PHENT)
			entry_bytes = words[i + 1];
		else if (words[i] == AT_ENTRY)
			ret->entry = words[i + 1];
		else if (words[i] == AT_BASE)
			ret->linker = words[i + 1];
	}
	if (entry_bytes != sizeof(Elf64_Phdr))
		return err_set(err, ENOTSUP, "the program is not a 64-bit one: its calls cannot be reached");
	return 0;
}

static int read_start(pid_t pid, int dir_fd, struct slots_start *ret, struct err *err)
{
	struct slots_start start = { .dir_fd = dir_fd };
	uint64_t words[AUXV_BYTES / sizeof(uint64_t)];
	cleanup_close int fd = openat(dir_fd, "auxv", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : pread(fd, words, sizeof(words), 0);
	int r;

	if (n < 0)
		return err_set(err,
			       errno == EACCES ? EPERM :
			       errno == ENOENT ? ESRCH :
						 errno,
			       "cannot read the auxiliary vector of process %d: %s", (int)pid, strerror(errno));
	if (n == 0)
		return err_set(err, ESRCH, "process %d has no memory: it has ended, or is the kernel's", (int)pid);
	r = take_auxv(words, (size_t)n / sizeof(words[0]), &start, err);
	if (r == 0)
		*ret = start;
	return r;
}

static int open_proc(pid_t pid, struct err *err)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_set(err, errno == ENOENT ? ESRCH : errno, "no process with pid %d", (int)pid);
	return fd;
}

int slots_find(pid_t pid, struct mem *mem, struct slot_set *ret, struct err *err)
{
	cleanup_close int dir_fd = open_proc(pid, err);
	struct slots_start start;
	int r = dir_fd < 0 ? dir_fd : read_start(pid, dir_fd, &start, err);

	return r < 0 ? r : slots_find_from(&start, mem, ret, err);
}

int slots_generation(pid_t pid, struct mem *mem, uint64_t *ret)
{
	cleanup_close int dir_fd = open_proc(pid, NULL);
	struct slots_start start;
	int r = dir_fd < 0 ? dir_fd : read_start(pid, dir_fd, &start, NULL);

	return r < 0 ? r : slots_generation_from(&start, mem, ret);
}
