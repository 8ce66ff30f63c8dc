"""The baseline files: their text, their faults, and how they are replaced."""

import json
from pathlib import Path

import pytest

from pagedkv.errors import BaselineError, BaselineSchemaError
from pytest_pagedkv.baselines import Baselines, Collected, Entry, stale_keys
from pytest_pagedkv.baselines.folder import write_atomic
from pytest_pagedkv.baselines.schema import parse, render
from tests.plugin.conftest import GATED, Project

HEAD = '{"schema":"pagedkv-perf/1","kind":"counters","benchmarks":{\n'
ENTRIES = {
    "tests/test_b.py::test_z": Entry({"b": 2, "a": 1}),
    "tests/test_b.py::test_a[\N{GREEK SMALL LETTER ALPHA}]": Entry({"n": -(10**30)}, 'so "it" is'),
}


def one(value: object, key: str = "t/test_a.py::x") -> bytes:
    """A file with a single entry."""
    return f"{HEAD}{json.dumps(key)}: {json.dumps(value)}\n}}}}\n".encode()


def test_a_file_is_one_sorted_line_per_benchmark() -> None:
    """The head, then a line for each benchmark and sorted counters in it; and it is JSON."""
    lines = render(ENTRIES).splitlines()

    assert lines[0] + "\n" == HEAD
    assert lines[1].startswith(
        '"tests/test_b.py::test_a[\N{GREEK SMALL LETTER ALPHA}]": {"counters": {"n": -1'
    )
    assert lines[2:] == ['"tests/test_b.py::test_z": {"counters": {"a": 1, "b": 2}}', "}}"]
    assert json.loads(render(ENTRIES))["kind"] == "counters"


def test_what_is_rendered_is_parsed_again() -> None:
    """Entries survive a round trip, and so does the text."""
    parsed = parse(render(ENTRIES).encode(), "f")

    assert parsed == ENTRIES
    assert render(parsed) == render(ENTRIES)
    assert parse(render({}).encode(), "f") == {}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (HEAD.encode() + b"oops\n}}", "f.json:2: not JSON"),
        (b"", "f.json:1: not JSON"),
        (b"[" * 100_000, "f.json: not usable JSON"),
        (one({"counters": {}}) + b"<<<<<<< HEAD\n", "f.json:4: merge conflict marker; resolve the conflict"),
        (HEAD.encode() + b"\xff", "f.json:2: not UTF-8"),
        (b"[1]", "the file should be a JSON object, and is [1]"),
        (b"{}", "f.json:1: schema is None, and this version reads 'pagedkv-perf/1'"),
        (
            b'{"schema":"pagedkv-perf/2"}',
            "'pagedkv-perf/2', newer than 'pagedkv-perf/1', which this version reads; upgrade",
        ),
        (b'{"schema":"pagedkv-perf/0"}', "schema is 'pagedkv-perf/0', and this version reads"),
        (
            b'{"schema":"pagedkv-perf/' + b"9" * 5000 + b'"}',
            "newer than 'pagedkv-perf/1', which this version",
        ),
        (one({"counters": {}}, "test_\ud800.py::x"), "f.json:2: \\ud800 is a lone surrogate, half of a"),
        (one({"counters": {}}, ""), "f.json:2: '' names no benchmark, such as 'tests/test_a.py::test_b'"),
        (
            b'{"schema":"pagedkv-perf/1","kind":"timing"}',
            "kind is 'timing', and this place is for 'counters'",
        ),
        (b'{"schema":"pagedkv-perf/1","kind":"counters"}', "benchmarks should be a JSON object, and is None"),
        (b'{"schema":"pagedkv-perf/1","kind":"counters","x":1,"benchmarks":{}}', "unknown field 'x'"),
        (
            one({"counters": {}}).replace(b"\n}}", b',\n"t/test_a.py::x": {}\n}}'),
            "f.json:3: 't/test_a.py::x' is",
        ),
        (one(3), "f.json:2: 't/test_a.py::x' should be a JSON object, and is 3"),
        (one({"counters": [1]}), "f.json:2: the counters of 't/test_a.py::x' should be a JSON object"),
        (one({"counters": {"n": True}}), "f.json:2: counter 'n' is True, not an integer"),
        (one({"counters": {"n": 1.0}}), "f.json:2: counter 'n' is 1.0, not an integer"),
        (one({"counters": {}, "reason": 1}), "f.json:2: the reason of 't/test_a.py::x' is 1, not a string"),
        (one({"counters": {}, "why": ""}), "f.json:2: 't/test_a.py::x' has an unknown field 'why'"),
    ],
)
def test_a_fault_is_named_in_one_line(data: bytes, message: str) -> None:
    """The error names file, line, fault, and what to do."""
    with pytest.raises(BaselineSchemaError) as caught:
        parse(data, "f.json")

    assert message in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_of_equal_stem_share_one_baseline_file(tmp_path: Path) -> None:
    """Two test files of one name in two folders live together, told apart by their full keys."""
    stored = Baselines(tmp_path, "b")
    stored.write({"x/test_a.py::t": Entry({"n": 1}), "y/test_a.py::t": Entry({"n": 2})})

    again = Baselines(tmp_path, "b")

    assert [path.name for path in (tmp_path / "counters").iterdir()] == ["test_a.json"]
    assert (again.get("x/test_a.py::t"), again.get("y/test_a.py::t")) == (Entry({"n": 1}), Entry({"n": 2}))


def test_a_write_touches_only_what_changed(tmp_path: Path) -> None:
    """Other lines stay byte for byte, other files are not written, an emptied file goes away."""
    Baselines(tmp_path, "b").write({f"test_{f}.py::{t}": Entry({"n": 1}) for f in "ab" for t in "xyz"})
    a, b = tmp_path / "counters" / "test_a.json", tmp_path / "counters" / "test_b.json"
    before, untouched = a.read_text().splitlines(), b.stat().st_mtime_ns

    Baselines(tmp_path, "b").write({"test_a.py::y": Entry({"n": 2}, "why")})

    changed = [(old, new) for old, new in zip(before, a.read_text().splitlines(), strict=True) if old != new]
    assert changed == [
        (
            '"test_a.py::y": {"counters": {"n": 1}},',
            '"test_a.py::y": {"counters": {"n": 2}, "reason": "why"},',
        )
    ]
    assert b.stat().st_mtime_ns == untouched
    Baselines(tmp_path, "b").write(dict.fromkeys(f"test_a.py::{t}" for t in "xyz"))
    assert not a.exists()


def test_a_failed_write_leaves_the_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the last step fails, the old content is there and no temporary file is left."""
    path = tmp_path / "f.json"
    path.write_text("old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))

    with pytest.raises(OSError, match="full"):
        write_atomic(path, "new")

    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("f.json", "old")]


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """A folder or a loop of links for a file, a file for the folder, a line in the wrong file."""
    counters = tmp_path / "counters"
    (counters / "a.json").mkdir(parents=True)
    with pytest.raises(BaselineError, match=r"b/counters/a.json: cannot be read \(Is a directory\)"):
        Baselines(tmp_path, "b")
    (counters / "a.json").rmdir()

    (counters / "a.json").symlink_to("a.json")
    with pytest.raises(BaselineError, match=r"a.json: cannot be read"):
        Baselines(tmp_path, "b")
    (counters / "a.json").unlink()

    (counters / "a.json").write_bytes(one({"counters": {}}))
    with pytest.raises(BaselineError, match=r"a.json: 't/test_a.py::x' belongs into test_a.json"):
        Baselines(tmp_path, "b")
    with pytest.raises(BaselineError, match=r"not a folder that can be read"):
        Baselines(counters / "a.json", "b")


def test_stale_is_only_what_is_certain(tmp_path: Path) -> None:
    """Gone from a file that was collected whole, or gone with its file from a folder that was."""
    (tmp_path / "test_there.py").touch()
    stored = ["test_seen.py::kept", "test_seen.py::gone", "test_there.py::x", "test_not_there.py::x"]
    seen = Collected(keys=["test_seen.py::kept"], files=["test_seen.py"], folders=[str(tmp_path)])

    def locate(key: str) -> Path:
        return tmp_path / key.partition("::")[0]

    assert stale_keys(stored, seen, locate) == ["test_not_there.py::x", "test_seen.py::gone"]
    assert stale_keys(stored, Collected(keys=["test_seen.py::kept"]), locate) == []


def test_a_fault_ends_the_session_before_any_test(project: Project) -> None:
    """A damaged file is a usage error of one line, without traceback, and the file stays as it is."""
    project.gated(a={"n": 1})
    file = project.write("perf_baselines/counters/test_gated.json", "<<<<<<< HEAD\n")

    result = project.perf("--pagedkv-update")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.stderr.lines if line] == [
        (
            "ERROR: perf_baselines/counters/test_gated.json:1: merge conflict marker; "
            "resolve the conflict: keep the lines of one side"
        )
    ]
    assert file.read_text() == "<<<<<<< HEAD\n"


READ_ONLY = """
import pathlib

def pytest_sessionfinish():
    pathlib.Path("perf_baselines/counters/test_gated.json").chmod(0o444)
"""


def test_a_place_that_cannot_be_written_is_a_usage_error(project: Project) -> None:
    """A folder or a read-only file is told before any test; what happens later is told in the section."""
    project.gated(a={"n": 2})
    project.stored(a={"n": 1})
    project.write("test_other.py", GATED)
    file = project.path / "perf_baselines/counters/test_gated.json"

    folder = project.perf("--pagedkv-update", "--pagedkv-baselines=/proc/nothing")
    project.write("conftest.py", READ_ONLY)
    late = project.perf("--pagedkv-update")
    (project.path / "conftest.py").unlink()
    early = project.perf("--pagedkv-update")
    file.chmod(0o640)
    project.write("test_fails.py", "import pytest\n@pytest.mark.pagedkv_perf\ndef test_it(): 1 / 0\n")
    stored = project.perf("--pagedkv-update")

    assert (folder.ret, late.ret, early.ret, stored.ret) == (4, 4, 4, 1)
    read_only = "ERROR*perf_baselines/counters/test_gated.json: cannot be written (it is read-only), and is *"
    folder.stderr.fnmatch_lines(
        ["ERROR: /proc/nothing/counters/: cannot be written (*), and is *; make it *"]
    )
    early.stderr.fnmatch_lines([read_only])
    late.stdout.fnmatch_lines([" note  stored in perf_baselines/counters/test_other.json", f" {read_only}"])
    for result in (folder, early):
        result.stdout.no_fnmatch_line("*collected*")
    assert "Traceback" not in folder.stderr.str() + early.stderr.str() + late.stdout.str()
    assert (file.stat().st_mode & 0o777, '"n": 2' in file.read_text()) == (0o640, True)
