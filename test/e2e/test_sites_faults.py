# SPDX-License-Identifier: GPL-3.0-or-later
"""Call sites by page faults: the leaking line of dynamic and static programs, without a stop, and a gap where perf is refused."""
import ctypes
import os
import sys

from harness import ROOT, VICTIMS, test

sys.path.insert(0, os.path.join(ROOT, "test", "bench"))
import bench_sites as judge  # noqa: E402
from test_units import refuse_perf  # noqa: E402

SECONDS = 8


def perf_refused():
    """Whether this machine refuses perf events altogether: then that must be what the report says."""
    attributes = ctypes.create_string_buffer(128)
    attributes[0:8] = (1).to_bytes(4, "little") + (128).to_bytes(4, "little") # software
    attributes[8:16] = (2).to_bytes(8, "little") # page faults
    fd = ctypes.CDLL(None).syscall(298, attributes, 0, -1, -1, 0)
    if fd >= 0:
        os.close(fd)
    return fd < 0


def site_gaps(report):
    return [gap for gap in report["session"]["gaps"] if gap["rung"] == "sites"]


def expect_first(report, truth):
    """The first site is the leaking line, by faults; on a machine without perf events, a gap says so."""
    if perf_refused():
        assert any("perf" in gap["reason"] and gap["remedy"] for gap in site_gaps(report)), site_gaps(report)
        return None
    assert report["sites"], f"no sites: {site_gaps(report)}"
    site = report["sites"][0]
    assert judge.is_leak(site, truth), f"{[(f['function'], f['line']) for f in site['frames'][:6]]}, not {truth['function']}:{truth['line']}"
    assert site["source"] == "faults", site["source"]
    return site


def expect_among(report, truth):
    """The leaking line is among the sites: in a heap under churn the first to touch a page may be the churn, see sources.c."""
    if perf_refused():
        expect_first(report, truth)
        return
    assert any(judge.is_leak(site, truth) for site in report["sites"]), report["sites"]
    assert report["sites"][0]["source"] == "faults", report["sites"][0]["source"]


def watched(bench, victim, *args):
    target = bench.victim(victim, SECONDS + 30, *args)
    report = bench.memwatch("--pid", target.pid, "-q", "--sites", "faults", "-d", SECONDS).expect(0).report
    assert target.alive(), f"the target ended with status {target.status}"
    return report, target.truth


@test()
def test_who_made_rss_grow(bench):
    report, truth = watched(bench, "site_c", "malloc", "--rate", 4 << 20, "--threads", 2)
    site = expect_first(report, truth)
    if site:
        assert report["cost"]["stops"] == 0, "faults stop nothing"
        assert site["bytes_low"] <= site["bytes"] <= site["bytes_high"], site
        assert 1 << 20 < site["bytes_per_s"] < 16 << 20, f"{site['bytes_per_s']} of {truth['bytes_per_s']}"


@test()
def test_mappings_that_are_never_given_back(bench):
    """Page faults name who touched the mapping first: the memset behind the mmap, in the same function."""
    report, truth = watched(bench, "site_c", "mmap", "--size", 65536, "--rate", 4 << 20)
    expect_first(report, dict(truth, line=truth["line"] + 4))


@test()
def test_a_static_program(bench):
    expect_among(*watched(bench, "site_static", "hash", "--rate", 4 << 20))


@test()
def test_a_table_that_was_there_before_is_not_growth(bench):
    expect_among(*watched(bench, "site_cxx", "array", "--table", 64, "--rate", 2 << 20, "--threads", 4))


@test()
def test_faults_from_run(bench):
    result = bench.memwatch("run", "-q", "--sites", "faults", "--", f"{VICTIMS}/site_c", SECONDS, "strdup", "--rate", 4 << 20).expect(0)
    expect_among(result.report, judge.harness.first_truth(result))


@test()
def test_refused_perf_is_a_gap_with_its_remedy(bench):
    target = bench.victim("site_c", 40, "malloc", "--rate", 4 << 20)
    report = bench.memwatch("--pid", target.pid, "-q", "--sites", "faults", "-d", 3, preexec_fn=refuse_perf).expect(0).report
    gaps = [gap for gap in site_gaps(report) if "perf" in gap["reason"]]
    assert gaps and gaps[0]["remedy"], site_gaps(report)
    assert all(site["source"] != "faults" for site in report["sites"])
