"""Index by ready, prefix-chained block ids: equal ids mean equal prefixes, because the caller says so."""

from array import array
from collections.abc import Hashable, Iterable, Sequence

from pagedkv.block_ids import Int64s
from pagedkv.errors import InvariantError

__all__ = ["IdIndex"]


class IdIndex:
    """A flat map from chained block id to block.

    Whoever makes the ids vouches that an id stands for the whole prefix up to its block: trace readers do,
    and so can an engine that has cryptographic digests at hand.
    """

    def __init__(self, num_blocks: int) -> None:
        self._block_of: dict[Hashable, int] = {}
        self._id_of: list[Hashable | None] = [None] * num_blocks

    def __len__(self) -> int:
        """Blocks that are registered."""
        return len(self._block_of)

    def __contains__(self, block: int) -> bool:
        """Whether the block is registered."""
        return self._id_of[block] is not None

    def match(self, ids: Sequence[Hashable]) -> "array[int]":
        """Blocks of the leading ids that are registered, up to the first that is not."""
        found = array("q")
        block_of = self._block_of
        for chained_id in ids:
            block = block_of.get(chained_id)
            if block is None:
                break
            found.append(block)
        return found

    def insert(self, ids: Iterable[Hashable], blocks: Iterable[int]) -> "array[int]":
        """Register blocks under their ids; an id that has a block keeps it.

        Returns:
            The blocks that were registered.
        """
        added = array("q")
        block_of, id_of = self._block_of, self._id_of
        for chained_id, block in zip(ids, blocks, strict=True):
            if chained_id not in block_of:
                block_of[chained_id] = block
                id_of[block] = chained_id
                added.append(block)
        return added

    def id_of(self, block: int) -> Hashable:
        """The id of a block; None if it is not registered."""
        return self._id_of[block]

    def standing(self, ids: Iterable[Hashable]) -> "array[int]":
        """The block that each of these registered ids has."""
        return array("q", map(self._block_of.__getitem__, ids))

    def substitute(self, old: Int64s, new: Int64s) -> None:
        """Let unregistered blocks have the ids of registered ones."""
        for was, now in zip(old.tolist(), new.tolist(), strict=True):
            chained_id = self._id_of[was]
            if chained_id is None:
                raise InvariantError(f"block {was} is not registered, so none can stand for it")
            self._id_of[was], self._id_of[now] = None, chained_id
            self._block_of[chained_id] = now

    def holds_all(self, blocks: Int64s) -> bool:
        """Whether every one of these blocks is registered."""
        return all(self._id_of[block] is not None for block in blocks.tolist())

    def forget(self, blocks: Int64s) -> "array[int]":
        """Drop registered blocks and return them; ids that build on theirs stay: nothing tells which do."""
        dropped = array("q", blocks.tobytes())
        for block in dropped:
            del self._block_of[self._id_of[block]]
            self._id_of[block] = None
        return dropped

    def blocks(self) -> "array[int]":
        """Every registered block."""
        return array("q", self._block_of.values())

    def check_integrity(self) -> None:
        """Check that the map and its inverse agree.

        Raises:
            InvariantError: they do not.
        """
        for chained_id, block in self._block_of.items():
            if self._id_of[block] != chained_id:
                raise InvariantError(
                    f"id {chained_id!r} points at block {block}, which is known as {self._id_of[block]!r}"
                )
        if sum(i is not None for i in self._id_of) != len(self._block_of):
            raise InvariantError(f"{len(self._block_of)} ids are registered, but more blocks claim one")
