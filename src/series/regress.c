/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Least squares of up to two regressors with errors that count autocorrelation.
 *
 * The residuals are taken for AR(1): rho is their correlation at lag 1, freed of its downward bias (Kendall's for a mean,
 * carried on to more terms), never below 0. The covariance is the sandwich A^-1 X'VX A^-1 with V[i][j] = rho^|i-j|, and the
 * variance of the noise is SSE / (n - tr(A^-1 X'VX)), which is unbiased for that V. Everything is about the means, so that
 * levels of gigabytes cost no digits of increments of bytes.
 */
#include "memwatch/series.h"

#include <math.h>

#define Z_95 1.959963984540054
#define RHO_MAX 0.98       /* beyond it 120 points say nothing about their own spread */
#define DEPENDENT 1e-9     /* 1 - r^2 of two regressors: below it rounding decides */
#define NOTHING_LEFT 1e-20 /* SSE over total: an exact fit, whose residuals are rounding */
#define COLS (REGRESS_TERMS + 1)

/* Student's t, two-sided 5 %, by the Cornish-Fisher expansion: within 1 % from 4 degrees of freedom on. */
static double student_95(double dof)
{
	double z = Z_95, z3 = z * z * z, z5 = z3 * z * z;

	dof = fmax(dof, 2);
	return z + (z3 + z) / (4 * dof) + (5 * z5 + 16 * z3 + 3 * z) / (96 * dof * dof) +
	       (3 * z5 * z * z + 19 * z5 + 17 * z3 - 15 * z) / (384 * dof * dof * dof);
}

static double mean_of(const double *x, size_t count)
{
	double sum = 0, mean;

	for (size_t i = 0; i < count; i++)
		sum += x[i];
	mean = sum / (double)count;
	/* the rounding of a large sum is taken off by a second pass */
	sum = 0;
	for (size_t i = 0; i < count; i++)
		sum += x[i] - mean;
	return mean + sum / (double)count;
}

/* Slopes, and the inverse of the cross products with the constant as column 0. */
static bool solve(const double *y, const double *const *x, struct regression *r, double inverse[COLS][COLS])
{
	double s[REGRESS_TERMS][REGRESS_TERMS] = { 0 }, sy[REGRESS_TERMS] = { 0 };
	double scale, r2, left;

	r->mean_y = mean_of(y, r->count);
	for (size_t k = 0; k < r->terms; k++)
		r->mean_x[k] = mean_of(x[k], r->count);
	for (size_t i = 0; i < r->count; i++) {
		double dy = y[i] - r->mean_y;

		r->total += dy * dy;
		for (size_t k = 0; k < r->terms; k++) {
			double d = x[k][i] - r->mean_x[k];

			sy[k] += d * dy;
			for (size_t l = 0; l <= k; l++)
				s[k][l] += d * (x[l][i] - r->mean_x[l]);
		}
	}
	inverse[0][0] = 1 / (double)r->count;
	r->vif = 1;
	for (size_t k = 0; k < r->terms; k++)
		if (!isfinite(s[k][k]) || s[k][k] <= 0)
			return false;
	if (r->terms == 1) {
		inverse[1][1] = 1 / s[0][0];
		r->slope[0] = sy[0] / s[0][0];
	}
	if (r->terms < 2)
		return true;
	scale = sqrt(s[0][0]) * sqrt(s[1][1]);
	r2 = s[1][0] / scale;
	left = 1 - r2 * r2;
	if (!(left > DEPENDENT))
		return false;
	r->vif = 1 / left;
	inverse[1][1] = 1 / (s[0][0] * left);
	inverse[2][2] = 1 / (s[1][1] * left);
	inverse[1][2] = inverse[2][1] = -r2 / (scale * left);
	r->slope[0] = inverse[1][1] * sy[0] + inverse[1][2] * sy[1];
	r->slope[1] = inverse[2][1] * sy[0] + inverse[2][2] * sy[1];
	return true;
}

static void measure_residuals(const double *y, const double *const *x, struct regression *r)
{
	double before = 0, lagged = 0, n = (double)r->count, columns = (double)r->terms + 1;

	for (size_t i = 0; i < r->count; i++) {
		double e = y[i] - r->mean_y;

		for (size_t k = 0; k < r->terms; k++)
			e -= r->slope[k] * (x[k][i] - r->mean_x[k]);
		r->sse += e * e;
		lagged += e * before;
		before = e;
	}
	if (r->sse > NOTHING_LEFT * r->total)
		r->rho = (lagged / r->sse + columns / n) / (1 - (columns + 2) / n);
	r->rho = fmin(fmax(r->rho, 0), RHO_MAX);
}

/* X'VX, by one recursive filter per column: sum over j <= i of rho^(i-j) x[j]. */
static void measure_meat(const double *const *x, const struct regression *r, double meat[COLS][COLS])
{
	double sums[COLS] = { 0 }, row[COLS] = { 1 };

	for (size_t i = 0; i < r->count; i++) {
		for (size_t k = 0; k < r->terms; k++)
			row[k + 1] = x[k][i] - r->mean_x[k];
		for (size_t k = 0; k <= r->terms; k++)
			sums[k] = r->rho * sums[k] + row[k];
		for (size_t k = 0; k <= r->terms; k++)
			for (size_t l = 0; l <= k; l++)
				meat[k][l] += row[k] * sums[l] + row[l] * sums[k] - row[k] * row[l];
	}
	for (size_t k = 0; k <= r->terms; k++)
		for (size_t l = 0; l < k; l++)
			meat[l][k] = meat[k][l];
}

static void measure_errors(double inverse[COLS][COLS], double meat[COLS][COLS], struct regression *r)
{
	double half[COLS][COLS] = { 0 }, used = 0, n = (double)r->count;
	size_t columns = r->terms + 1;

	for (size_t k = 0; k < columns; k++)
		for (size_t l = 0; l < columns; l++)
			for (size_t m = 0; m < columns; m++)
				half[k][l] += inverse[k][m] * meat[m][l];
	for (size_t k = 0; k < columns; k++)
		used += half[k][k];
	r->variance = r->sse / fmax(n - used, n / 8);
	for (size_t k = 0; k < columns; k++)
		for (size_t l = 0; l < columns; l++)
			for (size_t m = 0; m < columns; m++)
				r->cov[k][l] += r->variance * half[k][m] * inverse[m][l];
	r->effective = n * (1 - r->rho) / (1 + r->rho);
	r->t95 = student_95(r->effective - (double)columns);
}

bool regress(const double *y, const double *const *x, size_t terms, size_t count, struct regression *ret)
{
	struct regression r = { .count = count, .terms = terms };
	double inverse[COLS][COLS] = { 0 }, meat[COLS][COLS] = { 0 };

	if (terms > REGRESS_TERMS || count < terms + 4 || !solve(y, x, &r, inverse) || !isfinite(r.total))
		return false;
	measure_residuals(y, x, &r);
	measure_meat(x, &r, meat);
	measure_errors(inverse, meat, &r);
	*ret = r;
	return true;
}

struct interval regress_slope(const struct regression *r, size_t term)
{
	double half = r->t95 * sqrt(r->cov[term + 1][term + 1]), value = r->slope[term];

	return (struct interval){ value, value - half, value + half };
}

struct interval regress_at(const struct regression *r, const double *x, bool observed)
{
	double row[COLS] = { 1 }, value = r->mean_y, var = observed ? r->variance : 0, half;

	for (size_t k = 0; k < r->terms; k++) {
		row[k + 1] = x[k] - r->mean_x[k];
		value += r->slope[k] * row[k + 1];
	}
	for (size_t k = 0; k <= r->terms; k++)
		for (size_t l = 0; l <= r->terms; l++)
			var += row[k] * row[l] * r->cov[k][l];
	half = r->t95 * sqrt(fmax(var, 0));
	return (struct interval){ value, value - half, value + half };
}
