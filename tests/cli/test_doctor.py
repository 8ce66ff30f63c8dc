"""`pagedkv doctor`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Pagedkv

COLLAPSED = "[Scheduler] Batch size reduced: 64 → 8\n[Scheduler] Batch collapse detected\n"
HEALTHY = "[Allocator] Free blocks: 9 / 12\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with a finding."""
    path = tmp_path / "server.log"
    path.write_text(COLLAPSED, encoding="utf-8")
    return path


def test_a_finding(pagedkv: Pagedkv, log: Path) -> None:
    """The finding has its evidence, the lines that show it, and what to change; the exit code is 1."""
    found = pagedkv("doctor", log)

    assert (found.code, found.stderr) == (1, "")
    assert found.stdout.startswith(f"{log}: pagedkv log, 0.0 MB, 2 read, 2 of them understood\n\n1. warning")
    assert f"{log}:2: [Scheduler] Batch collapse detected\n" in found.stdout
    assert "change a smaller max_chunk_tokens: " in found.stdout
    assert "\x1b" not in found.stdout


def test_nothing_found(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """A healthy log is said to be one; the exit code is 0."""
    path = tmp_path / "server.log"
    path.write_text(HEALTHY)

    found = pagedkv("doctor", path)

    assert (found.code, found.stderr) == (0, "")
    assert found.stdout.endswith("\nnothing found\n")


def test_json(pagedkv: Pagedkv, log: Path) -> None:
    """`--json` has files, findings and the exit code."""
    found = pagedkv("doctor", log, "--json")

    plain = json.loads(found.stdout)
    assert (found.code, plain["exit_code"]) == (1, 1)
    assert plain["files"][0]["num_understood"] == 2
    assert plain["findings"][0]["pitfall"] == "batch_collapse"
    assert plain["findings"][0]["sources"][0]["line"] == 2


def test_unreadable(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """A file of another program is refused on stderr, in one line; the exit code is 2."""
    path = tmp_path / "x.log"
    path.write_text("hello\n")

    found = pagedkv("doctor", path)

    assert (found.code, found.stdout) == (2, "")
    assert found.stderr.startswith(
        f"pagedkv: {path}: not a log of pagedkv, vLLM or SGLang: no line of 1 matched"
    )
    assert found.stderr.count("\n") == 1


def test_mixed(pagedkv: Pagedkv, log: Path, tmp_path: Path) -> None:
    """What can be read decides; what cannot is named."""
    found = pagedkv("doctor", tmp_path / "missing", log)

    assert found.code == 1
    assert found.stderr == f"pagedkv: {tmp_path / 'missing'}: there is no such file\n"


def test_a_line_cannot_steer_the_terminal(pagedkv: Pagedkv, tmp_path: Path) -> None:
    """Control characters of a log are shown, not sent."""
    path = tmp_path / "server.log"
    path.write_bytes(b"\x1b]0;title\x07 [Scheduler] Batch collapse detected\x1b[2J\n")

    assert "\x1b" not in pagedkv("doctor", path).stdout


def test_stdin(log: Path) -> None:
    """`-` is stdin, also a pipe."""
    command = [sys.executable, "-m", "pagedkv", "doctor", "-"]

    found = subprocess.run(command, input=log.read_bytes(), capture_output=True, check=False)

    assert found.returncode == 1
    assert b"stdin:2: [Scheduler] Batch collapse detected" in found.stdout
