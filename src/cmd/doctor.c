/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * memwatch doctor [PID]: what works here, what does not, why, and the remedy. Stops no process but a child of its own.
 * memwatch doctor PID --clean: takes a probe out of the process that an earlier memwatch has left there.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "memwatch/base/io.h"
#include "memwatch/base/log.h"
#include "memwatch/base/units.h"
#include "memwatch/heap.h"
#include "memwatch/proc.h"
#include "memwatch/runtime.h"
#include "memwatch/sites.h"
#include "memwatch/symbol.h"
#include "memwatch/trace.h"

struct doctor_args {
	bool help, clean;
};

static const struct opt doctor_options[] = {
	{ 0, "clean", OPT_FLAG, offsetof(struct doctor_args, clean), NULL,
	  "take out of PID what an earlier memwatch (killed) has left in it", NULL, 0, 0 },
	{ 'h', "help", OPT_FLAG, offsetof(struct doctor_args, help), NULL, "this text", NULL, 0, 0 },
	OPT_END,
};

struct patient { /* what the checks look at; opened for PID, else for memwatch itself */
	pid_t pid;
	bool self;
	struct proc proc;
	struct cgroup cgroup;
};

static void say(struct str *out, bool good, const char *name, const char *detail)
{
	str_addf(out, "  %-4s %-14s %s\n", good ? "ok" : "NO", name, detail);
}

static void check_rollup(struct patient *p, struct str *out)
{
	struct region_totals totals;
	uint64_t ns = 0;
	int rc = proc_read_rollup(&p->proc, &totals, &ns);
	cleanup_str struct str text = STR_INIT;

	if (rc < 0) {
		str_addf(&text, "%s; run as the same user or with CAP_SYS_PTRACE", strerror(-rc));
		say(out, false, "smaps", str_text(&text));
		return;
	}
	str_add(&text, "RSS split into anonymous, file and shared; one read took ");
	units_add_duration(&text, (double)ns * 1e-9);
	say(out, true, "smaps", str_text(&text));
}

static void check_heap(struct mem *mem, struct str *out)
{
	struct heap_walker *walker = NULL;
	struct err why = ERR_INIT;
	struct named_part part = { 0 };
	cleanup_str struct str text = STR_INIT;
	struct arena arena;
	int rc = heap_probe(mem, &walker, &why);

	arena_init(&arena, 4096, 0);
	if (rc > 0) {
		heap_describe(walker, &arena, &part);
		str_addf(&text, "%s %s, found by %s", part.name ? part.name : "allocator",
			 part.version ? part.version : "", part.found_by ? part.found_by : "?");
		say(out, true, "heap truth", str_text(&text));
	} else {
		say(out, false, "heap truth",
		    rc == 0 ? "no known allocator in use (glibc malloc is known): RSS figures only" : why.msg);
	}
	heap_walker_destroy(walker);
	arena_deinit(&arena);
}

static int find_data(void *arg, const char *name, uint64_t *ret)
{
	return symbols_find_data(arg, name, ret);
}

static void check_runtime(struct patient *p, struct mem *mem, struct str *out)
{
	struct symbols_options options = { .pid = p->pid, .proc_fd = p->proc.dir_fd };
	struct runtime_query query = { .mem = mem };
	struct symbols *symbols = NULL;
	struct runtime *runtime = NULL;
	struct err why = ERR_INIT;
	struct named_part part = { 0 };
	cleanup_str struct str text = STR_INIT;
	struct arena arena;
	int rc;

	if (symbols_create(&options, &symbols) == 0 && symbols_update(symbols, mem) == 0) {
		query.find = find_data;
		query.arg = symbols;
	}
	rc = runtime_probe(&query, &runtime, &why);
	arena_init(&arena, 4096, 0);
	if (rc > 0) {
		runtime_describe(runtime, &arena, &part);
		str_addf(&text, "%s%s%s, found by %s", part.name ? part.name : "runtime", part.version ? " " : "",
			 part.version ? part.version : "", part.found_by ? part.found_by : "?");
		say(out, true, "runtime", str_text(&text));
	} else {
		say(out, rc == 0, "runtime",
		    rc == 0 ? "none that is known: nothing but the allocator is to be read" : why.msg);
	}
	runtime_destroy(rc > 0 ? runtime : NULL);
	symbols_destroy(symbols);
	arena_deinit(&arena);
}

static void check_probe(struct patient *p, struct mem *mem, struct str *out)
{
	cleanup_str struct str text = STR_INIT;
	struct err why = ERR_INIT;
	struct probe_trace trace;
	int rc = probe_find(p->pid, mem, &trace, &why);

	if (rc < 0) {
		say(out, false, "probe", why.msg);
	} else if (rc == 0) {
		say(out, true, "probe", "nothing of memwatch is in the process");
	} else if (trace.owner > 0) {
		str_addf(&text, "memwatch %d is at work in the process", (int)trace.owner);
		say(out, true, "probe", str_text(&text));
	} else {
		str_addf(&text,
			 "an earlier memwatch has left its code (%llu KiB, %llu slots lead there%s); memwatch doctor "
			 "%d --clean",
			 (unsigned long long)(trace.bytes >> 10), (unsigned long long)trace.slots,
			 trace.inert ? ", it only passes calls on" : "", (int)p->pid);
		say(out, trace.slots == 0 && trace.inert, "probe", str_text(&text));
	}
}

static void check_faults(struct patient *p, struct str *out)
{
	struct fault_sampler *sampler = NULL;
	struct err why = ERR_INIT;

	if (fault_sampler_open(p->pid, 1 << 20, 4096, &sampler, &why) < 0)
		say(out, false, "page faults", why.msg);
	else
		say(out, true, "page faults",
		    "perf is allowed: call sites by --sites faults, nothing stopped or written");
	fault_sampler_close(sampler);
}

static void check_memory(struct patient *p, struct str *out)
{
	struct err why = ERR_INIT;
	struct mem *mem = NULL;
	struct mem_range range;
	const struct region *regions;
	uint64_t next;
	ssize_t count;

	if (mem_live_create(p->pid, p->proc.dir_fd, &mem, &why) < 0) {
		say(out, false, "memory", why.msg);
		return;
	}
	say(out, true, "memory", "process_vm_readv is allowed: nothing is stopped to read");
	count = mem_regions(mem, &regions);
	if (count > 0 && mem_present(mem, regions[0].start, regions[0].end, &range, 1, &next) >= 0)
		say(out, true, "page map", "present pages can be told: untouched ones are never read");
	else
		say(out, false, "page map", "/proc/PID/pagemap cannot be read; heap walks are left out");
	check_heap(mem, out);
	check_runtime(p, mem, out);
	if (!p->self)
		check_probe(p, mem, out);
	mem_destroy(mem);
}

static void check_ptrace(struct patient *p, struct str *out)
{
	struct err why = ERR_INIT;
	struct status status;

	if (trace_self_test(&why) < 0) {
		say(out, false, "stops", why.msg);
		return;
	}
	if (!p->self && proc_read_status(&p->proc, &status) >= 0 && status.tracer_pid > 0) {
		trace_explain_refusal(p->pid, &why);
		say(out, false, "stops", why.msg);
		return;
	}
	say(out, true, "stops", "ptrace works: call sites by short stops");
}

static void check_cgroup(struct patient *p, struct str *out)
{
	struct cgroup_memory memory;
	cleanup_str struct str text = STR_INIT;
	struct psi psi;

	if (p->cgroup.version == 0 || cgroup_read(&p->cgroup, &memory) < 0) {
		say(out, false, "cgroup", "no memory controller found: no cgroup limit in forecasts");
	} else {
		str_addf(&text, "v%d, limit ", p->cgroup.version);
		if (memory.limit_bytes == UINT64_MAX)
			str_add(&text, "none");
		else
			units_add_bytes(&text, (double)memory.limit_bytes);
		say(out, true, "cgroup", str_text(&text));
	}
	if (psi_read(&p->cgroup, &psi) >= 0)
		say(out, true, "pressure", "PSI is there");
	else
		say(out, false, "pressure", "no PSI in this kernel, or switched off; boot with psi=1");
}

static void check_all(struct patient *p, struct str *out)
{
	struct utsname name;
	const char *servers = getenv("DEBUGINFOD_URLS");
	struct statm statm;

	if (uname(&name) == 0)
		str_addf(out, "memwatch doctor: Linux %s %s, uid %d, %s %d\n", name.release, name.machine,
			 (int)geteuid(), p->self ? "looking at itself, process" : "process", (int)p->pid);
	say(out, proc_read_statm(&p->proc, &statm) >= 0, "statm", "resident size at every tick, 4 us a read");
	say(out, p->proc.pid_fd >= 0, "pidfd",
	    p->proc.pid_fd >= 0 ? "a reused pid is never touched" :
				  "kernel before 5.3: the start time alone guards against reused pids");
	check_rollup(p, out);
	check_memory(p, out);
	check_ptrace(p, out);
	check_faults(p, out);
	check_cgroup(p, out);
	say(out, true, "debuginfod",
	    servers && *servers ? "servers are configured; --debuginfod asks them" :
				  "no servers in DEBUGINFOD_URLS: local debug files only");
}

static int examine(pid_t pid)
{
	struct patient p = {
		.pid = pid ? pid : getpid(), .self = pid == 0, .proc = PROC_INIT, .cgroup = { .dir_fd = -1 }
	};
	struct err err = ERR_INIT;
	cleanup_str struct str out = STR_INIT;
	int rc;

	rc = proc_open(p.pid, &p.proc, &err);
	if (rc >= 0 && cgroup_open(&p.proc, &p.cgroup) < 0)
		p.cgroup.version = 0;
	if (rc >= 0) {
		check_all(&p, &out);
		rc = io_write_file("-", str_text(&out), out.len, &err);
	}
	cgroup_close(&p.cgroup);
	proc_close(&p.proc);
	if (rc < 0)
		log_error("%s", err.msg);
	return rc < 0 ? EXIT_FAILED : EXIT_OK;
}

static int clean_up(pid_t pid, struct err *err)
{
	struct proc proc = PROC_INIT;
	struct tracer *tracer = NULL;
	struct mem *mem = NULL;
	struct probe_trace trace;
	int rc = proc_open(pid, &proc, err);

	if (rc >= 0)
		rc = mem_live_create(pid, proc.dir_fd, &mem, err);
	if (rc >= 0 && tracer_create(&tracer) < 0)
		rc = err_set(err, ENOMEM, "out of memory");
	if (rc >= 0)
		rc = probe_find(pid, mem, &trace, err);
	if (rc == 0)
		log_note("process %d holds nothing of memwatch", (int)pid);
	if (rc > 0) {
		rc = probe_clean(pid, tracer, mem, err);
		if (rc >= 0)
			log_note("the probe has been taken out of process %d", (int)pid);
	}
	mem_destroy(mem);
	tracer_destroy(tracer);
	proc_close(&proc);
	return rc;
}

static int clean(pid_t pid)
{
	struct err err = ERR_INIT;

	if (clean_up(pid, &err) >= 0)
		return EXIT_OK;
	log_error("%s", err.msg);
	return EXIT_FAILED;
}

static int run(int argc, char **argv)
{
	struct doctor_args args = { 0 };
	struct err err = ERR_INIT;
	char *end = NULL;
	long pid = 0;
	int first;

	if (opt_parse(doctor_options, argc - 1, argv + 1, false, &args, &first, &err) < 0) {
		log_error("%s", err.msg);
		return EXIT_USAGE;
	}
	if (args.help) {
		command_print_help(&command_doctor);
		return EXIT_OK;
	}
	if (first + 1 < argc) {
		errno = 0;
		pid = strtol(argv[first + 1], &end, 10);
		if (errno != 0 || *end != '\0' || pid <= 0 || pid > INT32_MAX || first + 2 < argc) {
			log_error("invalid pid '%s': doctor takes one process id", argv[first + 1]);
			return EXIT_USAGE;
		}
	}
	if (args.clean && pid == 0) {
		log_error("--clean needs the process to clean: memwatch doctor PID --clean");
		return EXIT_USAGE;
	}
	return args.clean ? clean((pid_t)pid) : examine((pid_t)pid);
}

const struct command command_doctor = { "doctor", "doctor [PID] [--clean]",
					"what works here, what does not, why, and the remedy", doctor_options, run };
