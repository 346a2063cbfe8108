#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the end-to-end tests: run.py [-j N] [-l] [PATTERN...]; a pattern is a piece of "file.test_name".

Prints a line per test and, last, "N passed, N failed". Needs build/memwatch and build/test/victims (make all tests).
"""
import argparse
import glob
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402

counts = {"passed": 0, "failed": 0, "skipped": 0}
lock = threading.Lock()


def full_name(entry):
    return f"{entry['module']}.{entry['name']}"


def explain(error):
    """The assertion's message, and where in the test it stands."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.basename(f.filename).startswith("test_")]
    place = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def run_one(entry):
    started = time.monotonic()
    word, note = "ok", ""
    bench = harness.Bench(entry["name"], entry["timeout"])
    try:
        entry["run"](bench)
        key = "passed"
    except harness.Skip as reason:
        word, note, key = "skip", str(reason), "skipped"
    except Exception as error:  # pylint: disable=broad-except
        word, note, key = "FAIL", explain(error), "failed"
    finally:
        try:
            bench.close()
        except Exception as error:  # pylint: disable=broad-except
            word, note, key = "FAIL", f"{note} cleaning up: {error!r}", "failed"
    with lock:
        counts[key] += 1
        print(f"{word:4} {full_name(entry)} {time.monotonic() - started:.1f} s{': ' + note if note else ''}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-j", type=int, default=6, help="tests at a time (most of their time is waiting)")
    parser.add_argument("-l", action="store_true", help="list the tests")
    parser.add_argument("patterns", nargs="*")
    args = parser.parse_args()

    signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background job ignores them, and would have every child do so
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    chosen = [t for t in harness.TESTS if not args.patterns or any(p in full_name(t) for p in args.patterns)]
    if args.l:
        print("\n".join(full_name(t) for t in chosen))
        return 0
    if not os.access(harness.MEMWATCH, os.X_OK):
        print(f"FAIL {harness.MEMWATCH} is not built\n0 passed, {len(chosen)} failed")
        return 1

    together = sorted((t for t in chosen if not t["alone"]), key=lambda t: -t["timeout"])
    with ThreadPoolExecutor(max_workers=max(1, args.j)) as pool:
        list(pool.map(run_one, together))
    for entry in chosen:
        if entry["alone"]:
            run_one(entry)
    if counts["skipped"]:
        print(f"({counts['skipped']} skipped)")
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
