"""Values out of a JSON file that anybody may have written: of the type that is asked for, or absent.

A string comes back on one line, of bounded length, without control characters, lone surrogates or characters
that change the direction of writing; these are shown as escapes. A number is finite.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from pytest_pagedkv.baselines import Verdict

__all__ = [
    "counts",
    "flag",
    "hash_seed",
    "integer",
    "items",
    "mapping",
    "metric",
    "number",
    "positives",
    "text",
    "texts",
    "verdict",
]

_VERDICTS = frozenset(map(str, Verdict))
_METRICS = ("cpu", "cuda", "wall")
_LONGEST = 600
_LARGEST = 1e18
_SHORTEST = 1e-9
_LINE_BREAK = re.compile(r"[ \t]*[\r\n]+[ \t]*")


def text(value: object) -> str:
    """A string that can be shown anywhere, once it is escaped for the place; "" for anything else."""
    if not isinstance(value, str):
        return ""
    line = _LINE_BREAK.sub(" ", value[: 2 * _LONGEST].strip())
    shown = line if line.isprintable() else "".join(map(_spelled, line))
    return shown if len(value) <= _LONGEST and len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def texts(value: object) -> tuple[str, ...]:
    """The strings of a list that are not empty."""
    return tuple(filter(None, map(text, items(value))))


def items(value: object) -> Sequence[object]:
    """What is in a list; nothing if it is none."""
    return value if isinstance(value, list | tuple) else ()


def verdict(value: object) -> str:
    """A verdict as its word; "other" for one that is unknown, "" for none."""
    return _word(value, _VERDICTS)


def metric(value: object) -> str:
    """A clock as its word, likewise."""
    return _word(value, _METRICS)


def hash_seed(value: object) -> str:
    """A value of PYTHONHASHSEED, likewise."""
    shown = str(integer(value)) if isinstance(value, int) else value
    is_number = isinstance(shown, str) and shown.isascii() and shown.isdigit() and len(shown) <= 10
    return str(shown) if is_number else _word(shown, ("random",))


def number(value: object) -> float | None:
    """A finite number, of a size that arithmetic with it stays finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) and abs(as_float) <= _LARGEST else None


def positives(value: object) -> tuple[float, ...]:
    """A list of times as it stands, or nothing if a single one is not positive."""
    found = [number(each) for each in items(value)]
    times = tuple(each for each in found if each is not None and each >= _SHORTEST)
    return times if len(times) == len(found) else ()


def integer(value: object) -> int | None:
    """An integer of at most 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**64 else None


def flag(value: object) -> bool:
    """Only true is true."""
    return value is True


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object, empty if it is none."""
    return value if isinstance(value, dict) else {}


def counts(value: object) -> dict[str, int] | None:
    """Names and integers, without what is neither; None if it is no object."""
    return dict(_counted(value)) if isinstance(value, dict) else None


def _word(value: object, known: Collection[str]) -> str:
    """Words that are shown without escaping are ours."""
    if not isinstance(value, str) or not value:
        return ""
    return str(value) if value in known else "other"


def _counted(value: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for name, count in value.items():
        if (whole := integer(count)) is not None:
            yield text(name), whole


def _spelled(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()
