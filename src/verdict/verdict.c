/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "memwatch/verdict.h"

#include <errno.h>
#include <stdlib.h>

#include "verdict-priv.h"

static void classify(struct judgement *j)
{
	const struct verdict_rule *r = verdict_rules;

	while (!r->applies(&j->f, &j->v, &j->subject))
		r++; /* the last one always holds */
	j->v.judged = j->subject->metric;
	j->v.slope_per_s = j->subject->slope;
	j->v.work = j->f.work;
	j->v.cycles = j->f.cycles;
}

static int keep(struct judgement *j, struct verdict *ret)
{
	struct verdict v = j->v;

	v.evidence = arena_memdup(j->arena, j->evidence, v.evidence_count * sizeof(*v.evidence));
	v.actions = arena_memdup(j->arena, j->actions, v.action_count * sizeof(*v.actions));
	if (v.forecast.known)
		v.forecast.limit_source = arena_strdup(j->arena, v.forecast.limit_source);
	if (j->failed || !v.evidence || (v.action_count > 0 && !v.actions))
		return -ENOMEM;
	*ret = v;
	return 0;
}

int verdict_judge(const struct verdict_input *input, struct arena *arena, struct verdict *ret)
{
	struct judgement *j = calloc(1, sizeof(*j));
	int err;

	if (!j)
		return -ENOMEM;
	j->arena = arena;
	str_init(&j->text);
	features_compute(input, &j->f);
	classify(j);
	forecast_build(j);
	evidence_build(j);
	actions_build(j);
	err = keep(j, ret);
	str_deinit(&j->text);
	free(j);
	return err;
}

bool verdict_changed(const struct verdict *a, const struct verdict *b)
{
	return a->class != b->class || a->kind != b->kind || a->cause != b->cause || a->where != b->where;
}

bool verdict_in_set(const struct verdict *v, uint64_t class_bits)
{
	return class_bits >> v->class & 1;
}
