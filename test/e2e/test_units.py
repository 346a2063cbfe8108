# SPDX-License-Identifier: GPL-3.0-or-later
"""Work counters: what --unit-func, --unit-stdout and --unit-file count is what the program says that it did, and counting changes nothing."""
import ctypes
import hashlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys

from harness import MEMWATCH, VICTIMS, children_of, need, need_program, parse_report, proc_status, test

PYTHON = os.path.realpath(sys.executable)
SCALING, THREADS = os.path.join(VICTIMS, "units_scaling"), os.path.join(VICTIMS, "units_threads")


def work(report):
    assert "work_units" in report["metrics"], f"no work was counted; gaps: {report['session']['gaps']}"
    return report["metrics"]["work_units"]


def work_gaps(report):
    return [gap for gap in report["session"]["gaps"] if gap["rung"] == "work"]


def need_breakpoints(report):
    refused = [gap["reason"] for gap in work_gaps(report) if "cannot be counted" in gap["reason"]]
    need(not refused, refused[0] if refused else "")


def total_of(out):
    return int([line for line in out.splitlines() if line.startswith("total ")][0].split()[1])


# ---- --unit-func


@test()
def test_calls_of_threads_born_later_are_counted(bench):
    result = bench.memwatch("run", "-q", "--unit-func", "do_unit", "--", THREADS, 0.3, 211).expect(0)
    need_breakpoints(result.report)
    assert total_of(result.out) == 16 * 211
    assert work(result.report)["last"] == 16 * 211, work(result.report)


@test()
def test_the_count_of_calls_goes_on_over_an_exec(bench):
    result = bench.memwatch("run", "-q", "--unit-func", "do_unit", "--", THREADS, 0.3, 211, "exec").expect(0)
    need_breakpoints(result.report)
    assert work(result.report)["last"] == 2 * 16 * 211, work(result.report)


@test()
def test_calls_are_counted_from_the_attach_on_in_all_threads(bench):
    victim = bench.victim("units_threads", 20, 211, "wait")
    stream = bench.path("stream")
    watching = bench.watch("--pid", victim.pid, "-q", "--stream", stream, "--unit-func", "do_unit")

    def samples():
        with open(stream, encoding="utf-8") as file:
            whole = [line for line in file.read().split("\n")[:-1] if '"type":"sample"' in line.replace(" ", "")]
        return [json.loads(line) for line in whole]

    bench.until(lambda: os.path.exists(stream) and samples(), "the first sample", 10)
    victim.signal(signal.SIGUSR1)
    victim.wait_for_output("total ")
    seen = len(samples())
    bench.until(lambda: len(samples()) > seen + 3, "samples behind the work", 10)
    watching.signal(signal.SIGINT)
    report = watching.wait(10).expect(0).report
    need_breakpoints(report)
    assert work(report)["last"] == 16 * 211, work(report)


@test()
def test_kill_of_memwatch_does_not_harm_the_callers(bench):
    victim = bench.victim("units_threads", 4, 0)
    watching = bench.watch("--pid", victim.pid, "-q", "--unit-func", "do_unit", report=False)
    bench.until(lambda: any("perf_event" in os.readlink(f"/proc/{watching.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{watching.pid}/fd")),
                "the counters", 3)
    watching.signal(signal.SIGKILL)
    watching.wait(5)
    assert victim.wait(10).expect(0).out.count("total ") == 1


@test()
def test_a_function_of_a_library_is_found_when_it_comes(bench):
    result = bench.memwatch("run", "-q", "--unit-func", "libc.so:nanosleep", "--", os.path.join(VICTIMS, "units_leak_idle"), 2).expect(0)
    need_breakpoints(result.report)
    # about 190 naps of 10 ms; those before the library was seen are missing, and then the report says so
    assert 20 <= work(result.report)["last"] <= 200, work(result.report)


@test()
def test_work_that_stands_still_while_memory_grows(bench):
    result = bench.memwatch("run", "-q", "--unit-stdout", "^unit ", "--", os.path.join(VICTIMS, "units_leak_idle"), 2.5).expect(0)
    assert work(result.report)["last"] == total_of(result.out) > 20, work(result.report)
    growth = result.report["metrics"]["rss_bytes"]["growth"]
    assert growth > 1_000_000, growth


@test()
def test_a_function_that_is_not_there_ends_it_before_it_begins(bench):
    victim = bench.victim("units_scaling", 20, 9999999)
    bench.memwatch("--pid", victim.pid, "--unit-func", "do_nothing").expect(1).expect_one_line("do_nothing", "nm")
    bench.memwatch("--pid", victim.pid, "--unit-func", "libnone.so:do_unit").expect(1).expect_one_line("libnone.so")
    bench.memwatch("--pid", victim.pid, "--unit-func", "libc.so:memcpy").expect(1).expect_one_line("indirect")
    assert victim.alive()


@test()
def test_a_function_that_never_came_is_a_gap_of_run(bench):
    report = bench.memwatch("run", "-q", "--unit-func", "do_nothing", "--", "sleep", 0.2).expect(0).report
    assert "do_nothing" in work_gaps(report)[0]["reason"], work_gaps(report)
    assert "work_units" not in report["metrics"], report["metrics"]["work_units"]


@test()
def test_several_functions_of_one_name_are_listed(bench):
    for name, body in (("one", "return 1;"), ("two", "return 2;")):
        with open(bench.path(f"{name}.c"), "w", encoding="utf-8") as file:
            file.write(f"__attribute__((noinline, used)) static int twice(void) {{ {body} }}\nint {name}(void) {{ return twice(); }}\n"
                       + ("int two(void); int main(void) { return one() + two() - 3; }\n" if name == "one" else ""))
    sources = sorted(os.path.join(bench.dir, f) for f in os.listdir(bench.dir) if f.endswith(".c"))
    program = bench.path("program")
    subprocess.run(["gcc", "-O0", "-o", program, *sources], check=True)
    result = bench.memwatch("run", "-q", "--unit-func", "twice", "--", program).expect(1)
    result.expect_one_line("2 functions", "twice", os.path.basename(program) + "+0x")
    place = result.err.split("(", 1)[1].split(")", 1)[0]
    report = bench.memwatch("run", "-q", "--unit-func", place, "--", program).expect(0).report
    need_breakpoints(report)
    assert work(report)["last"] == 1, work(report)


def refuse_perf():
    """perf_event_open (298) fails with EPERM, as containers do it."""
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, 298), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)]
    filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(38, 1, 0, 0, 0)
    if libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) != 0:
        raise OSError("no seccomp")


@test()
def test_refused_counting_is_a_gap_with_its_cause(bench):
    report = bench.memwatch("run", "-q", "--unit-func", "do_unit", "--", THREADS, 0.2, 3, preexec_fn=refuse_perf).expect(0).report
    gap = work_gaps(report)[0]
    assert "perf" in gap["reason"] and gap["remedy"], gap


# ---- --unit-stdout


@test()
def test_lines_and_numbers_of_standard_output_are_counted(bench):
    for regex, unit in (("^processed item", "lines"), ("item ([0-9]+)$", "numbers")):
        result = bench.memwatch("run", "-q", "--unit-stdout", regex, "--", SCALING, 20, 331, "", 23, 20).expect(0)
        assert total_of(result.out) == 331 and result.out.count("processed item") == 331
        assert work(result.report)["last"] == 331, (unit, work(result.report))


OUTPUT = """
import os, random, sys
random.seed(4099)
for i in range(400):
    os.write(1, random.randbytes(random.choice((1, 17, 4096, 70001))))
os.write(1, b"\\n\\0unit\\n" + b"u" * 300000 + b"unit\\n" + b"a unit without an end")
os._exit(41)
"""


@test()
def test_the_output_is_the_same_byte_for_byte(bench):
    plain = subprocess.run([PYTHON, "-c", OUTPUT], stdout=subprocess.PIPE, check=False).stdout
    watching = bench.watch("run", "-q", "--unit-stdout", "unit$|unit without", "--", PYTHON, "-c", OUTPUT)
    report = watching.wait().expect(41).report
    with open(watching.out_path, "rb") as file:
        got = file.read()
    assert hashlib.sha256(got[:len(plain)]).digest() == hashlib.sha256(plain).digest(), "the child's bytes were changed"
    assert got[len(plain):].startswith(b"memwatch:"), got[len(plain):][:80]
    # the line with the NUL and the one without an end match; of the long line only the beginning is looked at
    assert work(report)["last"] == 2, work(report)


@test()
def test_kill_of_memwatch_does_not_harm_the_writer(bench):
    code = "import sys, time\nfor i in range(300):\n    print('line', i, flush=True); time.sleep(0.01)\nprint('end', flush=True)\n" \
           f"open({bench.path('status')!r}, 'w').write('well')"
    status = code.rsplit("open('", 1)[1].split("'", 1)[0]
    watching = bench.watch("run", "-q", "--unit-stdout", "^line", "--", PYTHON, "-c", code, report=False)
    watching.wait_for_output("line 20\n")
    for child in children_of(watching.pid):
        bench.adopt(child)
    watching.signal(signal.SIGKILL)
    watching.wait(5)
    bench.until(lambda: os.path.exists(status), "the writer's end", 20)
    bench.until(lambda: "end\n" in watching.out, "the last line", 5)
    assert watching.out == "".join(f"line {i}\n" for i in range(300)) + "end\n", watching.out[-200:]


@test()
def test_ctrl_c_is_the_childs_and_its_last_words_arrive(bench):
    code = "import signal, sys, time\nsignal.signal(2, lambda *_: (print('unit bye', flush=True), sys.exit(7)))\n" \
           "print('unit up', flush=True)\ntime.sleep(30)"
    master, slave = pty.openpty()
    path = bench.path("report.json")
    watching = bench.start(need_program("setsid"), "-c", MEMWATCH, "run", "-q", "-o", path, "--unit-stdout", "^unit", "--", PYTHON, "-c", code,
                           stdin=slave)
    watching.report_path = path
    os.close(slave)
    watching.wait_for_output("unit up\n")
    os.write(master, b"\x03")
    result = watching.wait(10).expect(7)
    os.close(master)
    assert result.out.startswith("unit up\nunit bye\n"), result.out[:100]
    assert work(result.report)["last"] == 2


@test()
def test_a_closed_pager_reaches_the_child(bench):
    """As without memwatch: SIGPIPE."""
    path = bench.path("report.json")
    shell = bench.start("sh", "-c", f"'{MEMWATCH}' run -q -o '{path}' --unit-stdout y -- yes | head -n 1")
    shell.wait(20)
    assert shell.out == "y\n", shell.out
    bench.until(lambda: os.path.exists(path), "the report", 10)
    with open(path, encoding="utf-8") as file:
        assert parse_report(file.read())["target"]["exit"] == {"code": None, "signal": signal.SIGPIPE}


@test()
def test_a_slow_reader_slows_the_writer_and_gets_all(bench):
    lines = 40000
    script = f"'{MEMWATCH}' run -q -o '{bench.path('report.json')}' --unit-stdout y -- seq 1 {lines} | (sleep 1; cat)"
    shell = bench.start("bash", "-c", script)
    shell.wait(20)
    assert shell.out.split()[:lines] == [str(i) for i in range(1, lines + 1)], shell.out[-300:]


@test()
def test_a_heir_of_the_pipe_keeps_writing_and_memwatch_ends(bench):
    script = "(sleep 5; echo unit late) & echo unit early"
    watching = bench.watch("run", "-q", "--unit-stdout", "^unit", "--", "sh", "-c", script)
    result = watching.wait(10).expect(0)
    # the report has the command line: "unit late)"
    assert "unit late\n" not in watching.out, "memwatch waited for a process that is not its child"
    assert work(result.report)["last"] == 1 and "holds" in work_gaps(result.report)[0]["reason"], work_gaps(result.report)
    bench.until(lambda: "unit late\n" in watching.out, "what the heir prints", 10)


@test()
def test_a_heir_that_never_pauses_does_not_hold_memwatch(bench):
    script = "(for i in $(seq 150); do echo late; sleep 0.05; done; echo end) & echo unit early"
    watching = bench.watch("run", "-q", "--unit-stdout", "^unit", "--", "sh", "-c", script)
    result = watching.wait(15).expect(0)
    assert "end\n" not in watching.out, "memwatch waited for a process that is not its child"
    assert work(result.report)["last"] == 1 and "holds" in work_gaps(result.report)[0]["reason"], work_gaps(result.report)
    bench.until(lambda: "end\n" in watching.out, "what the heir prints", 20)


@test()
def test_the_forwarder_ends_with_its_writers(bench):
    def forwarders():
        return {pid for pid in os.listdir("/proc") if pid.isdigit() and proc_status(pid).get("Name") == "memwatch-out"}

    before = forwarders()
    watching = bench.watch("run", "-q", "--unit-stdout", "x", "--", "sleep", 0.5)
    mine = set()
    bench.until(lambda: mine.update(p for p in forwarders() - before if os.readlink(f"/proc/{p}/fd/1") == watching.out_path) or mine,
                "the forwarder", 5)
    watching.wait(10).expect(0)
    bench.until(lambda: not mine & forwarders(), "the forwarder's end", 5)


@test()
def test_what_cannot_be_meant_is_a_usage_error(bench):
    bench.memwatch("run", "--unit-stdout", "(", "--", "true").expect(2).expect_one_line("--unit-stdout '('")
    bench.memwatch("--pid", os.getpid(), "--unit-stdout", "x").expect(2).expect_one_line("--unit-stdout", "--unit-file")
    bench.memwatch("run", "--unit-func", "a", "--unit-file", "b", "--", "true").expect(2).expect_one_line("one of")
    bench.memwatch("run", "--expect", "nothing", "--", "true").expect(2).expect_one_line("transient")


# ---- --unit-file


@test()
def test_a_file_that_is_rewritten_tells_the_count(bench):
    path = bench.path("count")
    result = bench.memwatch("run", "-q", "--unit-file", path, "--", SCALING, 20, 331, path, 23, 30).expect(0)
    assert work(result.report)["last"] == 331, work(result.report)
    assert work(result.report)["first"] < 100, work(result.report)


@test()
def test_lines_without_numbers_are_units(bench):
    path = bench.path("log")
    with open(path, "w", encoding="utf-8") as file:
        file.write("from before\n" * 50)
    script = f"i=0; while [ $i -lt 57 ]; do echo done >> '{path}'; i=$((i+1)); sleep 0.01; done"
    result = bench.memwatch("run", "-q", "--unit-file", path, "--", "sh", "-c", script).expect(0)
    assert work(result.report)["last"] == 57, work(result.report)


@test()
def test_a_count_that_begins_anew_goes_on(bench):
    path = bench.path("count")
    script = f"echo 70 > '{path}'; sleep 0.3; echo 100 > '{path}'; sleep 0.4; echo 5 > '{path}'; sleep 0.4"
    result = bench.memwatch("run", "-q", "--unit-file", path, "--", "sh", "-c", script).expect(0)
    assert work(result.report)["last"] == 105, work(result.report)


@test()
def test_a_fifo_is_read_as_it_comes(bench):
    path = bench.path("fifo")
    os.mkfifo(path)
    script = f"exec 3> '{path}'; for i in 1 2 3 4 5; do echo $((i * 11)) >&3; sleep 0.05; done"
    result = bench.memwatch("run", "-q", "--unit-file", path, "--", "sh", "-c", script).expect(0)
    assert work(result.report)["last"] == 55, work(result.report)


@test()
def test_a_missing_file_is_a_gap_until_it_is_there(bench):
    path = bench.path("none")
    report = bench.memwatch("run", "-q", "--unit-file", path, "--", "sleep", 0.2).expect(0).report
    assert path in work_gaps(report)[0]["reason"] and "No such file" in work_gaps(report)[0]["reason"], work_gaps(report)
    script = f"sleep 0.2; echo 3 > '{path}'; sleep 0.3"
    report = bench.memwatch("run", "-q", "--unit-file", path, "--", "sh", "-c", script).expect(0).report
    assert work(report)["last"] == 3 and not work_gaps(report), work_gaps(report)


# ---- without cooperation


@test()
def test_switches_and_network_are_counted(bench):
    code = "import socket, time\na, b = socket.socket(2, 2), socket.socket(2, 2)\nb.bind(('127.0.0.1', 0))\n" \
           "end = time.time() + 3\nwhile time.time() < end:\n    a.sendto(b'x' * 5000, b.getsockname()); time.sleep(0.01)"
    metrics = bench.memwatch("run", "-q", "--", PYTHON, "-c", code).expect(0).report["metrics"]
    assert metrics["context_switches"]["growth"] >= 100, metrics["context_switches"]
    # a loopback interface both sends and receives; other programs of the machine only add to it
    assert metrics["net_bytes"]["growth"] >= 2 * 5000 * 100, metrics["net_bytes"]
