# SPDX-License-Identifier: GPL-3.0-or-later
"""Which size class leaks, told from heap walks alone, without stacks: what the report says of its size classes."""
from harness import test

SECONDS = 20
MATERIAL = 64 << 10 # over the watch: less is noise of the churn


def watch(bench, name, *args, length=SECONDS + 8):
    victim = bench.victim(name, length, *args)
    result = bench.memwatch("--pid", victim.pid, "-d", f"{SECONDS}s", "--sites", "off").expect(0)
    return victim.truth, result.report["heap"]["size_classes"]


def growing(classes):
    """Those that grew by more than noise, most first."""
    found = [c for c in classes if (c["growth_per_s"] or 0) * SECONDS > MATERIAL]
    return sorted(found, key=lambda c: -c["growth_per_s"])


def told(c):
    return {k: c[k] for k in ("size", "growth_per_s", "tracked_blocks", "freed_blocks", "leak_probability", "age_s")}


def leaking_class(rate):
    def run(bench):
        truth, classes = watch(bench, "survivors_churn", rate)
        grown = growing(classes)
        assert grown, f"no class grows: {[told(c) for c in classes[:9]]}"
        first = grown[0]
        assert first["size"] == truth["chunk"], f"class {first['size']} grows most, not {truth['chunk']}: {told(first)}"
        assert first["leak_probability"] is not None and first["leak_probability"] >= 0.9, told(first)
        assert 0.8 < first["growth_per_s"] / truth["bytes_per_s"] < 1.25, told(first)
        assert 0 < first["age_s"] < SECONDS, told(first)
        # where a free chunk leaves a rest of 16 bytes, the block is given that, too: the next class leaks as truly
        others = [c for c in grown[1:] if (c["leak_probability"] or 0) >= 0.95 and c["size"] != truth["chunk"] + 16]
        assert not others, f"other classes are said to leak: {[told(c) for c in others]}"

    return run


for rate in (1 << 20, 1 << 18, 1 << 15):
    function = leaking_class(rate)
    function.__name__, function.__module__ = f"test_leaking_class_is_named_at_{rate >> 10}_kib_per_s", __name__
    test(timeout=SECONDS + 40)(function)


@test(timeout=SECONDS + 40)
def test_static_table_is_not_said_to_leak(bench):
    truth, classes = watch(bench, "survivors_static")
    said = [c for c in growing(classes) if (c["leak_probability"] or 0) >= 0.95]
    assert not said, f"said to leak: {[told(c) for c in said]}"
    table = [c for c in classes if c["size"] == truth["chunk"]]
    assert table and table[0]["in_use_blocks"] > 50000, table


@test(timeout=SECONDS + 40)
def test_probability_comes_down_when_a_queue_turns_over(bench):
    truth, classes = watch(bench, "survivors_queue", length=SECONDS)
    queue = [c for c in classes if c["size"] >= truth["chunk"]][0]
    assert queue["tracked_blocks"] > 0, f"nothing was followed: {told(queue)}"
    assert queue["leak_probability"] < 0.5, f"the queue has turned over, and is still said to leak: {told(queue)}"
