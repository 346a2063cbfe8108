/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * When a growing course first reaches a height: see passage_time in series.h for what is promised.
 *
 * 1. The points are averaged over at most 48 cells of equal time; of whole periods where the course swings.
 * 2. What the noise about the line is like decides everything, and few points cannot tell: noise that is forgotten leaves a
 *    slope known to n^-3/2 and tells nothing of the future; noise that adds up (arrivals at random times, a random walk)
 *    leaves it known to n^-1/2 and goes on adding up. So each of a family of noises is fitted by generalised least squares
 *    (a filter turns the points into innovations) and weighs as much as its restricted likelihood says: white,
 *    autocorrelated, a random walk, and mixtures with white.
 * 3. A draw takes one of the noises, resamples its innovations in moving blocks (what the family leaves of correlation stays
 *    inside the blocks), refits the line, and widens by Student's factor for the variance is only estimated.
 * 4. It then goes on by that law. Where the noise is forgotten: the drawn line, and above it the highest excess of each
 *    cell, again in blocks, until one reaches the height: swings reach it with their tops. Where it adds up: from
 *    the present level by what the course did over blocks of cells.
 *
 * Where it errs: regular swings are taken for random ones (95 to 98 % instead of 90), and tops or clumps of arrivals far above
 * what was seen come too early (82 to 86 %).
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/series.h"

#define CELLS 48
#define MIN_CELLS 5
#define MIN_PERIODS 8 /* fewer periods do not make cells enough */
#define DRAWS 200
#define QUANTILE 0.05
#define DIFFUSE 1e4     /* variance of an unknown start, in variances of the noise */
#define SWELL 0.2       /* tops yet to come may be higher than any seen: blocks are scaled by up to that, either way */
#define EVEN 0.1        /* steps from cell to cell that differ less are even */
#define SETTLED 1e-6    /* relative change of the filter's variance that is none */
#define FARTHEST_S 1e10 /* later than this is never */
#define LEAP_SIGMA 3.0  /* a leap is so short that the height lies that many deviations off */
#define STEPS_MAX 400   /* of one draw that adds up; what has not arrived by then went away */
#define TOPS_MAX 2000   /* cells looked at for the first excess that reaches the height */

/* One kind of noise. Its variance is estimated; here only the parts' shares count. */
struct noise {
	double keeps; /* of the slow part from cell to cell; 1: a random walk */
	double slow;  /* variance of the slow part; of its increment for a walk */
	double white; /* variance of what each cell has on its own */
	double weight; /* before the data speak: about a third white, a sixth autocorrelated, half walks: what adds up is feared more */
};

static const struct noise noises[] = {
	{ 0, 0, 1, 1.0 / 3 },        { 0.4, 1, 0, 1.0 / 24 }, { 0.7, 1, 0, 1.0 / 24 }, { 0.4, 0.5, 0.5, 1.0 / 24 },
	{ 0.7, 0.5, 0.5, 1.0 / 24 }, { 1, 1, 0, 1.0 / 5 },    { 1, 1, 1, 1.0 / 5 },    { 1, 1, 10, 1.0 / 15 },
};
#define NOISES (sizeof(noises) / sizeof(*noises))

/* A course by cells. Times count from the last point: now is 0. */
struct cells {
	const struct point *points;
	size_t count, begin[CELLS + 1]; /* cell k holds the points from begin[k] to before begin[k + 1] */
	double width_s, end_s, last;    /* end_s, last: time and value of the last point */
	double t_s[CELLS], v[CELLS];
	double at_now, per_s;     /* least squares line */
	double above_line[CELLS]; /* highest excess of each cell */
};

/* A line fitted under one noise. */
struct fit {
	const struct noise *noise;
	double at_now, per_s;
	double log_likelihood;
	double level[CELLS];                           /* walk: the filtered level, line included */
	double level_sigma;                            /* of the last one, in deviations of the noise */
	double rest[CELLS];                            /* innovations, in bytes */
	double weight_now[CELLS], weight_per_s[CELLS]; /* how an innovation moves the line */
};

struct draws {
	uint64_t state;
	size_t count;
	double at_s[DRAWS];
};

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static double uniform(uint64_t *state)
{
	return (double)(next_random(state) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *state)
{
	double u = 1 - uniform(state);

	return sqrt(-2 * log(u)) * cos(6.283185307179586 * uniform(state));
}

static size_t below(uint64_t *state, size_t count)
{
	return (size_t)((next_random(state) >> 32) * count >> 32);
}

static uint64_t seed_of(const struct point *p, size_t count, double ahead)
{
	uint64_t seed = count, bits;

	for (size_t i = 0; i <= count; i++) {
		memcpy(&bits, i < count ? &p[i].v : &ahead, sizeof(bits));
		seed = (seed ^ bits) * 0x9e3779b97f4a7c15ULL;
		seed ^= seed >> 29;
	}
	return seed;
}

/* ---- cells ------------------------------------------------------------------------------------------------------------ */

static void fit_line(struct cells *c)
{
	double n = (double)c->count, t = 0, v = 0, tt = 0, tv = 0;

	for (size_t i = 0; i < c->count; i++) {
		t += c->t_s[i] / n;
		v += c->v[i] / n;
	}
	for (size_t i = 0; i < c->count; i++) {
		tt += (c->t_s[i] - t) * (c->t_s[i] - t);
		tv += (c->t_s[i] - t) * (c->v[i] - v);
	}
	c->per_s = tv / tt;
	c->at_now = v - c->per_s * t;
}

static size_t cell_count(size_t points, double span_s, double period_s, double *ret_width_s)
{
	size_t count = points < CELLS ? points : CELLS;

	if (period_s > 0 && span_s / period_s >= MIN_PERIODS) {
		*ret_width_s = period_s * ceil(span_s / period_s / (double)CELLS);
		if (span_s / *ret_width_s < (double)count) {
			count = (size_t)(span_s / *ret_width_s);
			return count;
		}
	}
	*ret_width_s = span_s / (double)count * (1 + 1e-9);
	return count;
}

static bool cells_make(const struct point *p, size_t count, double from_s, double period_s, struct cells *ret)
{
	size_t first = 0, wanted, m = 0;
	double end_s = p[count - 1].t_s;

	while (first < count && p[first].t_s < from_s)
		first++;
	if (count - first < MIN_CELLS || end_s <= p[first].t_s)
		return false;
	wanted = cell_count(count - first, end_s - p[first].t_s, period_s, &ret->width_s);
	while (first < count && p[first].t_s <= end_s - (double)wanted * ret->width_s)
		first++;
	for (size_t i = first; i < count;) {
		double until_s = floor((end_s - p[i].t_s) / ret->width_s) * ret->width_s, t = 0, v = 0;
		size_t begin = i;

		for (; i < count && (i == begin || end_s - p[i].t_s >= until_s); i++) {
			t += p[i].t_s - end_s;
			v += p[i].v;
		}
		if (m == CELLS)
			return false;
		ret->t_s[m] = t / (double)(i - begin);
		ret->v[m] = v / (double)(i - begin);
		ret->begin[m++] = begin;
	}
	ret->begin[m] = count;
	ret->count = m;
	ret->points = p;
	ret->end_s = end_s;
	ret->last = p[count - 1].v;
	if (m < MIN_CELLS)
		return false;
	fit_line(ret);
	for (size_t k = 0; k < m; k++) {
		ret->above_line[k] = -INFINITY;
		for (size_t i = ret->begin[k]; i < ret->begin[k + 1]; i++)
			ret->above_line[k] =
				fmax(ret->above_line[k], p[i].v - ret->at_now - ret->per_s * (p[i].t_s - end_s));
	}
	return true;
}

/* ---- the line under one noise ----------------------------------------------------------------------------------------- */

/* What the filter makes of the three columns: value, 1, time. */
struct filtered {
	double value[CELLS], one[CELLS], time[CELLS];
	double level[CELLS][3], variance, log_scale;
};

static void filter(const struct cells *c, const struct noise *noise, struct filtered *ret)
{
	bool walk = noise->keeps >= 1;
	double variance = walk ? DIFFUSE : noise->slow, product = 1, state[3] = { 0, 0, 0 };
	double before = -1, total = 1, gain = 0, scale = 1;

	ret->log_scale = 0;
	for (size_t k = 0; k < c->count; k++) {
		double step = k > 0 ? (c->t_s[k] - c->t_s[k - 1]) / c->width_s : 0;

		step = fabs(step - 1) < EVEN ? 1 : step;
		if (k > 0 && walk) {
			variance += noise->slow * step;
		} else if (k > 0 && noise->slow > 0) {
			double keeps = step == 1 ? noise->keeps : pow(noise->keeps, step);

			variance = keeps * keeps * variance + noise->slow * (1 - keeps * keeps);
			for (size_t i = 0; i < 3; i++)
				state[i] *= keeps;
		}
		if (fabs(variance - before) >
		    SETTLED * variance) { /* soon it repeats itself where the steps are even */
			before = variance;
			total = variance + noise->white;
			gain = variance / total;
			scale = 1 / sqrt(total);
		}
		ret->value[k] = (c->v[k] - state[0]) * scale;
		ret->one[k] = (1 - state[1]) * scale;
		ret->time[k] = (c->t_s[k] / c->width_s - state[2]) * scale;
		state[0] += gain * (c->v[k] - state[0]);
		state[1] += gain * (1 - state[1]);
		state[2] += gain * (c->t_s[k] / c->width_s - state[2]);
		memcpy(ret->level[k], state, sizeof(state));
		variance = before * noise->white / total;
		product *= total;
		if (k % 16 == 15 || k + 1 == c->count) {
			ret->log_scale += log(product);
			product = 1;
		}
	}
	ret->variance = variance;
}

static void fit_under(const struct cells *c, const struct noise *noise, struct fit *ret)
{
	struct filtered f;
	double aa = 0, ab = 0, bb = 0, ay = 0, by = 0, det, sum = 0, n = (double)c->count, mean = 0, at_now, per_cell;

	filter(c, noise, &f);
	for (size_t k = 0; k < c->count; k++) {
		aa += f.one[k] * f.one[k];
		ab += f.one[k] * f.time[k];
		bb += f.time[k] * f.time[k];
		ay += f.one[k] * f.value[k];
		by += f.time[k] * f.value[k];
	}
	det = aa * bb - ab * ab;
	at_now = (bb * ay - ab * by) / det;
	per_cell = (aa * by - ab * ay) / det;
	for (size_t k = 0; k < c->count; k++) {
		ret->weight_now[k] = (bb * f.one[k] - ab * f.time[k]) / det;
		ret->weight_per_s[k] = (aa * f.time[k] - ab * f.one[k]) / det / c->width_s;
		ret->rest[k] = f.value[k] - at_now * f.one[k] - per_cell * f.time[k];
		sum += ret->rest[k] * ret->rest[k];
		mean += ret->rest[k] / n;
	}
	ret->noise = noise;
	ret->at_now = at_now;
	ret->per_s = per_cell / c->width_s;
	/* a perfect line: what rounding leaves counts as noise, lest the logarithm decide by it */
	sum = fmax(sum, 1e-18 * n * (c->v[0] * c->v[0] + c->v[c->count - 1] * c->v[c->count - 1] + 1));
	ret->log_likelihood = log(noise->weight) - (f.log_scale + log(det) + (n - 2) * log(sum)) / 2;
	ret->level_sigma = sqrt(f.variance);
	for (size_t k = 0; k < c->count; k++) {
		ret->rest[k] = (ret->rest[k] - mean) * sqrt(n / (n - 2));
		ret->level[k] = f.level[k][0] + at_now * (1 - f.level[k][1]) +
				per_cell * (c->t_s[k] / c->width_s - f.level[k][2]);
	}
}

/* ---- one draw --------------------------------------------------------------------------------------------------------- */

static size_t block_length(size_t cells)
{
	return (size_t)fmax(1, round(cbrt((double)cells)));
}

/* sqrt(nu / chi^2(nu)) by Wilson and Hilferty: what is not known of the variance. Blocks leave fewer degrees of freedom. */
static double student_factor(uint64_t *state, size_t cells)
{
	double n = (double)cells, nu = fmax(3, fmin(n - 2, 1.5 * n / (double)block_length(cells) - 2));
	double spread = 2 / (9 * nu), root = 1 - spread + sqrt(spread) * normal(state);

	/* … and blocks of centred innovations lack as much variance as one block is of all */
	return 1 / sqrt(fmax(0.05, root * root * root) * (1 - (double)block_length(cells) / n));
}

/* How far the line's level and slope lie off, had the innovations come in another order. */
static void redraw_line(const struct fit *f, size_t cells, uint64_t *state, double *ret_now, double *ret_per_s)
{
	size_t length = block_length(cells);
	double now = 0, per_s = 0;

	for (size_t k = 0; k < cells;) {
		size_t from = below(state, cells);

		for (size_t i = 0; i < length && k < cells; i++, k++) {
			now += f->weight_now[k] * f->rest[from];
			per_s += f->weight_per_s[k] * f->rest[from];
			from = from + 1 < cells ? from + 1 : 0;
		}
	}
	*ret_now = now;
	*ret_per_s = per_s;
}

/* The noise that is forgotten: excesses of the course seen over a line. */
struct tops {
	const struct cells *seen;
	double at_now, per_s; /* the line */
	double above[CELLS], highest;
};

/* The first moment at which the line drawn, with the excesses of one cell from at_s on, reaches; beyond the cell: none. */
static bool cell_reaches(const struct tops *tops, size_t cell, double at_s, double left, double per_s, double swell,
			 struct point *before, double *ret_s)
{
	const struct cells *c = tops->seen;
	double begin_s = cell == 0 ? c->points[0].t_s : c->points[c->begin[cell] - 1].t_s;

	for (size_t i = c->begin[cell]; i < c->begin[cell + 1]; i++) {
		const struct point *p = &c->points[i];
		double t_s = at_s + fmin(p->t_s - begin_s, c->width_s);
		double v = per_s * t_s + swell * (p->v - tops->at_now - tops->per_s * (p->t_s - c->end_s));

		if (v >= left) {
			*ret_s = before->v < left && t_s > before->t_s ?
					 t_s - (t_s - before->t_s) * (v - left) / (v - before->v) :
					 t_s;
			return true;
		}
		*before = (struct point){ t_s, v };
	}
	return false;
}

/* left: from the line drawn, as it is now, to the height; ahead: from the present point. */
static double reach_with_tops(const struct tops *tops, double left, double ahead, double per_s, uint64_t *state)
{
	const struct cells *c = tops->seen;
	size_t length = block_length(c->count);
	struct point before = { 0, left - ahead };
	double at_s, reached_s;

	if (!(per_s > 0))
		return INFINITY;
	at_s = fmax(0,
		    (left - tops->highest * (1 + SWELL)) / per_s - (double)length * c->width_s * (1 + uniform(state)));
	if (at_s > 0)
		before.v = INFINITY;
	for (size_t steps = 0; steps < TOPS_MAX;) {
		size_t from = below(state, c->count);
		double swell = 1 + SWELL * (2 * uniform(state) - 1);

		for (size_t i = 0; i < length; i++, steps++) {
			if (per_s * (at_s + c->width_s) +
				    tops->above[from] * (tops->above[from] > 0 ? swell : 1 - SWELL) <
			    left)
				before.v = INFINITY;
			else if (cell_reaches(tops, from, at_s, left, per_s, swell, &before, &reached_s))
				return reached_s;
			at_s += c->width_s;
			from = from + 1 < c->count ? from + 1 : 0;
		}
	}
	return at_s;
}

/* The noise that adds up: what the course did over each block of cells, its drift left out. */
struct walk {
	const struct cells *law;
	const double *level; /* at the end of each cell */
	size_t length, blocks;
	double per_s, block_s;
	double moved[CELLS];   /* beyond the drift, in block i: from the end of cell i to that of cell i + length */
	double highest[CELLS]; /* of a point in block i, above where the block began; drift included */
	double sigma;          /* of moved */
};

static double cell_end_s(const struct cells *c, size_t cell)
{
	return c->points[c->begin[cell + 1] - 1].t_s;
}

static void walk_init(struct walk *w, const struct cells *law, const double *level, double per_s)
{
	double mean = 0, square = 0;

	*w = (struct walk){ .law = law, .level = level, .length = block_length(law->count), .per_s = per_s };
	w->blocks = law->count - w->length;
	w->block_s = (double)w->length * law->width_s;
	for (size_t i = 0; i < w->blocks; i++) {
		double spent_s = cell_end_s(law, i + w->length) - cell_end_s(law, i);

		w->moved[i] = level[i + w->length] - level[i] - per_s * spent_s;
		mean += w->moved[i] / (double)w->blocks;
		w->highest[i] = -INFINITY;
		for (size_t k = law->begin[i + 1]; k < law->begin[i + w->length + 1]; k++)
			w->highest[i] = fmax(w->highest[i], law->points[k].v - level[i]);
	}
	for (size_t i = 0; i < w->blocks; i++) {
		w->moved[i] -= mean;
		square += w->moved[i] * w->moved[i] / (double)w->blocks;
	}
	w->sigma = sqrt(square);
}

/* The first moment within one block, from its beginning, at which it gets `left` above there; beyond the block: none. */
static bool block_reaches(const struct walk *w, size_t block, double left, double per_s, double factor, double *ret_s)
{
	const struct cells *c = w->law;
	double begin_s = cell_end_s(c, block);
	struct point before = { 0, 0 };

	for (size_t i = c->begin[block + 1]; i < c->begin[block + w->length + 1]; i++) {
		double t_s = c->points[i].t_s - begin_s;
		double v = per_s * t_s + factor * (c->points[i].v - w->level[block] - w->per_s * t_s);

		if (v >= left) {
			*ret_s = before.v < left ? t_s - (t_s - before.t_s) * (v - left) / (v - before.v) : t_s;
			return true;
		}
		before = (struct point){ t_s, v };
	}
	return false;
}

/* Leaps by the normal law where the height is far off, block by block where it is near. */
static double reach_by_walk(const struct walk *w, double left, double per_s, double factor, uint64_t *state)
{
	double drift = per_s * w->block_s, sigma = w->sigma * factor, ahead = LEAP_SIGMA * sigma, at_s = 0, within_s;

	for (size_t steps = 0; steps < STEPS_MAX && at_s < FARTHEST_S; steps++) {
		double root, leap;
		size_t block;

		if (left <= 0)
			return at_s;
		root = drift > 0 ? (sqrt(ahead * ahead + 4 * drift * left) - ahead) / (2 * drift) : left / ahead;
		leap = floor(root * root);
		if (!isfinite(leap))
			return INFINITY;
		if (leap >= 4) {
			left -= leap * drift + sigma * sqrt(leap) * normal(state);
			at_s += leap * w->block_s;
			continue;
		}
		block = below(state, w->blocks);
		if (factor * w->highest[block] + fabs(per_s - factor * w->per_s) * w->block_s * 2 >= left &&
		    block_reaches(w, block, left, per_s, factor, &within_s))
			return at_s + within_s;
		left -= drift + factor * w->moved[block];
		at_s += w->block_s;
	}
	return INFINITY;
}

/* ---- together --------------------------------------------------------------------------------------------------------- */

static void draw_with_tops(const struct fit *f, const struct cells *law, const struct cells *seen, double ahead,
			   size_t count, struct draws *d)
{
	struct tops tops = { seen, seen->at_now, seen->per_s, { 0 }, -INFINITY };

	if (law == seen) { /* about this noise's own line */
		tops.at_now = f->at_now;
		tops.per_s = f->per_s;
	}
	for (size_t k = 0; k < seen->count; k++) {
		/* the two lines cross: the higher of the differences at the cell's ends bounds it */
		double apart = seen->at_now - tops.at_now, turn = seen->per_s - tops.per_s;

		tops.above[k] = seen->above_line[k] + apart + turn * seen->t_s[k] + fabs(turn) * seen->width_s;
		tops.highest = fmax(tops.highest, tops.above[k]);
	}
	while (count-- > 0) {
		double factor = student_factor(&d->state, law->count), now, per_s;

		redraw_line(f, law->count, &d->state, &now, &per_s);
		d->at_s[d->count++] = reach_with_tops(&tops, ahead + seen->last - tops.at_now - factor * now, ahead,
						      f->per_s + factor * per_s, &d->state);
	}
}

static void draw_by_walk(const struct fit *f, const struct cells *law, const struct cells *seen, double ahead,
			 size_t count, struct draws *d)
{
	double level[CELLS], sigma = 0, rest_now = 0;
	struct walk w;

	for (size_t k = 0; k < law->count; k++) {
		const struct point *end = &law->points[law->begin[k + 1] - 1];

		level[k] =
			f->noise->white > 0 ? f->level[k] + f->per_s * (end->t_s - law->end_s - law->t_s[k]) : end->v;
		sigma += f->rest[k] * f->rest[k] / (double)law->count;
	}
	walk_init(&w, law, level, f->per_s);
	sigma = f->noise->white > 0 ? sqrt(sigma) * f->level_sigma : 0;
	if (law == seen)
		rest_now = law->last - level[law->count - 1];
	while (count-- > 0) {
		double factor = student_factor(&d->state, law->count), now, per_s;

		redraw_line(f, law->count, &d->state, &now, &per_s);
		d->at_s[d->count++] = reach_by_walk(&w, ahead + rest_now - factor * sigma * normal(&d->state),
						    f->per_s + factor * per_s, factor, &d->state);
	}
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static struct interval summed_up(struct draws *d, double grain_s)
{
	/* between two points nobody sees when it is reached: a quarter of their distance either way */
	for (size_t i = 0; i < d->count; i++) {
		d->at_s[i] = fmax(0, d->at_s[i] + grain_s / 2 * (uniform(&d->state) - 0.5));
		if (!(d->at_s[i] < FARTHEST_S))
			d->at_s[i] = INFINITY;
	}
	qsort(d->at_s, d->count, sizeof(*d->at_s), compare);
	return (struct interval){ d->at_s[d->count / 2], d->at_s[(size_t)(QUANTILE * (double)d->count)],
				  d->at_s[(size_t)((1 - QUANTILE) * (double)d->count)] };
}

static void draw_all(const struct cells *law, const struct cells *seen, double ahead, struct draws *d)
{
	double likelihood[NOISES], best = -INFINITY, sum = 0, so_far = 0;
	struct fit f;

	for (size_t i = 0; i < NOISES; i++) {
		fit_under(law, &noises[i], &f);
		likelihood[i] = isfinite(f.log_likelihood) ? f.log_likelihood : -INFINITY;
		best = fmax(best, likelihood[i]);
	}
	for (size_t i = 0; i < NOISES; i++)
		sum += likelihood[i] = exp(likelihood[i] - best);
	for (size_t i = 0; i < NOISES && sum > 0; i++) {
		size_t until;

		so_far += likelihood[i] / sum;
		until = (size_t)(so_far * DRAWS + 0.5);
		if (until > DRAWS || i + 1 == NOISES)
			until = DRAWS;
		if (until <= d->count)
			continue;
		fit_under(law, &noises[i], &f);
		if (noises[i].keeps < 1)
			draw_with_tops(&f, law, seen, ahead, until - d->count, d);
		else
			draw_by_walk(&f, law, seen, ahead, until - d->count, d);
	}
}

struct interval passage_time(const struct point *law, size_t law_count, const struct point *seen, size_t seen_count,
			     double from_s, double period_s, double ahead)
{
	struct cells of_law, of_seen, *tops = &of_law;
	struct draws d = { .count = 0 };

	if (ahead <= 0)
		return (struct interval){ 0, 0, 0 };
	if (law_count < MIN_CELLS || !cells_make(law, law_count, from_s, period_s, &of_law))
		return (struct interval){ NAN, NAN, NAN };
	if (seen != law && seen_count >= MIN_CELLS && cells_make(seen, seen_count, from_s, period_s, &of_seen))
		tops = &of_seen;
	d.state = seed_of(law, law_count, ahead);
	draw_all(&of_law, tops, ahead, &d);
	if (d.count == 0)
		return (struct interval){ NAN, NAN, NAN };
	return summed_up(&d, (law[law_count - 1].t_s - law[0].t_s) / (double)(law_count - 1));
}
