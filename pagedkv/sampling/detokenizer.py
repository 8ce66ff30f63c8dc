"""The text of tokens that come one by one."""

from typing import Protocol

__all__ = ["Detokenizer", "Tokenizer"]

_INCOMPLETE = "\ufffd"  # what decoders make of bytes that are no character, or not yet
_LONGEST_TAIL = 3  # as many of them may yet become one character: it has 4 bytes at most
_CONTEXT = 8
_LONGEST_WINDOW = 2 * _CONTEXT


class Tokenizer(Protocol):
    """What is used of a tokenizer; those of transformers are."""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens."""


class Detokenizer:
    """Decodes a sequence that grows, and tells what is certain of its text.

    A token need not be whole characters, and what it says may depend on the one before it. So the tokens
    since the last whole character are decoded behind those that completed it: a few at most, however long
    the text. What is told, and the rest at the end, is together what the tokenizer makes of all tokens. Only
    decoders that judge any number of bytes as a whole may, where these are no text, make something else of
    what was told already.

    Args:
        tokenizer: what knows the text.
        skip_special_tokens: leave special tokens out.
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._window: list[int] = []
        self._num_context = 0  # tokens of the window that were told of before
        self._text = ""  # of the window
        self._num_told = 0  # its characters that were told

    def push(self, token_id: int) -> str:
        """Add a token; returns the text that is certain with it."""
        self._window.append(token_id)
        self._text = self._decode(self._window)
        is_long = len(self._window) >= _LONGEST_WINDOW
        unsure = _tail(self._text) if not is_long else min(_tail(self._text), _LONGEST_TAIL)
        told = self._tell(len(self._text) - unsure)
        if told and not unsure:
            self._forget(self._num_context)
        elif is_long:
            self._forget(len(self._window) - _CONTEXT)
        return told

    def finish(self) -> str:
        """The text that was not certain, as there are no more tokens."""
        return self._tell(len(self._text))

    def _tell(self, end: int) -> str:
        told = self._text[self._num_told : end]
        self._num_told += len(told)
        return told

    def _forget(self, count: int) -> None:
        """Drop the first tokens of the window; what was not told stays so."""
        num_open = len(self._text) - self._num_told
        del self._window[:count]
        self._text = self._decode(self._window)
        self._num_context = len(self._window)
        self._num_told = max(0, len(self._text) - num_open)

    def _decode(self, token_ids: list[int]) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=self._skip_special_tokens)


def _tail(text: str) -> int:
    """How many characters at the end are none."""
    return len(text) - len(text.rstrip(_INCOMPLETE))
