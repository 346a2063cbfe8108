/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The session's work counter, whichever it is. */
#include <math.h>
#include <stddef.h>

#include "session/private.h"
#include "session/units.h"

static const struct units_ops *wanted(const struct session_options *o)
{
	return o->unit_func ? &units_func : o->unit_stdout ? &units_stdout : o->unit_file ? &units_file : NULL;
}

int units_open(const struct session_options *o, struct units **ret, struct err *err)
{
	const struct units_ops *ops = wanted(o);
	struct units *u = NULL;
	int rc = 0;

	if (ops)
		rc = ops->open(o, &u, err);
	if (rc < 0)
		return rc;
	if (u) {
		u->ops = ops;
		u->run = o->argv != NULL;
		u->value = NAN;
	}
	*ret = u;
	return 0;
}

void units_close(struct units *u)
{
	if (u)
		u->ops->close(u);
}

int units_stdout_fd(const struct units *u)
{
	return u && u->ops == &units_stdout ? units_stdout_descriptor(u) : 0;
}

uint64_t units_cpu_ns(const struct units *u)
{
	return u && u->ops == &units_stdout ? units_stdout_cpu_ns(u) : 0;
}

int units_attach(struct session *s, struct err *err)
{
	return s->units && s->units->ops->attach ? s->units->ops->attach(s->units, s->targets[0], err) : 0;
}

/* Only the first target is counted: which of its children does a unit of work is not known. */
static struct units *units_of(const struct target *t)
{
	const struct session *s = t->session;

	return s->target_count > 0 && s->targets[0] == t ? s->units : NULL;
}

void units_exec(struct target *t)
{
	struct units *u = units_of(t);

	if (u && u->ops->exec)
		u->ops->exec(u, t);
}

double units_read(struct target *t, bool last)
{
	struct units *u = units_of(t);

	if (!u)
		return NAN;
	u->ops->read(u, t, last);
	return u->value;
}

void units_drain(struct session *s)
{
	struct target *t = s->targets[0];
	struct sample sample;
	double before;

	if (!s->units || !s->units->ops->drain || s->wait_status < 0)
		return;
	before = s->units->value;
	s->units->ops->drain(s->units, s);
	/* What came through the pipe behind the last sample: of the memory at that time nothing is known any more. */
	if (isnan(s->units->value) || s->units->value == before)
		return;
	sample_init(&sample, session_time(s, 0));
	sample.v[METRIC_WORK] = s->units->value;
	t->last.v[METRIC_WORK] = s->units->value;
	if (series_add(t->series, &sample) >= 0)
		s->samples++;
}

void units_note_gaps(struct session *s)
{
	if (s->units && s->units->ops->gaps)
		s->units->ops->gaps(s->units, s);
}

const char *units_noun(const struct target *t)
{
	const struct units *u = units_of(t);

	return u ? u->ops->noun(u) : NULL;
}
