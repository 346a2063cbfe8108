/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The fit behind work.c: bytes = a + b g(units) [+ c time], and which g.
 *
 * Models are compared by AICc with n = the number of independent observations that the residuals of the closest model leave. A curve must
 * beat the line by a margin, everything must beat "constant" by one. Errors are those of regress() (AR(1)).
 *
 * What is said:
 *   fixed_bytes     the model at no unit, at the beginning of the time watched. Where the first unit is dearer than the next ones (model
 *                   "step") the line runs through what comes after the first: its extra cost is part of fixed_bytes, and
 *                   bytes_per_unit is what each further one adds. NaN where the line reaches below zero: there it was another one.
 *   bytes_per_unit  with time beside it where the two can be told apart, else without. Where the model is not linear, the mean over
 *                   the units watched.
 *   bytes_per_s     NaN where work runs so evenly that time and work are one.
 *   exponent        the power p of a + b units^p that fits best, with the interval in which the fit is no worse than chance allows.
 */
#include <math.h>

#include "verdict-priv.h"

#define TOLD_APART 0.1 /* least rate_variation */
#define VIF_MAX 400.0  /* beyond it, what bends a line a little passes for time */
#define LOOSE_PART 0.5 /* of the bytes' range: an interval of what time adds that is wider each way says nothing */
#define STEP_BLOCKS 40
#define STEP_BLOCKS_MIN 12
#define STEP_VARIATION 0.25
#define STEP_LOOSE 0.35 /* of the growth, each way */
#define SPAN_FACTOR 4.0 /* of units: a shorter stretch of any curve is a line */
#define MARGIN_ANY 4.0
#define MARGIN_CURVE 6.0
#define LINEAR_POWER 0.03 /* an exponent that close to 1 is a line */
#define MARGIN_STEP 6.0
#define STEP_ERRORS 5.0
#define STEP_UNITS 3.0 /* the first must cost more than that many of the next */
#define STEP_OF_RISE 0.05
#define EXPONENT_LOW 0.05
#define EXPONENT_HIGH 4.0
#define EXPONENT_GRID 9
#define EXPONENT_STEPS 10
#define CONDENSED 30 /* points for the exponent: each step costs as many powers */

enum growth { GROW_CONSTANT, GROW_LOG, GROW_LINEAR, GROW_NLOGN, GROW_QUADRATIC, GROW_POWER, GROW_COUNT };

static const char *const growth_names[GROW_COUNT] = {
	[GROW_CONSTANT] = "constant",  [GROW_LOG] = "logarithmic",     [GROW_LINEAR] = "linear",
	[GROW_NLOGN] = "linearithmic", [GROW_QUADRATIC] = "quadratic", [GROW_POWER] = "power",
};

struct model {
	bool known, timed;
	enum growth growth;
	double params; /* the noise counts */
	struct regression r;
};

struct fitting {
	const double *t_s, *units, *bytes;
	size_t count;
	double resolution;
	double scale; /* of the logarithm: one unit, or the smallest step seen of what is not counted by ones */
	bool curves;  /* the units span enough for curves to differ */
	bool timed;   /* time can be told from work */
	double power; /* the exponent of GROW_POWER; NaN: not fitted */
	double effective;
	struct model models[2][GROW_COUNT]; /* without and with time */
	struct model best;
	double best_aicc;
};

static double axis_at(const struct fitting *f, enum growth g, double units)
{
	double last = f->units[f->count - 1];

	switch (g) {
	case GROW_LOG:
		return log1p(units / f->scale);
	case GROW_NLOGN:
		return units * log(fmax(units / f->scale, 1));
	case GROW_QUADRATIC:
		return units / last * (units / last);
	case GROW_POWER:
		return pow(units / last, f->power);
	case GROW_LINEAR:
	case GROW_CONSTANT:
	case GROW_COUNT:
	default:
		return units;
	}
}

static void fit_model(struct fitting *f, enum growth g, bool timed)
{
	double axis[WORK_BLOCKS];
	const double *x[2] = { axis, f->t_s };
	struct model *m = &f->models[timed][g];

	m->growth = g;
	m->timed = timed;
	m->params = 2 + timed + (g != GROW_CONSTANT) + (g == GROW_POWER);
	if (g == GROW_CONSTANT) {
		m->known = regress(f->bytes, &f->t_s, timed, f->count, &m->r);
		return;
	}
	for (size_t i = 0; i < f->count; i++)
		axis[i] = axis_at(f, g, f->units[i]);
	m->known = regress(f->bytes, x, timed ? 2 : 1, f->count, &m->r);
}

static double aicc(const struct fitting *f, double sse, double params)
{
	double n = fmax(f->effective, params + 2), noise = sse / (double)f->count;

	return n * log(noise + f->resolution * f->resolution) + 2 * params * n / (n - params - 1);
}

/* ---- exponent -------------------------------------------------------------------------------------------------------- */

struct powers {
	size_t count;
	double log_units[CONDENSED], bytes[CONDENSED], axis[CONDENSED];
	double spread[CONDENSED]; /* variance of the units inside over their squared mean */
	double floor;             /* of the squares */
};

static void condense(const struct fitting *f, double per_s, struct powers *ret)
{
	size_t blocks = f->count < CONDENSED ? f->count : CONDENSED;

	ret->count = blocks;
	ret->floor = f->resolution * f->resolution * (double)blocks;
	for (size_t b = 0; b < blocks; b++) {
		size_t from = b * f->count / blocks, to = (b + 1) * f->count / blocks;
		double low = f->units[from > 0 ? from - 1 : 0], high = f->units[to < f->count ? to : to - 1];
		double units = 0, bytes = 0;

		/* half a block beyond the middles of the outermost ones */
		low = from > 0 ? (low + f->units[from]) / 2 : low;
		high = to < f->count ? (high + f->units[to - 1]) / 2 : high;
		for (size_t i = from; i < to; i++) {
			units += f->units[i] / (double)(to - from);
			bytes += (f->bytes[i] - f->bytes[0] - per_s * (f->t_s[i] - f->t_s[0])) / (double)(to - from);
		}
		ret->log_units[b] = log(units / f->units[f->count - 1]);
		ret->bytes[b] = bytes;
		ret->spread[b] = units > 0 ? (high - low) * (high - low) / 12 / (units * units) : 0;
	}
}

/* Squares about a + b units^p; infinite where b < 0. The mean of a power is not the power of the mean: to the second order. */
static double power_sse(struct powers *p, double exponent)
{
	double mx = 0, my = 0, sxx = 0, sxy = 0, syy = 0, n = (double)p->count;

	for (size_t i = 0; i < p->count; i++) {
		p->axis[i] = exp(exponent * p->log_units[i]) * (1 + exponent * (exponent - 1) / 2 * p->spread[i]);
		mx += p->axis[i] / n;
		my += p->bytes[i] / n;
	}
	for (size_t i = 0; i < p->count; i++) {
		double dx = p->axis[i] - mx, dy = p->bytes[i] - my;

		sxx += dx * dx;
		sxy += dx * dy;
		syy += dy * dy;
	}
	if (sxx <= 0 || sxy <= 0)
		return INFINITY;
	return fmax(0, syy - sxy * sxy / sxx) + p->floor;
}

static double grid_exponent(double i)
{
	return EXPONENT_LOW * pow(EXPONENT_HIGH / EXPONENT_LOW, i / (EXPONENT_GRID - 1));
}

static double search_exponent(struct powers *p, double *ret_sse)
{
	static const double golden = 0.6180339887498949;
	double best = INFINITY, low, high, a, b, sse_a, sse_b;
	size_t at = 0;

	for (size_t i = 0; i < EXPONENT_GRID; i++) {
		double sse = power_sse(p, grid_exponent((double)i));

		if (sse < best) {
			best = sse;
			at = i;
		}
	}
	if (!isfinite(best))
		return NAN;
	low = grid_exponent((double)at - (at > 0));
	high = grid_exponent((double)at + (at + 1 < EXPONENT_GRID));
	a = high - golden * (high - low);
	b = low + golden * (high - low);
	sse_a = power_sse(p, a);
	sse_b = power_sse(p, b);
	for (size_t i = 0; i < EXPONENT_STEPS; i++) {
		if (sse_a < sse_b) {
			high = b;
			b = a;
			sse_b = sse_a;
			a = high - golden * (high - low);
			sse_a = power_sse(p, a);
		} else {
			low = a;
			a = b;
			sse_a = sse_b;
			b = low + golden * (high - low);
			sse_b = power_sse(p, b);
		}
	}
	*ret_sse = fmin(sse_a, sse_b);
	return sse_a < sse_b ? a : b;
}

/* Where the squares rise above the limit between a good exponent and one that is not. */
static double search_edge(struct powers *p, double good, double bad, double limit)
{
	for (size_t i = 0; i < EXPONENT_STEPS; i++) {
		double middle = (good + bad) / 2;

		if (power_sse(p, middle) > limit)
			bad = middle;
		else
			good = middle;
	}
	return bad;
}

static double best_exponent(const struct fitting *f)
{
	struct powers p;
	double sse;

	condense(f, 0, &p);
	return search_exponent(&p, &sse);
}

/* Of what is left of the growth when that with time is taken off. */
static struct interval measure_exponent(const struct fitting *f, double per_s)
{
	struct interval ret = { NAN, NAN, NAN };
	struct powers p;
	struct regression r;
	const double *x = p.axis;
	double best, sse = 0, limit, low, high;

	condense(f, per_s, &p);
	best = search_exponent(&p, &sse);
	if (isnan(best))
		return ret;
	power_sse(&p, best); /* leaves its axis */
	if (!regress(p.bytes, &x, 1, p.count, &r))
		return ret;
	limit = sse * exp(r.t95 * r.t95 / fmax(r.effective - 3, 1));
	if (power_sse(&p, EXPONENT_LOW) <= limit || power_sse(&p, EXPONENT_HIGH) <= limit)
		return ret; /* any exponent will do */
	low = search_edge(&p, best, EXPONENT_LOW, limit);
	high = search_edge(&p, best, EXPONENT_HIGH, limit);
	return (struct interval){ best, low, high };
}

/* ---- the model ------------------------------------------------------------------------------------------------------- */

static void weigh(const struct fitting *f, const struct model *m, double margin, struct model *best, double *best_aicc)
{
	double value;

	if (!m->known)
		return;
	value = aicc(f, m->r.sse, m->params);
	if (value + margin < *best_aicc) {
		*best_aicc = value;
		*best = *m;
	}
}

static void choose_model(struct fitting *f)
{
	const struct model *line = &f->models[0][GROW_LINEAR];
	struct model curve = { .known = false };
	double closest = INFINITY, curve_aicc = INFINITY, constant = INFINITY;

	f->effective = (double)f->count;
	for (size_t timed = 0; timed < 2; timed++)
		for (size_t g = 0; g < GROW_COUNT; g++) {
			const struct model *m = &f->models[timed][g];

			if (m->known && m->r.sse < closest) {
				closest = m->r.sse;
				f->effective = m->r.effective;
			}
		}
	f->best_aicc = INFINITY;
	weigh(f, &f->models[0][GROW_CONSTANT], 0, &f->best, &f->best_aicc);
	constant = f->best_aicc;
	weigh(f, &f->models[1][GROW_CONSTANT], MARGIN_ANY, &f->best, &f->best_aicc);
	weigh(f, &f->models[0][GROW_LINEAR], f->best_aicc == constant ? MARGIN_ANY : 0, &f->best, &f->best_aicc);
	weigh(f, &f->models[1][GROW_LINEAR], 0, &f->best, &f->best_aicc);
	for (size_t g = 0; g < GROW_COUNT; g++)
		if (g != GROW_CONSTANT && g != GROW_LINEAR)
			weigh(f, &f->models[0][g], 0, &curve, &curve_aicc);
	weigh(f, &curve, MARGIN_CURVE, &f->best, &f->best_aicc);
	/* few independent observations make AICc choose nothing at all: not where each unit adds something beyond doubt */
	if (f->best.growth == GROW_CONSTANT && !f->best.timed && line->known && regress_slope(&line->r, 0).low > 0) {
		f->best = *line;
		f->best_aicc = aicc(f, line->r.sse, line->params);
	}
}

static bool told_apart(const struct fitting *f)
{
	const struct model *m = &f->models[1][GROW_LINEAR];
	double low = f->bytes[0], high = f->bytes[0], error;

	if (!m->known || m->r.vif > VIF_MAX)
		return false;
	for (size_t i = 1; i < f->count; i++) {
		low = fmin(low, f->bytes[i]);
		high = fmax(high, f->bytes[i]);
	}
	error = m->r.t95 * sqrt(m->r.cov[2][2]) * (f->t_s[f->count - 1] - f->t_s[0]);
	return error <= LOOSE_PART * (high - low);
}

/* From the course's point `from` on. */
static void fit_all(const struct work_course *c, size_t from, const struct work_fit *w, struct fitting *ret)
{
	double first = c->units[from], last = c->units[c->count - 1];

	*ret = (struct fitting){
		.t_s = c->t_s + from,
		.units = c->units + from,
		.bytes = c->bytes + from,
		.count = c->count - from,
		.resolution = c->resolution,
		.scale = w->cooperative ? 1 : (last - first) / (double)c->count,
		.power = NAN,
		.curves = first >= 0 && last > first && last >= SPAN_FACTOR * first,
	};
	fit_model(ret, GROW_CONSTANT, false);
	fit_model(ret, GROW_LINEAR, false);
	fit_model(ret, GROW_LINEAR, true);
	ret->timed = w->rate_variation >= TOLD_APART && told_apart(ret);
	ret->models[1][GROW_LINEAR].known = ret->timed;
	if (ret->timed)
		fit_model(ret, GROW_CONSTANT, true);
	if (ret->curves) {
		fit_model(ret, GROW_LOG, false);
		fit_model(ret, GROW_NLOGN, false);
		fit_model(ret, GROW_QUADRATIC, false);
		ret->power = best_exponent(ret);
		if (fabs(ret->power - 1) > LINEAR_POWER)
			fit_model(ret, GROW_POWER, false);
	}
	choose_model(ret);
}

/*
 * A first unit that costs more than the next ones: the level before any unit, then a jump and a line. Compared with the best model of the
 * whole, so that a curve that only starts steeply stays a curve.
 */
static bool first_is_dear(const struct work_course *c, const struct fitting *all, const struct fitting *after)
{
	const struct model *line = &after->models[after->best.timed][GROW_LINEAR];
	double before = 0, squares = 0, n = (double)c->still, first = c->units[0], x[2], jump, error;
	struct fitting whole = *all; /* weighed by what the better model leaves */
	struct interval at;

	if (!line->known || after->best.growth == GROW_LOG)
		return false;
	for (size_t i = 0; i < c->still; i++)
		before += (c->bytes[i] - c->bytes[0]) / n;
	before += c->bytes[0];
	for (size_t i = 0; i < c->still; i++)
		squares += (c->bytes[i] - before) * (c->bytes[i] - before);
	x[0] = first;
	x[1] = after->t_s[0];
	at = regress_at(&line->r, x, false);
	jump = at.value - before;
	error = (at.high - at.low) / (2 * line->r.t95) + sqrt((line->r.variance + squares / n) / n);
	if (!c->still_thin) {
		struct model best = { .known = false };
		double best_aicc = INFINITY;

		whole.effective = after->effective * (double)all->count / (double)after->count;
		for (size_t i = 0; i < 2 * GROW_COUNT; i++)
			weigh(&whole, &all->models[i / GROW_COUNT][i % GROW_COUNT], 0, &best, &best_aicc);
		if (aicc(&whole, squares + after->best.r.sse, after->best.params + 2) + MARGIN_STEP >= best_aicc)
			return false;
	}
	return jump > STEP_ERRORS * error && jump > STEP_UNITS * fabs(line->r.slope[0]) &&
	       jump > STEP_OF_RISE * (c->bytes[c->count - 1] - before) && jump > 4 * c->resolution;
}

static struct interval model_at(const struct fitting *f, const struct model *m, double units, double t_s, bool observed)
{
	double x[2] = { axis_at(f, m->growth, units), t_s };

	if (m->growth == GROW_CONSTANT)
		x[0] = t_s;
	return regress_at(&m->r, x, observed);
}

/*
 * Twice and ten times the units, in as much more time. Wide enough for the other powers that fit, too: a line seen over a short stretch
 * may be a slight curve.
 */
static void predict(struct fitting *f, struct work_fit *ret)
{
	static const double factors[] = { 2, 10 };
	double span_s = f->t_s[f->count - 1] - f->t_s[0], power = f->power;

	for (size_t i = 0; i < sizeof(factors) / sizeof(*factors); i++) {
		double units = factors[i] * ret->units_last, t_s = f->t_s[0] + factors[i] * span_s;
		struct interval bytes = model_at(f, &f->best, units, t_s, true);
		const double ends[] = { ret->exponent.low, ret->exponent.high };

		for (size_t e = 0; e < 2 && !isnan(ends[e]) && !f->best.timed; e++) {
			struct interval other;

			f->power = ends[e];
			fit_model(f, GROW_POWER, false);
			if (!f->models[0][GROW_POWER].known)
				continue;
			other = model_at(f, &f->models[0][GROW_POWER], units, t_s, false);
			bytes.low = fmin(bytes.low, other.value);
			bytes.high = fmax(bytes.high, other.value);
		}
		f->power = power;
		bytes.low = fmax(bytes.low, 0);
		ret->predictions[ret->prediction_count++] = (struct work_prediction){ units, bytes };
	}
}

/* No work: all that grows does so with time. */
static void fit_still(const struct work_course *c, struct work_fit *ret)
{
	const double *x = c->t_s;
	struct regression r;

	if (regress(c->bytes, &x, 1, c->count, &r))
		ret->bytes_per_s = regress_slope(&r, 0);
	ret->model = "constant";
	ret->known = true;
}

static void tell(struct fitting *f, double begin_s, bool dear, struct work_fit *ret)
{
	const struct model *m = &f->best, *timed = &f->models[1][GROW_LINEAR], *line = &f->models[0][GROW_LINEAR];
	bool straight = m->growth == GROW_LINEAR || m->growth == GROW_CONSTANT;
	const struct interval unknown = { NAN, NAN, NAN };

	ret->known = true;
	ret->model = dear && straight ? "step" : growth_names[m->growth];
	ret->r2 = m->r.total > 0 ? 1 - m->r.sse / m->r.total : NAN;
	if (f->timed && !straight) {
		fit_model(f, m->growth, true);
		if (f->models[1][m->growth].known)
			ret->bytes_per_s = regress_slope(&f->models[1][m->growth].r, 1);
	} else if (f->timed) {
		ret->bytes_per_s = regress_slope(&timed->r, 1);
	}
	line = f->timed && straight ? timed : line;
	ret->bytes_per_unit = regress_slope(&line->r, 0);
	ret->fixed_bytes = model_at(f, straight ? line : m, 0, begin_s, false);
	if (ret->fixed_bytes.value < 0)
		ret->fixed_bytes = unknown;
	if (f->curves && m->growth != GROW_CONSTANT)
		ret->exponent = measure_exponent(f, m->timed ? m->r.slope[1] : 0);
	if (ret->cooperative)
		predict(f, ret);
}

/*
 * Where levels cannot tell work from time, because both rise nearly alike: from block to block, do the bytes move as the work does, or
 * evenly? Neither a slow bend nor noise passes for an answer: the interval of what work adds must be narrow.
 */
static void tell_by_steps(const struct work_course *c, struct work_fit *ret)
{
	double by_s[STEP_BLOCKS + 1], units_by_s[STEP_BLOCKS + 1], idle = 0;
	const double *x = units_by_s;
	size_t stride = (c->count - c->still) / STEP_BLOCKS + 1, n = 0, from = c->still;
	struct interval each, alone;
	struct regression r;

	if (!isnan(ret->bytes_per_s.value) || ret->rate_variation < STEP_VARIATION)
		return;
	for (size_t to = from + stride; to < c->count && n < STEP_BLOCKS; from = to, to += stride) {
		double took_s = c->t_s[to] - c->t_s[from];

		by_s[n] = (c->bytes[to] - c->bytes[from]) / took_s;
		units_by_s[n++] = (c->units[to] - c->units[from]) / took_s;
	}
	if (n < STEP_BLOCKS_MIN || !regress(by_s, &x, 1, n, &r) || !(r.mean_y > 0))
		return;
	each = regress_slope(&r, 0);
	alone = regress_at(&r, &idle, false);
	if ((each.high - each.low) / 2 * r.mean_x[0] > STEP_LOOSE * r.mean_y)
		return;
	ret->bytes_per_s = alone;
	if (alone.value > r.mean_y / 2) /* what levels say of a unit is then time's */
		ret->bytes_per_unit = each;
}

void work_fit_course(const struct work_course *c, struct work_fit *ret)
{
	struct fitting all, after;

	if (c->count < 6)
		return;
	if (c->units[c->count - 1] <= c->units[0]) {
		fit_still(c, ret);
		return;
	}
	fit_all(c, c->still_thin ? c->still : 0, ret, &all);
	if (!all.models[0][GROW_LINEAR].known || !all.best.known)
		return;
	if (c->still > 0 && c->count - c->still >= 6) {
		fit_all(c, c->still, ret, &after);
		if (after.best.known && first_is_dear(c, &all, &after)) {
			tell(&after, c->begin_s, true, ret);
			tell_by_steps(c, ret);
			return;
		}
	}
	tell(&all, c->begin_s, false, ret);
	tell_by_steps(c, ret);
}
