/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One tick: statm always, the other files of /proc when they are due. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "memwatch/base/clock.h"
#include "session/private.h"
#include "session/units.h"

#define UNITS_EAGER_NS (100 * NS_PER_MS) /* after the start of a program image: its libraries are being mapped */
#define SMAPS_TO_ROLLUP 4                /* smaps takes about so many times as long; more with very many mappings */

static void put(struct sample *sample, enum metric m, uint64_t value)
{
	if (value != UNKNOWN_U64)
		sample->v[m] = (double)value;
}

static void rise_peak(struct target *t, uint64_t bytes)
{
	if (bytes != UNKNOWN_U64 && (t->peak_rss_bytes == UNKNOWN_U64 || bytes > t->peak_rss_bytes))
		t->peak_rss_bytes = bytes;
}

static int observe_statm(struct target *t, struct sample *sample)
{
	struct statm statm;
	int rc = proc_read_statm(&t->proc, &statm);

	if (rc < 0)
		return rc;
	put(sample, METRIC_RSS, statm.resident_pages * (uint64_t)t->proc.page_bytes);
	put(sample, METRIC_VIRTUAL, statm.size_pages * (uint64_t)t->proc.page_bytes);
	rise_peak(t, statm.resident_pages * (uint64_t)t->proc.page_bytes);
	return 0;
}

static void tell_change(struct target *t, const char *event, double value)
{
	const struct session_listener *l = &t->session->listener;

	if (l->event)
		l->event(l->arg, session_time(t->session, 0), t->proc.id.pid, event, NULL, value);
}

static int observe_stat(struct target *t, struct sample *sample)
{
	struct stat_line stat;
	int rc = proc_read_stat(&t->proc, &stat);

	if (rc < 0)
		return rc;
	put(sample, METRIC_THREADS, stat.threads);
	put(sample, METRIC_MINOR_FAULTS, stat.minor_faults);
	put(sample, METRIC_MAJOR_FAULTS, stat.major_faults);
	sample->v[METRIC_CPU] = (double)(stat.utime_ticks + stat.stime_ticks) / (double)t->proc.ticks_per_s;
	if (t->start_stack != 0 && stat.start_stack != 0 && stat.start_stack != t->start_stack &&
	    (!t->standing || tracer_reattach(t->session->tracer, t->proc.id.pid) == 0))
		return -ESTALE; /* the process runs another program now; for a standing one there will be an event */
	if (stat.threads != t->info.threads)
		tell_change(t, "thread", (double)stat.threads);
	t->info.threads = stat.threads;
	/* programs name their workers behind the fork: prctl(PR_SET_NAME) */
	if (!t->info.comm || strcmp(t->info.comm, stat.comm) != 0) {
		memcpy(t->comm, stat.comm, sizeof(t->comm));
		t->info.comm = t->comm;
	}
	return 0;
}

static int observe_status(struct target *t, struct sample *sample)
{
	struct status status;
	int rc = proc_read_status(&t->proc, &status);

	if (rc < 0)
		return rc;
	put(sample, METRIC_SWAP, status.vm_swap_bytes);
	put(sample, METRIC_SHMEM, status.rss_shmem_bytes);
	put(sample, METRIC_SWITCHES, status.voluntary_switches); /* of the main thread */
	rise_peak(t, status.vm_hwm_bytes);
	return 0;
}

static int observe_io(struct target *t, struct sample *sample)
{
	struct proc_io io;
	int rc = proc_read_io(&t->proc, &io);

	if (rc == -EACCES || rc == -EPERM) {
		t->rungs[RUNG_IO].off = true;
		return 0;
	}
	if (rc < 0)
		return rc;
	put(sample, METRIC_READ_CHARS, io.rchar);
	put(sample, METRIC_WRITE_CHARS, io.wchar_bytes);
	if (io.syscr != UNKNOWN_U64 && io.syscw != UNKNOWN_U64)
		put(sample, METRIC_SYSCALLS, io.syscr + io.syscw);
	return 0;
}

static int observe_fds(struct target *t, struct sample *sample)
{
	uint64_t fds;
	int rc = proc_count_fds(&t->proc, &fds);

	if (rc == -EACCES || rc == -EPERM) {
		t->rungs[RUNG_FDS].off = true;
		return 0;
	}
	if (rc >= 0)
		put(sample, METRIC_FDS, fds);
	return rc;
}

/* What is resident and neither anonymous nor shared memory. */
static void put_file(const struct target *t, struct sample *sample, const struct region_totals *totals)
{
	double shmem = isnan(sample->v[METRIC_SHMEM]) ? t->last.v[METRIC_SHMEM] : sample->v[METRIC_SHMEM];
	double rest;

	if (totals->rss_bytes == UNKNOWN_U64 || totals->anon_bytes == UNKNOWN_U64)
		return;
	rest = (double)totals->rss_bytes - (double)totals->anon_bytes - (isnan(shmem) ? 0.0 : shmem);
	sample->v[METRIC_FILE] = rest > 0.0 ? rest : 0.0;
}

static int observe_rollup(struct target *t, struct sample *sample)
{
	struct region_totals totals;
	uint64_t ns = 0;
	int rc = proc_read_rollup(&t->proc, &totals, &ns);

	if (rc == -EACCES || rc == -EPERM) {
		t->rungs[RUNG_ROLLUP].off = true;
		return 0;
	}
	if (rc < 0)
		return rc;
	t->session->cost.stall_ns_total += ns;
	rung_expect(t, RUNG_SMAPS, SMAPS_TO_ROLLUP * ns);
	put(sample, METRIC_PSS, totals.pss_bytes);
	put(sample, METRIC_ANON, totals.anon_bytes);
	put(sample, METRIC_SWAP, totals.swap_bytes);
	put(sample, METRIC_LAZY_FREE, totals.lazy_free_bytes);
	put_file(t, sample, &totals);
	/* statm may lag behind the page tables: what differs is its noise floor. */
	if (totals.rss_bytes != UNKNOWN_U64 && !isnan(t->last.v[METRIC_RSS])) {
		struct statm statm;

		if (proc_read_statm(&t->proc, &statm) >= 0) {
			double differ = fabs((double)(statm.resident_pages * (uint64_t)t->proc.page_bytes) -
					     (double)totals.rss_bytes);

			if (differ > t->rollup_noise_bytes)
				t->rollup_noise_bytes = differ;
		}
	}
	return 0;
}

static int observe_smaps(struct target *t, struct sample *sample)
{
	struct region_totals classes[REGION_CLASS_COUNT];
	uint64_t ns = 0;
	int rc = proc_read_smaps(&t->proc, classes, &ns);

	if (rc == -EACCES || rc == -EPERM) {
		t->rungs[RUNG_SMAPS].off = true;
		return 0;
	}
	if (rc < 0)
		return rc;
	t->session->cost.stall_ns_total += ns;
	for (int i = 0; i < REGION_CLASS_COUNT; i++)
		t->classes_last[i] = classes[i];
	if (!t->has_classes)
		for (int i = 0; i < REGION_CLASS_COUNT; i++)
			t->classes_first[i] = classes[i];
	t->has_classes = true;
	put(sample, METRIC_STACK, classes[REGION_STACK].rss_bytes);
	return 0;
}

static int observe_cgroup(struct target *t, struct sample *sample)
{
	struct cgroup_memory memory;
	struct psi psi;

	if (t->cgroup.version != 0 && cgroup_read(&t->cgroup, &memory) >= 0) {
		put(sample, METRIC_CGROUP, memory.usage_bytes);
		if (memory.limit_bytes != t->cgroup_limit)
			tell_change(t, "limit", memory.limit_bytes == UINT64_MAX ? NAN : (double)memory.limit_bytes);
		t->cgroup_limit = memory.limit_bytes;
	}
	if (psi_read(&t->cgroup, &psi) >= 0)
		sample->v[METRIC_PSI_SOME] = psi.some_avg10;
	return 0;
}

/* Nice to have: whatever is the matter with it, the rest goes on. */
static int observe_net(struct target *t, struct sample *sample)
{
	uint64_t bytes;
	int rc = proc_read_net(&t->proc, &bytes);

	if (rc >= 0)
		put(sample, METRIC_NET, bytes);
	else
		t->rungs[RUNG_NET].off = true;
	return 0;
}

static int (*const observers[RUNG_COUNT])(struct target *t, struct sample *sample) = {
	[RUNG_STAT] = observe_stat,     [RUNG_STATUS] = observe_status, [RUNG_IO] = observe_io,
	[RUNG_FDS] = observe_fds,       [RUNG_ROLLUP] = observe_rollup, [RUNG_SMAPS] = observe_smaps,
	[RUNG_CGROUP] = observe_cgroup, [RUNG_NET] = observe_net,
};

/* Whether a final look at this rung is worth it for a process that ends: all but what a short life never gave reason to read. */
static bool wanted(const struct target *t, enum rung rung, uint64_t now_ns, bool final)
{
	if (!observers[rung] || t->rungs[rung].off)
		return false;
	if (!final)
		return rung_due(t, rung, now_ns);
	return rung != RUNG_FDS && rung != RUNG_CGROUP && rung_affordable(t, rung, now_ns);
}

static bool wanted_units(const struct target *t, uint64_t now_ns, bool final)
{
	return t->session->units && t == t->session->targets[0] &&
	       (final ? rung_affordable(t, RUNG_UNITS, now_ns) : rung_due(t, RUNG_UNITS, now_ns));
}

/* To find the function takes longer than to read its count, and is done once; a library with it may come in the first milliseconds. */
static void observe_units(struct target *t, struct sample *sample, bool final)
{
	uint64_t begin = clock_now_ns();
	bool known = !isnan(t->last.v[METRIC_WORK]);

	sample->v[METRIC_WORK] = units_read(t, final);
	rung_done(t, RUNG_UNITS, known || isnan(sample->v[METRIC_WORK]) ? clock_now_ns() - begin : 0);
	if (isnan(sample->v[METRIC_WORK]) && begin - t->image_ns < UNITS_EAGER_NS)
		rung_retry(t, RUNG_UNITS, NS_PER_MS);
}

static void remember(struct target *t, const struct sample *sample)
{
	t->last.t_s = sample->t_s;
	for (int m = 0; m < METRIC_COUNT; m++)
		if (!isnan(sample->v[m]))
			t->last.v[m] = sample->v[m];
}

void target_tick(struct target *t, uint64_t now_ns, bool final)
{
	struct session *s = t->session;
	struct sample sample;
	int rc;

	sample_init(&sample, session_time(s, now_ns));
	rc = observe_statm(t, &sample);
	for (int rung = 0; rc >= 0 && rung < RUNG_COUNT; rung++) {
		uint64_t begin;

		if (!wanted(t, (enum rung)rung, now_ns, final))
			continue;
		begin = clock_now_ns();
		rc = observers[rung](t, &sample);
		rung_done(t, (enum rung)rung, clock_now_ns() - begin);
	}
	if (rc >= 0 && wanted_units(t, now_ns, final))
		observe_units(t, &sample, final);
	if (rc == -ESTALE && target_exec(t) >= 0) {
		if (s->listener.event)
			s->listener.event(s->listener.arg, sample.t_s, t->proc.id.pid, "exec", t->info.exe, NAN);
		return;
	}
	if (rc < 0 && isnan(sample.v[METRIC_RSS]))
		return; /* it is ending: the loop learns that from the pidfd */
	look_heap(t, &sample, now_ns, final);
	look_runtime(t, &sample, now_ns, final);
	remember(t, &sample);
	if (series_add(t->series, &sample) >= 0)
		s->samples++;
	if (s->listener.sample)
		s->listener.sample(s->listener.arg, t->proc.id.pid, &sample, t->has_verdict ? &t->verdict : NULL);
}
