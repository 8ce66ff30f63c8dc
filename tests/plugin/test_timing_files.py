"""The files of stored timings: their text, their faults, their environment, and who may write them."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagedkv.errors import BaselineError, BaselineSchemaError
from pytest_pagedkv.baselines import Baselines, Entry, folder, timing_store
from pytest_pagedkv.baselines.fingerprint import Fingerprint, fingerprint
from pytest_pagedkv.baselines.locking import locked
from pytest_pagedkv.baselines.timing_schema import (
    MAX_HISTORY,
    TimingEntry,
    parse_environment,
    parse_timings,
    render_environment,
    render_timings,
    rounded,
)
from pytest_pagedkv.baselines.timing_store import Timings

KEY = "t/test_a.py::x"
HERE = Fingerprint(
    dict(fingerprint().compared)
    | {"cpu_vendor": "GenuineIntel", "cpu_model": "106", "torch": "2.9", "python": "3.11"},
    {"load": "0.1"},
)
times = st.floats(min_value=1e-6, max_value=1e12).map(rounded)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
entries = st.builds(
    TimingEntry,
    metric=st.sampled_from(["cpu", "cuda"]),
    history=st.lists(times, min_size=1, max_size=MAX_HISTORY).map(tuple),
    spread=times,
    source=texts,
    reason=st.none() | texts,
)
keys = st.builds("tests/test_{}.py::{}".format, st.integers(0, 9), texts)


def entry(*history: float, source: str = "abc") -> TimingEntry:
    """A stored history."""
    return TimingEntry(metric="cpu", history=history, spread=0.01, source=source)


def one(**changes: object) -> bytes:
    """A file with a single line."""
    line = {"metric": "cpu", "history": [1.5], "spread": 0.01, "source": "abc"} | changes
    text = {"schema": "pagedkv-perf/1", "kind": "timing", "benchmarks": {KEY: line}}
    return json.dumps(text).replace("{" + json.dumps(KEY), "{\n" + json.dumps(KEY)).encode()


@given(st.dictionaries(keys, entries, max_size=5))
def test_what_is_rendered_is_parsed_again(stored: dict[str, TimingEntry]) -> None:
    """Entries survive a round trip and so does the text, whatever the names; one line each."""
    text = render_timings(stored)

    assert parse_timings(text.encode(), "f") == stored
    assert render_timings(parse_timings(text.encode(), "f")) == text
    assert text.count("\n") == len(stored) + 2 + (not stored)


@given(st.dictionaries(texts, texts), st.dictionaries(texts, texts))
def test_an_environment_is_parsed_again(compared: dict[str, str], recorded: dict[str, str]) -> None:
    """Both groups of fields survive, one field a line."""
    text = render_environment(Fingerprint(compared, recorded))

    assert parse_environment(text.encode(), "f") == Fingerprint(compared, recorded)
    assert json.loads(text)["kind"] == "environment"


def test_times_have_four_digits() -> None:
    """A line is stable in the digits that mean something."""
    line = render_timings({KEY: entry(9.41349, 123456.7)}).splitlines()[1]

    assert line == (
        f'"{KEY}": {{"metric": "cpu", "history": [9.413, 123500.0], "spread": 0.01, "source": "abc"}}'
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"schema":"pagedkv-perf/1","kind":"counters"}', "kind is 'counters', and this place is for 'tim"),
        (b'{"schema":"pagedkv-perf/2"}', "newer than 'pagedkv-perf/1', which this version reads; upgrade"),
        (b"<<<<<<< HEAD\n", "f.json:1: merge conflict marker; resolve the conflict"),
        (b'{"Python": 3}', "schema is None"),
        (one(history=[]), f"f.json:2: the history of '{KEY}' should be a list of 1 to 10 numbers"),
        (one(history=[1] * 11), "should be a list of 1 to 10 numbers"),
        (one(history=[True]), "the history of 't/test_a.py::x' has True, which is no time"),
        (one(history=[0]), "has a time of 0"),
        (one(history=[-1]), "has -1, which is no time"),
        (one(spread=float("nan")), "the spread of 't/test_a.py::x' has nan, which is no time"),
        (one(spread=10**999), "which is no time"),
        (one(source=""), "has no source"),
        (one(metric=3), "the metric of 't/test_a.py::x' is 3, not a string"),
        (one(when="now"), "has an unknown field 'when'"),
    ],
)
def test_a_fault_is_named_in_one_line(data: bytes, message: str) -> None:
    """The error names file, line, fault, and what to do."""
    with pytest.raises(BaselineSchemaError) as caught:
        parse_timings(data, "f.json")

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if "update" in str(caught.value):
        assert "--pagedkv-update=timing" in str(caught.value)


def timings(directory: Path, **changes: str) -> Timings:
    """The store as a machine sees it that differs in these fields."""
    return Timings(directory, "b", Fingerprint({**HERE.compared, **changes}, HERE.recorded))


def append(*times: float) -> Callable[[TimingEntry | None], TimingEntry | None]:
    """A change that appends to a history."""
    return lambda old: entry(*(old.history if old else ()), *times)


def test_an_environment_has_a_folder(tmp_path: Path) -> None:
    """Lines and env.json are under the slug, and nothing else is left there."""
    assert timings(tmp_path).update({KEY: append(1)}) == [KEY]

    stored = timings(tmp_path)
    assert (stored.get(KEY), stored.is_comparable, stored.problem) == (entry(1), True, "")
    assert sorted(path.name for path in (tmp_path / "timing" / HERE.slug).iterdir()) == [
        "env.json",
        "test_a.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["timing"]


def test_an_unchanged_line_writes_nothing(tmp_path: Path) -> None:
    """Where a change leaves all as it was no file is touched; a file that loses its last line goes away."""
    timings(tmp_path).update({KEY: append(1)})
    file = tmp_path / "timing" / HERE.slug / "test_a.json"
    before = file.stat().st_mtime_ns

    assert timings(tmp_path).update({KEY: lambda old: old}) == []
    assert file.stat().st_mtime_ns == before
    timings(tmp_path).update({KEY: lambda _: None})
    assert not file.exists()


def test_another_environment_names_its_fields(tmp_path: Path) -> None:
    """The same name with another field, and another name with the nearest that is there."""
    assert not timings(tmp_path).are_elsewhere
    timings(tmp_path).update({KEY: append(1)})

    torch = timings(tmp_path, torch="2.10")
    amd = timings(tmp_path, cpu_vendor="AuthenticAMD")

    assert (torch.get(KEY), torch.problem) == (None, "torch 2.10 here, 2.9 there")
    assert (amd.get(KEY), amd.is_comparable, amd.are_elsewhere) == (None, False, True)
    assert amd.problem == (
        f"no timings are stored for {amd.here.slug}; nearest is {HERE.slug}: "
        "cpu vendor AuthenticAMD here, GenuineIntel there"
    )


def test_an_update_replaces_an_environment_of_the_same_name(tmp_path: Path) -> None:
    """After an upgrade nothing old can be compared: the files go, other environments' stay."""
    timings(tmp_path).update({KEY: append(1), "test_b.py::y": append(1)})
    timings(tmp_path, cpu_model="1").update({KEY: append(1)})

    timings(tmp_path, torch="2.10").update({KEY: append(2)})

    again = timings(tmp_path, torch="2.10")
    assert (again.problem, again.get(KEY), list(again.keys())) == ("", entry(2), [KEY])
    assert timings(tmp_path, cpu_model="1").get(KEY) == entry(1)


def test_lines_without_their_environment_mean_nothing(tmp_path: Path) -> None:
    """A folder that lost its env.json is refused, and so is one whose env.json is of another kind."""
    timings(tmp_path).update({KEY: append(1)})
    file = tmp_path / "timing" / HERE.slug / "env.json"
    file.write_bytes(one())
    with pytest.raises(BaselineSchemaError, match=r"env.json:1: kind is 'timing', and this"):
        timings(tmp_path)
    file.unlink()
    with pytest.raises(BaselineSchemaError, match=r"env.json: missing, .*; restore it from git, or"):
        timings(tmp_path)
    file.mkdir()
    with pytest.raises(BaselineError, match=r"env.json: cannot be read \(Is a directory\)"):
        timings(tmp_path)


def test_neither_of_two_runs_loses_what_the_other_stored(tmp_path: Path) -> None:
    """A store that was read before another one wrote changes what is there now."""
    first, second = timings(tmp_path), timings(tmp_path)
    counters = Baselines(tmp_path, "b"), Baselines(tmp_path, "b")

    first.update({KEY: append(1), "t/test_a.py::y": append(1)})
    second.update({KEY: append(2)})
    counters[0].write({KEY: Entry({"n": 1})})
    counters[1].write({"t/test_a.py::y": Entry({"n": 2})})

    stored = timings(tmp_path)
    assert (stored.get(KEY), stored.get("t/test_a.py::y")) == (entry(1, 2), entry(1))
    assert sorted(Baselines(tmp_path, "b").keys()) == [KEY, "t/test_a.py::y"]


WRITER = """
import sys
from pathlib import Path
from pytest_pagedkv.baselines import Baselines, Entry

for number in range(20):
    Baselines(Path(sys.argv[1]), "b").write({f"test_a.py::{sys.argv[2]}{number}": Entry({"n": number})})
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    """Three processes write twenty lines each into one file; all sixty are there."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "abc"]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(Baselines(tmp_path, "b").keys()) == 60
    assert [path.name for path in (tmp_path / "counters").iterdir()] == ["test_a.json"]


HOLDER = """
import sys, time
from pathlib import Path
from pytest_pagedkv.baselines.locking import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_dies_with_its_process(tmp_path: Path) -> None:
    """While another process holds it nobody else gets it; a killed one holds nothing."""
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(OSError, match="another process is writing there"), locked(tmp_path, patience_s=0):
            pass
    finally:
        holder.kill()
        holder.communicate()

    with locked(tmp_path, patience_s=0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_never_given_up_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that cannot get it leaves the files alone and says why."""
    timings(tmp_path).update({KEY: append(1)})
    monkeypatch.setattr(timing_store, "locked", partial(locked, patience_s=0))
    stored, old = timings(tmp_path), (tmp_path / "timing" / HERE.slug / "test_a.json").read_bytes()

    with locked(tmp_path), pytest.raises(BaselineError, match="another process is writing there"):
        stored.update({KEY: append(2)})

    assert (tmp_path / "timing" / HERE.slug / "test_a.json").read_bytes() == old


@pytest.mark.parametrize("kind", ["counters", "timing"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """ENOSPC is told with the file's name; the file is whole, and no temporary one is left."""
    timings(tmp_path).update({KEY: append(1)})
    Baselines(tmp_path, "b").write({KEY: Entry({"n": 1})})
    files = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def change() -> None:
        if kind == "timing":
            timings(tmp_path).update({KEY: append(2)})
        else:
            Baselines(tmp_path, "b").write({KEY: Entry({"n": 2})})

    monkeypatch.setattr(folder.os, "fsync", full)
    with pytest.raises(BaselineError, match=rf"{kind}.*/test_a.json: cannot be written \(No space left"):
        change()

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_a_really_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """The same where the system itself refuses the bytes, in the middle of a write."""
    Baselines(tmp_path, "b").write({KEY: Entry({"n": 1})})
    script = """
        import resource, signal, sys
        from pathlib import Path
        from pytest_pagedkv.baselines import Baselines, Entry
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        Baselines(Path(sys.argv[1]), "b").write({f"t/test_a.py::{i}": Entry({"n": i}) for i in range(999)})
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert "b/counters/test_a.json: cannot be written (File too large), and is as it was" in done.stderr
    assert list(Baselines(tmp_path, "b").keys()) == [KEY]
    assert [path.name for path in (tmp_path / "counters").iterdir()] == ["test_a.json"]


def test_a_read_only_file_is_told_before(tmp_path: Path) -> None:
    """What could not be written is known before any test runs."""
    timings(tmp_path).update({KEY: append(1)})
    (tmp_path / "timing" / HERE.slug / "test_a.json").chmod(0o444)

    with pytest.raises(BaselineError, match=r"test_a.json: cannot be written \(it is read-only\)"):
        timings(tmp_path).check_writable([KEY])
    with pytest.raises(BaselineError, match=r"test_a.json: cannot be written \(it is read-only\)"):
        timings(tmp_path).update({KEY: append(2)})


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """A file that is no JSON is none of ours; a JSON file that is not ours is refused and stays."""
    timings(tmp_path).update({KEY: append(1)})
    place = tmp_path / "timing" / HERE.slug
    (place / "README.md").write_text("mine")
    timings(tmp_path).update({KEY: append(2)})
    (place / "test_b.json").write_text('{"Datetime": 3}')

    with pytest.raises(BaselineSchemaError, match=r"test_b.json:1: schema is None"):
        timings(tmp_path)
    assert (place / "README.md").read_text() == "mine"
    assert (place / "test_b.json").read_text() == '{"Datetime": 3}'
