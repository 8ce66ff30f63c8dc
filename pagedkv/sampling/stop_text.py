"""The text of a sequence, up to the first of the texts that end it."""

import io
from collections.abc import Collection, Sequence

from pagedkv.sampling.detokenizer import Detokenizer, Tokenizer

__all__ = ["TextReader", "Tokenizer"]


class TextReader:
    """Reads the tokens of a sequence one by one, and stops at the first stop text that is complete.

    A stop text is found with the token that completes it, wherever it begins; of several that end with the
    same character the longest counts. It does not matter how the text is cut into tokens. A token costs as
    much as it has characters, however long the text is.

    Args:
        tokenizer: what knows the text.
        stop: texts that end it, none of them empty.
        silent: tokens that say nothing, such as the model's end tokens.
        skip_special_tokens: leave special tokens out.

    Attributes:
        num_tokens: tokens that were read, up to the one that completed a stop text.
        is_stopped: whether a stop text was found.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str] = (),
        silent: Collection[int] = (),
        *,
        skip_special_tokens: bool = True,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
        self._searches = [_Search(text) for text in stop]
        self._silent = silent
        self._text = io.StringIO()
        self._num_chars = 0
        self.num_tokens = 0
        self.is_stopped = False

    def read(self, token_id: int) -> bool:
        """Read a token; returns whether a stop text is complete with it, or was before."""
        if not self.is_stopped:
            self.num_tokens += 1
            if token_id not in self._silent:
                self._extend(self._detokenizer.push(token_id))
        return self.is_stopped

    def text(self, start: int = 0, *, is_final: bool) -> str:
        """The text from a character on, without the stop text.

        Args:
            start: characters to leave out.
            is_final: there are no more tokens. If not, an end that may yet become a stop text is left out;
                all else stays as it is.
        """
        if is_final and not self.is_stopped:
            self._extend(self._detokenizer.finish())
        self._text.seek(start)
        return self._text.read(max(0, self._num_chars - start - self._num_held(is_final=is_final)))

    def _extend(self, text: str) -> None:
        self._text.seek(0, io.SEEK_END)
        self._text.write(text)
        for char in text if self._searches else ():
            self._num_chars += 1
            found = [search.length for search in self._searches if search.is_complete_with(char)]
            if found:
                self._num_chars -= max(found)
                self.is_stopped = True
                return
        self._num_chars = self._text.tell()

    def _num_held(self, *, is_final: bool) -> int:
        """Characters at the end that a stop text begins with."""
        if is_final or self.is_stopped:
            return 0
        return max((search.num_found for search in self._searches), default=0)


class _Search:
    """Looks for one text in another that comes piece by piece (Knuth, Morris, Pratt 1977).

    Args:
        text: what is looked for, not empty.

    Attributes:
        length: its characters.
        num_found: how many of its first characters the other text ends with.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.length = len(text)
        self._shorter = [0]  # for each of its beginnings, the longest shorter one that this ends with
        self.num_found = 0
        for char in text[1:]:
            self.is_complete_with(char)
            self._shorter.append(self.num_found)
        self.num_found = 0

    def is_complete_with(self, char: str) -> bool:
        """Take the next character; returns whether it is the last one that was looked for."""
        while self.num_found and (self.num_found == self.length or self._text[self.num_found] != char):
            self.num_found = self._shorter[self.num_found - 1]
        self.num_found += self._text[self.num_found] == char
        return self.num_found == self.length
