"""What all baseline files have in common: a head, then sorted lines that git can merge.

{"schema":"pagedkv-perf/1","kind":"counters","benchmarks":{
"tests/perf/test_pool.py::test_churn": {"counters": {"blocks_allocated": 640}},
"tests/perf/test_pool.py::test_fork": {"counters": {"cow_copies": 3}, "reason": "beams share less"}
}}
"""

import json
import math
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NoReturn

from pagedkv.errors import BaselineSchemaError

__all__ = ["Line", "Source", "dumps", "number_of", "parse_lines", "render_lines", "schema"]

_FAMILY = "pagedkv-perf"
_VERSION = 1
_CONFLICT = re.compile(r"^(<{7}|={7}|>{7}|\|{7})( |$)")
_PAIR = re.compile(r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_HALF = re.compile(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def schema() -> str:
    """The version that is written, and read."""
    return f"{_FAMILY}/{_VERSION}"


def dumps(value: object) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def number_of(value: object) -> float:
    """A JSON number as a float: NaN where it is none, infinite where no float is as large."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def render_lines(kind: str, lines: Mapping[str, object]) -> str:
    """The text of a file with these lines; the same lines always give the same bytes."""
    head = f'{{"schema":"{schema()}","kind":"{kind}","benchmarks":{{\n'
    return (
        head + ",\n".join(f"{dumps(key)}: {dumps(value)}" for key, value in sorted(lines.items())) + "\n}}\n"
    )


def parse_lines(data: bytes, file: str, kind: str) -> list["Line"]:
    """The lines of a baseline file.

    Args:
        data: the file's content.
        file: its name, for messages.
        kind: what the file must be.

    Raises:
        BaselineSchemaError: names the file, the line where there is one, the fault and what to do.
    """
    source = Source(data, file, kind)
    benchmarks = source.mapping(source.top({"benchmarks"}).get("benchmarks"), "benchmarks")
    return [_line(key, value, source) for key, value in benchmarks.items()]


def _line(key: str, value: object, source: "Source") -> "Line":
    number = source.line_of(key)
    if not PurePosixPath(key.partition("::")[0]).stem:
        source.fail(f"{key!r} names no benchmark, such as 'tests/test_a.py::test_b'", number)
    return Line(key, source.mapping(value, repr(key), number), number, source)


@dataclass(frozen=True, slots=True)
class Line:
    """One benchmark's line on its way to an entry; knows how to name the place of a fault.

    Attributes:
        key: the benchmark.
        value: what is stored of it.
        number: of the line in its file; 0 if it is not known.
        source: the file.
    """

    key: str
    value: Mapping[str, object]
    number: int
    source: "Source"

    def refuse_unknown(self, known: set[str]) -> None:
        """Only these fields may be there."""
        self.source.refuse_unknown(self.value, known, repr(self.key), self.number)

    def mapping(self, name: str) -> dict[str, object]:
        """A field that is a JSON object."""
        return self.source.mapping(self.value.get(name), f"the {name} of {self.key!r}", self.number)

    def optional_text(self, name: str) -> str | None:
        """A field that is a string, if it is there."""
        value = self.value.get(name)
        if not isinstance(value, str | None):
            self.fail(f"the {name} of {self.key!r} is {value!r}, not a string")
        return value

    def fail(self, what: str) -> NoReturn:
        """Refuse the file for this line."""
        self.source.fail(what, self.number)


class _RepeatedKey(Exception):
    """An object of the file has a key twice."""


class Source:
    """One file of our family, read as JSON.

    Args:
        data: its content.
        file: its name, for messages.
        kind: what it must be; also what an update stores to make it again.

    Raises:
        BaselineSchemaError: it is no such file.
    """

    def __init__(self, data: bytes, file: str, kind: str) -> None:
        self._file = file
        self._kind = kind
        self._text = self._decoded(data)
        self._lines = self._text.splitlines()
        self._refuse_conflict_markers()
        self._refuse_surrogates()

    def top(self, fields: set[str]) -> dict[str, object]:
        """The outermost object, which has these fields besides schema and kind."""
        top = self.mapping(self._loaded(), "the file")
        self._check_schema(top.get("schema"))
        if top.get("kind") != self._kind:
            self.fail(f"kind is {top.get('kind')!r}, and this place is for {self._kind!r}", 1)
        self.refuse_unknown(top, {"schema", "kind", *fields}, "the file", 1)
        return top

    def mapping(self, value: object, what: str, line: int = 1) -> dict[str, object]:
        """A value that has to be a JSON object."""
        if not isinstance(value, dict):
            self.fail(f"{what} should be a JSON object, and is {value!r:.40}", line)
        return value

    def refuse_unknown(self, value: Mapping[str, object], known: set[str], what: str, line: int) -> None:
        """A field that this version does not know may mean anything."""
        for name in sorted(value.keys() - known):
            self.fail(f"{what} has an unknown field {name!r}", line)

    def line_of(self, key: str, *, last: bool = False) -> int:
        """The first line that has this key, or the last one; 0 if there is none."""
        needle = dumps(key)
        numbers = [number for number, line in enumerate(self._lines, 1) if needle in line]
        return numbers[-1 if last else 0] if numbers else 0

    def fail(self, what: str, line: int = 0, advice: str = "") -> NoReturn:
        """Refuse the file.

        Raises:
            BaselineSchemaError: always.
        """
        place = f"{self._file}:{line}" if line else self._file
        raise BaselineSchemaError(f"{place}: {what}; {advice or self._restore()}") from None

    def _restore(self) -> str:
        if self._kind == "slower":
            return "restore the file from git, or delete it and accept again what is right"
        what = self._kind if self._kind in ("counters", "kernels") else "timing"
        again = f"`pytest --pagedkv-perf --pagedkv-update={what}`"
        return f"restore the file from git, or delete it and run {again}"

    def _decoded(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            self.fail("not UTF-8", data.count(b"\n", 0, error.start) + 1)

    def _refuse_conflict_markers(self) -> None:
        for number, line in enumerate(self._lines, 1):
            if _CONFLICT.match(line):
                self.fail("merge conflict marker", number, "resolve the conflict: keep the lines of one side")

    def _refuse_surrogates(self) -> None:
        """JSON can spell half of a character, which no file can hold."""
        for number, line in enumerate(self._lines, 1):
            if half := _HALF.search(_PAIR.sub("", line)):
                self.fail(f"{half[0]} is a lone surrogate, half of a character", number)

    def _loaded(self) -> object:
        try:
            return json.loads(self._text, object_pairs_hook=_without_repeats)
        except _RepeatedKey as error:
            key = str(error)
            self.fail(f"{key!r} is there twice", self.line_of(key, last=True), "delete one of the two")
        except json.JSONDecodeError as error:
            self.fail(f"not JSON ({error.msg})", error.lineno)
        except (ValueError, RecursionError) as error:
            self.fail(f"not usable JSON ({error})")

    def _check_schema(self, found: object) -> None:
        if found == schema():
            return
        shown = textwrap.shorten(ascii(found), 60)
        if re.fullmatch(f"{_FAMILY}/([1-9][0-9]*)", str(found), re.ASCII) is None:
            self.fail(f"schema is {shown}, and this version reads {schema()!r}", 1)
        advice = "upgrade pagedkv to read it"
        self.fail(f"schema is {shown}, newer than {schema()!r}, which this version reads", 1, advice)


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise _RepeatedKey(key)
        result[key] = value
    return result
