"""The command line, called as a function."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from pagedkv.cli import main


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


Pagedkv = Callable[..., Outcome]


def run_captured(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run `pagedkv` with these arguments in this process."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as end:  # argparse ends the process itself
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return Outcome(code, captured.out, captured.err)


@pytest.fixture
def pagedkv(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Pagedkv:
    """Run `pagedkv` with these arguments, as if on a terminal of ordinary width without colour."""
    for variable in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return partial(run_captured, capsys)


@pytest.fixture
def mooncake(tmp_path: Path) -> Path:
    """Two requests that share their first block."""
    path = tmp_path / "mooncake.jsonl"
    rows = [(0, 700, 5, [1, 2]), (3, 1100, 9, [1, 3, 4])]
    names = ("timestamp", "input_length", "output_length", "hash_ids")
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return path


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    """Two requests without block ids."""
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,40,10\n2023-11-16 18:17:04.0319600,40,0"
    )
    return path
