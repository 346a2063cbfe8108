# SPDX-License-Identifier: GPL-3.0-or-later
"""Call sites of a running process, unless told otherwise: who asked for the memory where a call tells it, else who touched it first."""
from harness import expect_site, need, test
from test_sites_faults import perf_refused

SECONDS = 15


def watched(bench, name):
    victim = bench.victim(name, SECONDS + 10)
    report = bench.memwatch("--pid", victim.pid, "-q", "-d", SECONDS).expect(0).report
    assert victim.alive(), f"the target ended with status {victim.status}"
    expect_site(report, victim.truth)
    return report


@test()
def test_the_call_that_asked_is_named(bench):
    """Not the memset that touched the mapping first."""
    report = watched(bench, "leak_mmap")
    assert report["sites"][0]["source"] == "stacks" and report["sites"][0]["exact"], report["sites"][0]


@test()
def test_growth_without_calls_is_named_too(bench):
    """The calls that a small part of the growth was made by do not stand for all of it."""
    need(not perf_refused(), "perf events are refused here")
    report = watched(bench, "touch_pool")
    assert report["sites"][0]["source"] == "faults", report["sites"][0]
    assert report["sites"][0]["share"] > 0.8, report["sites"]


@test()
def test_both_sources_keep_to_the_budget(bench):
    """The default is 2 % of one core, for all that memwatch does; a stop holds the target 1 ms, and a late scheduler some more."""
    report = watched(bench, "demo_server")
    cost = report["cost"]
    assert cost["cpu_percent"] <= 2.5, cost
    assert cost["stopped_ns_total"] < 0.01 * report["session"]["duration_s"] * 1e9, cost
