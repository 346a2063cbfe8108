# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports, streams and texts: what goes where, and what it looks like."""
import json
import os
import pty
import re
import subprocess
import threading

from harness import MEMWATCH, ROOT, VICTIMS, parse_report, parse_stream, test
from pprof import read_pprof


@test()
def test_json_is_alone_on_standard_output(bench):
    victim = bench.victim("leak_churn", 30)
    for option in (("--json",), ("-o", "-"), ("--output=-",)):
        result = bench.memwatch("--pid", victim.pid, "-d", "2", *option, report=False).expect(0)
        report = parse_report(result.out)
        assert report["schema"] == "memwatch-report/1" and report["target"]["pid"] == victim.pid
    result = bench.memwatch("run", "--json", "--", "sleep", "1", report=False).expect(0)
    parse_report(result.out)


@test()
def test_report_says_what_it_watched(bench):
    victim = bench.victim("leak_churn", 30, "second argument")
    report = bench.memwatch("--pid", victim.pid, "-d", "5").expect(0).report
    target, session = report["target"], report["session"]
    assert target["comm"] == "leak_churn" and target["exe"].endswith("/leak_churn")
    assert target["cmdline"][1:] == ["30", "second argument"] and target["uid"] == os.getuid()
    assert target["allocator"]["name"] == "glibc" and target["allocator"]["found_by"]
    assert target["exit"] is None
    assert 4.5 < session["duration_s"] < 7 and session["samples"] >= 40
    assert {"observe", "heap"} <= set(session["rungs"])
    for name in ("rss_bytes", "pss_bytes", "anon_bytes", "heap_in_use_bytes", "heap_free_bytes", "heap_mapped_bytes", "threads",
                 "fds", "minor_faults", "cpu_s"):
        metric = report["metrics"].get(name)
        assert metric, f"no {name}"
        assert metric["min"] <= metric["mean"] <= metric["max"], f"{name}: {metric}"
    heap = report["heap"]
    assert heap["in_use_bytes"] > 4 << 20 and heap["in_use_blocks"] > 8000
    assert heap["in_use_bytes"] <= heap["mapped_bytes"] <= report["metrics"]["rss_bytes"]["max"] * 2
    assert heap["size_classes"] and heap["arenas"]
    assert report["series"]["columns"][0] == "t_s" and 10 < len(report["series"]["rows"]) <= 2000
    assert report["cost"]["cpu_percent"] < 25
    forecast = report["verdict"]["forecast"]
    if forecast:
        assert forecast["limit_bytes"] > 0 and forecast["limit_source"]


@test()
def test_a_limit_is_forecast(bench):
    victim = bench.victim("leak_churn", 40)
    report = bench.memwatch("--pid", victim.pid, "-d", "15", "--limit", "256M").expect(0).report
    forecast = report["verdict"]["forecast"]
    assert forecast and forecast["limit_bytes"] == 256 << 20 and forecast["limit_source"] == "--limit", forecast
    left = (256 << 20) - report["metrics"]["rss_bytes"]["last"]
    expected = left / victim.truth["bytes_per_s"]
    eta = forecast["eta_s"]
    assert 0.75 * expected < eta["mid"] < 1.35 * expected, f"{eta}, not {expected:.0f} s"
    assert eta["low"] <= eta["mid"] and (eta["high"] is None or eta["mid"] <= eta["high"])


@test()
def test_text_has_the_verdict_block(bench):
    victim = bench.victim("demo_server", 40)
    result = bench.memwatch("--pid", victim.pid, "-d", "15", "--limit", "2G").expect(0)
    text = result.out
    assert re.search(r"^verdict: leak \(suspected\), confidence 0\.\d+, in the heap$", text, re.M), text
    for pattern in (r"in-use heap grows .*/s", r"where: +\d+ %  cache_put  .*demo_server\.c:\d+  <- handle ", r"limit: +\S+ GiB", r"cost: .*stop"):
        assert re.search(pattern, text), f"no {pattern!r} in {text}"
    assert "\x1b" not in text + result.err, "escape sequences although this is no terminal"
    assert "\r" not in result.err, "a live line although this is no terminal"


@test()
def test_quiet_and_color(bench):
    victim = bench.victim("churn", 30)
    assert bench.memwatch("--pid", victim.pid, "-d", "1", "--quiet").expect(0).err == ""
    assert "\x1b[" in bench.memwatch("--pid", victim.pid, "-d", "4", "--color=always").expect(0).out
    assert "\x1b" not in bench.memwatch("--pid", victim.pid, "-d", "1", "--color", "never").expect(0).out


@test()
def test_live_line_on_a_terminal(bench):
    """On a terminal one line is drawn again and again; none of it reaches standard output."""
    victim = bench.victim("leak_churn", 30)
    master, slave = pty.openpty()
    drawn = []

    def drain():
        try:
            while True:
                drawn.append(os.read(master, 4096))
        except OSError: # the other end is closed
            pass

    running = bench.watch("--pid", victim.pid, "-d", "4", stderr=slave, env=dict(os.environ, TERM="xterm", COLUMNS="80"))
    os.close(slave)
    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    result = running.wait().expect(0)
    reader.join(5)
    os.close(master)
    text = b"".join(drawn).decode()
    assert text.count("\r") >= 5 and "MiB" in text, repr(text[-300:])
    assert "\r" not in result.out and "verdict: " in result.out


@test()
def test_stream(bench):
    path = bench.path("stream")
    victim = bench.victim("leak_churn", 30)
    result = bench.memwatch("--pid", victim.pid, "-d", "8", "--stream", path).expect(0)
    with open(path, encoding="utf-8") as file:
        lines = parse_stream(file.read())
    kinds = [line["type"] for line in lines]
    assert kinds[0] == "hello" and kinds[-1] == "bye", (kinds[0], kinds[-1])
    assert lines[0].get("schema", "memwatch-stream/1") == "memwatch-stream/1"
    samples = [line for line in lines if line["type"] == "sample"]
    assert len(samples) >= 60 and len(samples) == result.report["session"]["samples"]
    times = [line["t_s"] for line in samples]
    assert times == sorted(times) and times[-1] > 7
    assert all(line["rss_bytes"] for line in samples[1:])
    assert "verdict" in kinds


@test()
def test_stream_on_standard_output(bench):
    victim = bench.victim("churn", 30)
    result = bench.memwatch("--pid", victim.pid, "-d", "1", "--stream", "-").expect(0)
    kinds = [line["type"] for line in parse_stream(result.out)]
    assert kinds[0] == "hello" and kinds[-1] == "bye", kinds


@test()
def test_streams_of_the_child_pass_through(bench):
    source = bench.path("in")
    with open(source, "w", encoding="utf-8") as file:
        file.write("4099 from standard input\n")
    with open(source, encoding="utf-8") as stdin:
        result = bench.memwatch("run", "--quiet", "--json", "--", "sh", "-c", "cat >&2; exec 1>&-", report=False, stdin=stdin)
    result.expect(0)
    assert result.err == "4099 from standard input\n", result.err
    parse_report(result.out)
    result = bench.memwatch("run", "--", "sh", "-c", "echo to standard output; echo to standard error >&2").expect(0)
    assert result.out.startswith("to standard output\n") and "to standard error\n" in result.err


@test()
def test_report_is_replaced_whole(bench):
    """An older report stays whole until the new one is."""
    victim = bench.victim("churn", 30)
    path = bench.path("report.json")
    with open(path, "w", encoding="utf-8") as file:
        file.write("old " * 100000)
    bench.memwatch("--pid", victim.pid, "-d", "1", "-o", path, report=False).expect(0)
    with open(path, encoding="utf-8") as file:
        parse_report(file.read())


@test()
def test_rungs_can_be_turned_off(bench):
    victim = bench.victim("leak_churn", 30)
    report = bench.memwatch("--pid", victim.pid, "-d", "4", "--heap", "off", "--sites", "off").expect(0).report
    assert report["session"]["rungs"] == ["observe"], report["session"]["rungs"]
    assert report["heap"] is None and report["sites"] == [] and report["cost"]["stops"] == 0
    assert report["verdict"]["class"] != "leak", "a leak from RSS alone"
    report = bench.memwatch("run", "--sites", "stacks", "--", f"{VICTIMS}/demo_server", 8).expect(0).report
    assert report["sites"] and all(site["source"] == "stacks" for site in report["sites"])


def saved_report(bench, change=None):
    """The golden report (two processes, the sites of one), changed; its path."""
    with open(os.path.join(ROOT, "test", "golden", "scenario.json"), encoding="utf-8") as file:
        report = json.load(file)
    if change:
        change(report)
    path = bench.path("saved.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(report, file)
    return path


def without_sites(report):
    for entry in [report, *report["processes"]]:
        entry["sites"] = []
    report["session"]["gaps"] = [{"rung": "sites", "reason": "ptrace of process 4242 is refused", "remedy": "run as root"}]


def without_processes(report):
    report["processes"] = []


def rendered(bench, saved, name):
    """What memwatch report writes with -o; that standard output gets the same is part of it."""
    path = bench.path(name)
    result = bench.memwatch("report", saved, "--format", name, "-o", path, report=False).expect(0)
    assert result.out == "", result.out[:200]
    again = bench.watch("report", "-f", name, saved, report=False)
    again.wait().expect(0)
    with open(path, "rb") as file, open(again.out_path, "rb") as out:
        content = file.read()
        assert content == out.read(), f"-o FILE and standard output differ for {name}"
    return content, result.err


@test()
def test_folded(bench):
    text, err = rendered(bench, saved_report(bench), "folded")
    assert text.decode() == ("srv (4242);plugin_load;plugin.so+0x1000 2621440\n"
                             "srv (4242);worker;handle;cache_put;__libc_malloc 62914560\n"), text
    assert err == "", err
    text, _ = rendered(bench, saved_report(bench, without_processes), "folded")
    assert text.decode().splitlines()[1] == "worker;handle;cache_put;__libc_malloc 62914560", text


@test()
def test_speedscope(bench):
    content, err = rendered(bench, saved_report(bench), "speedscope")
    profile = json.loads(content)
    assert profile["$schema"] == "https://www.speedscope.app/file-format-schema.json" and err == ""
    assert re.fullmatch(r"memwatch \d+\.\d+\.\d+", profile["exporter"]), profile["exporter"]
    frames = profile["shared"]["frames"]
    found = {}
    for part in profile["profiles"]:
        assert part["type"] == "sampled" and part["unit"] == "bytes" and len(part["samples"]) == len(part["weights"])
        assert part["startValue"] == 0 and part["endValue"] == sum(part["weights"])
        found[part["name"]] = [([frames[i]["name"] for i in stack], weight) for stack, weight in zip(part["samples"], part["weights"])]
    stacks = (["srv (4242)", "worker", "handle", "cache_put", "__libc_malloc"], ["srv (4242)", "plugin_load", "plugin.so+0x1000"])
    assert found == {"surviving bytes": list(zip(stacks, (62914560, 2621440))),
                     "allocated bytes": list(zip(stacks, (62914560, 5242880)))}, found
    assert {"name": "cache_put", "file": "/src/srv/cache.c", "line": 118} in frames


@test()
def test_pprof(bench):
    content, err = rendered(bench, saved_report(bench), "pprof")
    profile = read_pprof(content)
    assert err == "" and profile["types"] == [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"),
                                              ("inuse_space", "bytes")]
    assert profile["default"] == "inuse_space" and profile["period_type"] == ("space", "bytes")
    assert profile["time_nanos"] == 1795176685 * 10**9 and profile["duration_nanos"] == 60 * 10**9
    first, second = profile["samples"]
    assert first["values"] == [61502, 62914560, 61440, 62914560] and second["values"] == [0, 5242880, 0, 2621440]
    # Innermost first; what was inlined stands with its caller in one location.
    assert [[(line["name"], line["line"]) for line in place["lines"]] for place in first["stack"]] == [
        [("__libc_malloc", 0)], [("cache_put", 118)], [("handle", 204), ("worker", 310)], [("srv (4242)", 0)]]
    assert first["stack"][1]["lines"][0]["file"] == "/src/srv/cache.c" and first["stack"][1]["address"] == 0x401136
    mapping = first["stack"][1]["mapping"]
    assert mapping["file"] == "/opt/srv/bin/srv" and mapping["has_functions"] and mapping["has_line_numbers"]
    assert mapping["start"] <= 0x401136 < mapping["limit"] and profile["mappings"][0] == mapping
    assert any("inuse_objects: unknown for 1 of 2" in text for text in profile["comments"]), profile["comments"]


@test()
def test_profiles_without_sites(bench):
    """Valid, empty, status 0, and a line that says why."""
    saved = saved_report(bench, without_sites)
    for name in ("folded", "speedscope", "pprof"):
        content, err = rendered(bench, saved, name)
        assert err.startswith("memwatch: no call sites in ") and "ptrace of process 4242 is refused; run as root" in err, err
        if name == "folded":
            assert content == b""
        elif name == "speedscope":
            assert json.loads(content)["profiles"][0]["samples"] == []
        else:
            assert read_pprof(content)["samples"] == []
    for name in ("text", "json"):
        assert rendered(bench, saved, name)[1] == "", "a report in full needs no such note"


@test()
def test_pprof_is_not_for_a_terminal(bench):
    master, slave = pty.openpty()
    saved = saved_report(bench)
    try:
        for args in ((), ("-o", "-")):
            result = subprocess.run([MEMWATCH, "report", saved, "--format", "pprof", *args], stdout=slave, stderr=subprocess.PIPE,
                                    text=True, timeout=20, check=False)
            assert result.returncode == 2, result
            assert "-o FILE" in result.stderr and "terminal" in result.stderr and result.stderr.count("\n") == 1, result.stderr
        subprocess.run([MEMWATCH, "report", saved, "--format", "folded"], stdout=slave, timeout=20, check=True)
        assert os.read(master, 4096).startswith(b"srv (4242);plugin_load"), "binary bytes on the terminal"
    finally:
        os.close(slave)
        os.close(master)


@test()
def test_intervals_and_age_in_text(bench):
    text, _ = rendered(bench, saved_report(bench), "text")
    text = text.decode()
    assert "1. 60.0 MiB (58.1 to 61.9), 96.0 %" in text and "median age 42 s" in text, text
    assert "2. 2.50 MiB, 4.0 %" in text, "an interval that is not known"
    report = parse_report(rendered(bench, saved_report(bench), "json")[0].decode())
    assert report["sites"][0]["age_s"] == 41.5 and report["sites"][1]["bytes_low"] is None
