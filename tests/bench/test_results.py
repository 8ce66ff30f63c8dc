"""What a run found, and its JSON."""

import json

import pytest

from pagedkv.bench.results import OURS, SCHEMA, VERSION, Ratio, Timing
from tests.bench.runs import full_run, troubled_run

ROW_NAMES = {
    "kernel",
    "dtype",
    "page",
    "batch",
    "length",
    "query_len",
    "prefix",
    "num_layers",
    "heads",
    "work",
    "floor",
    "floor_ratio",
    "times",
    "ours_over",
    "skipped",
    "wrong",
    "reason",
}


def test_ratios_are_taken_round_by_round() -> None:
    """A spell in which the machine is slow is in both, and does not show."""
    ours, peer = Timing((1.0, 10.0, 1.0), 0.0), Timing((2.0, 20.0, 4.0), 0.0)

    assert ours.over(peer) == Ratio(paired=0.5, best=0.5)
    assert peer.over(ours).paired == 2.0
    assert (ours.best_s, ours.median_s) == (1.0, 1.0)


def test_the_document() -> None:
    """It names its schema, says where it was measured, and has a row for each shape; JSON holds it all."""
    run = full_run()

    plain = json.loads(json.dumps(run.as_plain(), allow_nan=False))

    assert (plain["schema"], plain["version"]) == (SCHEMA, VERSION)
    assert plain["machine"]["cpu"] == run.machine.cpu
    assert plain["limits"] == {
        "copy_bytes_per_s": 10e9,
        "read_bytes_per_s": 20e9,
        "flops_per_s": {"fp32": 50e9, "bf16": 200e9},
    }
    assert (plain["planned"], len(plain["rows"]), plain["interrupted"]) == (
        len(run.rows),
        len(run.rows),
        False,
    )
    assert all(set(row) == ROW_NAMES for row in plain["rows"])


def test_a_row() -> None:
    """Its share is that of the floor in our best time, its ratio our time over the peer's."""
    row = full_run().as_plain()["rows"][0]

    assert row["floor_ratio"] == pytest.approx(0.5)
    assert row["ours_over"] == {"sdpa": {"paired": pytest.approx(0.5), "best": pytest.approx(0.5)}}
    assert row["times"]["ours"]["best_us"] == pytest.approx(2 * row["floor"]["us"])
    assert row["times"]["ours"]["rounds"] == 3
    assert row["heads"] == {"num_query_heads": 32, "num_kv_heads": 8, "head_dim": 128}


def test_what_is_wrong_has_no_time() -> None:
    """A wrong result of ours has neither a share of the floor nor ratios; that of a peer has no ratio."""
    run = troubled_run()
    rows = run.as_plain()["rows"]

    assert run.num_wrong == 2
    assert (rows[1]["floor_ratio"], rows[1]["ours_over"], OURS in rows[1]["times"]) == (None, {}, False)
    assert rows[1]["wrong"] == {OURS: "wrong result: relative error 0.3, at most 0.0001 is right"}
    assert (rows[2]["ours_over"], set(rows[2]["wrong"])) == ({}, {"sdpa"})
    assert rows[3]["reason"].startswith("needs about")
