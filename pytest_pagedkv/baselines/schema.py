"""The text of a baseline file: one sorted line per benchmark, so that git shows and merges single lines.

{"schema":"pagedkv-perf/1","kind":"counters","benchmarks":{
"tests/perf/test_pool.py::test_churn": {"counters": {"blocks_allocated": 640}},
"tests/perf/test_pool.py::test_fork": {"counters": {"cow_copies": 3}, "reason": "beams share less"}
}}
"""

import json
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from pagedkv.errors import BaselineSchemaError

__all__ = ["Entry", "parse", "render"]

_FAMILY = "pagedkv-perf"
_VERSION = 1
_KIND = "counters"
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)")
_PAIR = re.compile(r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_RESTORE = "restore the file from git, or delete it and run `pytest --pagedkv-perf --pagedkv-update`"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is stored of one benchmark; `reason` says why its last change was accepted."""

    counters: Mapping[str, int]
    reason: str | None = None


def render(entries: Mapping[str, Entry]) -> str:
    """The text of a file with these entries; the same entries always give the same bytes."""
    head = f'{{"schema":"{_FAMILY}/{_VERSION}","kind":"{_KIND}","benchmarks":{{\n'
    lines = (f"{_dumps(key)}: {_dumps(_as_json(entry))}" for key, entry in sorted(entries.items()))
    return head + ",\n".join(lines) + "\n}}\n"


def parse(data: bytes, file: str) -> dict[str, Entry]:
    """Read the bytes of a baseline file.

    Args:
        data: the file's content.
        file: its name, for messages.

    Raises:
        BaselineSchemaError: names the file, the line where there is one, the fault and what to do.
    """
    return _Parser(_decoded(data, file), file).entries()


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_json(entry: Entry) -> dict[str, object]:
    counters: dict[str, object] = {"counters": dict(sorted(entry.counters.items()))}
    return counters if entry.reason is None else counters | {"reason": entry.reason}


def _decoded(data: bytes, file: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BaselineSchemaError(f"{file}:{line}: not UTF-8; {_RESTORE}") from error


class _RepeatedKey(Exception):
    """An object of the file has a key twice."""


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise _RepeatedKey(key)
        result[key] = value
    return result


class _Parser:
    """One file on its way to entries; knows how to name the place of a fault."""

    def __init__(self, text: str, file: str) -> None:
        self._lines = text.splitlines()
        self._text = text
        self._file = file

    def entries(self) -> dict[str, Entry]:
        self._refuse_conflict_markers()
        self._refuse_surrogates()
        top = self._object(self._loaded(), "the file")
        self._check_schema(top.get("schema"))
        if top.get("kind") != _KIND:
            self._fail(f"kind is {top.get('kind')!r}, and this place is for {_KIND!r}", 1)
        self._refuse_unknown(top, {"schema", "kind", "benchmarks"}, "the file", 1)
        benchmarks = self._object(top.get("benchmarks"), "benchmarks")
        return {key: self._entry(key, value) for key, value in benchmarks.items()}

    def _refuse_conflict_markers(self) -> None:
        for number, line in enumerate(self._lines, 1):
            if _CONFLICT.match(line):
                self._fail(
                    "merge conflict marker", number, "resolve the conflict: keep the lines of one side"
                )

    def _refuse_surrogates(self) -> None:
        """JSON can spell half of a character, which no file can hold."""
        for number, line in enumerate(self._lines, 1):
            if half := _HALF.search(_PAIR.sub("", line)):
                self._fail(f"{half[0]} is a lone surrogate, half of a character", number)

    def _loaded(self) -> object:
        try:
            return json.loads(self._text, object_pairs_hook=_without_repeats)
        except _RepeatedKey as error:
            key = str(error)
            self._fail(f"{key!r} is there twice", self._line_of(key, last=True), "delete one of the two")
        except json.JSONDecodeError as error:
            self._fail(f"not JSON ({error.msg})", error.lineno)
        except (ValueError, RecursionError) as error:
            self._fail(f"not usable JSON ({error})")

    def _check_schema(self, schema: object) -> None:
        ours = f"{_FAMILY}/{_VERSION}"
        if schema == ours:
            return
        shown = textwrap.shorten(ascii(schema), 60)
        version = re.fullmatch(f"{_FAMILY}/([1-9][0-9]*)", str(schema), re.ASCII)
        if version is None:
            self._fail(f"schema is {shown}, and this version reads {ours!r}", 1)
        advice = "upgrade pagedkv to read it"
        self._fail(f"schema is {shown}, newer than {ours!r}, which this version reads", 1, advice)

    def _entry(self, key: str, value: object) -> Entry:
        line = self._line_of(key)
        if not PurePosixPath(key.partition("::")[0]).stem:
            self._fail(f"{key!r} names no benchmark, such as 'tests/test_a.py::test_b'", line)
        entry = self._object(value, repr(key), line)
        self._refuse_unknown(entry, {"counters", "reason"}, repr(key), line)
        counters = self._object(entry.get("counters"), f"the counters of {key!r}", line)
        reason = entry.get("reason")
        if not isinstance(reason, str | None):
            self._fail(f"the reason of {key!r} is {reason!r}, not a string", line)
        return Entry({name: self._count(name, count, line) for name, count in counters.items()}, reason)

    def _count(self, name: str, value: object, line: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self._fail(f"counter {name!r} is {value!r}, not an integer", line)
        return value

    def _object(self, value: object, what: str, line: int = 1) -> dict[str, object]:
        if not isinstance(value, dict):
            self._fail(f"{what} should be a JSON object, and is {value!r:.40}", line)
        return value

    def _refuse_unknown(self, value: Mapping[str, object], known: set[str], what: str, line: int) -> None:
        for name in sorted(value.keys() - known):
            self._fail(f"{what} has an unknown field {name!r}", line)

    def _line_of(self, key: str, *, last: bool = False) -> int:
        needle = _dumps(key)
        numbers = [number for number, line in enumerate(self._lines, 1) if needle in line]
        return numbers[-1 if last else 0] if numbers else 0

    def _fail(self, what: str, line: int = 0, advice: str = _RESTORE) -> NoReturn:
        place = f"{self._file}:{line}" if line else self._file
        raise BaselineSchemaError(f"{place}: {what}; {advice}") from None
