/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * --unit-func: calls of a function.
 *
 *   attach: the function must be there, else the session ends before it begins.
 *   run:    it is looked for at the exec, when only the executable is mapped, and whenever code is mapped later.
 *
 *   SEEKING --found--> COUNTING --exec--> SEEKING        the count goes on over an exec
 *      |                  |
 *      +---- refused -----+--> REFUSED                   a gap says why
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "session/private.h"
#include "session/units.h"

#define EARLY_S 0.05    /* found so soon after the start: what was called before is not worth a word */
#define DEAR_SHARE 0.05 /* of a core that the target may spend in our traps before the report says so */
#define DEAR_WINDOW_NS NS_PER_S

enum func_state { SEEKING, COUNTING, REFUSED };

struct units_of_func {
	struct units units;
	enum func_state state;
	struct call_counter *counter;
	uint64_t before; /* calls under counters that are closed */
	uint64_t generation;
	bool sought;
	bool dear, late, ever_found;
	double found_s;
	uint64_t window_ns, window_calls;
	double dear_calls_per_s;
	struct err why;
};

static struct units_of_func *of(struct units *u)
{
	return (struct units_of_func *)u;
}

static const char *func_noun(const struct units *u)
{
	(void)u;
	return "call";
}

static int func_open(const struct session_options *o, struct units **ret, struct err *err)
{
	struct units_of_func *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, ENOMEM, "out of memory");
	f->units.argument = o->unit_func;
	*ret = &f->units;
	return 0;
}

static int update_symbols(struct target *t, struct err *err)
{
	int rc;

	if (!t->mem)
		return err_set(
			err, EPERM,
			"calls cannot be counted: reading the target's memory is refused; see the gap of 'heap'");
	rc = target_symbols(t);
	if (rc < 0)
		return err_set(err, -rc, "out of memory");
	rc = symbols_update(t->symbols, t->mem);
	return rc < 0 ? err_set(err, -rc, "cannot read the mappings of process %d: %s", (int)t->proc.id.pid,
				strerror(-rc)) :
			0;
}

/* 0: found, and counting or refused for good, with the reason in f->why. */
static int seek(struct units_of_func *f, struct target *t, struct err *err)
{
	struct function_place places[CALL_PLACES_MAX];
	uint64_t addresses[CALL_PLACES_MAX];
	size_t count = 0;
	int rc = update_symbols(t, err);

	if (rc < 0)
		return rc;
	if (f->sought && symbols_generation(t->symbols) == f->generation)
		return -ENOENT;
	f->sought = true;
	f->generation = symbols_generation(t->symbols);
	rc = symbols_find(t->symbols, f->units.argument, places, CALL_PLACES_MAX, &count, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++)
		addresses[i] = places[i].address;
	rc = call_counter_open(t->proc.id.pid, addresses, count, &f->counter, &f->why);
	if (rc == -ESRCH)
		return err_set(err, ESRCH, "%s", f->why.msg);
	if (rc < 0) {
		f->state = REFUSED;
		session_gap_err(t->session, "work", &f->why);
		return 0;
	}
	f->state = COUNTING;
	f->ever_found = true;
	f->found_s = session_time(t->session, 0);
	if (isnan(f->units.value))
		f->units.value = 0.0;
	return 0;
}

static int func_attach(struct units *u, struct target *t, struct err *err)
{
	struct units_of_func *f = of(u);
	int rc = seek(f, t, err);

	/* Of our child only the executable is there yet: a library's function comes with the library. */
	return rc == -ENOENT && u->run ? 0 : rc;
}

static void stop_counting(struct units_of_func *f)
{
	uint64_t calls;

	if (f->counter && call_counter_read(f->counter, &calls) == 0)
		f->before += calls;
	call_counter_close(f->counter);
	f->counter = NULL;
	f->sought = false;
	f->window_ns = 0;
}

static void refuse(struct units_of_func *f, struct target *t, const struct err *why)
{
	f->state = REFUSED;
	session_gap_err(t->session, "work", why);
}

static void func_exec(struct units *u, struct target *t)
{
	struct units_of_func *f = of(u);
	struct err why = ERR_INIT;
	int rc;

	stop_counting(f);
	if (f->state == REFUSED)
		return;
	f->state = SEEKING;
	rc = seek(f, t, &why);
	if (rc < 0 && rc != -ENOENT && rc != -ESRCH)
		refuse(f, t, &why);
}

/* A function that is called very often makes the target slow: it must not find that out by itself. */
static void watch_cost(struct units_of_func *f, uint64_t calls)
{
	uint64_t now = clock_now_ns();
	double per_s;

	if (f->window_ns == 0) {
		f->window_ns = now;
		f->window_calls = calls;
		return;
	}
	if (now - f->window_ns < DEAR_WINDOW_NS)
		return;
	per_s = (double)(calls - f->window_calls) / ((double)(now - f->window_ns) * 1e-9);
	if (per_s * (double)call_counter_cost_ns(f->counter) * 1e-9 > DEAR_SHARE && per_s > f->dear_calls_per_s) {
		f->dear = true;
		f->dear_calls_per_s = per_s;
	}
	f->window_ns = now;
	f->window_calls = calls;
}

static void func_read(struct units *u, struct target *t, bool last)
{
	struct units_of_func *f = of(u);
	struct err why = ERR_INIT;
	uint64_t calls;

	(void)last;
	if (f->state == SEEKING) {
		int rc = seek(f, t, &why);

		if (rc < 0 && rc != -ENOENT && rc != -ESRCH)
			refuse(f, t, &why);
		f->late = f->late || (f->state == COUNTING && session_time(t->session, 0) - t->opened_s > EARLY_S);
	}
	if (f->state != COUNTING || call_counter_read(f->counter, &calls) < 0)
		return;
	watch_cost(f, calls);
	u->value = (double)(f->before + calls);
}

static void func_gaps(struct units *u, struct session *s)
{
	struct units_of_func *f = of(u);
	char text[256];

	if (f->state == SEEKING && !f->ever_found) {
		snprintf(text, sizeof(text), "no function '%.100s' was found in the target while it ran", u->argument);
		session_gap(s, "work", text,
			    "'nm -C FILE' lists what a file has (inlined functions and those of stripped files are not "
			    "there)");
	} else if (f->ever_found && u->value == 0.0) {
		snprintf(text, sizeof(text), "'%.100s' was not called", u->argument);
		session_gap(s, "work", text, "was it inlined into its callers? name one of those");
	}
	if (f->late) {
		snprintf(text, sizeof(text), "'%.100s' was mapped after the start: calls before %.2f s are not counted",
			 u->argument, f->found_s);
		session_gap(s, "work", text, NULL);
	}
	if (f->counter && call_counter_missed(f->counter))
		session_gap(s, "work",
			    "threads were born faster than they could be listed: calls by some are not counted",
			    "begin to watch before the threads are made: memwatch run");
	if (f->dear) {
		uint64_t cost = f->counter ? call_counter_cost_ns(f->counter) : 0;

		snprintf(text, sizeof(text),
			 "'%.100s' was called %.0f times a second, and counting costs the target about %.1f us a call",
			 u->argument, f->dear_calls_per_s, (double)cost / 1e3);
		session_gap(s, "work", text, "name a function that is called less often, or use --unit-file");
	}
}

static void func_close(struct units *u)
{
	call_counter_close(of(u)->counter);
	free(of(u));
}

const struct units_ops units_func = { .noun = func_noun,
				      .open = func_open,
				      .attach = func_attach,
				      .exec = func_exec,
				      .read = func_read,
				      .gaps = func_gaps,
				      .close = func_close };
