# SPDX-License-Identifier: GPL-3.0-or-later
"""What end-to-end tests stand on: a test is a function marked @test() that takes a Bench, starts things by it, and asserts.

Everything that a test starts is ended by the bench, by pid, whatever happened. Every wait is bounded by the test's own time.
Every report that memwatch writes is validated against the schema when it is read.
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time

import validate

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
MEMWATCH = os.environ.get("MEMWATCH", os.path.join(ROOT, "build", "memwatch"))
VICTIMS = os.path.join(ROOT, "build", "test", "victims")

# What memwatch keeps from one time to the next must not come from, nor stay in, the home of who runs the tests.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="memwatch-cache-")
os.chmod(os.environ["XDG_CACHE_HOME"], 0o700)
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

TESTS = []


class Skip(Exception):
    """Not possible here; the message says why."""


def test(timeout=60, alone=False):
    """Marks a test. alone: it measures time, so nothing else runs beside it."""

    def mark(function):
        TESTS.append({"name": function.__name__, "run": function, "timeout": timeout, "alone": alone,
                      "module": function.__module__})
        return function

    return mark


def need(condition, reason):
    if not condition:
        raise Skip(reason)


def need_root():
    need(os.geteuid() == 0, "needs root")


def need_program(name):
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    need(path, f"{name} is not installed")
    return path


def parse_report(text):
    """The report, after the schema and everything that it cannot say were checked."""
    faults = validate.report_faults(text)
    assert not faults, f"a report with faults: {faults[:3]}; it begins {text[:120]!r}"
    return json.loads(text)


def parse_stream(text):
    faults = validate.stream_faults(text)
    assert not faults, f"a stream with faults: {faults[:3]}"
    return [json.loads(line) for line in text.splitlines()]


def proc_status(pid):
    """/proc/PID/status as a dict; {} when the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    except (FileNotFoundError, ProcessLookupError):
        return {}


def proc_state(pid):
    return proc_status(pid).get("State", "gone")[:1]


def thread_states(pid):
    """(state, tracer) of every thread."""
    found = []
    try:
        tids = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return found
    for tid in tids:
        status = proc_status(f"{pid}/task/{tid}")
        if status:
            found.append((status["State"][:1], int(status["TracerPid"])))
    return found


def cpu_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:
        return []


class Result:
    """What a finished memwatch left: status, out, err, and the report it wrote with -o (None where none)."""

    def __init__(self, running):
        self.status, self.out, self.err, self.seconds = running.status, running.out, running.err, running.seconds
        self.peak_bytes, self.report = running.peak_bytes, None
        if running.report_path and os.path.exists(running.report_path):
            with open(running.report_path, encoding="utf-8") as file:
                self.report = parse_report(file.read())

    def expect(self, *statuses):
        assert self.status in statuses, f"status {self.status}, not {statuses}; stderr: {self.err[-600:]!r}"
        return self

    def expect_one_line(self, *words):
        """One clear line: 'memwatch: …' that holds all the words, and no report of a crash."""
        lines = self.err.strip().splitlines()
        assert len(lines) == 1 and lines[0].startswith("memwatch: "), f"not one clear line: {self.err[-600:]!r}"
        for word in words:
            assert word.lower() in lines[0].lower(), f"'{word}' is not in {lines[0]!r}"
        return self

    @property
    def verdict(self):
        assert self.report, f"no report was written; status {self.status}, stderr: {self.err[-600:]!r}"
        return self.report["verdict"]


class Running:
    """A started process with its output in files, so that nothing blocks on a pipe."""

    def __init__(self, bench, argv, **options):
        self.bench = bench
        self.out_path, self.err_path = bench.path("out"), bench.path("err")
        self.started = time.monotonic()
        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.process = subprocess.Popen(argv, stdin=options.pop("stdin", subprocess.DEVNULL), stdout=out,
                                            stderr=options.pop("stderr", err), **options)
        self.pid, self.argv, self.status, self.seconds = self.process.pid, argv, None, None
        self.report_path = None
        self.peak_bytes = 0 # of the program itself: ru_maxrss would count this test runner before its exec
        self.truth = {}

    @property
    def out(self):
        with open(self.out_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    @property
    def err(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def signal(self, number):
        os.kill(self.pid, number)

    def signal_group(self, number):
        os.killpg(self.pid, number)

    def poll(self):
        if self.status is None:
            self.peak_bytes = max(self.peak_bytes, int(proc_status(self.pid).get("VmHWM", "0 kB").split()[0]) * 1024)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.process.returncode = self.status
                self.seconds = time.monotonic() - self.started
        return self.status

    def wait(self, seconds=None):
        self.bench.until(lambda: self.poll() is not None, f"end of {' '.join(self.argv[:6])}", seconds)
        return Result(self)

    def wait_for_output(self, text, seconds=10):
        self.bench.until(lambda: text in self.out or not self.alive(), f"{text!r} on standard output of {self.argv[0]}", seconds)
        assert text in self.out, f"{self.argv[0]} ended without {text!r}; status {self.status}, stderr: {self.err[-300:]!r}"

    def alive(self):
        return self.poll() is None


class Bench:
    def __init__(self, name, timeout):
        self.deadline = time.monotonic() + timeout
        self.dir = tempfile.mkdtemp(prefix=f"memwatch-{name}-")
        os.chmod(self.dir, 0o755)
        self.started, self.strangers, self.counter = [], [], 0

    def path(self, name):
        self.counter += 1
        return os.path.join(self.dir, f"{self.counter}-{name}")

    def until(self, condition, what, seconds=None):
        """Waits for the condition, polling, at most that many seconds and never beyond the test's time."""
        end = min(self.deadline, time.monotonic() + seconds) if seconds else self.deadline
        pause = 0.002
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"timed out waiting for {what}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)

    def start(self, *argv, **options):
        running = Running(self, [str(a) for a in argv], **options)
        self.started.append(running)
        return running

    def victim(self, name, *args, program=None, **options):
        """Starts a victim and reads the truth that it prints first."""
        running = self.start(program or os.path.join(VICTIMS, name), *args, **options)
        running.wait_for_output("}\n", 20)
        running.truth = first_truth(running)
        return running

    def watch(self, *args, report=True, **options):
        """Starts memwatch; report: with -o FILE, put behind the subcommand."""
        args = list(args)
        path = self.path("report.json") if report else None
        if report:
            at = 1 if args and args[0] in ("run", "attach") else 0
            args[at:at] = ["-o", path]
        running = self.start(options.pop("program", MEMWATCH), *args, **options)
        running.report_path = path
        return running

    def memwatch(self, *args, **options):
        """Runs memwatch to its end."""
        return self.watch(*args, **options).wait()

    def adopt(self, pid):
        """A process that something we started has started; ended with the rest if it is still the same one."""
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            self.strangers.append((pid, file.read().rsplit(")", 1)[1].split()[19]))

    def close(self):
        for pid, start in self.strangers:
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                    if file.read().rsplit(")", 1)[1].split()[19] == start:
                        os.kill(pid, signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass
        for running in reversed(self.started):
            for child in children_of(running.pid) if running.poll() is None else []:
                os.kill(child, signal.SIGKILL)
            if running.poll() is None:
                running.signal(signal.SIGKILL)
                running.process.wait(10)
                running.status = running.process.returncode
        shutil.rmtree(self.dir, ignore_errors=True)


def first_truth(source):
    """What a victim printed first, in the output of itself or of the memwatch that ran it."""
    return json.loads(source.out.split("\n", 1)[0])


def frames(report, sites=1):
    """All frames of the first so many sites."""
    return [frame for site in report["sites"][:sites] for frame in site["frames"]]


def names(report, sites=1):
    return [frame["function"] for frame in frames(report, sites)]


def expect_site(report, truth, sites=1):
    """The leaking function, with its line, is among the frames of the first sites."""
    assert report["sites"], f"no call sites; gaps: {report['session']['gaps']}"
    found = [f for f in frames(report, sites) if f["function"] == truth["function"]]
    assert found, f"{truth['function']} is not in {[s['frames'][0]['function'] for s in report['sites'][:5]]}: {names(report, sites)}"
    lines = {frame["line"] for frame in found}
    assert any(line and abs(line - truth["line"]) <= 1 for line in lines), f"lines {lines}, not {truth['line']}"
