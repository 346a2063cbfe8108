# SPDX-License-Identifier: GPL-3.0-or-later
"""Exit statuses and messages: what a script and a person at a terminal rely on."""
import os
import shutil
import stat
import time

from harness import MEMWATCH, ROOT, VICTIMS, need_program, need_root, test


@test()
def test_run_ends_with_the_childs_status(bench):
    bench.memwatch("run", "--", "true").expect(0)
    bench.memwatch("run", "--", "false").expect(1)
    bench.memwatch("run", "--", "sh", "-c", "exit 7").expect(7)
    bench.memwatch("run", "--", f"{VICTIMS}/exit_with", 255).expect(255)
    bench.memwatch("run", "--", f"{VICTIMS}/exit_with", 3, 0.3).expect(3)


@test()
def test_run_a_child_killed_by_a_signal_gives_128_and_its_number(bench):
    result = bench.memwatch("run", "--", f"{VICTIMS}/segv").expect(139)
    assert result.report["target"]["exit"] == {"code": None, "signal": 11}, result.report["target"]["exit"]
    bench.memwatch("run", "--", "sh", "-c", "kill -TERM $$").expect(143)
    bench.memwatch("run", "--", "sh", "-c", "kill -KILL $$").expect(137)


@test()
def test_run_a_command_that_cannot_be_executed(bench):
    bench.memwatch("run", "--", "no-such-command-4099", report=False).expect(127).expect_one_line("no-such-command-4099")
    bench.memwatch("run", "--", "/no/such/file", report=False).expect(127).expect_one_line("/no/such/file")
    plain = bench.path("plain-file")
    with open(plain, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nexit 0\n")
    bench.memwatch("run", "--", plain, report=False).expect(126).expect_one_line(plain)
    os.chmod(plain, os.stat(plain).st_mode | stat.S_IXUSR)
    bench.memwatch("run", "--", plain, report=False).expect(0)


@test()
def test_usage_errors_are_one_line_and_status_2(bench):
    for args, words in (
        (("--pid", "abc"), ("abc",)),
        (("--pid", "-5"), ("-5",)),
        (("--pid", "0"), ("0",)),
        (("--pid",), ("--pid",)),
        (("--pid", os.getpid(), "--duration", "-1"), ("--duration", "-1", "positive")),
        (("--pid", os.getpid(), "-d", "soon"), ("soon",)),
        (("--pid", os.getpid(), "--interval", "0"), ("--interval",)),
        (("--pid", os.getpid(), "--limit", "many"), ("--limit", "many")),
        (("--pid", os.getpid(), "--sites", "guess"), ("--sites", "guess")),
        (("--pid", os.getpid(), "--fail-on", "leek"), ("--fail-on", "leek")),
        (("--pid", os.getpid(), "--no-such-option"), ("--no-such-option",)),
        (("--pid", os.getpid(), "--duratoin", "5"), ("--duratoin", "--duration")),
        (("run", "--no-such-option", "--", "true"), ("--no-such-option",)),
        (("run",), ()),
        (("run", "--"), ()),
        (("attach",), ()),
        (("no-such-subcommand",), ("no-such-subcommand",)),
    ):
        result = bench.memwatch(*args, report=False)
        assert result.status == 2, f"{args}: status {result.status}: {result.err[-300:]!r}"
        assert result.out == "", f"{args}: standard output {result.out[:200]!r}"
        result.expect_one_line(*words)


@test()
def test_a_pid_that_does_not_exist(bench):
    result = bench.memwatch("--pid", "999999", report=False).expect(1).expect_one_line("999999")
    assert result.seconds < 2
    gone = bench.start("true")
    gone.wait()
    bench.memwatch("--pid", gone.pid, report=False).expect(1).expect_one_line(str(gone.pid))


@test()
def test_a_kernel_thread_is_refused_or_explained(bench):
    with open("/proc/2/comm", encoding="utf-8") as file:
        if file.read().strip() != "kthreadd":
            return
    bench.memwatch("--pid", "2", "-d", "2", report=False).expect(1).expect_one_line("kernel thread")


@test()
def test_an_unwritable_output_is_found_before_the_watching(bench):
    victim = bench.victim("churn", 30)
    for option, path in (("-o", "/no/such/folder/report.json"), ("-o", bench.dir), ("--stream", "/no/such/folder/stream")):
        result = bench.memwatch("--pid", victim.pid, "-d", "10", option, path, report=False).expect(1).expect_one_line(path)
        assert result.seconds < 3, f"{option} {path}: found after {result.seconds:.1f} s"
    bench.memwatch("run", "-o", "/no/such/folder/report.json", "--", "touch", bench.path("made"), report=False).expect(1)
    assert not os.path.exists(os.path.join(bench.dir, f"{bench.counter - 2}-made")), "the command ran although the report cannot be written"


@test()
def test_somebody_elses_process(bench):
    """As another user: a line that says why, or a report whose gaps say it; never a hang, never silence."""
    need_root()
    setpriv = need_program("setpriv")
    program = os.path.join(bench.dir, "memwatch")
    shutil.copy(MEMWATCH, program)
    victim = bench.victim("churn", 30)
    open_dir = os.path.join(bench.dir, "open")
    os.mkdir(open_dir)
    os.chmod(open_dir, 0o777)
    report = os.path.join(open_dir, "report.json")
    running = bench.start(setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", program, "--pid", victim.pid, "-d", "3",
                          "-o", report, cwd="/")
    running.report_path = report
    result = running.wait()
    if result.status == 0:
        gaps = result.report["session"]["gaps"]
        assert any(g["rung"] in ("heap", "sites") and g["reason"] and g["remedy"] for g in gaps), gaps
        assert result.report["verdict"]["class"] != "leak"
    else:
        result.expect(1).expect_one_line(str(victim.pid))
        assert any(word in result.err for word in ("user", "uid", "permission", "root", "CAP_SYS_PTRACE")), result.err


@test()
def test_help_and_version(bench):
    result = bench.memwatch("--help", report=False).expect(0)
    for word in ("--pid", "run", "attach", "doctor"):
        assert word in result.out, f"'{word}' is not in --help"
    assert result.err == ""
    for command in ("run", "attach", "doctor"):
        result = bench.memwatch(command, "--help", report=False).expect(0)
        assert "usage" in result.out.lower() and result.err == ""
    assert bench.memwatch("--version", report=False).expect(0).out.startswith("memwatch ")
    none = bench.memwatch(report=False).expect(2)
    assert "--pid" in none.out + none.err


@test()
def test_manual_names_every_option_of_help(bench):
    with open(os.path.join(ROOT, "man", "memwatch.1"), encoding="utf-8") as file:
        manual = file.read().replace("\\-", "-")
    for command in ("run", "attach"):
        for word in bench.memwatch(command, "--help", report=False).expect(0).out.split():
            name = word.strip(",.=[]").split("=")[0]
            if name.startswith("--") and len(name) > 2:
                assert name in manual or name[2:] in manual, f"{name} is in '{command} --help' but not in memwatch.1"


@test()
def test_doctor(bench):
    result = bench.memwatch("doctor", report=False).expect(0)
    for word in ("ptrace", "heap", "statm"):
        assert word in result.out.lower(), f"'{word}' is not in doctor's text: {result.out!r}"
    victim = bench.victim("churn", 30)
    result = bench.memwatch("doctor", victim.pid, report=False).expect(0)
    assert "glibc" in result.out, result.out
    bench.memwatch("doctor", "999999", report=False).expect(1)


@test()
def test_fail_on(bench):
    victim = bench.victim("leak_churn", 40)
    bench.memwatch("--pid", victim.pid, "-d", "12", "--fail-on", "leak,growth").expect(3)
    bench.memwatch("--pid", victim.pid, "-d", "4", "--fail-on", "spike").expect(0)
    result = bench.memwatch("run", "--fail-on", "leak,growth", "--", f"{VICTIMS}/leak_churn", 12).expect(3)
    assert result.verdict["class"] == "leak"


@test()
def test_run_duration_ends_the_child(bench):
    started = time.monotonic()
    result = bench.memwatch("run", "-d", "2", "--", "sleep", "4099").expect(0, 143)
    assert 1.9 < time.monotonic() - started < 8
    assert result.report["session"]["duration_s"] >= 1.9
    stubborn = bench.memwatch("run", "-d", "1", "--", "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")
    assert stubborn.status in (0, 137) and stubborn.seconds < 15, (stubborn.status, stubborn.seconds)


@test(alone=True)
def test_run_true_costs_little_time(bench):
    """At most 15 ms are added; the smallest of three medians, since the machine is shared."""

    def median(*argv):
        times = []
        for _ in range(9):
            started = time.perf_counter()
            running = os.posix_spawn(argv[0], argv, os.environ, file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, bench.path("out"), os.O_WRONLY | os.O_CREAT, 0o600),
                (os.POSIX_SPAWN_OPEN, 2, bench.path("err"), os.O_WRONLY | os.O_CREAT, 0o600)])
            assert os.waitpid(running, 0)[1] == 0, argv
            times.append(time.perf_counter() - started)
        return sorted(times)[4]

    true = shutil.which("true")
    added = min(median(MEMWATCH, "run", "--", true) - median(true) for _ in range(3))
    assert added <= 0.015, f"{added * 1000:.1f} ms"
