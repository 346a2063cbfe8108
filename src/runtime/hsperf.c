/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * PerfDataPrologue (runtime/perfMemory.hpp): u32 magic 0xcafec0c0 (big-endian always), u8 byte order (0 big, 1 little), u8 major, u8 minor, u8 accessible;
 * then in the byte order of the target i32 used, i32 overflow, i64 time stamp, i32 entry_offset, i32 num_entries.
 * PerfDataEntry: i32 entry_length, i32 name_offset, i32 vector_length (0: a scalar), u8 type as in a JVM signature, u8 flags, u8 unit,
 * u8 variability, i32 data_offset. Version 2.0 since JDK 5.
 * Entries only follow each other and each is at least its header long, so the walk ends with the area whatever they say.
 */
#include "runtime/hsperf.h"

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROLOGUE_BYTES = 32, ENTRY_BYTES = 20, TABLE_ENTRIES_MAX = 16384, TABLE_NAME_BYTES = 16 };

static const char *const names[HSPERF_COUNTERS] = {
	[HSPERF_YOUNG_CAPACITY] = "sun.gc.generation.0.capacity",
	[HSPERF_OLD_CAPACITY] = "sun.gc.generation.1.capacity",
	[HSPERF_EDEN_USED] = "sun.gc.generation.0.space.0.used",
	[HSPERF_S0_USED] = "sun.gc.generation.0.space.1.used",
	[HSPERF_S1_USED] = "sun.gc.generation.0.space.2.used",
	[HSPERF_OLD_USED] = "sun.gc.generation.1.space.0.used",
	[HSPERF_METASPACE_CAPACITY] = "sun.gc.metaspace.capacity",
	[HSPERF_METASPACE_USED] = "sun.gc.metaspace.used",
	[HSPERF_CLASS_SPACE_CAPACITY] = "sun.gc.compressedclassspace.capacity",
	[HSPERF_CLASS_SPACE_USED] = "sun.gc.compressedclassspace.used",
	[HSPERF_FREQUENCY] = "sun.os.hrt.frequency",
	[HSPERF_THREADS] = "java.threads.live",
	[HSPERF_LOADED] = "java.cls.loadedClasses",
	[HSPERF_UNLOADED] = "java.cls.unloadedClasses",
	[HSPERF_SHARED_LOADED] = "java.cls.sharedLoadedClasses",
	[HSPERF_SHARED_UNLOADED] = "java.cls.sharedUnloadedClasses",
	[HSPERF_COLLECTOR(0) + HSPERF_INVOCATIONS] = "sun.gc.collector.0.invocations",
	[HSPERF_COLLECTOR(0) + HSPERF_TIME] = "sun.gc.collector.0.time",
	[HSPERF_COLLECTOR(0) + HSPERF_ENTRY] = "sun.gc.collector.0.lastEntryTime",
	[HSPERF_COLLECTOR(0) + HSPERF_EXIT] = "sun.gc.collector.0.lastExitTime",
	[HSPERF_COLLECTOR(1) + HSPERF_INVOCATIONS] = "sun.gc.collector.1.invocations",
	[HSPERF_COLLECTOR(1) + HSPERF_TIME] = "sun.gc.collector.1.time",
	[HSPERF_COLLECTOR(1) + HSPERF_ENTRY] = "sun.gc.collector.1.lastEntryTime",
	[HSPERF_COLLECTOR(1) + HSPERF_EXIT] = "sun.gc.collector.1.lastExitTime",
	[HSPERF_COLLECTOR(2) + HSPERF_INVOCATIONS] = "sun.gc.collector.2.invocations",
	[HSPERF_COLLECTOR(2) + HSPERF_TIME] = "sun.gc.collector.2.time",
	[HSPERF_COLLECTOR(2) + HSPERF_ENTRY] = "sun.gc.collector.2.lastEntryTime",
	[HSPERF_COLLECTOR(2) + HSPERF_EXIT] = "sun.gc.collector.2.lastExitTime",
};

struct area {
	unsigned char *data;
	size_t len;
	bool little;
};

/* Callers have checked that at + 4 or at + 8 is inside. */
static uint32_t get_u32(const struct area *a, size_t at)
{
	uint32_t v;

	memcpy(&v, a->data + at, sizeof(v));
	return a->little ? le32toh(v) : be32toh(v);
}

static uint64_t get_u64(const struct area *a, size_t at)
{
	uint64_t v;

	memcpy(&v, a->data + at, sizeof(v));
	return a->little ? le64toh(v) : be64toh(v);
}

/* Printable ASCII up to a NUL or the end; untouched where it is anything else. */
static void take_text(const unsigned char *text, size_t len, char *ret, size_t size)
{
	size_t n = strnlen((const char *)text, len);

	if (n == 0 || n >= size)
		return;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < ' ' || text[i] > '~')
			return;
	}
	memcpy(ret, text, n);
	ret[n] = 0;
}

static void take_entry(const char *name, char type, const unsigned char *data, size_t vector, uint64_t scalar,
		       struct hsperf *p)
{
	if (type == 'B' && vector) {
		if (strcmp(name, "sun.gc.policy.name") == 0)
			take_text(data, vector, p->policy, sizeof(p->policy));
		else if (strcmp(name, "java.property.java.version") == 0)
			take_text(data, vector, p->version, sizeof(p->version));
		else if (strcmp(name, "java.property.java.vm.version") == 0 && !p->version[0])
			take_text(data, vector, p->version, sizeof(p->version));
		return;
	}
	if (type != 'J' || vector || scalar > INT64_MAX)
		return;
	for (size_t i = 0; i < HSPERF_COUNTERS; i++) {
		if (strcmp(name, names[i]) == 0) {
			p->values[i] = (double)scalar;
			return;
		}
	}
}

/* Bytes to the next entry; 0: this is none, as where one is just being made. */
static size_t parse_entry(const struct area *a, size_t at, struct hsperf *p)
{
	uint32_t len, name, vector, data;
	size_t bytes;
	char type;

	if (a->len - at < ENTRY_BYTES)
		return 0;
	len = get_u32(a, at);
	name = get_u32(a, at + 4);
	vector = get_u32(a, at + 8);
	type = (char)a->data[at + 12];
	data = get_u32(a, at + 16);
	if (len < ENTRY_BYTES || len > a->len - at || name < ENTRY_BYTES || name >= len || data < ENTRY_BYTES ||
	    data >= len)
		return 0;
	if (!memchr(a->data + at + name, 0, len - name))
		return 0;
	bytes = vector ? vector : type == 'J' ? 8 : 1; /* only these two types are asked for */
	if (bytes > len - data)
		return len;
	take_entry((const char *)a->data + at + name, type, a->data + at + data, vector,
		   bytes == 8 ? get_u64(a, at + data) : 0, p);
	return len;
}

static void parse(const struct area *a, struct hsperf *p)
{
	uint32_t at = get_u32(a, 24), entries = get_u32(a, 28);

	if (at < PROLOGUE_BYTES)
		return;
	for (uint32_t i = 0; i < entries && at < a->len; i++) {
		size_t len = parse_entry(a, at, p);

		if (len == 0)
			return;
		at += (uint32_t)len;
	}
}

/* Only what the JVM has written: the rest of the area is not touched for it. */
static int read_area(struct mem *mem, uint64_t start, uint64_t end, struct area *ret, struct err *err)
{
	static const unsigned char magic[] = { 0xca, 0xfe, 0xc0, 0xc0 };
	unsigned char prologue[PROLOGUE_BYTES];
	struct area a = { prologue, sizeof(prologue), false };
	uint32_t used;
	int rc = end - start < PROLOGUE_BYTES ? -EFAULT : mem_read_exact(mem, start, prologue, sizeof(prologue));

	if (rc < 0)
		return err_set(err, rc == -EFAULT ? EAGAIN : -rc, "cannot read the JVM's counters");
	a.little = prologue[4] == 1;
	used = get_u32(&a, 8);
	if (memcmp(prologue, magic, 4) != 0 || prologue[4] > 1 || !prologue[7] || used < PROLOGUE_BYTES)
		return err_set(err, EAGAIN, "the JVM's counters are not set up");
	if (prologue[5] != 2)
		return err_set(err, ENOTSUP, "the JVM's counters are of layout %d.%d, which is not known", prologue[5],
			       prologue[6]);
	a.len = used < end - start ? used : (size_t)(end - start);
	a.data = malloc(a.len);
	if (!a.data)
		return err_set(err, ENOMEM, "out of memory");
	rc = mem_read_exact(mem, start, a.data, a.len);
	if (rc < 0) {
		free(a.data);
		return err_set(err, rc == -EFAULT ? EAGAIN : -rc, "cannot read the JVM's counters");
	}
	*ret = a;
	return 0;
}

int hsperf_read(struct mem *mem, uint64_t start, uint64_t end, struct hsperf *ret, struct err *err)
{
	struct hsperf p = { .policy = "", .version = "" };
	struct area a = { NULL, 0, false };
	bool any = false;
	int rc = read_area(mem, start, end, &a, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < HSPERF_COUNTERS; i++)
		p.values[i] = NAN;
	parse(&a, &p);
	free(a.data);
	for (size_t i = 0; i < HSPERF_COUNTERS && !any; i++)
		any = !isnan(p.values[i]);
	if (!any)
		return err_set(err, EAGAIN, "the JVM's counters are torn or not there yet");
	*ret = p;
	return 0;
}

/* ---- the table for debuggers ----------------------------------------------------------------------------------------- */

/* The table's own description of its rows, in libjvm.so beside it. */
enum { TABLE, STRIDE, TYPE_NAME, FIELD_NAME, ADDRESS, TABLE_WORDS };

static const char *const table_symbols[TABLE_WORDS] = {
	[TABLE] = "gHotSpotVMStructs",
	[STRIDE] = "gHotSpotVMStructEntryArrayStride",
	[TYPE_NAME] = "gHotSpotVMStructEntryTypeNameOffset",
	[FIELD_NAME] = "gHotSpotVMStructEntryFieldNameOffset",
	[ADDRESS] = "gHotSpotVMStructEntryAddressOffset",
};

static bool says(struct mem *mem, uint64_t address, const char *text)
{
	char buf[TABLE_NAME_BYTES];
	size_t len = strlen(text) + 1;

	return len <= sizeof(buf) && mem_read_exact(mem, address, buf, len) == 0 && memcmp(buf, text, len) == 0;
}

uint64_t hsperf_start_pointer(const struct runtime_query *query)
{
	uint64_t w[TABLE_WORDS], last_type = 0;
	unsigned char row[256];
	bool is_type = false;

	for (int i = 0; i < TABLE_WORDS; i++) {
		uint64_t address = 0;

		if (query->find(query->arg, table_symbols[i], &address) < 0 ||
		    mem_read_u64(query->mem, address, &w[i]) < 0)
			return 0;
	}
	if (w[STRIDE] < 8 || w[STRIDE] > sizeof(row))
		return 0;
	for (int i = TYPE_NAME; i <= ADDRESS; i++) {
		if (w[i] > w[STRIDE] - 8)
			return 0;
	}
	for (uint64_t i = 0; i < TABLE_ENTRIES_MAX; i++) {
		uint64_t type, field, address;

		if (mem_read_exact(query->mem, w[TABLE] + i * w[STRIDE], row, (size_t)w[STRIDE]) < 0)
			return 0;
		memcpy(&type, row + w[TYPE_NAME], 8);
		memcpy(&field, row + w[FIELD_NAME], 8);
		memcpy(&address, row + w[ADDRESS], 8);
		if (type == 0) /* the last row */
			return 0;
		if (type != last_type) /* rows of a type follow each other, and so mostly share its name */
			is_type = says(query->mem, type, "PerfMemory");
		last_type = type;
		if (is_type && says(query->mem, field, "_start"))
			return address;
	}
	return 0;
}
