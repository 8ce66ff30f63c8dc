"""A tokenizer whose errors end one request, not the step that others share with it."""

from pagedkv.sampling.detokenizer import Tokenizer

__all__ = ["CarefulTokenizer"]


class CarefulTokenizer:
    """Decodes for one request, and once that has raised, says nothing more.

    Tokenizers may know fewer tokens than their models, and some raise at one that they do not know.

    Args:
        tokenizer: what knows the text.

    Attributes:
        error: what was raised; None if nothing was.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.error: Exception | None = None

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of tokens, or none."""
        if self.error is None:
            try:
                return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)
            except Exception as error:  # noqa: BLE001 - foreign code, which raises anything
                self.error = error
        return ""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self._tokenizer.encode(text)
