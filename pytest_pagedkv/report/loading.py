"""Reading a run file from disk."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any, NoReturn

from pagedkv.errors import BaselineError, BaselineSchemaError
from pagedkv.recording import SCHEMA as ENGINE_RUN

__all__ = ["SCHEMA", "load_run"]

SCHEMA = "pagedkv-run/1"
_WRITE_ONE = "`pytest --pagedkv-perf` writes one, .pagedkv-perf/run.json"


def load_run(path: Path, shown: str) -> dict[str, Any]:
    """The content of a run file.

    Args:
        path: the file.
        shown: its name in messages.

    Raises:
        BaselineError: it cannot be read.
        BaselineSchemaError: it is no run file, or one of a newer version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BaselineError(f"{shown}: cannot be read ({error.strerror}); {_WRITE_ONE}") from error
    run = _parsed(data, shown)
    if not isinstance(run, dict):
        _refuse(shown, f"should be a JSON object, and is {textwrap.shorten(ascii(run), 40)}")
    _check_schema(run.get("schema"), shown)
    if not isinstance(run.get("benchmarks"), dict):
        _refuse(shown, "has no benchmarks: `benchmarks` should be a JSON object")
    return run


def _parsed(data: bytes, shown: str) -> object:
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        _refuse(f"{shown}:{error.lineno}", f"not JSON ({error.msg})")
    except UnicodeDecodeError:
        _refuse(shown, "not UTF-8")
    except (ValueError, RecursionError) as error:
        _refuse(shown, f"not usable JSON ({error})")


def _check_schema(schema: object, shown: str) -> None:
    if schema == SCHEMA:
        return
    told = textwrap.shorten(ascii(schema), 60)
    if re.fullmatch(r"pagedkv-run/[1-9][0-9]*", str(schema), re.ASCII):
        _refuse(
            shown, f"schema is {told}, newer than {SCHEMA!r}, which this version reads", "upgrade pagedkv"
        )
    _refuse(shown, f"schema is {told}, and this command reads {SCHEMA!r} and, of engines, {ENGINE_RUN!r}")


def _refuse(place: str, what: str, advice: str = _WRITE_ONE) -> NoReturn:
    raise BaselineSchemaError(f"{place}: {what}; {advice}") from None
