"""The files of accepted slowdowns: their text, their faults, and what an entry covers."""

import json
from pathlib import Path

import pytest

from pagedkv.errors import BaselineSchemaError
from pytest_pagedkv.baselines.slower import Slowdown, Slowdowns, parse_slowdowns, render_slowdowns

HEAD = '{"schema":"pagedkv-perf/1","kind":"slower","benchmarks":{\n'
ENTRIES = {
    "tests/test_b.py::test_z": Slowdown(0.124, "checks tokens exactly"),
    "tests/test_b.py::test_a": Slowdown(1.5, 'so "it" is'),
}


def one(value: object) -> bytes:
    """A file with a single entry."""
    return f'{HEAD}"t/test_a.py::x": {json.dumps(value)}\n}}}}\n'.encode()


def test_a_file_is_one_sorted_line_per_benchmark() -> None:
    """The head, then a line for each benchmark; and it is read as it was written."""
    text = render_slowdowns(ENTRIES)

    assert text.splitlines() == [
        HEAD.rstrip(),
        '"tests/test_b.py::test_a": {"slower": 1.5, "reason": "so \\"it\\" is"},',
        '"tests/test_b.py::test_z": {"slower": 0.124, "reason": "checks tokens exactly"}',
        "}}",
    ]
    assert parse_slowdowns(text.encode(), "f") == ENTRIES


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one({"slower": 0.1, "reason": "x"}) + b"<<<<<<< HEAD\n", "f.json:4: merge conflict marker"),
        (
            one({"slower": 0.1, "reason": "x"}).replace(b"slower", b"counters", 1),
            "this place is for 'slower'",
        ),
        (one({"slower": 0.1}), "f.json:2: 't/test_a.py::x' has no reason; restore the file from git, or"),
        (one({"slower": 0.1, "reason": " "}), "f.json:2: 't/test_a.py::x' has no reason"),
        (one({"slower": 0.1, "reason": 1}), "f.json:2: the reason of 't/test_a.py::x' is 1, not a string"),
        (
            one({"reason": "x"}),
            "f.json:2: the slowdown of 't/test_a.py::x' is None, and not a number above 0",
        ),
        (one({"slower": True, "reason": "x"}), "is True, and not a number above 0 such as 0.124; restore"),
        (one({"slower": "12%", "reason": "x"}), "is '12%', and not a number"),
        (one({"slower": 0, "reason": "x"}), "is 0, and not a number"),
        (one({"slower": -0.1, "reason": "x"}), "is -0.1, and not a number"),
        (one({"slower": float("nan"), "reason": "x"}), "is nan, and not a number"),
        (one({"slower": float("inf"), "reason": "x"}), "is inf, and not a number"),
        (one({"slower": 10**400, "reason": "x"}), "and not a number above 0"),
        (one({"slower": 0.1, "reason": "x", "why": ""}), "f.json:2: 't/test_a.py::x' has an unknown field"),
    ],
)
def test_a_fault_is_named_in_one_line(data: bytes, message: str) -> None:
    """The error names file, line, fault, and what to do."""
    with pytest.raises(BaselineSchemaError) as caught:
        parse_slowdowns(data, "f.json")

    assert message in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_is_added_and_removed(tmp_path: Path) -> None:
    """Other lines stay, and the file goes with its last one."""
    file = tmp_path / "slower" / "test_b.json"
    Slowdowns(tmp_path, "b").write(ENTRIES)

    Slowdowns(tmp_path, "b").write({"tests/test_b.py::test_a": None})
    assert Slowdowns(tmp_path, "b").get("tests/test_b.py::test_z") == ENTRIES["tests/test_b.py::test_z"]
    assert parse_slowdowns(file.read_bytes(), "f").keys() == {"tests/test_b.py::test_z"}

    Slowdowns(tmp_path, "b").write({"tests/test_b.py::test_z": None})
    assert not file.exists()


def test_what_is_covered() -> None:
    """Three digits are kept, and a repetition may come out slower by the threshold."""
    accepted = Slowdown.of(0.123456, "why")

    assert accepted == Slowdown(0.123, "why")
    assert accepted.covers(0.123456, 0.07)
    assert accepted.covers(0.19, 0.07)
    assert not accepted.covers(0.2, 0.07)
