"""`pagedkv report`, and the end of a run."""

import argparse
import json
from pathlib import Path

import pytest

from pagedkv.errors import BaselineError, BaselineSchemaError, ConfigError, RecordError
from pagedkv.recording import write_run
from pagedkv.recording.page import render_page
from pytest_pagedkv.report import command
from pytest_pagedkv.report.markdown import SUMMARY_LIMIT
from pytest_pagedkv.report.publish import publish
from tests.recording.runs import kind
from tests.report.runs import failed, failing_run, large_run, run_file


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    """A run file."""
    path = tmp_path / "run.json"
    path.write_text(json.dumps(failing_run()))
    return path


def report(*arguments: object) -> int:
    """Run the command as `pagedkv` does."""
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["report", *map(str, arguments)])
    code: int = parsed.run(parsed)
    return code


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("html", "<!DOCTYPE html>"),
        ("markdown", "### pagedkv perf: "),
        ("comment", "<!-- pagedkv-perf -->\n### "),
        ("annotations", "::error file=tests/perf/test_alloc.py,line=12,"),
    ],
)
def test_each_format_is_written(
    run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, begins: str
) -> None:
    """To a file, or to stdout: the same text."""
    assert report(run_path, "--format", form, "-o", tmp_path / "out" / "file") == 0
    assert capsys.readouterr().out == ""
    assert report(run_path, "--format", form) == 0

    text = (tmp_path / "out" / "file").read_text()
    assert text.startswith(begins)
    assert capsys.readouterr().out == text


def test_what_was_written_is_described(
    run_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one JSON object."""
    assert report(run_path, "-o", tmp_path / "a.html", "--json") == 0

    described = json.loads(capsys.readouterr().out)
    assert described["bytes"] == (tmp_path / "a.html").stat().st_size
    assert described["benchmarks"]["FAIL"] == 4
    assert described["headline"].startswith("4 of 22 benchmarks failed")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "run.json:1: not JSON"),
        (b"\xff", "run.json: not UTF-8"),
        (b"[" * 100_000, "run.json: not usable JSON"),
        (b"[1]", r"run.json: should be a JSON object, and is \[1\]"),
        (b"{}", "schema is None, and this command reads 'pagedkv-run/1'"),
        (b'{"schema": "pagedkv-perf/1"}', "schema is 'pagedkv-perf/1', and this command reads"),
        (
            b'{"schema": "pagedkv-run/2"}',
            "newer than 'pagedkv-run/1', which this version reads; upgrade pagedkv",
        ),
        (b'{"schema": "pagedkv-run/1"}', "has no benchmarks"),
    ],
)
def test_what_is_no_run_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and the fault; nothing is written."""
    path = tmp_path / "run.json"
    path.write_bytes(content)

    with pytest.raises(BaselineSchemaError, match=message):
        report(path, "-o", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """With how to get one."""
    with pytest.raises(BaselineError, match=r"cannot be read .*`pytest --pagedkv-perf` writes one"):
        report(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["run.json", ".", "run.json/out.html"])
def test_an_output_that_cannot_be_is_refused(run_path: Path, tmp_path: Path, name: str) -> None:
    """The run file itself, a folder, a place that cannot have files: all stay as they were."""
    before = run_path.read_bytes()

    with pytest.raises(BaselineError, match="choose another name with -o"):
        report(run_path, "-o", tmp_path / name)
    assert run_path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("arguments", [["--json"], ["--key", "a"], ["--format", "comment", "--key", "a--b"]])
def test_options_that_cannot_be_are_refused(run_path: Path, arguments: list[str]) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigError):
        report(run_path, *arguments)


def test_a_terminal_without_unicode_gets_a_page(
    run_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As references of HTML, so that it reads the same."""
    out = (tmp_path / "out").open("w", encoding="ascii")
    monkeypatch.setattr("sys.stdout", out)

    report(run_path)
    out.close()

    assert "&#181;s" in (tmp_path / "out").read_text("ascii")


def test_a_run_is_published(tmp_path: Path) -> None:
    """The files, the summary after what the step said before, and annotations where GitHub runs."""
    summary = tmp_path / "summary"
    summary.write_text("before\n")
    environ = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"}

    published = publish(run_file(failed()), folder=tmp_path / "report", environ=environ, key="gpu")

    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "comment.md",
        "index.html",
        "summary.md",
    ]
    assert (tmp_path / "report" / "comment.md").read_text().startswith("<!-- pagedkv-perf:gpu -->\n")
    text = (tmp_path / "report" / "summary.md").read_text()
    assert summary.read_text() == "before\n\n" + text
    assert len(published.annotations) == 1
    assert published.notes == ()


def test_nothing_is_published_unasked(tmp_path: Path) -> None:
    """No folder, no GitHub: nothing."""
    published = publish(run_file(failed()), folder=None, environ={})

    assert (published.annotations, published.notes) == ((), ())


def test_what_cannot_be_written_becomes_a_note(tmp_path: Path) -> None:
    """A note for each; nothing is raised."""
    (tmp_path / "file").write_text("")
    environ = {"GITHUB_STEP_SUMMARY": str(tmp_path)}

    notes = publish(run_file(failed()), folder=tmp_path / "file", environ=environ, key="no key").notes

    assert len(notes) == 4
    assert "index.html cannot be written: " in notes[0]
    assert "comment.md is not written: 'no key' cannot be the key of a comment" in notes[2]


@pytest.mark.parametrize("before", [0, SUMMARY_LIMIT - 8000, SUMMARY_LIMIT - 100])
def test_the_summary_of_a_step_never_overflows(tmp_path: Path, before: int) -> None:
    """GitHub would show nothing at all: rows are left out, or the whole, with a note."""
    path = tmp_path / "summary"
    path.write_bytes(b"x" * before)

    notes = publish(large_run(60), folder=None, environ={"GITHUB_STEP_SUMMARY": str(path)}).notes

    assert path.stat().st_size < SUMMARY_LIMIT
    assert bool(notes) == (before == SUMMARY_LIMIT - 100)


def test_the_command_needs_no_pytest(run_path: Path) -> None:
    """A page can be made where only the report was downloaded."""
    import subprocess
    import sys

    program = (
        "import sys; import pytest_pagedkv.report.command as c, pytest_pagedkv.report.page, "
        "pytest_pagedkv.report.markdown; sys.exit('pytest' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.fixture
def engine_run(tmp_path: Path) -> Path:
    """The record of an engine's run."""
    write_run(kind("fragmentation"), tmp_path / "RUN.json")
    return tmp_path / "RUN.json"


def test_the_record_of_an_engine_becomes_its_page(
    engine_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """To a file, or to stdout: the same text; and what was found, for machines."""
    assert report(engine_run, "-o", tmp_path / "out.html", "--json") == 0
    described = json.loads(capsys.readouterr().out)
    assert report(engine_run) == 0

    text = (tmp_path / "out.html").read_text()
    assert capsys.readouterr().out == text
    assert text == render_page(kind("fragmentation"))
    assert described["bytes"] == len(text.encode())
    assert described["headline"].startswith("fragmentation (")
    assert described["findings"] == [each.as_dict() for each in kind("fragmentation").findings]


def test_an_engines_run_has_a_page_only(engine_run: Path, tmp_path: Path) -> None:
    """Another format, a record that is cut off, and the record as the output are refused."""
    with pytest.raises(ConfigError, match=r"record of an engine's run.*: leave --format markdown out"):
        report(engine_run, "--format", "markdown")
    with pytest.raises(BaselineError, match="is the run file itself"):
        report(engine_run, "-o", engine_run)
    engine_run.write_bytes(engine_run.read_bytes()[:500])
    with pytest.raises(RecordError, match=r"RUN\.json: not JSON at line \d+, .*cut off"):
        report(engine_run, "-o", tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
