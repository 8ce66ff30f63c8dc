"""What a kind of log is, and what all of them need."""

from collections.abc import Iterator
from typing import Protocol

from pagedkv.doctor.chunks import Chunk
from pagedkv.doctor.seen import Seen
from pagedkv.pitfalls.finding import Finding, Source

__all__ = ["LogKind", "note_each", "places", "sources_of"]


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
