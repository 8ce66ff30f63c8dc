"""The file of a run: it comes back as it was, and what is no such file is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pagedkv.errors import PagedKVError, RecordError
from pagedkv.recording import SCHEMA, is_run, read_run, write_run
from tests.recording.runs import KINDS, busy, kind, recorded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of a run."""
    found = tmp_path / "RUN.json"
    write_run(kind("healthy"), found)
    return found


@pytest.mark.parametrize("name", KINDS)
def test_a_record_comes_back(tmp_path: Path, name: str) -> None:
    """As it was, of whatever run."""
    write_run(kind(name), tmp_path / "RUN.json")

    assert is_run(tmp_path / "RUN.json")
    assert read_run(tmp_path / "RUN.json") == kind(name)


def test_equal_runs_give_equal_files(tmp_path: Path) -> None:
    """To the byte, on a virtual clock."""
    paths = [tmp_path / "first.json", tmp_path / "second.json"]
    for path in paths:
        recorded(busy(3))[0].write(path, seed=3)

    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_totals_and_percentiles_are_in_the_file(path: Path) -> None:
    """For whoever reads it without this package."""
    plain, record = json.loads(path.read_bytes()), kind("healthy")

    assert plain["schema"] == SCHEMA
    assert plain["totals"]["num_sampled"] == record.steps.total("num_sampled")
    assert plain["distributions"]["ttft_ns"]["p99"] == record.distributions["ttft_ns"].percentile(99)
    assert plain["settings"]["cache"]["num_blocks"] == 400


def test_a_file_that_is_there_is_replaced_or_left_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old file and nothing else."""
    before = path.read_bytes()

    def fail(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RecordError, match="No space left on device"):
        write_run(kind("empty"), path)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_have_files_is_told(path: Path) -> None:
    """With what to do."""
    with pytest.raises(RecordError, match=r"cannot be written there \(.*\); choose another file"):
        write_run(kind("empty"), path / "RUN.json")
    with pytest.raises(RecordError, match=r"none\.json: cannot be read"):
        read_run(path.with_name("none.json"))
    assert not is_run(path.with_name("none.json"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON at line 1"),
        (b"\xff", "not UTF-8"),
        (b"[" * 100_000, "not usable JSON"),
        (b"[1]", r"the file should be a JSON object, and is \[1\]"),
        (b"{}", "schema is None, which is no run of an engine"),
        (b'{"schema": "pagedkv-run/1"}', "schema is 'pagedkv-run/1', which is no run of an engine"),
        (b'{"schema": "pagedkv-engine-run/2"}', "reads version 1: upgrade it"),
        (b'{"schema": "pagedkv-engine-run/1"}', "settings is missing"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and the fault, and how to get a record."""
    path = tmp_path / "RUN.json"
    path.write_bytes(content)

    with pytest.raises(RecordError, match=rf"RUN.json: .*{message}") as caught:
        read_run(path)
    assert isinstance(caught.value, PagedKVError)
    assert "--record RUN.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_cut_off_is_refused(path: Path) -> None:
    """Wherever it ends; it is still known as the record of a run, if its first line is there."""
    data = path.read_bytes()
    for length in (40, 1000, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:length])
        assert is_run(path)
        with pytest.raises(RecordError, match="it may be cut off"):
            read_run(path)


def _without(*names: str) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        for name in names[:-1]:
            plain = plain[name]
        del plain[names[-1]]

    return change


def _with(value: object, *names: str) -> Callable[[dict[str, Any]], None]:
    def change(plain: dict[str, Any]) -> None:
        for name in names[:-1]:
            plain = plain[name]
        plain[names[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("looks"), "looks is missing"),
        (_without("steps", "sums", "num_copies"), "num_copies is missing"),
        (_with([1], "steps", "maxima", "now_ns"), r"steps.maxima.now_ns has 1 values, and should have \d+"),
        (_with(["x"], "steps", "num_steps"), "num_steps should be a list of integers"),
        (_with(True, "num_examined"), "num_examined should be an integer, and is True"),
        (_with([1], "looks", "cells"), "looks.cells should be a list of texts"),
        (_with(["..", "."], "looks", "cells"), "looks.cells should be texts of one length"),
        (_with(["x"], "looks", "cells"), "looks.cells should be texts of one length, of . c u s"),
        (_with({}, "distributions", "ttft_ns"), "count is missing"),
        (_with(7, "distributions", "ttft_ns", "count"), "do not belong together"),
        (_with([{"pitfall": "fire"}], "findings"), "a finding is damaged"),
        (_with({}, "findings"), "findings should be a list"),
        (_with({}, "settings", "cache"), "num_blocks is missing"),
        (_with(None, "settings", "cache"), "num_blocks is missing"),
        (_with("x", "about"), "about should be a JSON object, and is 'x'"),
    ],
)
def test_a_damaged_record_is_refused(
    path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    """With the name of what is wrong."""
    plain = json.loads(path.read_bytes())
    change(plain)
    path.write_text(json.dumps(plain))

    with pytest.raises(RecordError, match=message):
        read_run(path)


def test_what_later_versions_add_is_left_out(path: Path) -> None:
    """Columns and entries that nobody here knows do no harm."""
    plain = json.loads(path.read_bytes())
    plain["weather"] = "fine"
    plain["steps"]["sums"]["num_wishes"] = [1]
    path.write_text(json.dumps(plain))

    assert read_run(path) == kind("healthy")
