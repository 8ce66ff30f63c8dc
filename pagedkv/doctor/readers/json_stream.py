"""The objects of a list in a JSON document of any size, one by one, in bounded memory."""

import codecs
import json
import re
from collections.abc import Generator, Iterable, Iterator
from typing import Any

__all__ = ["ObjectStream"]

_LARGEST = 1 << 24
_EVENT = re.compile(r'\{\s*"ph"\s*:')
_WHITESPACE = re.compile(r"[\s,]*")


class ObjectStream:
    """Reads objects, separated by commas, up to the end of their list.

    Attributes:
        num_broken: objects that could not be read, or that stand in the way of the next.
        is_complete: whether the list ended.
    """

    def __init__(self) -> None:
        self.num_broken = 0
        self.is_complete = False
        self._decode = json.JSONDecoder().raw_decode

    def objects(self, blocks: Iterable[bytes], opening: str) -> Iterator[dict[str, Any]]:
        """The objects behind the first place of `opening`, a pattern that ends with the list's bracket."""
        text, is_open = "", False
        for piece in _texts(blocks):
            text += piece
            if not is_open:
                text, is_open = _behind(text, opening)
            if is_open:
                position = yield from self._complete_ones(text)
                text = text[position:]
                if self.is_complete:
                    return
        if is_open and text.strip():
            self.num_broken += 1

    def _complete_ones(self, text: str) -> Generator[dict[str, Any], None, int]:
        """The objects that are all there; returns where the next begins."""
        position = 0
        while True:
            position = _WHITESPACE.match(text, position).end()  # type: ignore[union-attr] # it matches anywhere
            if position >= len(text):
                return position
            if text[position] == "]":
                self.is_complete = True
                return position
            try:
                value, position = self._decode(text, position)
            except (ValueError, RecursionError) as error:
                if isinstance(error, json.JSONDecodeError) and len(text) - position < _LARGEST:
                    return position
                self.num_broken += 1
                position = _skip(text, position)
                continue
            if isinstance(value, dict):
                yield value
            else:
                self.num_broken += 1


def _skip(text: str, position: int) -> int:
    """Where the next object may begin."""
    match = _EVENT.search(text, position + 1)
    return match.start() if match else len(text)


def _behind(text: str, opening: str) -> tuple[str, bool]:
    match = re.search(opening, text)
    if match is not None:
        return text[match.end() :], True
    return text[-64:], False


def _texts(blocks: Iterable[bytes]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        yield decoder.decode(block)
    yield decoder.decode(b"", final=True)
