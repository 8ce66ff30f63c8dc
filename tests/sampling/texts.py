"""Tokenizers that are made on the spot."""

from functools import cache
from typing import Any

__all__ = ["SAMPLE", "ByteTokenizer", "Counting", "byte_fallback_tokenizer", "byte_level_tokenizer"]

SAMPLE = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "色は匂へど散りぬるを我が世誰ぞ常ならむ",
    "Stop. Stop here! Do not stop: stop\n\nUser: hi\r\nAssistant: 👋🏽 hello 🙂",
]


class ByteTokenizer:
    """A token for each byte, from 0 to 255; 256 is special."""

    def encode(self, text: str) -> list[int]:
        """The bytes of UTF-8."""
        return list(text.encode())

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """The text of bytes; what is none becomes U+FFFD."""
        special = b"" if skip_special_tokens else b"<end>"
        return b"".join(special if t == 256 else bytes([t]) for t in token_ids).decode(errors="replace")


class Counting:
    """A tokenizer that counts the tokens that it decodes."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.num_decoded = 0

    def encode(self, text: str) -> list[int]:
        """As the tokenizer does."""
        return self._tokenizer.encode(text)  # type: ignore[no-any-return]

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """As the tokenizer does."""
        self.num_decoded += len(token_ids)
        return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)  # type: ignore[no-any-return]


@cache
def byte_level_tokenizer() -> Any:
    """Byte-level BPE as GPT-2 and its heirs have it: tokens end anywhere in a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=["<end>"], show_progress=False
    )
    tokenizer.train_from_iterator(SAMPLE, trainer)
    return tokenizer


@cache
def byte_fallback_tokenizer() -> Any:
    """Words behind "▁", and bytes for characters that are no tokens, as Llama 2 has them."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehlorw!", "▁hello", "▁world"]
    vocab = {token: at for at, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer
