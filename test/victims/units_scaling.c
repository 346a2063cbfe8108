/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory that belongs to the work: a first unit costs 3,600,007 bytes once (tables, caches), every unit from then on keeps 137 records
 * of 136 bytes. Units come in bursts with pauses in between. Each is a call of do_unit(), a line on standard output, and the count in
 * a file.
 *
 *     units_scaling SECONDS [UNITS [FILE [BURST [PAUSE_MS]]]]
 */
#include "victim.h"

#define FIRST_BYTES 3600007UL
#define RECORD_BYTES 136
#define RECORDS 137

static void **kept;
static unsigned long done;

NOINLINE static void do_unit(void)
{
	if (done == 0)
		memset(must(malloc(FIRST_BYTES)), 1, FIRST_BYTES);
	for (int i = 0; i < RECORDS; i++) {
		void **record = must(malloc(RECORD_BYTES));

		memset(record, 2, RECORD_BYTES);
		*record = kept;
		kept = record;
	}
	done++;
}

/* Rewritten in place: memwatch may look at it at any instant. */
static void tell_file(const char *path)
{
	FILE *file = path ? fopen(path, "w") : NULL;

	if (!file)
		return;
	fprintf(file, "%lu units done\n", done);
	fclose(file);
}

int main(int argc, char **argv)
{
	double end = now_s() + seconds_arg(argc, argv);
	unsigned long units = (unsigned long)long_arg(argc, argv, 2, 1009);
	const char *path = argc > 3 && *argv[3] ? argv[3] : NULL;
	long burst = long_arg(argc, argv, 4, 23), pause_ms = long_arg(argc, argv, 5, 100);
	char details[256];

	snprintf(details, sizeof(details),
		 ", \"where\": \"heap\", \"function\": \"do_unit\", \"units\": %lu, \"bytes_per_unit\": %d, "
		 "\"fixed_bytes\": %lu",
		 units, RECORDS * (RECORD_BYTES + 8), FIRST_BYTES);
	print_truth("units_scaling", "\"scaling\"", details);
	while (done < units && now_s() < end) {
		for (long i = 0; i < burst && done < units; i++) {
			do_unit();
			printf("processed item %lu\n", done);
		}
		fflush(stdout);
		tell_file(path);
		nap_ms(pause_ms);
	}
	printf("total %lu\n", done);
	return 0;
}
