"""A model of what a correct cache may do: shadow memory that remembers whose KV every slot holds."""

from collections.abc import Sequence

from pagedkv import BlockManager
from pagedkv.block_manager import Placement

Identity = tuple[str, tuple[int, ...]]


class ShadowedCache:
    """Runs operations on a real cache and checks every slot that a kernel would read.

    The content of a slot is the identity of the KV written there: its namespace and every token up to and
    including its own.
    """

    def __init__(self, cache: BlockManager) -> None:
        self.cache = cache
        self.tokens: dict[int, list[int]] = {}
        self.namespaces: dict[int, str] = {}
        self.shadow: dict[int, Identity] = {}

    def admit(self, seq_id: int, tokens: Sequence[int], namespace: str = "") -> Placement:
        """Admit, and check that what the cache calls cached is this sequence's own KV."""
        placement = self.cache.admit(seq_id, tokens, namespace)
        self.tokens[seq_id], self.namespaces[seq_id] = list(tokens), namespace
        assert placement.num_cached_tokens < max(1, len(tokens))
        self._check(seq_id, placement.num_cached_tokens)
        self._write(seq_id, placement.num_cached_tokens)
        return placement

    def append(self, seq_id: int, tokens: Sequence[int]) -> Placement:
        """Append: copies first, then the new tokens' KV."""
        placement = self.cache.append(seq_id, tokens)
        self._copy(placement.copies)
        start = len(self.tokens[seq_id])
        self.tokens[seq_id] += tokens
        self._write(seq_id, start)
        return placement

    def append_batch(self, seq_ids: Sequence[int], tokens: Sequence[int]) -> None:
        """A decode step; the slot mapping must say what the block tables say."""
        placement = self.cache.append_batch(seq_ids, tokens)
        self._copy(placement.copies)
        for seq_id, token, slot, row in zip(
            seq_ids, tokens, placement.slot_mapping.tolist(), placement.rows.tolist(), strict=True
        ):
            start = len(self.tokens[seq_id])
            self.tokens[seq_id].append(token)
            assert self._slot(seq_id, start) == slot
            assert row == self.cache.row(seq_id)
            self._write(seq_id, start)

    def fork(self, parent: int, child: int) -> None:
        """Fork; an eager copy is run at once. A child of full blocks has their tokens only."""
        self._copy(self.cache.fork(parent, child).copies)
        tokens, size = list(self.tokens[parent]), self.cache.config.block_size
        if self.cache.config.fork_mode == "full_blocks":
            tokens = tokens[: len(tokens) // size * size]
        self.tokens[child], self.namespaces[child] = tokens, self.namespaces[parent]

    def truncate(self, seq_id: int, num_tokens: int) -> None:
        """Cut back."""
        self.cache.truncate(seq_id, num_tokens)
        del self.tokens[seq_id][num_tokens:]

    def release(self, seq_id: int) -> None:
        """End a sequence."""
        self.cache.release(seq_id)
        del self.tokens[seq_id], self.namespaces[seq_id]

    def check(self) -> None:
        """Every live sequence reads its own KV at every position, and the books balance."""
        for seq_id, tokens in self.tokens.items():
            assert self.cache.num_tokens(seq_id) == len(tokens)
            self._check(seq_id, len(tokens))
        self.cache.check_integrity()

    def _identity(self, seq_id: int, position: int) -> Identity:
        return self.namespaces[seq_id], tuple(self.tokens[seq_id][: position + 1])

    def _slot(self, seq_id: int, position: int) -> int:
        size = self.cache.config.block_size
        return int(self.cache.block_table(seq_id)[position // size]) * size + position % size

    def _check(self, seq_id: int, stop: int) -> None:
        for position in range(stop):
            found, own = self.shadow.get(self._slot(seq_id, position)), self._identity(seq_id, position)
            assert found == own, f"sequence {seq_id} would read {found} at position {position}, not {own}"

    def _write(self, seq_id: int, start: int) -> None:
        for position in range(start, len(self.tokens[seq_id])):
            self.shadow[self._slot(seq_id, position)] = self._identity(seq_id, position)

    def _copy(self, copies: Sequence[tuple[int, int]]) -> None:
        size = self.cache.config.block_size
        for source, destination in copies:
            for offset in range(size):
                self.shadow.pop(destination * size + offset, None)
                if source * size + offset in self.shadow:
                    self.shadow[destination * size + offset] = self.shadow[source * size + offset]
