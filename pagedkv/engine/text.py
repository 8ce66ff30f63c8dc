"""From tokens to text, one token at a time."""

from collections.abc import Collection, Sequence
from typing import Protocol

__all__ = ["TextReader", "Tokenizer"]

_INCOMPLETE = "\ufffd"  # what decoders make of the first bytes of a character


class Tokenizer(Protocol):
    """What is used of a tokenizer; those of transformers are."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""


class TextReader:
    """The text of a sequence that grows, up to the first of its stop texts.

    A token need not be whole characters, and what it says may depend on the one before it. So the tokens
    since the last but one that completed a character are decoded together, with and without the new ones.

    Args:
        tokenizer: what knows the text.
        stop: texts that end it.
        silent: tokens that end it, and say nothing.
        skip_special_tokens: leave special tokens out.

    Attributes:
        num_tokens: tokens that were read, up to the one that completed a stop text.
        is_stopped: whether a stop text was found.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str], silent: Collection[int], *, skip_special_tokens: bool
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = stop
        self._silent = silent
        self._skip_special_tokens = skip_special_tokens
        self._reach = max(map(len, stop), default=1) - 1
        self._token_ids: list[int] = []
        self._context = 0  # where decoding begins
        self._read = 0  # tokens whose text is in `_text`
        self._text = ""
        self.num_tokens = 0
        self.is_stopped = False

    def read(self, token_id: int) -> bool:
        """Read a token; returns whether a stop text is found with it, or was before."""
        if not self.is_stopped:
            self.num_tokens += 1
            if token_id not in self._silent:
                self._token_ids.append(token_id)
                self._extend(is_last=False)
        return self.is_stopped

    def text(self, start: int = 0, *, is_final: bool) -> str:
        """The text from a character on; unless it is final, without an end that a stop text begins with."""
        if is_final and not self.is_stopped:
            self._extend(is_last=True)
        num_held = 0 if is_final or self.is_stopped else self._num_held()
        return self._text[start : len(self._text) - num_held]

    def _extend(self, *, is_last: bool) -> None:
        """Decode what was not yet, if it is whole characters or there are no more to come."""
        before = self._decode(self._token_ids[self._context : self._read])
        now = self._decode(self._token_ids[self._context :])
        if len(now) > len(before) and (is_last or not now.endswith(_INCOMPLETE)):
            self._context, self._read = self._read, len(self._token_ids)
            start = max(0, len(self._text) - self._reach)
            self._text += now[len(before) :]
            self._look_for_stop(start)

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)

    def _look_for_stop(self, start: int) -> None:
        found = [place for text in self._stop if (place := self._text.find(text, start)) >= 0]
        if found:
            self._text = self._text[: min(found)]
            self.is_stopped = True

    def _num_held(self) -> int:
        """Characters at the end that a stop text begins with."""
        longest = min(self._reach, len(self._text))
        ends = (self._text[-size:] for size in range(longest, 0, -1))
        return next((len(end) for end in ends if any(text.startswith(end) for text in self._stop)), 0)
