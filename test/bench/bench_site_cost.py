#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What call sites cost the target: bench_site_cost.py [ROUNDS] [SECONDS], 2 rounds of 4 s unless told; 9 rounds of 8 s for a table worth printing.

Each round runs every way of watching once, in an order of its own, on each workload; figures are medians of the ratios and differences to the
unprofiled run of the same round. The target counts its pairs by the CPU clocks of its threads, so other load on the machine, memwatch's own included,
shows in the wall ratio only. heaptrack, gdb and valgrind are compared where they are installed. The machine should have nothing else to do.
"""
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import harness  # noqa: E402

PROGRAM = os.path.join(harness.VICTIMS, "site_pairs")
WORKLOADS = (("tight loop, 1 thread", 1, 0), ("tight loop, 4 threads", 4, 0), ("1 M pairs/s, 1 thread", 1, 1000000))


def last_json(text):
    found = [line for line in text.splitlines() if line.startswith('{ "pairs"')]
    assert found, f"the program did not end as it should: {text[-200:]!r}"
    return json.loads(found[-1])


def ended(running, seconds):
    return last_json(running.wait(seconds * 60 + 60).expect(0).out)


def alone(bench, args, seconds):
    return ended(bench.start(PROGRAM, *args), seconds)


def by_run(*sites):
    def way(bench, args, seconds):
        return ended(bench.watch("run", "-q", *sites, "--", PROGRAM, *args), seconds)

    return way


def by_pid(*sites):
    def way(bench, args, seconds):
        victim = bench.victim("site_pairs", *args)
        watcher = bench.watch("--pid", victim.pid, "-q", *sites)
        figures = ended(victim, seconds)
        watcher.wait(60).expect(0)
        return figures

    return way


def heaptrack_preloaded(bench, args, seconds):
    return ended(bench.start("heaptrack", "-o", bench.path("heaptrack"), PROGRAM, *args), seconds)


def heaptrack_attached(bench, args, seconds):
    """Its reader is not ended before the target: the target would die of SIGPIPE."""
    victim = bench.victim("site_pairs", *args)
    tracker = bench.start("heaptrack", "-o", bench.path("heaptrack"), "-p", victim.pid, start_new_session=True)
    try:
        return ended(victim, seconds)
    finally:
        for _ in range(100):
            if not tracker.alive():
                break
            time.sleep(0.1)
        if tracker.alive():
            tracker.signal_group(signal.SIGKILL)


def massif(bench, args, seconds):
    return ended(bench.start("valgrind", "-q", "--tool=massif", f"--massif-out-file={bench.path('massif')}", PROGRAM, *args), seconds)


WAYS = [
    ("`memwatch run --sites probe`", by_run("--sites", "probe"), ()),
    ("`memwatch --pid --sites probe`", by_pid("--sites", "probe"), ()),
    ("`memwatch --pid --sites faults`", by_pid("--sites", "faults"), ()),
    ("`memwatch --pid --sites stacks`", by_pid("--sites", "stacks"), ()),
    ("`memwatch --pid --sites off`", by_pid("--sites", "off"), ()),
    ("heaptrack, preloaded", heaptrack_preloaded, ("heaptrack",)),
    ("heaptrack, attached", heaptrack_attached, ("heaptrack", "gdb")),
    ("massif", massif, ("valgrind",)),
]


def once(way, args, seconds):
    bench = harness.Bench("site-cost", 900)
    try:
        return way(bench, args, seconds), None
    except AssertionError as error:
        return None, str(error).replace("\n", " ")[:160]
    finally:
        bench.close()


def installed(ways):
    for name, way, tools in ways:
        missing = [tool for tool in tools if not shutil.which(tool)]
        if missing:
            print(f"left out: {name}: {', '.join(missing)} not installed")
        else:
            yield name, way


def measure(ways, args, rounds, seconds):
    """By name: list of (wall ratio, ns added a pair, CPU added in % of a core); failures; the unprofiled ns per pair."""
    found, failed, base = {name: [] for name, _ in ways}, {}, []
    for number in range(rounds):
        order = [("", alone)] + ways
        random.Random(number).shuffle(order)
        results = {}
        for name, way in order:
            results[name], reason = once(way, args, seconds)
            if reason:
                failed[name] = reason
        plain = results[""]
        assert plain, f"the unprofiled program failed: {failed.get('')}"
        base.append(plain["ns_per_pair"])
        for name, _ in ways:
            if results[name]:
                added = results[name]["ns_per_pair"] - plain["ns_per_pair"]
                found[name].append((plain["pairs_per_s"] / results[name]["pairs_per_s"], added, added * results[name]["pairs_per_s"] / 1e7))
    return found, failed, statistics.median(base)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 4
    ways = list(installed(WAYS))
    version = subprocess.run([harness.MEMWATCH, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    print(f"{version or 'memwatch'}: {rounds} rounds of {seconds:g} s, {os.cpu_count()} processors, Linux {os.uname().release.split('-')[0]}; "
          "16 to 1,039 bytes, 64 MiB live; medians (lowest to highest)")
    for title, threads, rate in WORKLOADS:
        found, failed, base = measure(ways, [seconds, threads, rate], rounds, seconds)
        print(f"\n| {title}; unprofiled: {base:.1f} ns a pair | wall | ns added a pair | CPU added, % of a core |\n| --- | --- | --- | --- |")
        for name, _ in ways:
            if not found[name]:
                print(f"| {name} | failed: {failed[name]} | | |")
                continue
            wall, added, share = (statistics.median(column) for column in zip(*found[name]))
            low, high = min(f[1] for f in found[name]), max(f[1] for f in found[name])
            print(f"| {name} | {wall:.2f} | {added:+.1f} ({low:+.1f} to {high:+.1f}) | {share:+.1f} |" +
                  (f" {failed[name]}" if name in failed else ""), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
