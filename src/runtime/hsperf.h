/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The JVM's performance counters as they lie in its memory: parsing, and where a JVM that does not share them has them. */
#ifndef RUNTIME_HSPERF_H
#define RUNTIME_HSPERF_H

#include "memwatch/runtime.h"

#define HSPERF_MAX_BYTES (1U << 20) /* -XX:PerfDataMemorySize is 32 KiB unless asked otherwise */

/* In step with names[] of hsperf.c. */
enum {
	HSPERF_YOUNG_CAPACITY,
	HSPERF_OLD_CAPACITY,
	HSPERF_EDEN_USED, /* these four in a row: sums are made of them */
	HSPERF_S0_USED,
	HSPERF_S1_USED,
	HSPERF_OLD_USED,
	HSPERF_METASPACE_CAPACITY,
	HSPERF_METASPACE_USED,
	HSPERF_CLASS_SPACE_CAPACITY,
	HSPERF_CLASS_SPACE_USED,
	HSPERF_FREQUENCY,
	HSPERF_THREADS,
	HSPERF_LOADED,
	HSPERF_UNLOADED,
	HSPERF_SHARED_LOADED,
	HSPERF_SHARED_UNLOADED,
	HSPERF_COLLECTOR_0, /* INVOCATIONS, TIME, ENTRY, EXIT of each of three */
	HSPERF_COUNTERS = HSPERF_COLLECTOR_0 + 3 * 4
};

enum { HSPERF_INVOCATIONS, HSPERF_TIME, HSPERF_ENTRY, HSPERF_EXIT };

#define HSPERF_COLLECTOR(n) (HSPERF_COLLECTOR_0 + (n)*4)

struct hsperf {
	double values[HSPERF_COUNTERS]; /* NaN: not there, or not a count */
	char policy[32];                /* sun.gc.policy.name; "" where not there */
	char version[64];               /* of Java, else of the VM; "" where not there */
};

/* 0; -EAGAIN not (yet) counters, or torn beyond use; -ESRCH, -EPERM, -ENOMEM. */
must_check int hsperf_read(struct mem *mem, uint64_t start, uint64_t end, struct hsperf *ret, struct err *err);

/* Where PerfMemory::_start stands, from the table for debuggers; 0: not found. */
uint64_t hsperf_start_pointer(const struct runtime_query *query);

#endif
