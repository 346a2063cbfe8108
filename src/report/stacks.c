/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "stacks.h"

const struct process_entry *stacks_processes(const struct snapshot *s, size_t *ret_count)
{
	*ret_count = s->process_count > 0 ? s->process_count : 1;
	return s->process_count > 0 ? s->processes : &s->main;
}

void stacks_add_process(struct str *out, const struct target_info *t)
{
	report_add_clean(out, t->comm ? t->comm : "unknown", true);
	if (t->id.pid > 0)
		str_addf(out, " (%d)", (int)t->id.pid);
}

void stacks_add_function(struct str *out, const struct frame *frame)
{
	report_add_clean(out, frame ? frame->function : "(no stack)", true);
}

uint64_t stacks_sum(uint64_t a, uint64_t b)
{
	return a > INT64_MAX || b > INT64_MAX - a ? INT64_MAX : a + b;
}

void numbers_init(struct numbers *n)
{
	*n = (struct numbers){ .by_key = MAP_INIT };
	n->failed = intern_create(&n->keys) < 0;
}

void numbers_deinit(struct numbers *n)
{
	intern_destroy(n->keys);
	n->keys = NULL;
	map_deinit(&n->by_key);
}

uint64_t numbers_of(struct numbers *n, struct str *key, bool *ret_new)
{
	const char *kept = n->failed || key->failed ? NULL : intern_strn(n->keys, str_text(key), key->len);
	uint64_t number = 0;

	str_reset(key);
	*ret_new = false;
	if (!kept) {
		n->failed = true;
		return 0;
	}
	/* A text is kept once, so its address stands for it. */
	if (map_get(&n->by_key, (uintptr_t)kept, &number))
		return number;
	if (map_put(&n->by_key, (uintptr_t)kept, n->count) < 0) {
		n->failed = true;
		return 0;
	}
	*ret_new = true;
	return n->count++;
}
