/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Folded stacks, "outermost;...;innermost BYTES" a line: what flame graph programs read. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "formats.h"
#include "memwatch/base/vec.h"
#include "stacks.h"

struct line {
	size_t at; /* of the stack in the text, which ends with a NUL */
	uint64_t bytes;
};

struct folded {
	struct str text;
	struct line *lines;
	size_t count, cap;
};

struct sortable {
	const char *stack;
	uint64_t bytes;
};

/* What would end the name is replaced; line ends have been already, as in every text. */
static void close_name(struct str *text, size_t from)
{
	for (size_t i = from; !text->failed && i < text->len; i++)
		if (text->data[i] == ';')
			text->data[i] = ':';
}

static int add_site(struct folded *f, const struct site *site, const struct target_info *process)
{
	size_t at = f->text.len, name = at;

	if (site->bytes == 0 || site->bytes == UNKNOWN_U64)
		return 0;
	if (vec_reserve(&f->lines, &f->cap, f->count + 1, sizeof(*f->lines)) < 0)
		return -ENOMEM;
	if (process) {
		stacks_add_process(&f->text, process);
		close_name(&f->text, name);
		str_addc(&f->text, ';');
	}
	for (size_t i = site->frame_count; i > 0; i--) {
		name = f->text.len;
		stacks_add_function(&f->text, &site->frames[i - 1]);
		close_name(&f->text, name);
		if (i > 1)
			str_addc(&f->text, ';');
	}
	if (site->frame_count == 0)
		stacks_add_function(&f->text, NULL);
	str_addn(&f->text, "", 1);
	f->lines[f->count++] = (struct line){ at, site->bytes };
	return str_status(&f->text);
}

static int compare_stack(const void *a, const void *b)
{
	const struct sortable *x = a, *y = b;

	return strcmp(x->stack, y->stack);
}

/* Sorted, so that the same stacks are neighbours and their bytes are summed. */
static int write_lines(const struct folded *f, struct str *out)
{
	cleanup_free struct sortable *sorted = calloc(f->count ? f->count : 1, sizeof(*sorted));

	if (!sorted)
		return -ENOMEM;
	for (size_t i = 0; i < f->count; i++)
		sorted[i] = (struct sortable){ f->text.data + f->lines[i].at, f->lines[i].bytes };
	qsort(sorted, f->count, sizeof(*sorted), compare_stack);
	for (size_t i = 0; i < f->count;) {
		const char *stack = sorted[i].stack;
		uint64_t sum = 0;

		for (; i < f->count && strcmp(sorted[i].stack, stack) == 0; i++)
			sum = stacks_sum(sum, sorted[i].bytes);
		str_addf(out, "%s %" PRIu64 "\n", stack, sum);
	}
	return str_status(out);
}

int report_render_folded(const struct snapshot *snapshot, const struct report_style *style, struct str *out)
{
	struct folded f = { .text = STR_INIT };
	size_t count;
	const struct process_entry *processes = stacks_processes(snapshot, &count);
	int rc = 0;

	(void)style;
	for (size_t p = 0; p < count; p++)
		for (size_t i = 0; rc == 0 && i < processes[p].site_count; i++)
			rc = add_site(&f, &processes[p].sites[i], count > 1 ? &processes[p].target : NULL);
	if (rc == 0)
		rc = write_lines(&f, out);
	str_deinit(&f.text);
	free(f.lines);
	return rc;
}
