/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What columns and metrics of other tools are called, and in what they count. Data first; the look-up is below. */
#include <ctype.h>
#include <string.h>

#include "private.h"

struct alias {
	enum metric metric;
	const char *names; /* folded, without unit, one blank around each */
};

/* Names of psutil, ps, top, /proc/PID/status, Prometheus clients (Go, Java, Node.js, Python) and cAdvisor. */
static const struct alias aliases[] = {
	{ METRIC_RSS,
	  " rss res resident resident_memory resident_size resident_set_size mem memory memory_usage mem_usage "
	  "memory_used mem_used used_memory mem_rss memory_rss real real_memory mem_real vmrss vm_rss rssize rsz "
	  "process_resident_memory container_memory_rss process_memory_rss process_rss " },
	{ METRIC_PSS, " pss proportional mem_pss memory_pss " },
	{ METRIC_ANON, " anon anonymous uss unique mem_uss memory_uss rssanon rss_anon anon_rss private " },
	{ METRIC_FILE, " file rssfile rss_file file_rss " },
	{ METRIC_SHMEM, " shmem rssshmem rss_shmem shmem_rss " },
	{ METRIC_SWAP, " swap swapped vmswap vm_swap mem_swap container_memory_swap " },
	{ METRIC_STACK, " stack stacks " },
	{ METRIC_LAZY_FREE, " lazy_free lazyfree " },
	{ METRIC_HEAP_IN_USE,
	  " heap in_use inuse heap_in_use heap_inuse heap_used heapused used_heap heap_alloc heap_allocated "
	  "go_memstats_heap_inuse jvm_memory_used jvm_memory_bytes_used nodejs_heap_size_used malloc_in_use " },
	{ METRIC_HEAP_FREE, " heap_free heapfree free_heap " },
	{ METRIC_HEAP_MAPPED,
	  " heap_mapped heap_committed heap_total heaptotal heap_sys heap_size go_memstats_heap_sys "
	  "jvm_memory_committed jvm_memory_bytes_committed nodejs_heap_size_total nodejs_heap_size " },
	{ METRIC_HEAP_BLOCKS, " heap_in_use_blocks heap_blocks heap_objects go_memstats_heap_objects " },
	{ METRIC_RUNTIME_LIVE,
	  " runtime_live live post_gc after_gc heap_live live_heap heap_after_gc jvm_gc_live_data_size " },
	{ METRIC_VIRTUAL,
	  " virtual vsz vms vsize vmsize vm_size virt virtual_memory mem_virtual mem_vms process_virtual_memory " },
	{ METRIC_THREADS, " threads num_threads thread_count nlwp process_threads go_threads jvm_threads_live "
			  "jvm_threads_current process_num_threads " },
	{ METRIC_FDS, " fds open_fds num_fds fd_count nfds open_files process_open_fds process_files_open " },
	{ METRIC_MINOR_FAULTS, " minor_faults minflt min_flt minor_page_faults " },
	{ METRIC_MAJOR_FAULTS, " major_faults majflt maj_flt major_page_faults " },
	{ METRIC_CPU, " cpu cpu_time cputime cpu_used cpu_usage process_cpu container_cpu_usage " },
	{ METRIC_READ_CHARS, " read_chars rchar " },
	{ METRIC_WRITE_CHARS, " write_chars wchar " },
	{ METRIC_SYSCALLS, " syscalls " },
	{ METRIC_SWITCHES, " context_switches voluntary_ctxt_switches voluntary_context_switches " },
	{ METRIC_NET, " net " },
	{ METRIC_CGROUP, " cgroup memory_current cgroup_memory " },
	{ METRIC_PSI_SOME, " psi_some_percent " },
};

/* Stand for the metric only where a series has none of the above: they hold more than the process, or less exactly. */
static const struct alias stand_ins[] = {
	{ METRIC_RSS, " container_memory_working_set container_memory_usage namedprocess_namegroup_memory " },
	{ METRIC_HEAP_IN_USE, " go_memstats_heap_alloc go_memstats_alloc " },
};

static const struct {
	const char *name, *unit;
} work_names[] = {
	{ "work", "unit" },
	{ "work_units", "unit" },
	{ "work_unit", "unit" },
	{ "units", "unit" },
	{ "unit", "unit" },
	{ "n", "unit" },
	{ "requests", "request" },
	{ "request", "request" },
	{ "requests_total", "request" },
	{ "objects", "object" },
	{ "ops", "operation" },
	{ "operations", "operation" },
	{ "items", "item" },
	{ "item", "item" },
	{ "events", "event" },
	{ "jobs", "job" },
	{ "messages", "message" },
	{ "transactions", "transaction" },
	{ "iterations", "iteration" },
	{ "records", "record" },
	{ "queries", "query" },
	{ "tasks", "task" },
	{ "http_requests_total", "request" },
};

struct unit {
	const char *name; /* "|" before: in brackets only, where case tells */
	double scale;
};

#define KIB 1024.0
#define MIB (1024.0 * KIB)
#define GIB (1024.0 * MIB)
#define PAGE_BYTES 4096 /* x86-64 */

/*
 * K and KiB are binary, MB and GB decimal, as the contract has it. "kb" as a suffix and "(kB)" are KiB: so ps, /proc and getrusage() mean
 * them, and so do the scripts that write their figures into columns. "(KB)" is decimal.
 */
static const struct unit byte_units[] = {
	{ "|KB", 1e3 },       { "b", 1 },           { "byte", 1 },  { "bytes", 1 },          { "k", KIB },
	{ "kb", KIB },        { "kib", KIB },       { "m", MIB },   { "mib", MIB },          { "mb", 1e6 },
	{ "megabytes", 1e6 }, { "mebibytes", MIB }, { "g", GIB },   { "gib", GIB },          { "gb", 1e9 },
	{ "t", GIB *KIB },    { "tib", GIB *KIB },  { "tb", 1e12 }, { "pages", PAGE_BYTES }, { "kibibytes", KIB },
	{ "kilobytes", KIB },
};

static const struct unit time_units[] = {
	{ "s", 1 },        { "sec", 1 },     { "secs", 1 },         { "second", 1 },         { "seconds", 1 },
	{ "ms", 1e-3 },    { "msec", 1e-3 }, { "msecs", 1e-3 },     { "millis", 1e-3 },      { "milliseconds", 1e-3 },
	{ "us", 1e-6 },    { "usec", 1e-6 }, { "\xc2\xb5s", 1e-6 }, { "\xce\xbcs", 1e-6 },   { "micros", 1e-6 },
	{ "ns", 1e-9 },    { "nsec", 1e-9 }, { "nanos", 1e-9 },     { "nanoseconds", 1e-9 }, { "microseconds", 1e-6 },
	{ "min", 60 },     { "mins", 60 },   { "minutes", 60 },     { "h", 3600 },           { "hours", 3600 },
	{ "days", 86400 },
};

void name_fold(struct text t, char name[NAME_BYTES], char ret_unit[NAME_BYTES])
{
	size_t used = 0;

	t = piece_unquote(t);
	*ret_unit = '\0';
	if (t.len > 1 && (t.at[t.len - 1] == ')' || t.at[t.len - 1] == ']')) {
		const char *open = memrchr(t.at, t.at[t.len - 1] == ')' ? '(' : '[', t.len);

		if (open) {
			size_t at = (size_t)(open - t.at);
			struct text unit = piece_trim((struct text){ open + 1, t.len - at - 2 });

			if (unit.len < NAME_BYTES) {
				memcpy(ret_unit, unit.at, unit.len);
				ret_unit[unit.len] = '\0';
				t.len = at;
			}
		}
	}
	for (size_t i = 0; i < t.len && used + sizeof("_percent_") < NAME_BYTES; i++) {
		unsigned char c = (unsigned char)t.at[i];

		if (c == '%') {
			strcpy(name + used, used > 0 && name[used - 1] != '_' ? "_percent_" : "percent_");
			used += strlen(name + used);
		} else if (isalnum(c) || c >= 0x80) {
			name[used++] = (char)(c < 0x80 ? tolower(c) : c);
		} else if (used > 0 && name[used - 1] != '_') {
			name[used++] = '_';
		}
	}
	while (used > 0 && name[used - 1] == '_')
		used--;
	name[used] = '\0';
}

bool name_metric(const char *contract_name, enum metric *ret)
{
	for (size_t m = 0; m < METRIC_COUNT; m++)
		if (strcmp(metric_table[m].name, contract_name) == 0) {
			*ret = (enum metric)m;
			return true;
		}
	return false;
}

const char *name_work_unit(const char *folded)
{
	for (size_t i = 0; i < sizeof(work_names) / sizeof(work_names[0]); i++)
		if (strcmp(work_names[i].name, folded) == 0)
			return work_names[i].unit;
	return NULL;
}

static bool find_alias(const struct alias *table, size_t count, const char *name, enum metric *ret)
{
	char padded[NAME_BYTES + 2];
	size_t len = strlen(name);

	if (len == 0)
		return false;
	padded[0] = padded[len + 1] = ' ';
	memcpy(padded + 1, name, len);
	padded[len + 2] = '\0';
	for (size_t i = 0; i < count; i++)
		if (strstr(table[i].names, padded)) {
			*ret = table[i].metric;
			return true;
		}
	return false;
}

static bool find_unit(const struct unit *table, size_t count, const char *name, bool bracket, double *ret)
{
	for (size_t i = 0; i < count; i++) {
		const char *unit = table[i].name;

		if (*unit == '|' ? bracket && strcmp(unit + 1, name) == 0 : strcasecmp(unit, name) == 0) {
			*ret = table[i].scale;
			return true;
		}
	}
	return false;
}

#define FIND_UNIT(table, name, bracket, ret) find_unit(table, sizeof(table) / sizeof((table)[0]), name, bracket, ret)

/* Whether a metric can have that unit; unit "": its own. */
static bool apply_unit(const char *unit, bool bracket, struct column_name *c)
{
	const char *own = metric_table[c->metric].unit;

	c->scale = 1;
	c->percent = false;
	if (c->metric == METRIC_CPU &&
	    (strcmp(unit, "%") == 0 || strcmp(unit, "percent") == 0 || strcmp(unit, "pct") == 0)) {
		c->percent = true;
		return true;
	}
	if (*unit == '\0') /* "cpu" alone is a percentage as often as seconds */
		return c->metric != METRIC_CPU;
	if (strcmp(own, "bytes") == 0)
		return FIND_UNIT(byte_units, unit, bracket, &c->scale);
	if (strcmp(own, "s") == 0)
		return FIND_UNIT(time_units, unit, bracket, &c->scale);
	return strcmp(own, unit) == 0 || strcmp(unit, "count") == 0 || strcmp(unit, "total") == 0;
}

static bool find_metric(const char *name, struct column_name *c)
{
	const char *work;

	c->prefer_other = false;
	c->work_unit = NULL;
	if (find_alias(aliases, sizeof(aliases) / sizeof(aliases[0]), name, &c->metric))
		return true;
	if (find_alias(stand_ins, sizeof(stand_ins) / sizeof(stand_ins[0]), name, &c->metric)) {
		c->prefer_other = true;
		return true;
	}
	work = name_work_unit(name);
	if (!work)
		return false;
	c->metric = METRIC_WORK;
	c->work_unit = work;
	return true;
}

static bool lookup_time(const char *name, const char *unit, struct column_name *c)
{
	char stem[NAME_BYTES];
	char *cut;

	*c = (struct column_name){ .is_time = true, .scale = 0 };
	if (*unit)
		return store_time_is_name(name) && FIND_UNIT(time_units, unit, true, &c->scale);
	if (store_time_is_name(name)) { /* "seconds", "ms": the name is the unit */
		(void)FIND_UNIT(time_units, name, false, &c->scale);
		return true;
	}
	strcpy(stem, name);
	cut = strrchr(stem, '_');
	if (!cut)
		return false;
	*cut = '\0';
	return store_time_is_name(stem) && FIND_UNIT(time_units, cut + 1, false, &c->scale);
}

bool name_lookup(struct text t, struct column_name *ret)
{
	struct column_name c = { .scale = 1 };
	char name[NAME_BYTES];
	char unit[NAME_BYTES];
	char *begin = name;
	char *cut;

	name_fold(t, name, unit);
	if (lookup_time(name, unit, ret))
		return true;
	if (strncmp(begin, "memwatch_", 9) == 0)
		begin += 9;
	if (strcmp(begin, "percent_cpu") == 0 || strcmp(begin, "pcpu") == 0 || strcmp(begin, "cpu_usage_percent") == 0)
		begin = strcpy(name, "cpu_percent");
	if (find_metric(begin, &c) && apply_unit(unit, true, &c)) {
		*ret = c;
		return true;
	}
	/* "_total" is how Prometheus ends a counter's name, behind its unit */
	cut = strrchr(begin, '_');
	if (cut && strcmp(cut, "_total") == 0) {
		*cut = '\0';
		cut = strrchr(begin, '_');
	}
	if (find_metric(begin, &c) && apply_unit(unit, true, &c)) {
		*ret = c;
		return true;
	}
	if (!cut || *unit)
		return false;
	*cut = '\0';
	if (!find_metric(begin, &c) || !apply_unit(cut + 1, false, &c))
		return false;
	*ret = c;
	return true;
}
