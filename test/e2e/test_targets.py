# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets of every kind: short, large, many, foreign, namespaced, traced, changing while they are watched."""
import os
import shutil
import subprocess
import sys

from harness import (VICTIMS, children_of, expect_site, first_truth, names, need, need_program, need_root, proc_status,
                     test)

MIB = 1 << 20
SCRIPTS = os.path.dirname(os.path.abspath(__file__))


def descendants(pid):
    found = []
    for child in children_of(pid):
        found += [child] + descendants(child)
    return found


@test(alone=True)
def test_a_process_of_50_ms_gets_20_samples(bench):
    best = 0
    for _ in range(3):
        report = bench.memwatch("run", "--", f"{VICTIMS}/short_50ms").expect(0).report
        best = max(best, report["session"]["samples"])
        assert report["metrics"]["rss_bytes"]["max"] > 10 * MIB, "the final sample and the kernel's peak are missing"
        if best >= 20:
            return
    raise AssertionError(f"{best} samples")


@test()
def test_the_last_sample_is_exact(bench):
    """Memory taken in the last instant before the end is in the report, by the exit event."""
    script = "import ctypes, os; p = ctypes.CDLL(None).malloc; b = bytearray(b'x' * (64 << 20)); os._exit(0)"
    report = bench.memwatch("run", "--", "/usr/bin/python3", "-c", script).expect(0).report
    rss = report["metrics"]["rss_bytes"]
    assert rss["last"] > 64 * MIB, f"last {rss['last']}"
    assert rss["max"] > 64 * MIB


@test()
def test_a_thousand_threads(bench):
    victim = bench.victim("many_threads", 30)
    need(victim.truth["threads"] == 1001, f"only {victim.truth['threads']} threads here")
    result = bench.memwatch("--pid", victim.pid, "-d", "6").expect(0)
    assert result.report["target"]["threads"] == 1001
    assert result.verdict["class"] in ("stable", "insufficient-data"), result.verdict
    assert 0 < result.peak_bytes <= 24 * MIB, f"memwatch took {result.peak_bytes / MIB:.1f} MiB"


@test()
def test_fifty_thousand_mappings(bench):
    victim = bench.victim("many_maps", 40)
    need(victim.truth["mappings"] == 50000, f"only {victim.truth['mappings']} mappings here")
    result = bench.memwatch("--pid", victim.pid, "-d", "10").expect(0)
    assert result.verdict["class"] == "stable", result.verdict
    assert 0 < result.peak_bytes <= 24 * MIB, f"memwatch took {result.peak_bytes / MIB:.1f} MiB"
    assert result.report["cost"]["rss_peak_bytes"] <= 24 * MIB
    assert result.report["cost"]["cpu_percent"] < 10, result.report["cost"]


@test()
def test_a_target_that_is_traced(bench):
    victim = bench.victim("leak_churn", 40)
    tracer = bench.start(sys.executable, os.path.join(SCRIPTS, "tracer.py"), victim.pid, 40)
    bench.until(lambda: "tracing" in tracer.out or not tracer.alive(), "the tracer")
    need(tracer.alive(), f"ptrace is refused here: {tracer.err}")
    result = bench.memwatch("--pid", victim.pid, "-d", "15").expect(0)
    gaps = [gap for gap in result.report["session"]["gaps"] if gap["rung"] == "sites"]
    assert gaps and str(tracer.pid) in gaps[0]["reason"], result.report["session"]["gaps"]
    assert result.report["cost"]["stops"] == 0
    assert result.verdict["class"] == "leak", "heap truth needs no ptrace"
    assert proc_status(victim.pid)["TracerPid"] == str(tracer.pid), "the other tracer lost its target"


@test()
def test_a_deleted_executable(bench):
    program = os.path.join(bench.dir, "gone")
    shutil.copy(f"{VICTIMS}/demo_server", program)
    victim = bench.victim("demo_server", 30, program=program)
    os.unlink(program)
    result = bench.memwatch("--pid", victim.pid, "-d", "15").expect(0)
    assert result.verdict["class"] == "leak", result.verdict
    expect_site(result.report, victim.truth)


@test()
def test_a_stripped_program_has_places_for_names(bench):
    program = os.path.join(bench.dir, "stripped")
    subprocess.run(["strip", "-o", program, f"{VICTIMS}/demo_server"], check=True)
    victim = bench.victim("demo_server", 30, program=program)
    report = bench.memwatch("--pid", victim.pid, "-d", "15").expect(0).report
    assert report["verdict"]["class"] == "leak"
    found = [name for site in range(1, len(report["sites"]) + 1) for name in names(report, site)]
    assert found and all(found), "an empty function name"
    assert any(name.startswith("stripped+0x") for name in found), found[:20]


@test()
def test_a_pid_namespace(bench):
    need_root()
    unshare = need_program("unshare")
    outer = bench.start(unshare, "-fp", "--mount-proc", f"{VICTIMS}/demo_server", 40)
    bench.until(lambda: "}\n" in outer.out or not outer.alive(), "the truth")
    need(outer.alive(), f"no pid namespaces here: {outer.err}")
    truth = first_truth(outer)
    assert truth["pid"] == 1, "not in a namespace of its own"
    inner = children_of(outer.pid)[0]
    bench.adopt(inner)
    result = bench.memwatch("--pid", inner, "-d", "15").expect(0)
    assert result.verdict["class"] == "leak", result.verdict
    expect_site(result.report, truth)


@test()
def test_a_mount_namespace(bench):
    """The program's file can be seen in the target's file system only."""
    need_root()
    unshare = need_program("unshare")
    inside = os.path.join(bench.dir, "inside")
    os.mkdir(inside)
    script = f"mount -t tmpfs none {inside} && cp {VICTIMS}/demo_server {inside}/ && exec {inside}/demo_server 40"
    victim = bench.start(unshare, "-m", "sh", "-c", script)
    bench.until(lambda: "}\n" in victim.out or not victim.alive(), "the truth")
    need(victim.alive(), f"no mount namespaces here: {victim.err}")
    assert os.listdir(inside) == []
    result = bench.memwatch("--pid", victim.pid, "-d", "15").expect(0)
    expect_site(result.report, first_truth(victim))


def expect_tree(report, truth, main):
    """Every process has its entry, and only the leaker leaks."""
    by_pid = {entry["target"]["pid"]: entry for entry in report["processes"]}
    for role in ("idle", "leaker", "program", "daemon"):
        assert truth[role] in by_pid, f"{role} ({truth[role]}) is not in processes[]: {sorted(by_pid)}"
    assert main in by_pid
    assert by_pid[truth["leaker"]]["verdict"]["class"] == "leak", by_pid[truth["leaker"]]["verdict"]["summary"]
    for role in ("idle", "program", "daemon"):
        verdict = by_pid[truth[role]]["verdict"]
        assert verdict["class"] in ("stable", "insufficient-data", "warmup", "step"), f"{role}: {verdict['summary']}"
    assert by_pid[truth["leaker"]]["target"]["comm"] == "leaker"
    assert by_pid[truth["program"]]["target"]["comm"] == "sleep"


@test(timeout=90)
def test_children_of_a_run(bench):
    watching = bench.watch("run", "--children", "--", f"{VICTIMS}/fork_tree", 20)
    watching.wait_for_output("}\n")
    truth = first_truth(watching)
    bench.adopt(truth["daemon"])
    result = watching.wait()
    expect_tree(result.expect(0).report, truth, truth["pid"])


@test(timeout=90)
def test_children_of_an_attached_process(bench):
    victim = bench.victim("fork_tree", 40)
    for child in descendants(victim.pid) + [victim.truth["daemon"]]:
        bench.adopt(child)
    report = bench.memwatch("--pid", victim.pid, "--children", "-d", "20").expect(0).report
    by_pid = {entry["target"]["pid"]: entry for entry in report["processes"]}
    for role in ("idle", "leaker", "program"): # the daemon's parent was gone before we came
        assert victim.truth[role] in by_pid, f"{role} is not in processes[]"
    assert by_pid[victim.truth["leaker"]]["verdict"]["class"] == "leak"


@test()
def test_children_of_a_shell_pipeline(bench):
    """Short-lived children come and go; memwatch follows and the shell's status is right."""
    script = "for i in 1 2 3 4 5 6 7 8 9 10; do head -c 100000 /dev/zero | wc -c; done; exit 5"
    result = bench.memwatch("run", "--children", "--", "sh", "-c", script).expect(5)
    assert result.out.count("100000\n") == 10
    assert len(result.report["processes"]) >= 2


@test()
def test_exec_while_watched(bench):
    """A target that becomes another program keeps its pid: the walkers and symbols must start anew."""
    script = f"sleep 3; exec {VICTIMS}/demo_server 30"
    target = bench.start("sh", "-c", script)
    report = bench.memwatch("--pid", target.pid, "-d", "20").expect(0).report
    assert report["target"]["comm"] == "demo_server", report["target"]["comm"]
    assert report["verdict"]["where"] == "heap", report["verdict"]
    expect_site(report, first_truth(target))


@test()
def test_itself(bench):
    """memwatch watching memwatch: its series fill at first, but nothing of it leaks."""
    victim = bench.victim("leak_threads", 40)
    first = bench.watch("--pid", victim.pid, "-d", "25")
    result = bench.memwatch("--pid", first.pid, "-d", "15").expect(0)
    assert result.verdict["class"] != "leak", result.verdict["summary"]
    assert first.wait().expect(0).peak_bytes <= 24 * MIB
