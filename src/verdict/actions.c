/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What to do next: one function per class, concrete and in order of use. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/units.h"
#include "verdict-priv.h"

#define ARENAS_MANY 8   /* glibc makes up to eight per core */
#define SMALL_BLOCK 512 /* blocks that sit between larger free ones and pin them */
#define SMALL_MANY 0.3

/* The command as it can be pasted: PID becomes the target's, as long as it lives. */
static const char *with_pid(struct judgement *j, const char *command)
{
	const struct verdict_input *in = j->f.in;
	const char *at = command ? strstr(command, "PID") : NULL;

	if (!at || in->pid <= 0 || in->ended)
		return command;
	str_addn(&j->text, command, (size_t)(at - command));
	str_addf(&j->text, "%d%s", (int)in->pid, at + strlen("PID"));
	return text_take(j);
}

enum remedy { REMEDY_DUMPS, REMEDY_RETAINED, REMEDY_COUNT };

/* What the people of each runtime do. The reader's name, or what recordings call it. */
static const struct runtime_remedy {
	const char *name, *alias;
	struct action actions[REMEDY_COUNT];
} runtime_remedies[] = {
	{ "cpython",
	  "python",
	  { { "compare two snapshots of tracemalloc, which names the lines whose objects stay",
	      "python3 -X tracemalloc=10 …" },
	    { "objects that live long lie between freed ones and pin whole arenas: make them first and call "
	      "gc.freeze(), or do the "
	      "peak in a process of its own, or try without pymalloc",
	      "PYTHONMALLOC=malloc MALLOC_ARENA_MAX=2 COMMAND" } } },
	{ "go",
	  "go",
	  { { "compare two heap profiles: what is in use at the second and not at the first",
	      "go tool pprof -diff_base FIRST SECOND" },
	    { "let it collect earlier, or bound it", "GOGC=50 GOMEMLIMIT=512MiB COMMAND" } } },
	{ "hotspot",
	  "java",
	  { { "compare two class histograms: whose instances stay after a full collection",
	      "jcmd PID GC.class_histogram" },
	    { "bound the heap, and let it shrink after a collection", "java -Xmx512m -XX:MaxHeapFreeRatio=30 …" } } },
	{ "v8",
	  "node",
	  { { "compare two heap snapshots: what is live at the second and not at the first",
	      "node --heapsnapshot-signal=SIGUSR2 …" },
	    { "bound the heap, so that it is collected earlier", "node --max-old-space-size=512 …" } } },
};

static const struct action *remedy_of(const char *runtime, enum remedy which)
{
	for (size_t i = 0; runtime && i < sizeof(runtime_remedies) / sizeof(runtime_remedies[0]); i++)
		if (strcmp(runtime, runtime_remedies[i].name) == 0 || strcmp(runtime, runtime_remedies[i].alias) == 0)
			return &runtime_remedies[i].actions[which];
	return NULL;
}

/* Closes the text that j->text holds into one action. */
static void add(struct judgement *j, const char *command)
{
	const char *text = text_take(j);

	if (j->v.action_count < ACTION_MAX)
		j->actions[j->v.action_count++] = (struct action){ text, with_pid(j, command) };
}

static void say(struct judgement *j, const char *text, const char *command)
{
	str_add(&j->text, text);
	add(j, command);
}

static void say_remedy(struct judgement *j, enum remedy which, const char *otherwise)
{
	const struct action *a = remedy_of(j->f.in->runtime, which);

	say(j, a ? a->text : otherwise, a ? a->command : NULL);
}

static void for_leak(struct judgement *j)
{
	const struct verdict_input *in = j->f.in;

	if (in->top_site_function) {
		str_addf(&j->text, "look at %s: most of what stays was taken there", in->top_site_function);
		add(j, NULL);
	} else if (in->recorded) {
		say(j, "find the call sites that grow", "memwatch --pid PID");
	}
	if (in->hot_class_size > 0) {
		str_addf(&j->text, "look for objects of up to %" PRIu64 " bytes: that size class grows most",
			 in->hot_class_size);
		add(j, NULL);
	}
	if (j->v.where == WHERE_RUNTIME)
		say_remedy(j, REMEDY_DUMPS,
			   "compare two heap dumps of the runtime: what is live at the second and not at the first");
	else
		say(j, "see whether it goes on at idle: what grows with the load stops with it",
		    "memwatch --pid PID --duration 10m");
}

static void for_scaling(struct judgement *j)
{
	const struct work_fit *w = &j->v.work;

	str_add(&j->text, "size it by its work: ");
	if (w->cooperative && !isnan(w->fixed_bytes.value)) {
		units_add_bytes(&j->text, w->fixed_bytes.value);
		str_add(&j->text, " and ");
	}
	units_add_bytes(&j->text, w->bytes_per_unit.value);
	str_addf(&j->text, " per %s; bound what is kept, or raise the limit", w->unit ? w->unit : "unit");
	add(j, NULL);
	str_addf(&j->text, "if a %s should leave nothing behind, this is a leak: say so", work_piece(j));
	add(j,
	    j->f.in->recorded ? "memwatch analyze --expect transient FILE" : "memwatch --pid PID --expect transient");
}

/* What would tell a leak from growth with the work. */
static void add_what_would_tell(struct judgement *j)
{
	const struct verdict_input *in = j->f.in;

	if (in->recorded && j->f.relation == WORK_UNKNOWN)
		say(j,
		    "record the work done beside the memory (a column cpu_s, or work), or say that work leaves nothing "
		    "behind",
		    "memwatch analyze --expect transient FILE");
	if (in->recorded)
		say(j, "let memwatch look into the process itself", "memwatch --pid PID");
	else
		say(j, "watch longer, or at idle: what grows with the load stops with it",
		    "memwatch --pid PID --duration 10m");
}

static void for_growth(struct judgement *j)
{
	switch (j->v.where) {
	case WHERE_ANON:
		say(j, "see who maps it: mappings outside the allocator grow", "memwatch --pid PID --sites auto");
		break;
	case WHERE_FILE:
		say(j,
		    "see which file: mapped pages can be dropped by the kernel, so this is harmless unless they are "
		    "dirty",
		    "grep -A2 -F / /proc/PID/smaps");
		break;
	case WHERE_SHMEM:
		say(j, "look for segments that nobody removes: shared memory outlives the process",
		    "ls -l /dev/shm; ipcs -m");
		break;
	case WHERE_STACK:
		say(j, "count the threads: each keeps its own stack", "ls /proc/PID/task | wc -l");
		break;
	case WHERE_RUNTIME:
		say(j, "let the runtime collect its garbage and watch whether the troughs still rise", NULL);
		say_remedy(j, REMEDY_DUMPS, "compare two heap dumps of the runtime");
		break;
	default:
		break;
	}
	if (!j->f.has_truth && !j->f.in->recorded)
		say(j, "let memwatch read the heap: only what the program holds can tell a leak",
		    "memwatch doctor PID");
	if (j->subject->shape.shape == SHAPE_DOUBLING)
		say(j, "look for a table or vector that doubles as it fills: its size follows what is put into it",
		    NULL);
	add_what_would_tell(j);
}

/* Small blocks in use between large free ones: the size that pins most. */
static uint64_t pinning_size(const struct heap_stats *heap)
{
	const struct heap_size_class *best = NULL;

	for (size_t i = 0; i < heap->class_count; i++)
		if (heap->classes[i].size <= SMALL_BLOCK &&
		    (!best || heap->classes[i].in_use_blocks > best->in_use_blocks))
			best = &heap->classes[i];
	return best && (double)best->in_use_blocks >= SMALL_MANY * (double)heap->in_use_blocks ? best->size : 0;
}

static void for_fragmentation(struct judgement *j)
{
	const struct heap_stats *heap = j->f.in->heap;
	uint64_t size = heap ? pinning_size(heap) : 0;

	if (size > 0) {
		str_addf(&j->text,
			 "look at blocks of up to %" PRIu64
			 " bytes: long-lived ones lie between the free ones and pin them",
			 size);
		add(j, NULL);
	} else {
		say(j, "look for small long-lived blocks taken while the peak was in use: they pin the pages", NULL);
	}
	say(j,
	    "take short-lived and long-lived objects from different arenas or pools, or try a size-segregating "
	    "allocator",
	    "LD_PRELOAD=libjemalloc.so.2 COMMAND");
}

static void for_retention(struct judgement *j)
{
	const struct heap_stats *heap = j->f.in->heap;

	if (j->v.cause == CAUSE_GC) {
		say_remedy(j, REMEDY_RETAINED, "cap the runtime's heap, or let it give memory back when idle");
		return;
	}
	if (j->v.cause == CAUSE_FRAGMENTATION)
		for_fragmentation(j);
	else
		say(j, "give the free top back: malloc_trim(0), or start with MALLOC_TRIM_THRESHOLD_=131072",
		    "MALLOC_TRIM_THRESHOLD_=131072 COMMAND");
	if (heap && heap->arena_count >= ARENAS_MANY) {
		str_addf(&j->text, "the heap is spread over %zu arenas: start with MALLOC_ARENA_MAX=2",
			 heap->arena_count);
		add(j, "MALLOC_ARENA_MAX=2 COMMAND");
	}
}

void actions_build(struct judgement *j)
{
	switch (j->v.class) {
	case VERDICT_LEAK:
		for_leak(j);
		break;
	case VERDICT_GROWTH:
		for_growth(j);
		break;
	case VERDICT_SCALING:
		for_scaling(j);
		break;
	case VERDICT_RETENTION:
		for_retention(j);
		break;
	case VERDICT_INSUFFICIENT_DATA:
		say(j, "watch longer: at least 3 s and 20 samples", "memwatch --pid PID --duration 30s");
		break;
	case VERDICT_STEP:
		say(j, "see what was taken at the step", "memwatch --pid PID --sites auto");
		break;
	default:
		break;
	}
}
