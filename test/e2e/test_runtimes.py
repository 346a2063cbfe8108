# SPDX-License-Identifier: GPL-3.0-or-later
"""Language runtimes, read from outside, held against what they say of themselves."""
import re

from harness import MEMWATCH, need, parse_report, test

MIB = 1 << 20

# Holds small objects, says by sys._debugmallocstats() on stderr what pymalloc has in use, and sleeps.
HOLDER = """
import gc, os, sys, time
held = [(i, [i]) for i in range(int(sys.argv[1]))]
gc.collect()
gc.freeze()
sys._debugmallocstats()
os.write(1, b"ready\\n")
time.sleep(60)
"""


def hold(bench, count, python="/usr/bin/python3"):
    """A python that holds so many tuples and lists, and what pymalloc says that is in use."""
    holder = bench.start(python, "-c", HOLDER, count)
    holder.wait_for_output("ready\n", 30)
    found = re.search(r"# bytes in allocated blocks *= *([0-9,]+)", holder.err)
    need(found, f"no pymalloc in {python}: {holder.err[:200]!r}")
    return holder, int(found[1].replace(",", ""))


def expect_near(value, truth, share, what):
    assert value is not None, f"{what} is not known, it is {truth}"
    assert abs(value - truth) <= share * truth, f"{what} is {value}, not {truth}: {(value / truth - 1) * 100:+.2f} %"


@test()
def test_python_is_read(bench):
    holder, truth = hold(bench, 300000)
    assert truth > 32 * MIB, truth
    report = bench.memwatch("--pid", holder.pid, "-d", "3").expect(0).report
    assert report["target"]["runtime"] and report["target"]["runtime"]["name"] == "cpython", report["target"]["runtime"]
    assert re.fullmatch(r"3\.[0-9]+(\.[0-9]+.*)?", report["target"]["runtime"]["version"]), report["target"]["runtime"]
    assert report["runtime"], f"no figures; gaps: {report['session']['gaps']}"
    expect_near(report["runtime"]["in_use_bytes"], truth, 0.02, "runtime.in_use_bytes")
    assert report["runtime"]["committed_bytes"] >= report["runtime"]["in_use_bytes"]
    assert "runtime" in report["session"]["rungs"], report["session"]["rungs"]
    assert report["cost"]["stops"] == 0
    assert holder.alive()


@test()
def test_a_report_with_a_runtime_reads_back(bench):
    holder, _ = hold(bench, 100000)
    watching = bench.watch("--pid", holder.pid, "-d", "2")
    report = watching.wait().expect(0).report
    assert report["runtime"], f"no figures; gaps: {report['session']['gaps']}"
    part = report["target"]["runtime"]
    again = bench.memwatch("report", watching.report_path, report=False).expect(0)
    same = bench.memwatch("report", watching.report_path, "--format", "json", report=False).expect(0)
    assert parse_report(same.out)["runtime"] == report["runtime"]
    assert f"\nruntime ({part['name']} {part['version']}, found by {part['found_by']})\n" in again.out, again.out[-2000:]
    for name in ("in use", "committed"):
        assert re.search(rf"(?m)^  {name} +[0-9.]+ MiB$", again.out), again.out[-2000:]


@test()
def test_a_runtime_is_found_again_after_exec(bench):
    """A shell that becomes a python is one, and a python that becomes another program is none."""
    script = "import os, time; held = [[i] for i in range(99999)]; time.sleep(1); os._exit(0)"
    result = bench.memwatch("run", "--", "/bin/sh", "-c", f"sleep 0.3; exec /usr/bin/python3 -c '{script}'")
    result.expect(0)
    assert result.report["target"]["runtime"]["name"] == "cpython", result.report["target"]["runtime"]
    assert result.report["runtime"]["in_use_bytes"] > 2 * MIB, result.report["runtime"]
    script = "import os, time; time.sleep(0.5); os.execv('/bin/sleep', ['sleep', '0.7'])"
    result = bench.memwatch("run", "--", "/usr/bin/python3", "-c", script)
    result.expect(0)
    assert result.report["target"]["runtime"] is None, result.report["target"]["runtime"]
    assert result.report["runtime"] is None, result.report["runtime"]


@test()
def test_a_program_without_a_runtime_has_none(bench):
    result = bench.memwatch("run", "--", "/bin/sleep", "1").expect(0)
    assert result.report["target"]["runtime"] is None and result.report["runtime"] is None
    assert not [gap for gap in result.report["session"]["gaps"] if gap["rung"] == "runtime"], result.report["session"]["gaps"]


@test()
def test_doctor_names_the_runtime(bench):
    holder, _ = hold(bench, 1000)
    found = bench.start(MEMWATCH, "doctor", holder.pid).wait().expect(0)
    assert re.search(r"(?m)^  ok +runtime +cpython 3\.\S+, found by \w+$", found.out), found.out
    own = bench.start(MEMWATCH, "doctor").wait().expect(0)
    assert re.search(r"(?m)^  ok +runtime +none", own.out), own.out


@test()
def test_analyze_keeps_what_the_runtime_said(bench):
    holder, _ = hold(bench, 100000)
    watching = bench.watch("--pid", holder.pid, "-d", "2")
    report = watching.wait().expect(0).report
    again = parse_report(bench.memwatch("analyze", "--json", watching.report_path, report=False).expect(0).out)
    assert report["runtime"] and again["runtime"] == report["runtime"], again["runtime"]
    assert again["target"]["runtime"] == report["target"]["runtime"], again["target"]["runtime"]


@test()
def test_what_a_runtime_held_is_not_what_its_end_left(bench):
    """An interpreter frees all of its objects as it ends: the report says what the program held."""
    script = "import sys, time; held = [[i] for i in range(99999)]; time.sleep(1.5)"
    result = bench.memwatch("run", "--", "/usr/bin/python3", "-c", script).expect(0)
    assert result.report["runtime"]["in_use_bytes"] > 8 * MIB, result.report["runtime"]
