#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What watching costs: bench_cost.py [ROUNDS]. Every figure comes from pairs, with and without memwatch, in turn; medians of the pairs.

Prints a table for the README. The machine should have nothing else to do.
"""
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import harness  # noqa: E402

SECONDS = 8


def last_json(running):
    return json.loads(running.out.strip().splitlines()[-1])


def measured(bench, watched, name, *args):
    """Runs the victim to its end, watched from its first line on or alone; its own figures, and memwatch's report."""
    victim = bench.victim(name, SECONDS, *args)
    watcher = bench.watch("--pid", victim.pid) if watched else None
    victim.wait(SECONDS + 60)
    return last_json(victim), watcher.wait(30).report if watcher else None


def pairs(bench, rounds, key, name, *args):
    """Median of with/without, the medians of both, and the last report."""
    ratios, alone, beside, report = [], [], [], None
    for number in range(rounds):
        both = {}
        for watched in (number % 2 == 0, number % 2 == 1): # the order alternates
            figures, written = measured(bench, watched, name, *args)
            both[watched] = figures[key]
            report = written or report
        ratios.append(both[True] / both[False])
        alone.append(both[False])
        beside.append(both[True])
    return statistics.median(ratios), statistics.median(alone), statistics.median(beside), report


def start_up(rounds):
    def once(*argv):
        started = time.perf_counter()
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
                                                                      (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)])
        os.waitpid(pid, 0)
        return time.perf_counter() - started

    true = harness.need_program("true")
    return statistics.median(once(harness.MEMWATCH, "run", "--", true) - once(true) for _ in range(10 * rounds))


def row(what, figure, goal):
    print(f"| {what} | {figure} | {goal} |", flush=True)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    bench = harness.Bench("cost", 3600)
    try:
        print(f"| {rounds} pairs of {SECONDS} s, {os.cpu_count()} processors, Linux {os.uname().release.split('-')[0]} | measured | goal |\n| --- | --- | --- |")
        ratio, alone, beside, report = pairs(bench, rounds, "pairs_per_s", "malloc_bound", 4)
        row("malloc and free on 4 threads, 10 Hz with heap truth: work done",
            f"{(ratio - 1) * 100:+.1f} % ({alone / 1e6:.2f} → {beside / 1e6:.2f} M pairs/s)", "≥ −1 %")
        row("memwatch's own CPU meanwhile", f"{report['cost']['cpu_percent']:.1f} % of one core", "≤ 2 %")
        ratio, alone, beside, report = pairs(bench, rounds, "p99_ns", "map_loop", 500)
        row("p99 of mmap, touch, munmap in a 500 MB process", f"{(ratio - 1) * 100:+.1f} % ({alone / 1e3:.1f} → {beside / 1e3:.1f} µs)", "≤ +10 %")
        victim = bench.victim("leak_threads", 40, 64)
        report = bench.memwatch("--pid", victim.pid, "-d", 15).expect(0).report
        row("longest stop, 64 threads at work and growing", f"{report['cost']['stopped_ns_max'] / 1e6:.2f} ms of {report['cost']['stops']} stops", "≤ 1 ms")
        victim = bench.victim("many_maps", 40)
        result = bench.memwatch("--pid", victim.pid, "-d", 15).expect(0)
        row("memwatch's peak RSS, target of 50,000 mappings", f"{result.peak_bytes / 2**20:.1f} MiB", "≤ 24 MB")
        row("`memwatch run -- true` over `true`", f"{start_up(rounds) * 1000:+.1f} ms", "≤ 15 ms")
    finally:
        bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
