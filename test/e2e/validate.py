#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validates a report (or, with --stream, a stream) against man/memwatch-report.schema.json.

    validate.py FILE [--stream]     "-" reads standard input
    validate.py --self-test FILE    also proves that the schema refuses damaged copies of that report

Beyond the schema: no NaN or Infinity, every row of the series as long as its columns, times that never go back, a stream that
begins with hello. Prints one line for each fault; status 0 for none, 1 for faults, 2 for usage.
"""
import copy
import json
import os
import sys

import jsonschema

SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "man", "memwatch-report.schema.json")

NOT_NEGATIVE = {"pid", "uid", "threads", "samples", "stops", "stopped_ns_total", "stopped_ns_max", "rss_peak_bytes", "limit_bytes",
                "in_use_bytes", "in_use_blocks", "free_bytes", "free_resident_bytes", "mapped_bytes", "trimmable_bytes", "pinned_bytes",
                "rss_bytes", "pss_bytes", "bytes", "blocks", "allocated_bytes", "in_use", "free", "size", "line"}


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


def parse(text):
    return json.loads(text, parse_constant=no_constant)


def validator(part):
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    # One of the two parts by name: what should be a report must not pass as a stream.
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{part}", "$defs": schema["$defs"]})


def schema_faults(check, value):
    for error in check.iter_errors(value):
        place = "/".join(map(str, error.absolute_path)) or "(top)"
        yield f"{place}: {error.message[:200]}"


def series_faults(report):
    series = report.get("series", {})
    columns = series.get("columns", [])
    before = None
    for number, row in enumerate(series.get("rows", [])):
        if len(row) != len(columns):
            yield f"series/rows/{number}: {len(row)} values for {len(columns)} columns"
        if before is not None and row and row[0] is not None and row[0] < before:
            yield f"series/rows/{number}: time goes back from {before} to {row[0]}"
        before = row[0] if row and row[0] is not None else before


def report_faults(text):
    try:
        report = parse(text)
    except ValueError as error:
        return [f"no valid JSON: {error}"]
    faults = list(schema_faults(validator("report"), report))
    return faults or list(series_faults(report))


def stream_faults(text):
    check = validator("stream_line")
    faults = []
    before = {}
    for number, line in enumerate(text.splitlines(), 1):
        try:
            value = parse(line)
        except ValueError as error:
            faults.append(f"line {number}: no valid JSON: {error}")
            continue
        found = [f"line {number}: {fault}" for fault in schema_faults(check, value)]
        faults += found
        if found:
            continue
        if (number == 1) != (value["type"] == "hello"):
            faults.append(f"line {number}: hello must be the first line, and only that")
        if value["type"] == "sample":
            if value["t_s"] < before.get(value["pid"], 0):
                faults.append(f"line {number}: time goes back")
            before[value["pid"]] = value["t_s"]
    return faults or ([] if text else ["no lines"])


def damaged(report):
    """Copies with one value of a wrong type, or one size or count below zero."""
    def places(value, path):
        if isinstance(value, dict):
            yield from ((path + [key],) for key in value)
            for key, inner in value.items():
                yield from places(inner, path + [key])
        elif isinstance(value, list):
            for index, inner in enumerate(value[:1]):
                yield from places(inner, path + [index])

    def parent_of(copied, path):
        for key in path[:-1]:
            copied = copied[key]
        return copied

    for (path,) in places(report, []):
        copied = copy.deepcopy(report)
        parent = parent_of(copied, path)
        old = parent[path[-1]]
        parent[path[-1]] = {} if isinstance(old, list) else []
        yield "/".join(map(str, path)) + " of a wrong type", copied
        if isinstance(old, int) and not isinstance(old, bool) and path[-1] in NOT_NEGATIVE:
            copied = copy.deepcopy(report)
            parent_of(copied, path)[path[-1]] = -1
            yield "/".join(map(str, path)) + " negative", copied


def missing(report, schema):
    """Copies that lack one required key of the objects that every report has."""
    wanted = [([], "entry"), ([], "report"), (["target"], "target"), (["session"], "session"), (["cost"], "cost"),
              (["verdict"], "verdict"), (["series"], "series"), (["heap"], "heap"), (["sites", 0], "site"),
              (["work"], "work"), (["cycles"], "cycles"),
              (["sites", 0, "frames", 0], "frame"), (["metrics", "rss_bytes"], "metric"), (["processes", 0], "process")]
    for path, name in wanted:
        for key in schema["$defs"][name]["required"]:
            if path in (["work"], ["cycles"]) and not report[path[0]]:
                continue
            copied = copy.deepcopy(report)
            inner = copied
            for step in path:
                inner = inner[step]
            del inner[key]
            yield "/".join(map(str, path + [key])) + " missing", copied


def self_test(text):
    with open(SCHEMA, encoding="utf-8") as file:
        schema = json.load(file)
    whole = jsonschema.Draft202012Validator(schema)
    report = parse(text)
    faults = report_faults(text)
    for cases in (damaged(report), missing(report, schema)):
        for what, copied in cases:
            if whole.is_valid(copied):
                faults.append(f"the schema accepts a report with {what}")
    return faults


def main(arguments):
    flags = [a for a in arguments if a.startswith("--")]
    files = [a for a in arguments if not a.startswith("--")]
    if len(files) != 1 or any(f not in ("--stream", "--self-test") for f in flags):
        print(__doc__, file=sys.stderr)
        return 2
    if files[0] == "-":
        text = sys.stdin.read()
    else:
        with open(files[0], encoding="utf-8") as file:
            text = file.read()
    check = stream_faults if "--stream" in flags else self_test if "--self-test" in flags else report_faults
    faults = check(text)
    for fault in faults:
        print(f"{files[0]}: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
