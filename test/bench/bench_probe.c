/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the blob costs the target, in this very process, and whether its estimates are right.
 *
 *     bench_probe            both parts
 *     bench_probe --cost     ns per malloc/free pair, unprobed and probed in turn, with a thread that drains the ring
 *     bench_probe --bias     how often the 95 % interval of the bytes allocated contains the truth, of 500 runs
 *
 * Exit status 1: a pair costs 10 ns more where nothing is sampled, or a coverage is outside 93 to 97 %.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

#include "../fixtures/probe_host.h"
#include "memwatch/base/clock.h"

#define PAIRS 1000000
#define TURNS 15
#define NO_SAMPLES (1ULL << 60)
#define RUNS 500
#define BLOCKS 20000 /* of one run */
#define COST_MAX_NS 10.0
#define COVERAGE_MIN 0.93
#define COVERAGE_MAX 0.97
#define Z95 1.96

static struct host host;
static atomic_bool quit;

static void *drain(void *arg)
{
	struct timespec pause = { 0, 2000000 };

	while (!atomic_load(&quit)) {
		host_drain(&host, NULL, NULL);
		nanosleep(&pause, NULL);
	}
	return arg;
}

/* Small blocks, freed at once: the shortest way through an allocator. ns per pair. */
__attribute__((noinline)) static double churn(void *(*take)(size_t), void (*give_back)(void *))
{
	uint64_t start = clock_now_ns();

	for (size_t i = 0; i < PAIRS; i++) {
		void *block = take(16 + i % 8 * 16);

		__asm__ volatile("" : : "r"(block) : "memory");
		give_back(block);
	}
	return (double)(clock_now_ns() - start) / PAIRS;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values)
{
	qsort(values, TURNS, sizeof *values, by_value);
	return values[TURNS / 2];
}

static double churn_probed(void)
{
	return churn(HOST_CALL(&host, host.header->thunk[PROBE_MALLOC], void *(*)(size_t)),
		     HOST_CALL(&host, host.header->thunk[PROBE_FREE], void (*)(void *)));
}

/* What a sample costs shows only where there are enough of them to stand out of the noise. */
static void print_cost(uint64_t mean, double plain, double probed, double added, uint64_t samples, uint64_t dropped,
		       double sampling_ns)
{
	char name[32] = "none sampled", each[32] = "-";

	if (mean != NO_SAMPLES)
		snprintf(name, sizeof name, "%lu", mean);
	if (samples > PAIRS / 100)
		snprintf(each, sizeof each, "%.0f", sampling_ns / (double)(samples + dropped));
	printf("%12s %12.2f %10.2f %10.2f %8.3f %12lu %10s %8lu\n", name, plain, probed, added, probed / plain, samples,
	       each, dropped);
}

static bool cost(void)
{
	static const uint64_t means[] = { NO_SAMPLES, 512 << 10, 64 << 10, 4 << 10, 1 << 10 };
	uint64_t real[PROBE_FUNCTION_COUNT] = {
		[PROBE_MALLOC] = HOST_ADDRESS(malloc), [PROBE_FREE] = HOST_ADDRESS(free)
	};
	double idle_ns = 0, added_ns = 0;
	pthread_t reader;

	host_place(&host, real);
	host_publish_main(&host); /* stacks are copied as in a target that memwatch has looked at */
	atomic_store(&quit, false);
	if (pthread_create(&reader, NULL, drain, NULL) != 0)
		host_die("pthread_create");
	printf("%12s %12s %10s %10s %8s %12s %10s %8s\n", "mean bytes", "unprobed ns", "probed ns", "added ns", "ratio",
	       "samples", "ns/sample", "dropped");
	for (size_t i = 0; i < sizeof means / sizeof *means; i++) {
		double plain[TURNS], probed[TURNS], added[TURNS], sampling[TURNS];
		uint64_t samples = host.state->counters.samples, dropped = host.state->counters.dropped_ring;

		for (size_t turn = 0; turn < TURNS; turn++) {
			double idle;

			plain[turn] = churn(malloc, free);
			host_set_mean(&host, NO_SAMPLES);
			idle = churn_probed();
			host_set_mean(&host, means[i]);
			probed[turn] = churn_probed();
			added[turn] = probed[turn] - plain[turn];
			sampling[turn] = probed[turn] - idle;
		}
		samples = host.state->counters.samples - samples;
		dropped = host.state->counters.dropped_ring - dropped;
		added_ns = median(added);
		if (i == 0)
			idle_ns = added_ns;
		print_cost(means[i], median(plain), median(probed), added_ns, samples, dropped,
			   median(sampling) * PAIRS * TURNS);
	}
	atomic_store(&quit, true);
	pthread_join(reader, NULL);
	host_remove(&host);
	return idle_ns < COST_MAX_NS;
}

static uint64_t next_address;

static void *take_nothing(size_t size)
{
	(void)size;
	next_address += 16;
	return (void *)(uintptr_t)next_address;
}

static void give_nothing(void *block)
{
	(void)block;
}

struct estimate {
	double weight, variance;
};

static void add(void *arg, const struct probe_record *r)
{
	struct estimate *e = arg;
	double size = (double)r->size, weight;

	if (r->kind != PROBE_TAKEN)
		return;
	weight = r->mean ? size / -expm1(-size / (double)r->mean) : size;
	e->weight += weight;
	e->variance += weight * (weight - size);
}

static uint64_t random_state = 1;

static uint64_t draw(uint64_t below)
{
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return (random_state >> 33) % below;
}

/* Sizes of one site. */
static size_t size_small(void)
{
	return 16 + draw(240);
}

static size_t size_one(void)
{
	return 5000;
}

static size_t size_wide(void) /* as many of each power of two, up to those that are always sampled */
{
	size_t power = 16UL << draw(15);

	return power + draw(power);
}

static size_t size_tailed(void) /* small ones, and a rare one of 64 KiB */
{
	return draw(200) == 0 ? 65536 : 48;
}

static const struct mix {
	const char *name;
	size_t (*size)(void);
	uint64_t mean;
} mixes[] = {
	{ "16..255 bytes", size_small, 4096 },
	{ "16..255 bytes, few samples", size_small, 65536 },
	{ "5000 bytes", size_one, 65536 },
	{ "16..512 Ki, by powers of two", size_wide, 524288 },
	{ "48 bytes, rarely 64 Ki", size_tailed, 65536 },
};

static double coverage(const struct mix *mix, double *ret_bias, double *ret_samples)
{
	void *(*take)(size_t) = HOST_CALL(&host, host.header->thunk[PROBE_MALLOC], void *(*)(size_t));
	void (*give_back)(void *) = HOST_CALL(&host, host.header->thunk[PROBE_FREE], void (*)(void *));
	double hits = 0, estimated = 0, true_sum = 0;
	uint64_t samples = host.state->counters.samples;

	for (uint64_t run = 0; run < RUNS; run++) {
		struct estimate e = { 0 };
		double truth = 0;

		host.state->seed = run;
		host_set_mean(&host, mix->mean);
		for (int i = 0; i < BLOCKS; i++) {
			size_t size = mix->size();

			truth += (double)size;
			give_back(take(size));
			if (i % 64 == 0)
				host_drain(&host, add, &e);
		}
		host_drain(&host, add, &e);
		hits += fabs(e.weight - truth) <= Z95 * sqrt(e.variance);
		estimated += e.weight;
		true_sum += truth;
	}
	*ret_bias = estimated / true_sum - 1;
	*ret_samples = (double)(host.state->counters.samples - samples) / RUNS;
	return hits / RUNS;
}

static bool bias(void)
{
	uint64_t real[PROBE_FUNCTION_COUNT] = {
		[PROBE_MALLOC] = HOST_ADDRESS(take_nothing), [PROBE_FREE] = HOST_ADDRESS(give_nothing)
	};
	bool good = true;

	host_place(&host, real);
	next_address = 0x100000000000;
	printf("%-30s %10s %12s %10s %10s\n", "mix", "mean", "samples/run", "bias", "coverage");
	for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++) {
		double off, samples, covered = coverage(&mixes[i], &off, &samples);

		printf("%-30s %10lu %12.0f %+9.3f%% %9.1f%%\n", mixes[i].name, mixes[i].mean, samples, off * 100,
		       covered * 100);
		good = good && covered >= COVERAGE_MIN && covered <= COVERAGE_MAX;
	}
	good = good && host.state->counters.dropped_ring == 0;
	host_remove(&host);
	return good;
}

int main(int argc, char **argv)
{
	bool good = true;

	if (argc < 2 || strcmp(argv[1], "--cost") == 0)
		good = cost();
	if (argc < 2 || strcmp(argv[1], "--bias") == 0)
		good = bias() && good;
	return good ? 0 : 1;
}
