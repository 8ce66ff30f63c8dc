"""The file of a run: written as a whole, and read with an eye on what it is."""

import json
import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NoReturn

from pagedkv.errors import RecordError
from pagedkv.recording.plain import SCHEMA, as_plain, from_plain
from pagedkv.recording.run import RunRecord
from pagedkv.whole_files import write_whole

__all__ = ["SCHEMA", "is_run", "read_run", "write_run"]

_BEGINNING = 4096
_SAYS_SO = re.compile(rb'\A\s*\{\s*"schema"\s*:\s*"' + SCHEMA.partition("/")[0].encode() + b"/")
_RECORD_ONE = "record another run with `pagedkv replay TRACE --mode simulated --record RUN.json`"


def write_run(record: RunRecord, path: str | PathLike[str]) -> None:
    """Write a record to a file: as a whole, or not at all. Equal records give equal files.

    Raises:
        RecordError: it cannot be written, and is as it was.
    """
    try:
        write_whole(Path(path), _text(as_plain(record)))
    except OSError as error:
        raise RecordError(
            f"{fspath(path)}: the run cannot be written there ({error.strerror}); choose another file"
        ) from error


def is_run(path: str | PathLike[str]) -> bool:
    """Whether a file says at its beginning that it is the record of a run, of whatever version."""
    try:
        with Path(path).open("rb") as file:
            return _SAYS_SO.search(file.read(_BEGINNING)) is not None
    except OSError:
        return False


def read_run(path: str | PathLike[str]) -> RunRecord:
    """Read a record.

    Raises:
        RecordError: the file cannot be read, is no record of a run, is damaged, or of another version.
    """
    shown = fspath(path)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecordError(f"{shown}: cannot be read ({error.strerror}); {_RECORD_ONE}") from error
    try:
        plain = json.loads(data)
    except json.JSONDecodeError as error:
        _refuse(
            shown, f"not JSON at line {error.lineno}, column {error.colno} ({error.msg}); it may be cut off"
        )
    except UnicodeDecodeError:
        _refuse(shown, "not UTF-8")
    except (ValueError, RecursionError) as error:
        _refuse(shown, f"not usable JSON ({error})")
    try:
        return from_plain(plain)
    except RecordError as error:
        _refuse(shown, str(error))


def _refuse(shown: str, what: str) -> NoReturn:
    raise RecordError(f"{shown}: {what}; {_RECORD_ONE}") from None


def _text(plain: Mapping[str, Any]) -> str:
    """JSON with a line for each entry and each list."""
    return _lines(plain, 0) + "\n"


def _lines(value: Any, depth: int) -> str:
    if not isinstance(value, dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    indent = "  " * (depth + 1)
    inner = ",\n".join(
        f"{indent}{json.dumps(name)}: {_lines(each, depth + 1)}" for name, each in value.items()
    )
    return f"{{\n{inner}\n{'  ' * depth}}}"
