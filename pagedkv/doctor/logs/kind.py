"""What a kind of log is, and what all of them need."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol, TypeVar

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.seen import Seen
from pagedkv.pitfalls.finding import Finding, Source

__all__ = ["BEGINNING", "LogKind", "memo", "note_each", "nth", "places", "sources_of"]

BEGINNING = 1 << 17
"""Lines of a file among which those of a start are looked for."""
_MOST_KEPT = 1 << 16
_T = TypeVar("_T")


class LogKind(Protocol):
    """The lines of one program, folded into bounded state.

    Attributes:
        name: whose log it is, for people.
        num_lines: lines that were understood.
        num_odd: lines that begin as one of the program's and go on otherwise.
    """

    name: str
    num_lines: int
    num_odd: int

    def fold(self, chunk: Chunk) -> None:
        """Fold the lines of a chunk."""

    def findings(self) -> list[Finding]:
        """What all of them say."""


def places(data: bytes, text: bytes) -> Iterator[int]:
    """Where this text stands, from left to right."""
    position = data.find(text)
    while position >= 0:
        yield position
        position = data.find(text, position + len(text))


def note_each(seen: Seen, chunk: Chunk, text: bytes) -> int:
    """Note each place of a text; returns how many there are."""
    before = seen.count
    for position in places(chunk.data, text):
        seen.note(chunk.source_at, position)
    return seen.count - before


def sources_of(*seen: Seen) -> tuple[Source, ...]:
    """The places of several things, each once."""
    return tuple(dict.fromkeys(place for each in seen for place in each.sources))


def nth(found: Iterator[_T], number: int) -> _T:
    """What comes after so many others."""
    return next(islice(found, number, None))


def memo(parse: Callable[[bytes], _T]) -> Callable[[bytes], _T]:
    """The function, quicker for texts that come again and again, as the numbers in a log do."""
    return _Memo(parse).__getitem__


class _Memo(dict[bytes, _T]):
    def __init__(self, parse: Callable[[bytes], _T]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, text: bytes) -> _T:
        value = self._parse(text)
        if len(self) < _MOST_KEPT:
            self[text] = value
        return value
