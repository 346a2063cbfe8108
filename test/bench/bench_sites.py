#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the first site the leaking line? bench_sites.py [--source probe|faults|stacks] [--seconds N] [--only NAME] [--mode run|pid|both] [--list]

Twenty leaking programs (and one in Rust where rustc is installed), from `memwatch run` and from `--pid`, two at a time. A program counts as found
where the innermost frame of the first site that is the program's own (not a library's, not a wrapper that the truth names) is the leaking line.
10 seconds each unless told; what is promised is promised for 30. Status 1 where more than one program in a mode is not found.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import harness  # noqa: E402

KIB, MIB = 1024, 1 << 20
MISSES_ALLOWED = 1


def program(name, kind, victim="site_c", **options):
    return {"name": name, "victim": victim, "kind": kind, "options": options}


# Threads, churn (pairs/s, half of them of the leak's own size), leak rate (bytes/s), live table (MiB) and how many of its entries are replaced a second.
PROGRAMS = [
    program("calloc", "calloc", threads=2, churn=500000, rate=256 * KIB, table=64),
    program("realloc vector", "vector", threads=1, churn=200000, rate=128 * KIB, size=4096),
    program("realloc log", "log", threads=2, churn=200000, rate=100 * KIB),
    program("strdup", "strdup", threads=4, churn=1000000, rate=64 * KIB, size=97, table=64),
    program("asprintf", "asprintf", threads=1, churn=100000, rate=32 * KIB, size=61),
    program("getline", "getline", threads=1, churn=50000, rate=64 * KIB, size=120, table=64, replace=500),
    program("memalign", "memalign", threads=2, churn=300000, rate=512 * KIB, size=1024),
    program("mmap", "mmap", threads=1, churn=100000, rate=1 * MIB, size=16384),
    program("xmalloc", "xmalloc", threads=4, churn=1500000, rate=64 * KIB, size=61),
    program("callback", "callback", threads=8, churn=400000, rate=256 * KIB, table=64),
    program("hash", "hash", threads=1, churn=100000, rate=128 * KIB, size=193),
    program("1 in 1,000", "request", threads=4, churn=400000, rate=64 * KIB, size=640, table=64, replace=13000),
    program("slow", "malloc", threads=1, churn=200000, rate=100, size=100, **{"churn-max": 127}),
    program("fast", "malloc", threads=2, churn=300000, rate=10 * 1000 * 1000, size=1031, table=64),
    program("new, 16 threads", "new", "site_cxx", threads=16, churn=1500000, rate=1 * MIB, table=64, replace=2000),
    program("new[]", "array", "site_cxx", threads=4, churn=500000, rate=128 * KIB, size=257),
    program("map of strings", "map", "site_cxx", threads=1, churn=100000, rate=96 * KIB, size=200, table=64),
    program("vector of unique", "unique", "site_cxx", threads=2, churn=300000, rate=200 * KIB),
    program("thread pool", None, "site_pool", threads=4, churn=300000, rate=64 * KIB, table=64),
    program("late plugin", None, "site_plugin_host", threads=2, churn=200000, rate=128 * KIB),
]


def build_rust(bench):
    """The path of the Rust program, or None and why."""
    compiler = shutil.which("rustc") or shutil.which(os.path.expanduser("~/.cargo/bin/rustc"))
    if not compiler:
        return None, "rustc is not installed"
    path = os.path.join(bench.dir, "site_rust")
    source = os.path.join(harness.ROOT, "test", "victims", "site_rust.rs")
    done = subprocess.run([compiler, "-O", "-g", "-o", path, source], capture_output=True, text=True, check=False)
    return (path, None) if done.returncode == 0 else (None, f"rustc failed: {done.stderr[-200:]}")


def plain(function):
    """Without arguments, template arguments and the hash of a Rust name."""
    text = re.sub(r"\(.*\)$", "", function or "")
    while re.search(r"<[^<>]*>", text):
        text = re.sub(r"<[^<>]*>", "", text)
    return re.sub(r"::h[0-9a-f]{16}$", "", text)


def own_frame(site, truth):
    """The innermost frame of the program's own source that is no wrapper."""
    wrappers = set(truth.get("wrapper", "").split(","))
    for frame in site["frames"]:
        if os.path.basename(frame["file"] or "").startswith("site") and frame["line"] and plain(frame["function"]) not in wrappers:
            return frame
    return None


def is_leak(site, truth):
    frame = own_frame(site, truth)
    if not frame:
        return False
    name, wanted = plain(frame["function"]), plain(truth["function"])
    same = name == wanted or name.endswith("::" + wanted) or frame["inlined"] # an inlined frame may be named by its short name
    return bool(same) and frame["line"] == truth["line"]


def rank_of(report, truth):
    """1 for the first; 0 where the leak is in no site."""
    return next((rank for rank, site in enumerate(report["sites"], 1) if is_leak(site, truth)), 0)


def arguments(entry, seconds):
    found = [seconds] + ([entry["kind"]] if entry["kind"] else [])
    for name, value in entry["options"].items():
        found += [f"--{name}", value]
    return found


def watched(entry, mode, source, seconds):
    """The report and the truth."""
    bench = harness.Bench("sites", seconds + 120)
    path = entry.get("path") or os.path.join(harness.VICTIMS, entry["victim"])
    is_rust = entry["victim"] == "site_rust"
    try:
        if mode == "run":
            args = [seconds] if is_rust else arguments(entry, seconds)
            result = bench.memwatch("run", "-q", "--sites", source, "--", path, *args)
            result.expect(0)
            return result.report, harness.first_truth(result)
        args = [seconds + 60] if is_rust else arguments(entry, seconds + 60)
        victim = bench.victim(entry["victim"], *args, program=path)
        result = bench.memwatch("--pid", victim.pid, "-q", "--sites", source, "-d", seconds).expect(0)
        assert victim.alive(), f"the program ended while it was watched: status {victim.status}"
        return result.report, victim.truth
    finally:
        bench.close()


def judged(entry, mode, source, seconds):
    """A row of the table."""
    row = {"name": entry["name"], "mode": mode, "rank": -1, "note": ""}
    try:
        report, truth = watched(entry, mode, source, seconds)
    except (AssertionError, OSError, ValueError) as error:
        row["note"] = str(error).replace("\n", " ")[:160]
        return row
    rank = rank_of(report, truth)
    site = report["sites"][rank - 1] if rank else None
    row.update(truth=truth, rank=rank, site=site, verdict=report["verdict"]["class"], cost=report["cost"])
    row["source"] = report["sites"][0]["source"] if report["sites"] else "-"
    if rank != 1 and report["sites"]:
        first = own_frame(report["sites"][0], truth) or report["sites"][0]["frames"][0]
        row["note"] = f"first: {plain(first['function'])}:{first['line']} of {report['sites'][0]['source']}"
    elif not report["sites"]:
        row["note"] = "; ".join(gap["reason"] for gap in report["session"]["gaps"] if gap["rung"] == "sites")[:160] or "no sites"
    return row


def amount(value):
    if value is None:
        return "-"
    for unit, size in (("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g} B"


def print_row(row):
    if row["rank"] < 0:
        print(f"| {row['name']} | {row['mode']} | | | | failed | | | | | | {row['note']} |", flush=True)
        return
    truth, site, cost = row["truth"], row["site"], row["cost"]
    share = f"{site['share']:.2f}" if site and site["share"] is not None else "-"
    print(f"| {row['name']} | {row['mode']} | {truth['threads']} | {truth['churn_per_s'] / 1e3:.0f} k | {amount(truth['bytes_per_s'])}/s | "
          f"{row['rank'] or 'none'} | {share} | {amount(site['bytes_per_s']) if site else '-'}/s | {row['verdict']} | "
          f"{cost['cpu_percent'] or 0:.1f} | {cost['stops']} | {row['note']} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", choices=("probe", "faults", "stacks"), default="probe")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--only", help="a piece of the name")
    parser.add_argument("--mode", choices=("run", "pid", "both"), default="both")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()

    home = harness.Bench("sites", 36000)
    try:
        rust, reason = build_rust(home)
        programs = PROGRAMS + ([{"name": "Rust", "victim": "site_rust", "kind": None, "options": {}, "path": rust}] if rust else [])
        programs = [p for p in programs if not args.only or args.only in p["name"]]
        if args.list or not programs:
            print("\n".join(p["name"] for p in programs) or "no such program")
            return 0 if programs else 2
        print(f"--sites {args.source}, {args.seconds} s each, {os.cpu_count()} processors" + (f"; no Rust: {reason}" if reason else ""))
        print("| program | from | threads | churn/s | leak | rank | share | estimate | verdict | memwatch CPU % | stops | |\n" + "| --- " * 12 + "|")
        modes = ("run", "pid") if args.mode == "both" else (args.mode,)
        rows = []
        with ThreadPoolExecutor(max_workers=2) as pool:
            jobs = [pool.submit(judged, p, mode, args.source, args.seconds) for mode in modes for p in programs]
            for job in jobs:
                rows.append(job.result())
                print_row(rows[-1])
    finally:
        home.close()
    bad = False
    for mode in modes:
        found = sum(row["rank"] == 1 for row in rows if row["mode"] == mode)
        total = sum(row["mode"] == mode for row in rows)
        bad = bad or found < total - MISSES_ALLOWED
        print(f"{mode}: the leaking line is first in {found} of {total}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
