/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * HotSpot: the JVM's performance counters (jvmstat, what jstat prints), which it keeps in its own memory from start to end.
 * Layout (run on JDK 17 and 25; by the sources from JDK 8 on): src/hotspot/share/runtime/perfMemory.hpp (PerfDataPrologue, PerfDataEntry), runtime/perfData.hpp;
 * names: gc/shared/{collectorCounters,generationCounters,gcPolicyCounters}.cpp, memory/metaspaceCounters.cpp, services/.
 *
 * Where they are: a shared mapping of .../hsperfdata_USER/PID, also where the file is deleted or in another mount namespace; with
 * -XX:+PerfDisableSharedMem (many servers) in anonymous memory, to which PerfMemory::_start points. That one is found by the table that libjvm exports for
 * debuggers (gHotSpotVMStructs, runtime/vmStructs.cpp), which describes itself: no offset of any version is needed.
 *
 * Live bytes. Counters of use move with allocation (Serial, Parallel: sampled; G1: eden by region, the rest at collections), so what was live is
 * taken from the spaces that only a collection or a promotion fills: the survivors and the old generation. Looks with the same count of major
 * collections are an interval; its floor is the least that these spaces held in it.
 *   - After a full collection the floor of the interval is live; what was promoted since can only raise later looks.
 *   - A concurrent cycle frees only in the young pauses behind it, and counts two pauses (remark, cleanup), so live is the lower
 *     floor of the last two whole intervals: the trough of the cycle before.
 * An interval whose beginning was not seen counts only if the last pause of any kind was the full collection.
 * ZGC and Shenandoah keep no such figure (their `used` is of some moment in a cycle): live and in use stay unknown.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memwatch/runtime.h"
#include "runtime/hsperf.h"

#define VERSION_BYTES 64

/* By sun.gc.policy.name, which did not change from JDK 8 on. -1: it has no such collector. Indices: sun.gc.collector.N. */
static const struct policy {
	const char *name;
	int full, concurrent;
} policies[] = {
	{ "Copy:MSC", 1, -1 },    /* Serial */
	{ "ParScav:MSC", 1, -1 }, /* Parallel */
	{ "GarbageFirst", 1, 2 }, /* G1; JDK 8 does not count its concurrent pauses */
	{ "ParNew:MSC", 1, -1 },  /* JDK 8 */
	{ "ParNew:CMS", -1, 1 },  /* to JDK 13; both kinds in one counter */
	{ "Copy:CMS", -1, 1 },    /* JDK 8 */
};

enum { COLLECTORS = 3 };

struct hotspot {
	uint64_t start_pointer; /* where the address of the counters stands; 0: not known */
	uint64_t area, area_end;
	const char *found_by;
	char version[VERSION_BYTES];
	/* intervals between major collections */
	bool watched, begun,
		after_full; /* a look was had; the beginning of this interval was seen; it was a full collection */
	bool whole[2];
	double full, concurrent; /* completed, at the last look */
	double floor, floors[2]; /* of this interval; of the two before it, the last first */
};

/* ---- finding the counters ---------------------------------------------------------------------------------------------- */

static const char *file_name(const struct region *r)
{
	const char *slash = strrchr(r->path, '/');

	return slash ? slash + 1 : r->path;
}

/* Written to by its owner: jstat maps those of others to read them. */
static bool is_own_counters(const struct region *r)
{
	static const char dir[] = "/hsperfdata_";
	const char *name = file_name(r), *at = strstr(r->path, dir);
	unsigned int need = REGION_READ | REGION_WRITE | REGION_SHARED;

	if ((r->flags & need) != need || !at || !*name || strspn(name, "0123456789") != strlen(name))
		return false;
	return strchr(at + sizeof(dir) - 1, '/') == name - 1;
}

static void set_area(struct hotspot *h, const struct region *r, uint64_t address, const char *found_by)
{
	h->area = address;
	h->area_end = r->end - address > HSPERF_MAX_BYTES ? address + HSPERF_MAX_BYTES : r->end;
	h->found_by = found_by;
}

/* 0, also where they are not there (yet): area stays 0. */
static int locate(struct hotspot *h, struct mem *mem)
{
	const struct region *regions, *at;
	ssize_t count = mem_regions(mem, &regions);
	uint64_t address = 0;

	h->area = 0;
	if (count < 0)
		return (int)count;
	for (ssize_t i = 0; i < count; i++) {
		if (is_own_counters(&regions[i])) {
			set_area(h, &regions[i], regions[i].start, "mapping");
			return 0;
		}
	}
	if (h->start_pointer && mem_read_u64(mem, h->start_pointer, &address) == -ESRCH)
		return -ESRCH;
	at = address ? region_find(regions, (size_t)count, address) : NULL;
	if (at && (at->flags & REGION_READ))
		set_area(h, at, address, "symbol");
	return 0;
}

static int hotspot_probe(const struct runtime_query *query, void **ret_state, struct err *err)
{
	const struct region *regions;
	ssize_t count = mem_regions(query->mem, &regions);
	cleanup_free struct hotspot *h = NULL;
	bool there = false;
	int rc;

	if (count < 0)
		return err_set(err, (int)-count, "cannot read the mappings");
	for (ssize_t i = 0; i < count && !there; i++)
		there = is_own_counters(&regions[i]) || strcmp(file_name(&regions[i]), "libjvm.so") == 0;
	if (!there)
		return 0;
	h = calloc(1, sizeof(*h));
	if (!h)
		return err_set(err, ENOMEM, "out of memory");
	h->found_by = "mapping";
	h->floor = h->floors[0] = h->floors[1] = NAN;
	rc = locate(h, query->mem);
	if (rc == 0 && !h->area && query->find) {
		h->start_pointer = hsperf_start_pointer(query);
		rc = locate(h, query->mem);
	}
	if (rc < 0)
		return err_set(err, -rc, "cannot read the mappings");
	*ret_state = take_ptr(&h);
	return 1;
}

/* ---- figures ------------------------------------------------------------------------------------------------------------- */

static double sum(const double *values, size_t count)
{
	double total = 0;

	for (size_t i = 0; i < count; i++)
		total += values[i];
	return total;
}

/* G1 before JDK 23 pads capacities by 8 bytes a space so that none is 0: all are of whole pages. */
static double capacity(double value)
{
	return floor(value / 4096) * 4096;
}

/* A count goes up when the collection begins, and its exit time is set when it ends. */
static double completed(const double *c, int collector)
{
	const double *k = c + HSPERF_COLLECTOR(collector);

	if (collector < 0)
		return 0;
	return k[HSPERF_ENTRY] > k[HSPERF_EXIT] ? k[HSPERF_INVOCATIONS] - 1 : k[HSPERF_INVOCATIONS];
}

static const struct policy *find_policy(const char *name)
{
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		if (strcmp(policies[i].name, name) == 0)
			return &policies[i];
	}
	return NULL;
}

static bool is_collecting(const double *c)
{
	for (int i = 0; i < COLLECTORS; i++) {
		if (c[HSPERF_COLLECTOR(i) + HSPERF_ENTRY] > c[HSPERF_COLLECTOR(i) + HSPERF_EXIT])
			return true;
	}
	return false;
}

/* The last that was collected was all of the heap. */
static bool full_was_last(const double *c, const struct policy *p)
{
	double exit;

	if (p->full < 0 || is_collecting(c) || !(completed(c, p->full) > 0))
		return false;
	exit = c[HSPERF_COLLECTOR(p->full) + HSPERF_EXIT];
	for (int i = 0; i < COLLECTORS; i++) {
		if (c[HSPERF_COLLECTOR(i) + HSPERF_EXIT] > exit)
			return false;
	}
	return true;
}

/* One that a full collection began says all that the two before the next one would. */
static void next_interval(struct hotspot *h)
{
	h->floors[1] = h->after_full ? h->floor : h->floors[0];
	h->whole[1] = h->after_full || h->whole[0];
	h->floors[0] = h->floor;
	h->whole[0] = h->begun;
	h->floor = NAN;
	h->begun = true;
	h->after_full = false;
}

/* The floor of this interval, and from it and those before it what was live. `held`: by survivors and the old generation. */
static void watch_live(struct hotspot *h, const double *c, const struct policy *p, double held, struct runtime_stats *s)
{
	double full = completed(c, p->full), concurrent = completed(c, p->concurrent);

	if (isnan(concurrent))
		concurrent = 0; /* JDK 8: G1 has no such counter */
	if (!(full >= 0) || !(concurrent >= 0))
		return;
	if (h->watched && (full != h->full || concurrent != h->concurrent)) {
		next_interval(h);
		h->after_full = full != h->full;
	} else if (!h->begun && full_was_last(c, p)) {
		h->floor = NAN;
		h->begun = h->after_full = true;
	}
	h->watched = true;
	h->full = full;
	h->concurrent = concurrent;
	s->collections = full + concurrent;
	if (!is_collecting(c))
		h->floor = fmin(h->floor, held); /* NaN gives way */
	if (h->after_full)
		s->live_bytes = h->floor;
	else if (h->whole[0] && h->whole[1])
		s->live_bytes = fmin(h->floors[0], h->floors[1]);
}

static void add_figure(struct runtime_stats *s, const char *name, enum runtime_unit unit, double value)
{
	if (!isnan(value))
		s->figures[s->figure_count++] = (struct runtime_figure){ name, unit, value };
}

static void add_collector_figures(struct runtime_stats *s, const double *c)
{
	static const char *const names[COLLECTORS][2] = {
		{ "minor_collections", "minor_collection_s" },
		{ "major_collections", "major_collection_s" },
		{ "concurrent_pauses", "concurrent_pause_s" },
	};

	for (int i = 0; i < COLLECTORS; i++) {
		add_figure(s, names[i][0], RUNTIME_COUNT, c[HSPERF_COLLECTOR(i) + HSPERF_INVOCATIONS]);
		add_figure(s, names[i][1], RUNTIME_SECONDS, c[HSPERF_COLLECTOR(i) + HSPERF_TIME] / c[HSPERF_FREQUENCY]);
	}
}

/* Heap figures of one look. False: they contradict each other, and none is given. */
static bool add_heap(struct runtime_stats *s, const double *c, const struct policy *policy)
{
	double young = capacity(c[HSPERF_YOUNG_CAPACITY]), old = capacity(c[HSPERF_OLD_CAPACITY]);
	double young_used = sum(c + HSPERF_EDEN_USED, 3);

	if (!policy && isnan(young))
		young = 0; /* ZGC without generations: one space, the old one */
	if (young_used > young || c[HSPERF_OLD_USED] > old)
		return false;
	s->committed_bytes = young + old;
	add_figure(s, "heap_committed_bytes", RUNTIME_BYTES, young + old);
	add_figure(s, "young_committed_bytes", RUNTIME_BYTES, capacity(c[HSPERF_YOUNG_CAPACITY]));
	add_figure(s, "old_committed_bytes", RUNTIME_BYTES, old);
	if (!policy)
		return true;
	s->in_use_bytes = young_used + c[HSPERF_OLD_USED];
	s->free_bytes = young + old - s->in_use_bytes;
	add_figure(s, "eden_used_bytes", RUNTIME_BYTES, c[HSPERF_EDEN_USED]);
	add_figure(s, "survivor_used_bytes", RUNTIME_BYTES, c[HSPERF_S0_USED] + c[HSPERF_S1_USED]);
	add_figure(s, "old_used_bytes", RUNTIME_BYTES, c[HSPERF_OLD_USED]);
	return true;
}

static int fill(struct hotspot *h, const struct hsperf *p, struct arena *arena, struct runtime_stats *s)
{
	const struct policy *policy = find_policy(p->policy);
	const double *c = p->values;

	s->figures = arena_array(arena, HSPERF_COUNTERS + 8, sizeof(*s->figures));
	if (!s->figures)
		return -ENOMEM;
	s->figure_count = 0;
	s->live_is_stale = !policy;
	if (add_heap(s, c, policy) && policy)
		watch_live(h, c, policy, sum(c + HSPERF_S0_USED, 3), s);
	if (c[HSPERF_METASPACE_USED] <= c[HSPERF_METASPACE_CAPACITY]) {
		s->committed_bytes += c[HSPERF_METASPACE_CAPACITY]; /* the class space is part of it */
		add_figure(s, "metaspace_committed_bytes", RUNTIME_BYTES, c[HSPERF_METASPACE_CAPACITY]);
		add_figure(s, "metaspace_used_bytes", RUNTIME_BYTES, c[HSPERF_METASPACE_USED]);
	}
	if (c[HSPERF_CLASS_SPACE_USED] <= c[HSPERF_CLASS_SPACE_CAPACITY]) {
		add_figure(s, "class_space_committed_bytes", RUNTIME_BYTES, c[HSPERF_CLASS_SPACE_CAPACITY]);
		add_figure(s, "class_space_used_bytes", RUNTIME_BYTES, c[HSPERF_CLASS_SPACE_USED]);
	}
	add_collector_figures(s, c);
	add_figure(s, "classes", RUNTIME_COUNT,
		   c[HSPERF_LOADED] + c[HSPERF_SHARED_LOADED] - c[HSPERF_UNLOADED] - c[HSPERF_SHARED_UNLOADED]);
	s->tasks = c[HSPERF_THREADS];
	return 0;
}

static int hotspot_read(void *state, struct mem *mem, struct arena *arena, struct runtime_stats *ret, struct err *err)
{
	struct hotspot *h = state;
	struct hsperf p;
	int rc = h->area ? 0 : locate(h, mem);

	if (rc < 0)
		return err_set(err, -rc, "cannot read the mappings");
	if (!h->area)
		return err_set(err, ENOTSUP,
			       "the JVM keeps no counters that can be found: it runs with -XX:-UsePerfData, or with "
			       "-XX:+PerfDisableSharedMem and libjvm.so cannot be read");
	rc = hsperf_read(mem, h->area, h->area_end, &p, err);
	if (rc < 0) {
		h->area = 0; /* it may be elsewhere at the next look */
		return rc;
	}
	if (!h->version[0])
		memcpy(h->version, p.version, sizeof(h->version));
	if (fill(h, &p, arena, ret) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static const char *hotspot_version(const void *state)
{
	const struct hotspot *h = state;

	return h->version[0] ? h->version : NULL;
}

static const char *hotspot_found_by(const void *state)
{
	return ((const struct hotspot *)state)->found_by;
}

const struct runtime_ops runtime_hotspot = {
	.name = "hotspot",
	.probe = hotspot_probe,
	.read = hotspot_read,
	.version = hotspot_version,
	.found_by = hotspot_found_by,
	.destroy = free,
};
