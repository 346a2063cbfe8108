# SPDX-License-Identifier: GPL-3.0-or-later
"""The class that each victim is known to be, by `run` and by --pid, within 30 seconds."""
from harness import VICTIMS, expect_site, first_truth, test

SECONDS = 25

# victim, where, how many sites the leaking function must be among (0: not asked)
CASES = (
    ("demo_server", "heap", 1),
    ("leak_churn", "heap", 3),
    ("leak_threads", "heap", 3),
    ("leak_mmap", "anon", 1),
    ("leak_big", "heap", 1),
    ("leak_cpp", "heap", 1),
    ("cache_fill", None, 0),
    ("frag_middle", None, 0),
    ("freed_untrimmed", None, 0),
    ("churn", None, 0),
    ("burst", None, 0),
    ("step_once", None, 0),
    ("staircase", None, 0),
    ("exec_chain", "heap", 1),
    ("leak_churn_static", "heap", 0),
    ("leak_churn_stripped", "heap", 0),
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
    if sites:
        expect_site(result.report, truth, sites)
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
