"""A number for the content of each block, the same whenever that content comes again: for policies alone."""

from hashlib import blake2b

import numpy as np

from pagedkv.block_ids import Int32s, Int64s
from pagedkv.prefix_cache import IdIndex, TokenIndex

__all__ = ["ContentKeys"]


class ContentKeys:
    """Numbers the prefixes of registered blocks and pages.

    A prefix has the digest of its last block's tokens and of the number before it, which is remembered. What
    two prefixes share a number is as good as never, and costs a wrong guess about what comes again, no more:
    hits compare tokens.

    Args:
        index: the prefixes.
        tokens: tokens of blocks and pages; None if the index goes by ready ids, whose hash it is then.
            Shape `[num_ids, block_size]` (int32).
    """

    def __init__(self, index: TokenIndex | IdIndex, tokens: Int32s | None) -> None:
        self._index = index
        self._tokens = tokens
        num_ids = 0 if tokens is None else len(tokens)
        self._number = np.zeros(num_ids, np.int64)
        self._registration = np.zeros(num_ids, np.int64)  # for which the number is

    def of(self, blocks: Int64s) -> Int64s:
        """The number of the content of each registered block. Shape `[num_blocks]` (int64)."""
        index, tokens = self._index, self._tokens
        if isinstance(index, IdIndex):
            return np.array([hash(index.id_of(block)) for block in blocks.tolist()], np.int64)
        if tokens is not None:
            for block in blocks.tolist():
                self._find(index, tokens, block)
        return self._number[blocks]

    def moved(self, was: Int64s, now: Int64s) -> None:
        """What stood for some prefixes, and has a number, was replaced."""
        if isinstance(self._index, TokenIndex):
            self._number[now] = self._number[was]
            self._registration[now] = [self._index.registration(block) for block in now.tolist()]

    def _find(self, index: TokenIndex, tokens: Int32s, block: int) -> None:
        """Number a block, and those before it that have no number yet."""
        path = []
        at = block
        while at >= 0 and self._registration[at] != index.registration(at):
            path.append(at)
            at = index.before(at)
        number = self._number[at].tobytes() if at >= 0 else index.namespace(block).encode()
        for at in reversed(path):
            number = blake2b(number + tokens[at].tobytes(), digest_size=8).digest()
            self._number[at] = np.frombuffer(number, np.int64)[0]
            self._registration[at] = index.registration(at)
