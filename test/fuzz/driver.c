/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Drives a fuzz target without libFuzzer: seeded random mutations of the seeds in a folder, for a bounded time.
 *
 *     fuzz_proc -s 3 test/fuzz/seeds/fuzz_proc     three seconds, same mutations every time
 *     fuzz_proc -r 7 -s 60 SEEDS                   another random seed
 *     fuzz_proc crash-fuzz_proc                    one input again
 *
 * The input that made a sanitizer or abort() end the target is left in ./crash-NAME.
 */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

#define INPUT_MAX 65536
#define SEEDS_MAX 256

static struct {
	uint8_t *data;
	size_t len;
} seeds[SEEDS_MAX];
static size_t seed_count;
static uint8_t *current;
static size_t current_len;
static const char *target_name;
static uint64_t random_state = 4099;

static uint64_t next_random(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

static size_t below(size_t limit)
{
	return limit ? (size_t)(next_random() % limit) : 0;
}

static void save_current(void)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "crash-%s", target_name);
	file = fopen(path, "wb");
	if (!file)
		return;
	fwrite(current, 1, current_len, file);
	fclose(file);
	fprintf(stderr, "the input is in %s\n", path);
}

static void on_abort(int signal_number)
{
	save_current();
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

static void add_seed(const uint8_t *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);

	if (!copy || seed_count == SEEDS_MAX) {
		free(copy);
		return;
	}
	if (len)
		memcpy(copy, data, len);
	seeds[seed_count].data = copy;
	seeds[seed_count++].len = len;
}

static void read_seed(const char *path)
{
	static uint8_t buffer[INPUT_MAX];
	FILE *file = fopen(path, "rb");

	if (!file)
		return;
	add_seed(buffer, fread(buffer, 1, sizeof(buffer), file));
	fclose(file);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void read_seeds(const char *folder)
{
	struct dirent **entries;
	char path[4096];
	int count = scandir(folder, &entries, NULL, by_name);

	for (int i = 0; i < count; i++) {
		if (entries[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
			read_seed(path);
		}
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

/* Numbers at which parsers go wrong. */
static const char *const tokens[] = {
	"0",     "-1",       "18446744073709551615", "18446744073709551616", "9223372036854775808", "kB", "\n", "\t",
	"\\012", "(deleted)"
};

static void splice(const void *bytes, size_t len)
{
	size_t at = below(current_len + 1);

	if (len > INPUT_MAX - current_len)
		return;
	memmove(current + at + len, current + at, current_len - at);
	memcpy(current + at, bytes, len);
	current_len += len;
}

static void mutate_once(void)
{
	size_t at = below(current_len), len;
	uint8_t byte = (uint8_t)next_random();

	switch (below(7)) {
	case 0: /* flip a bit */
		if (current_len)
			current[at] ^= (uint8_t)(1U << below(8));
		break;
	case 1: /* another byte */
		if (current_len)
			current[at] = byte;
		break;
	case 2: /* cut the end */
		current_len = at;
		break;
	case 3: /* take out a piece */
		len = below(current_len - at);
		memmove(current + at, current + at + len, current_len - at - len);
		current_len -= len;
		break;
	case 4: /* a piece of another seed */
		if (seed_count) {
			size_t other = below(seed_count), from = below(seeds[other].len);

			splice(seeds[other].data + from, below(seeds[other].len - from));
		}
		break;
	case 5:
		len = below(sizeof(tokens) / sizeof(tokens[0]));
		splice(tokens[len], strlen(tokens[len]));
		break;
	default:
		splice(&byte, 1);
		break;
	}
}

static void mutate(void)
{
	size_t seed = below(seed_count);

	current_len = seeds[seed].len;
	if (current_len)
		memcpy(current, seeds[seed].data, current_len);
	for (size_t n = below(6); n > 0; n--)
		mutate_once();
}

/* A copy of exact size, so that one byte too far is seen. */
static void run_current(void)
{
	uint8_t *exact = malloc(current_len ? current_len : 1);

	if (!exact)
		abort();
	if (current_len)
		memcpy(exact, current, current_len);
	LLVMFuzzerTestOneInput(exact, current_len);
	free(exact);
}

static void fuzz(double seconds)
{
	struct timespec start, now;
	uint64_t runs = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		for (int i = 0; i < 64; i++, runs++) {
			mutate();
			run_current();
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((double)(now.tv_sec - start.tv_sec) + (double)(now.tv_nsec - start.tv_nsec) / 1e9 < seconds);
	printf("%s: %llu runs over %zu seeds\n", target_name, (unsigned long long)runs, seed_count);
}

int main(int argc, char **argv)
{
	double seconds = 3;
	struct stat st;
	int opt;

	target_name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	while ((opt = getopt(argc, argv, "s:r:")) != -1) {
		if (opt == 's')
			seconds = atof(optarg);
		else if (opt == 'r')
			random_state = strtoull(optarg, NULL, 10) * 2 + 1;
		else
			return 2;
	}
	current = malloc(INPUT_MAX);
	if (!current)
		return 1;
	signal(SIGABRT, on_abort); /* a target that saw something wrong by itself */
	if (&__sanitizer_set_death_callback)
		__sanitizer_set_death_callback(save_current);
	for (int i = optind; i < argc; i++) {
		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode)) {
			read_seeds(argv[i]);
			continue;
		}
		read_seed(argv[i]);
		seconds = 0;
	}
	if (seed_count == 0)
		add_seed((const uint8_t *)"", 0);
	for (size_t i = 0; i < seed_count; i++) { /* every seed as it is */
		current_len = seeds[i].len;
		if (current_len)
			memcpy(current, seeds[i].data, current_len);
		run_current();
	}
	if (seconds > 0)
		fuzz(seconds);
	for (size_t i = 0; i < seed_count; i++)
		free(seeds[i].data);
	free(current);
	return 0;
}
