/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a day at 10 Hz costs: memory of the series with every metric dense, and the time of one sample, one export and
 * one verdict.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "memwatch/base/clock.h"
#include "memwatch/series.h"
#include "memwatch/verdict.h"

#define DAY_SAMPLES 864000
#define VERDICTS 200
#define MIB (1024.0 * 1024.0)

static double ns_to_us(uint64_t ns)
{
	return (double)ns / 1000;
}

static uint64_t fill(struct series *s, size_t samples)
{
	uint64_t begin = clock_now_ns(), noise = 88172645463325252ULL;
	struct sample sample;

	for (size_t i = 0; i < samples; i++) {
		sample_init(&sample, (double)i * 0.1);
		for (size_t m = 0; m < METRIC_COUNT; m++) {
			noise ^= noise << 13;
			noise ^= noise >> 7;
			noise ^= noise << 17;
			sample.v[m] = 100 * MIB + (double)i * 50 + (double)(noise % (8 << 20));
		}
		if (series_add(s, &sample) < 0)
			exit(1);
	}
	return clock_now_ns() - begin;
}

static uint64_t judge(const struct series *s, double now_s)
{
	const struct verdict_input input = { .series = s, .now_s = now_s };
	uint64_t best = UINT64_MAX;

	for (size_t i = 0; i < VERDICTS; i++) {
		uint64_t begin = clock_now_ns(), took;
		struct arena arena;
		struct verdict v;

		arena_init(&arena, 16384, 0);
		if (verdict_judge(&input, &arena, &v) < 0)
			exit(1);
		arena_deinit(&arena);
		took = clock_now_ns() - begin;
		best = took < best ? took : best;
	}
	return best;
}

static uint64_t export(const struct series *s)
{
	uint64_t begin = clock_now_ns();
	struct arena arena;
	struct table table;

	arena_init(&arena, 1 << 20, 0);
	if (series_export(s, 2000, &arena, &table) < 0)
		exit(1);
	arena_deinit(&arena);
	return clock_now_ns() - begin;
}

int main(void)
{
	static const size_t lengths[] = { 300, 6000, DAY_SAMPLES };

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		struct series *s;
		uint64_t ns;

		if (series_create(&s) < 0)
			return 1;
		ns = fill(s, lengths[i]);
		printf("%7zu samples of %d metrics: %5.2f MiB, %.2f us a sample, export %.0f us, verdict %.0f us (best "
		       "of %d)\n",
		       lengths[i], METRIC_COUNT, (double)series_bytes(s) / MIB, ns_to_us(ns) / (double)lengths[i],
		       ns_to_us(export(s)), ns_to_us(judge(s, (double)lengths[i] * 0.1)), VERDICTS);
		series_destroy(s);
	}
	return 0;
}
