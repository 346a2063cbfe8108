# SPDX-License-Identifier: GPL-3.0-or-later
"""memwatch analyze: verdicts on recordings, our own and other tools'."""
import collections
import json
import os
import random
import re

from harness import ROOT, VICTIMS, parse_report, test

DATA = os.path.join(ROOT, "test", "e2e", "data")
MIB = 1 << 20
# Of what grows and is not known to be work: the class depends on how much the recording says about it.
GROWING = {"leak", "growth", "scaling"}


def data(name):
    return os.path.join(DATA, name)


def write(bench, name, text):
    path = bench.path(name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def analyze(bench, *args, **options):
    return bench.memwatch("analyze", *args, report=False, **options)


def reports_of(result):
    """Every line is a report of its own that the schema accepts."""
    return [parse_report(line) for line in result.out.splitlines()]


def analyze_json(bench, *args, status=0, **options):
    return reports_of(analyze(bench, "--json", *args, **options).expect(status))


def flat_rows(count=300, spacing=2, seed=7):
    noise = random.Random(seed)
    for i in range(count):
        yield i * spacing, 64 * MIB + noise.randrange(64) * 4096


def leak_rows(count=300, spacing=2, per_row=40960, seed=7):
    noise = random.Random(seed)
    for i in range(count):
        yield i * spacing, 64 * MIB + i * per_row + noise.randrange(16) * 4096


def csv(rows, header="t,rss_bytes"):
    return header + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def flat_csv(bench, name="flat.csv"):
    return write(bench, name, csv(flat_rows()))


# ---- our own CSV -------------------------------------------------------------------------------------------------------------


@test()
def test_csv_with_a_leak(bench):
    report, = analyze_json(bench, data("leak.csv"))
    verdict, target, session = report["verdict"], report["target"], report["session"]
    # The heap in use grows by 40,960 bytes every 2 s; CPU time goes along exactly, so work may explain it.
    assert verdict["class"] in ("leak", "scaling") and verdict["where"] == "heap", verdict
    slope = report["metrics"]["heap_in_use_bytes"]["slope_per_s"]
    assert 0.95 * 20480 < slope["value"] < 1.05 * 20480, slope
    assert target["source"] == data("leak.csv") and target["label"] is None and target["pid"] is None, target
    assert target["uid"] is None and target["threads"] is None and target["start_ticks"] is None, target
    assert session["samples"] == 300 and session["interval_ms"] == 2000 and session["duration_s"] == 598, session
    assert session["rungs"] == ["recording"]
    assert report["series"]["columns"] == ["t_s", "rss_bytes", "heap_in_use_bytes", "cpu_s"]
    assert report["series"]["rows"][0][0] == 0 and len(report["series"]["rows"]) == 300
    assert report["cost"]["stops"] == 0 and report["cost"]["cpu_s"] is None


@test()
def test_csv_without_growth(bench):
    report, = analyze_json(bench, flat_csv(bench))
    assert report["verdict"]["class"] == "stable" and report["verdict"]["forecast"] is None, report["verdict"]


@test()
def test_rss_alone_is_no_leak(bench):
    report, = analyze_json(bench, write(bench, "rss.csv", csv(leak_rows())))
    assert report["verdict"]["class"] in GROWING - {"leak"}, report["verdict"]


@test()
def test_several_series_of_one_file(bench):
    rows = [(t, "web-1", v) for t, v in flat_rows()] + [(t, "web-2", v) for t, v in leak_rows()]
    rows.sort(key=lambda row: row[0])
    path = write(bench, "fleet.csv", csv(rows, "t,label,rss_bytes"))
    reports = analyze_json(bench, path)
    assert [r["target"]["label"] for r in reports] == ["web-1", "web-2"]
    assert reports[0]["verdict"]["class"] == "stable" and reports[1]["verdict"]["class"] in GROWING
    text = analyze(bench, path).expect(0).out
    assert re.search(r"^memwatch: .*fleet\.csv: web-1: rss_bytes; 300 rows over 10 min, every 2\.?0? s$", text, re.M), text
    assert text.count("\nverdict: ") == 2 and "cost:" not in text
    assert re.search(r"\n2 series: 1 \w+, 1 stable\n$", text), text


@test()
def test_many_series_get_a_line_each(bench):
    rows = [(t, f"p{i}", v + i) for t, v in flat_rows(60) for i in range(25)]
    result = analyze(bench, write(bench, "many.csv", csv(rows, "t,label,rss_bytes"))).expect(0)
    lines = result.out.splitlines()
    assert len(lines) == 26 and lines[-1] == "25 series: 25 stable", lines[-3:]
    assert [line.split()[0] for line in lines[:-1]] == [f"p{i}" for i in range(25)]
    assert all(line.split()[1] == "stable" for line in lines[:-1])
    assert "verdict: " not in result.out


@test()
def test_one_series_has_no_last_line(bench):
    assert "series:" not in analyze(bench, flat_csv(bench)).expect(0).out


# ---- outputs and status ------------------------------------------------------------------------------------------------------


@test()
def test_a_broken_file_does_not_stop_the_others(bench):
    broken = write(bench, "broken.csv", "t,rss_bytes\n0,1000\n1,2000\n2,many\n")
    good = flat_csv(bench)
    missing = os.path.join(bench.dir, "missing.csv")
    result = analyze(bench, "--json", broken, good, missing).expect(1)
    report, = reports_of(result)
    assert report["target"]["source"] == good and report["verdict"]["class"] == "stable"
    errors = result.err.splitlines()
    assert len(errors) == 2, errors
    assert errors[0].startswith(f"memwatch: {broken}:4: "), errors
    assert errors[1].startswith(f"memwatch: {missing}: ") and "No such file" in errors[1], errors
    assert result.out.count("\n") == 1
    text = analyze(bench, broken, good).expect(1).out
    assert "verdict: stable" in text and text.endswith("1 series: 1 stable; 1 file not analysed\n"), text


@test()
def test_what_is_no_recording(bench):
    for name, content in (("empty", ""), ("words", "nothing that anybody would call a recording\n"), ("binary", "\0\1\2\377" * 999),
                          ("brace", "{"), ("json", '{"answer": 42}\n'), ("deep", "[" * 100000)):
        result = analyze(bench, write(bench, name, content)).expect(1)
        assert result.out == "" and result.err.startswith("memwatch: /"), (name, result.out, result.err)
        assert len(result.err.splitlines()) == 1, result.err
    analyze(bench, bench.dir).expect(1).expect_one_line("directory")


@test()
def test_too_little_is_no_error(bench):
    for rows in (1, 2, 5):
        report, = analyze_json(bench, write(bench, "short.csv", csv(flat_rows(rows))))
        assert report["verdict"]["class"] == "insufficient-data", report["verdict"]
    holes = "t,rss_bytes\n0,4096\n" + "".join(f"{i},\n" for i in range(1, 100))
    report, = analyze_json(bench, write(bench, "holes.csv", holes))
    assert report["verdict"]["class"] == "insufficient-data", report["verdict"]
    # Several seconds and samples of what is no memory: nothing that could be judged.
    report, = analyze_json(bench, write(bench, "cpu.csv", csv(((i, i / 2) for i in range(100)), "t,cpu_s")))
    assert report["verdict"]["class"] == "insufficient-data", report["verdict"]


@test()
def test_standard_input(bench):
    with open(data("leak.csv"), encoding="utf-8") as stdin:
        report, = analyze_json(bench, "-", stdin=stdin)
    assert report["target"]["source"] == "-" and report["session"]["samples"] == 300
    with open(write(bench, "broken.csv", "t,rss_bytes\n0,1\n1,x\n"), encoding="utf-8") as stdin:
        analyze(bench, "-", stdin=stdin).expect(1).expect_one_line("standard input:3: ")


@test()
def test_output_file(bench):
    path, good = bench.path("verdicts.ndjson"), flat_csv(bench)
    result = analyze(bench, "-o", path, good, data("leak.csv")).expect(0)
    assert result.out.count("\nverdict: ") == 2, "the text goes to standard output beside the file"
    with open(path, encoding="utf-8") as file:
        reports = [parse_report(line) for line in file]
    assert [r["target"]["source"] for r in reports] == [good, data("leak.csv")]
    with open(good, encoding="utf-8") as file:
        before = file.read()
    analyze(bench, "-o", good, good).expect(2).expect_one_line(good, "another name")
    with open(good, encoding="utf-8") as file:
        assert file.read() == before, "the input was damaged"
    analyze(bench, "-o", os.path.join(bench.dir, "no", "where"), good).expect(1).expect_one_line("cannot write")


@test()
def test_usage(bench):
    analyze(bench).expect(2).expect_one_line("no recording given")
    analyze(bench, "--format", "xls", data("leak.csv")).expect(2).expect_one_line("--format", "xls")
    analyze(bench, "--json", "-o", "x", data("leak.csv")).expect(2).expect_one_line("--json")
    analyze(bench, "--expect", "nothing", data("leak.csv")).expect(2).expect_one_line("--expect")
    assert "--fail-on" in analyze(bench, "--help").expect(0).out


@test()
def test_fail_on(bench):
    rss = write(bench, "rss.csv", csv(leak_rows()))
    flat = flat_csv(bench)
    analyze(bench, "--fail-on", "leak,growth,scaling", flat).expect(0)
    analyze(bench, "--fail-on", "leak,growth,scaling", flat, rss, flat).expect(3)
    analyze(bench, "--fail-on", "stable", "--json", rss).expect(0)
    analyze(bench, "--fail-on", "stable", flat, os.path.join(bench.dir, "missing")).expect(1)


@test()
def test_a_limit_is_forecast(bench):
    report, = analyze_json(bench, "--limit", "1G", write(bench, "rss.csv", csv(leak_rows())))
    forecast = report["verdict"]["forecast"]
    assert forecast and forecast["limit_bytes"] == 1 << 30 and forecast["limit_source"] == "--limit", forecast
    expected = ((1 << 30) - report["metrics"]["rss_bytes"]["last"]) / 20480
    eta = forecast["eta_s"]
    assert 0.9 * expected < eta["mid"] < 1.1 * expected, f"{eta}, not {expected:.0f} s"
    assert eta["low"] <= eta["mid"] and (eta["high"] is None or eta["high"] >= eta["mid"]), eta
    assert report["limit_bytes"] == 1 << 30
    text = analyze(bench, "--limit", "1G", write(bench, "rss.csv", csv(leak_rows()))).expect(0).out
    assert re.search(r"^  limit:  1\.0 GiB \(--limit\)", text, re.M), text


@test()
def test_expect_transient(bench):
    """Memory goes with the units of work: data that is meant to be kept, or a leak per unit where nothing should be."""
    noise, units, rows = random.Random(7), 0, []
    for i in range(400):
        units += noise.choice((0, 0, 1, 5, 20))
        rows.append((i * 2, 64 * MIB + 8192 * units, 60 * MIB + 8192 * units, units))
    path = write(bench, "work.csv", csv(rows, "t,rss_bytes,heap_in_use_bytes,work_units"))
    report, = analyze_json(bench, path)
    assert report["verdict"]["class"] == "scaling", report["verdict"]
    work = report["work"]
    assert work and work["cooperative"] and 8000 < work["bytes_per_unit"]["value"] < 8400, work
    assert work["bytes_per_unit"]["low"] <= 8192 <= work["bytes_per_unit"]["high"], work
    report, = analyze_json(bench, "--expect", "transient", path)
    assert report["verdict"]["class"] == "leak", report["verdict"]
    assert re.search(r"^  work:   8\.0\d KiB per ", analyze(bench, path).expect(0).out, re.M)


@test()
def test_a_restart_splits_the_series(bench):
    """The second life is long enough to be judged alone: it is flat, although the first one grew."""
    rows = [(t, v, t / 10) for t, v in leak_rows(200, 2, 81920)]
    rows += [(400 + t, v, t / 10) for t, v in flat_rows(200)]
    report, = analyze_json(bench, write(bench, "restart.csv", csv(rows, "t,rss_bytes,cpu_s")))
    assert report["verdict"]["class"] == "stable", report["verdict"]
    gaps = [gap["reason"] for gap in report["session"]["gaps"] if gap["rung"] == "recording"]
    assert any(re.match(r"1 restart: judged the last life, 6\.\d min of 13 min$", gap) for gap in gaps), gaps
    assert report["session"]["samples"] == 200 and report["series"]["rows"][0][0] == 0
    # ... but a last life that has only just begun tells nothing: the longest one is judged.
    rows = rows[:200] + [(400 + t, v, t / 10) for t, v in flat_rows(30)]
    report, = analyze_json(bench, write(bench, "restart.csv", csv(rows, "t,rss_bytes,cpu_s")))
    assert report["verdict"]["class"] in GROWING and report["session"]["samples"] == 200, report["verdict"]
    assert any("judged the longest life" in gap["reason"] for gap in report["session"]["gaps"])


# ---- other tools -------------------------------------------------------------------------------------------------------------


@test()
def test_foreign_formats(bench):
    """Told by what is in the file, and the same where the format is named."""
    for name, form, metric, classes in (("mprof.dat", "mprof", "rss_bytes", GROWING), ("massif.out", "massif", "heap_in_use_bytes", GROWING),
                                        ("psrecord.txt", "psrecord", "rss_bytes", {"stable"})):
        found, = analyze_json(bench, data(name))
        named, = analyze_json(bench, "--format", form, data(name))
        assert found == named, f"{name}: read in another way where the format is named"
        assert found["metrics"][metric]["count"] >= 60, (name, found["metrics"])
        assert found["verdict"]["class"] in classes, (name, found["verdict"])
    report, = analyze_json(bench, data("mprof.dat"))
    assert 41 * MIB < report["metrics"]["rss_bytes"]["first"] < 42 * MIB, report["metrics"]
    assert report["session"]["started_at"] == "2026-11-20T12:10:25.250Z", report["session"]


@test()
def test_prometheus(bench):
    reports = analyze_json(bench, data("prometheus.json"))
    assert len(reports) == 2 and ["web-1" in r["target"]["label"] for r in reports] == [True, False], [r["target"] for r in reports]
    assert [r["session"]["samples"] for r in reports] == [120, 120]
    assert reports[0]["verdict"]["class"] == "stable" and reports[1]["verdict"]["class"] in GROWING


@test()
def test_the_wrong_format_is_told(bench):
    analyze(bench, "--format", "massif", data("leak.csv")).expect(1).expect_one_line("leak.csv:")
    analyze(bench, "--format", "prometheus", data("mprof.dat")).expect(1).expect_one_line("mprof.dat")


# ---- our own reports and streams ---------------------------------------------------------------------------------------------


@test(timeout=90)
def test_own_report_and_stream(bench):
    """What is analysed afterwards says what was said while it ran."""
    stream = bench.path("stream.ndjson")
    live = bench.memwatch("run", "--quiet", "--stream", stream, "--", f"{VICTIMS}/leak_churn", "20").expect(0)
    assert live.verdict["class"] == "leak", live.verdict
    saved = write(bench, "saved.json", json.dumps(live.report))
    report, = analyze_json(bench, saved)
    assert report["verdict"]["class"] == "leak" and report["verdict"]["where"] == "heap", report["verdict"]
    assert report["target"]["pid"] == live.report["target"]["pid"] and report["target"]["source"] == saved
    assert report["heap"]["in_use_bytes"] == live.report["heap"]["in_use_bytes"]
    assert len(report["sites"]) == len(live.report["sites"]) and report["target"]["cmdline"] == live.report["target"]["cmdline"]
    assert report["cost"]["stops"] == 0, "the recording was not stopped again"
    report, = analyze_json(bench, stream)
    assert report["verdict"]["class"] == "leak" and report["target"]["pid"] == live.report["target"]["pid"], report["verdict"]
    # Its own output is a recording too.
    again = write(bench, "again.ndjson", analyze(bench, "--json", stream, stream).expect(0).out)
    reports = analyze_json(bench, again)
    assert [r["verdict"]["class"] for r in reports] == ["leak", "leak"]
    assert all(r["target"]["source"] == again for r in reports)


@test()
def test_report_on_one_line(bench):
    path = bench.path("report.json")
    bench.memwatch("run", "--quiet", "-o", path, "--", "sleep", "1", report=False).expect(0)
    line = bench.memwatch("report", path, "--format", "ndjson", report=False).expect(0).out
    assert line.count("\n") == 1 and line.endswith("\n")
    with open(path, encoding="utf-8") as file:
        assert parse_report(line) == json.load(file)


# ---- odd input ---------------------------------------------------------------------------------------------------------------


@test()
def test_odd_rows(bench):
    """10,000 rows with what real recordings have: holes, doubles, rows out of order, very large and very small values."""
    noise = random.Random(4099)
    rows = [[i * 0.5, 100 * MIB + noise.randrange(MIB), noise.randrange(50)] for i in range(10000)]
    for i in range(0, 10000, 97):
        rows[i][1] = noise.choice(("", "NaN", "null", "-"))
    for i in range(50, 10000, 1013):
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
        rows.insert(i, list(rows[i]))
    rows[5000][1] = 1 << 52
    rows[5001][1] = 0
    result = analyze(bench, "--json", write(bench, "odd.csv", csv(rows, "time (s),RSS (B),threads"))).expect(0)
    report, = reports_of(result)
    assert report["metrics"]["rss_bytes"]["max"] == 1 << 52 and report["metrics"]["rss_bytes"]["min"] == 0
    assert 9990 <= report["session"]["samples"] <= 10000 and len(report["series"]["rows"]) <= 2000
    assert [gap for gap in report["session"]["gaps"] if gap["rung"] == "recording"], "nothing is told of the repairs"
    assert report["verdict"]["class"] in ("stable", "spike"), report["verdict"]


@test()
def test_hostile_labels(bench):
    """A label is text of somebody else: no control character of it reaches a terminal."""
    rows = [(t, "\x1b]0;owned\x07\u202eweb", v) for t, v in flat_rows(50)]
    path = write(bench, "hostile.csv", csv(rows, "t,label,rss_bytes"))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", analyze(bench, path).expect(0).out)
    result = analyze(bench, "--json", path).expect(0)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f\u202e]", result.out)
    reports_of(result)


@test(timeout=120, alone=True)
def test_thousands_of_series(bench):
    """2,000 series of 1,000 points in one file: the reports of all of them, soon and in bounded memory."""
    noise = random.Random(7)
    path = bench.path("fleet.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.write("t,label,rss_bytes\n")
        for series in range(2000):
            grows = 40960 if series % 10 == 0 else 0
            base = noise.randrange(64, 512) * MIB
            file.write("".join(f"{i * 15},s{series},{base + i * grows + int(noise.random() * 64) * 4096}\n" for i in range(1000)))
    result = analyze(bench, "-o", "-", path).expect(0)
    lines = result.out.splitlines()
    assert len(lines) == 2000
    classes = [json.loads(line)["verdict"]["class"] for line in lines[::10]]
    assert sum(found in GROWING for found in classes) >= 190, f"of 200 that grow: {collections.Counter(classes)}"
    classes = [json.loads(line)["verdict"]["class"] for line in lines[5::10]]
    assert sum(found == "stable" for found in classes) >= 190, f"of 200 that are flat: {collections.Counter(classes)}"
    assert result.seconds < 15, f"{result.seconds:.0f} s" # 2 s where nothing else runs
    assert result.peak_bytes < 400 * MIB, f"{result.peak_bytes >> 20} MiB"
