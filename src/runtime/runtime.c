/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/runtime.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "runtime/others.h"

/*
 * In this order: those that give figures before those that are only named, and of several in one process the one that is looked for by the
 * strictest evidence first.
 */
static const struct reader {
	const struct runtime_ops *ops;
	const char *(*name)(const void *state); /* NULL: ops->name */
} readers[] = {
	{ &runtime_cpython, NULL },
	{ &runtime_hotspot, NULL },
	{ &runtime_v8, NULL },
	{ &runtime_others, others_name },
};

#define READERS (sizeof(readers) / sizeof(readers[0]))

struct runtime {
	const struct reader *reader;
	void *state;
};

/* A reader that met its runtime and cannot read it does not keep the others from looking; its error stands if none of them finds anything. */
int runtime_probe(const struct runtime_query *query, struct runtime **ret, struct err *err)
{
	cleanup_free struct runtime *r = calloc(1, sizeof(*r));
	struct err first = ERR_INIT, now;
	int first_rc = 0;

	if (!r)
		return err_set(err, ENOMEM, "out of memory");
	for (size_t i = 0; i < READERS; i++) {
		int rc;

		now = (struct err)ERR_INIT;
		rc = readers[i].ops->probe(query, &r->state, &now);
		if (rc == 1) {
			r->reader = &readers[i];
			*ret = take_ptr(&r);
			return 1;
		}
		if (rc < 0 && (first_rc == 0 || rc == -ESRCH)) {
			first = now;
			first_rc = rc;
		}
		if (rc == -ESRCH)
			break;
	}
	if (first_rc && err)
		*err = first;
	return first_rc;
}

int runtime_read(struct runtime *r, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err)
{
	struct runtime_stats stats = {
		.live_bytes = NAN,
		.in_use_bytes = NAN,
		.free_bytes = NAN,
		.committed_bytes = NAN,
		.released_bytes = NAN,
		.collections = NAN,
		.tasks = NAN,
	};
	int rc = r->reader->ops->read(r->state, mem, arena, &stats, err);

	if (rc == 0)
		*ret = stats;
	return rc;
}

void runtime_describe(const struct runtime *r, struct arena *arena, struct named_part *ret)
{
	const struct runtime_ops *ops = r->reader->ops;

	*ret = (struct named_part){
		.name = arena_strdup(arena, r->reader->name ? r->reader->name(r->state) : ops->name),
		.version = arena_strdup(arena, ops->version(r->state)),
		.found_by = arena_strdup(arena, ops->found_by(r->state)),
	};
}

void runtime_destroy(struct runtime *r)
{
	if (!r)
		return;
	r->reader->ops->destroy(r->state);
	free(r);
}
