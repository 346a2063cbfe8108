# SPDX-License-Identifier: GPL-3.0-or-later
"""Call sites by the probe: the leaking line, what the report says of it, and that nothing stays behind or breaks, whatever the target is."""
import os
import sys

from harness import ROOT, VICTIMS, first_truth, need_root, test

sys.path.insert(0, os.path.join(ROOT, "test", "bench"))
import bench_sites as judge  # noqa: E402
import torture_probe  # noqa: E402

SECONDS = 8
PROBE = ("-q", "--sites", "probe")


def site_gaps(report):
    return [gap for gap in report["session"]["gaps"] if gap["rung"] == "sites"]


def expect_first(report, truth):
    assert report["sites"], f"no sites: {site_gaps(report)}"
    site = report["sites"][0]
    assert judge.is_leak(site, truth), f"{[(f['function'], f['line']) for f in site['frames'][:6]]}, not {truth['function']}:{truth['line']}"
    return site


def expect_clean(bench, target):
    """Nothing of the probe is in the target: not as memwatch sees it, nor as its mappings show it."""
    told = bench.memwatch("doctor", target.pid, report=False).expect(0)
    assert "--clean" not in told.out, f"doctor says that something is left: {told.out[-400:]}"
    assert not torture_probe.remains(target.pid), torture_probe.remains(target.pid)


def expect_numbers(site, truth, seconds):
    assert site["source"] == "probe", site["source"]
    assert site["bytes_low"] <= site["bytes"] <= site["bytes_high"], site
    assert site["allocated_bytes"] >= site["bytes"] > 0, site
    assert 0.5 < site["survival"] <= 1, f"a site that only leaks: {site['survival']}"
    assert 0.5 < site["bytes_per_s"] / truth["bytes_per_s"] < 1.5, f"{site['bytes_per_s']} of {truth['bytes_per_s']}"
    assert 0 < site["age_s"] < seconds + 1, site["age_s"]


# ---- the leaking line


@test()
def test_a_leak_amid_churn_of_its_own_size(bench):
    target = bench.victim("site_c", 60, "calloc", "--threads", 2, "--churn", 200000, "--rate", 256 << 10)
    report = bench.memwatch("--pid", target.pid, *PROBE, "-d", SECONDS).expect(0).report
    expect_numbers(expect_first(report, target.truth), target.truth, SECONDS)
    assert target.alive(), target.status
    expect_clean(bench, target)


@test()
def test_a_wrapper_beside_a_live_table(bench):
    target = bench.victim("site_c", 60, "xmalloc", "--threads", 2, "--churn", 200000, "--rate", 256 << 10, "--table", 64)
    report = bench.memwatch("--pid", target.pid, *PROBE, "-d", SECONDS).expect(0).report
    expect_first(report, target.truth)
    expect_clean(bench, target)


@test()
def test_from_run_with_a_table_that_is_filled_at_the_start(bench):
    result = bench.memwatch("run", *PROBE, "--", f"{VICTIMS}/site_cxx", SECONDS, "array", "--rate", 512 << 10, "--table", 64).expect(0)
    site = expect_first(result.report, first_truth(result))
    assert site["source"] == "probe" and 0.5 < site["survival"] <= 1, site


@test()
def test_a_plugin_that_is_loaded_late(bench):
    target = bench.victim("site_plugin_host", 60, "--rate", 512 << 10)
    report = bench.memwatch("--pid", target.pid, *PROBE, "-d", SECONDS + 3).expect(0).report
    assert expect_first(report, target.truth)["frames"][0]["module"], "the plugin's frame has no module"
    expect_clean(bench, target)


@test()
def test_the_probe_is_chosen_for_a_child_of_its_own(bench):
    result = bench.memwatch("run", "-q", "--", f"{VICTIMS}/site_c", SECONDS, "strdup", "--rate", 512 << 10).expect(0)
    assert expect_first(result.report, first_truth(result))["source"] == "probe"


# ---- leaving, being killed


@test(timeout=90)
def test_after_kill_9_the_target_goes_on_and_is_cleaned(bench):
    target = bench.victim("site_torture", 300, env=dict(os.environ, LD_BIND_NOW="1"))
    before = torture_probe.steady_snapshot(target.pid)
    watching = bench.watch("--pid", target.pid, *PROBE)
    bench.until(lambda: torture_probe.remains(target.pid) or not watching.alive(), "the probe in the target", 20)
    assert watching.alive(), f"memwatch ended with {watching.status}: {watching.err[-300:]}"
    watching.signal(9)
    watching.wait(10)
    bench.until(lambda: torture_probe.status_lines(target) or not target.alive(), "a line of the target", 20)
    steps = torture_probe.status_lines(target)[-1]["steps"]
    bench.until(lambda: torture_probe.status_lines(target)[-1]["steps"] > steps + 20000 or not target.alive(), "the target to go on", 20)
    told = bench.memwatch("doctor", target.pid, report=False).expect(0)
    assert "--clean" in told.out, f"doctor does not say that a probe is left, and the remedy: {told.out[-400:]}"
    bench.memwatch("doctor", target.pid, "--clean", report=False).expect(0)
    expect_clean(bench, target)
    changed = torture_probe.differences(before, torture_probe.steady_snapshot(target.pid))
    assert not changed, changed[:3]
    target.signal(15)
    target.wait(20).expect(0)


@test(timeout=90)
def test_the_next_memwatch_takes_over_what_a_killed_one_left(bench):
    target = bench.victim("site_c", 80, "hash", "--rate", 512 << 10)
    first = bench.watch("--pid", target.pid, *PROBE)
    bench.until(lambda: torture_probe.remains(target.pid) or not first.alive(), "the probe in the target", 20)
    assert first.alive(), f"memwatch ended with {first.status}: {first.err[-300:]}"
    first.signal(9)
    first.wait(10)
    report = bench.memwatch("--pid", target.pid, *PROBE, "-d", SECONDS).expect(0).report
    assert expect_first(report, target.truth)["source"] == "probe"
    expect_clean(bench, target)
    assert target.alive(), target.status


@test(timeout=90)
def test_a_probe_in_use_is_not_taken_out(bench):
    target = bench.victim("site_c", 80, "hash", "--rate", 512 << 10)
    watching = bench.watch("--pid", target.pid, *PROBE, "-d", SECONDS)
    bench.until(lambda: torture_probe.remains(target.pid) or not watching.alive(), "the probe in the target", 20)
    refused = bench.memwatch("doctor", target.pid, "--clean", report=False)
    assert refused.status != 0 and str(watching.pid) in refused.err + refused.out, (refused.status, refused.err, refused.out[-300:])
    report = watching.wait(40).expect(0).report
    assert expect_first(report, target.truth)["source"] == "probe"


@test(timeout=200, alone=True)
def test_twenty_rounds_of_inject_sample_leave_and_kill(bench):
    torture = torture_probe.Torture(bench, 7919, "probe", 16)
    faults = torture.run(20, baseline_s=1)
    assert not faults, faults[:3]
    assert torture.killed >= 3 and torture.placed >= 1, torture.figures()


# ---- targets of every kind: it works, or refuses with the reason before touching anything


def expect_works_or_refused(bench, name, *args, status=0, refused_for=None):
    """Watched and left; the target ends as it does alone. refused_for: it must be refused, with one of these words in the reason."""
    env = {key: value for key, value in os.environ.items() if key != "ASAN_OPTIONS"} # as the checks of memwatch itself set it
    target = bench.victim(name, SECONDS + 6, *args, env=env)
    report = bench.memwatch("--pid", target.pid, *PROBE, "-d", SECONDS).expect(0).report
    by_probe = any(site["source"] == "probe" for site in report["sites"])
    gaps = [gap for gap in site_gaps(report) if "probe" in gap["reason"] or "probe" in (gap["remedy"] or "")]
    assert target.alive(), f"the target ended with status {target.status} while it was watched; {gaps}"
    expect_clean(bench, target)
    target.wait(40).expect(status)
    if refused_for:
        assert not by_probe, "not refused"
        assert any(word in gap["reason"].lower() for gap in gaps for word in refused_for), site_gaps(report)
    elif by_probe:
        expect_first(report, target.truth)
    else:
        assert gaps, f"neither sites nor a reason: {site_gaps(report)}"
    return report, target


@test()
def test_a_static_program_gets_faults_instead(bench):
    report, target = expect_works_or_refused(bench, "site_static", "malloc", "--rate", 4 << 20, refused_for=("static",))
    if report["sites"]: # a machine may refuse perf events: then there is a gap for these too
        assert report["sites"][0]["source"] in ("faults", "stacks")
        assert any(judge.is_leak(site, target.truth) for site in report["sites"]), report["sites"] # the churn may be first: see sources.c
    else:
        assert any("perf" in gap["reason"] for gap in site_gaps(report)), site_gaps(report)


@test()
def test_a_seccomp_filter_that_kills_is_not_provoked(bench):
    _, target = expect_works_or_refused(bench, "site_guest", "seccomp", refused_for=("seccomp",))
    assert '"right": 1' in target.out


@test()
def test_a_target_that_gave_up_root(bench):
    need_root()
    _, target = expect_works_or_refused(bench, "site_guest", "nobody")
    assert '"right": 1' in target.out


@test()
def test_a_child_that_gives_up_root(bench):
    need_root()
    result = bench.memwatch("run", *PROBE, "--", f"{VICTIMS}/site_guest", SECONDS, "nobody").expect(0)
    assert '"right": 1' in result.out
    if not any("probe" in gap["reason"] for gap in site_gaps(result.report)):
        expect_first(result.report, first_truth(result))


@test()
def test_a_target_that_vforks(bench):
    _, target = expect_works_or_refused(bench, "site_guest", "vfork")
    assert '"right": 1' in target.out


@test()
def test_a_target_whose_memory_another_process_shares(bench):
    _, target = expect_works_or_refused(bench, "site_guest", "clone_vm")
    assert '"right": 1' in target.out


@test()
def test_a_target_under_address_sanitizer(bench):
    expect_works_or_refused(bench, "site_asan", "malloc", "--rate", 1 << 20)


@test()
def test_a_seccomp_filter_that_kills_from_run(bench):
    """The filter comes after the probe: from then on nothing may be called in the target, not even to leave."""
    result = bench.memwatch("run", *PROBE, "--", f"{VICTIMS}/site_guest", SECONDS, "seccomp").expect(0)
    assert '"right": 1' in result.out
