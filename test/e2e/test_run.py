# SPDX-License-Identifier: GPL-3.0-or-later
"""`run`: the child is as without memwatch, its end is memwatch's business, and the report gets written."""
import json
import os
import resource
import signal
import sys
import time

from harness import MEMWATCH, VICTIMS, children_of, need, parse_report, parse_stream, proc_state, proc_status, test

PYTHON = os.path.realpath(sys.executable)
DEAF = "import signal, os, time\nfor n in (2, 15): signal.signal(n, signal.SIG_IGN)\nprint(os.getpid(), flush=True)\ntime.sleep(30)"


def is_over(pid):
    return proc_status(pid).get("State", "X")[:1] in "XZ"


def start_deaf_child(bench, *options):
    """A child that ignores SIGINT and SIGTERM; memwatch alone gets the signals that are sent."""
    watching = bench.watch("run", "--quiet", *options, "--", PYTHON, "-c", DEAF)
    watching.wait_for_output("\n")
    child = int(watching.out.split()[0])
    bench.adopt(child)
    return watching, child


@test()
def test_a_report_that_cannot_be_written_does_not_leave_the_child(bench):
    need(os.path.exists("/dev/full"), "/dev/full is missing")
    watching = bench.watch("run", "-q", "-d", "1", "-o", "/dev/full", "--", "sleep", "4099", report=False)
    bench.until(lambda: children_of(watching.pid), "the child", 5)
    child = children_of(watching.pid)[0]
    bench.adopt(child)
    result = watching.wait(15).expect(1)
    assert "cannot write '/dev/full'" in result.err, result.err
    assert is_over(child), "the child is still there"


@test()
def test_a_closed_pager_does_not_cost_the_report(bench):
    path = bench.path("report.json")
    bench.start("sh", "-c", f"'{MEMWATCH}' run -q -o '{path}' -- sleep 0.5 | true").wait(10)
    bench.until(lambda: os.path.exists(path), "the report", 5)
    with open(path, encoding="utf-8") as file:
        assert parse_report(file.read())["target"]["exit"] == {"code": 0, "signal": None}


@test()
def test_the_stream_ends_with_bye(bench):
    path = bench.path("stream")
    bench.memwatch("run", "-q", "-d", "1", "--stream", path, "--", "sleep", "4099").expect(128 + signal.SIGTERM)
    with open(path, encoding="utf-8") as file:
        assert parse_stream(file.read())[-1]["type"] == "bye"


@test()
def test_the_first_ctrl_c_does_not_keep_the_child_from_being_ended(bench):
    watching, child = start_deaf_child(bench, "-d", "1")
    time.sleep(2)
    watching.signal(signal.SIGINT)
    watching.wait(10).expect(128 + signal.SIGKILL)
    assert is_over(child), "the child is still there"


@test()
def test_giving_up_is_no_success(bench):
    watching, child = start_deaf_child(bench)
    watching.signal(signal.SIGINT)
    time.sleep(0.3)
    watching.signal(signal.SIGINT)
    watching.wait(5).expect(128 + signal.SIGINT)
    assert not is_over(child), "the child was ended"


@test()
def test_an_ignored_sigchld_is_inherited(bench):
    def ignore():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    result = bench.memwatch("run", "-q", "--", "grep", "SigIgn", "/proc/self/status", preexec_fn=ignore)
    mask = int(result.out.split("SigIgn:")[1].split()[0], 16)
    assert mask & 1 << (signal.SIGCHLD - 1), result.out
    assert result.status == 0


@test()
def test_sigquit_is_the_childs(bench):
    """Ctrl-\\ makes a JVM print its threads and go on; memwatch goes on too."""
    code = "import signal, time\nsignal.signal(3, lambda *_: print('dump', flush=True))\nprint('up', flush=True)\ntime.sleep(2)"
    watching = bench.watch("run", "-q", "--", PYTHON, "-c", code)
    watching.wait_for_output("up\n")
    watching.signal(signal.SIGQUIT)
    watching.wait_for_output("dump\n")
    assert watching.wait(10).expect(0).report["target"]["exit"] == {"code": 0, "signal": None}


@test(timeout=90)
def test_children_that_ended_hold_no_descriptors(bench):
    def few_files():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    turn = f"'{VICTIMS}/leak_churn' 1 & '{VICTIMS}/leak_churn' 1 & '{VICTIMS}/leak_churn' 1 & wait"
    result = bench.memwatch("run", "-q", "--children", "--", "sh", "-c", "; ".join([f"{{ {turn}; }}"] * 8), preexec_fn=few_files)
    gaps = [g["reason"] for g in result.expect(0).report["session"]["gaps"]]
    assert not [g for g in gaps if "open files" in g], gaps
    assert len(result.report["processes"]) == 25, len(result.report["processes"])


@test(timeout=90)
def test_children_that_ended_take_no_part_of_the_budget(bench):
    path = bench.path("stream")
    script = f"i=0; while [ $i -lt 250 ]; do /bin/true; i=$((i+1)); done; exec '{VICTIMS}/leak_churn' 6"
    result = bench.memwatch("run", "-q", "--children", "--stream", path, "--", "sh", "-c", script).expect(0)
    with open(path, encoding="utf-8") as file:
        events = parse_stream(file.read())
    pid, started = result.report["target"]["pid"], max(e["t_s"] for e in events if e.get("event") == "exec")
    looks = [e for e in events if e["type"] == "sample" and e["pid"] == pid and e["t_s"] > started and e.get("heap_in_use_bytes")]
    assert len(looks) >= 10, f"{len(looks)} looks at the heap in 6 s"


@test(alone=True)
def test_a_fork_does_not_wait_for_the_end_of_listening(bench):
    """Held for the caller is a fork only as long as it takes to note it, also while stacks are taken."""
    result = bench.memwatch("run", "-q", "--children", "--sites", "stacks", "--budget", "100", "--", f"{VICTIMS}/forks", 7).expect(0)
    seen = json.loads(result.out.split("\n")[1])
    assert result.report["cost"]["stops"] > 0 and seen["forks"] > 50, (result.report["cost"], seen)
    assert seen["slow"] <= 2, seen


@test()
def test_the_end_of_the_main_thread_is_not_the_end(bench):
    """Under run the child's status is waited for; under --pid memwatch says what it cannot see any more, and not that it ended."""
    result = bench.memwatch("run", "-q", "--", f"{VICTIMS}/main_exits", 3).expect(7)
    assert result.report["target"]["exit"] == {"code": 7, "signal": None}
    victim = bench.victim("main_exits", 8)
    result = bench.memwatch("--pid", victim.pid).expect(0)
    assert victim.alive() and result.report["target"]["exit"] is None, result.report["target"]["exit"]
    gaps = [g for g in result.report["session"]["gaps"] if "main thread" in g["reason"]]
    assert gaps and gaps[0]["remedy"].startswith("memwatch --pid "), result.report["session"]["gaps"]
    assert ", ended" not in result.out, result.out


@test()
def test_an_exec_by_another_thread_is_seen(bench):
    """It ends the traced main thread without an event; the new program is watched from its beginning, job control included."""
    program = f"{VICTIMS}/leak_churn"
    code = f"""import os, threading, time
threading.Thread(target=lambda: (time.sleep(0.7), os.execv({program!r}, [{program!r}, '4']))).start()
time.sleep(60)"""
    watching = bench.watch("run", "-q", "--", PYTHON, "-c", code, process_group=0)
    watching.wait_for_output("}\n")
    child = children_of(watching.pid)[0]
    time.sleep(0.5)
    watching.signal_group(signal.SIGTSTP)
    bench.until(lambda: proc_state(child) in "Tt" and proc_state(watching.pid) == "T", "both to stop", 5)
    watching.signal_group(signal.SIGCONT)
    result = watching.wait(20).expect(0)
    assert result.report["target"]["exe"].endswith("/leak_churn"), result.report["target"]["exe"]
    assert result.report["target"]["exit"] == {"code": 0, "signal": None}


@test()
def test_a_stream_that_nobody_reads_does_not_stop_the_child(bench):
    reader, writer = os.pipe()
    path = bench.path("beats")
    script = f"for i in 1 2 3 4 5 6; do sleep 0.3; echo $i >> '{path}'; done"
    args = [MEMWATCH, "run", "-q", "-i", "1ms", "--stream", f"/dev/fd/{writer}", "--", "sh", "-c", script]
    watching = bench.start(*args, pass_fds=[writer])
    os.close(writer)

    def beats():
        with open(path, encoding="utf-8") as file:
            return file.read().split()

    bench.until(lambda: os.path.exists(path) and len(beats()) == 6, "the child to do its work", 15)
    with os.fdopen(reader, encoding="utf-8") as file:
        lines = parse_stream(file.read())
    watching.wait(5).expect(0)
    assert lines[0]["type"] == "hello" and lines[-1]["type"] == "bye"
