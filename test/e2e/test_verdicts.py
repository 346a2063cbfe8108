# SPDX-License-Identifier: GPL-3.0-or-later
"""The class that each victim is known to be, by `run` and by --pid, within 30 seconds."""
from harness import VICTIMS, expect_site, first_truth, test

SECONDS = 25

# What is asked of sites: nothing; the leaking function is the first; or, where a hundred short-lived blocks are taken for each that
# stays, it is the first or no site is named at all and a gap says why. A wrong function is never allowed.
NO_SITE, FIRST, FIRST_OR_GAP = range(3)

# victim, where, sites
CASES = (
    ("demo_server", "heap", FIRST),
    ("leak_churn", "heap", FIRST_OR_GAP),
    ("leak_threads", "heap", FIRST_OR_GAP),
    ("leak_mmap", "anon", FIRST),
    ("leak_big", "heap", FIRST),
    ("leak_cpp", "heap", FIRST_OR_GAP),
    ("cache_fill", None, NO_SITE),
    ("frag_middle", None, NO_SITE),
    ("freed_untrimmed", None, NO_SITE),
    ("churn", None, NO_SITE),
    ("burst", None, NO_SITE),
    ("step_once", None, NO_SITE),
    ("staircase", None, NO_SITE),
    ("exec_chain", "heap", FIRST),
    ("leak_churn_static", "heap", NO_SITE),
    ("leak_churn_stripped", "heap", NO_SITE),
)


def expect_verdict(result, truth, where, sites):
    verdict = result.verdict
    assert verdict["class"] in truth["expected"], f"{verdict['class']}, not {truth['expected']}: {verdict['summary']} " + str(
        [e["text"] for e in verdict["evidence"]])
    assert 0 < verdict["confidence"] <= 1
    assert verdict["evidence"], "a verdict without evidence"
    if where:
        assert verdict["where"] == where, f"where: {verdict['where']}, not {where}"
    if "cause" in truth:
        assert verdict["cause"] == truth["cause"], f"cause: {verdict['cause']}, not {truth['cause']}"
    if verdict["class"] == "leak":
        assert verdict["kind"] == "suspected", verdict["kind"]
    if sites == FIRST or (sites == FIRST_OR_GAP and result.report["sites"]):
        expect_site(result.report, truth, 1)
    elif sites == FIRST_OR_GAP:
        assert any(gap["rung"] == "sites" for gap in result.report["session"]["gaps"]), "neither a site nor a reason"
    expect_rate(result.report, truth, where)
    expect_cost(result.report)


def expect_rate(report, truth, where):
    """The slope that the report gives is the truth within a tenth."""
    if "bytes_per_s" not in truth or "heap_in_use_bytes" not in report["metrics"]:
        return
    metric = report["metrics"]["heap_in_use_bytes" if where == "heap" else "rss_bytes"]
    slope = metric["slope_per_s"]["value"]
    assert 0.9 < slope / truth["bytes_per_s"] < 1.1, f"{slope:.0f} bytes/s, not {truth['bytes_per_s']}"


def expect_cost(report):
    cost = report["cost"]
    assert cost["stopped_ns_max"] < 50_000_000, f"a stop of {cost['stopped_ns_max'] / 1e6} ms"
    assert cost["rss_peak_bytes"] < 64 << 20, f"memwatch took {cost['rss_peak_bytes'] >> 20} MiB"


def by_pid(name, where, sites):
    def run(bench):
        victim = bench.victim(name, SECONDS + 6)
        result = bench.memwatch("--pid", victim.pid, "-d", f"{SECONDS}s").expect(0)
        expect_verdict(result, victim.truth, where, sites)
        assert victim.alive(), "the target ended"

    return run


def by_run(name, where, sites):
    def run(bench):
        watched = bench.watch("run", "--", f"{VICTIMS}/{name}", SECONDS)
        result = watched.wait().expect(0)
        truth = first_truth(result)
        expect_verdict(result, truth, where, sites)
        assert result.report["target"]["exit"] == {"code": 0, "signal": None}, result.report["target"]["exit"]
        assert f"verdict: {result.verdict['class']}" in result.out, "no verdict in the text"

    return run


for case in CASES:
    for how, make in (("pid", by_pid), ("run", by_run)):
        function = make(*case)
        function.__name__, function.__module__ = f"test_{how}_{case[0]}", __name__
        test(timeout=SECONDS + 45)(function)
