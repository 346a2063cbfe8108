# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals reach whom they should, and a target outlives memwatch, whatever happens to memwatch."""
import os
import pty
import random
import signal
import time

from harness import (MEMWATCH, VICTIMS, children_of, cpu_ticks, first_truth, need_program, proc_state, proc_status, test,
                     thread_states)


def expect_unharmed(bench, pid):
    """Running, untraced, no thread stopped, and it gets work done."""

    def at_rest():
        return all(state in "RSD" and tracer == 0 for state, tracer in thread_states(pid))

    bench.until(at_rest, f"all threads of {pid} running and untraced: {thread_states(pid)}", 2)
    before = cpu_ticks(pid)
    bench.until(lambda: cpu_ticks(pid) > before, f"{pid} to do some work", 10)


@test(timeout=90)
def test_kill_9_of_memwatch_leaves_the_target_alone(bench):
    chance = random.Random(4099)
    victim = bench.victim("leak_threads", 80)
    for _ in range(25):
        watching = bench.watch("--pid", victim.pid, "--budget", "50", report=False)
        time.sleep(chance.uniform(0.005, 0.8))
        assert watching.alive(), f"memwatch ended: {watching.err[-300:]!r}"
        watching.signal(signal.SIGKILL)
        watching.wait()
        assert victim.alive(), f"the target ended: {victim.status}"
        expect_unharmed(bench, victim.pid)


@test()
def test_kill_9_of_memwatch_leaves_its_child_running(bench):
    for pause in (0.02, 0.3, 1.5):
        watching = bench.watch("run", "--", f"{VICTIMS}/leak_churn", 30, report=False)
        watching.wait_for_output("}\n")
        child = first_truth(watching)["pid"]
        bench.adopt(child)
        time.sleep(pause)
        watching.signal(signal.SIGKILL)
        watching.wait()
        expect_unharmed(bench, child)


@test()
def test_ctrl_c_ends_the_watching_not_the_target(bench):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        victim = bench.victim("leak_threads", 30)
        watching = bench.watch("--pid", victim.pid)
        time.sleep(4)
        watching.signal(number)
        result = watching.wait(5).expect(0)
        assert result.report["session"]["samples"] > 20 and "verdict: " in result.out
        expect_unharmed(bench, victim.pid)


@test()
def test_a_second_ctrl_c_gives_up_at_once(bench):
    victim = bench.victim("leak_threads", 30)
    watching = bench.watch("--pid", victim.pid)
    time.sleep(1)
    assert watching.alive(), f"memwatch ended: {watching.err[-300:]!r}"
    watching.signal(signal.SIGINT)
    watching.signal(signal.SIGINT)
    watching.wait(3)
    expect_unharmed(bench, victim.pid)


def start_signals_child(bench, *wrapper, **options):
    path = bench.path("report.json")
    watching = bench.start(*wrapper, MEMWATCH, "run", "--quiet", "-o", path, "--", f"{VICTIMS}/signals_child", 30, **options)
    watching.report_path = path
    watching.wait_for_output("}\n")
    return watching, first_truth(watching)["pid"]


@test()
def test_run_passes_signals(bench):
    """Ctrl-C at a terminal reaches the child as it would without memwatch: once. SIGTERM to memwatch alone is passed on."""
    master, slave = pty.openpty()
    watching, child = start_signals_child(bench, need_program("setsid"), "-c", stdin=slave)
    os.close(slave)
    os.write(master, b"\x03")
    watching.wait_for_output("signal 2\n")
    os.kill(child, signal.SIGUSR1)
    watching.wait_for_output("signal 10\n")
    time.sleep(0.3)
    assert watching.alive(), "memwatch left at the first Ctrl-C although its child goes on"
    watching.signal(signal.SIGTERM)
    watching.wait_for_output("signal 15\n")
    result = watching.wait().expect(43)
    os.close(master)
    for number in (2, 10, 15):
        assert result.out.count(f"signal {number}\n") == 1, result.out
    assert result.report["target"]["exit"] == {"code": 43, "signal": None}


@test()
def test_run_stops_and_goes_on(bench):
    """Ctrl-Z: the child stops, memwatch stops too, and both go on with SIGCONT."""
    watching, child = start_signals_child(bench, process_group=0)
    time.sleep(0.5)
    watching.signal_group(signal.SIGTSTP)
    bench.until(lambda: proc_state(child) in "Tt" and proc_state(watching.pid) == "T", "both to stop", 5)
    time.sleep(0.3)
    assert proc_state(child) in "Tt", "the child went on by itself"
    watching.signal_group(signal.SIGCONT)
    bench.until(lambda: proc_state(child) in "RS" and proc_state(watching.pid) in "RS", "both to go on", 5)
    os.kill(child, signal.SIGTERM)
    result = watching.wait(10).expect(43)
    assert "signal 15\n" in result.out


@test()
def test_a_stopped_target_stays_stopped(bench):
    """memwatch attaches to a job that is stopped: it must not wake it."""
    victim = bench.victim("leak_threads", 30)
    victim.signal(signal.SIGSTOP)
    bench.until(lambda: proc_state(victim.pid) == "T", "the target to stop")
    watching = bench.watch("--pid", victim.pid, "-d", "3")
    while watching.alive():
        assert proc_state(victim.pid) in "Tt", f"state {proc_state(victim.pid)}"
        time.sleep(0.05)
    watching.wait().expect(0)
    bench.until(lambda: proc_state(victim.pid) == "T", "the target to be stopped and untraced", 2)
    victim.signal(signal.SIGCONT)
    expect_unharmed(bench, victim.pid)


@test()
def test_a_target_that_is_stopped_while_watched(bench):
    victim = bench.victim("leak_threads", 30)
    watching = bench.watch("--pid", victim.pid, "-d", "5")
    time.sleep(1.5)
    victim.signal(signal.SIGSTOP)
    time.sleep(1)
    assert proc_state(victim.pid) in "Tt"
    victim.signal(signal.SIGCONT)
    watching.wait().expect(0)
    expect_unharmed(bench, victim.pid)


@test()
def test_the_watching_ends_with_the_target(bench):
    for end in ("exit", "kill"):
        victim = bench.victim("leak_churn", 3 if end == "exit" else 30)
        watching = bench.watch("--pid", victim.pid)
        if end == "kill":
            time.sleep(2)
            victim.signal(signal.SIGKILL)
        bench.until(lambda v=victim: v.poll() is not None, "the target to end", 10)
        result = watching.wait(5).expect(0)
        assert result.report["session"]["duration_s"] < 8 and result.report["metrics"]["rss_bytes"]["last"] > 0


@test()
def test_two_watchers_of_one_target(bench):
    victim = bench.victim("leak_threads", 30)
    first = bench.watch("--pid", victim.pid, "-d", "6")
    second = bench.watch("--pid", victim.pid, "-d", "6")
    first.wait().expect(0)
    second.wait().expect(0)
    expect_unharmed(bench, victim.pid)


@test()
def test_no_child_of_memwatch_is_left(bench):
    watching = bench.watch("run", "-d", "2", "--", "sleep", "4099")
    bench.until(lambda: children_of(watching.pid), "the child", 5)
    child = children_of(watching.pid)[0]
    assert watching.wait(15).report
    assert proc_status(child).get("State", "X")[:1] in "XZ", "the child is still there"
