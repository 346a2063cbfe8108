#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of inject, sample, leave, and of kill -9 in between: torture_probe.py [--rounds 1000] [--seed N] [--source probe] [--threads 16].

The target (site_torture) counts what is wrong with it; from outside, checksums of its code, of its global offset tables and RELRO data and the
protections of its modules must be as before after every round that ended orderly, and nothing of the probe may be left unreported. Not part of
`make check`; a few rounds of it are (test_sites_probe.py). Status 0 where nothing was wrong.
"""
import argparse
import hashlib
import json
import os
import random
import statistics
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

MAGIC = struct.pack("<QQ", 0x65626F72702D776D, 0x9B1D7C54E02FA863) # PROBE_MAGIC_*, blob.h
PLUGIN = "/site_plugin_leak" # comes and goes
BASELINE_S = 5
PT_GNU_RELRO, PAGE = 0x6474E552, 4096


def mappings(pid):
    """(start, end, perms, offset, path) of each."""
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            fields = line.rstrip("\n").split(None, 5)
            start, end = (int(a, 16) for a in fields[0].split("-"))
            yield start, end, fields[1], int(fields[2], 16), fields[5] if len(fields) > 5 else ""


def constant_ranges(path):
    """(address, size) of .got, .got.plt and the RELRO segment, and the first loaded address rounded down, from the file's headers."""
    with open(path, "rb") as file:
        image = file.read()
    if image[:5] != b"\x7fELF\x02":
        return [], 0
    phoff, shoff = struct.unpack_from("<QQ", image, 32)
    phsize, phnum, shsize, shnum, shstr = struct.unpack_from("<5H", image, 54)
    found, first = [], None
    for i in range(phnum):
        kind, _, _, vaddr, _, _, memory, _ = struct.unpack_from("<IIQQQQQQ", image, phoff + i * phsize)
        if kind == 1:
            first = vaddr if first is None else min(first, vaddr)
        elif kind == PT_GNU_RELRO:
            found.append((vaddr, memory))
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, shoff + i * shsize) for i in range(shnum)]
    names = image[sections[shstr][4]:] if shnum else b""
    for name, _, _, vaddr, _, size, *_ in sections:
        if names[name:names.find(b"\0", name)] in (b".got", b".got.plt") and vaddr:
            found.append((vaddr, size))
    return found, (first or 0) // PAGE * PAGE


def snapshot(pid):
    """What must stay as it is: by module, digests of its code and of its tables, and its protections."""
    found, modules = {}, {}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        def digest(start, size):
            memory.seek(start)
            return hashlib.sha256(memory.read(size)).hexdigest()[:16]

        for start, end, perms, _, path in mappings(pid):
            if not path.startswith("/") or path.endswith(PLUGIN) or " (deleted)" in path:
                continue
            modules.setdefault(path, start)
            if "x" in perms:
                found[f"code of {path} at {start:#x}"] = digest(start, end - start)
        for path, base in modules.items():
            ranges, first = constant_ranges(path)
            if ranges:
                found[f"protections of {path}"] = [(s, e, p) for s, e, p, _, m in mappings(pid) if m == path]
            for address, size in ranges:
                found[f"tables of {path} at {address:#x}"] = digest(base - first + address, size)
    return found


def differences(before, after):
    return [f"{key}: {before.get(key)} → {after.get(key)}" for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]


def remains(pid):
    """Mappings that are the probe's code, or executable and of no file."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, perms, _, path in mappings(pid):
            if path or "r" not in perms:
                continue
            memory.seek(start)
            try:
                begins = memory.read(16)
            except OSError: # gone meanwhile
                continue
            if "x" in perms or begins == MAGIC:
                found.append(f"{start:#x}-{end:#x} {perms}" + (" blank" if not any(begins) else ""))
    return found


def steady_snapshot(pid):
    """The same twice: the plugin's coming and going may split a reading."""
    last = snapshot(pid)
    for _ in range(5):
        now = snapshot(pid)
        if now == last:
            return now
        last = now
    return last


def status_lines(target):
    return [json.loads(line) for line in target.out.splitlines()[1:] if line.endswith("}")]


def left_reported(report):
    return [gap for gap in report["session"]["gaps"] if gap["rung"] == "sites" and "probe" in gap["reason"]]


class Torture:
    def __init__(self, bench, seed, source, threads):
        self.bench, self.source, self.random = bench, source, random.Random(seed)
        self.target = bench.victim("site_torture", 1 << 20, threads, env=dict(os.environ, LD_BIND_NOW="1"))
        self.faults, self.reported, self.seen, self.killed, self.placed, self.stop_ns = [], 0, 0, 0, 0, 0
        self.gaps, self.blank = {}, set()

    def not_blank(self):
        return [line for line in remains(self.target.pid) if line not in self.blank]

    def watch(self, *args):
        return self.bench.watch("--pid", self.target.pid, "-q", "--sites", self.source, *args)

    def check_target(self, what):
        lines = status_lines(self.target)
        if not self.target.alive():
            self.faults.append(f"{what}: the target ended with status {self.target.status}")
        elif lines and (lines[-1]["faults"] or lines[-1]["eintr"]):
            self.faults.append(f"{what}: {lines[-1]}")
        return not self.faults

    def orderly(self, number):
        result = self.watch("-d", f"{self.random.uniform(0.3, 1.0):.2f}").wait(60)
        if result.status != 0:
            self.faults.append(f"round {number}: memwatch ended with {result.status}: {result.err[-300:]}")
            return
        self.seen += any(site["source"] == self.source for site in result.report["sites"])
        self.stop_ns = max(self.stop_ns, result.report["cost"]["stopped_ns_max"] or 0)
        if left_reported(result.report): # allowed where it is said; the next round takes it out
            self.reported += 1
            return
        left, changed = self.not_blank(), differences(self.before, steady_snapshot(self.target.pid))
        if left:
            gaps = [gap["reason"] for gap in result.report["session"]["gaps"] if gap["rung"] == "sites"]
            self.faults.append(f"round {number}: left behind and not reported: {left}; gaps: {gaps}")
        self.faults += [f"round {number}: {line}" for line in changed]

    def kill(self, number):
        watching = self.watch()
        wait = self.random.choice((0.05, 0.2, 0.8)) * self.random.random()
        time.sleep(wait) # the random instant of the kill, no synchronisation
        if watching.poll() is None:
            watching.signal(9)
            watching.wait(10)
            self.killed += 1
            left = remains(self.target.pid)
            self.placed += bool(left) # so the probe was really there when memwatch was killed
            # Killed between the mapping and the first write: nothing tells such a mapping from one of the program's own. It holds no memory.
            self.blank |= {line for line in left if line.endswith(" blank")}
        elif watching.status != 0:
            self.faults.append(f"round {number}: memwatch ended with {watching.status}: {watching.err[-300:]}")

    def clean(self):
        if not self.target.alive():
            return
        result = self.bench.memwatch("doctor", self.target.pid, "--clean", report=False)
        if result.status != 0:
            self.faults.append(f"doctor --clean: {result.status}: {(result.err or result.out)[-300:]}")
        try:
            self.faults += [f"after doctor --clean: left behind: {left}" for left in self.not_blank()]
            self.faults += [f"after doctor --clean: {line}" for line in differences(self.before, steady_snapshot(self.target.pid))]
        except ProcessLookupError:
            self.check_target("doctor --clean")

    def note_gaps(self, phase, since):
        values = [line["gap_ns"] / 1e6 for line in status_lines(self.target)[since:]]
        if values:
            self.gaps[phase] = (statistics.median(values), max(values))

    def run(self, rounds, baseline_s=BASELINE_S, progress=lambda number: None):
        """Lines of what was wrong; empty where nothing was."""
        lines = int(baseline_s * 4)
        self.bench.until(lambda: len(status_lines(self.target)) > lines or not self.target.alive(), "the baseline", baseline_s + 30)
        self.note_gaps("alone", 1)
        self.before = steady_snapshot(self.target.pid)
        for number in range(rounds):
            (self.orderly if number % 2 else self.kill)(number)
            if not self.check_target(f"round {number}"):
                break
            progress(number)
        self.clean()
        self.note_gaps("watched", lines)
        if self.target.alive():
            self.target.signal(15)
            status = self.target.wait(60).status
            if status != 0:
                self.faults.append(f"the target ended with status {status}: {status_lines(self.target)[-1]}")
        return self.faults

    def figures(self):
        gaps = "; ".join(f"longest step {phase}: median {mid:.1f} ms, most {most:.1f} ms" for phase, (mid, most) in self.gaps.items())
        last = status_lines(self.target)[-1]
        return (f"{self.killed} kills ({self.placed} with the probe in the target), {self.seen} reports with sites by {self.source}, {self.reported} that said something was left, {len(self.blank)} blank mappings left by kills; longest stop "
                f"{self.stop_ns / 1e6:.2f} ms; {gaps}; {last['steps']} steps, {last['signals']} signals")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=4099)
    parser.add_argument("--source", default="probe")
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args()

    bench = harness.Bench("torture", 60 + 10 * args.rounds)
    try:
        torture = Torture(bench, args.seed, args.source, args.threads)
        faults = torture.run(args.rounds, progress=lambda n: (n + 1) % 50 or print(f"{n + 1} rounds: {torture.figures()}", flush=True))
        print(f"{args.rounds} rounds: {torture.figures()}")
        print("\n".join(faults[:20]) or "nothing was wrong")
        if args.source == "probe" and not torture.placed:
            print("the probe was never seen in the target: nothing was tried")
            return 1
        return 1 if faults else 0
    finally:
        bench.close()


if __name__ == "__main__":
    sys.exit(main())
